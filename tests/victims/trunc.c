/* MSG_TRUNC on TCP discards bytes instead of copying them, and with MSG_PEEK it counts them; recvmsg reports the flags
 * in msg_flags. */
#include "victim.h"

#include <poll.h>
#include <sys/mman.h>

static char big[100000];

/* Prints the result of one recvmsg, with two buffers of these sizes. */
static void message(struct stream *s, const char *what, char *at, size_t a, size_t b, int flags) {
    struct iovec parts[2] = {{at, a}, {at ? at + a : NULL, b}};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2, .msg_flags = 0x5a5a5a, .msg_controllen = 0};
    struct sockaddr_storage name;
    m.msg_name = &name, m.msg_namelen = sizeof name;
    ssize_t n = recvmsg(s->fd, &m, flags);
    say("  recvmsg %s: %s, msg_flags %#x, a name of %u bytes", what, res(n), m.msg_flags, (unsigned)m.msg_namelen);
}

static void bring(struct stream *s, long n) {
    far_do(FAR_SEND, s->index, n, 0, 0);
    await_readable(s, (int)n);
}

/* Bytes that near has not read. */
static void skip(struct stream *s, size_t n) {
    s->rx += n;
}

static void one(int k, char *nowhere) {
    struct stream *s = stream_after(k);
    say("after %d exchanges", k);
    bring(s, 10);
    message(s, "of nothing", big, 0, 0, MSG_TRUNC);
    message(s, "of one", big, 1, 0, MSG_TRUNC);
    skip(s, 1);
    message(s, "of one, kept", big, 1, 0, MSG_DONTWAIT);
    next_in(s, big, 1);
    message(s, "of one in two", big, 1, 1, MSG_TRUNC | MSG_DONTWAIT);
    skip(s, 2);
    message(s, "of nowhere", nowhere, 2, 0, MSG_TRUNC | MSG_DONTWAIT);
    skip(s, 2);
    recv_pattern(s, 4);
    message(s, "of nothing there", big, 1, 0, MSG_TRUNC | MSG_DONTWAIT);
    message(s, "peeking at nothing there", big, 1, 0, MSG_TRUNC | MSG_PEEK | MSG_DONTWAIT);
    bring(s, 5000);
    say("  peek, count: %s", res(recv(s->fd, NULL, 100000, MSG_PEEK | MSG_TRUNC)));
    say("  peek, count of few: %s", res(recv(s->fd, NULL, 3, MSG_PEEK | MSG_TRUNC)));
    message(s, "peek, count", nowhere, 4000, 4000, MSG_PEEK | MSG_TRUNC);
    say("  throw away into NULL: %s", res(recv(s->fd, NULL, 100, MSG_TRUNC)));
    skip(s, 100);
    say("  peek: %s", res(recv(s->fd, big, sizeof big, MSG_PEEK)));
    pattern_check((uint64_t)s->index * 2 + 1, s->rx, big, 4900);
    say("  throw away into nowhere, all: %s", res(recv(s->fd, nowhere, 4000, MSG_TRUNC | MSG_WAITALL)));
    skip(s, 4000);
    say("  throw away the rest: %s", res(recv(s->fd, NULL, 100000, MSG_TRUNC)));
    skip(s, 900);
    say("  nothing is left: %s", res(recv(s->fd, big, 1, MSG_DONTWAIT)));
    say("  nothing to throw away: %s", res(recv(s->fd, NULL, 0, MSG_TRUNC | MSG_DONTWAIT)));
    bring(s, 3000);
    far_begin(FAR_SLEEP, 0, 5, 0, 0);
    far_begin(FAR_SEND, s->index, 3000, 0, 0);
    say("  throw away what is there and what comes: %s", res(recv(s->fd, NULL, 6000, MSG_TRUNC | MSG_WAITALL)));
    skip(s, 6000);
    far_end();
    far_end();
    bring(s, 100);
    say("  recvfrom: %s", res(recvfrom(s->fd, NULL, 60, MSG_TRUNC, NULL, NULL)));
    skip(s, 60);
    recv_pattern(s, 40);
    exchange(s, 3);
    /* At the end of the stream. */
    bring(s, 20);
    far_do(FAR_SHUT, s->index, SHUT_WR, 0, 0);
    wait_for(s->fd, POLLRDHUP, 5000);
    say("  at the end, peek: %s", res(recv(s->fd, NULL, 100, MSG_PEEK | MSG_TRUNC)));
    say("  at the end, all: %s", res(recv(s->fd, NULL, 100, MSG_TRUNC | MSG_WAITALL)));
    skip(s, 20);
    message(s, "at the end", big, 10, 0, MSG_TRUNC);
    stream_close(s);
}

static void truncs(void) {
    /* No memory is mapped there: a call that writes there fails, or the program dies. */
    char *nowhere = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int k = 0; k <= SWEEP; k += k < 24 ? 1 : 6)
        one(k, nowhere);
    one(MOVED, nowhere);
}

const struct test_case trunc_cases[] = {
    {"trunc", truncs, "MSG_TRUNC: counts, msg_flags, buffers that are not there"},
    {NULL, NULL, NULL},
};
