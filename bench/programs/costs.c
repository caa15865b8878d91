/*
 * What the calls cost for which the shim has nothing to gain: lmbench's questions.
 *
 *   costs serve ADDRESS                              accepts and keeps connections; prints its port
 *   costs talk HOST:PORT STREAMS BYTES MILLISECONDS  opens STREAMS connections (100 to 1000, or none) and writes BYTES
 *                                                    on each; prints a line, goes on until a line comes on standard
 *                                                    input, then prints the nanoseconds of each call: NAME VALUE.
 *                                                    Without connections nothing waits for them.
 *
 * A value is the median of many short batches: what interrupts one of them does not count.
 */
#include "channel.h"
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/wait.h>

#define STREAMS 1000
#define WATCHED 100
#define BATCHES 4096

static int streams[STREAMS], zero, null, epfd;
static struct pollfd polled[WATCHED];

static void call_read(void)
{
    char byte;
    check(read(zero, &byte, 1) == 1, "read");
}

static void call_write(void)
{
    check(write(null, "x", 1) == 1, "write");
}

static void call_open_close(void)
{
    int fd = open("/etc/passwd", O_RDONLY);
    check(fd >= 0 && close(fd) == 0, "open and close");
}

static void call_select(void)
{
    struct timeval none = {0};
    fd_set set;
    FD_ZERO(&set);
    for (int i = 0; i < WATCHED; i++)
        FD_SET(streams[i], &set);
    check(select(streams[WATCHED - 1] + 1, &set, NULL, NULL, &none) == 0, "select");
}

static void call_poll(void)
{
    check(poll(polled, WATCHED, 0) == 0, "poll");
}

static void call_epoll(void)
{
    struct epoll_event events[8];
    check(epoll_wait(epfd, events, 8, 0) == 0, "epoll_wait");
}

static void wait_for(pid_t pid)
{
    int status;
    check(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "the child");
}

static void call_fork(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    wait_for(pid);
}

static void call_fork_exec(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        execl("/bin/true", "true", (char *)NULL);
        _exit(127);
    }
    wait_for(pid);
}

/* /bin/true by posix_spawn, which does not copy the process first. */
static void call_start(void)
{
    static char *arguments[] = {"true", NULL};
    pid_t pid;
    check(posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environ) == 0, "posix_spawn");
    wait_for(pid);
}

static const struct {
    const char *name;
    void (*call)(void);
    int batch, waits;
} calls[] = {
    {"read", call_read, 200, 0},        {"write", call_write, 200, 0},
    {"open+close", call_open_close, 50, 0}, {"select-100", call_select, 20, 1},
    {"poll-100", call_poll, 20, 1},     {"epoll", call_epoll, 200, 1},
    {"fork", call_fork, 1, 0},          {"fork+exec", call_fork_exec, 1, 0},
    {"start", call_start, 1, 0},
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double measure(void (*call)(void), int batch, uint64_t length)
{
    static double values[BATCHES];
    uint64_t start = now(), before = start;
    int n = 0;
    call();
    while (n < 3 || (before - start < length && n < BATCHES)) {
        before = now();
        for (int i = 0; i < batch; i++)
            call();
        uint64_t after = now();
        values[n++] = (double)(after - before) / batch;
        before = after;
    }
    qsort(values, (size_t)n, sizeof *values, compare);
    return values[n / 2];
}

static void serve(const char *address)
{
    int listener = tcp_listener(address);
    for (;;)
        check(accept(listener, NULL, NULL) >= 0, "accept");
}

int main(int argc, char **argv)
{
    struct rlimit files;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    check(getrlimit(RLIMIT_NOFILE, &files) == 0, "getrlimit");
    files.rlim_cur = files.rlim_max < 4096 ? files.rlim_max : 4096;
    check(setrlimit(RLIMIT_NOFILE, &files) == 0, "setrlimit");
    if (argc == 3 && !strcmp(argv[1], "serve"))
        serve(argv[2]);
    if (argc != 6)
        return 2;
    int count = atoi(argv[3]);
    size_t bytes = strtoul(argv[4], NULL, 10);
    uint64_t length = strtoul(argv[5], NULL, 10) * 1000000;
    check(count == 0 || (count >= WATCHED && count <= STREAMS), "STREAMS");
    char *some = calloc(1, bytes + 1);
    zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY), epfd = epoll_create1(0);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN};
        streams[i] = tcp_connect(argv[2]);
        write_all(streams[i], some, bytes);
        check(epoll_ctl(epfd, EPOLL_CTL_ADD, streams[i], &event) == 0, "epoll_ctl");
        if (i < WATCHED)
            polled[i] = (struct pollfd){.fd = streams[i], .events = POLLIN};
    }
    puts("ready");
    fflush(stdout);
    while (!told_to_go()) {
        if (count > 0)
            call_poll();
        usleep(1000);
    }
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if (count > 0 || !calls[i].waits)
            printf("%s %.1f\n", calls[i].name, measure(calls[i].call, calls[i].batch, length));
    return 0;
}
