/* The calls of the interpreter that do not move bytes. */
#include "differential.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/time.h>

static int fd_of(long slot) {
    return slots[slot % SLOTS].fd;
}

/* poll TIMEOUT SLOT EVENTS [SLOT EVENTS]… */
static void call_poll(struct hand *h, const struct command *c) {
    struct pollfd p[4];
    int n = 0;
    for (int i = 3; i + 1 < c->count && n < LEN(p); i += 2)
        p[n++] = (struct pollfd){fd_of(c->number[i]), (short)c->number[i + 1], 0};
    int r = poll(p, (nfds_t)n, (int)c->number[2]);
    answer_result(h, r);
    for (int i = 0; i < n; i++)
        answer(h, " %s", p[i].revents ? name_poll(p[i].revents) : "-");
}

/* select TIMEOUT SLOT SETS…: 1 reading, 2 writing, 4 exceptions */
static void call_select(struct hand *h, const struct command *c) {
    fd_set sets[3];
    int highest = -1;
    struct timeval t = {c->number[2] / 1000, c->number[2] % 1000 * 1000};
    for (int s = 0; s < 3; s++)
        FD_ZERO(&sets[s]);
    for (int i = 3; i + 1 < c->count; i += 2)
        for (int s = 0, fd = fd_of(c->number[i]); s < 3 && fd >= 0; s++)
            if (c->number[i + 1] & 1 << s) {
                FD_SET(fd, &sets[s]);
                highest = fd > highest ? fd : highest;
            }
    int r = select(highest + 1, &sets[0], &sets[1], &sets[2], c->number[2] < 0 ? NULL : &t);
    answer_result(h, r);
    for (int i = 3; i + 1 < c->count && r >= 0; i += 2) {
        int fd = fd_of(c->number[i]), got = 0;
        for (int s = 0; s < 3 && fd >= 0; s++)
            got |= FD_ISSET(fd, &sets[s]) ? 1 << s : 0;
        answer(h, " %d", got);
    }
}

static int by_data(const void *a, const void *b) {
    uint64_t x = ((const struct epoll_event *)a)->data.u64, y = ((const struct epoll_event *)b)->data.u64;
    return x < y ? -1 : x > y;
}

/* epwait SLOT TIMEOUT */
static void call_epoll_wait(struct hand *h, const struct command *c) {
    struct epoll_event events[16];
    int r = epoll_wait(fd_of(c->number[2]), events, LEN(events), (int)c->number[3]);
    answer_result(h, r);
    if (r > 0)
        qsort(events, (size_t)r, sizeof events[0], by_data);
    for (int i = 0; i < r; i++)
        answer(h, " %d:%s", (int)events[i].data.u64, name_epoll(events[i].events));
}

/* epctl EPOLL OP SLOT EVENTS; the data is the slot's number */
static void call_epoll_ctl(struct hand *h, const struct command *c) {
    struct epoll_event e = {.events = (uint32_t)strtoul(c->word[5], NULL, 0), .data.u64 = (uint64_t)c->number[4]};
    int op = c->word[3][0] == 'a' ? EPOLL_CTL_ADD : c->word[3][0] == 'm' ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    answer_result(h, epoll_ctl(fd_of(c->number[2]), op, fd_of(c->number[4]), &e));
}

int do_wait(struct hand *h, const struct command *c) {
    const char *call = c->word[1];
    if (strcmp(call, "poll") == 0)
        call_poll(h, c);
    else if (strcmp(call, "select") == 0)
        call_select(h, c);
    else if (strcmp(call, "epwait") == 0)
        call_epoll_wait(h, c);
    else if (strcmp(call, "epctl") == 0)
        call_epoll_ctl(h, c);
    else if (strcmp(call, "epoll") == 0) /* epoll SLOT */
        answer_result(h, (slots[c->number[2] % SLOTS] = (struct slot){epoll_create1(EPOLL_CLOEXEC), -1}).fd < 0 ? -1 : 0);
    else
        return 0;
    return 1;
}

static const struct {
    const char *name;
    int level, number;
} options[] = {
    {"nodelay", IPPROTO_TCP, TCP_NODELAY},  {"keepalive", SOL_SOCKET, SO_KEEPALIVE}, {"oobinline", SOL_SOCKET, SO_OOBINLINE},
    {"error", SOL_SOCKET, SO_ERROR},        {"type", SOL_SOCKET, SO_TYPE},           {"domain", SOL_SOCKET, SO_DOMAIN},
    {"protocol", SOL_SOCKET, SO_PROTOCOL},  {"linger", SOL_SOCKET, SO_LINGER},       {"rcvtimeo", SOL_SOCKET, SO_RCVTIMEO},
    {"sndtimeo", SOL_SOCKET, SO_SNDTIMEO},  {"lowat", SOL_SOCKET, SO_RCVLOWAT},      {"reuse", SOL_SOCKET, SO_REUSEADDR},
    {"timestamp", SOL_SOCKET, SO_TIMESTAMP},
};

/* set SLOT NAME VALUE; times are in milliseconds, the value of linger is its time, less than 0: off */
static void call_setsockopt(struct hand *h, const struct command *c, int i) {
    int value = (int)c->number[4];
    struct timeval t = {value / 1000, value % 1000 * 1000};
    struct linger l = {value >= 0, value >= 0 ? value : 0};
    const void *at = &value;
    socklen_t size = sizeof value;
    if (options[i].number == SO_RCVTIMEO || options[i].number == SO_SNDTIMEO)
        at = &t, size = sizeof t;
    if (options[i].level == SOL_SOCKET && options[i].number == SO_LINGER)
        at = &l, size = sizeof l;
    answer_result(h, setsockopt(fd_of(c->number[2]), options[i].level, options[i].number, at, size));
}

static void call_getsockopt(struct hand *h, const struct command *c, int i) {
    int value[4] = {0};
    socklen_t size = sizeof value;
    answer_result(h, getsockopt(fd_of(c->number[2]), options[i].level, options[i].number, value, &size));
    answer(h, " size %d: %d %d %d", (int)size, value[0], value[1], value[2]);
}

/* The names of a socket are told by whether they are the ones that the stream began with. */
static void call_names(struct hand *h, const struct command *c) {
    static struct sockaddr_storage first[2][STREAMS][2];
    long slot = c->number[2] % SLOTS;
    int end = slot >= SLOTS / 2, stream = slots[slot].stream < 0 ? 0 : slots[slot].stream;
    for (int i = 0; i < 2; i++) {
        struct sockaddr_storage at;
        socklen_t size = sizeof at;
        memset(&at, 0, sizeof at);
        int r = i ? getpeername(fd_of(slot), (struct sockaddr *)&at, &size)
                  : getsockname(fd_of(slot), (struct sockaddr *)&at, &size);
        answer(h, "%s family %d size %d ", res(r), at.ss_family, (int)size);
        if (r == 0 && first[end][stream][i].ss_family == 0)
            first[end][stream][i] = at;
        if (r == 0)
            answer(h, "same %d ", memcmp(&first[end][stream][i], &at, sizeof at) == 0);
    }
}

static int call_open(struct hand *h, const struct command *c) {
    static int listeners[STREAMS];
    const char *call = c->word[1];
    long slot = c->number[2] % SLOTS, stream = c->number[3] % STREAMS;
    int family = c->number[4] == 6 ? AF_INET6 : AF_INET, port = 0;
    if (strcmp(call, "listen") == 0) { /* listen - STREAM FAMILY */
        listeners[stream] = tcp_listen(family, &port);
        answer(h, "listening | %d", port);
    } else if (strcmp(call, "connect") == 0) { /* connect SLOT STREAM FAMILY PORT */
        slots[slot] = (struct slot){tcp_connect(family, (int)c->number[5]), (int)stream};
        must(setsockopt(slots[slot].fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
        answer(h, "connected | %d", local_port(slots[slot].fd));
    } else if (strcmp(call, "accept") == 0) { /* accept SLOT STREAM */
        slots[slot] = (struct slot){(int)must(accept4(listeners[stream], NULL, NULL, SOCK_CLOEXEC)), (int)stream};
        must(setsockopt(slots[slot].fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
        close(listeners[stream]);
        answer(h, "accepted");
    } else {
        return 0;
    }
    return 1;
}

/* dup SLOT NEW, dup2 SLOT OLD, close SLOT, and what asks about the number */
static int call_number(struct hand *h, const struct command *c) {
    const char *call = c->word[1];
    long slot = c->number[2] % SLOTS, other = c->number[3] % SLOTS;
    int fd = fd_of(slot), value = -1;
    if (strcmp(call, "close") == 0) {
        slots[slot].fd = -1;
        answer_result(h, close(fd));
    } else if (strcmp(call, "dup") == 0) {
        int new = c->number[4] ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : dup(fd);
        if (new >= 0)
            slots[other] = (struct slot){new, slots[slot].stream};
        answer_result(h, new < 0 ? -1 : 0);
    } else if (strcmp(call, "dup2") == 0) {
        int r = dup2(fd, fd_of(other));
        if (r >= 0)
            slots[other].stream = slots[slot].stream;
        answer_result(h, r < 0 ? -1 : 0);
    } else if (strcmp(call, "nonblock") == 0) {
        int flags = fcntl(fd, F_GETFL);
        answer_result(h, fcntl(fd, F_SETFL, other ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
    } else if (strcmp(call, "flags") == 0) {
        answer(h, "%#x %#x", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
    } else if (strcmp(call, "inq") == 0) {
        answer_result(h, ioctl(fd, FIONREAD, &value));
        answer(h, " %d", value);
    } else if (strcmp(call, "mark") == 0) {
        answer_result(h, ioctl(fd, SIOCATMARK, &value));
        answer(h, " %d", value);
    } else if (strcmp(call, "shutdown") == 0) {
        answer_result(h, shutdown(fd, (int)c->number[3]));
    } else if (strcmp(call, "count") == 0) {
        struct position *p = &positions[slot >= SLOTS / 2][slots[slot].stream < 0 ? 0 : slots[slot].stream];
        answer(h, "counted | %llu %llu", (unsigned long long)p->tx, (unsigned long long)p->rx);
    } else {
        return 0;
    }
    return 1;
}

int do_life(struct hand *h, const struct command *c) {
    const char *call = c->word[1];
    bool set = strcmp(call, "set") == 0;
    for (int i = 0; (set || strcmp(call, "get") == 0) && i < LEN(options); i++)
        if (strcmp(c->word[3], options[i].name) == 0) {
            set ? call_setsockopt(h, c, i) : call_getsockopt(h, c, i);
            return 1;
        }
    if (strcmp(call, "names") == 0) {
        call_names(h, c);
        return 1;
    }
    return call_open(h, c) || call_number(h, c);
}
