/* Functions that the cases of the near end share. */
#include "victim.h"

#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>

struct stream streams[MAX_STREAMS];
static int stream_count;
static int near_listener[3] = {-1, -1, -1}, near_port[3], far_port[3];

static int slot(int family) {
    return family == AF_INET ? 0 : family == AF_INET6 ? 1 : 2;
}

bool waits_in_sight = true;

/* A program that was never seen to wait for its streams keeps them on TCP. Both ends execute commands, and at many
 * reads the bytes are already there. */
void be_seen_to_wait(int fd) {
    if (waits_in_sight)
        wait_for(fd, POLLOUT, 0);
}

struct stream *stream_adopt(int fd, int port) {
    be_seen_to_wait(fd);
    if (stream_count == MAX_STREAMS)
        die("too many streams");
    struct stream *s = &streams[stream_count];
    *s = (struct stream){.fd = fd, .index = stream_count, .port = port, .open = true};
    stream_count++;
    return s;
}

struct stream *stream_open(int family) {
    int at = slot(family), fd, index = stream_count, port;
    if (opt.near_accepts) {
        if (near_listener[at] < 0)
            near_listener[at] = tcp_listen(family, &near_port[at]);
        far_begin(FAR_CONNECT, index, family == AF_MAPPED ? AF_INET : family, near_port[at], 0);
        fd = (int)must(accept4(near_listener[at], NULL, NULL, SOCK_CLOEXEC));
        port = (int)far_end().value;
    } else {
        static int listening = -1;
        if (listening != at)
            far_port[at] = (int)far_do(FAR_LISTEN, 0, family == AF_MAPPED ? AF_INET : family, 0, 0).value;
        listening = at;
        fd = tcp_connect(family, far_port[at]);
        port = local_port(fd);
        far_do(FAR_ACCEPT, index, 0, 0, 0);
    }
    return stream_adopt(fd, port);
}

void stream_close(struct stream *s) {
    must(shutdown(s->fd, SHUT_WR));
    struct reply r = far_do(FAR_RECV_EOF, s->index, 0, 0, 0);
    if (r.ret != 0 || r.value != 0)
        die("stream %d: far expected its end, got %ld (errno %d) after %ld bytes", s->index, r.ret, r.err, r.value);
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
    char byte;
    ssize_t got = read(s->fd, &byte, 1);
    if (got != 0)
        die("stream %d: near expected its end, read %s", s->index, res(got));
    must(close(s->fd));
    s->open = false;
}

static void ping(bool last) {
    char record[64], answer[64];
    for (int i = 0; i < stream_count; i++) {
        if (!streams[i].open)
            continue;
        memset(record, i & 0x7f, sizeof record);
        record[0] = last ? 'E' : 'P';
        write_all(streams[i].fd, record, sizeof record);
    }
    for (int i = 0; i < stream_count; i++) {
        if (!streams[i].open)
            continue;
        if (read_all(streams[i].fd, answer, sizeof answer) != sizeof answer)
            die("stream %d: end of stream during warm-up", i);
        memset(record, i & 0x7f, sizeof record);
        record[0] = last ? 'E' : 'P';
        if (memcmp(record, answer, sizeof record) != 0)
            die("stream %d: wrong bytes during warm-up", i);
    }
}

void warm_always(void) {
    bool held = getenv("VICTIM_HOLD") != NULL;
    flockfile(stdout);
    printf("@hold");
    for (int i = 0; i < stream_count; i++)
        if (streams[i].open)
            printf(" %d", streams[i].port);
    putchar('\n');
    fflush(stdout);
    funlockfile(stdout);
    far_begin(FAR_ECHO, 0, 0, 0, 0);
    for (int round = 0; held ? !wait_for(0, POLLIN, 0) : round < 100; round++) {
        ping(false);
        sleep_ms(1);
    }
    ping(true);
    far_end();
    char answer[8];
    if (held && read(0, answer, 3) != 3)
        die("the harness let go");
}

void warm(void) {
    if (!opt.cold)
        warm_always();
}

void next_out(struct stream *s, void *buffer, size_t n) {
    pattern_fill((uint64_t)s->index * 2, s->tx, buffer, n);
    s->tx += n;
}

void next_in(struct stream *s, const void *buffer, size_t n) {
    pattern_check((uint64_t)s->index * 2 + 1, s->rx, buffer, n);
    s->rx += n;
}

void send_pattern(struct stream *s, size_t n) {
    char chunk[20000];
    while (n > 0) {
        size_t take = n < sizeof chunk ? n : sizeof chunk;
        next_out(s, chunk, take);
        write_all(s->fd, chunk, take);
        n -= take;
    }
}

void recv_pattern(struct stream *s, size_t n) {
    char chunk[20000];
    while (n > 0) {
        size_t take = n < sizeof chunk ? n : sizeof chunk;
        size_t got = read_all(s->fd, chunk, take);
        if (got != take)
            die("stream %d: end of stream, %zu bytes early", s->index, n - got);
        next_in(s, chunk, take);
        n -= take;
    }
}

void dialogue(struct stream *s, int rounds) {
    for (int i = 0; i < rounds; i++) {
        long n = 1 + (i * 37) % 900;
        far_begin(FAR_RECV, s->index, n, 0, 0);
        send_pattern(s, (size_t)n);
        if (far_end().value != n)
            die("stream %d: far saw an early end", s->index);
        far_begin(FAR_SEND, s->index, n, 0, 0);
        recv_pattern(s, (size_t)n);
        far_end();
    }
}

size_t fill(struct stream *s) {
    static char chunk[65536];
    uint64_t start = s->tx;
    ssize_t n = 0;
    int left = 0, unsent = 0;
    set_nonblocking(s->fd, true);
    /* Bytes on their way make room when they arrive, which the kernel tells; if no room comes then, there is none. */
    for (int quiet = 0; n >= 0 || (left != unsent && quiet < 2000) || wait_for(s->fd, POLLOUT, 10); quiet++) {
        uint64_t before = s->tx;
        next_out(s, chunk, sizeof chunk);
        n = send(s->fd, chunk, sizeof chunk, 0);
        s->tx = before + (n > 0 ? (uint64_t)n : 0);
        if (n >= 0) {
            quiet = 0;
            continue;
        }
        if (errno != EAGAIN)
            die("send: %s", strerror(errno));
        must(ioctl(s->fd, SIOCOUTQ, &left));
        must(ioctl(s->fd, SIOCOUTQNSD, &unsent));
        sleep_ms(1);
    }
    set_nonblocking(s->fd, false);
    return (size_t)(s->tx - start);
}

int await_readable(struct stream *s, int bytes) {
    int have = 0;
    for (int i = 0; i < PATIENCE_MS; i++) {
        must(ioctl(s->fd, FIONREAD, &have));
        if (have >= bytes)
            break;
        sleep_ms(1);
    }
    return have;
}
