/* Questions that a program may ask a TCP socket, before and after the move: names, options, kinds. */
#include "victim.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <sys/time.h>

extern int isfdtype(int, int);

struct option {
    int level, name;
    const char *text;
    bool settable;
    int value;
};

/* Options whose value does not depend on the run. */
static const struct option options[] = {
    {SOL_SOCKET, SO_DOMAIN, "SO_DOMAIN", false, 0},
    {SOL_SOCKET, SO_TYPE, "SO_TYPE", false, 0},
    {SOL_SOCKET, SO_PROTOCOL, "SO_PROTOCOL", false, 0},
    {SOL_SOCKET, SO_ACCEPTCONN, "SO_ACCEPTCONN", false, 0},
    {SOL_SOCKET, SO_ERROR, "SO_ERROR", false, 0},
    {SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE", true, 1},
    {SOL_SOCKET, SO_REUSEADDR, "SO_REUSEADDR", true, 1},
    {SOL_SOCKET, SO_REUSEPORT, "SO_REUSEPORT", true, 1},
    {SOL_SOCKET, SO_BROADCAST, "SO_BROADCAST", true, 1},
    {SOL_SOCKET, SO_DONTROUTE, "SO_DONTROUTE", true, 1},
    {SOL_SOCKET, SO_OOBINLINE, "SO_OOBINLINE", false, 0},
    {SOL_SOCKET, SO_RCVLOWAT, "SO_RCVLOWAT", true, 1},
    {SOL_SOCKET, SO_PRIORITY, "SO_PRIORITY", true, 3},
    {SOL_SOCKET, SO_MARK, "SO_MARK", false, 0},
    {SOL_SOCKET, SO_BUSY_POLL, "SO_BUSY_POLL", false, 0},
    {SOL_SOCKET, SO_PASSCRED, "SO_PASSCRED", false, 0},
    {SOL_SOCKET, SO_TIMESTAMP, "SO_TIMESTAMP", false, 0},
    {SOL_SOCKET, SO_ZEROCOPY, "SO_ZEROCOPY", false, 0},
    {IPPROTO_IP, IP_TTL, "IP_TTL", true, 33},
    {IPPROTO_IP, IP_TOS, "IP_TOS", true, 0x10},
    {IPPROTO_IP, IP_MTU_DISCOVER, "IP_MTU_DISCOVER", false, 0},
    {IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY", true, 1},
    {IPPROTO_TCP, TCP_CORK, "TCP_CORK", false, 0},
    {IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE", true, 77},
    {IPPROTO_TCP, TCP_KEEPINTVL, "TCP_KEEPINTVL", true, 7},
    {IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT", true, 5},
    {IPPROTO_TCP, TCP_SYNCNT, "TCP_SYNCNT", true, 4},
    {IPPROTO_TCP, TCP_LINGER2, "TCP_LINGER2", false, 0},
    {IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT", true, 12345},
    {IPPROTO_TCP, TCP_QUICKACK, "TCP_QUICKACK (asked)", false, 0},
    {IPPROTO_TCP, TCP_FASTOPEN, "TCP_FASTOPEN", false, 0},
    {IPPROTO_TCP, TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT", true, 16384},
    {IPPROTO_IPV6, IPV6_V6ONLY, "IPV6_V6ONLY", false, 0},
    {IPPROTO_IPV6, IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS", false, 0},
    {IPPROTO_IPV6, IPV6_TCLASS, "IPV6_TCLASS", false, 0},
    {SOL_SOCKET, 9999, "an unknown option", false, 0},
    {IPPROTO_TCP, 9999, "an unknown TCP option", false, 0},
    {77, 1, "an unknown level", false, 0},
};

static void show_options(int fd, const char *when) {
    for (int i = 0; i < LEN(options); i++) {
        int value = -77;
        socklen_t size = sizeof value;
        int r = getsockopt(fd, options[i].level, options[i].name, &value, &size);
        if (r < 0)
            say("%s: %s %s", when, options[i].text, res(r));
        else if (options[i].name == TCP_QUICKACK && options[i].level == IPPROTO_TCP)
            say("%s: %s, size %d", when, options[i].text, (int)size);
        else
            say("%s: %s = %d, size %d", when, options[i].text, value, (int)size);
    }
    struct linger l = {-1, -1};
    socklen_t size = sizeof l;
    getsockopt(fd, SOL_SOCKET, SO_LINGER, &l, &size);
    say("%s: SO_LINGER = %d %d, size %d", when, l.l_onoff, l.l_linger, (int)size);
    struct timeval t = {-1, -1};
    size = sizeof t;
    getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, &size);
    say("%s: SO_RCVTIMEO = %ld.%06ld, size %d", when, (long)t.tv_sec, (long)t.tv_usec, (int)size);
    struct ucred peer = {-5, 0, 0};
    size = sizeof peer;
    int r = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
    say("%s: SO_PEERCRED %s pid %d uid %d", when, res(r), peer.pid, (int)peer.uid);
    char text[64] = "";
    size = sizeof text;
    getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, text, &size);
    say("%s: TCP_CONGESTION is set: %d, size %d", when, text[0] != 0, (int)size);
    size = sizeof text;
    r = getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, text, &size);
    say("%s: SO_BINDTODEVICE %s size %d", when, res(r), (int)size);
    struct tcp_info info = {0};
    size = sizeof info;
    r = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size);
    say("%s: TCP_INFO %s state %d, rtt is set: %d", when, res(r), info.tcpi_state, info.tcpi_rtt > 0);
    int mss = 0;
    size = sizeof mss;
    getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &mss, &size);
    say("%s: TCP_MAXSEG is set: %d", when, mss > 0);
    int small = 0x01020304;
    size = 1;
    r = getsockopt(fd, SOL_SOCKET, SO_TYPE, &small, &size);
    say("%s: SO_TYPE into one byte %s size %d value %#x", when, res(r), (int)size, small);
}

static const char *address(const struct sockaddr_storage *at) {
    static _Thread_local char text[80];
    char ip[64] = "?";
    if (at->ss_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)at)->sin_addr, ip, sizeof ip);
    else if (at->ss_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)at)->sin6_addr, ip, sizeof ip);
    snprintf(text, sizeof text, "family %d %s", at->ss_family, ip);
    return text;
}

static int port_of(const struct sockaddr_storage *at) {
    return ntohs(at->ss_family == AF_INET ? ((const struct sockaddr_in *)at)->sin_port
                                          : ((const struct sockaddr_in6 *)at)->sin6_port);
}

/* ports are ephemeral: what must hold is that they do not change, and that they mirror far's */
static void show_names(struct stream *s, const char *when, int *ports) {
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    int r = getsockname(s->fd, (struct sockaddr *)&at, &size), mine = port_of(&at);
    say("%s: getsockname %s %s size %d", when, res(r), address(&at), (int)size);
    size = sizeof at;
    r = getpeername(s->fd, (struct sockaddr *)&at, &size);
    int peer = port_of(&at);
    say("%s: getpeername %s %s size %d", when, res(r), address(&at), (int)size);
    if (!ports[0])
        ports[0] = mine, ports[1] = peer;
    say("%s: ports are the same: %d", when, ports[0] == mine && ports[1] == peer);
    say("%s: ports mirror far's: %d", when, far_do(FAR_NAMES, s->index, 0, 0, 0).value == peer);
    memset(&at, 0x55, sizeof at);
    size = 3;
    r = getsockname(s->fd, (struct sockaddr *)&at, &size);
    say("%s: getsockname into 3 bytes %s size %d fourth byte %#x", when, res(r), (int)size, ((uint8_t *)&at)[3]);
    size = 0;
    r = getpeername(s->fd, NULL, &size);
    say("%s: getpeername into nothing %s size %d", when, res(r), (int)size);
    size = sizeof at;
    say("%s: getsockname of a bad pointer %s", when, res(getsockname(s->fd, (void *)8, &size)));
    struct stat st;
    must(fstat(s->fd, &st));
    say("%s: a socket by fstat: %d, by isfdtype: %d", when, S_ISSOCK(st.st_mode), isfdtype(s->fd, S_IFSOCK));
    char link[64], text[64] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", s->fd);
    must(readlink(link, text, sizeof text - 1));
    say("%s: link %.7s", when, text);
    say("%s: lseek %s", when, res(lseek(s->fd, 0, SEEK_CUR)));
    say("%s: pread %s", when, res(pread(s->fd, text, 1, 0)));
    say("%s: listen %s", when, res(listen(s->fd, 5)));
    say("%s: accept %s", when, res(accept(s->fd, NULL, NULL)));
    struct sockaddr_storage to;
    size = loopback(AF_INET, 0, &to);
    say("%s: bind %s", when, res(bind(s->fd, (struct sockaddr *)&to, size)));
    say("%s: F_GETFL %#x, F_GETFD %d, F_GETOWN %d", when, fcntl(s->fd, F_GETFL), fcntl(s->fd, F_GETFD),
        fcntl(s->fd, F_GETOWN));
    say("%s: F_GETLK and such: F_GETPIPE_SZ %s", when, res(fcntl(s->fd, F_GETPIPE_SZ)));
}

static void names(void) {
    int families[] = {AF_INET, AF_INET6, AF_MAPPED};
    for (int i = 0; i < LEN(families); i++) {
        struct stream *s = stream_open(families[i]);
        int ports[2] = {0, 0};
        show_names(s, "before", ports);
        warm();
        show_names(s, "after", ports);
        dialogue(s, 5);
        show_names(s, "later", ports);
        far_do(FAR_SHUT, s->index, SHUT_WR, 0, 0);
        say("recv %s", res(recv(s->fd, ports + 1, 0, 0)));
        far_do(FAR_CLOSE, s->index, 0, 0, 0);
        close(s->fd);
        s->open = false;
    }
}

static void do_options(void) {
    int families[] = {AF_INET, AF_INET6};
    for (int i = 0; i < LEN(families); i++) {
        struct stream *s = stream_open(families[i]);
        uint64_t cookie = 0, again = 0;
        socklen_t size = sizeof cookie;
        must(getsockopt(s->fd, SOL_SOCKET, SO_COOKIE, &cookie, &size));
        show_options(s->fd, "before");
        warm();
        show_options(s->fd, "after");
        must(getsockopt(s->fd, SOL_SOCKET, SO_COOKIE, &again, &size));
        say("SO_COOKIE is the same: %d", cookie == again && cookie != 0);
        dialogue(s, 5);
        stream_close(s);
    }
}

static void set_all(int fd, const char *when) {
    for (int i = 0; i < LEN(options); i++)
        if (options[i].settable)
            say("%s: set %s %s", when, options[i].text,
                res(setsockopt(fd, options[i].level, options[i].name, &options[i].value, sizeof(int))));
    struct linger l = {1, 3};
    struct timeval t = {3, 250000};
    say("%s: set SO_LINGER %s", when, res(setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof l)));
    say("%s: set SO_RCVTIMEO %s", when, res(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t)));
    int bytes = 50000;
    say("%s: set SO_RCVBUF %s", when, res(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes)));
    say("%s: set SO_SNDBUF %s", when, res(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes)));
    socklen_t size = sizeof bytes;
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &size);
    say("%s: SO_RCVBUF = %d", when, bytes);
    getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &size);
    say("%s: SO_SNDBUF = %d", when, bytes);
    int on = 1;
    say("%s: set an unknown option %s", when, res(setsockopt(fd, SOL_SOCKET, 9999, &on, sizeof on)));
    say("%s: set with a short value %s", when, res(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, 1)));
    say("%s: set SO_TYPE %s", when, res(setsockopt(fd, SOL_SOCKET, SO_TYPE, &on, sizeof on)));
    say("%s: set TCP_NODELAY at a bad pointer %s", when,
        res(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, (void *)8, sizeof on)));
}

static void options_set(bool before) {
    struct stream *s = stream_open(AF_INET);
    if (before)
        set_all(s->fd, "early");
    warm();
    if (!before)
        set_all(s->fd, "late");
    show_options(s->fd, "then");
    dialogue(s, 20);
    stream_close(s);
}

static void options_early(void) {
    options_set(true);
}

static void options_late(void) {
    options_set(false);
}

/* What accept, accept4 and getsockname report for the accepted end. */
static void accepted(void) {
    int port, listener = tcp_listen(AF_INET, &port);
    for (int i = 0; i < 3; i++) {
        struct sockaddr_storage at;
        socklen_t size = i == 1 ? 4 : sizeof at;
        memset(&at, 0, sizeof at);
        int index = i;
        far_begin(FAR_CONNECT, index, AF_INET, port, 0);
        int fd = (int)must(i == 2 ? accept4(listener, (struct sockaddr *)&at, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
                                  : accept(listener, (struct sockaddr *)&at, &size));
        int far_port = (int)far_end().value;
        say("accept: family %d size %d port is far's: %d", at.ss_family, (int)size, port_of(&at) == far_port);
        say("F_GETFL %#x F_GETFD %d", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD));
        struct stream *s = stream_adopt(fd, far_port);
        warm();
        int ports[2] = {0, 0};
        show_names(s, "accepted", ports);
        say("port is the listener's: %d", ports[0] == port);
        dialogue(s, 5);
        stream_close(s);
    }
}

/* SO_RCVLOWAT holds back readiness until enough bytes have come. */
static void low_water(void) {
    struct stream *s = stream_open(AF_INET);
    int low = 100;
    warm();
    must(setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    far_do(FAR_SEND, s->index, 60, 0, 0);
    await_readable(s, 60);
    say("60 bytes: poll %s", name_poll((short)wait_for(s->fd, 1, 50)));
    far_do(FAR_SEND, s->index, 40, 0, 0);
    say("100 bytes: poll %s", name_poll((short)wait_for(s->fd, 1, PATIENCE_MS)));
    recv_pattern(s, 100);
    far_begin(FAR_SEND, s->index, 150, 50, 20000);
    char buffer[200];
    ssize_t got = recv(s->fd, buffer, sizeof buffer, 0);
    say("recv waits for the low-water mark: %d", got >= 100);
    next_in(s, buffer, (size_t)got);
    far_end();
    low = 1;
    must(setsockopt(s->fd, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof low));
    recv_pattern(s, 150 - (size_t)got);
    dialogue(s, 5);
    stream_close(s);
}

/* Urgent data: far sends one byte out of band. */
static void urgent(void) {
    struct stream *s = stream_open(AF_INET);
    char byte = 0;
    warm();
    say("recv MSG_OOB of nothing %s", res(recv(s->fd, &byte, 1, MSG_OOB)));
    far_do(FAR_SEND, s->index, 10, 0, 0);
    struct reply r = far_do(FAR_SEND_RAW, s->index, 1, MSG_OOB, 0);
    say("far's send MSG_OOB %s", res(r.ret));
    await_readable(s, 10);
    recv_pattern(s, 5);
    recv_pattern(s, 5);
    say("poll PRI %s", name_poll((short)wait_for(s->fd, 2, PATIENCE_MS)));
    say("sockatmark = %d", sockatmark(s->fd));
    ssize_t n = recv(s->fd, &byte, 1, MSG_OOB);
    say("recv MSG_OOB %s %c", res(n), byte);
    dialogue(s, 5);
    stream_close(s);
}

const struct test_case question_cases[] = {
    {"names", names, "getsockname, getpeername, fstat and the like"},
    {"options", do_options, "getsockopt of everything"},
    {"options-early", options_early, "setsockopt before the warm-up"},
    {"options-late", options_late, "setsockopt after it"},
    {"accepted", accepted, "accept and its address"},
    {"low-water", low_water, "SO_RCVLOWAT"},
    {"urgent", urgent, "MSG_OOB"},
    {NULL, NULL, NULL},
};
