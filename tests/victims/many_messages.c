/* recvmmsg and its timeout, and pointers that lead nowhere. */
#include "victim.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/uio.h>

static char *nowhere;
/* Hides arguments that the compiler would warn about. */
static void *volatile at_8 = (void *)8;
static volatile int too_many = 5000, negative = -1;

static void bring(struct stream *s, long n) {
    far_do(FAR_SEND, s->index, n, 0, 0);
    await_readable(s, (int)n);
}

static const char *left(const struct timespec *t, const struct timespec *before) {
    if (t->tv_sec == before->tv_sec && t->tv_nsec == before->tv_nsec)
        return "as it was";
    bool less = t->tv_sec < before->tv_sec || (t->tv_sec == before->tv_sec && t->tv_nsec < before->tv_nsec);
    return less && t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < 1000000000 ? "less" : "what?";
}

/* Prints how many messages of five bytes came, and how much of the time is left. */
static int receive(struct stream *s, const char *what, unsigned n, int flags, struct timespec t) {
    char bytes[4][5];
    struct iovec parts[4];
    struct mmsghdr m[4] = {0};
    for (int i = 0; i < 4; i++) {
        parts[i] = (struct iovec){bytes[i], sizeof bytes[i]};
        m[i].msg_hdr.msg_iov = &parts[i], m[i].msg_hdr.msg_iovlen = 1;
        m[i].msg_hdr.msg_flags = 0x5a5a, m[i].msg_len = 77;
    }
    struct timespec before = t;
    int got = recvmmsg(s->fd, m, n, flags, &t);
    say("  %s: %s, %u %#x, the time is %s", what, res(got), m[0].msg_len, m[0].msg_hdr.msg_flags, left(&t, &before));
    for (int i = 0; i < got; i++)
        next_in(s, bytes[i], m[i].msg_len);
    return got;
}

static void timeouts(struct stream *s, const char *when, int flags) {
    static const struct {
        const char *what;
        struct timespec t;
    } bad[] = {{"negative", {-1, 0}}, {"negative nanoseconds", {0, -1}}, {"too many nanoseconds", {0, 1000000000}},
               {"far too many", {0, 2000000000}}, {"both", {-5, 2000000000}}};
    say(" %s", when);
    for (int i = 0; i < LEN(bad); i++)
        receive(s, bad[i].what, 1, flags, bad[i].t);
    struct mmsghdr m = {0};
    say("  a timeout at no address: %s", res(recvmmsg(s->fd, &m, 1, flags, at_8)));
    say("  a timeout that cannot be read: %s", res(recvmmsg(s->fd, &m, 1, flags, (struct timespec *)nowhere)));
}

static void pointers(struct stream *s) {
    struct iovec lost = {at_8, 4}, half[2] = {{(char[2]){0}, 2}, {at_8, 4}};
    struct msghdr m = {.msg_iov = &lost, .msg_iovlen = 1}, none = {.msg_iov = at_8, .msg_iovlen = 1};
    struct msghdr many = {.msg_iov = half, .msg_iovlen = (size_t)too_many};
    say("  recvmsg, header: %s", res(recvmsg(s->fd, at_8, MSG_DONTWAIT)));
    say("  recvmsg, parts: %s", res(recvmsg(s->fd, &none, MSG_DONTWAIT)));
    say("  recvmsg, too many parts: %s", res(recvmsg(s->fd, &many, MSG_DONTWAIT)));
    say("  recvmsg, buffer: %s", res(recvmsg(s->fd, &m, MSG_DONTWAIT)));
    say("  recvmmsg, headers: %s", res(recvmmsg(s->fd, at_8, 2, MSG_DONTWAIT, NULL)));
    say("  readv, parts: %s", res(readv(s->fd, at_8, 1)));
    say("  readv, too many: %s", res(readv(s->fd, half, too_many)));
    say("  readv, negative: %s", res(readv(s->fd, half, negative)));
    say("  readv, buffer: %s", res(readv(s->fd, &lost, 1)));
    say("  read: %s", res(read(s->fd, at_8, 4)));
    say("  recv: %s", res(recv(s->fd, at_8, 4, 0)));
    say("  sendmsg, header: %s", res(sendmsg(s->fd, at_8, MSG_NOSIGNAL)));
    say("  sendmsg, parts: %s", res(sendmsg(s->fd, &none, MSG_NOSIGNAL)));
    say("  sendmsg, too many parts: %s", res(sendmsg(s->fd, &many, MSG_NOSIGNAL)));
    say("  sendmsg, buffer: %s", res(sendmsg(s->fd, &m, MSG_NOSIGNAL)));
    say("  sendmmsg, headers: %s", res(sendmmsg(s->fd, at_8, 2, MSG_NOSIGNAL)));
    say("  writev, parts: %s", res(writev(s->fd, at_8, 1)));
    say("  writev, buffer: %s", res(writev(s->fd, &lost, 1)));
    say("  write: %s", res(write(s->fd, at_8, 4)));
    say("  send: %s", res(send(s->fd, at_8, 4, 0)));
}

static void one(int k) {
    struct stream *s = stream_after(k);
    say("after %d exchanges", k);
    timeouts(s, "nothing is there", MSG_DONTWAIT);
    receive(s, "no message", 0, MSG_DONTWAIT, (struct timespec){5, 0});
    receive(s, "nothing to read", 1, MSG_DONTWAIT, (struct timespec){5, 0});
    bring(s, 20);
    timeouts(s, "bytes are there", MSG_DONTWAIT);
    timeouts(s, "bytes are there, and the call may wait", 0);
    int got = receive(s, "one", 1, 0, (struct timespec){5, 0});
    got += receive(s, "two", 2, MSG_DONTWAIT, (struct timespec){5, 999999999});
    got += receive(s, "four of one", 4, MSG_DONTWAIT, (struct timespec){5, 0});
    recv_pattern(s, 20 - 5 * (size_t)(got < 4 ? got : 4));
    /* The time is looked at after each message. */
    bring(s, 20);
    got = receive(s, "no time", 3, 0, (struct timespec){0, 0});
    got += receive(s, "some time, waiting for one", 2, MSG_WAITFORONE, (struct timespec){5, 0});
    recv_pattern(s, 20 - 5 * (size_t)got);
    exchange(s, 3);
    stream_close(s);
}

static void without_address(int k) {
    struct stream *s = stream_after(k);
    say("after %d exchanges", k);
    bring(s, 20);
    pointers(s);
    recv_pattern(s, 20);
    exchange(s, 3);
    stream_close(s);
}

static void sweep(void (*each)(int)) {
    for (int k = 0; k <= SWEEP; k += k < 24 ? 1 : 6)
        each(k);
    each(MOVED);
}

static void messages(void) {
    /* Memory that may not be read. */
    nowhere = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sweep(one);
}

static void bad_pointers(void) {
    sweep(without_address);
}

const struct test_case message_cases[] = {
    {"recvmmsg", messages, "the timeout of recvmmsg"},
    {"bad-pointers", bad_pointers, "pointers that lead nowhere"},
    {NULL, NULL, NULL},
};
