/* Signal-driven input: which signal comes, to which thread or process, and what it carries, set before a stream moves
 * and after. */
#include "victim.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>

enum { SETOWN, SETOWN_GROUP, EX_THREAD, EX_PROCESS, EX_GROUP, IOCTLS, OWNERS };
static const char *const names[] = {"F_SETOWN", "F_SETOWN of the group", "F_SETOWN_EX of a thread",
                                    "F_SETOWN_EX of the process", "F_SETOWN_EX of the group", "SIOCSPGRP and FIOASYNC"};

static sigset_t watched;
static pid_t worker_tid;
static sem_t begin, done;
static siginfo_t taken;
static bool worker_took;
static int patience = 3000; /* milliseconds in which a signal must come */

/* Takes the signals that are pending for the thread or the process, and returns the one that reports input, if there is
 * one. */
static bool take(siginfo_t *into) {
    struct timespec none = {0, 0};
    siginfo_t info;
    bool found = false;
    while (sigtimedwait(&watched, &info, &none) > 0)
        if ((info.si_code == POLL_IN || info.si_code == SI_KERNEL) && !found)
            *into = info, found = true;
    return found;
}

static void *worker(void *unused) {
    (void)unused;
    worker_tid = gettid();
    must(sem_post(&done));
    for (;;) {
        must(sem_wait(&begin));
        worker_took = take(&taken);
        must(sem_post(&done));
    }
    return NULL;
}

static void worker_takes(void) {
    must(sem_post(&begin));
    while (sem_wait(&done) < 0) {
    }
}

/* Whether one of our signals is pending, and for thread or process, according to this line of /proc. */
static bool pending(const char *line) {
    char path[64], text[256];
    unsigned long long mask = 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/status", worker_tid);
    FILE *f = fopen(path, "re");
    while (f && fgets(text, sizeof text, f))
        if (strncmp(text, line, strlen(line)) == 0)
            mask = strtoull(text + strlen(line), NULL, 16);
    if (f)
        fclose(f);
    for (int i = 1; i < 64; i++)
        if (sigismember(&watched, i) == 1 && mask >> (i - 1) & 1)
            return true;
    return false;
}

static void set_owner(int fd, int owner) {
    int me = getpid();
    struct f_owner_ex ex = {owner == EX_THREAD ? F_OWNER_TID : owner == EX_GROUP ? F_OWNER_PGRP : F_OWNER_PID,
                            owner == EX_THREAD ? worker_tid : owner == EX_GROUP ? getpgrp() : me};
    if (owner == SETOWN || owner == SETOWN_GROUP)
        must(fcntl(fd, F_SETOWN, owner == SETOWN ? me : -getpgrp()));
    else if (owner == IOCTLS)
        must(ioctl(fd, SIOCSPGRP, &me));
    else
        must(fcntl(fd, F_SETOWN_EX, &ex));
}

static void set_async(int fd, int owner, int on) {
    if (owner == IOCTLS)
        must(ioctl(fd, FIOASYNC, &on));
    else
        must(fcntl(fd, F_SETFL, (must(fcntl(fd, F_GETFL)) & ~O_ASYNC) | (on ? O_ASYNC : 0)));
}

static void ask(int fd) {
    struct f_owner_ex ex = {0};
    must(fcntl(fd, F_GETOWN_EX, &ex));
    pid_t own = (pid_t)fcntl(fd, F_GETOWN);
    const char *whose = ex.pid == worker_tid ? "the thread" : ex.pid == getpid() ? "the process" : "?";
    say("  the owner is of type %d: %s; F_GETOWN %s; F_GETSIG %ld; O_ASYNC %d", ex.type, whose,
        own == getpid() ? "the process" : own == -getpgrp() ? "the group" : own == worker_tid ? "the thread" : "?",
        must(fcntl(fd, F_GETSIG)), (must(fcntl(fd, F_GETFL)) & O_ASYNC) != 0);
}

/* Bytes come; prints which thread or process is signalled, and with what. */
static void receive(struct stream *s) {
    take(&taken);
    worker_takes();
    far_do(FAR_SEND, s->index, 8, 0, 0);
    bool thread = false, process = false;
    for (int i = 0; i < patience && !thread && !process; i++) {
        thread = pending("SigPnd:");
        process = pending("ShdPnd:");
        if (!thread && !process)
            sleep_ms(1);
    }
    worker_takes();
    /* One report is enough. */
    if (!thread && !process)
        patience = 20;
    if (!worker_took)
        say("  no signal of input; pending for the thread %d, for the process %d", thread, process);
    else if (taken.si_code == SI_KERNEL)
        say("  signal %d of %s, which says no more", taken.si_signo, thread ? "the thread" : "the process");
    else
        say("  signal %d of %s: si_fd is the number: %d, band %s", taken.si_signo, thread ? "the thread" : "the process",
            taken.si_fd == s->fd, name_poll((short)taken.si_band));
    recv_pattern(s, 8);
    far_begin(FAR_RECV, s->index, 8, 0, 0);
    send_pattern(s, 8);
    far_end();
}

/* The owner after `owned` exchanges, O_ASYNC after `driven`. */
static void one(int owner, int signal, int owned, int driven) {
    struct stream *s = stream_after(owned);
    if (signal)
        must(fcntl(s->fd, F_SETSIG, signal));
    set_owner(s->fd, owner);
    if (driven == MOVED && owned != MOVED)
        warm_always();
    else
        exchange(s, driven == MOVED ? 1 : driven);
    say("%s, signal %d, after %d and %d exchanges", names[owner], signal, owned, driven);
    ask(s->fd);
    set_async(s->fd, owner, 1);
    receive(s);
    exchange(s, 20);
    ask(s->fd);
    receive(s);
    /* A stream on which O_ASYNC was set before the move may stay on TCP. */
    warm_always();
    ask(s->fd);
    receive(s);
    set_async(s->fd, owner, 0);
    stream_close(s);
}

static void driven(void) {
    static const int points[] = {0, 1, 2, 3, 5, 8, 13, 18, 25, 40, MOVED};
    bool late = opt.argc > 0 && strcmp(opt.argv[0], "late") == 0;
    pthread_t thread;
    /* Signals that do no harm, in far neither: the process group includes it. */
    const int signals[] = {0, SIGURG, SIGRTMIN + 1};
    sigemptyset(&watched);
    for (int i = 0; i < LEN(signals); i++)
        sigaddset(&watched, signals[i] ? signals[i] : SIGIO);
    must(-pthread_sigmask(SIG_BLOCK, &watched, NULL));
    must(sem_init(&begin, 0, 0));
    must(sem_init(&done, 0, 0));
    must(-pthread_create(&thread, NULL, worker, NULL));
    must(sem_wait(&done));
    for (int owner = 0; owner < OWNERS; owner++) {
        bool group = owner == SETOWN_GROUP || owner == EX_GROUP;
        for (int i = 0; i < LEN(points); i++) {
            int signal = group ? SIGURG : signals[(i + owner) % LEN(signals)];
            if (late)
                one(owner, signal, points[i], MOVED);
            else
                one(owner, signal, points[i] == MOVED ? 4 : points[i], 0);
        }
    }
}

const struct test_case driven_cases[] = {
    {"signal-driven", driven, "[late]: O_ASYNC, its signals and owners"},
    {NULL, NULL, NULL},
};
