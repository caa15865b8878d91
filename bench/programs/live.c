/*
 * Many live streams between two processes, and how soon they leave TCP.
 *
 *   live serve               echoes; prints its port
 *   live talk PORT COUNT     opens COUNT streams, one after the other, exchanges 32 bytes on each until it has moved,
 *                            and goes on to the next
 *   live stay PORT COUNT     the same with one exchange, for streams that cannot move
 *
 * The client then prints how many have moved, COUNT, and as 32-bit words the nanoseconds from the first whole exchange
 * of each until it had moved; it holds them until a line comes on standard input. A stream has moved when the kernel says
 * that the descriptor is a Unix-domain socket.
 *
 * The question to the kernel goes past libc: libipc would answer it as TCP does.
 */
#include "channel.h"
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define CHUNK 32
#define MAX_STREAMS 10000

static uint32_t times[MAX_STREAMS];

static int has_moved(int fd)
{
    int domain = 0;
    socklen_t len = sizeof domain;
    check(syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0, "SO_DOMAIN");
    return domain == AF_UNIX;
}

static void serve(void)
{
    static char bytes[65536];
    int listener = tcp_listener("127.0.0.1"), epfd = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[64];
    check(epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &event) == 0, "epoll_ctl");
    for (;;) {
        int n = epoll_wait(epfd, events, 64, -1);
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;
            if (fd == listener) {
                fd = accept(listener, NULL, NULL);
                check(fd >= 0, "accept");
                no_delay(fd);
                event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
                check(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
                continue;
            }
            ssize_t got = read(fd, bytes, sizeof bytes);
            if (got > 0)
                write_all(fd, bytes, (size_t)got);
            else
                close(fd);
        }
    }
}

static void exchange(int fd)
{
    char bytes[CHUNK] = {0};
    snprintf(bytes, sizeof bytes, "%d", fd);
    write_all(fd, bytes, sizeof bytes);
    read_all(fd, bytes, sizeof bytes);
}

int main(int argc, char **argv)
{
    struct rlimit files;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    check(getrlimit(RLIMIT_NOFILE, &files) == 0, "getrlimit");
    /* libipc's own descriptors lie above the soft limit. */
    files.rlim_cur = files.rlim_max / 2;
    check(setrlimit(RLIMIT_NOFILE, &files) == 0, "setrlimit");
    if (argc == 2 && !strcmp(argv[1], "serve"))
        serve();
    if (argc != 4)
        return 2;
    char address[64];
    int count = atoi(argv[3]), moved = 0;
    snprintf(address, sizeof address, "127.0.0.1:%s", argv[2]);
    uint64_t patience = strcmp(argv[1], "talk") ? 0 : 5000000000;
    check(count > 0 && count <= MAX_STREAMS, "COUNT");
    for (int i = 0; i < count; i++) {
        int fd = tcp_connect(address), gone;
        exchange(fd);
        uint64_t start = now();
        while (!(gone = has_moved(fd)) && now() - start < patience)
            exchange(fd);
        times[i] = (uint32_t)(now() - start);
        moved += gone;
    }
    printf("%d\n%d\n", moved, count);
    fwrite(times, sizeof *times, (size_t)count, stdout);
    fflush(stdout);
    return getchar() == EOF;
}
