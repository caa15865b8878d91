/* The calls of the interpreter about signals of readiness (O_ASYNC). All signals are held back and taken by
 * sigtimedwait, so that no call is interrupted and each signal is reported where the program asks for it. */
#include "differential.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

static const int held[] = {SIGIO, SIGUSR1, 40, 41};

static sigset_t all_held(void) {
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < LEN(held); i++)
        sigaddset(&set, held[i]);
    return set;
}

void hold_signals(void) {
    sigset_t set = all_held();
    must(pthread_sigmask(SIG_BLOCK, &set, NULL));
}

/* SIGIO carries no descriptor number, the other signals do. */
static void tell_signal(struct hand *h, const siginfo_t *info) {
    if (info->si_code == SI_KERNEL)
        answer(h, " %d", info->si_signo);
    else
        answer(h, " %d:%d:%s", info->si_signo, slot_of(info->si_fd), name_poll((short)info->si_band));
}

/* signals: the signals that have come, each only once; sigwait: the same, and waits for one */
static void call_signals(struct hand *h, bool waits) {
    sigset_t set = all_held();
    siginfo_t info[32];
    int n = 0;
    if (waits && sigwaitinfo(&set, &info[n]) > 0)
        n++;
    for (siginfo_t one; sigtimedwait(&set, &one, &(struct timespec){0, 0}) > 0;) {
        bool known = false;
        for (int i = 0; i < n; i++)
            known |= info[i].si_signo == one.si_signo && info[i].si_fd == one.si_fd && info[i].si_band == one.si_band;
        if (!known && n < LEN(info))
            info[n++] = one;
    }
    answer(h, "came");
    for (int i = 0; i < n; i++)
        tell_signal(h, &info[i]);
}

/* setown SLOT process|thread|group|none|exprocess|exthread|exgroup */
static long set_owner(int fd, const char *who) {
    struct f_owner_ex owner = {F_OWNER_PID, getpid()};
    bool ex = strncmp(who, "ex", 2) == 0;
    who += ex ? 2 : 0;
    if (strcmp(who, "group") == 0)
        owner = (struct f_owner_ex){F_OWNER_PGRP, getpgrp()};
    else if (strcmp(who, "thread") == 0)
        owner = (struct f_owner_ex){F_OWNER_TID, (int)syscall(SYS_gettid)};
    else if (strcmp(who, "none") == 0)
        owner.pid = 0;
    if (ex || owner.type == F_OWNER_TID)
        return fcntl(fd, F_SETOWN_EX, &owner);
    return fcntl(fd, F_SETOWN, owner.type == F_OWNER_PGRP ? -owner.pid : owner.pid);
}

static const char *name_owner(int pid) {
    return pid == 0 ? "none" : pid == getpid() ? "process" : pid == -getpgrp() ? "group" : "another";
}

/* getown SLOT */
static void tell_owner(struct hand *h, int fd) {
    struct f_owner_ex owner = {-1, 0};
    int pid = fcntl(fd, F_GETOWN);
    answer(h, "%s signal %d ", name_owner(pid), fcntl(fd, F_GETSIG));
    answer_result(h, fcntl(fd, F_GETOWN_EX, &owner));
    bool thread = owner.type == F_OWNER_TID && owner.pid == (int)syscall(SYS_gettid);
    answer(h, " kind %d %s", (int)owner.type, thread ? "thread" : owner.pid == 0 ? "none" : "other");
}

/* async SLOT fcntl|ioctl ON, setsig SLOT SIGNAL, setown SLOT WHO, getown SLOT */
int do_signal(struct hand *h, const struct command *c) {
    const char *call = c->word[1];
    int fd = fd_of(c->number[2]), on = (int)c->number[4];
    if (strcmp(call, "signals") == 0 || strcmp(call, "sigwait") == 0) {
        call_signals(h, call[3] == 'w');
    } else if (strcmp(call, "async") == 0) {
        int flags = fcntl(fd, F_GETFL);
        flags = on ? flags | O_ASYNC : flags & ~O_ASYNC;
        answer_result(h, strcmp(c->word[3], "ioctl") == 0 ? ioctl(fd, FIOASYNC, &on) : fcntl(fd, F_SETFL, flags));
    } else if (strcmp(call, "setsig") == 0) {
        answer_result(h, fcntl(fd, F_SETSIG, (int)c->number[3]));
    } else if (strcmp(call, "setown") == 0) {
        answer_result(h, set_owner(fd, c->word[3]));
    } else if (strcmp(call, "getown") == 0) {
        tell_owner(h, fd);
    } else {
        return 0;
    }
    return 1;
}
