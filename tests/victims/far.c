/* The far end: does to its end of a stream what near tells it, one command at a time. */
#include "victim.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

struct request {
    enum far_op op;
    int stream;
    long a, b, c;
};

struct far_stream {
    int fd;
    bool open;
    uint64_t tx, rx;
};

static struct far_stream *ends;
static int listener = -1;
static int to_far = -1, from_far = -1, thread_to = -1, thread_from = -1;
static pid_t pid;

/* a bytes in chunks of b, c microseconds before each */
static void do_send(struct far_stream *s, int stream, long a, long b, long c) {
    char *chunk = malloc((size_t)b);
    for (long done = 0; done < a;) {
        size_t n = (size_t)(a - done < b ? a - done : b);
        if (c)
            usleep((useconds_t)c);
        pattern_fill((uint64_t)stream * 2 + 1, s->tx, chunk, n);
        write_all(s->fd, chunk, n);
        s->tx += n, done += (long)n;
    }
    free(chunk);
}

/* a bytes in reads of at most b, c microseconds before each; how many came before the end of the stream */
static long do_recv(struct far_stream *s, int stream, long a, long b, long c) {
    char *chunk = malloc((size_t)b);
    long done = 0;
    while (done < a) {
        size_t n = (size_t)(a - done < b ? a - done : b);
        if (c)
            usleep((useconds_t)c);
        ssize_t got = recv(s->fd, chunk, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        must(got);
        if (got == 0)
            break;
        pattern_check((uint64_t)stream * 2, s->rx, chunk, (size_t)got);
        s->rx += (uint64_t)got, done += got;
    }
    free(chunk);
    return done;
}

/* 64-byte records on every open stream are sent back, until one that starts with 'E' has come on each */
static void do_echo(void) {
    struct pollfd *p = calloc(MAX_STREAMS, sizeof *p);
    int n = 0;
    for (int i = 0; i < MAX_STREAMS; i++)
        if (ends[i].open)
            p[n++] = (struct pollfd){ends[i].fd, POLLIN, 0};
    for (int left = n; left > 0;) {
        must(poll(p, (nfds_t)n, -1));
        for (int i = 0; i < n; i++) {
            char record[64];
            if (!p[i].revents)
                continue;
            if (read_all(p[i].fd, record, sizeof record) != sizeof record)
                die("far: end of stream during warm-up");
            write_all(p[i].fd, record, sizeof record);
            if (record[0] == 'E')
                p[i].fd = -1, left--;
        }
    }
    free(p);
}

struct duplex {
    struct far_stream *s;
    int stream;
    long bytes;
};

static void *duplex_reader(void *arg) {
    struct duplex *d = arg;
    if (do_recv(d->s, d->stream, d->bytes, 50000, 0) != d->bytes)
        die("far: early end of stream");
    return NULL;
}

static struct reply run(struct request *q) {
    struct far_stream *s = &ends[q->stream];
    struct reply r = {0, 0, 0};
    switch (q->op) {
    case FAR_LISTEN: { /* a: family */
        int port;
        if (listener >= 0)
            close(listener);
        listener = tcp_listen((int)q->a, &port);
        r.value = port;
        break;
    }
    case FAR_ACCEPT:
        s->fd = (int)must(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
        s->open = true, s->tx = s->rx = 0;
        be_seen_to_wait(s->fd);
        break;
    case FAR_CONNECT: /* a: family, b: port */
        s->fd = tcp_connect((int)q->a, (int)q->b);
        s->open = true, s->tx = s->rx = 0;
        be_seen_to_wait(s->fd);
        r.value = local_port(s->fd);
        break;
    case FAR_SEND:
        do_send(s, q->stream, q->a, q->b ? q->b : 65536, q->c);
        break;
    case FAR_RECV:
        r.value = do_recv(s, q->stream, q->a, q->b ? q->b : 65536, q->c);
        break;
    case FAR_RECV_EOF: /* reads to the end of the stream: ret and err of the last call, value: bytes */
        for (;;) {
            char buffer[4096];
            r.ret = recv(s->fd, buffer, sizeof buffer, 0);
            r.err = errno;
            if (r.ret <= 0)
                break;
            pattern_check((uint64_t)q->stream * 2, s->rx, buffer, (size_t)r.ret);
            s->rx += (uint64_t)r.ret, r.value += r.ret;
        }
        break;
    case FAR_ECHO:
        do_echo();
        break;
    case FAR_DUPLEX: { /* a bytes in both directions at once, from two threads, writing chunks of b */
        struct duplex d = {s, q->stream, q->a};
        pthread_t reader;
        must(-pthread_create(&reader, NULL, duplex_reader, &d));
        do_send(s, q->stream, q->a, q->b ? q->b : 40000, 0);
        pthread_join(reader, NULL);
        break;
    }
    case FAR_BLOCKED_READER: { /* a thread waits for a bytes while this one sends b bytes, c us before every 64 */
        struct duplex d = {s, q->stream, q->a};
        pthread_t reader;
        must(-pthread_create(&reader, NULL, duplex_reader, &d));
        do_send(s, q->stream, q->b, 64, q->c);
        pthread_join(reader, NULL);
        break;
    }
    case FAR_SHUT: /* a: how */
        r.ret = shutdown(s->fd, (int)q->a);
        r.err = errno;
        break;
    case FAR_CLOSE:
        must(close(s->fd));
        s->open = false;
        break;
    case FAR_LINGER0: {
        struct linger l = {1, 0};
        must(setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &l, sizeof l));
        break;
    }
    case FAR_POLL: /* a: events, b: milliseconds; value: revents */
        r.value = wait_for(s->fd, (short)q->a, (int)q->b);
        break;
    case FAR_RAW_RECV: { /* one recv of at most a bytes with flags b, not checked; value: the first byte */
        char buffer[4096];
        buffer[0] = 0;
        r.ret = recv(s->fd, buffer, (size_t)q->a, (int)q->b);
        r.err = errno;
        r.value = buffer[0];
        break;
    }
    case FAR_SEND_RAW: { /* one send of a bytes 'x' with flags b */
        char buffer[4096];
        memset(buffer, 'x', sizeof buffer);
        r.ret = send(s->fd, buffer, (size_t)q->a, (int)q->b | MSG_NOSIGNAL);
        r.err = errno;
        break;
    }
    case FAR_SLEEP:
        sleep_ms((int)q->a);
        break;
    case FAR_INTERRUPT: { /* signal b to the main thread of process a, once it waits; back when it waits again */
        pid_t near = (pid_t)q->a;
        await_asleep(near, near);
        must(kill(near, (int)q->b));
        await_asleep(near, near);
        break;
    }
    case FAR_EXIT: /* without answering */
        _exit(0);
    case FAR_DIE:
        kill(getpid(), SIGKILL);
        break;
    case FAR_NAMES:
        r.value = local_port(s->fd);
        break;
    case FAR_STATE: { /* value: what TCP_INFO says */
        struct tcp_info info;
        socklen_t length = sizeof info;
        must(getsockopt(s->fd, IPPROTO_TCP, TCP_INFO, &info, &length));
        r.value = info.tcpi_state;
        break;
    }
    case FAR_NUMBERS: /* a: how many descriptors far may have */
        raise_nofile((unsigned long)q->a);
        break;
    case FAR_QUIT:
        break;
    }
    return r;
}

void far_main(int from_near, int to_near) {
    struct request q;
    ends = calloc(MAX_STREAMS, sizeof *ends);
    while (read_all(from_near, &q, sizeof q) == sizeof q) {
        struct reply r = run(&q);
        write_all(to_near, &r, sizeof r);
        if (q.op == FAR_QUIT)
            break;
    }
}

static void *far_thread(void *unused) {
    (void)unused;
    far_main(thread_from, thread_to);
    return NULL;
}

void far_start(void) {
    int down[2], up[2];
    must(pipe2(down, O_CLOEXEC));
    must(pipe2(up, O_CLOEXEC));
    to_far = down[1], from_far = up[0];
    if (opt.far_thread) {
        pthread_t thread;
        sigset_t all, before;
        thread_from = down[0], thread_to = up[1];
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        must(-pthread_create(&thread, NULL, far_thread, NULL));
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        pthread_detach(thread);
        return;
    }
    pid = (pid_t)must(fork());
    if (pid == 0) {
        char a[16], b[16];
        fcntl(down[0], F_SETFD, 0);
        fcntl(up[1], F_SETFD, 0);
        snprintf(a, sizeof a, "%d", down[0]);
        snprintf(b, sizeof b, "%d", up[1]);
        if (opt.far_plain)
            unsetenv("LD_PRELOAD");
        if (opt.near_plain && getenv("VICTIM_FAR_PRELOAD"))
            setenv("LD_PRELOAD", getenv("VICTIM_FAR_PRELOAD"), 1);
        execl("/proc/self/exe", "victim-far", "far", a, b, (char *)NULL);
        _exit(127);
    }
    close(down[0]);
    close(up[1]);
}

void far_stop(void) {
    int status;
    struct request q = {.op = FAR_QUIT};
    if (to_far < 0)
        return;
    if (write(to_far, &q, sizeof q) == sizeof q)
        (void)!read(from_far, &(struct reply){0, 0, 0}, sizeof(struct reply));
    if (pid > 0) {
        must(waitpid(pid, &status, 0));
        if (status != 0 && !(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL))
            die("far ended with status %#x", status);
    }
}

pid_t far_pid(void) {
    return opt.far_thread ? getpid() : pid;
}

void far_drop_pipes(void) {
    close(to_far);
    close(from_far);
    to_far = from_far = -1;
}

/* near executes itself and goes on talking to the same far */
void far_keep_over_exec(char *to, char *from, size_t size) {
    must(fcntl(to_far, F_SETFD, 0));
    must(fcntl(from_far, F_SETFD, 0));
    snprintf(to, size, "%d", to_far);
    snprintf(from, size, "%d", from_far);
}

void far_inherit(const char *to, const char *from) {
    to_far = atoi(to);
    from_far = atoi(from);
}

void far_begin(enum far_op op, int stream, long a, long b, long c) {
    struct request q = {op, stream, a, b, c};
    write_all(to_far, &q, sizeof q);
}

struct reply far_end(void) {
    struct reply r;
    if (read_all(from_far, &r, sizeof r) != sizeof r)
        die("far is gone");
    errno = r.err;
    return r;
}

struct reply far_do(enum far_op op, int stream, long a, long b, long c) {
    far_begin(op, stream, a, b, c);
    return far_end();
}
