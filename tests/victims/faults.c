/* Streams while the daemon comes to harm. The harness does the harm, at the places that event() names. */
#include "victim.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

/* The longest single non-blocking-by-nature call, in microseconds: a send into room, a recv of what is there. */
static uint64_t longest_send, longest_recv, longest_other;

static void note(uint64_t *longest, uint64_t since) {
    uint64_t took = now_us() - since;
    if (took > *longest)
        *longest = took;
}

static void timed_rounds(struct stream *s, int rounds) {
    char buffer[64];
    for (int i = 0; i < rounds; i++) {
        far_begin(FAR_RECV, s->index, 64, 0, 0);
        next_out(s, buffer, sizeof buffer);
        uint64_t t = now_us();
        if (must(send(s->fd, buffer, sizeof buffer, 0)) != sizeof buffer)
            die("short send");
        note(&longest_send, t);
        far_end();
        far_do(FAR_SEND, s->index, 64, 0, 0);
        await_readable(s, 64);
        t = now_us();
        if (must(recv(s->fd, buffer, sizeof buffer, 0)) != sizeof buffer)
            die("short recv");
        note(&longest_recv, t);
        next_in(s, buffer, sizeof buffer);
        if (i % 16 == 0)
            sleep_ms(1);
    }
}

static void report_longest(void) {
    say("@longest send %llu recv %llu other %llu", (unsigned long long)longest_send,
        (unsigned long long)longest_recv, (unsigned long long)longest_other);
}

static struct stream *timed_open(void) {
    /* near connects (or accepts) and far does the other: the time of both is far's as well, so it is bounded above */
    uint64_t t = now_us();
    struct stream *s = stream_open(AF_INET);
    note(&longest_other, t);
    return s;
}

/* A stream that begins before the harm, one during it, one after it; every call is timed. */
static void harm(void) {
    struct stream *a = timed_open();
    timed_rounds(a, 50);
    event("harm");
    timed_rounds(a, 200);
    struct stream *b = timed_open();
    timed_rounds(b, 400);
    event("heal");
    timed_rounds(a, 200);
    timed_rounds(b, 200);
    struct stream *c = timed_open();
    timed_rounds(c, 400);
    say("all rounds done");
    event("look");
    timed_rounds(a, 20);
    uint64_t t = now_us();
    struct stream *all[] = {a, b, c};
    for (int i = 0; i < 3; i++)
        stream_close(all[i]);
    note(&longest_other, t);
    report_longest();
}

/* Streams that open and talk, one after the other, whatever the daemon does. */
static void steady(void) {
    int n = opt.argc > 0 ? atoi(opt.argv[0]) : 40;
    for (int i = 0; i < n; i++) {
        struct stream *s = timed_open();
        timed_rounds(s, 30);
        far_begin(FAR_DUPLEX, s->index, 100000, 0, 0);
        send_pattern(s, 100000);
        recv_pattern(s, 100000);
        far_end();
        timed_rounds(s, 10);
        stream_close(s);
    }
    say("%d streams", n);
    report_longest();
}

/* Final streams go on when the daemon is killed; new streams pair again with its successor. */
static void restarted(void) {
    struct stream *a = stream_open(AF_INET), *b = stream_open(AF_INET6);
    warm();
    event("harm");
    dialogue(a, 20);
    struct stream *orphan = stream_open(AF_INET);
    dialogue(orphan, 20);
    stream_close(orphan);
    event("heal");
    dialogue(a, 20);
    dialogue(b, 20);
    stream_close(a);
    stream_close(b);
    for (int i = 0; i < 5; i++)
        stream_open(AF_INET);
    warm();
    for (int i = 0; i < 5; i++) {
        dialogue(&streams[3 + i], 20);
        stream_close(&streams[3 + i]);
    }
    say("old and new streams went on");
}

/* A registered number is closed while ipcd has not let go of its copy of the socket: no event of it comes any more. */
static void closed_early(void) {
    struct stream *first = stream_open(AF_INET), *s = stream_open(AF_INET);
    dialogue(first, 5);
    event("harm");
    int ep = (int)must(epoll_create1(EPOLL_CLOEXEC));
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP};
    must(epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &e));
    dialogue(s, 5);
    stream_close(s);
    say("an event after close: %s", res(epoll_wait(ep, &e, 1, 50)));
    event("heal");
    dialogue(first, 5);
    stream_close(first);
}

const struct test_case fault_cases[] = {
    {"harm", harm, "three streams around an event, every call timed"},
    {"steady", steady, "[N]: N streams, every call timed"},
    {"restarted", restarted, "the daemon is killed and started again"},
    {"closed-early", closed_early, "a registered number is closed while the daemon is stopped"},
    {NULL, NULL, NULL},
};
