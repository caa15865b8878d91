/* Printing, failing, time. */
#include "victim.h"

#include <poll.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <time.h>

void say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    flockfile(stdout);
    vprintf(format, args);
    putchar('\n');
    fflush(stdout);
    funlockfile(stdout);
    va_end(args);
}

_Noreturn void die(const char *format, ...) {
    char message[600];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    fprintf(stderr, "victim %d: %s\n", (int)getpid(), message);
    fflush(stderr);
    _exit(1);
}

const char *res(long ret) {
    static _Thread_local char text[4][48];
    static _Thread_local int turn;
    int err = errno;
    char *out = text[turn++ % 4];
    const char *name = strerrorname_np(err);
    if (ret < 0)
        snprintf(out, sizeof text[0], "= %ld %s", ret, name ? name : "?");
    else
        snprintf(out, sizeof text[0], "= %ld", ret);
    return out;
}

struct bit {
    uint32_t mask;
    const char *name;
};

static const char *name_bits(const struct bit *bits, int n, uint32_t events) {
    static _Thread_local char text[4][128];
    static _Thread_local int turn;
    char *out = text[turn++ % 4];
    size_t used = 0;
    out[0] = 0;
    for (int i = 0; i < n; i++)
        if (events & bits[i].mask) {
            used += (size_t)snprintf(out + used, sizeof text[0] - used, "%s%s", used ? "|" : "", bits[i].name);
            events &= ~bits[i].mask;
        }
    if (events || !used)
        snprintf(out + used, sizeof text[0] - used, "%s%#x", used ? "|" : "", events);
    return out;
}

const char *name_poll(short events) {
    static const struct bit bits[] = {
        {POLLIN, "IN"},         {POLLPRI, "PRI"},       {POLLOUT, "OUT"},       {POLLERR, "ERR"},
        {POLLHUP, "HUP"},       {POLLNVAL, "NVAL"},     {POLLRDNORM, "RDNORM"}, {POLLRDBAND, "RDBAND"},
        {POLLWRNORM, "WRNORM"}, {POLLWRBAND, "WRBAND"}, {POLLRDHUP, "RDHUP"},
    };
    return name_bits(bits, LEN(bits), (uint16_t)events);
}

const char *name_epoll(uint32_t events) {
    static const struct bit bits[] = {
        {EPOLLIN, "IN"},         {EPOLLPRI, "PRI"},       {EPOLLOUT, "OUT"},       {EPOLLERR, "ERR"},
        {EPOLLHUP, "HUP"},       {EPOLLRDHUP, "RDHUP"},   {EPOLLRDNORM, "RDNORM"}, {EPOLLRDBAND, "RDBAND"},
        {EPOLLWRNORM, "WRNORM"}, {EPOLLWRBAND, "WRBAND"},
    };
    return name_bits(bits, LEN(bits), events);
}

long must_(long ret, const char *what, const char *file, int line) {
    if (ret < 0)
        die("%s:%d: %s: %s", file, line, what, strerror(errno));
    return ret;
}

uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

void sleep_ms(int ms) {
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t) < 0 && errno == EINTR) {
    }
}

void event(const char *what) {
    say("@event %s", what);
    if (!getenv("VICTIM_HOLD"))
        return;
    char answer[8];
    if (read(0, answer, 3) != 3)
        die("the harness did not answer '%s'", what);
}
