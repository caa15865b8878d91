/* Waits that no hook sees, by a program that reads and writes with libc's calls: whatever happens to the stream, a
 * thread that waits for bytes that are there goes on. */
#include "victim.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/syscall.h>

#define LATE 3000 /* milliseconds after which a thread is said to sleep for ever: the bytes are there */

/* A system call of the program's own. */
static long raw(long number, long a, long b, long c, long d) {
#ifdef __x86_64__
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = 0, r9 __asm__("r9") = 0;
    long r;
    __asm__ volatile("syscall"
                     : "=a"(r)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (r < 0)
        errno = (int)-r;
    return r < 0 ? -1 : r;
#else
    return syscall(number, a, b, c, d, 0, 0);
#endif
}

enum { LEVEL, EDGE, POLL, WAYS };
static const char *const names[] = {"epoll", "epoll, edges", "poll"};

static int ep;

static void registers(int fd, int way) {
    struct epoll_event e = {.events = EPOLLIN | (way == EDGE ? EPOLLET : 0), .data.fd = fd};
    if (way != POLL)
        must(raw(SYS_epoll_ctl, ep, EPOLL_CTL_ADD, fd, (long)&e));
}

static bool wakes(int fd, int way) {
    struct pollfd p = {fd, POLLIN, 0};
    struct timespec t = {LATE / 1000, 0};
    struct epoll_event e;
    if (way == POLL)
        return must(raw(SYS_ppoll, (long)&p, 1, (long)&t, 0)) == 1;
    return must(raw(SYS_epoll_pwait, ep, (long)&e, 1, LATE)) == 1;
}

/* Registers after `before` exchanges, and far writes; then twenty exchanges that wait. Returns whether every wait
 * ended. */
static bool goes_on(int before, int way, bool blocking) {
    struct stream *s = stream_open(AF_INET);
    bool well = true;
    if (!blocking)
        set_nonblocking(s->fd, true);
    exchange(s, before);
    registers(s->fd, way);
    far_begin(FAR_RECV, s->index, 8, 0, 0);
    send_pattern(s, 8);
    far_end();
    for (int i = 0; i < 20 && well; i++) {
        far_do(FAR_SEND, s->index, 8, 0, 0);
        settle(s->fd, 8);
        well = wakes(s->fd, way);
        recv_pattern(s, 8);
        far_begin(FAR_RECV, s->index, 8, 0, 0);
        send_pattern(s, 8);
        far_end();
    }
    /* To be warm the program would have to be seen to wait. */
    if (before % 15 == 0 && way != POLL)
        warm_always();
    stream_close(s);
    return well;
}

/* Streams that are waited for in these ways, blocking and not. */
static void waits_in(int first, int ways) {
    int slept = 0;
    ep = (int)must(epoll_create1(EPOLL_CLOEXEC));
    for (int k = 0; k <= SWEEP && slept < 3; k++)
        for (int blocking = 0; blocking < 2; blocking++) {
            int way = first + (k + blocking) % ways;
            /* Most programs register before the first bytes. The shim cannot tell a program that has waited in reads
             * before, and then polls past the hooks, from one that goes on reading. */
            int before = k % 4 && way != POLL ? k : 0;
            if (goes_on(before, way, blocking))
                continue;
            slept++;
            say("%s, %s, after %d exchanges: sleeps", names[way], blocking ? "blocking" : "non-blocking", before);
        }
    say("%d slept", slept);
}

static void waits(void) {
    waits_in_sight = false;
    waits_in(LEVEL, POLL);
}

static void polls(void) {
    waits_in_sight = false;
    waits_in(POLL, 1);
}

enum { INLINE, SYSCALL, RING };

/* Registers in a way that no hook of epoll_ctl sees. */
static void control(int how, int op, int fd, uint32_t events, uint64_t data) {
    struct epoll_event e = {.events = events, .data.u64 = data};
    if (how == INLINE)
        must(raw(SYS_epoll_ctl, ep, op, fd, (long)&e));
    else if (how == SYSCALL)
        must(syscall(SYS_epoll_ctl, ep, op, fd, &e));
    else
        must(ring_epoll_ctl(ep, op, fd, &e));
}

/* Whether an event with this data reports bytes that are there. */
static bool is_told(struct stream *s, uint64_t data) {
    struct epoll_event e;
    far_do(FAR_SEND, s->index, 8, 0, 0);
    settle(s->fd, 8);
    long n = must(epoll_wait(ep, &e, 1, LATE));
    bool well = n == 1 && e.data.u64 == data && e.events & EPOLLIN;
    if (!well)
        fprintf(stderr, "%ld events, data %llx instead of %llx, %s\n", n, n ? (unsigned long long)e.data.u64 : 0,
                (unsigned long long)data, n ? name_epoll(e.events) : "nothing");
    recv_pattern(s, 8);
    far_begin(FAR_RECV, s->index, 8, 0, 0);
    send_pattern(s, 8);
    far_end();
    return well;
}

/* Registered and changed unseen, waited for by epoll_wait. Returns whether every wait ended well. */
static bool is_told_throughout(int how, int before, int after, bool blocking, bool moves) {
    uint64_t data = 1000u + (uint64_t)before;
    struct stream *s = stream_open(AF_INET);
    bool well = true;
    if (!blocking)
        set_nonblocking(s->fd, true);
    exchange(s, before);
    control(how, EPOLL_CTL_ADD, s->fd, EPOLLIN | (before % 2 ? EPOLLET : 0), data);
    for (int i = 0; i < after && well; i++)
        well = is_told(s, data);
    if (moves)
        warm_always();
    control(how, EPOLL_CTL_MOD, s->fd, EPOLLIN, data + 1000000);
    for (int i = 0; i < 20 && well; i++)
        well = is_told(s, data + 1000000);
    control(how, EPOLL_CTL_MOD, s->fd, EPOLLIN | EPOLLONESHOT, data);
    well = well && is_told(s, data);
    control(how, EPOLL_CTL_DEL, s->fd, 0, 0);
    exchange(s, 1);
    stream_close(s);
    return well;
}

static void registrations(void) {
    const char *way = opt.argc > 0 ? opt.argv[0] : "inline";
    int slept = 0, how = strcmp(way, "inline") == 0 ? INLINE : strcmp(way, "syscall") == 0 ? SYSCALL : RING;
    ep = (int)must(epoll_create1(EPOLL_CLOEXEC));
    for (int k = 0; k <= SWEEP && slept < 3; k++) {
        bool blocking = k % 3 == 0;
        if (is_told_throughout(how, k % 4 ? k / 2 : 0, 1 + k % 7 * 4, blocking, k % 5 == 0))
            continue;
        slept++;
        say("%s, %s, %d: sleeps", way, blocking ? "blocking" : "non-blocking", k);
    }
    say("%d slept", slept);
}

const struct test_case unseen_cases[] = {
    {"unseen-registrations", registrations, "[inline|syscall|ring]: epoll_ctl that no hook sees, epoll_wait by libc"},
    {"unseen-waits", waits, "waits for epoll by inline system calls, bytes by libc"},
    {"unseen-polls", polls, "polls by inline system calls, bytes by libc"},
    {NULL, NULL, NULL},
};
