/* Other ways into the kernel on a tracked socket: io_uring, by a ring of our own, which no hook sees; kernel TLS. */
#include "victim.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/time_types.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

static struct {
    int fd;
    unsigned mask, *tail;
    struct io_uring_sqe *sqes;
    unsigned *array, *cq_head, *cq_tail, cq_mask;
    struct io_uring_cqe *cqes;
} ring;

static void ring_open(void) {
    struct io_uring_params p = {0};
    ring.fd = (int)must(syscall(SYS_io_uring_setup, 8, &p));
    if (!(p.features & IORING_FEAT_SINGLE_MMAP))
        die("io_uring without IORING_FEAT_SINGLE_MMAP (Linux 5.4)");
    size_t a = p.sq_off.array + p.sq_entries * sizeof(unsigned);
    size_t b = p.cq_off.cqes + p.cq_entries * sizeof(struct io_uring_cqe);
    char *at = mmap(NULL, a > b ? a : b, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
    ring.sqes = mmap(NULL, p.sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                     ring.fd, IORING_OFF_SQES);
    if (at == MAP_FAILED || ring.sqes == MAP_FAILED)
        die("the ring cannot be mapped: %s", strerror(errno));
    ring.tail = (unsigned *)(at + p.sq_off.tail);
    ring.mask = *(unsigned *)(at + p.sq_off.ring_mask);
    ring.array = (unsigned *)(at + p.sq_off.array);
    ring.cq_head = (unsigned *)(at + p.cq_off.head);
    ring.cq_tail = (unsigned *)(at + p.cq_off.tail);
    ring.cq_mask = *(unsigned *)(at + p.cq_off.ring_mask);
    ring.cqes = (struct io_uring_cqe *)(at + p.cq_off.cqes);
}

static void submit(struct io_uring_sqe what) {
    unsigned tail = *ring.tail, index = tail & ring.mask;
    ring.sqes[index] = what;
    ring.array[index] = index;
    atomic_store_explicit((_Atomic unsigned *)ring.tail, tail + 1, memory_order_release);
    must(syscall(SYS_io_uring_enter, ring.fd, 1, 0, 0, NULL, 0));
}

/* The result of the oldest operation, as a system call returns it. */
static long completed(void) {
    struct __kernel_timespec most = {.tv_sec = 20};
    struct io_uring_getevents_arg argument = {.ts = (uint64_t)(uintptr_t)&most};
    unsigned head = *ring.cq_head;
    while (head == atomic_load_explicit((_Atomic unsigned *)ring.cq_tail, memory_order_acquire)) {
        long r = syscall(SYS_io_uring_enter, ring.fd, 0, 1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument,
                         sizeof argument);
        if (r < 0 && errno == ETIME)
            die("the ring was silent for twenty seconds");
        if (r < 0 && errno != EINTR)
            die("io_uring_enter: %s", strerror(errno));
    }
    int result = ring.cqes[head & ring.cq_mask].res;
    atomic_store_explicit((_Atomic unsigned *)ring.cq_head, head + 1, memory_order_release);
    if (result < 0)
        errno = -result;
    return result < 0 ? -1 : result;
}

static struct io_uring_sqe operation(int opcode, int fd, void *buffer, size_t n) {
    return (struct io_uring_sqe){
        .opcode = (uint8_t)opcode, .fd = fd, .addr = (uint64_t)(uintptr_t)buffer, .len = (uint32_t)n};
}

static long ring_do(int opcode, int fd, void *buffer, size_t n) {
    submit(operation(opcode, fd, buffer, n));
    return completed();
}

static void ring_send(struct stream *s, size_t n) {
    char buffer[2000];
    next_out(s, buffer, n);
    for (size_t done = 0; done < n;)
        done += (size_t)must(ring_do(done ? IORING_OP_WRITE : IORING_OP_SEND, s->fd, buffer + done, n - done));
}

static void ring_receive(struct stream *s, size_t n) {
    char buffer[2000];
    for (size_t done = 0; done < n;) {
        long got = must(ring_do(done % 2 ? IORING_OP_READ : IORING_OP_RECV, s->fd, buffer + done, n - done));
        if (got == 0)
            die("end of stream, %zu bytes early", n - done);
        done += (size_t)got;
    }
    next_in(s, buffer, n);
}

static void ring_dialogue(struct stream *s, int rounds) {
    for (int i = 0; i < rounds; i++) {
        size_t n = 1 + (size_t)(i * 37) % 900;
        far_begin(FAR_RECV, s->index, (long)n, 0, 0);
        ring_send(s, n);
        far_end();
        far_begin(FAR_SEND, s->index, (long)n, 0, 0);
        ring_receive(s, n);
        far_end();
    }
}

/* Near's first call completes a prefix; only the next one that is seen could take up a grant. */
static void first_call(struct stream *s) {
    far_begin(FAR_RECV, s->index, 50, 0, 0);
    send_pattern(s, 50);
    far_end();
}

static void before(void) {
    struct stream *s = stream_open(AF_INET);
    ring_open();
    first_call(s);
    ring_dialogue(s, 10);
    dialogue(s, 10);
    warm_always();
    ring_dialogue(s, 10);
    dialogue(s, 10);
    stream_close(s);
    say("by the ring before the stream could move");
}

static void after(void) {
    struct stream *s = stream_open(AF_INET);
    ring_open();
    warm_always();
    for (int i = 0; i < 5; i++) {
        ring_dialogue(s, 5);
        dialogue(s, 5);
    }
    far_do(FAR_SHUT, s->index, SHUT_WR, 0, 0);
    char byte;
    say("the end by the ring: %s", res(ring_do(IORING_OP_RECV, s->fd, &byte, 1)));
    stream_close(s);
}

/* The ring reports that there is something to read, and an ordinary call reads it. */
static void waits(void) {
    struct stream *s = stream_open(AF_INET);
    char buffer[64];
    ring_open();
    set_nonblocking(s->fd, true);
    for (int i = 0; i < 100; i++) {
        struct io_uring_sqe wait = operation(IORING_OP_POLL_ADD, s->fd, NULL, 0);
        wait.poll32_events = POLLIN;
        submit(wait);
        next_out(s, buffer, sizeof buffer);
        must(write(s->fd, buffer, sizeof buffer));
        far_do(FAR_RECV, s->index, sizeof buffer, 0, 0);
        far_do(FAR_SEND, s->index, sizeof buffer, 0, 0);
        if (!(must(completed()) & POLLIN))
            die("nothing to read");
        if (must(read(s->fd, buffer, sizeof buffer)) != sizeof buffer)
            die("a short read");
        next_in(s, buffer, sizeof buffer);
    }
    say("100 waits");
    set_nonblocking(s->fd, false);
    warm_always();
    dialogue(s, 10);
    stream_close(s);
}

/* The ring is for files only, as in a database, and the connections are polled. */
static void files(void) {
    char buffer[64];
    int file = (int)must(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    ring_open();
    must(ring_do(IORING_OP_READ, file, buffer, sizeof buffer));
    struct io_uring_sqe later = operation(IORING_OP_READ, file, buffer, sizeof buffer);
    later.off = 4096;
    submit(later);
    must(completed());
    close(file);
    struct stream *s = stream_open(AF_INET);
    say("the socket has the number of the file: %d", s->fd == file);
    set_nonblocking(s->fd, true);
    for (int i = 0; i < 100; i++) {
        struct pollfd wait = {s->fd, POLLIN, 0};
        far_begin(FAR_SEND, s->index, sizeof buffer, 0, 0);
        must(poll(&wait, 1, -1));
        if (must(read(s->fd, buffer, sizeof buffer)) != sizeof buffer)
            die("a short read");
        next_in(s, buffer, sizeof buffer);
        far_end();
        next_out(s, buffer, sizeof buffer);
        must(write(s->fd, buffer, sizeof buffer));
        far_do(FAR_RECV, s->index, sizeof buffer, 0, 0);
    }
    set_nonblocking(s->fd, false);
    warm_always();
    stream_close(s);
}

/* As epoll_ctl(2), by the ring. */
long ring_epoll_ctl(int ep, int op, int fd, struct epoll_event *event) {
    if (!ring.sqes)
        ring_open();
    struct io_uring_sqe call = operation(IORING_OP_EPOLL_CTL, ep, event, (size_t)op);
    call.off = (uint64_t)fd;
    submit(call);
    return completed();
}

/* Sockets that the ring makes, at numbers that were streams and that the ring has closed. */
static void accepts(void) {
    int port, listener = tcp_listen(AF_INET, &port);
    ring_open();
    for (int i = 0; i < 4; i++) {
        struct stream *s = stream_open(AF_INET);
        if (i % 2)
            warm_always();
        far_do(FAR_CLOSE, s->index, 0, 0, 0);
        must(ring_do(IORING_OP_CLOSE, s->fd, NULL, 0));
        s->open = false;
        struct stream *t = stream_adopt(-1, 0);
        far_begin(FAR_CONNECT, t->index, AF_INET, port, 0);
        t->fd = (int)must(ring_do(IORING_OP_ACCEPT, listener, NULL, 0));
        t->port = (int)far_end().value;
        say("the number came back: %d", t->fd == s->fd);
        dialogue(t, 20);
        ring_dialogue(t, 5);
        stream_close(t);
    }
}

/* The ring connects a socket of socket(2). */
static void connects(void) {
    struct sockaddr_storage to;
    ring_open();
    int fd = tcp_socket(AF_INET);
    struct io_uring_sqe call = operation(IORING_OP_CONNECT, fd, &to, 0);
    call.off = loopback(AF_INET, (int)far_do(FAR_LISTEN, 0, AF_INET, 0, 0).value, &to);
    submit(call);
    must(completed());
    struct stream *s = stream_adopt(fd, local_port(fd));
    far_do(FAR_ACCEPT, s->index, 0, 0, 0);
    dialogue(s, 30);
    ring_dialogue(s, 5);
    stream_close(s);
    say("connected by the ring");
}

/* The calls that a TLS library makes before the first byte, until it is refused. No key is set, so the bytes are plain.
 * */
static void kernel_tls(void) {
    struct stream *s = stream_open(AF_INET);
    char name[16] = "";
    socklen_t length = sizeof name;
    unsigned char key[40] = {9, 9, 51}; /* struct tls_crypto_info of a version that does not exist */
    say("TCP_ULP nothing: %s", res(setsockopt(s->fd, IPPROTO_TCP, TCP_ULP, "nothing", 8)));
    say("TCP_ULP mptcp: %s", res(setsockopt(s->fd, IPPROTO_TCP, TCP_ULP, "mptcp", 6)));
    say("TCP_ULP tls: %s", res(setsockopt(s->fd, IPPROTO_TCP, TCP_ULP, "tls", 4)));
    say("TLS_TX: %s", res(setsockopt(s->fd, SOL_TLS, 1, key, sizeof key)));
    say("TLS_RX: %s", res(setsockopt(s->fd, SOL_TLS, 2, key, sizeof key)));
    say("TCP_ULP: %s", res(getsockopt(s->fd, IPPROTO_TCP, TCP_ULP, name, &length)));
    say("it is %.15s, length %d", name, (int)length);
    dialogue(s, 10);
    warm_always();
    dialogue(s, 10);
    say("TLS_TX again: %s", res(setsockopt(s->fd, SOL_TLS, 1, key, sizeof key)));
    stream_close(s);
}

const struct test_case uring_cases[] = {
    {"uring-before", before, "io_uring before the stream can move"},
    {"uring-after", after, "io_uring after the move"},
    {"uring-waits", waits, "io_uring says when to read"},
    {"uring-files", files, "io_uring for files, poll for connections"},
    {"uring-accepts", accepts, "io_uring accepts and closes"},
    {"uring-connects", connects, "io_uring connects"},
    {"kernel-tls", kernel_tls, "TCP_ULP before the move"},
    {NULL, NULL, NULL},
};
