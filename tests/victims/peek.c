/* recv with MSG_PEEK and MSG_WAITALL: it waits for all bytes and leaves them. */
#include "victim.h"

#include <poll.h>
#include <signal.h>
#include <sys/time.h>

enum { ALL_COME, TIME_IS_OVER, SIGNAL, SIGNAL_RESTARTS, THE_END, BY_RECVMSG, WAYS };
static const char *const names[] = {"the rest comes", "SO_RCVTIMEO", "a signal", "a signal that restarts", "the end",
                                    "recvmsg, the rest comes"};

static volatile sig_atomic_t alarms;

static struct stream *starved;

/* Sends the signal again and again, because the first one may come before the call. In the end there are bytes to read.
 * */
static void on_alarm(int signal) {
    (void)signal;
    if (++alarms == 200)
        far_begin(FAR_SEND, starved->index, 4, 0, 0);
}

static ssize_t peek(int way, int fd, char *into, size_t n) {
    struct iovec parts[2] = {{into, n / 2}, {into + n / 2, n - n / 2}};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2};
    if (way == BY_RECVMSG)
        return recvmsg(fd, &m, MSG_PEEK | MSG_WAITALL);
    return recv(fd, into, n, MSG_PEEK | MSG_WAITALL);
}

/* Four of eight bytes are there. The rest comes later, or another event does. */
static void one(int k, int way) {
    char bytes[8];
    struct stream *s = stream_after(k);
    struct timeval t = {0, 30000}, never = {0, 0};
    struct itimerval alarms_at = {{0, 10000}, {0, 10000}};
    struct sigaction action = {.sa_handler = on_alarm, .sa_flags = way == SIGNAL_RESTARTS ? SA_RESTART : 0};
    bool comes = way == ALL_COME || way == BY_RECVMSG, signals = way == SIGNAL || way == SIGNAL_RESTARTS;
    far_do(FAR_SEND, s->index, 4, 0, 0);
    settle(s->fd, 4);
    if (way == TIME_IS_OVER)
        must(setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    must(sigaction(SIGALRM, &action, NULL));
    alarms = 0;
    starved = s;
    if (comes || way == THE_END) {
        far_begin(FAR_SLEEP, 0, 10, 0, 0);
        if (comes)
            far_begin(FAR_SEND, s->index, 4, 0, 0);
        else
            far_begin(FAR_SHUT, s->index, SHUT_WR, 0, 0);
    }
    if (signals)
        must(setitimer(ITIMER_REAL, &alarms_at, NULL));
    uint64_t since = now_us();
    ssize_t n = peek(way, s->fd, bytes, sizeof bytes);
    uint64_t took = now_us() - since;
    must(setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL));
    bool waited = signals ? alarms > 0 : way != TIME_IS_OVER || took >= 25000;
    say("after %d exchanges, %s: %s, waited %d", k, names[way], res(n), waited);
    if (n > 0)
        pattern_check((uint64_t)s->index * 2 + 1, s->rx, bytes, (size_t)n);
    if (comes || way == THE_END) {
        far_end();
        far_end();
    }
    must(setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &never, sizeof never));
    recv_pattern(s, comes ? 8 : 4);
    stream_close(s);
}

static void peeks(void) {
    for (int k = 0; k <= SWEEP; k++)
        one(k, k % WAYS);
    for (int k = 0; k < 12; k += 3)
        one(k, THE_END);
    for (int way = 0; way < WAYS; way++)
        one(MOVED, way);
}

const struct test_case peek_cases[] = {
    {"peek-waitall", peeks, "MSG_PEEK with MSG_WAITALL"},
    {NULL, NULL, NULL},
};
