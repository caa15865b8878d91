/* The ends of streams, in every order. */
#include "victim.h"

#include <poll.h>
#include <signal.h>

static const int sizes[] = {0, 1, 7, 8, 9, 100, 5000, 300000};

static void near_shuts_first(void) {
    for (int i = 0; i < LEN(sizes); i++) {
        struct stream *s = stream_open(AF_INET);
        warm();
        far_begin(FAR_RECV_EOF, s->index, 0, 0, 0);
        send_pattern(s, (size_t)sizes[i]);
        must(shutdown(s->fd, SHUT_WR));
        struct reply r = far_end();
        say("far: end after %ld bytes, %s", r.value, res(r.ret));
        say("send after shutdown %s", res(send(s->fd, "x", 1, MSG_NOSIGNAL)));
        far_begin(FAR_SEND, s->index, 70000, 0, 0);
        recv_pattern(s, 70000);
        far_end();
        far_do(FAR_CLOSE, s->index, 0, 0, 0);
        say("near: %s", res(recv(s->fd, &r, 1, 0)));
        say("near: again %s", res(recv(s->fd, &r, 1, 0)));
        close(s->fd);
        s->open = false;
    }
}

static void far_shuts_first(void) {
    for (int i = 0; i < LEN(sizes); i++) {
        struct stream *s = stream_open(AF_INET);
        char byte;
        warm();
        far_begin(FAR_SEND, s->index, sizes[i], 0, 0);
        recv_pattern(s, (size_t)sizes[i]);
        far_end();
        far_do(FAR_SHUT, s->index, SHUT_WR, 0, 0);
        say("near: %s", res(recv(s->fd, &byte, 1, 0)));
        far_begin(FAR_RECV, s->index, 200000, 0, 0);
        send_pattern(s, 200000);
        say("far received = %ld", far_end().value);
        must(close(s->fd));
        s->open = false;
        struct reply r = far_do(FAR_RECV_EOF, s->index, 0, 0, 0);
        say("far: end after %ld bytes, %s", r.value, res(r.ret));
        far_do(FAR_CLOSE, s->index, 0, 0, 0);
    }
}

/* Both shut down at the same moment, each with data under way. */
static void both_shut(void) {
    for (int i = 0; i < 6; i++) {
        struct stream *s = stream_open(AF_INET);
        char byte;
        warm();
        far_do(FAR_SEND, s->index, sizes[i], 0, 0);
        send_pattern(s, (size_t)sizes[i]);
        far_begin(FAR_SHUT, s->index, SHUT_WR, 0, 0);
        must(shutdown(s->fd, SHUT_WR));
        far_end();
        recv_pattern(s, (size_t)sizes[i]);
        say("near: %s", res(recv(s->fd, &byte, 1, 0)));
        struct reply r = far_do(FAR_RECV_EOF, s->index, 0, 0, 0);
        say("far: end after %ld bytes, %s", r.value, res(r.ret));
        wait_for(s->fd, POLLHUP, PATIENCE_MS);
        say("near's poll: %s", name_poll((short)wait_for(s->fd, POLLIN | POLLOUT | POLLRDHUP, PATIENCE_MS)));
        say("shutdown again %s", res(shutdown(s->fd, SHUT_WR)));
        far_do(FAR_CLOSE, s->index, 0, 0, 0);
        close(s->fd);
        s->open = false;
    }
}

static void shut_reading(void) {
    struct stream *s = stream_open(AF_INET);
    char byte;
    warm();
    must(shutdown(s->fd, SHUT_RD));
    say("recv %s", res(recv(s->fd, &byte, 1, 0)));
    say("poll %s", name_poll((short)wait_for(s->fd, POLLIN | POLLOUT | POLLRDHUP, PATIENCE_MS)));
    far_begin(FAR_RECV, s->index, 100, 0, 0);
    send_pattern(s, 100);
    say("far received = %ld", far_end().value);
    struct reply r = far_do(FAR_SEND_RAW, s->index, 10, 0, 0);
    say("far's send %s", res(r.ret));
    say("shutdown of the rest %s", res(shutdown(s->fd, SHUT_RDWR)));
    r = far_do(FAR_RECV_EOF, s->index, 0, 0, 0);
    say("far: end after %ld bytes, %s", r.value, res(r.ret));
    say("bad how %s", res(shutdown(s->fd, 99)));
    close(s->fd);
}

/* Far closes with unread bytes: the kernel tells near by a reset. */
static void close_unread(void) {
    struct stream *s = stream_open(AF_INET);
    char byte;
    warm();
    send_pattern(s, 100);
    far_do(FAR_POLL, s->index, POLLIN, PATIENCE_MS, 0);
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
    wait_for(s->fd, POLLIN, PATIENCE_MS);
    say("poll %s", name_poll((short)wait_for(s->fd, POLLIN | POLLRDHUP, PATIENCE_MS)));
    say("recv %s", res(recv(s->fd, &byte, 1, 0)));
    say("recv again %s", res(recv(s->fd, &byte, 1, 0)));
    say("send %s", res(send(s->fd, "x", 1, MSG_NOSIGNAL)));
    close(s->fd);
}

static void reset(void) {
    struct stream *s = stream_open(AF_INET);
    char byte;
    int error;
    socklen_t size = sizeof error;
    warm();
    far_do(FAR_LINGER0, s->index, 0, 0, 0);
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
    wait_for(s->fd, POLLIN, PATIENCE_MS);
    say("poll %s", name_poll((short)wait_for(s->fd, POLLIN | POLLRDHUP, PATIENCE_MS)));
    say("recv %s", res(recv(s->fd, &byte, 1, 0)));
    say("recv again %s", res(recv(s->fd, &byte, 1, 0)));
    must(getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size));
    say("SO_ERROR = %d", error);
    close(s->fd);
    s->open = false;
    /* and where a send, or SO_ERROR, meets the reset */
    s = stream_open(AF_INET);
    warm();
    far_do(FAR_LINGER0, s->index, 0, 0, 0);
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
    wait_for(s->fd, POLLIN, PATIENCE_MS);
    must(getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size));
    say("SO_ERROR = %s", error ? strerrorname_np(error) : "0");
    say("send %s", res(send(s->fd, "x", 1, MSG_NOSIGNAL)));
    close(s->fd);
    s->open = false;
    /* a reset overtakes data that near has not read yet */
    s = stream_open(AF_INET);
    warm();
    far_do(FAR_SEND, s->index, 100, 0, 0);
    await_readable(s, 100);
    recv_pattern(s, 40);
    far_do(FAR_LINGER0, s->index, 0, 0, 0);
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
    wait_for(s->fd, POLLRDHUP, PATIENCE_MS);
    say("recv after a reset with data left %s", res(recv(s->fd, &byte, 1, 0)));
    close(s->fd);
}

static void end_of_process(bool killed) {
    struct stream *s = stream_open(AF_INET);
    char byte;
    if (opt.far_thread)
        die("this case needs --far=process");
    warm();
    far_do(FAR_SEND, s->index, 100000, 0, 0);
    far_begin(killed ? FAR_DIE : FAR_EXIT, 0, 0, 0, 0);
    recv_pattern(s, 100000);
    say("recv %s", res(recv(s->fd, &byte, 1, 0)));
    close(s->fd);
    far_drop_pipes();
}

static void killed(void) {
    end_of_process(true);
}

static void exits(void) {
    end_of_process(false);
}

static volatile sig_atomic_t pipes_broken;

static void on_sigpipe(int signal) {
    (void)signal;
    pipes_broken++;
}

/* After an orderly close TCP lets the first write pass, other transports may not; in the end both give EPIPE. */
static void write_after_close(void) {
    struct stream *s = stream_open(AF_INET);
    warm();
    signal(SIGPIPE, on_sigpipe);
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
    wait_for(s->fd, POLLRDHUP, PATIENCE_MS);
    int err = 0, last = 0, tries = 0;
    for (; tries < PATIENCE_MS / 2 && last != EPIPE; tries++) {
        if (send(s->fd, "x", 1, tries % 2 ? MSG_NOSIGNAL : 0) < 0) {
            last = errno;
            err = err ? err : last;
        } else {
            sleep_ms(2);
        }
    }
    say("first error is EPIPE or ECONNRESET: %d", err == EPIPE || err == ECONNRESET);
    int before = pipes_broken;
    ssize_t n = write(s->fd, "x", 1);
    say("write %s, SIGPIPE %d", res(n), pipes_broken - before);
    before = pipes_broken;
    n = send(s->fd, "x", 1, MSG_NOSIGNAL);
    say("send MSG_NOSIGNAL %s, SIGPIPE %d", res(n), pipes_broken - before);
    close(s->fd);
}

/* Near sends and closes at once: nothing may be lost. */
static void close_at_once(void) {
    for (int i = 0; i < 6; i++) {
        struct stream *s = stream_open(AF_INET);
        warm();
        if (i % 2)
            dialogue(s, i);
        size_t n = (size_t)sizes[i + 2];
        if (n > 100000)
            far_begin(FAR_RECV_EOF, s->index, 0, 0, 0);
        send_pattern(s, n);
        must(close(s->fd));
        s->open = false;
        struct reply r = n > 100000 ? far_end() : far_do(FAR_RECV_EOF, s->index, 0, 0, 0);
        say("far: end after %ld bytes, %s", r.value, res(r.ret));
        far_do(FAR_CLOSE, s->index, 0, 0, 0);
    }
}

const struct test_case halfclose_cases[] = {
    {"near-shuts-first", near_shuts_first, "near shuts down after k bytes, then reads"},
    {"far-shuts-first", far_shuts_first, "far shuts down after k bytes, then reads"},
    {"both-shut", both_shut, "both shut down at once"},
    {"shut-reading", shut_reading, "SHUT_RD, SHUT_RDWR, a bad how"},
    {"close-unread", close_unread, "close with unread bytes is a reset"},
    {"reset", reset, "SO_LINGER 0 is a reset"},
    {"killed", killed, "far is killed"},
    {"exits", exits, "far exits without closing"},
    {"write-after-close", write_after_close, "EPIPE and SIGPIPE"},
    {"close-at-once", close_at_once, "send and close"},
    {NULL, NULL, NULL},
};
