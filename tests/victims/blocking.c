/* Calls that block, on one thread and on several. */
#include "victim.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

struct job {
    struct stream *s;
    size_t bytes, chunk;
};

static void *reader(void *arg) {
    struct job *j = arg;
    recv_pattern(j->s, j->bytes);
    return NULL;
}

static void *writer(void *arg) {
    struct job *j = arg;
    for (size_t done = 0; done < j->bytes; done += j->chunk)
        send_pattern(j->s, j->bytes - done < j->chunk ? j->bytes - done : j->chunk);
    return NULL;
}

/* A reader is blocked in recv while this thread goes on sending; far answers only at the very end. */
static void reader_blocked(void) {
    struct stream *s = stream_open(AF_INET);
    struct job job = {s, 100, 0};
    pthread_t thread;
    warm();
    must(-pthread_create(&thread, NULL, reader, &job));
    sleep_ms(20);
    far_begin(FAR_RECV, s->index, 400 * 64, 0, 0);
    for (int i = 0; i < 400; i++) {
        send_pattern(s, 64);
        sleep_ms(1);
    }
    say("far received = %ld", far_end().value);
    far_do(FAR_SEND, s->index, 100, 0, 0);
    pthread_join(thread, NULL);
    say("the blocked reader has its 100 bytes");
    warm_always();
    dialogue(s, 20);
    stream_close(s);
}

/* The same with a blocked reader at both ends, each with a writer beside it. */
static void readers_blocked_on_both_ends(void) {
    struct stream *s = stream_open(AF_INET);
    struct job job = {s, 300 * 64 + 100, 0};
    pthread_t thread;
    warm();
    must(-pthread_create(&thread, NULL, reader, &job));
    far_begin(FAR_BLOCKED_READER, s->index, 300 * 64, 300 * 64, 1000);
    for (int i = 0; i < 300; i++) {
        send_pattern(s, 64);
        sleep_ms(1);
    }
    far_end();
    sleep_ms(30);
    far_do(FAR_SEND, s->index, 100, 0, 0);
    pthread_join(thread, NULL);
    say("both readers have their bytes");
    warm_always();
    dialogue(s, 20);
    stream_close(s);
}

/* A reader that waits on a stream on which nothing at all happens for a while. */
static void reader_blocked_idle(void) {
    struct stream *s = stream_open(AF_INET);
    dialogue(s, 2);
    struct job job = {s, 100, 0};
    pthread_t thread;
    must(-pthread_create(&thread, NULL, reader, &job));
    sleep_ms(700);
    far_do(FAR_SEND, s->index, 100, 0, 0);
    pthread_join(thread, NULL);
    say("the idle reader has its 100 bytes");
    warm_always();
    dialogue(s, 20);
    stream_close(s);
}

static void two_threads_each(void) {
    struct stream *s = stream_open(AF_INET);
    long bytes = 16 << 20;
    struct job in = {s, (size_t)bytes, 0}, out = {s, (size_t)bytes, 12345};
    pthread_t a, b;
    warm();
    far_begin(FAR_DUPLEX, s->index, bytes, 40000, 0);
    must(-pthread_create(&a, NULL, reader, &in));
    must(-pthread_create(&b, NULL, writer, &out));
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    far_end();
    say("16 MiB each way");
    warm_always();
    stream_close(s);
}

/* Calls that must not return short, while far reads slowly. */
static void big(struct stream *s, const char *what, size_t n, ssize_t (*call)(struct stream *, char *, size_t)) {
    char *buffer = malloc(n);
    next_out(s, buffer, n);
    far_begin(FAR_RECV, s->index, (long)n, 30000, 20);
    errno = 0;
    ssize_t done = call(s, buffer, n);
    say("%s of %zu %s", what, n, res(done));
    if (done < (ssize_t)n)
        die("%s: short", what);
    far_end();
    free(buffer);
}

static ssize_t by_send(struct stream *s, char *buffer, size_t n) {
    return send(s->fd, buffer, n, 0);
}

static ssize_t by_write(struct stream *s, char *buffer, size_t n) {
    return write(s->fd, buffer, n);
}

static ssize_t by_sendto(struct stream *s, char *buffer, size_t n) {
    return sendto(s->fd, buffer, n, MSG_NOSIGNAL, NULL, 0);
}

static int split(struct iovec *parts, int count, char *buffer, size_t n) {
    for (int i = 0; i < count; i++)
        parts[i] = (struct iovec){buffer + n / (size_t)count * (size_t)i, n / (size_t)count};
    return count;
}

static ssize_t by_writev_8(struct stream *s, char *buffer, size_t n) {
    struct iovec parts[8];
    return writev(s->fd, parts, split(parts, 8, buffer, n));
}

static ssize_t by_writev_1024(struct stream *s, char *buffer, size_t n) {
    struct iovec parts[1024];
    return writev(s->fd, parts, split(parts, 1024, buffer, n));
}

static ssize_t by_sendmsg(struct stream *s, char *buffer, size_t n) {
    struct iovec parts[16];
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = (size_t)split(parts, 16, buffer, n)};
    return sendmsg(s->fd, &m, 0);
}

static ssize_t by_sendmmsg(struct stream *s, char *buffer, size_t n) {
    struct iovec parts[4];
    struct mmsghdr m[4] = {0};
    split(parts, 4, buffer, n);
    for (int i = 0; i < 4; i++)
        m[i].msg_hdr.msg_iov = &parts[i], m[i].msg_hdr.msg_iovlen = 1;
    int sent = sendmmsg(s->fd, m, 4, 0);
    ssize_t total = 0;
    for (int i = 0; i < sent; i++)
        total += m[i].msg_len;
    return sent < 0 ? sent : total;
}

static ssize_t by_sendfile(struct stream *s, char *buffer, size_t n) {
    int file = (int)must(memfd_create("payload", MFD_CLOEXEC));
    write_all(file, buffer, n);
    off_t at = 0;
    ssize_t done = sendfile(s->fd, file, &at, n);
    int err = errno;
    if (done >= 0 && at != done)
        die("sendfile moved the offset to %lld after %zd bytes", (long long)at, done);
    close(file);
    errno = err;
    return done;
}

static void big_calls(void) {
    struct stream *s = stream_open(AF_INET);
    warm();
    big(s, "send", 8 << 20, by_send);
    big(s, "write", 3 << 20, by_write);
    big(s, "sendto", 1 << 20, by_sendto);
    big(s, "writev of 8 parts", 128 << 10, by_writev_8);
    big(s, "writev of 1024 parts", 4 << 20, by_writev_1024);
    big(s, "sendmsg", 1 << 20, by_sendmsg);
    big(s, "sendmmsg", 1 << 20, by_sendmmsg);
    big(s, "sendfile", 1 << 20, by_sendfile);
    warm_always();
    stream_close(s);
}

/* One call that is blocked in the middle of 8 MiB while the stream may move: the first call after the connect. */
static void big_send_first(void) {
    struct stream *s = stream_open(AF_INET);
    big(s, "send", 8 << 20, by_send);
    warm_always();
    dialogue(s, 10);
    stream_close(s);
}

static void waitall(void) {
    struct stream *s = stream_open(AF_INET);
    size_t n = 1 << 20;
    char *buffer = malloc(n);
    warm();
    for (int i = 0; i < 3; i++) {
        far_begin(FAR_SEND, s->index, (long)n, 1000, i ? 0 : 50);
        ssize_t got = recv(s->fd, buffer, n, MSG_WAITALL);
        say("recv MSG_WAITALL %s", res(got));
        next_in(s, buffer, (size_t)got);
        far_end();
    }
    far_do(FAR_SEND, s->index, 700, 0, 0);
    far_do(FAR_SHUT, s->index, SHUT_WR, 0, 0);
    ssize_t got = recv(s->fd, buffer, n, MSG_WAITALL);
    say("recv MSG_WAITALL at the end %s", res(got));
    next_in(s, buffer, (size_t)got);
    free(buffer);
    close(s->fd);
}

const struct test_case blocking_cases[] = {
    {"reader-blocked", reader_blocked, "a reader blocked in recv while a writer thread sends"},
    {"readers-blocked", readers_blocked_on_both_ends, "the same at both ends"},
    {"reader-idle", reader_blocked_idle, "a reader blocked on an idle stream"},
    {"two-threads-each", two_threads_each, "both ends stream from two threads each"},
    {"big-calls", big_calls, "blocking calls of up to 8 MiB return everything"},
    {"big-send-first", big_send_first, "a blocking send of 8 MiB as the first call of a stream"},
    {"waitall", waitall, "recv MSG_WAITALL of 1 MiB"},
    {NULL, NULL, NULL},
};
