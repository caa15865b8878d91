/* Byte-exactness: many streams of random sizes both ways at once, moved by random calls in random chunks, from several
 * threads, blocking and not. Everything follows from the seed but the interleaving. Both sides work in lanes: lane l of
 * the client connects to lane l of the server, a batch of streams at a time.
 */
#include "exact.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#define MAX_BATCH 6
#define MAX_LANES 8

static struct {
    int streams, lanes, rounds;
    uint64_t seed, max_bytes;
    bool one_process, plain_server, blocking, nonblocking, until_final;
} want = {.streams = 100, .lanes = 4, .rounds = 40, .seed = 1, .max_bytes = 3 << 20, .blocking = true, .nonblocking = true};

struct lane {
    int number, port, listener;
    bool server;
    uint64_t sent, received;
    pthread_t thread;
};

/* What both sides know about stream id, direction d (0: from the client). */
static uint64_t total_of(int id, int d) {
    struct rng r = {mix(want.seed * 7919 + (uint64_t)id * 2 + (uint64_t)d)};
    static const uint64_t bounds[] = {1, 65, 65, 4096, 4096, 4096, 65536, 65536, 65536, 524288};
    uint64_t kind = rng_below(&r, 50);
    uint64_t n = rng_below(&r, kind == 0 ? want.max_bytes : bounds[kind % LEN(bounds)]);
    return n < want.max_bytes ? n : want.max_bytes;
}

static int batch_of(int first) {
    struct rng r = {mix(want.seed * 104729 + (uint64_t)first)};
    return 1 + (int)rng_below(&r, MAX_BATCH);
}

static void end_init(struct end *e, int fd, int id, bool server, struct tools *t) {
    *e = (struct end){.fd = fd, .id = id};
    uint64_t key = (want.seed << 20) + (uint64_t)id * 4;
    e->out = (struct half){.key = key + server, .total = total_of(id, server), .threads = 1};
    e->in = (struct half){.key = key + !server, .total = total_of(id, !server), .threads = 1};
    pthread_mutex_init(&e->out.lock, NULL);
    pthread_mutex_init(&e->in.lock, NULL);
    uint64_t kind = rng_below(&t->rng, 2);
    e->style = !want.nonblocking || (want.blocking && kind) ? BLOCKING : NONBLOCKING;
}

static int connect_somehow(int port, struct tools *t) {
    struct sockaddr_storage to;
    int family = port < 0 ? AF_INET6 : AF_INET;
    socklen_t length = loopback(family, port < 0 ? -port : port, &to);
    bool wait = rng_below(&t->rng, 2);
    int fd = (int)must(socket(family, SOCK_STREAM | SOCK_CLOEXEC | (wait ? 0 : SOCK_NONBLOCK), 0));
    if (connect(fd, (struct sockaddr *)&to, length) < 0) {
        if (wait || errno != EINPROGRESS)
            die("connect: %s", strerror(errno));
        if (!(wait_for(fd, POLLOUT, 30000) & POLLOUT))
            die("a connect was never complete");
    }
    return fd;
}

static void set_style(struct end *e, struct tools *t) {
    int on = e->style == NONBLOCKING;
    if (rng_below(&t->rng, 2))
        must(ioctl(e->fd, FIONBIO, &on));
    else
        set_nonblocking(e->fd, on);
}

/* One of the threads of one direction. */
struct worker {
    struct end *e;
    bool in;
    uint64_t seed;
    pthread_t thread;
};

static void *work(void *arg) {
    struct worker *w = arg;
    struct half *h = w->in ? &w->e->in : &w->e->out;
    struct tools t;
    tools_open(&t, w->seed);
    for (;;) {
        pthread_mutex_lock(&h->lock);
        ssize_t n = 0;
        bool more = h->done < h->total;
        if (more)
            n = w->in ? move_in(w->e, &t) : move_out(w->e, &t);
        pthread_mutex_unlock(&h->lock);
        if (!more)
            break;
        if (n < 0)
            wait_somehow(w->e, w->in ? POLLIN : POLLOUT, h->threads > 1 ? 20 : -1, &t);
        pause_sometimes(&t);
    }
    tools_close(&t);
    return NULL;
}

/* Separate readers and writers for every end. */
static void run_threads(struct end **ends, int n, struct tools *t) {
    struct worker workers[MAX_BATCH * 4];
    int count = 0;
    for (int i = 0; i < n; i++) {
        ends[i]->in.threads = 1 + (rng_below(&t->rng, 4) == 0);
        ends[i]->out.threads = 1 + (rng_below(&t->rng, 4) == 0);
        for (int k = 0; k < ends[i]->in.threads + ends[i]->out.threads; k++)
            workers[count++] = (struct worker){ends[i], k < ends[i]->in.threads, rng_next(&t->rng), 0};
    }
    for (int i = 0; i < count; i++)
        must(-pthread_create(&workers[i].thread, NULL, work, &workers[i]));
    for (int i = 0; i < count; i++)
        pthread_join(workers[i].thread, NULL);
}

static void speak(struct end *e, int round, uint64_t key, size_t n) {
    char record[64];
    pattern_fill(key, (uint64_t)round * 64, record, n);
    write_all(e->fd, record, n);
}

static void hear(struct end *e, int round, uint64_t key, size_t n) {
    char record[64];
    if (read_all(e->fd, record, n) != n)
        die("stream %d: the end came in the epilogue", e->id);
    pattern_check(key, (uint64_t)round * 64, record, n);
}

/* Whether all streams have moved, both ends of them: the server's end tells the client's. */
static bool all_have_moved(struct end **ends, int n, bool server) {
    bool all = true;
    for (int i = 0; i < n; i++) {
        char far = has_moved(ends[i]->fd);
        if (server)
            write_all(ends[i]->fd, &far, 1);
        else if (read_all(ends[i]->fd, &far, 1) != 1)
            die("stream %d: the end came in the epilogue", ends[i]->id);
        all = all && far && has_moved(ends[i]->fd);
    }
    return all;
}

/* Whether another round follows: as many as were requested, and (--until-final) more until all streams have moved,
 * however long ipcd has to wait for a processor. The client decides. */
static bool another_round(struct end **ends, int n, bool server, int round, uint64_t since) {
    char more = round < want.rounds;
    if (!want.until_final)
        return more;
    more |= !all_have_moved(ends, n, server) && now_us() - since < PATIENCE_MS * 1000u;
    if (!server)
        write_all(ends[0]->fd, &more, 1);
    else if (read_all(ends[0]->fd, &more, 1) != 1)
        die("stream %d: the end came in the epilogue", ends[0]->id);
    return more;
}

/* Some rounds of question and answer, so that both ends still make calls after the stream may have been offered. */
static void epilogue(struct end **ends, int n, bool server) {
    uint64_t since = now_us();
    for (int round = 0; another_round(ends, n, server, round, since); round++) {
        for (int pass = 0; pass < 2; pass++)
            for (int i = 0; i < n; i++) {
                uint64_t key = (want.seed << 20) + (uint64_t)ends[i]->id * 4;
                size_t length = 1 + (size_t)(mix(key + (uint64_t)round * 977) % 64);
                if (server && pass == 0) {
                    hear(ends[i], round, key + 2, length);
                    speak(ends[i], round, key + 3, length);
                } else if (!server && pass == 0) {
                    speak(ends[i], round, key + 2, length);
                } else if (!server) {
                    hear(ends[i], round, key + 3, length);
                }
            }
        if (!server)
            usleep((useconds_t)(1000 + (round < 40 ? round : 40) * 100));
    }
}

static void run_batch(struct lane *l, int first, int n, struct tools *t) {
    struct end all[MAX_BATCH], *ends[MAX_BATCH];
    for (int i = 0; i < n; i++) {
        uint32_t id = (uint32_t)(first + i);
        int fd;
        if (l->server) {
            fd = (int)must(accept4(l->listener, NULL, NULL, SOCK_CLOEXEC | (rng_below(&t->rng, 2) ? SOCK_NONBLOCK : 0)));
            if (read_all(fd, &id, sizeof id) != sizeof id || (int)id < first || (int)id >= first + n)
                die("lane %d: bad first bytes", l->number);
        } else {
            fd = connect_somehow(l->port, t);
            write_all(fd, &id, sizeof id);
        }
        ends[i] = &all[(int)id - first];
        end_init(ends[i], fd, (int)id, l->server, t);
    }
    bool events = rng_below(&t->rng, 3) != 0;
    for (int i = 0; i < n; i++) {
        set_style(ends[i], t);
        if (events && ends[i]->style == BLOCKING)
            ends[i]->style = DONTWAIT;
    }
    if (events)
        run_events(ends, n, t);
    else
        run_threads(ends, n, t);
    for (int i = 0; i < n; i++)
        ends[i] = &all[i];
    epilogue(ends, n, l->server);
    for (int i = 0; i < n; i++)
        must(shutdown(all[i].fd, SHUT_WR));
    for (int i = 0; i < n; i++) {
        char byte;
        if (read_all(all[i].fd, &byte, 1) != 0)
            die("stream %d: bytes after the end", all[i].id);
        must(close(all[i].fd));
        l->sent += all[i].out.done;
        l->received += all[i].in.done;
    }
}

static void *lane_thread(void *arg) {
    struct lane *l = arg;
    struct tools t;
    tools_open(&t, mix(want.seed * 31 + (uint64_t)l->number * 2 + l->server));
    int per_lane = (want.streams + want.lanes - 1) / want.lanes, first = l->number * per_lane;
    int last = first + per_lane < want.streams ? first + per_lane : want.streams;
    while (first < last) {
        int n = batch_of(first);
        n = first + n > last ? last - first : n;
        run_batch(l, first, n, &t);
        first += n;
    }
    tools_close(&t);
    return NULL;
}

static void lanes_listen(struct lane *lanes) {
    for (int i = 0; i < want.lanes; i++) {
        int family = i % 3 == 2 ? AF_INET6 : AF_INET;
        lanes[i] = (struct lane){.number = i, .server = true};
        lanes[i].listener = tcp_listen(family, &lanes[i].port);
        lanes[i].port *= family == AF_INET6 ? -1 : 1; /* negative: IPv6 */
    }
}

static void lanes_start(struct lane *lanes) {
    for (int i = 0; i < want.lanes; i++)
        must(-pthread_create(&lanes[i].thread, NULL, lane_thread, &lanes[i]));
}

static void lanes_end(struct lane *lanes, const char *side) {
    uint64_t sent = 0, received = 0;
    for (int i = 0; i < want.lanes; i++) {
        pthread_join(lanes[i].thread, NULL);
        sent += lanes[i].sent, received += lanes[i].received;
    }
    say("{\"side\":\"%s\",\"seed\":%llu,\"streams\":%d,\"sent\":%llu,\"received\":%llu}", side,
        (unsigned long long)want.seed, want.streams, (unsigned long long)sent, (unsigned long long)received);
}

static void parse(int argc, char **argv, int *report) {
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        unsigned long long n = value ? strtoull(value + 1, NULL, 0) : 0;
        if (!strncmp(argv[i], "--streams=", 10))
            want.streams = (int)n;
        else if (!strncmp(argv[i], "--threads=", 10))
            want.lanes = n < 1 ? 1 : n > MAX_LANES ? MAX_LANES : (int)n;
        else if (!strncmp(argv[i], "--rounds=", 9))
            want.rounds = n > ROUNDS_MAX ? ROUNDS_MAX : (int)n;
        else if (!strncmp(argv[i], "--seed=", 7))
            want.seed = n;
        else if (!strncmp(argv[i], "--max-bytes=", 12))
            want.max_bytes = n;
        else if (!strncmp(argv[i], "--report=", 9))
            *report = (int)n;
        else if (!strcmp(argv[i], "--mode=blocking"))
            want.nonblocking = false;
        else if (!strcmp(argv[i], "--mode=nonblocking"))
            want.blocking = false;
        else if (!strcmp(argv[i], "--one-process"))
            want.one_process = true;
        else if (!strcmp(argv[i], "--until-final"))
            want.until_final = true;
        else if (!strcmp(argv[i], "--plain-server"))
            want.plain_server = true;
        else if (strcmp(argv[i], "--mode=mixed"))
            die("unknown option %s", argv[i]);
    }
}

static pid_t start_server(int argc, char **argv, struct lane *lanes) {
    int up[2], ports[MAX_LANES];
    char report[32], *args[40];
    must(pipe2(up, O_CLOEXEC));
    pid_t pid = (pid_t)must(fork());
    if (pid == 0) {
        must(fcntl(up[1], F_SETFD, 0));
        snprintf(report, sizeof report, "--report=%d", up[1]);
        args[0] = "victim-server";
        for (int i = 0; i < argc && i < 36; i++)
            args[i + 1] = argv[i];
        args[argc + 1] = report;
        args[argc + 2] = NULL;
        if (want.plain_server)
            unsetenv("LD_PRELOAD");
        execv("/proc/self/exe", args);
        _exit(127);
    }
    close(up[1]);
    if (read_all(up[0], ports, sizeof(int) * (size_t)want.lanes) != sizeof(int) * (size_t)want.lanes)
        die("the server did not start");
    close(up[0]);
    for (int i = 0; i < want.lanes; i++)
        lanes[i].port = ports[i];
    return pid;
}

int exact_main(int argc, char **argv) {
    static struct lane clients[MAX_LANES], servers[MAX_LANES];
    int report = -1, status = 0;
    pid_t server = 0;
    parse(argc, argv, &report);
    if (report >= 0 || want.one_process) {
        lanes_listen(servers);
        lanes_start(servers);
    }
    if (report >= 0) {
        for (int i = 0; i < want.lanes; i++)
            write_all(report, &servers[i].port, sizeof(int));
        close(report);
        lanes_end(servers, "server");
        return 0;
    }
    uint64_t start = now_us();
    if (!want.one_process)
        server = start_server(argc, argv, clients);
    for (int i = 0; i < want.lanes; i++) {
        int port = want.one_process ? servers[i].port : clients[i].port;
        clients[i] = (struct lane){.number = i, .port = port};
    }
    lanes_start(clients);
    if (server)
        must(waitpid(server, &status, 0));
    if (status != 0)
        die("the server ended with status %#x", status);
    if (want.one_process)
        lanes_end(servers, "server");
    lanes_end(clients, "client");
    say("@seconds %.2f", (double)(now_us() - start) / 1e6);
    return 0;
}
