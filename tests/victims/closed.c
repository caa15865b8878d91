/* After the last descriptor of a stream is closed epoll reports no event of it, whichever process still has a copy of
 * the socket. */
#include "victim.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

enum { BY_CLOSE, AFTER_THE_END, BY_DUP2, BY_CLOSE_RANGE, EDGE, ONE_SHOT, BOTH_WAYS, WAYS };

static int ep;
static long told_of_closed;

/* Each registration has data of its own, so that an event of a registration that no longer exists is recognized. */
static void look(uint64_t closed) {
    struct epoll_event e[8];
    int n = (int)must(epoll_wait(ep, e, LEN(e), 0));
    for (int i = 0; i < n; i++)
        told_of_closed += e[i].data.u64 <= closed;
}

static void end_it(struct stream *s, int way) {
    int null;
    switch (way) {
    case BY_DUP2:
        null = (int)must(open("/dev/null", O_RDONLY | O_CLOEXEC));
        must(dup2(null, s->fd));
        must(close(null));
        break;
    case BY_CLOSE_RANGE:
        must(close_range((unsigned)s->fd, (unsigned)s->fd, 0));
        return;
    }
    must(close(s->fd));
}

static void one(int k, uint64_t number, bool stopped) {
    static const uint32_t more[WAYS] = {[EDGE] = EPOLLET, [ONE_SHOT] = EPOLLONESHOT, [BOTH_WAYS] = EPOLLOUT};
    int way = k == MOVED ? 0 : k % WAYS;
    struct stream *s = stream_open(AF_INET);
    struct epoll_event e = {.events = EPOLLIN | EPOLLRDHUP | more[way], .data.u64 = number};
    if (k == MOVED)
        warm_always();
    exchange(s, k / 2);
    must(epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &e));
    exchange(s, k - k / 2);
    if (stopped)
        event("stop");
    /* These exchanges take up the messages that ipcd has sent by now; if ipcd is stopped, it does not hear of that. */
    exchange(s, k % 5);
    if (way == AFTER_THE_END) {
        far_do(FAR_SHUT, s->index, SHUT_WR, 0, 0);
        char byte;
        if (must(read(s->fd, &byte, 1)) != 0)
            die("something came instead of the end");
    } else if (k % 2) {
        far_do(FAR_SEND, s->index, 8, 0, 0); /* unread: the close is a reset */
    }
    end_it(s, way);
    s->open = false;
    look(number);
    if (way == AFTER_THE_END)
        far_do(FAR_RECV_EOF, s->index, 0, 0, 0);
    else
        far_do(FAR_POLL, s->index, POLLIN, 5000, 0);
    look(number);
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
    for (int i = 0; i < 20; i++)
        look(number);
    if (stopped)
        event("go on");
    look(number);
}

static void closed(void) {
    uint64_t number = 0;
    ep = (int)must(epoll_create1(EPOLL_CLOEXEC));
    for (int stopped = 0; stopped < 2; stopped++) {
        told_of_closed = 0;
        for (int k = 0; k <= MOVED; k++)
            one(k, ++number, stopped);
        say("%s: %ld events of closed streams", stopped ? "ipcd stops" : "ipcd runs", told_of_closed);
    }
}

const struct test_case closed_cases[] = {
    {"closed", closed, "no event of a stream after its number is closed"},
    {NULL, NULL, NULL},
};
