/* Every option of every level, asked and set. */
#include "options.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/time.h>

#define ZEROCOPY_RECEIVE 35

static const int levels[] = {SOL_SOCKET, IPPROTO_TCP, IPPROTO_IP, IPPROTO_IPV6};

/* Answers that are not the same in every run: counters, clocks, names of the machine, and sizes that the kernel chooses
 * by the traffic of the socket. */
static bool varies(int level, int number) {
    static const int of_socket[] = {SO_RCVBUF, SO_SNDBUF, SO_INCOMING_CPU, SO_INCOMING_NAPI_ID,
                                    SO_MEMINFO, SO_COOKIE, SO_PEERNAME};
    static const int of_tcp[] = {TCP_WINDOW_CLAMP, TCP_INFO, TCP_QUICKACK, TCP_TIMESTAMP, TCP_CC_INFO};
    for (int i = 0; level == SOL_SOCKET && i < LEN(of_socket); i++)
        if (of_socket[i] == number)
            return true;
    for (int i = 0; level == IPPROTO_TCP && i < LEN(of_tcp); i++)
        if (of_tcp[i] == number)
            return true;
    /* IP_PROTOCOL, as Linux 6.18 answers it, has bytes that it does not fill; 80 is SO_ORIGINAL_DST. */
    return (level == IPPROTO_IP && number == 52) || ((level == IPPROTO_IP || level == IPPROTO_IPV6) && number == 80);
}

/* Requests of netfilter change the machine's tables, not a socket: the case gets them and does not set them. Getting
 * TCP_ZEROCOPY_RECEIVE takes bytes, and it is never set here: "zerocopy-receive" tries it. */
static bool is_no_setting(int level, int number) {
    return (level == IPPROTO_TCP && number == ZEROCOPY_RECEIVE) ||
           (level == IPPROTO_IP && ((number >= 64 && number <= 67) || (number >= 96 && number <= 99))) ||
           (level == IPPROTO_IPV6 && number >= 64 && number <= 69 && number != 66 && number != 67);
}

static const char *answer(int fd, int level, int number, socklen_t room) {
    static char text[200];
    unsigned char value[512];
    socklen_t size = room;
    memset(value, 0x55, sizeof value);
    /* The memory from which the kernel reads (TCP_ZEROCOPY_RECEIVE, IP_MSFILTER) is zero. */
    memset(value, 0, 64);
    int r = getsockopt(fd, level, number, value, &size);
    int used = snprintf(text, sizeof text, "%s", res(r));
    if (r < 0)
        return text;
    used += snprintf(text + used, sizeof text - (size_t)used, " size %d", (int)size);
    for (socklen_t i = 0; !varies(level, number) && i < size && i < 24 && i < room; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%02x", i ? "" : " ", value[i]);
    return text;
}

static bool is_unknown(const char *text) {
    return strcmp(text, "= -1 ENOPROTOOPT") == 0 || strcmp(text, "= -1 EOPNOTSUPP") == 0;
}

static void ask_everything(int fd, const char *when) {
    int unknown = 0;
    for (int level = 0; level < 256; level++)
        for (int number = 0; number < 256; number++) {
            if (level == IPPROTO_TCP && number == ZEROCOPY_RECEIVE)
                continue;
            const char *text = answer(fd, level, number, 256);
            if (is_unknown(text)) {
                unknown += errno;
                continue;
            }
            say("%s: level %d option %d %s", when, level, number, text);
            static const int rooms[] = {0, 1, 3, 4, 7, 8, 12};
            for (int i = 0; i < LEN(rooms); i++)
                say("%s: level %d option %d into %d %s", when, level, number, rooms[i],
                    answer(fd, level, number, (socklen_t)rooms[i]));
            socklen_t size = 64;
            say("%s: level %d option %d into nowhere %s", when, level, number,
                res(getsockopt(fd, level, number, (void *)8, &size)));
            say("%s: level %d option %d without a size %s", when, level, number,
                res(getsockopt(fd, level, number, &size, (socklen_t *)8)));
        }
    say("%s: the errors of the unknown ones add up to %d", when, unknown);
}

static void option_get(void) {
    static const int families[] = {AF_INET, AF_INET6, AF_MAPPED};
    for (int i = 0; i < LEN(families); i++) {
        struct stream *s = stream_open(families[i]);
        ask_everything(s->fd, "before");
        warm_always();
        ask_everything(s->fd, "after");
        dialogue(s, 2);
        stream_close(s);
    }
}

struct candidate {
    socklen_t size;
    const void *value;
};

static struct sock_filter accept_all[] = {{BPF_RET | BPF_K, 0, 0, 0xffff}};
static const struct sock_fprog filter = {1, accept_all};
static const int zero, one = 1, seven = 7, minus = -1, large = 0x7fffffff, on_off[2] = {1, 0};
static const struct timeval tenth = {0, 100000};

/* Values in many shapes; most options take one or two of them. */
static const struct candidate generic[] = {
    {4, &zero}, {4, &one},  {4, &seven}, {4, &minus}, {4, &large},           {8, on_off}, {16, &tenth},
    {1, &one},  {0, &zero}, {3, &one},   {4, "lo"},   {6, "reno"},           {4, (void *)8},
};
/* A rate of a few bytes a second would be kept for minutes. */
static const struct candidate of_pacing[] = {{4, &large}, {4, &minus}, {3, &one}, {0, &zero}};
static const struct candidate of_filter[] = {{16, &filter}, {4, &one}, {16, &tenth}};
static const struct candidate of_ulp[] = {{4, "tls"}, {8, "nothing"}};
static const struct candidate of_device[] = {{4, "lo"}, {0, &zero}, {9, "nowhere"}};
static const struct candidate of_index[] = {{4, &one}, {4, &minus}, {3, &one}};

static const struct candidate *candidates(int level, int number, int *n) {
    if (level == SOL_SOCKET && number == SO_MAX_PACING_RATE)
        return *n = LEN(of_pacing), of_pacing;
    if (level == SOL_SOCKET && number == SO_ATTACH_FILTER)
        return *n = LEN(of_filter), of_filter;
    if (level == IPPROTO_TCP && number == TCP_ULP)
        return *n = LEN(of_ulp), of_ulp;
    if (level == SOL_SOCKET && number == SO_BINDTODEVICE)
        return *n = LEN(of_device), of_device;
    if (level == SOL_SOCKET && number == SO_BINDTOIFINDEX)
        return *n = LEN(of_index), of_index;
    return *n = LEN(generic), generic;
}

static bool level_is_buffer(int level, int number) {
    return level == SOL_SOCKET && (number == SO_SNDBUF || number == SO_RCVBUF);
}

static void set_everything(struct trial *t) {
    int n;
    unsigned char old[64], now[64];
    memset(old, 0, sizeof old);
    socklen_t old_size = sizeof old, size;
    const struct candidate *c = candidates(t->level, t->number, &n);
    bool told = getsockopt(t->fd, t->level, t->number, old, &old_size) == 0;
    say("level %d option %d: at first %s", t->level, t->number, answer(t->fd, t->level, t->number, 64));
    for (int i = 0; i < n; i++) {
        int r = setsockopt(t->fd, t->level, t->number, c[i].value, c[i].size);
        say("level %d option %d: set %d %s", t->level, t->number, i, res(r));
        say("level %d option %d: then %s", t->level, t->number, answer(t->fd, t->level, t->number, 64));
        size = sizeof now;
        bool same = told && getsockopt(t->fd, t->level, t->number, now, &size) == 0 && size == old_size &&
                    memcmp(old, now, size) == 0;
        t->accepted |= r == 0 && !same;
    }
    /* A dialogue follows: no option may stay set that delays it. The kernel reports twice the buffer size that was set.
     * */
    if (told && level_is_buffer(t->level, t->number))
        *(int *)old /= 2;
    if (told)
        say("level %d option %d: back %s", t->level, t->number,
            res(setsockopt(t->fd, t->level, t->number, old, old_size)));
    if (t->level == SOL_SOCKET && t->number == SO_ATTACH_FILTER)
        setsockopt(t->fd, SOL_SOCKET, SO_DETACH_FILTER, &one, sizeof one);
    /* Of a socket that is not connected yet the last value that is set counts. */
    if (!t->s)
        t->accepted = false;
}

/* Whether an option is known, asked on a socket that is not connected. */
static bool is_known(int family, int level, int number) {
    int n, fd = tcp_socket(family);
    const struct candidate *c = candidates(level, number, &n);
    bool known = !is_unknown(answer(fd, level, number, 64));
    for (int i = 0; i < n && !known; i++)
        known = setsockopt(fd, level, number, c[i].value, c[i].size) == 0 ||
                (errno != ENOPROTOOPT && errno != EINVAL && errno != EFAULT);
    close(fd);
    return known;
}

static void try_unknown(int fd, int family, const char *when) {
    for (int l = 0; l < LEN(levels); l++)
        for (int number = 0; number < 256; number++)
            if (!is_no_setting(levels[l], number) && !is_known(family, levels[l], number))
                for (int i = 0; i < LEN(generic); i++) {
                    int r = setsockopt(fd, levels[l], number, generic[i].value, generic[i].size);
                    if (r == 0 || errno != ENOPROTOOPT)
                        say("%s: level %d option %d: set %d %s", when, levels[l], number, i, res(r));
                }
}

static void option_set(void) {
    static struct trial trials[600];
    enum moment m = moment_of_argument();
    int family = opt.argc > 1 && strcmp(opt.argv[1], "6") == 0 ? AF_INET6 : AF_INET, n = 0;
    for (int l = 0; l < LEN(levels); l++)
        for (int number = 0; number < 256; number++)
            if (!is_no_setting(levels[l], number) && is_known(family, levels[l], number))
                trials[n++] = (struct trial){.level = levels[l], .number = number};
    say("%d options are known", n);
    trials_run(m, family, trials, n, set_everything);
    struct stream *s = stream_open(family);
    try_unknown(s->fd, family, "before");
    warm_always();
    try_unknown(s->fd, family, "after");
    dialogue(s, 2);
    stream_close(s);
}

const struct test_case option_cases[] = {
    {"option-get", option_get, "every option asked, before and after"},
    {"option-set", option_set, "MOMENT [6]: every option set"},
    {NULL, NULL, NULL},
};
