/* Waiting by poll, ppoll, select and pselect, and by their fortified names. */
#include "victim.h"

#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <time.h>

#define ALL (POLLIN | POLLPRI | POLLOUT | POLLRDHUP | POLLRDNORM | POLLWRNORM)

extern int __poll_chk(struct pollfd *, nfds_t, int, size_t);
extern int __ppoll_chk(struct pollfd *, nfds_t, const struct timespec *, const sigset_t *, size_t);

/* Every way to ask "what is ready within ms" must give the same answer; the answer is printed once per way. */
static void ask(struct stream *s, const char *when, int ms) {
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    for (int way = 0; way < 6; way++) {
        static const char *const ways[] = {"poll", "ppoll", "poll_chk", "ppoll_chk", "poll for IN", "poll for nothing"};
        struct pollfd p = {s->fd, way < 4 ? ALL : way == 4 ? POLLIN : 0, 0};
        int n = way == 1   ? ppoll(&p, 1, &t, NULL)
                : way == 2 ? __poll_chk(&p, 1, ms, sizeof p)
                : way == 3 ? __ppoll_chk(&p, 1, &t, NULL, sizeof p)
                           : poll(&p, 1, way == 5 && ms > 20 ? 20 : ms);
        say("%s: %s %s %s", when, ways[way], res(n), p.revents ? name_poll(p.revents) : "-");
    }
    for (int way = 0; way < 2; way++) {
        fd_set r, w, e;
        FD_ZERO(&r);
        FD_ZERO(&w);
        FD_ZERO(&e);
        FD_SET(s->fd, &r);
        FD_SET(s->fd, &w);
        FD_SET(s->fd, &e);
        struct timeval v = {ms / 1000, (ms % 1000) * 1000};
        int n = way ? pselect(s->fd + 1, &r, &w, &e, &t, NULL) : select(s->fd + 1, &r, &w, &e, &v);
        say("%s: %s %s%s%s%s", when, way ? "pselect" : "select", res(n), FD_ISSET(s->fd, &r) ? " read" : "",
            FD_ISSET(s->fd, &w) ? " write" : "", FD_ISSET(s->fd, &e) ? " except" : "");
        FD_ZERO(&r);
        FD_SET(s->fd, &r);
        v = (struct timeval){ms / 1000, (ms % 1000) * 1000};
        n = way ? pselect(s->fd + 1, &r, NULL, NULL, &t, NULL) : select(s->fd + 1, &r, NULL, NULL, &v);
        say("%s: %s for reading %s", when, way ? "pselect" : "select", res(n));
    }
}

static void readiness(void) {
    struct stream *s = stream_open(AF_INET);
    warm();
    ask(s, "idle", 30);
    far_do(FAR_SEND, s->index, 100, 0, 0);
    wait_for(s->fd, POLLIN, PATIENCE_MS);
    ask(s, "data", PATIENCE_MS);
    recv_pattern(s, 100);
    ask(s, "drained", 0);
    long sent = (long)fill(s);
    ask(s, "full", 20);
    say("far received all = %d", far_do(FAR_RECV, s->index, sent, 0, 0).value == sent);
    say("writable again: %s", name_poll((short)wait_for(s->fd, POLLOUT, PATIENCE_MS)));
    dialogue(s, 5);
    far_do(FAR_SEND, s->index, 50, 0, 0);
    far_do(FAR_SHUT, s->index, SHUT_WR, 0, 0);
    wait_for(s->fd, POLLRDHUP, PATIENCE_MS);
    ask(s, "half-closed with data", PATIENCE_MS);
    recv_pattern(s, 50);
    ask(s, "half-closed", PATIENCE_MS);
    must(shutdown(s->fd, SHUT_WR));
    wait_for(s->fd, POLLHUP, PATIENCE_MS);
    ask(s, "closed both ways", PATIENCE_MS);
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
    close(s->fd);
}

/* One call that waits for several streams and for numbers that are not open. */
static void several(void) {
    struct stream *all[12];
    int pipes[2];
    struct pollfd p[15];
    must(pipe(pipes));
    for (int i = 0; i < 12; i++)
        all[i] = stream_open(i % 4 == 3 ? AF_INET6 : AF_INET);
    warm();
    for (int round = 0; round < 24; round++) {
        int n = 0, chosen = round % 12;
        for (; n < 12; n++)
            p[n] = (struct pollfd){all[n]->fd, POLLIN, 0};
        p[n++] = (struct pollfd){pipes[0], POLLIN, 0};
        p[n++] = (struct pollfd){-1, POLLIN, 0};
        p[n++] = (struct pollfd){9999, POLLIN, 0};
        if (round % 2)
            p[n - 1].fd = -1;
        far_begin(FAR_SEND, chosen, 20, 20, 3000);
        int ready = poll(p, (nfds_t)n, PATIENCE_MS);
        while (round % 2 == 0 && !p[chosen].revents) /* 9999 is ready at once */
            ready = poll(p, (nfds_t)n, PATIENCE_MS);
        say("round %d: %s stream %s, pipe %s, 9999 %s", round, res(ready), name_poll(p[chosen].revents),
            p[12].revents ? name_poll(p[12].revents) : "-", p[14].revents ? name_poll(p[14].revents) : "-");
        far_end();
        recv_pattern(all[chosen], 20);
        fd_set r;
        FD_ZERO(&r);
        int max = pipes[0];
        FD_SET(pipes[0], &r);
        for (int i = 0; i < 12; i++) {
            FD_SET(all[i]->fd, &r);
            max = all[i]->fd > max ? all[i]->fd : max;
        }
        struct timeval v = {PATIENCE_MS / 1000, 0};
        if (round % 3 == 0)
            write_all(pipes[1], "x", 1);
        else
            far_begin(FAR_SEND, chosen, 20, 20, 3000);
        ready = select(max + 1, &r, NULL, NULL, &v);
        say("round %d: select %s stream %d pipe %d", round, res(ready), FD_ISSET(all[chosen]->fd, &r) != 0,
            FD_ISSET(pipes[0], &r) != 0);
        if (round % 3 == 0) {
            char byte;
            must(read(pipes[0], &byte, 1));
        } else {
            far_end();
            recv_pattern(all[chosen], 20);
        }
    }
    for (int i = 0; i < 12; i++)
        stream_close(all[i]);
}

/* A thread that is already waiting when the stream moves must still be woken by what comes after. */
struct waiter {
    struct stream *s;
    int way, epoll;
    int revents;
    atomic_int tid;
};

static void *wait_thread(void *arg) {
    struct waiter *w = arg;
    w->tid = gettid();
    struct pollfd p = {w->s->fd, POLLIN, 0};
    struct epoll_event e = {0};
    fd_set r;
    FD_ZERO(&r);
    FD_SET(w->s->fd, &r);
    switch (w->way) {
    case 0:
        w->revents = poll(&p, 1, PATIENCE_MS) == 1 && p.revents == POLLIN;
        break;
    case 1:
        w->revents = ppoll(&p, 1, NULL, NULL) == 1 && p.revents == POLLIN;
        break;
    case 2:
        w->revents = select(w->s->fd + 1, &r, NULL, NULL, NULL) == 1;
        break;
    case 3:
        w->revents = pselect(w->s->fd + 1, &r, NULL, NULL, NULL, NULL) == 1;
        break;
    default:
        w->revents = epoll_wait(w->epoll, &e, 1, PATIENCE_MS) == 1 && e.events == EPOLLIN;
    }
    return NULL;
}

static void waiting_across(void) {
    static const char *const names[] = {"poll", "ppoll", "select", "pselect", "epoll_wait"};
    for (int way = 0; way < 5; way++) {
        struct stream *s = stream_open(AF_INET);
        struct waiter w = {s, way, epoll_create1(EPOLL_CLOEXEC), 0, 0};
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = s};
        must(epoll_ctl(w.epoll, EPOLL_CTL_ADD, s->fd, &e));
        pthread_t thread;
        must(-pthread_create(&thread, NULL, wait_thread, &w));
        await_thread_asleep(&w.tid);
        /* one-way traffic while the other thread waits */
        for (int i = 0; i < 100; i++) {
            far_begin(FAR_RECV, s->index, 64, 0, 0);
            send_pattern(s, 64);
            far_end();
            sleep_ms(1);
        }
        far_do(FAR_SEND, s->index, 10, 0, 0);
        pthread_join(thread, NULL);
        say("the waiting %s saw the data: %d", names[way], w.revents);
        recv_pattern(s, 10);
        close(w.epoll);
        warm_always();
        dialogue(s, 10);
        stream_close(s);
    }
}

/* A waiting thread is woken by the end of the stream, too. */
static void waiting_for_the_end(void) {
    for (int way = 0; way < 2; way++) {
        struct stream *s = stream_open(AF_INET);
        warm();
        struct pollfd p = {s->fd, POLLIN | POLLRDHUP, 0};
        far_begin(way ? FAR_SHUT : FAR_CLOSE, s->index, SHUT_WR, 0, 0);
        int n = poll(&p, 1, PATIENCE_MS);
        say("%s: %s %s", way ? "shutdown" : "close", res(n), name_poll(p.revents & (POLLIN | POLLRDHUP)));
        far_end();
        if (way)
            far_do(FAR_CLOSE, s->index, 0, 0, 0);
        say("recv %s", res(recv(s->fd, &p, 1, 0)));
        close(s->fd);
        s->open = false;
    }
}

const struct test_case wait_cases[] = {
    {"readiness", readiness, "every way to wait, in every state of a stream"},
    {"several", several, "one call that waits for many streams"},
    {"waiting-across", waiting_across, "a wait that begins before the stream moves"},
    {"waiting-for-the-end", waiting_for_the_end, "a wait that the end of the stream ends"},
    {NULL, NULL, NULL},
};
