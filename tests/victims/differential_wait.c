/* The calls of the interpreter that wait. With `raw` before its name a call is made past the C library. */
#include "differential.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/syscall.h>

/* A system call by an instruction of the victim's own: no hook can see it, unlike syscall(3). */
static long raw_call(long number, long a, long b, long c, long d, long e) {
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = 0;
    long r = number;
    __asm__ volatile("syscall" : "+a"(r) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number, r __asm__("x0") = a, x1 __asm__("x1") = b, x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d, x4 __asm__("x4") = e, x5 __asm__("x5") = 0;
    __asm__ volatile("svc 0" : "+r"(r) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
#else
#error "no system call instruction is known for this processor"
#endif
    if (r < 0 && r > -4096) {
        errno = (int)-r;
        return -1;
    }
    return r;
}

static int raw_poll(struct pollfd *p, nfds_t n, int timeout) {
    struct timespec t = {timeout / 1000, timeout % 1000 * 1000000};
    return (int)raw_call(SYS_ppoll, (long)p, (long)n, timeout < 0 ? 0 : (long)&t, 0, 0);
}

static int raw_epoll_wait(int epfd, struct epoll_event *events, int max, int timeout) {
    return (int)raw_call(SYS_epoll_pwait, epfd, (long)events, max, timeout, 0);
}

static int raw_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event) {
    return (int)raw_call(SYS_epoll_ctl, epfd, op, fd, (long)event, 0);
}

/* poll TIMEOUT SLOT EVENTS [SLOT EVENTS]… */
static void call_poll(struct hand *h, const struct command *c, bool raw) {
    struct pollfd p[6];
    int n = 0;
    for (int i = 3; i + 1 < c->count && n < LEN(p); i += 2)
        p[n++] = (struct pollfd){fd_of(c->number[i]), (short)c->number[i + 1], 0};
    int r = (raw ? raw_poll : poll)(p, (nfds_t)n, (int)c->number[2]);
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

/* epoll SLOT */
static void call_epoll(struct hand *h, const struct command *c) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    slots[c->number[2] % SLOTS] = (struct slot){fd, -1};
    answer_result(h, fd < 0 ? -1 : 0);
}

/* epwait INSTANCE TIMEOUT [MOST]; the events are printed in the order in which they came. */
static void call_epoll_wait(struct hand *h, const struct command *c, bool raw) {
    struct epoll_event events[16];
    int most = c->count > 4 ? (int)c->number[4] : LEN(events);
    int r = (raw ? raw_epoll_wait : epoll_wait)(fd_of(c->number[2]), events, most, (int)c->number[3]);
    answer_result(h, r);
    for (int i = 0; i < r; i++)
        answer(h, " %llu@%llu:%s", (unsigned long long)events[i].data.u64 % SLOTS,
               (unsigned long long)events[i].data.u64 / SLOTS, name_epoll(events[i].events));
}

/* epctl INSTANCE OP SLOT EVENTS TURN: the data is the slot and the turn, which is never the same twice. */
static void call_epoll_ctl(struct hand *h, const struct command *c, bool raw) {
    uint64_t data = (uint64_t)c->number[6] * SLOTS + (uint64_t)c->number[4];
    struct epoll_event e = {.events = (uint32_t)strtoul(c->word[5], NULL, 0), .data.u64 = data};
    int op = c->word[3][0] == 'a' ? EPOLL_CTL_ADD : c->word[3][0] == 'm' ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    answer_result(h, (raw ? raw_epoll_ctl : epoll_ctl)(fd_of(c->number[2]), op, fd_of(c->number[4]), &e));
}

int do_wait(struct hand *h, const struct command *c) {
    bool raw = strncmp(c->word[1], "raw", 3) == 0;
    const char *call = c->word[1] + (raw ? 3 : 0);
    if (strcmp(call, "poll") == 0)
        call_poll(h, c, raw);
    else if (strcmp(call, "select") == 0)
        call_select(h, c);
    else if (strcmp(call, "epwait") == 0)
        call_epoll_wait(h, c, raw);
    else if (strcmp(call, "epctl") == 0)
        call_epoll_ctl(h, c, raw);
    else if (strcmp(call, "epoll") == 0)
        call_epoll(h, c);
    else
        return 0;
    return 1;
}
