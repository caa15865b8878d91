/* Calls that a moved stream must answer like any TCP stream (with --cold: that a stream must answer at any time). */
#include "victim.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>

static void fionbio(void) {
    struct stream *s = stream_open(AF_INET);
    char byte;
    int on = 1, off = 0;
    warm();
    must(ioctl(s->fd, FIONBIO, &on));
    say("recv after FIONBIO 1 %s", res(recv(s->fd, &byte, 1, 0)));
    say("O_NONBLOCK is %s", fcntl(s->fd, F_GETFL) & O_NONBLOCK ? "on" : "off");
    dialogue(s, 10);
    must(ioctl(s->fd, FIONBIO, &off));
    say("O_NONBLOCK is %s", fcntl(s->fd, F_GETFL) & O_NONBLOCK ? "on" : "off");
    far_begin(FAR_SEND, s->index, 10, 10, 30000);
    recv_pattern(s, 10);
    far_end();
    must(fcntl(s->fd, F_SETFL, O_NONBLOCK));
    say("recv after F_SETFL %s", res(recv(s->fd, &byte, 1, 0)));
    must(fcntl(s->fd, F_SETFL, 0));
    say("recv MSG_DONTWAIT %s", res(recv(s->fd, &byte, 1, MSG_DONTWAIT)));
    say("flags %#x, descriptor flags %#x", fcntl(s->fd, F_GETFL), fcntl(s->fd, F_GETFD));
    stream_close(s);
}

/* Set before the warm-up: the flag must travel. */
static void nonblocking_before(void) {
    struct stream *s = stream_open(AF_INET);
    char byte, big[1 << 16] = {0};
    set_nonblocking(s->fd, true);
    warm();
    say("recv %s", res(recv(s->fd, &byte, 1, 0)));
    say("flags %#x", fcntl(s->fd, F_GETFL));
    ssize_t sent;
    size_t total = 0;
    next_out(s, big, sizeof big);
    while ((sent = send(s->fd, big, sizeof big, 0)) > 0) {
        total += (size_t)sent;
        s->tx -= sizeof big - (size_t)sent;
        next_out(s, big, sizeof big);
    }
    s->tx -= sizeof big;
    say("send into a full buffer %s", res(sent));
    say("far received all = %d", far_do(FAR_RECV, s->index, (long)total, 0, 0).value == (long)total);
    dialogue(s, 5);
    stream_close(s);
}

static void fionread(void) {
    struct stream *s = stream_open(AF_INET);
    char buffer[3000];
    int left = -1;
    warm();
    far_do(FAR_SEND, s->index, 1234, 0, 0);
    say("FIONREAD = %d", await_readable(s, 1234));
    must(read(s->fd, buffer, 234));
    next_in(s, buffer, 234);
    say("FIONREAD = %d", await_readable(s, 1000));
    say("peek %s", res(recv(s->fd, buffer, sizeof buffer, MSG_PEEK)));
    say("FIONREAD = %d", await_readable(s, 1000));
    recv_pattern(s, 1000);
    must(ioctl(s->fd, FIONREAD, &left));
    say("FIONREAD = %d", left);
    far_do(FAR_SEND, s->index, 100, 0, 0);
    far_do(FAR_SEND, s->index, 200, 0, 0);
    say("FIONREAD of two sends = %d", await_readable(s, 300));
    recv_pattern(s, 300);
    dialogue(s, 5);
    for (int i = 0; i < PATIENCE_MS && left != 0; i++, sleep_ms(1))
        must(ioctl(s->fd, TIOCOUTQ, &left));
    say("SIOCOUTQ = %d", left);
    stream_close(s);
}

/* A wait may always end late, because the machine may have other things to do. A wrong timeout is late each time, or
 * too early once. */
#define TRIES 20

static bool is_early(uint64_t since, int expected_ms) {
    return (int)((now_us() - since) / 1000) < expected_ms - 10;
}

static bool is_late(uint64_t since, int expected_ms) {
    return (int)((now_us() - since) / 1000) > expected_ms + 900;
}

/* A call that is to end by its timeout, after this time and without a byte. */
static void times_out(struct stream *s, const char *name, int expected_ms, ssize_t (*call)(struct stream *)) {
    bool early = false, late = true;
    ssize_t got = -1;
    for (int i = 0; i < TRIES && late && !early; i++) {
        uint64_t t = now_us();
        got = call(s);
        /* a byte more or less shows that the kernel has made room since: no timeout */
        early = got <= 0 && is_early(t, expected_ms);
        late = got > 0 || is_late(t, expected_ms);
    }
    say("%s %s, %s", name, res(got), early ? "too early" : late ? "too late" : "in time");
}

static ssize_t recv_a_byte(struct stream *s) {
    char byte;
    return recv(s->fd, &byte, 1, 0);
}

static ssize_t read_a_byte(struct stream *s) {
    char byte;
    return read(s->fd, &byte, 1);
}

static ssize_t send_more(struct stream *s) {
    static char chunk[65536];
    uint64_t before = s->tx;
    next_out(s, chunk, sizeof chunk);
    ssize_t n = send(s->fd, chunk, sizeof chunk, 0);
    s->tx = before + (n > 0 ? (uint64_t)n : 0);
    return n;
}

static void timeouts(struct stream *s) {
    char *big = calloc(1, 64 << 20);
    times_out(s, "recv", 200, recv_a_byte);
    times_out(s, "read", 200, read_a_byte);
    far_do(FAR_SEND, s->index, 10, 0, 0);
    recv_pattern(s, 10);
    uint64_t start = s->tx, t = now_us();
    next_out(s, big, 64 << 20);
    ssize_t got = send(s->fd, big, 64 << 20, 0);
    say("send is partial: %d, too early: %d", got > 0 && got < 64 << 20, is_early(t, 200));
    s->tx = start + (uint64_t)(got > 0 ? got : 0);
    while (send_more(s) > 0) {
    }
    times_out(s, "send", 200, send_more);
    long all = (long)(s->tx - start);
    say("far received all = %d", far_do(FAR_RECV, s->index, all, 0, 0).value == all);
    free(big);
}

static void socket_timeouts(bool before) {
    struct stream *s = stream_open(AF_INET);
    struct timeval t = {0, 200000}, none = {0, 0};
    if (!before)
        warm();
    must(setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof t));
    must(setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t));
    if (before)
        warm();
    timeouts(s);
    must(setsockopt(s->fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none));
    must(setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none));
    far_begin(FAR_SEND, s->index, 10, 10, 400000);
    recv_pattern(s, 10);
    far_end();
    say("no timeout: the bytes were waited for");
    stream_close(s);
}

static void rcvtimeo(void) {
    socket_timeouts(false);
}

static void rcvtimeo_before(void) {
    socket_timeouts(true);
}

static void do_sendfile(void) {
    struct stream *s = stream_open(AF_INET);
    size_t n = 300000;
    char *buffer = malloc(n), name[] = "/tmp/victim-sendfile-XXXXXX";
    warm();
    int file = (int)must(mkstemp(name));
    unlink(name);
    next_out(s, buffer, n);
    write_all(file, buffer, n);
    must(lseek(file, 0, SEEK_SET));
    far_begin(FAR_RECV, s->index, (long)n, 0, 0);
    say("sendfile %s", res(sendfile(s->fd, file, NULL, 100000)));
    say("file offset = %ld", (long)lseek(file, 0, SEEK_CUR));
    off_t at = 100000;
    say("sendfile %s", res(sendfile(s->fd, file, &at, 200000)));
    say("offset = %ld, file offset = %ld", (long)at, (long)lseek(file, 0, SEEK_CUR));
    say("far received = %ld", far_end().value);
    say("sendfile at the end of the file %s", res(sendfile(s->fd, file, &(off_t){300000}, 10)));
    say("sendfile from a socket %s", res(sendfile(file, s->fd, NULL, 10)));
    dialogue(s, 5);
    stream_close(s);
    free(buffer);
}

static void do_splice(void) {
    struct stream *s = stream_open(AF_INET);
    int pipes[2], more[2];
    char buffer[5000];
    warm();
    must(pipe(pipes));
    must(pipe(more));
    for (int round = 0; round < 30; round++) {
        size_t n = 1 + (size_t)round * 163;
        next_out(s, buffer, n);
        write_all(pipes[1], buffer, n);
        if (round % 3 == 0)
            must(tee(pipes[0], more[1], n, 0));
        far_begin(FAR_RECV, s->index, (long)n, 0, 0);
        for (size_t left = n; left > 0;)
            left -= (size_t)must(splice(pipes[0], NULL, s->fd, NULL, left, SPLICE_F_MOVE));
        far_end();
        if (round % 3 == 0 && read_all(more[0], buffer, n) != n)
            die("tee lost bytes");
        far_begin(FAR_SEND, s->index, (long)n, 0, 0);
        for (size_t left = n; left > 0;) {
            size_t got = (size_t)must(splice(s->fd, NULL, pipes[1], NULL, left, 0));
            must(got == 0 ? -1 : 0);
            if (read_all(pipes[0], buffer, got) != got)
                die("splice lost bytes");
            next_in(s, buffer, got);
            left -= got;
        }
        far_end();
    }
    set_nonblocking(s->fd, true);
    say("splice of nothing %s", res(splice(s->fd, NULL, pipes[1], NULL, 10, SPLICE_F_NONBLOCK)));
    set_nonblocking(s->fd, false);
    dialogue(s, 5);
    stream_close(s);
}

static void duplicates(void) {
    struct stream *s = stream_open(AF_INET);
    char buffer[10];
    warm();
    int high = (int)must(fcntl(s->fd, F_DUPFD_CLOEXEC, 100));
    int plain = (int)must(fcntl(s->fd, F_DUPFD, 200));
    int third = (int)must(dup3(s->fd, 150, O_CLOEXEC));
    int second = (int)must(dup2(s->fd, 160));
    int lowest = (int)must(dup(s->fd));
    say("F_DUPFD_CLOEXEC = %d flags %d, F_DUPFD = %d flags %d", high, fcntl(high, F_GETFD), plain,
        fcntl(plain, F_GETFD));
    say("dup3 = %d flags %d, dup2 = %d flags %d, dup flags %d", third, fcntl(third, F_GETFD), second,
        fcntl(second, F_GETFD), fcntl(lowest, F_GETFD));
    int all[] = {high, plain, third, second, lowest, s->fd};
    for (int i = 0; i < LEN(all); i++) {
        far_begin(FAR_RECV, s->index, 10, 0, 0);
        next_out(s, buffer, 10);
        say("send on %d-th %s", i, res(send(all[i], buffer, 10, 0)));
        far_end();
        far_do(FAR_SEND, s->index, 10, 0, 0);
        say("read on %d-th %s", i, res((ssize_t)read_all(all[(i + 1) % LEN(all)], buffer, 10)));
        next_in(s, buffer, 10);
    }
    must(close(s->fd));
    must(close(third));
    must(close(lowest));
    int null = (int)must(open("/dev/null", O_RDWR));
    must(dup2(null, second));
    say("write on what was dup2'ed over %s", res(write(second, buffer, 5)));
    s->fd = plain;
    dialogue(s, 5);
    must(close(high));
    say("recv on a closed number %s", res(recv(high, buffer, 1, MSG_DONTWAIT)));
    dialogue(s, 5);
    stream_close(s);
}

/* Duplicates made before the move must move with it. */
static void duplicates_before(void) {
    struct stream *s = stream_open(AF_INET);
    char buffer[10];
    int other = (int)must(fcntl(s->fd, F_DUPFD_CLOEXEC, 100)), third = (int)must(dup(s->fd));
    warm();
    for (int i = 0; i < 20; i++) {
        far_begin(FAR_RECV, s->index, 10, 0, 0);
        next_out(s, buffer, 10);
        must(write(i % 2 ? other : third, buffer, 10));
        far_end();
        far_do(FAR_SEND, s->index, 10, 0, 0);
        read_all(i % 3 ? third : other, buffer, 10);
        next_in(s, buffer, 10);
    }
    say("descriptor flags %d %d", fcntl(other, F_GETFD), fcntl(third, F_GETFD));
    must(close(s->fd));
    s->fd = other;
    dialogue(s, 5);
    must(close(third));
    stream_close(s);
}

static void addresses(void) {
    struct stream *s = stream_open(AF_INET);
    char buffer[100];
    struct sockaddr_storage from;
    warm();
    for (int i = 0; i < 2; i++) {
        socklen_t length = sizeof from;
        memset(&from, 0x55, sizeof from);
        far_do(FAR_SEND, s->index, 100, 0, 0);
        await_readable(s, 100);
        say("recvfrom %s", res(recvfrom(s->fd, buffer, 60, 0, (struct sockaddr *)&from, &length)));
        next_in(s, buffer, 60);
        say("address length %d, first byte %#x", (int)length, ((uint8_t *)&from)[0]);
        struct iovec part = {buffer, sizeof buffer};
        struct msghdr m = {.msg_name = &from, .msg_namelen = sizeof from, .msg_iov = &part, .msg_iovlen = 1};
        char control[64];
        m.msg_control = control, m.msg_controllen = sizeof control;
        say("recvmsg %s", res(recvmsg(s->fd, &m, 0)));
        say("name length %d, control length %d, flags %#x", (int)m.msg_namelen, (int)m.msg_controllen, m.msg_flags);
        next_in(s, buffer, 40);
    }
    struct sockaddr_storage to;
    socklen_t length = loopback(AF_INET, 9, &to);
    far_begin(FAR_RECV, s->index, 50, 0, 0);
    next_out(s, buffer, 50);
    say("sendto with another address %s", res(sendto(s->fd, buffer, 20, 0, (struct sockaddr *)&to, length)));
    struct iovec part = {buffer + 20, 30};
    struct msghdr m = {.msg_name = &to, .msg_namelen = length, .msg_iov = &part, .msg_iovlen = 1};
    say("sendmsg with another address %s", res(sendmsg(s->fd, &m, 0)));
    say("far received = %ld", far_end().value);
    say("connect on a connected socket %s", res(connect(s->fd, (struct sockaddr *)&to, length)));
    dialogue(s, 5);
    stream_close(s);
}

static void truncation(void) {
    struct stream *s = stream_open(AF_INET);
    char buffer[1000];
    warm();
    far_do(FAR_SEND, s->index, 1000, 0, 0);
    await_readable(s, 1000);
    memset(buffer, 7, sizeof buffer);
    say("recv MSG_TRUNC %s", res(recv(s->fd, buffer, 100, MSG_TRUNC)));
    say("its buffer is untouched: %d", buffer[0] == 7 && buffer[99] == 7);
    s->rx += 100;
    say("recv MSG_TRUNC into NULL %s", res(recv(s->fd, NULL, 200, MSG_TRUNC)));
    s->rx += 200;
    say("recv MSG_PEEK %s", res(recv(s->fd, buffer, 100, MSG_PEEK)));
    next_in(s, buffer, 100);
    s->rx -= 100;
    say("recv MSG_PEEK|MSG_TRUNC %s", res(recv(s->fd, buffer, 50, MSG_PEEK | MSG_TRUNC)));
    say("recv MSG_TRUNC of more than there is %s", res(recv(s->fd, buffer, 1000, MSG_TRUNC)));
    s->rx += 700;
    say("recv MSG_TRUNC of nothing %s", res(recv(s->fd, buffer, 10, MSG_TRUNC | MSG_DONTWAIT)));
    say("recv of 0 bytes %s", res(recv(s->fd, buffer, 0, MSG_DONTWAIT)));
    say("send of 0 bytes %s", res(send(s->fd, buffer, 0, 0)));
    say("read into a bad buffer %s", res(recv(s->fd, (void *)8, 10, MSG_DONTWAIT)));
    dialogue(s, 5);
    stream_close(s);
}

const struct test_case after_cases[] = {
    {"fionbio", fionbio, "ioctl FIONBIO and F_SETFL take effect"},
    {"nonblocking-before", nonblocking_before, "O_NONBLOCK set early stays on"},
    {"fionread", fionread, "FIONREAD is exact"},
    {"rcvtimeo", rcvtimeo, "SO_RCVTIMEO and SO_SNDTIMEO, set after the warm-up"},
    {"rcvtimeo-before", rcvtimeo_before, "SO_RCVTIMEO and SO_SNDTIMEO, set before it"},
    {"sendfile", do_sendfile, "sendfile, its offsets, its errors"},
    {"splice", do_splice, "splice both ways, tee"},
    {"duplicates", duplicates, "dup, dup2, dup3, F_DUPFD, F_DUPFD_CLOEXEC"},
    {"duplicates-before", duplicates_before, "duplicates made early"},
    {"addresses", addresses, "recvfrom, recvmsg and sendto with an address"},
    {"truncation", truncation, "MSG_TRUNC, MSG_PEEK, empty and bad buffers"},
    {NULL, NULL, NULL},
};
