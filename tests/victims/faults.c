/* Streams while the daemon is killed or stopped. The harness does that at the places that event() names. */
#include "victim.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

/* How long the thread slept at most, in microseconds, in a call that need not wait: a send for which there is room, a
 * recv of bytes that are there. Waiting for a processor does not count as sleep: that depends on the machine, and tells
 * nothing about the call. */
static uint64_t longest_send, longest_recv, longest_other;

struct moment {
    uint64_t time, awake; /* us; awake: had a processor, or waited for one */
    long sleeps;
};

/* The times that the kernel keeps of this thread (/proc/PID/schedstat, sched-stats.rst); 0 where it keeps none. */
static uint64_t awake_us(void) {
    static _Thread_local int fd;
    char text[100] = "";
    unsigned long long had = 0, waited = 0;
    if (fd == 0)
        fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (fd > 0 && pread(fd, text, sizeof text - 1, 0) > 0)
        sscanf(text, "%llu %llu", &had, &waited);
    return (had + waited) / 1000;
}

static struct moment now(void) {
    struct rusage usage;
    must(getrusage(RUSAGE_THREAD, &usage));
    uint64_t awake = awake_us();
    return (struct moment){now_us(), awake, usage.ru_nvcsw};
}

static void note(uint64_t *longest, struct moment since) {
    struct moment end = now();
    uint64_t took = end.time - since.time, awake = end.awake - since.awake;
    if (end.sleeps != since.sleeps && took > awake && took - awake > *longest)
        *longest = took - awake;
}

static void timed_rounds(struct stream *s, int rounds) {
    char buffer[64];
    for (int i = 0; i < rounds; i++) {
        far_begin(FAR_RECV, s->index, 64, 0, 0);
        next_out(s, buffer, sizeof buffer);
        struct moment t = now();
        if (must(send(s->fd, buffer, sizeof buffer, 0)) != sizeof buffer)
            die("short send");
        note(&longest_send, t);
        far_end();
        far_do(FAR_SEND, s->index, 64, 0, 0);
        await_readable(s, 64);
        t = now();
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
    struct moment t = now();
    struct stream *s = stream_open(AF_INET);
    note(&longest_other, t);
    /* A program that was never seen to wait for a stream keeps it on TCP, and these calls never wait. */
    wait_for(s->fd, POLLOUT, 1000);
    return s;
}

/* From hold() on the case repeats its calls until the harness has seen enough. */
static void hold(void) {
    say("@hold");
}

static bool let_go(void) {
    char answer[8];
    bool held = getenv("VICTIM_HOLD") != NULL;
    if (held && !wait_for(0, POLLIN, 0))
        return false;
    if (held && read(0, answer, 3) != 3)
        die("the harness let go");
    return true;
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
    hold();
    while (!let_go())
        timed_rounds(c, 10);
    timed_rounds(a, 20);
    struct moment t = now();
    struct stream *all[] = {a, b, c};
    for (int i = 0; i < 3; i++)
        stream_close(all[i]);
    note(&longest_other, t);
    report_longest();
}

/* Streams that open and talk, one after the other, whatever the daemon does: at least this many. */
static void steady(void) {
    int n = opt.argc > 0 ? atoi(opt.argv[0]) : 40;
    hold();
    for (int i = 0; i < n || (i < MAX_STREAMS && !let_go()); i++) {
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

/* A registered number is closed while ipcd still has its copy of the socket: no event of it comes any more. */
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
