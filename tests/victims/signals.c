/* Signals that arrive during a call, with and without SA_RESTART, and handlers that use the socket themselves. */
#include "victim.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>

static volatile sig_atomic_t alarms, users;
static volatile sig_atomic_t handler_fd = -1;
static volatile sig_atomic_t handler_wrote;

static void on_alarm(int signal) {
    (void)signal;
    int err = errno;
    alarms++;
    if (handler_fd >= 0)
        handler_wrote += write(handler_fd, "signal!!", 8) == 8;
    errno = err;
}

static void on_user(int signal) {
    (void)signal;
    users++;
}

static void install(int signal, void (*handler)(int), int flags) {
    struct sigaction a = {.sa_handler = handler, .sa_flags = flags};
    must(sigaction(signal, &a, NULL));
}

static void arm(int first_ms, int every_ms) {
    struct itimerval t = {{every_ms / 1000, (every_ms % 1000) * 1000}, {first_ms / 1000, (first_ms % 1000) * 1000}};
    must(setitimer(ITIMER_REAL, &t, NULL));
}

enum { RECV, READ, RECV_TIMEO, POLL, PPOLL, SELECT, PSELECT, EPOLL_WAIT, EPOLL_PWAIT, SEND, WAYS };
static const char *const way_names[] = {"recv",   "read",    "recv with SO_RCVTIMEO", "poll",        "ppoll",
                                        "select", "pselect", "epoll_wait",            "epoll_pwait", "send"};

static long wait_by(int way, struct stream *s, int ep, char *big, size_t n) {
    struct pollfd p = {s->fd, POLLIN, 0};
    struct epoll_event e;
    fd_set r;
    FD_ZERO(&r);
    FD_SET(s->fd, &r);
    switch (way) {
    case RECV:
    case RECV_TIMEO:
        return recv(s->fd, big, 10, 0);
    case READ:
        return read(s->fd, big, 10);
    case POLL:
        return poll(&p, 1, PATIENCE_MS);
    case PPOLL:
        return ppoll(&p, 1, NULL, NULL);
    case SELECT:
        return select(s->fd + 1, &r, NULL, NULL, NULL);
    case PSELECT:
        return pselect(s->fd + 1, &r, NULL, NULL, NULL, NULL);
    case EPOLL_WAIT:
        return epoll_wait(ep, &e, 1, PATIENCE_MS);
    case EPOLL_PWAIT:
        return epoll_pwait(ep, &e, 1, -1, NULL);
    default:
        return send(s->fd, big, n, 0);
    }
}

/* One signal while near waits, then far acts: what the call returns tells whether it was interrupted or went on. */
static void interrupted(int flags) {
    const size_t n = 32 << 20;
    char *big = malloc(n);
    struct stream *s = stream_open(AF_INET);
    int ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN};
    must(epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &e));
    install(SIGALRM, on_alarm, flags);
    warm();
    for (int way = 0; way < WAYS; way++) {
        struct timeval t = {way == RECV_TIMEO ? PATIENCE_MS / 1000 : 0, 0};
        must(setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
        alarms = 0;
        if (way == SEND)
            next_out(s, big, n);
        far_begin(FAR_INTERRUPT, 0, getpid(), SIGALRM, 0);
        far_begin(way == SEND ? FAR_RECV : FAR_SEND, s->index, way == SEND ? (long)n : 10, 0, 0);
        long got = wait_by(way, s, ep, big, n);
        say("%s: %s, signals %d", way_names[way], way == SEND && got > 0 && got < (long)n ? "= partial" : res(got),
            (int)alarms);
        if (way == SEND) {
            if (got > 0 && got < (long)n)
                write_all(s->fd, big + got, n - (size_t)got);
        } else if (way > RECV_TIMEO || got < 0) {
            recv_pattern(s, 10);
        } else {
            next_in(s, big, (size_t)got);
            recv_pattern(s, 10 - (size_t)got);
        }
        far_end();
        far_end();
    }
    dialogue(s, 5);
    stream_close(s);
    free(big);
}

static void with_restart(void) {
    interrupted(SA_RESTART);
}

static void without_restart(void) {
    interrupted(0);
}

/* SIGALRM restarts the call, SIGUSR1 after it does not: each comes while the main thread waits. */
static pthread_t main_thread;

static void *two_signals_thread(void *arg) {
    (void)arg;
    await_asleep(getpid(), getpid());
    pthread_kill(main_thread, SIGALRM);
    await_asleep(getpid(), getpid());
    pthread_kill(main_thread, SIGUSR1);
    return NULL;
}

static void two_signals(void) {
    struct stream *s = stream_open(AF_INET);
    char byte;
    warm();
    main_thread = pthread_self();
    for (int swap = 0; swap < 2; swap++) {
        install(SIGALRM, on_alarm, swap ? 0 : SA_RESTART);
        install(SIGUSR1, on_user, swap ? SA_RESTART : 0);
        alarms = users = 0;
        pthread_t thread;
        must(-pthread_create(&thread, NULL, two_signals_thread, NULL));
        ssize_t got = recv(s->fd, &byte, 1, 0);
        say("recv %s after %d and %d", res(got), (int)alarms, (int)users);
        pthread_join(thread, NULL);
        say("in the end %d and %d", (int)alarms, (int)users);
    }
    dialogue(s, 5);
    stream_close(s);
}

/* The handler writes to the socket that the interrupted call is reading. */
static void handler_writes(void) {
    struct stream *s = stream_open(AF_INET);
    char buffer[64];
    install(SIGALRM, on_alarm, SA_RESTART);
    warm();
    handler_fd = s->fd;
    int expected = 0;
    for (int i = 0; i < 30; i++) {
        far_begin(FAR_RAW_RECV, s->index, 8, MSG_WAITALL, 0);
        arm(5, 0);
        far_begin(FAR_SEND, s->index, 10, 0, 0);
        ssize_t got = recv(s->fd, buffer, 10, 0);
        next_in(s, buffer, (size_t)must(got));
        if (far_end().ret == 8)
            expected++;
        far_end();
    }
    handler_fd = -1;
    say("far saw %d of %d writes of the handler", expected, (int)handler_wrote);
    dialogue(s, 5);
    stream_close(s);
}

/* A signal every millisecond while both ends stream. */
static void *storm_writer(void *arg) {
    struct stream *s = arg;
    for (int i = 0; i < 400; i++)
        send_pattern(s, 20000);
    return NULL;
}

static void storm_of(int flags) {
    struct stream *s = stream_open(AF_INET);
    pthread_t thread;
    install(SIGALRM, on_alarm, flags);
    warm();
    arm(1, 1);
    far_begin(FAR_DUPLEX, s->index, 400 * 20000, 0, 0);
    must(-pthread_create(&thread, NULL, storm_writer, s));
    recv_pattern(s, 400 * 20000);
    pthread_join(thread, NULL);
    far_end();
    dialogue(s, 30);
    arm(0, 0);
    say("8 MB each way in a storm of signals");
    warm_always();
    stream_close(s);
}

static void storm_restart(void) {
    storm_of(SA_RESTART);
}

static void storm(void) {
    storm_of(0);
}

/* ppoll, pselect and epoll_pwait change the signal mask only for the time of the wait. */
static void masks(void) {
    struct stream *s = stream_open(AF_INET);
    int ep = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN};
    sigset_t blocked, open;
    warm();
    must(epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &e));
    install(SIGALRM, on_alarm, SA_RESTART);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &blocked, &open);
    struct timespec t = {PATIENCE_MS / 1000, 0};
    for (int way = 0; way < 4; way++) {
        struct pollfd p = {s->fd, POLLIN, 0};
        fd_set r;
        FD_ZERO(&r);
        FD_SET(s->fd, &r);
        alarms = 0;
        raise(SIGALRM);
        int before = alarms, n = 0;
        switch (way) {
        case 0:
            n = ppoll(&p, 1, &t, &open);
            break;
        case 1:
            n = pselect(s->fd + 1, &r, NULL, NULL, &t, &open);
            break;
        case 2:
            n = epoll_pwait(ep, &e, 1, PATIENCE_MS, &open);
            break;
        default:
            n = epoll_pwait2(ep, &e, 1, &t, &open);
        }
        say("wait %d: %s, signals before %d, after %d", way, res(n), before, (int)alarms);
    }
    pthread_sigmask(SIG_SETMASK, &open, NULL);
    dialogue(s, 5);
    stream_close(s);
}

/* A thread that is cancelled while it is blocked in recv. */
static atomic_int cancelled_tid;

static void *cancelled_thread(void *arg) {
    struct stream *s = arg;
    char byte;
    cancelled_tid = gettid();
    recv(s->fd, &byte, 1, 0);
    return NULL;
}

static void cancelled(void) {
    struct stream *s = stream_open(AF_INET);
    pthread_t thread;
    void *result;
    warm();
    must(-pthread_create(&thread, NULL, cancelled_thread, s));
    await_thread_asleep(&cancelled_tid);
    must(-pthread_cancel(thread));
    must(-pthread_join(thread, &result));
    say("cancelled: %d", result == PTHREAD_CANCELED);
    warm_always();
    dialogue(s, 20);
    stream_close(s);
}

/* O_ASYNC: SIGIO to the owner when data comes. */
static void on_io(int signal) {
    (void)signal;
    users++;
}

#include <fcntl.h>

static void sigio(void) {
    struct stream *s = stream_open(AF_INET);
    install(SIGIO, on_io, SA_RESTART);
    must(fcntl(s->fd, F_SETOWN, getpid()));
    must(fcntl(s->fd, F_SETFL, O_ASYNC | O_NONBLOCK));
    warm();
    say("F_GETFL %#x, owner is me: %d", fcntl(s->fd, F_GETFL), fcntl(s->fd, F_GETOWN) == getpid());
    users = 0;
    far_do(FAR_SEND, s->index, 10, 0, 0);
    for (int i = 0; i < PATIENCE_MS && users == 0; i++)
        usleep(1000);
    say("SIGIO came: %d", users > 0);
    recv_pattern(s, 10);
    must(fcntl(s->fd, F_SETFL, 0));
    users = 0;
    far_do(FAR_SEND, s->index, 10, 0, 0);
    await_readable(s, 10);
    sleep_ms(20);
    say("SIGIO after it was switched off: %d", users > 0);
    recv_pattern(s, 10);
    dialogue(s, 5);
    stream_close(s);
}

const struct test_case signal_cases[] = {
    {"signal-restart", with_restart, "SA_RESTART: which calls go on"},
    {"signal-no-restart", without_restart, "no SA_RESTART: EINTR"},
    {"two-signals", two_signals, "one restarts the call, the other does not"},
    {"handler-writes", handler_writes, "a handler that writes to the same socket"},
    {"storm-restart", storm_restart, "a signal every millisecond, SA_RESTART"},
    {"storm", storm, "a signal every millisecond, EINTR"},
    {"masks", masks, "the masks of ppoll, pselect, epoll_pwait"},
    {"cancelled", cancelled, "pthread_cancel in recv"},
    {"sigio", sigio, "O_ASYNC and SIGIO"},
    {NULL, NULL, NULL},
};
