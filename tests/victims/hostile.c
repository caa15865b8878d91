/* Processes that close numbers that they do not know, that have few descriptors, or that may not make all calls. */
#include "victim.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

/* ---- numbers closed by the hundred ---- */

struct pair {
    int ends[2];
    pthread_t echo;
};

static void *echo(void *arg) {
    struct pair *p = arg;
    char record[64];
    while (read_all(p->ends[1], record, sizeof record) == sizeof record)
        write_all(p->ends[1], record, sizeof record);
    return NULL;
}

static void pair_open(struct pair *p) {
    int port, listener = tcp_listen(AF_INET, &port);
    p->ends[0] = tcp_connect(AF_INET, port);
    p->ends[1] = (int)must(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
    must(close(listener));
    must(-pthread_create(&p->echo, NULL, echo, p));
}

static void pair_talk(struct pair *p, int rounds) {
    char record[64], answer[64];
    for (int i = 0; i < rounds; i++) {
        memset(record, i, sizeof record);
        write_all(p->ends[0], record, sizeof record);
        if (read_all(p->ends[0], answer, sizeof answer) != sizeof answer || memcmp(record, answer, sizeof record) != 0)
            die("wrong bytes");
    }
}

static void pair_close(struct pair *p) {
    must(shutdown(p->ends[0], SHUT_WR));
    pthread_join(p->echo, NULL);
    must(close(p->ends[0]));
    must(close(p->ends[1]));
}

static int highest(struct pair *p, struct stream *s, struct stream *t) {
    int all[] = {p->ends[0], p->ends[1], s->fd, t->fd}, most = 0;
    for (int i = 0; i < LEN(all); i++)
        most = all[i] > most ? all[i] : most;
    return most;
}

static int cloexec(int fd) {
    return (int)must(fcntl(fd, F_GETFD));
}

static struct stream *unshared_stream;
static int unshared_from;

/* A thread with a descriptor table of its own goes on with the descriptors that it has left. */
static void *unshares(void *arg) {
    struct stream *s = unshared_stream;
    say("close_range of a thread: %s", res(close_range((unsigned)unshared_from, ~0u, CLOSE_RANGE_UNSHARE)));
    say("what was above is gone: %s", res(fcntl(*(int *)arg, F_GETFD)));
    dialogue(s, 10);
    say("its name is known still: %d", local_port(s->fd) > 0);
    return NULL;
}

/* Children of a program with threads that close every descriptor, each in another way, and go on with TCP. */
static void child_closes(int way) {
    int status;
    pid_t child = (pid_t)must(fork());
    if (child != 0) {
        must(waitpid(child, &status, 0));
        say("the child that closed everything, way %d: %d", way, status);
        return;
    }
    if (way == 0)
        must(close_range(3, ~0u, CLOSE_RANGE_UNSHARE));
    else if (way == 1)
        closefrom(3);
    else if (way == 2)
        must(syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_UNSHARE, 0, 0, 0));
    else
        for (int fd = 3; fd < 1024; fd++)
            close(fd);
    struct pair p;
    pair_open(&p);
    pair_talk(&p, 50);
    pair_close(&p);
    _exit(0);
}

static void closing(void) {
    struct stream *s = stream_open(AF_INET), *t = stream_open(AF_INET);
    struct pair p;
    int closed = 0, refused = 0;
    pair_open(&p);
    pair_talk(&p, 50);
    dialogue(s, 5);
    warm();
    for (int way = 0; way < 4; way++) {
        child_closes(way);
        pair_talk(&p, 10);
        dialogue(s, 5);
    }
    int above = highest(&p, s, t) + 1;
    say("close_range above: %s", res(close_range((unsigned)above, ~0u, 0)));
    closefrom(above);
    pair_talk(&p, 10);
    dialogue(s, 5);
    int file = (int)must(dup2(0, above + 5));
    say("CLOEXEC before: %d %d %d", cloexec(s->fd), cloexec(t->fd), cloexec(file));
    must(close_range((unsigned)(s->fd < t->fd ? s->fd : t->fd), ~0u, CLOSE_RANGE_CLOEXEC));
    say("CLOEXEC after: %d %d %d", cloexec(s->fd), cloexec(t->fd), cloexec(file));
    pair_talk(&p, 10);
    dialogue(t, 5);
    pthread_t thread;
    warm_always();
    unshared_stream = t, unshared_from = above;
    must(-pthread_create(&thread, NULL, unshares, &file));
    pthread_join(thread, NULL);
    say("the other threads have it still: %d", cloexec(file));
    pair_talk(&p, 10);
    dialogue(s, 10);
    for (int fd = above; fd < 1024; fd++)
        *(close(fd) == 0 ? &closed : &refused) += 1;
    say("a loop has closed %d of %d", closed, closed + refused);
    pair_talk(&p, 10);
    dialogue(s, 10);
    dialogue(t, 10);
    warm_always();
    pair_close(&p);
    stream_close(s);
    stream_close(t);
}

/* ---- few descriptors ---- */

static void few(void) {
    const struct rlimit limit = {256, 256};
    int null = (int)must(open("/dev/null", O_RDONLY)), files = 0, made[256];
    must(setrlimit(RLIMIT_NOFILE, &limit));
    for (int i = 0; i < 60; i++)
        stream_open(AF_INET);
    warm();
    for (int i = 0; i < 60; i++)
        dialogue(&streams[i], 3);
    while ((made[files] = dup(null)) >= 0)
        files++;
    int error = errno;
    say("at the limit: errno %d, a socket %s", error, res(socket(AF_INET, SOCK_STREAM, 0)));
    say("@files %d", files);
    for (int i = 0; i < 60; i++)
        dialogue(&streams[i], 3);
    /* Two numbers are free, so one connection can be opened, both ends of it if need be. */
    must(close(made[--files]));
    must(close(made[--files]));
    struct stream *s = stream_open(AF_INET);
    dialogue(s, 30);
    stream_close(s);
    while (dup(null) >= 0)
        files++;
    say("and again at the limit: errno %d", errno);
    for (int i = 0; i < 60; i++)
        stream_close(&streams[i]);
}

static void *sleeper(void *arg) {
    char byte;
    (void)!read(*(int *)arg, &byte, 1);
    return NULL;
}

static volatile sig_atomic_t alarms;

static void on_alarm(int signal) {
    (void)signal;
    alarms++;
}

/* Every number is in use before a thread waits for the first time. */
static void none_left(void) {
    const struct rlimit limit = {256, 256};
    const struct timeval soon = {0, 50000};
    int gate[2], filled[256], n = 0;
    char byte;
    pthread_t thread;
    must(pipe(gate));
    must(setrlimit(RLIMIT_NOFILE, &limit));
    struct stream *s = stream_open(AF_INET);
    far_do(FAR_INTERRUPT, 0, getpid(), 0, 0); /* no signal yet; far opens the file that it looks at */
    must(-pthread_create(&thread, NULL, sleeper, &gate[0]));
    while ((filled[n] = dup(0)) >= 0)
        n++;
    say("poll: %d", wait_for(s->fd, POLLIN, 50));
    must(setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof soon));
    say("recv: %s", res(recv(s->fd, &byte, 1, 0)));
    must(setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){0, 0}, sizeof soon));
    for (int i = 0; i < 3; i++) {
        far_begin(FAR_SEND, s->index, 10, 10, 30000);
        if (i != 1)
            say("poll: %s", name_poll((short)wait_for(s->fd, POLLIN, i == 0 ? -1 : PATIENCE_MS)));
        recv_pattern(s, 10);
        far_end();
    }
    signal(SIGALRM, on_alarm);
    far_begin(FAR_INTERRUPT, 0, getpid(), SIGALRM, 0);
    far_begin(FAR_SEND, s->index, 10, 0, 0);
    recv_pattern(s, 10);
    say("signals in a read: %d", (int)alarms);
    far_end();
    far_end();
    far_begin(FAR_RECV, s->index, 8 << 20, 0, 0);
    send_pattern(s, 8 << 20);
    far_end();
    while (n > 0)
        close(filled[--n]);
    must(write(gate[1], "x", 1));
    pthread_join(thread, NULL);
    dialogue(s, 10);
    stream_close(s);
}

/* ---- not everything is allowed ---- */

struct forbidden {
    const char *name;
    int calls[16];
};

/* The list of numbers ends with 0 (read, which no case forbids). */
static const struct forbidden filters[] = {
    {"memory", {SYS_memfd_create}},
    {"messages", {SYS_sendmsg, SYS_recvmsg}},
    {"options", {SYS_getsockopt, SYS_setsockopt}},
    {"numbers", {SYS_dup, SYS_dup2, SYS_dup3}},
    {"replacing", {SYS_dup3}},
    {"waiting", {SYS_eventfd2, SYS_signalfd4}},
    {"names", {SYS_getpeername}},
    {"limits", {SYS_prlimit64, SYS_getrlimit, SYS_setrlimit}},
    {"most", {SYS_memfd_create, SYS_sendmsg, SYS_recvmsg, SYS_dup, SYS_dup3, SYS_ppoll, SYS_eventfd2,
              SYS_signalfd4, SYS_prlimit64, SYS_getsockopt, SYS_readlink, SYS_getdents64, SYS_pidfd_open}},
};

#define NUMBER offsetof(struct seccomp_data, nr)
#define ARGUMENT(n) (offsetof(struct seccomp_data, args) + 8 * (n))
#define LOAD(what) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, what)
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)(value), 0, skip)
#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

static long raw_seccomp(struct sock_fprog *program) {
    long r = SYS_seccomp;
    __asm__ volatile("syscall" : "+a"(r) : "D"((long)SECCOMP_SET_MODE_FILTER), "S"(0L), "d"(program) : "rcx", "r11", "memory");
    return r;
}

/* Set by a call that no hook sees, as if another program had set it and executed this one. */
static void install(const char *name) {
    struct sock_filter filter[64];
    int n = 0;
    if (strcmp(name, "unix") == 0) {
        const struct sock_filter by_family[] = {LOAD(NUMBER), UNLESS(SYS_socket, 3), LOAD(ARGUMENT(0)), UNLESS(AF_UNIX, 1), REFUSE};
        memcpy(filter, by_family, sizeof by_family), n = LEN(by_family);
    } else if (strcmp(name, "shared") == 0) {
        const struct sock_filter shared[] = {LOAD(NUMBER), UNLESS(SYS_mmap, 3), LOAD(ARGUMENT(3)), UNLESS(MAP_SHARED, 1), REFUSE};
        memcpy(filter, shared, sizeof shared), n = LEN(shared);
    } else {
        filter[n++] = (struct sock_filter)LOAD(NUMBER);
        for (int i = 0; i < LEN(filters); i++)
            for (int j = 0; strcmp(name, filters[i].name) == 0 && filters[i].calls[j] != 0; j++) {
                filter[n++] = (struct sock_filter)UNLESS(filters[i].calls[j], 1);
                filter[n++] = (struct sock_filter)REFUSE;
            }
        if (n == 1)
            die("no filter is called %s", name);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)n, filter};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    if (raw_seccomp(&program) != 0)
        die("the filter was not installed");
}

static void filtered(void) {
    bool moves = opt.argc > 1;
    if (!getenv("VICTIM_FILTERED")) {
        char *argv[8] = {"victim", "filtered", opt.far_thread ? "--far=thread" : "--far=process"};
        int n = 3;
        install(opt.argc > 0 ? opt.argv[0] : "most");
        must(setenv("VICTIM_FILTERED", "1", 1));
        if (opt.cold)
            argv[n++] = "--cold";
        if (opt.near_accepts)
            argv[n++] = "--near-accepts";
        for (int i = 0; i < opt.argc && i < 2; i++)
            argv[n++] = opt.argv[i];
        execv("/proc/self/exe", argv);
        die("exec: %s", strerror(errno));
    }
    struct stream *s[4];
    for (int i = 0; i < LEN(s); i++) {
        s[i] = stream_open(AF_INET);
        for (int j = 0; j <= i; j++)
            dialogue(s[j], 20);
    }
    if (moves)
        warm_always();
    set_nonblocking(s[0]->fd, true);
    dialogue(s[0], 50);
    say("a port of its own: %d", local_port(s[1]->fd) == s[1]->port || opt.near_accepts);
    set_nonblocking(s[0]->fd, false);
    for (int i = 0; i < LEN(s); i++)
        stream_close(s[i]);
}

const struct test_case hostile_cases[] = {
    {"closing", closing, "close_range, closefrom and loops, beside threads"},
    {"few-descriptors", few, "soft and hard RLIMIT_NOFILE of 256"},
    {"no-descriptors", none_left, "waits when every descriptor is in use"},
    {"filtered", filtered, "[FILTER [moves]]: executed with a seccomp filter"},
    {NULL, NULL, NULL},
};
