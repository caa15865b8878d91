/* A connection that is passed to another process in a message (SCM_RIGHTS) is a connection there. */
#include "victim.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/wait.h>

static void pass(int to, int fd) {
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 'f';
    struct iovec part = {&byte, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof(int));
    must(sendmsg(to, &m, 0));
}

static int port_of(int (*ask)(int, struct sockaddr *, socklen_t *), int fd) {
    struct sockaddr_in at = {0};
    socklen_t length = sizeof at;
    return ask(fd, (struct sockaddr *)&at, &length) == 0 && at.sin_family == AF_INET ? ntohs(at.sin_port) : -1;
}

static int state_of(int fd) {
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 ? info.tcpi_state : -1;
}

/* What the receiver reports about the socket that it got. */
struct answer {
    int domain, own, peer, state, nodelay;
};

/* Orders: f, with a descriptor; q: asks for the socket's kind; x: takes eight bytes, and sends eight; c: closes it; h:
 * hands it on. */
void handover_receiver(int orders, int next) {
    int fd = -1;
    char order, bytes[8];
    for (;;) {
        char control[CMSG_SPACE(sizeof(int))];
        struct iovec part = {&order, 1};
        struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        if (recvmsg(orders, &m, MSG_CMSG_CLOEXEC) != 1)
            return;
        struct answer a = {0};
        socklen_t length = sizeof a.domain;
        int one = 1;
        switch (order) {
        case 'f':
            memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
            continue;
        case 'q':
            getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &a.domain, &length);
            a.own = port_of(getsockname, fd), a.peer = port_of(getpeername, fd), a.state = state_of(fd);
            a.nodelay = setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            break;
        case 'x':
            a.state = (int)read_all(fd, bytes, sizeof bytes);
            write_all(fd, bytes, sizeof bytes);
            break;
        case 'h':
            pass(next, fd);
            /* fall through */
        default:
            must(close(fd));
        }
        write_all(orders, &a, sizeof a);
    }
}

static int to[2];
static pid_t receivers[2];

/* The second process is started first, because the first one hands on to it. */
static void start(bool with_shim) {
    int next = -1;
    for (int i = 1; i >= 0; i--) {
        int pair[2];
        char a[16], b[16];
        must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
        receivers[i] = (pid_t)must(fork());
        if (receivers[i] == 0) {
            must(fcntl(pair[1], F_SETFD, 0));
            if (next >= 0)
                must(fcntl(next, F_SETFD, 0));
            snprintf(a, sizeof a, "%d", pair[1]);
            snprintf(b, sizeof b, "%d", next);
            if (!with_shim)
                unsetenv("LD_PRELOAD");
            execl("/proc/self/exe", "victim", "receiver", a, b, (char *)NULL);
            _exit(127);
        }
        must(close(pair[1]));
        next = to[i] = pair[0];
    }
}

static struct answer tell(int i, char order) {
    struct answer a = {0};
    write_all(to[i], &order, 1);
    if (read_all(to[i], &a, sizeof a) != sizeof a)
        die("receiver %d is gone", i);
    return a;
}

static void look(int i, struct stream *s, int own, int peer, bool asks) {
    if (asks) {
        struct answer a = tell(i, 'q');
        say("  receiver %d: AF_INET %d, own port %d, peer's port %d, state %d, TCP_NODELAY %d", i, a.domain == AF_INET,
            a.own == own, a.peer == peer, a.state, a.nodelay);
    }
    for (int times = 0; times < 3; times++) {
        far_do(FAR_SEND_RAW, s->index, 8, 0, 0);
        int got = tell(i, 'x').state;
        struct reply r = far_do(FAR_RAW_RECV, s->index, 8, MSG_WAITALL, 0);
        say("  receiver %d: %d bytes, and %ld back; far's state is %ld", i, got, r.ret, far_do(FAR_STATE, s->index, 0, 0, 0).value);
    }
}

static void one(int k, bool with_shim) {
    struct stream *s = stream_after(k);
    bool twice = k % 3 == 1, both = k % 3 == 2;
    int own = port_of(getsockname, s->fd), peer = port_of(getpeername, s->fd);
    say("after %d exchanges%s%s", k, twice ? ", handed on" : "", both ? ", to two" : "");
    /* The bytes are unread where the socket is closed, but none is lost. */
    far_do(FAR_SEND_RAW, s->index, 8, 0, 0);
    settle(s->fd, 8);
    pass(to[0], s->fd);
    if (both)
        pass(to[1], s->fd);
    must(close(s->fd));
    s->open = false;
    say("  the unread bytes: %d", tell(0, 'x').state);
    say("  come back: %ld", far_do(FAR_RAW_RECV, s->index, 8, MSG_WAITALL, 0).ret);
    /* Without the shim it shows as a Unix-domain socket, once it has moved (docs/limits.md). */
    look(0, s, own, peer, with_shim);
    if (twice)
        tell(0, 'h');
    if (both)
        tell(0, 'c');
    if (twice || both)
        look(1, s, own, peer, with_shim);
    tell(twice || both, 'c');
    struct reply r = far_do(FAR_RAW_RECV, s->index, 8, 0, 0);
    say("  far reads in the end %s", res(r.ret));
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
}

static void handover(void) {
    bool with_shim = !(opt.argc > 0 && strcmp(opt.argv[0], "plain") == 0);
    int status;
    start(with_shim);
    for (int k = 0; k <= SWEEP; k += k < 24 ? 1 : 5)
        one(k, with_shim);
    for (int i = 0; i < 3; i++)
        one(MOVED, with_shim);
    for (int i = 0; i < 2; i++) {
        must(close(to[i]));
        must(waitpid(receivers[i], &status, 0));
        say("receiver %d: %d", i, status);
    }
}

const struct test_case handover_cases[] = {
    {"handover", handover, "[plain]: SCM_RIGHTS to a program that may have the shim"},
    {NULL, NULL, NULL},
};
