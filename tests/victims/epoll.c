/* epoll: level, edge, one-shot, exclusive, several instances, several threads, many sockets. */
#include "victim.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>

static int add(int ep, int fd, uint32_t events, uint64_t data) {
    struct epoll_event e = {.events = events, .data.u64 = data};
    return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
}

static int mod(int ep, int fd, uint32_t events, uint64_t data) {
    struct epoll_event e = {.events = events, .data.u64 = data};
    return epoll_ctl(ep, EPOLL_CTL_MOD, fd, &e);
}

static int instance(void) {
    return (int)must(epoll_create1(EPOLL_CLOEXEC));
}

/* Prints the result of one epoll_wait. */
static void look(int ep, const char *when, int ms) {
    struct epoll_event e[4] = {0};
    int n = epoll_wait(ep, e, 4, ms);
    if (n == 1)
        say("%s: %s data %llx", when, name_epoll(e[0].events), (unsigned long long)e[0].data.u64);
    else
        say("%s: %s", when, res(n));
}

/* An edge may be repeated by a move; programs must bear that from the kernel as well. */
static void swallow(int ep) {
    struct epoll_event e[4];
    while (epoll_wait(ep, e, 4, 0) > 0) {
    }
}

static void level(void) {
    struct stream *s = stream_open(AF_INET);
    int ep = instance();
    must(add(ep, s->fd, EPOLLIN | EPOLLRDHUP, 0xabcdef0123456789u));
    warm();
    look(ep, "idle", 20);
    far_do(FAR_SEND, s->index, 100, 0, 0);
    look(ep, "data", PATIENCE_MS);
    look(ep, "data again", PATIENCE_MS);
    recv_pattern(s, 60);
    look(ep, "some left", PATIENCE_MS);
    recv_pattern(s, 40);
    look(ep, "drained", 20);
    must(mod(ep, s->fd, EPOLLIN | EPOLLOUT, 7));
    look(ep, "and writable", PATIENCE_MS);
    must(mod(ep, s->fd, 0, 8));
    far_do(FAR_SEND, s->index, 10, 0, 0);
    look(ep, "no events wanted", 20);
    must(mod(ep, s->fd, EPOLLIN, 9));
    look(ep, "wanted again", PATIENCE_MS);
    recv_pattern(s, 10);
    must(epoll_ctl(ep, EPOLL_CTL_DEL, s->fd, NULL));
    far_do(FAR_SEND, s->index, 10, 0, 0);
    look(ep, "removed", 20);
    must(add(ep, s->fd, EPOLLIN, 10));
    look(ep, "added again", PATIENCE_MS);
    recv_pattern(s, 10);
    dialogue(s, 5);
    swallow(ep);
    stream_close(s);
    look(ep, "closed", 20);
}

static void edge(void) {
    struct stream *s = stream_open(AF_INET);
    int ep = instance(), both = instance();
    set_nonblocking(s->fd, true);
    must(add(ep, s->fd, EPOLLIN | EPOLLET | EPOLLRDHUP, 1));
    must(add(both, s->fd, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, 2));
    look(both, "new", PATIENCE_MS);
    warm();
    swallow(ep);
    swallow(both);
    look(ep, "idle", 20);
    far_do(FAR_SEND, s->index, 100, 0, 0);
    look(ep, "data", PATIENCE_MS);
    look(ep, "no second edge", 20);
    recv_pattern(s, 50);
    look(ep, "some read", 20);
    far_do(FAR_SEND, s->index, 10, 0, 0);
    look(ep, "more data", PATIENCE_MS);
    recv_pattern(s, 60);
    look(ep, "drained", 20);
    look(both, "the other instance", PATIENCE_MS);
    must(mod(ep, s->fd, EPOLLIN | EPOLLOUT | EPOLLET, 3));
    look(ep, "modified", PATIENCE_MS);
    far_do(FAR_SHUT, s->index, SHUT_WR, 0, 0);
    wait_for(s->fd, POLLRDHUP, PATIENCE_MS);
    struct epoll_event e = {0};
    int n = epoll_wait(both, &e, 1, PATIENCE_MS);
    say("half-closed: %d IN %d RDHUP %d HUP %d", n, !!(e.events & EPOLLIN), !!(e.events & EPOLLRDHUP),
        !!(e.events & EPOLLHUP));
    say("recv %s", res(recv(s->fd, &e, 1, 0)));
    must(shutdown(s->fd, SHUT_WR));
    wait_for(s->fd, POLLHUP, PATIENCE_MS);
    n = epoll_wait(both, &e, 1, PATIENCE_MS);
    say("closed both ways: %d %s", n, name_epoll(e.events));
    close(s->fd);
}

static void one_shot(void) {
    struct stream *s = stream_open(AF_INET);
    int ep = instance(), disarmed = instance();
    must(add(ep, s->fd, EPOLLIN | EPOLLONESHOT, 1));
    must(add(disarmed, s->fd, EPOLLOUT | EPOLLONESHOT, 2));
    look(disarmed, "first shot", PATIENCE_MS);
    warm();
    look(disarmed, "still disarmed", 20);
    swallow(ep);
    must(mod(ep, s->fd, EPOLLIN | EPOLLONESHOT, 3));
    look(ep, "idle", 20);
    far_do(FAR_SEND, s->index, 100, 0, 0);
    look(ep, "shot", PATIENCE_MS);
    look(ep, "only one", 20);
    recv_pattern(s, 100);
    far_do(FAR_SEND, s->index, 10, 0, 0);
    look(ep, "disarmed", 20);
    must(mod(ep, s->fd, EPOLLIN | EPOLLONESHOT | EPOLLET, 4));
    look(ep, "armed again", PATIENCE_MS);
    recv_pattern(s, 10);
    must(mod(disarmed, s->fd, EPOLLOUT | EPOLLONESHOT, 5));
    look(disarmed, "armed again", PATIENCE_MS);
    look(disarmed, "only one", 20);
    dialogue(s, 5);
    stream_close(s);
}

static void half_close(void) {
    struct stream *s = stream_open(AF_INET);
    int ep = instance(), plain = instance();
    must(add(ep, s->fd, EPOLLIN | EPOLLRDHUP | EPOLLOUT, 1));
    must(add(plain, s->fd, EPOLLIN, 2));
    warm();
    far_do(FAR_SEND, s->index, 30, 0, 0);
    far_do(FAR_SHUT, s->index, SHUT_WR, 0, 0);
    wait_for(s->fd, POLLRDHUP, PATIENCE_MS);
    look(ep, "peer shut, data left", PATIENCE_MS);
    look(plain, "peer shut, data left", PATIENCE_MS);
    recv_pattern(s, 30);
    look(ep, "peer shut", PATIENCE_MS);
    look(plain, "peer shut", PATIENCE_MS);
    far_begin(FAR_RECV, s->index, 50, 0, 0);
    send_pattern(s, 50);
    say("far received = %ld", far_end().value);
    must(shutdown(s->fd, SHUT_WR));
    wait_for(s->fd, POLLHUP, PATIENCE_MS);
    look(ep, "both shut", PATIENCE_MS);
    look(plain, "both shut", PATIENCE_MS);
    say("far's poll %s", name_poll((short)far_do(FAR_POLL, s->index, POLLIN | POLLRDHUP, PATIENCE_MS, 0).value));
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
    close(s->fd);
}

static void own_half_close(void) {
    struct stream *s = stream_open(AF_INET);
    int ep = instance();
    must(add(ep, s->fd, EPOLLIN | EPOLLRDHUP, 1));
    warm();
    must(shutdown(s->fd, SHUT_WR));
    look(ep, "we shut", 20);
    far_do(FAR_RECV_EOF, s->index, 0, 0, 0);
    far_do(FAR_SEND, s->index, 30, 0, 0);
    look(ep, "data after it", PATIENCE_MS);
    recv_pattern(s, 30);
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
    wait_for(s->fd, POLLHUP, PATIENCE_MS);
    look(ep, "both shut", PATIENCE_MS);
    say("recv %s", res(recv(s->fd, &ep, 1, 0)));
    close(s->fd);
}

/* The same socket, and a duplicate of it, in several instances with their own masks and data. */
static void several_instances(void) {
    struct stream *s = stream_open(AF_INET);
    int a = instance(), b = instance(), c = instance(), other = (int)must(dup(s->fd));
    must(add(a, s->fd, EPOLLIN, 1));
    must(add(b, s->fd, EPOLLIN | EPOLLOUT, 2));
    must(add(c, other, EPOLLIN, 3));
    must(add(c, s->fd, EPOLLOUT, 4));
    warm();
    far_do(FAR_SEND, s->index, 10, 0, 0);
    wait_for(s->fd, POLLIN, PATIENCE_MS);
    look(a, "a", PATIENCE_MS);
    look(b, "b", PATIENCE_MS);
    struct epoll_event e[4];
    int n = epoll_wait(c, e, 4, PATIENCE_MS);
    uint64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += e[i].data.u64 * 100 + e[i].events;
    say("c: %d events, sum %llu", n, (unsigned long long)sum);
    recv_pattern(s, 10);
    look(a, "a drained", 20);
    look(b, "b drained", PATIENCE_MS);
    look(c, "c drained", PATIENCE_MS);
    close(a);
    must(mod(b, s->fd, EPOLLIN, 5));
    far_do(FAR_SEND, s->index, 10, 0, 0);
    look(b, "b modified", PATIENCE_MS);
    recv_pattern(s, 10);
    must(close(other));
    dialogue(s, 5);
    stream_close(s);
}

/* An instance inside another one, and polled. */
static void nested(void) {
    struct stream *s = stream_open(AF_INET);
    int inner = instance(), outer = instance();
    must(add(inner, s->fd, EPOLLIN, 1));
    must(add(outer, inner, EPOLLIN, 2));
    warm();
    look(outer, "idle", 20);
    far_do(FAR_SEND, s->index, 10, 0, 0);
    look(outer, "outer", PATIENCE_MS);
    say("poll of the instance: %s", name_poll((short)wait_for(inner, POLLIN, PATIENCE_MS)));
    look(inner, "inner", PATIENCE_MS);
    recv_pattern(s, 10);
    look(outer, "drained", 20);
    dialogue(s, 5);
    stream_close(s);
}

static void errors(void) {
    struct stream *s = stream_open(AF_INET);
    int ep = instance(), file = (int)must(open("/proc/self/exe", O_RDONLY));
    struct epoll_event e = {.events = EPOLLIN};
    must(add(ep, s->fd, EPOLLIN, 1));
    warm();
    say("add twice %s", res(add(ep, s->fd, EPOLLIN, 1)));
    say("add a closed number %s", res(add(ep, 9999, EPOLLIN, 1)));
    say("add a file %s", res(add(ep, file, EPOLLIN, 1)));
    say("add itself %s", res(add(ep, ep, EPOLLIN, 1)));
    say("mod what is not there %s", res(mod(ep, 0, EPOLLIN, 1)));
    say("bad instance %s", res(add(file, s->fd, EPOLLIN, 1)));
    say("bad operation %s", res(epoll_ctl(ep, 99, s->fd, &e)));
    say("exclusive one-shot %s", res(add(instance(), s->fd, EPOLLIN | EPOLLONESHOT | EPOLLEXCLUSIVE, 1)));
    say("mod to exclusive %s", res(mod(ep, s->fd, EPOLLIN | EPOLLEXCLUSIVE, 1)));
    say("del %s", res(epoll_ctl(ep, EPOLL_CTL_DEL, s->fd, &e)));
    say("del twice %s", res(epoll_ctl(ep, EPOLL_CTL_DEL, s->fd, &e)));
    say("mod after del %s", res(mod(ep, s->fd, EPOLLIN, 1)));
    say("wait for 0 events %s", res(epoll_wait(ep, &e, 0, 0)));
    struct timespec t = {0, 20000000};
    say("epoll_pwait %s", res(epoll_pwait(ep, &e, 1, 10, NULL)));
    say("epoll_pwait2 %s", res(epoll_pwait2(ep, &e, 1, &t, NULL)));
    must(add(ep, s->fd, EPOLLIN, 1));
    far_do(FAR_SEND, s->index, 10, 0, 0);
    say("epoll_pwait %s", res(epoll_pwait(ep, &e, 1, PATIENCE_MS, NULL)));
    t.tv_sec = PATIENCE_MS / 1000;
    say("epoll_pwait2 %s", res(epoll_pwait2(ep, &e, 1, &t, NULL)));
    recv_pattern(s, 10);
    dialogue(s, 5);
    stream_close(s);
}

/* Two threads wait on one instance: each one-shot event goes to exactly one of them. */
struct pool {
    int ep, count;
    atomic_int events[32], taken, stop;
};

static void *pool_thread(void *arg) {
    struct pool *p = arg;
    struct epoll_event e;
    while (!atomic_load(&p->stop)) {
        if (epoll_wait(p->ep, &e, 1, 50) != 1)
            continue;
        struct stream *s = &streams[e.data.u32];
        recv_pattern(s, 20);
        atomic_fetch_add(&p->events[e.data.u32], 1);
        if (mod(p->ep, s->fd, EPOLLIN | EPOLLONESHOT, e.data.u64) < 0)
            die("re-arming: %s", strerror(errno));
        atomic_fetch_add(&p->taken, 1);
    }
    return NULL;
}

static void threads(void) {
    static struct pool p;
    p.ep = instance();
    p.count = 16;
    for (int i = 0; i < p.count; i++) {
        struct stream *s = stream_open(AF_INET);
        must(add(p.ep, s->fd, EPOLLIN | EPOLLONESHOT, (uint64_t)i));
    }
    warm();
    for (int i = 0; i < p.count; i++) /* the warm-up may have fired some of them */
        must(mod(p.ep, streams[i].fd, EPOLLIN | EPOLLONESHOT, (uint64_t)i));
    pthread_t pool[2];
    for (int i = 0; i < 2; i++)
        must(-pthread_create(&pool[i], NULL, pool_thread, &p));
    int rounds = 20;
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < p.count; i++)
            far_do(FAR_SEND, i, 20, 0, 0);
        for (int i = 0; i < PATIENCE_MS && atomic_load(&p.taken) < (round + 1) * p.count; i++)
            usleep(1000);
    }
    sleep_ms(20);
    atomic_store(&p.stop, 1);
    for (int i = 0; i < 2; i++)
        pthread_join(pool[i], NULL);
    bool once = true;
    for (int i = 0; i < p.count; i++)
        once = once && atomic_load(&p.events[i]) == rounds;
    say("every event taken exactly once: %d", once);
    warm_always();
    for (int i = 0; i < p.count; i++)
        stream_close(&streams[i]);
}

/* EPOLLEXCLUSIVE: registered in two instances, an event wakes at least one waiter. */
static void exclusive(void) {
    struct stream *s = stream_open(AF_INET);
    int a = instance(), b = instance();
    must(add(a, s->fd, EPOLLIN | EPOLLEXCLUSIVE, 1));
    must(add(b, s->fd, EPOLLIN | EPOLLEXCLUSIVE, 2));
    warm();
    for (int i = 0; i < 10; i++) {
        far_do(FAR_SEND, s->index, 10, 0, 0);
        wait_for(s->fd, POLLIN, PATIENCE_MS);
        struct epoll_event e;
        int n = epoll_wait(a, &e, 1, 0) + epoll_wait(b, &e, 1, 0);
        say("%d: at least one woke: %d", i, n >= 1);
        recv_pattern(s, 10);
    }
    say("mod of an exclusive one %s", res(mod(a, s->fd, EPOLLIN, 1)));
    must(epoll_ctl(a, EPOLL_CTL_DEL, s->fd, NULL));
    far_do(FAR_SEND, s->index, 10, 0, 0);
    look(b, "the other", PATIENCE_MS);
    recv_pattern(s, 10);
    dialogue(s, 5);
    stream_close(s);
}

/* Fifty sockets in one instance; some are closed and their numbers come back in the same instance. */
static void fifty(void) {
    struct stream *live[50];
    int ep = instance(), n = 50;
    for (int i = 0; i < n; i++) {
        live[i] = stream_open(AF_INET);
        must(add(ep, live[i]->fd, EPOLLIN, (uint64_t)live[i]->index));
    }
    warm();
    for (int round = 0; round < 6; round++) {
        for (int i = round; i < n; i += 7) {
            int number = live[i]->fd;
            stream_close(live[i]);
            live[i] = stream_open(AF_INET);
            if (live[i]->fd != number)
                say("round %d: number %d came back as %d", round, number, live[i]->fd);
            must(add(ep, live[i]->fd, EPOLLIN, (uint64_t)live[i]->index));
        }
        if (round % 2)
            warm();
        for (int i = 0; i < n; i++) {
            far_begin(FAR_RECV, live[i]->index, 30, 0, 0);
            send_pattern(live[i], 30);
            far_end();
            far_do(FAR_SEND, live[i]->index, 40, 0, 0);
        }
        for (int left = n; left > 0;) {
            struct epoll_event e[16];
            int got = (int)must(epoll_wait(ep, e, 16, PATIENCE_MS));
            if (got == 0)
                die("round %d: %d streams never became ready", round, left);
            for (int i = 0; i < got; i++, left--) {
                if (e[i].events != EPOLLIN || !streams[e[i].data.u64].open)
                    die("event %s for stream %d", name_epoll(e[i].events), (int)e[i].data.u64);
                recv_pattern(&streams[e[i].data.u64], 40);
            }
        }
        say("round %d: all %d streams were ready", round, n);
    }
    warm();
    for (int i = 0; i < n; i++)
        stream_close(live[i]);
}

const struct test_case epoll_cases[] = {
    {"epoll-level", level, "level-triggered"},
    {"epoll-edge", edge, "edge-triggered"},
    {"epoll-oneshot", one_shot, "one-shot, armed and disarmed"},
    {"epoll-half-close", half_close, "RDHUP and HUP when the peer shuts first"},
    {"epoll-own-half-close", own_half_close, "the same when we shut first"},
    {"epoll-several", several_instances, "one socket in several instances"},
    {"epoll-nested", nested, "an instance inside an instance"},
    {"epoll-errors", errors, "what epoll_ctl refuses; epoll_pwait, epoll_pwait2"},
    {"epoll-threads", threads, "two threads, one-shot events"},
    {"epoll-exclusive", exclusive, "EPOLLEXCLUSIVE"},
    {"epoll-fifty", fifty, "50 sockets, numbers that come back"},
    {NULL, NULL, NULL},
};
