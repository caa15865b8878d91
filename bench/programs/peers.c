/*
 * Two processes and one stream between them.
 *
 *   peers tcp|unix pingpong|bulk SIZE MILLISECONDS [PARENT_CPU CHILD_CPU]
 *
 * The parent connects, the child accepts. Over TCP both first exchange bytes, the parent prints its port and goes on
 * until a line comes on standard input; then the measurement begins.
 *
 * pingpong: SIZE bytes there and back; prints the median and the mean round trip in nanoseconds.
 * bulk:     the parent writes SIZE bytes at a time, the child reads up to 64 KiB (or SIZE) at a time; prints bytes per
 *           second as the child saw them. A byte back ends it, so that everything has arrived.
 */
#include "hold.h"
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define MAX_SAMPLES (1 << 20)
#define WARM_UP 64

struct shared {
    _Atomic int measuring;
    double bytes_per_second;
};

static struct shared *shared;

static void pin_to(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    check(sched_setaffinity(0, sizeof set, &set) == 0, "sched_setaffinity");
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Round trips of a few bytes until the harness says go; the parent then announces the end with a 1. */
static void warm_up_parent(int fd)
{
    char buf[WARM_UP] = {0};
    printf("%u\n", own_port(fd));
    fflush(stdout);
    do {
        buf[0] = (char)told_to_go();
        write_all(fd, buf, sizeof buf);
        read_all(fd, buf, sizeof buf);
        usleep(buf[0] ? 0 : 500);
    } while (!buf[0]);
}

static void warm_up_child(int fd)
{
    char buf[WARM_UP];
    do {
        read_all(fd, buf, sizeof buf);
        write_all(fd, buf, sizeof buf);
    } while (!buf[0]);
}

static void child(int fd, int bulk, size_t size)
{
    size_t room = bulk && size < 65536 ? 65536 : size;
    char *buf = malloc(room);
    memset(buf, 1, room);
    uint64_t bytes = 0, start = 0, last = 0;
    for (;;) {
        ssize_t n = read(fd, buf, room);
        if (n <= 0)
            break;
        if (bulk) {
            start = start ? start : now();
            bytes += (uint64_t)n;
            continue;
        }
        if ((size_t)n < size)
            read_all(fd, buf + n, size - (size_t)n);
        write_all(fd, buf, size);
    }
    last = now();
    if (bulk) {
        shared->bytes_per_second = (double)bytes / ((double)(last - start) / 1e9);
        write_all(fd, buf, 1);
    }
}

static void pingpong(int fd, size_t size, uint64_t length)
{
    static uint32_t samples[MAX_SAMPLES];
    char *buf = calloc(1, size);
    uint64_t start = now(), before = start, n = 0;
    while (before - start < length && n < MAX_SAMPLES) {
        write_all(fd, buf, size);
        read_all(fd, buf, size);
        uint64_t after = now();
        samples[n++] = (uint32_t)(after - before);
        before = after;
    }
    qsort(samples, n, sizeof *samples, compare);
    printf("%u %.1f\n", samples[n / 2], (double)(before - start) / (double)n);
}

static void bulk_write(int fd, size_t size, uint64_t length)
{
    char *buf = calloc(1, size);
    uint64_t start = now();
    while (now() - start < length)
        for (size_t sent = 0; sent < 262144; sent += size)
            write_all(fd, buf, size);
    check(shutdown(fd, SHUT_WR) == 0, "shutdown");
    read_all(fd, buf, 1);
    printf("%.0f\n", shared->bytes_per_second);
}

int main(int argc, char **argv)
{
    if (argc < 5)
        return 2;
    int tcp = !strcmp(argv[1], "tcp"), bulk = !strcmp(argv[2], "bulk"), pinned = argc > 6;
    size_t size = strtoul(argv[3], NULL, 10);
    uint64_t length = strtoul(argv[4], NULL, 10) * 1000000;
    int pair[2] = {-1, -1}, listener = -1;
    uint16_t port = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(shared != MAP_FAILED, "mmap");
    if (tcp)
        listener = listen_on_loopback(&port);
    else
        check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
    pid_t pid = fork();
    check(pid >= 0, "fork");
    if (pid == 0) {
        int on = 1, fd = tcp ? accept(listener, NULL, NULL) : pair[1];
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(tcp ? listener : pair[0]);
        if (tcp) {
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            warm_up_child(fd);
        }
        if (pinned)
            pin_to(atoi(argv[6]));
        child(fd, bulk, size);
        return 0;
    }
    close(tcp ? listener : pair[1]);
    int fd = tcp ? connect_to(port) : pair[0];
    if (pinned)
        pin_to(atoi(argv[5]));
    if (tcp)
        warm_up_parent(fd);
    if (bulk)
        bulk_write(fd, size, length);
    else
        pingpong(fd, size, length);
    close(fd);
    waitpid(pid, NULL, 0);
    return 0;
}
