/* Options that act on the bytes, or on the control messages that come with them. */
#include "options.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/time.h>

/* Constants that the headers of this libc may lack. */
#define ZEROCOPY_RECEIVE 35
#define FASTOPEN_CONNECT 30
#define RECEIVE_INQ 36
#define TX_DELAY 37
#define SNDBUF_FORCE 32

static struct sock_filter accept_all[] = {{BPF_RET | BPF_K, 0, 0, 0xffff}};
static const struct sock_fprog filter = {1, accept_all};
static const struct timeval long_time = {50, 0};
static const int one = 1, five = 5, much = 0x7fffffff;

/* Options that stay set for the life of the stream. */
static const struct {
    int level, number;
    socklen_t size;
    const void *value;
} left[] = {
    {SOL_SOCKET, SO_OOBINLINE, 4, &one},       {SOL_SOCKET, SO_RCVLOWAT, 4, &five},
    {SOL_SOCKET, SO_RCVTIMEO, 16, &long_time}, {SOL_SOCKET, SO_SNDTIMEO, 16, &long_time},
    {SOL_SOCKET, SO_TIMESTAMP, 4, &one},       {SOL_SOCKET, SO_TIMESTAMPNS, 4, &one},
    {SOL_SOCKET, SO_TIMESTAMPING, 4, &one},    {SOL_SOCKET, SO_PEEK_OFF, 4, &five},
    {SOL_SOCKET, SO_ZEROCOPY, 4, &one},        {SOL_SOCKET, SO_MAX_PACING_RATE, 4, &much},
    {SOL_SOCKET, SO_KEEPALIVE, 4, &one},       {SOL_SOCKET, SO_ATTACH_FILTER, 16, &filter},
    {IPPROTO_TCP, RECEIVE_INQ, 4, &one},       {IPPROTO_TCP, TX_DELAY, 4, &one},
    {IPPROTO_TCP, TCP_NODELAY, 4, &one},       {IPPROTO_TCP, TCP_ULP, 4, "tls"},
};

/* Sets the option; on a socket that was accepted since, checks whether it is set. */
static void leave_set(struct trial *t) {
    static unsigned char usual[LEN(left)][16];
    unsigned char now[16] = {0};
    int i = 0;
    while (left[i].level != t->level || left[i].number != t->number)
        i++;
    socklen_t size = t->number == SO_ATTACH_FILTER && t->level == SOL_SOCKET ? 0 : sizeof now;
    if (!t->s) {
        getsockopt(t->fd, t->level, t->number, usual[i], &size);
        say("level %d option %d: set %s", t->level, t->number,
            res(setsockopt(t->fd, t->level, t->number, left[i].value, left[i].size)));
    }
    size = t->number == SO_ATTACH_FILTER && t->level == SOL_SOCKET ? 0 : sizeof now;
    bool told = getsockopt(t->fd, t->level, t->number, now, &size) == 0;
    bool is_filter = t->level == SOL_SOCKET && t->number == SO_ATTACH_FILTER;
    t->accepted = told && (is_filter ? size > 0 : memcmp(usual[i], now, sizeof now) != 0);
    say("level %d option %d: is set: %d", t->level, t->number, t->accepted);
}

static void option_left(void) {
    static struct trial trials[LEN(left)];
    for (int i = 0; i < LEN(left); i++)
        trials[i] = (struct trial){.level = left[i].level, .number = left[i].number};
    trials_run(NEW, AF_INET, trials, LEN(left), leave_set);
}

/* One recvmsg with room for control messages; returns whether one came. A try that must show one prints nothing else.
 * */
static bool try_control(struct trial *t, int flags, bool must_show) {
    char buffer[100], control[300];
    struct iovec part = {buffer, sizeof buffer};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(t->fd, &m, flags);
    struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m);
    if (!c && must_show)
        return false;
    say("recvmsg %s flags %#x", res(n), n < 0 ? 0 : m.msg_flags);
    for (; c; c = CMSG_NXTHDR(&m, c))
        say("control level %d type %d size %d", c->cmsg_level, c->cmsg_type, (int)c->cmsg_len);
    return true;
}

static void show_control(struct trial *t, int flags) {
    try_control(t, flags, false);
}

static bool set_int(struct trial *t, int level, int number, int value) {
    int r = setsockopt(t->fd, level, number, &value, sizeof value);
    t->accepted |= r == 0 && value != 0;
    say("level %d option %d: set to %d %s", level, number, value, res(r));
    return r == 0;
}

static void timestamps(struct trial *t) {
    static const int options[] = {SO_TIMESTAMP, SO_TIMESTAMPNS, SO_TIMESTAMPING};
    for (int i = 0; i < LEN(options); i++) {
        /* SOF_TIMESTAMPING_RX_SOFTWARE and SOF_TIMESTAMPING_SOFTWARE */
        bool set = set_int(t, SOL_SOCKET, options[i], options[i] == SO_TIMESTAMPING ? 0x18 : 1);
        /* The kernel begins with the stamping after some time. */
        for (int try = 0; try < 1000; try++) {
            far_do(FAR_SEND_RAW, t->s->index, 7, 0, 0);
            await_readable(t->s, 7);
            if (try_control(t, 0, set))
                break;
            sleep_ms(1);
        }
        set_int(t, SOL_SOCKET, options[i], 0);
    }
}

static void receive_inq(struct trial *t) {
    set_int(t, IPPROTO_TCP, RECEIVE_INQ, 1);
    far_do(FAR_SEND_RAW, t->s->index, 150, 0, 0);
    await_readable(t->s, 150);
    show_control(t, 0);
    show_control(t, 0);
}

static void zerocopy(struct trial *t) {
    char buffer[4096];
    bool set = set_int(t, SOL_SOCKET, SO_ZEROCOPY, 1);
    memset(buffer, 'z', sizeof buffer);
    say("send %s", res(send(t->fd, buffer, sizeof buffer, MSG_ZEROCOPY)));
    say("far has %ld", far_do(FAR_RAW_RECV, t->s->index, sizeof buffer, MSG_WAITALL, 0).ret);
    for (int i = 0; set && i < PATIENCE_MS && !(wait_for(t->fd, 0, 0) & 8); i++)
        sleep_ms(1);
    show_control(t, MSG_ERRQUEUE | MSG_DONTWAIT);
    set_int(t, SOL_SOCKET, SO_ZEROCOPY, 0);
}

static void show_peek(struct trial *t, int flags, size_t n) {
    char buffer[64] = "";
    int offset = -7;
    socklen_t size = sizeof offset;
    ssize_t got = recv(t->fd, buffer, n, flags | MSG_DONTWAIT);
    int r = got < 0 ? errno : 0;
    getsockopt(t->fd, SOL_SOCKET, SO_PEEK_OFF, &offset, &size);
    say("recv of %zu with %#x: %zd %s, first %u, offset %d", n, flags, got, r ? strerrorname_np(r) : "",
        got > 0 ? (unsigned char)buffer[0] : 0, offset);
}

static void peek_offset(struct trial *t) {
    char rest[30];
    far_do(FAR_SEND, t->s->index, 30, 0, 0);
    await_readable(t->s, 30);
    set_int(t, SOL_SOCKET, SO_PEEK_OFF, 4);
    show_peek(t, MSG_PEEK, 3);
    show_peek(t, MSG_PEEK, 3);
    must(read_all(t->fd, rest, 5));
    next_in(t->s, rest, 5);
    show_peek(t, MSG_PEEK, 3);
    show_peek(t, MSG_PEEK, 50);
    show_peek(t, MSG_PEEK, 3);
    set_int(t, SOL_SOCKET, SO_PEEK_OFF, -1);
    t->accepted = true;
    show_peek(t, MSG_PEEK, 3);
    show_peek(t, MSG_PEEK, 3);
    recv_pattern(t->s, 25);
}

/* As the kernel's headers have it. */
struct zerocopy_receive {
    uint64_t address;
    uint32_t length, recv_skip_hint, inq;
    int32_t err;
    uint64_t copybuf_address;
    int32_t copybuf_len;
    uint32_t flags;
};

static void zerocopy_receive(struct trial *t) {
    char buffer[200] = "";
    far_do(FAR_SEND_RAW, t->s->index, 100, 0, 0);
    await_readable(t->s, 100);
    struct zerocopy_receive z = {.copybuf_address = (uintptr_t)buffer, .copybuf_len = sizeof buffer};
    socklen_t size = sizeof z;
    int r = getsockopt(t->fd, IPPROTO_TCP, ZEROCOPY_RECEIVE, &z, &size);
    const char *asked = res(r), *instead = "no";
    char first = buffer[0] ? buffer[0] : '-';
    if (r < 0 || z.copybuf_len == 0)
        instead = res(recv(t->fd, buffer, sizeof buffer, 0));
    say("TCP_ZEROCOPY_RECEIVE %s: %d bytes, first %c; recv instead %s", asked, r < 0 ? 0 : z.copybuf_len, first, instead);
    t->accepted = true;
}

static void oob_inline(struct trial *t) {
    set_int(t, SOL_SOCKET, SO_OOBINLINE, 1);
    far_do(FAR_SEND_RAW, t->s->index, 5, 0, 0);
    say("far's MSG_OOB %ld", far_do(FAR_SEND_RAW, t->s->index, 1, MSG_OOB, 0).ret);
    far_do(FAR_SEND_RAW, t->s->index, 5, 0, 0);
    int have = await_readable(t->s, 11);
    say("FIONREAD %d, poll %s", have, name_poll((short)wait_for(t->fd, 0x7f, 0)));
    for (int i = 0; i < 3; i++) {
        char buffer[40];
        int mark = -1;
        ioctl(t->fd, SIOCATMARK, &mark);
        say("at the mark: %d, recv MSG_OOB %s", mark, res(recv(t->fd, buffer, 1, MSG_OOB)));
        say("recv %s", res(recv(t->fd, buffer, sizeof buffer, MSG_DONTWAIT)));
    }
    /* Two bytes at once; only the second is urgent. */
    far_do(FAR_SEND_RAW, t->s->index, 3, MSG_OOB, 0);
    far_do(FAR_SEND_RAW, t->s->index, 2, MSG_OOB, 0);
    await_readable(t->s, 5);
    for (int i = 0; i < 3; i++) {
        char buffer[40];
        say("recv %s", res(recv(t->fd, buffer, sizeof buffer, MSG_DONTWAIT)));
    }
    set_int(t, SOL_SOCKET, SO_OOBINLINE, 0);
}

/* A sending buffer whose size the program sets holds that many bytes. */
static void room(struct trial *t) {
    int bytes = 2 << 20, has = 0;
    char chunk[32768];
    socklen_t size = sizeof has;
    if (setsockopt(t->fd, SOL_SOCKET, SNDBUF_FORCE, &bytes, sizeof bytes) < 0)
        must(setsockopt(t->fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes));
    must(getsockopt(t->fd, SOL_SOCKET, SO_SNDBUF, &has, &size));
    long taken = 0;
    for (;;) {
        next_out(t->s, chunk, sizeof chunk);
        ssize_t n = send(t->fd, chunk, sizeof chunk, MSG_DONTWAIT);
        t->s->tx -= sizeof chunk - (size_t)(n > 0 ? n : 0);
        if (n < 0)
            break;
        taken += n;
    }
    /* Half of it is the kernel's own (socket(7)). */
    say("SO_SNDBUF %d, and it took so much: %d", has, taken >= has / 2);
    far_do(FAR_RECV, t->s->index, taken, 0, 0);
}

static void run_one(int level, int number, void (*attempt)(struct trial *)) {
    struct trial t[1] = {{.level = level, .number = number}};
    trials_run(moment_of_argument(), AF_INET, t, 1, attempt);
}

#define CASE(function, level, number)                                                                                  \
    static void case_##function(void) {                                                                                \
        run_one(level, number, function);                                                                              \
    }
CASE(timestamps, SOL_SOCKET, SO_TIMESTAMP)
CASE(receive_inq, IPPROTO_TCP, RECEIVE_INQ)
CASE(zerocopy, SOL_SOCKET, SO_ZEROCOPY)
CASE(peek_offset, SOL_SOCKET, SO_PEEK_OFF)
CASE(zerocopy_receive, IPPROTO_TCP, ZEROCOPY_RECEIVE)
CASE(oob_inline, SOL_SOCKET, SO_OOBINLINE)
CASE(room, SOL_SOCKET, SO_SNDBUF)

/* TCP Fast Open: the first bytes go with the SYN where the machine is set so, else after it. */
static void fast_open(void) {
    for (int way = 0; way < 6; way++) {
        struct sockaddr_storage to;
        char first[500];
        int port = (int)far_do(FAR_LISTEN, 0, AF_INET, 0, 0).value, fd = tcp_socket(AF_INET);
        socklen_t size = loopback(AF_INET, port, &to);
        size_t n = way % 2 ? sizeof first : 5;
        struct stream *s = stream_adopt(fd, 0);
        next_out(s, first, n);
        if (way < 4) {
            if (way < 2)
                say("sendto %s", res(sendto(fd, first, n, MSG_FASTOPEN, (struct sockaddr *)&to, size)));
            else {
                struct iovec parts[2] = {{first, 3}, {first + 3, n - 3}};
                struct msghdr m = {.msg_name = &to, .msg_namelen = size, .msg_iov = parts, .msg_iovlen = 2};
                say("sendmsg %s", res(sendmsg(fd, &m, MSG_FASTOPEN)));
            }
        } else {
            say("TCP_FASTOPEN_CONNECT %s", res(setsockopt(fd, IPPROTO_TCP, FASTOPEN_CONNECT, &one, sizeof one)));
            say("connect %s", res(connect(fd, (struct sockaddr *)&to, size)));
            say("write %s", res(write(fd, first, n)));
        }
        s->port = local_port(fd);
        far_do(FAR_ACCEPT, s->index, 0, 0, 0);
        say("far has %ld", far_do(FAR_RECV, s->index, (long)n, 0, 0).value);
        struct tcp_info info = {0};
        size = sizeof info;
        must(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size));
        say("data went with the SYN: %d", (info.tcpi_options & 32) != 0);
        warm_always();
        dialogue(s, 5);
        stream_close(s);
    }
}

const struct test_case option_special_cases[] = {
    {"option-left", option_left, "options that are left set, or inherited from the listening socket"},
    {"timestamps", case_timestamps, "MOMENT: SO_TIMESTAMP and its kin"},
    {"tcp-inq", case_receive_inq, "MOMENT: TCP_INQ"},
    {"zerocopy", case_zerocopy, "MOMENT: SO_ZEROCOPY"},
    {"peek-offset", case_peek_offset, "MOMENT: SO_PEEK_OFF"},
    {"zerocopy-receive", case_zerocopy_receive, "MOMENT: TCP_ZEROCOPY_RECEIVE"},
    {"oob-inline", case_oob_inline, "MOMENT: SO_OOBINLINE"},
    {"send-buffer", case_room, "MOMENT: SO_SNDBUF"},
    {"fast-open", fast_open, "MSG_FASTOPEN and TCP_FASTOPEN_CONNECT"},
    {NULL, NULL, NULL},
};
