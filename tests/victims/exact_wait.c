/* Every way to wait, chosen at random, and the loop that serves several ends from one thread. */
#include "exact.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>

extern int __poll_chk(struct pollfd *, nfds_t, int, size_t);
extern int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);

enum { POLL_LIKE, LEVEL, EDGE, ONE_SHOT };

/* poll by one of six names */
static int poll_somehow(struct pollfd *p, int n, int timeout_ms, struct tools *t) {
    struct timespec ts = {timeout_ms / 1000, (long)(timeout_ms % 1000) * 1000000}, *limit = timeout_ms < 0 ? NULL : &ts;
    struct timeval tv = {timeout_ms / 1000, (timeout_ms % 1000) * 1000};
    uint64_t way = rng_below(&t->rng, 6);
    fd_set r, w;
    int max = -1, ready;
    FD_ZERO(&r);
    FD_ZERO(&w);
    for (int i = 0; i < n; i++) {
        if (p[i].fd >= FD_SETSIZE)
            way = 0;
        max = p[i].fd > max ? p[i].fd : max;
    }
    switch (way) {
    case 0:
        return poll(p, (nfds_t)n, timeout_ms);
    case 1:
        return ppoll(p, (nfds_t)n, limit, NULL);
    case 2:
        return __poll_chk(p, (nfds_t)n, timeout_ms, sizeof *p * (size_t)n);
    case 3:
        return __ppoll_chk(p, (nfds_t)n, limit, NULL, sizeof *p * (size_t)n);
    default:
        for (int i = 0; i < n; i++) {
            if (p[i].fd >= 0 && p[i].events & POLLIN)
                FD_SET(p[i].fd, &r);
            if (p[i].fd >= 0 && p[i].events & POLLOUT)
                FD_SET(p[i].fd, &w);
        }
        ready = way == 4 ? select(max + 1, &r, &w, NULL, timeout_ms < 0 ? NULL : &tv)
                         : pselect(max + 1, &r, &w, NULL, limit, NULL);
        for (int i = 0; i < n; i++)
            p[i].revents = (short)(p[i].fd < 0 || ready <= 0 ? 0
                                                              : (FD_ISSET(p[i].fd, &r) ? POLLIN : 0) |
                                                                    (FD_ISSET(p[i].fd, &w) ? POLLOUT : 0));
        return ready;
    }
}

void wait_somehow(struct end *e, short events, int timeout_ms, struct tools *t) {
    struct pollfd p = {e->fd, events, 0};
    if (rng_below(&t->rng, 4)) {
        poll_somehow(&p, 1, timeout_ms, t);
        return;
    }
    struct epoll_event event = {.events = (uint32_t)events}, got;
    if (rng_below(&t->rng, 2))
        event.events |= rng_below(&t->rng, 2) ? EPOLLET : EPOLLONESHOT;
    int ep = (int)must(epoll_create1(EPOLL_CLOEXEC));
    must(epoll_ctl(ep, EPOLL_CTL_ADD, e->fd, &event));
    epoll_wait(ep, &got, 1, timeout_ms);
    close(ep);
}

static bool more(struct half *h) {
    return h->done < h->total;
}

static bool finished(struct end *e) {
    return !more(&e->in) && !more(&e->out);
}

static uint32_t wanted(struct end *e) {
    return (more(&e->in) ? EPOLLIN : 0u) | (more(&e->out) ? EPOLLOUT : 0u);
}

/* Serves one end: a few calls, or (edge) as many as do not have to wait. */
static void serve(struct end *e, uint32_t ready, bool until_empty, struct tools *t) {
    int calls = 1 + (int)rng_below(&t->rng, 4);
    if (ready & (EPOLLOUT | EPOLLERR | EPOLLHUP))
        for (int i = 0; more(&e->out) && (until_empty || i < calls); i++)
            if (move_out(e, t) < 0)
                break;
    if (ready & (EPOLLIN | EPOLLERR | EPOLLHUP | EPOLLRDHUP))
        for (int i = 0; more(&e->in) && (until_empty || i < calls); i++)
            if (move_in(e, t) < 0)
                break;
    pause_sometimes(t);
}

static void loop_poll(struct end **ends, int n, struct tools *t) {
    struct pollfd p[64];
    for (;;) {
        int live = 0;
        for (int i = 0; i < n; i++) {
            bool done = finished(ends[i]);
            p[i] = (struct pollfd){done ? -1 : ends[i]->fd, (short)wanted(ends[i]), 0};
            live += !done;
        }
        if (!live)
            return;
        if (poll_somehow(p, n, 60000, t) == 0)
            die("stream %d: nothing was ready for a minute", ends[0]->id);
        for (int i = 0; i < n; i++)
            if (p[i].fd >= 0 && p[i].revents)
                serve(ends[i], (uint32_t)p[i].revents, false, t);
    }
}

static void loop_epoll(struct end **ends, int n, int way, struct tools *t) {
    int ep = (int)must(epoll_create1(EPOLL_CLOEXEC)), live = 0;
    uint32_t mode = way == EDGE ? EPOLLET : way == ONE_SHOT ? EPOLLONESHOT : 0;
    for (int i = 0; i < n; i++) {
        struct epoll_event e = {.events = wanted(ends[i]) | mode, .data.ptr = ends[i]};
        if (finished(ends[i]))
            continue;
        must(epoll_ctl(ep, EPOLL_CTL_ADD, ends[i]->fd, &e));
        live++;
    }
    while (live > 0) {
        struct epoll_event got[16];
        int count = (int)must(epoll_wait(ep, got, 1 + (int)rng_below(&t->rng, 16), 60000));
        if (count == 0)
            die("stream %d: no event for a minute (way %d)", ends[0]->id, way);
        for (int i = 0; i < count; i++) {
            struct end *e = got[i].data.ptr;
            uint32_t before = wanted(e);
            serve(e, got[i].events, way == EDGE, t);
            struct epoll_event next = {.events = wanted(e) | mode, .data.ptr = e};
            if (finished(e)) {
                must(epoll_ctl(ep, EPOLL_CTL_DEL, e->fd, NULL));
                live--;
            } else if (way == ONE_SHOT || before != wanted(e)) {
                must(epoll_ctl(ep, EPOLL_CTL_MOD, e->fd, &next));
            }
        }
    }
    close(ep);
}

void run_events(struct end **ends, int n, struct tools *t) {
    int way = (int)rng_below(&t->rng, 4);
    if (way == POLL_LIKE)
        loop_poll(ends, n, t);
    else
        loop_epoll(ends, n, way, t);
}
