/* The end of a stream depends only on the two programs: it is seen at once, whatever ipcd is doing. */
#include "victim.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#define LATE 3000 /* milliseconds after which the end is said not to come */

static int missed;

/* Waits for the end by one call or another. If the end depended on ipcd, it would not be seen while ipcd is stopped,
 * however many seconds pass. */
static void expect_end(int fd, int k, const char *how) {
    struct timeval t = {LATE / 1000, 0};
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP};
    char byte;
    bool came = true;
    int ep;
    switch (k % 3) {
    case 0:
        came = wait_for(fd, POLLIN | POLLRDHUP, LATE) != 0;
        break;
    case 1:
        ep = (int)must(epoll_create1(EPOLL_CLOEXEC));
        must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e));
        came = must(epoll_wait(ep, &e, 1, LATE)) == 1;
        close(ep);
        break;
    default:
        must(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    }
    ssize_t n = came ? recv(fd, &byte, 1, k % 3 < 2 ? MSG_DONTWAIT : 0) : -1;
    if (n == 0)
        return;
    missed++;
    say("after %d exchanges, %s: %s", k, how, came ? res(n) : "no end");
}

static void closes(void) {
    for (int k = 0; k <= MOVED && missed < 3; k++) {
        struct stream *s = stream_after(k);
        event("stop");
        exchange(s, k % 7);
        if (k % 2)
            far_do(FAR_SHUT, s->index, k % 4 == 1 ? SHUT_WR : SHUT_RDWR, 0, 0);
        far_do(FAR_CLOSE, s->index, 0, 0, 0);
        expect_end(s->fd, k, k % 2 ? "shutdown and close" : "close");
        event("go on");
        must(close(s->fd));
        s->open = false;
    }
    say("the end was missed %d times", missed);
}

/* A process that has one end and nothing else: it sends back the bytes that come, then ends as it is told. */
static pid_t peer_of(int port, int listener, int *order) {
    int down[2];
    char bytes[8];
    must(pipe2(down, O_CLOEXEC));
    pid_t child = (pid_t)must(fork());
    if (child == 0) {
        close(down[1]);
        int fd = opt.near_accepts ? tcp_connect(AF_INET, port) : (int)must(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
        close(listener);
        struct pollfd p[2] = {{fd, POLLIN, 0}, {down[0], POLLIN, 0}};
        for (;;) {
            must(poll(p, 2, -1));
            if (p[0].revents && must(read(fd, bytes, sizeof bytes)) == sizeof bytes)
                write_all(fd, bytes, sizeof bytes);
            if (p[1].revents && read(down[0], bytes, 1) == 1)
                bytes[0] == 'k' ? (void)kill(getpid(), SIGKILL) : exit(0);
        }
    }
    must(close(down[0]));
    *order = down[1];
    return child;
}

static int client_port(int fd) {
    struct sockaddr_in peer;
    socklen_t length = sizeof peer;
    must(getpeername(fd, (struct sockaddr *)&peer, &length));
    return opt.near_accepts ? ntohs(peer.sin_port) : local_port(fd);
}

static void ask(int fd, int times) {
    char bytes[8];
    for (int i = 0; i < times; i++) {
        write_all(fd, "exchange", sizeof bytes);
        if (read_all(fd, bytes, sizeof bytes) != sizeof bytes)
            die("end of stream after %d exchanges", i);
    }
}

/* The harness stops ipcd when both ends have everything that they need from it. Before that only ipcd can end the
 * stream, because it has the TCP socket in its queue. */
static void processes_end(void) {
    for (int k = 0; k <= SWEEP && missed < 3; k++) {
        int port, order, listener = tcp_listen(AF_INET, &port);
        char what[32];
        pid_t child = peer_of(port, listener, &order);
        int fd = opt.near_accepts ? (int)must(accept4(listener, NULL, NULL, SOCK_CLOEXEC)) : tcp_connect(AF_INET, port);
        must(close(listener));
        ask(fd, k);
        snprintf(what, sizeof what, "stop if granted %d", client_port(fd));
        event(what);
        ask(fd, k % 6);
        must(write(order, k % 2 ? "k" : "e", 1));
        expect_end(fd, k, k % 2 ? "SIGKILL" : "exit");
        event("go on");
        must(close(fd));
        must(close(order));
        must(waitpid(child, NULL, 0));
    }
    say("the end was missed %d times", missed);
}

const struct test_case end_cases[] = {
    {"ends-closed", closes, "the end by close and shutdown, while ipcd is stopped"},
    {"ends-exited", processes_end, "the end by exit and SIGKILL, while ipcd is stopped"},
    {NULL, NULL, NULL},
};
