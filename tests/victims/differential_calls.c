/* The calls of the interpreter that do not move bytes. */
#include "differential.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/time.h>

static const struct {
    const char *name;
    int level, number;
} options[] = {
    {"nodelay", IPPROTO_TCP, TCP_NODELAY},
    {"keepalive", SOL_SOCKET, SO_KEEPALIVE},
    {"oobinline", SOL_SOCKET, SO_OOBINLINE},
    {"error", SOL_SOCKET, SO_ERROR},
    {"type", SOL_SOCKET, SO_TYPE},
    {"domain", SOL_SOCKET, SO_DOMAIN},
    {"protocol", SOL_SOCKET, SO_PROTOCOL},
    {"linger", SOL_SOCKET, SO_LINGER},
    {"rcvtimeo", SOL_SOCKET, SO_RCVTIMEO},
    {"sndtimeo", SOL_SOCKET, SO_SNDTIMEO},
    {"lowat", SOL_SOCKET, SO_RCVLOWAT},
    {"reuse", SOL_SOCKET, SO_REUSEADDR},
    {"timestamp", SOL_SOCKET, SO_TIMESTAMP},
    {"priority", SOL_SOCKET, SO_PRIORITY},
    {"tos", IPPROTO_IP, IP_TOS},
    {"inq", IPPROTO_TCP, TCP_INQ},
    {"usertimeout", IPPROTO_TCP, TCP_USER_TIMEOUT},
    {"keepidle", IPPROTO_TCP, TCP_KEEPIDLE},
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

/* Of the names of a socket it prints whether they are the ones that the stream began with. */
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
        positions[slot >= SLOTS / 2][stream] = (struct position){0, 0};
        slots[slot] = (struct slot){tcp_connect(family, (int)c->number[5]), (int)stream};
        must(setsockopt(slots[slot].fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
        answer(h, "connected | %d", local_port(slots[slot].fd));
    } else if (strcmp(call, "accept") == 0) { /* accept SLOT STREAM */
        positions[slot >= SLOTS / 2][stream] = (struct position){0, 0};
        slots[slot] = (struct slot){(int)must(accept4(listeners[stream], NULL, NULL, SOCK_CLOEXEC)), (int)stream};
        must(setsockopt(slots[slot].fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)));
        close(listeners[stream]);
        answer(h, "accepted");
    } else {
        return 0;
    }
    return 1;
}

/* dup SLOT NEW, dup2 SLOT OLD, close SLOT, file SLOT: a new file, which takes the lowest number; and questions about
 * the number */
static int call_number(struct hand *h, const struct command *c) {
    const char *call = c->word[1];
    long slot = c->number[2] % SLOTS, other = c->number[3] % SLOTS;
    int fd = fd_of(slot), value = -1;
    if (strcmp(call, "close") == 0) {
        slots[slot].fd = -1;
        answer_result(h, close(fd));
    } else if (strcmp(call, "file") == 0) {
        slots[slot] = (struct slot){eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), -1};
        answer(h, "number %d", slots[slot].fd);
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
