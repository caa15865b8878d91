/* A wait that reports one stream reports every other one that had bytes before it: servers serve in this order. */
#include "victim.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/select.h>

#define N 6
#define ALL ((1 << N) - 1)

enum {
    EPOLL, EPOLL_NOW, EPOLL_ASLEEP, EPOLL_SHARED, EPOLL_BESIDE, POLL, POLL_NOW, POLL_ASLEEP, POLL_BESIDE, SELECT, SELECT_NOW,
    SELECT_ASLEEP, SELECT_BESIDE, WAYS,
};
static const struct {
    const char *name;
    bool asleep; /* far writes while near waits */
    bool beside; /* another thread writes to the first stream meanwhile */
} ways[] = {
    [EPOLL] = {"epoll_wait", 0, 0},
    [EPOLL_NOW] = {"epoll_wait, 0 ms", 0, 0},
    [EPOLL_ASLEEP] = {"epoll_wait, asleep", 1, 0},
    [EPOLL_SHARED] = {"epoll_wait, two threads", 0, 0},
    [EPOLL_BESIDE] = {"epoll_wait, beside a writer", 0, 1},
    [POLL] = {"poll", 0, 0},
    [POLL_NOW] = {"poll, 0 ms", 0, 0},
    [POLL_ASLEEP] = {"poll, asleep", 1, 0},
    [POLL_BESIDE] = {"poll, beside a writer", 0, 1},
    [SELECT] = {"select", 0, 0},
    [SELECT_NOW] = {"select, 0 ms", 0, 0},
    [SELECT_ASLEEP] = {"select, asleep", 1, 0},
    [SELECT_BESIDE] = {"select, beside a writer", 0, 1},
};

static int ep;
static struct stream *group[N];
static atomic_int shared, twice;

static int by_epoll(int timeout) {
    struct epoll_event e[8];
    int seen = 0, n = (int)must(epoll_wait(ep, e, LEN(e), timeout));
    for (int i = 0; i < n; i++)
        seen |= 1 << e[i].data.u32;
    return seen;
}

/* Takes bytes until there are none. Each registration is good for one event. */
static void *taker(void *unused) {
    (void)unused;
    for (int seen; (seen = by_epoll(0)) != 0;)
        twice |= atomic_fetch_or(&shared, seen) & seen;
    return NULL;
}

static int by_two_threads(void) {
    pthread_t threads[2];
    shared = 0;
    for (int i = 0; i < LEN(threads); i++)
        must(-pthread_create(&threads[i], NULL, taker, NULL));
    for (int i = 0; i < LEN(threads); i++)
        must(-pthread_join(threads[i], NULL));
    if (twice)
        die("one shot was given twice");
    return shared;
}

static int by_poll(int timeout) {
    struct pollfd p[N];
    int seen = 0;
    for (int i = 0; i < N; i++)
        p[i] = (struct pollfd){group[i]->fd, POLLIN, 0};
    must(poll(p, N, timeout));
    for (int i = 0; i < N; i++)
        seen |= p[i].revents & POLLIN ? 1 << i : 0;
    return seen;
}

static int by_select(struct timeval *timeout) {
    fd_set set;
    int seen = 0;
    FD_ZERO(&set);
    for (int i = 0; i < N; i++)
        FD_SET(group[i]->fd, &set);
    must(select(1024, &set, NULL, NULL, timeout));
    for (int i = 0; i < N; i++)
        seen |= FD_ISSET(group[i]->fd, &set) ? 1 << i : 0;
    return seen;
}

static int look(int way) {
    switch (way) {
    case EPOLL_SHARED:
        return by_two_threads();
    case POLL:
    case POLL_ASLEEP:
        return by_poll(-1);
    case POLL_NOW:
    case POLL_BESIDE:
        return by_poll(0);
    case SELECT:
    case SELECT_ASLEEP:
        return by_select(NULL);
    case SELECT_NOW:
    case SELECT_BESIDE:
        return by_select(&(struct timeval){0, 0});
    default:
        return by_epoll(way == EPOLL || way == EPOLL_ASLEEP ? -1 : 0);
    }
}

static atomic_bool writing;

static void *writer(void *unused) {
    (void)unused;
    writing = true;
    send_pattern(group[0], 8);
    return NULL;
}

/* All bytes are there before the wait. */
static bool leaves_out(int way) {
    pthread_t thread;
    writing = false;
    if (ways[way].beside) {
        must(-pthread_create(&thread, NULL, writer, NULL));
        while (!writing)
            sched_yield();
    }
    int seen = look(way);
    if (ways[way].beside)
        must(-pthread_join(thread, NULL));
    return seen != ALL;
}

static bool has_gap(int seen) {
    return (seen & (seen + 1)) != 0;
}

/* The bytes come one after the other. It is wrong if a wait reports one stream, and not another whose bytes came
 * before. poll and select look at one stream after the other, so bytes may come on a stream they have passed, before
 * those that they find later: the next look finds both. */
static bool swaps(int way) {
    int seen = 0;
    while (seen != ALL && !has_gap(seen)) {
        seen |= look(way);
        if (has_gap(seen) && way >= POLL)
            seen |= look(way);
    }
    return has_gap(seen);
}

static void arm(int op, int way) {
    for (int i = 0; i < N; i++) {
        struct epoll_event e = {.events = EPOLLIN | (way == EPOLL_SHARED ? EPOLLONESHOT : 0), .data.u32 = (uint32_t)i};
        must(epoll_ctl(ep, op, group[i]->fd, &e));
    }
}

/* Far writes to one stream after the other. Returns whether a wait that reported a later one left out an earlier one.
 * */
static bool left_out(int way) {
    for (int i = 0; i < N; i++) {
        far_begin(FAR_SEND, group[i]->index, 8, 0, 0);
        if (!ways[way].asleep)
            far_end();
    }
    for (int i = 0; i < N && !ways[way].asleep; i++)
        settle(group[i]->fd, 8);
    bool wrong = ways[way].asleep ? swaps(way) : leaves_out(way);
    for (int i = 0; i < N; i++) {
        if (ways[way].asleep)
            far_end();
        recv_pattern(group[i], 8);
        far_begin(FAR_RECV, group[i]->index, 8, 0, 0);
        if (i > 0 || !ways[way].beside)
            send_pattern(group[i], 8);
        far_end();
    }
    return wrong;
}

static void one_way(int way) {
    int wrong = 0, rounds = 0;
    ep = (int)must(epoll_create1(EPOLL_CLOEXEC));
    group[N - 1] = stream_after(MOVED);
    for (int k = way % 2; k <= SWEEP; k += 2) {
        for (int i = 0; i < N - 1; i++)
            group[i] = stream_after((k + i) / 2);
        arm(EPOLL_CTL_ADD, way);
        for (int i = 0; i < 8; i++, rounds++) {
            wrong += left_out(way);
            if (way == EPOLL_SHARED)
                arm(EPOLL_CTL_MOD, way);
        }
        must(epoll_ctl(ep, EPOLL_CTL_DEL, group[N - 1]->fd, NULL));
        for (int i = 0; i < N - 1; i++)
            stream_close(group[i]);
    }
    stream_close(group[N - 1]);
    must(close(ep));
    say("%s: left out %d times in %d", ways[way].name, wrong, rounds);
}

static void by_epolls(void) {
    for (int way = 0; way < POLL; way++)
        one_way(way);
}

static void by_polls(void) {
    for (int way = POLL; way < WAYS; way++)
        one_way(way);
}

const struct test_case order_cases[] = {
    {"order-epoll", by_epolls, "a wait leaves out no stream that had bytes before another one"},
    {"order-poll", by_polls, "the same with poll and select"},
    {NULL, NULL, NULL},
};
