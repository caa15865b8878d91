/* Many streams, high numbers, other families, connects that take two calls. */
#include "victim.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>

static void high_numbers(void) {
    raise_nofile(4096);
    struct stream *s = stream_open(AF_INET);
    must(dup2(s->fd, 2000));
    must(close(s->fd));
    s->fd = 2000;
    warm();
    dialogue(s, 20);
    say("poll %s", name_poll((short)wait_for(2000, POLLIN | POLLOUT, PATIENCE_MS)));
    /* a stream that is born high: every lower number is taken */
    int filler[1100], n = 0;
    while (n < LEN(filler))
        filler[n++] = (int)must(open("/dev/null", O_RDONLY | O_CLOEXEC));
    struct stream *t = stream_open(AF_INET);
    say("number is high: %d", t->fd >= 1024);
    warm();
    dialogue(t, 20);
    dialogue(s, 20);
    while (n > 0)
        close(filler[--n]);
    stream_close(t);
    stream_close(s);
}

static void many(void) {
    int n = opt.argc > 0 ? atoi(opt.argv[0]) : 1100;
    raise_nofile(20000);
    far_do(FAR_NUMBERS, 0, 20000, 0, 0);
    for (int i = 0; i < n; i++)
        stream_open(AF_INET);
    warm();
    for (int i = 0; i < n; i++) {
        far_begin(FAR_RECV, i, 500, 0, 0);
        send_pattern(&streams[i], 500);
        far_end();
        far_do(FAR_SEND, i, 300, 0, 0);
    }
    for (int i = n - 1; i >= 0; i--)
        recv_pattern(&streams[i], 300);
    say("%d streams", n);
    for (int i = 0; i < n; i++)
        stream_close(&streams[i]);
}

/* Streams that are opened and closed one after the other: numbers and ports come back. */
static void churn(void) {
    int n = opt.argc > 0 ? atoi(opt.argv[0]) : 300;
    for (int i = 0; i < n; i++) {
        struct stream *s = stream_open(i % 3 == 2 ? AF_INET6 : AF_INET);
        dialogue(s, 1 + i % 5);
        stream_close(s);
    }
    say("%d streams, one after the other", n);
}

static void families(void) {
    struct stream *all[] = {stream_open(AF_INET6), stream_open(AF_MAPPED), stream_open(AF_INET)};
    warm();
    for (int i = 0; i < LEN(all); i++) {
        struct sockaddr_storage at;
        socklen_t length = sizeof at;
        must(getpeername(all[i]->fd, (struct sockaddr *)&at, &length));
        struct sockaddr_in6 *six = (struct sockaddr_in6 *)&at;
        say("peer family %s, length %d, mapped %d", at.ss_family == AF_INET6 ? "inet6" : "inet", (int)length,
            at.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&six->sin6_addr));
        dialogue(all[i], 20);
        stream_close(all[i]);
    }
}

/* connect again after EINPROGRESS, as hiredis does to learn the outcome */
static void connect_twice(void) {
    struct sockaddr_storage to;
    int port = (int)far_do(FAR_LISTEN, 0, AF_INET, 0, 0).value, error = -1;
    int fd = (int)must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    socklen_t length = loopback(AF_INET, port, &to);
    say("connect %s", res(connect(fd, (struct sockaddr *)&to, length)));
    say("writable: %s", name_poll((short)wait_for(fd, POLLOUT, PATIENCE_MS)));
    say("connect again %s", res(connect(fd, (struct sockaddr *)&to, length)));
    say("connect a third time %s", res(connect(fd, (struct sockaddr *)&to, length)));
    socklen_t size = sizeof error;
    must(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
    say("SO_ERROR = %d", error);
    struct stream *s = stream_adopt(fd, local_port(fd));
    far_do(FAR_ACCEPT, s->index, 0, 0, 0);
    warm();
    say("connect after the warm-up %s", res(connect(fd, (struct sockaddr *)&to, length)));
    dialogue(s, 20);
    stream_close(s);
}

static void connect_refused(void) {
    struct sockaddr_storage to;
    int port, listener = tcp_listen(AF_INET, &port), error = -1;
    close(listener);
    socklen_t length = loopback(AF_INET, port, &to), size = sizeof error;
    int fd = (int)must(socket(AF_INET, SOCK_STREAM, 0));
    say("blocking connect %s", res(connect(fd, (struct sockaddr *)&to, length)));
    close(fd);
    fd = (int)must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    say("send before connect %s", res(send(fd, "x", 1, MSG_NOSIGNAL)));
    say("recv before connect %s", res(recv(fd, &error, 1, 0)));
    say("connect %s", res(connect(fd, (struct sockaddr *)&to, length)));
    say("poll %s", name_poll((short)wait_for(fd, POLLIN | POLLOUT, PATIENCE_MS)));
    must(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
    say("SO_ERROR = %s", strerrorname_np(error));
    must(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
    say("SO_ERROR = %d", error);
    close(fd);
}

/* A socket that connects, is used, is disconnected (AF_UNSPEC) and connects again. */
static void reconnect(void) {
    int port = (int)far_do(FAR_LISTEN, 0, AF_INET, 0, 0).value;
    int fd = tcp_connect(AF_INET, port);
    struct stream *s = stream_adopt(fd, local_port(fd));
    far_do(FAR_ACCEPT, s->index, 0, 0, 0);
    warm();
    dialogue(s, 5);
    struct sockaddr none = {.sa_family = AF_UNSPEC};
    say("disconnect %s", res(connect(fd, &none, sizeof none)));
    struct reply r = far_do(FAR_RECV_EOF, s->index, 0, 0, 0);
    say("far sees %s", res(r.ret));
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
    s->open = false;
    struct sockaddr_storage to;
    socklen_t length = loopback(AF_INET, port, &to);
    say("connect again %s", res(connect(fd, (struct sockaddr *)&to, length)));
    s = stream_adopt(fd, local_port(fd));
    far_do(FAR_ACCEPT, s->index, 0, 0, 0);
    dialogue(s, 20);
    stream_close(s);
}

const struct test_case many_cases[] = {
    {"high-numbers", high_numbers, "descriptors of 1024 and above"},
    {"many", many, "[N]: N streams at once (1,100)"},
    {"churn", churn, "[N]: N streams one after the other (300)"},
    {"families", families, "IPv6, v4-mapped, IPv4"},
    {"connect-twice", connect_twice, "a second connect after EINPROGRESS"},
    {"connect-refused", connect_refused, "a refused connect, calls before connect"},
    {"reconnect", reconnect, "connect to AF_UNSPEC and connect again"},
    {NULL, NULL, NULL},
};
