/*
 * Makes one kind of call a given number of times, for an instruction counter.
 *
 *   calls echo                    listens, prints its port, sends back what one client sends, until it sends a 1:
 *                                 from there on it only reads
 *   calls CALL null COUNT         on /dev/null or /dev/zero
 *   calls CALL pipe COUNT
 *   calls CALL PORT COUNT         on a stream to `calls echo`: moves bytes both ways, prints its own port, goes on
 *                                 until a line comes on standard input, then makes the calls
 *
 * The calls are made inside measured(), so that a counter may be switched on for it alone.
 */
#include "hold.h"
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/uio.h>

enum call { READ, WRITE, RECV, SEND, READV, WRITEV, RECVMSG, SENDMSG, POLL, EPOLL_WAIT, CALLS };

static const char *const names[CALLS] = {"read",  "write",   "recv",    "send", "readv",
                                         "writev", "recvmsg", "sendmsg", "poll", "epoll_wait"};

static char byte[1];
static struct iovec one = {byte, 1};
static struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1};

__attribute__((noinline)) long measured(enum call call, int fd, long count, int epfd)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    struct epoll_event event;
    long sum = 0;
    for (long i = 0; i < count; i++)
        switch (call) {
        case READ: sum += read(fd, byte, 1); break;
        case WRITE: sum += write(fd, byte, 1); break;
        case RECV: sum += recv(fd, byte, 1, 0); break;
        case SEND: sum += send(fd, byte, 1, 0); break;
        case READV: sum += readv(fd, &one, 1); break;
        case WRITEV: sum += writev(fd, &one, 1); break;
        case RECVMSG: sum += recvmsg(fd, &message, 0); break;
        case SENDMSG: sum += sendmsg(fd, &message, 0); break;
        case POLL: sum += poll(&p, 1, 0); break;
        case EPOLL_WAIT: sum += epoll_wait(epfd, &event, 1, 0); break;
        case CALLS: break;
        }
    return sum;
}

static int reads(enum call call)
{
    return call == READ || call == RECV || call == READV || call == RECVMSG;
}

static void echo(void)
{
    static char buf[65536];
    uint16_t port;
    int listener = listen_on_loopback(&port), answers = 1;
    printf("%u\n", port);
    fflush(stdout);
    int fd = accept(listener, NULL, NULL);
    check(fd >= 0, "accept");
    for (;;) {
        ssize_t n = read(fd, buf, sizeof buf);
        if (n <= 0)
            return;
        answers = answers && !buf[0];
        if (answers)
            write_all(fd, buf, (size_t)n);
    }
}

static int open_pipe(enum call call, long count)
{
    int fds[2];
    check(pipe(fds) == 0 && fcntl(fds[1], F_SETPIPE_SZ, 1 << 20) > 0, "pipe");
    for (long i = 0; reads(call) && i < count; i++)
        write_all(fds[1], byte, 1);
    return reads(call) ? fds[0] : fds[1];
}

static int open_stream(uint16_t port, enum call call, long count)
{
    char buf[64] = {0};
    int fd = connect_to(port);
    printf("%u\n", own_port(fd));
    fflush(stdout);
    while (!told_to_go()) {
        write_all(fd, buf, sizeof buf);
        read_all(fd, buf, sizeof buf);
        usleep(1000);
    }
    char *bytes = calloc(1, (size_t)count);
    bytes[0] = !reads(call);
    write_all(fd, bytes, reads(call) ? (size_t)count : 1);
    free(bytes);
    return fd;
}

int main(int argc, char **argv)
{
    enum call call = 0;
    long count;
    int fd, epfd = -1;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc == 2 && !strcmp(argv[1], "echo")) {
        echo();
        return 0;
    }
    if (argc != 4)
        return 2;
    while (call < CALLS && strcmp(names[call], argv[1]))
        call++;
    count = atol(argv[3]);
    if (!strcmp(argv[2], "null"))
        fd = open(reads(call) ? "/dev/zero" : "/dev/null", O_RDWR);
    else if (!strcmp(argv[2], "pipe"))
        fd = open_pipe(call, count);
    else
        fd = open_stream((uint16_t)atoi(argv[2]), call, count);
    check(fd >= 0, "open");
    if (call == EPOLL_WAIT) {
        struct epoll_event event = {.events = EPOLLOUT};
        epfd = epoll_create1(0);
        check(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
    }
    long sum = measured(call, fd, count, epfd);
    if (sum != count) {
        fprintf(stderr, "%s: %ld of %ld calls did what they should\n", argv[1], sum, count);
        return 1;
    }
    return 0;
}
