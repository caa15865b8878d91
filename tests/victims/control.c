/* Options that add a control message to received bytes, set before a stream moves and after. */
#include "victim.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>

#ifndef TCP_INQ
#define TCP_INQ 36
#endif
#ifndef SO_RCVPRIORITY
#define SO_RCVPRIORITY 82
#endif

static const struct {
    const char *name;
    int level, number;
} options[] = {
    {"TCP_INQ", IPPROTO_TCP, TCP_INQ},
    {"SO_TIMESTAMP", SOL_SOCKET, SO_TIMESTAMP},
    {"SO_TIMESTAMPNS", SOL_SOCKET, SO_TIMESTAMPNS},
    {"SO_RCVPRIORITY", SOL_SOCKET, SO_RCVPRIORITY},
};

static void set(struct stream *s, int which, int value) {
    int got = -1;
    socklen_t length = sizeof got;
    say("  %s %d: %s", options[which].name, value,
        res(setsockopt(s->fd, options[which].level, options[which].number, &value, sizeof value)));
    int r = getsockopt(s->fd, options[which].level, options[which].number, &got, &length);
    say("  it is %d: %s", got, res(r));
}

/* Receives a message of at most n bytes; prints the kinds of the control messages that come along, and the count of
 * TCP_INQ. */
static void receive(struct stream *s, size_t n, size_t room, int flags) {
    char bytes[64], control[256], kinds[200] = "";
    struct iovec part = {bytes, n};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = room};
    ssize_t got = recvmsg(s->fd, &m, flags);
    size_t used = 0;
    for (struct cmsghdr *c = got < 0 ? NULL : CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        int count = -1;
        if (c->cmsg_level == IPPROTO_TCP && c->cmsg_type == TCP_INQ)
            memcpy(&count, CMSG_DATA(c), sizeof count);
        used += (size_t)snprintf(kinds + used, sizeof kinds - used, ", %d/%d of %zu: %d", c->cmsg_level, c->cmsg_type,
                                 (size_t)c->cmsg_len, count);
    }
    say("  recvmsg of %zu, room for %zu, flags %#x: %s, msg_flags %#x%s", n, room, flags, res(got), m.msg_flags, kinds);
    if (got > 0 && flags & MSG_PEEK)
        pattern_check((uint64_t)s->index * 2 + 1, s->rx, bytes, (size_t)got);
    else if (got > 0)
        next_in(s, bytes, (size_t)got);
}

static void bring(struct stream *s, long n) {
    far_do(FAR_SEND, s->index, n, 0, 0);
    await_readable(s, (int)n);
}

/* Sets the option after `before` exchanges, and receives messages after `after` more. */
static void one(int which, int before, int after) {
    struct stream *s = stream_after(before);
    say("%s after %d exchanges, used after %d", options[which].name, before, after);
    set(s, which, 1);
    if (after == MOVED)
        warm_always();
    exchange(s, after == MOVED ? 1 : after);
    bring(s, 30);
    receive(s, 5, 256, MSG_PEEK);
    receive(s, 10, 256, 0);
    receive(s, 10, 0, 0);
    receive(s, 10, 256, 0);
    receive(s, 10, 256, MSG_DONTWAIT);
    bring(s, 20);
    set(s, which, 0);
    receive(s, 10, 256, 0);
    set(s, which, 1);
    far_do(FAR_SHUT, s->index, SHUT_WR, 0, 0);
    wait_for(s->fd, POLLRDHUP, 5000);
    receive(s, 4, 256, 0);
    receive(s, 6, 256, 0);
    receive(s, 10, 256, 0);
    receive(s, 10, 256, 0);
    stream_close(s);
}

/* The kernel begins to stamp arriving bytes some time after the first socket asked for timestamps, and goes on while
 * one does. A stream that asks before its first byte, and so stays on TCP, waits for that. */
static struct stream *stamped(void) {
    struct stream *s = stream_open(AF_INET);
    int on = 1;
    must(setsockopt(s->fd, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof on));
    for (int i = 0; i < 5000; i++) {
        char byte, control[256];
        struct iovec part = {&byte, 1};
        struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
        far_do(FAR_SEND, s->index, 1, 0, 0);
        if (must(recvmsg(s->fd, &m, 0)) != 1)
            die("end of stream");
        next_in(s, &byte, 1);
        far_begin(FAR_RECV, s->index, 1, 0, 0);
        send_pattern(s, 1);
        far_end();
        if (CMSG_FIRSTHDR(&m))
            return s;
        sleep_ms(1);
    }
    die("the kernel stamps nothing");
}

static void controls(void) {
    struct stream *first = stamped();
    static const int points[] = {0, 1, 2, 3, 4, 6, 8, 11, 14, 16, 17, 18, 20, 25, 30, 40, 50, 60};
    for (int which = 0; which < LEN(options); which++) {
        one(which, MOVED, 0);
        one(which, MOVED, 5);
        /* Timestamps that are switched on before the move keep a stream on TCP. */
        bool moves = which == 0;
        for (int i = 0; i < LEN(points) && moves; i++)
            one(which, points[i], i % 4 == 0 ? MOVED : i);
    }
    stream_close(first);
}

const struct test_case control_cases[] = {
    {"control-messages", controls, "TCP_INQ, timestamps, priority: set before the move and after"},
    {NULL, NULL, NULL},
};
