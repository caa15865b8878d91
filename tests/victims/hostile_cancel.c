/* pthread_cancel of a thread that is blocked in a call on a stream, in each call that may block. */
#include "victim.h"

#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

enum way {
    READ, READV, RECV, RECVFROM, RECVMSG, RECVMMSG, SPLICE_IN, /* nothing to read */
    POLL, PPOLL, SELECT, PSELECT, EPOLL_WAIT, EPOLL_PWAIT,
    WRITE, WRITEV, SEND, SENDTO, SENDMSG, SENDMMSG, SPLICE_OUT, /* no room */
    SPLICE_EMPTY, /* room, and nothing in the pipe */
    CONNECT, ACCEPT, /* another socket, beside the stream */
    WAYS,
};
static const char *const names[WAYS] = {
    "read", "readv", "recv", "recvfrom", "recvmsg", "recvmmsg", "splice from", "poll", "ppoll", "select", "pselect",
    "epoll_wait", "epoll_pwait", "write", "writev", "send", "sendto", "sendmsg", "sendmmsg", "splice to",
    "splice to from an empty pipe", "connect", "accept",
};

struct blocked {
    enum way way;
    int fd, epfd, port, pipe[2];
    bool disabled;
    atomic_int tid, cleaned;
};

static void call(struct blocked *b) {
    static char byte[8 << 20];
    struct iovec part = {byte, sizeof byte};
    struct mmsghdr list = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1}};
    struct pollfd p = {b->fd, POLLIN, 0};
    struct epoll_event e;
    struct sockaddr_storage to;
    fd_set r;
    FD_ZERO(&r);
    FD_SET(b->fd, &r);
    switch (b->way) {
    case READ: (void)!read(b->fd, byte, 1); break;
    case READV: (void)!readv(b->fd, &part, 1); break;
    case RECV: recv(b->fd, byte, 1, 0); break;
    case RECVFROM: recvfrom(b->fd, byte, 1, MSG_WAITALL, NULL, NULL); break;
    case RECVMSG: recvmsg(b->fd, &list.msg_hdr, 0); break;
    case RECVMMSG: recvmmsg(b->fd, &list, 1, 0, NULL); break;
    case SPLICE_IN: splice(b->fd, NULL, b->pipe[1], NULL, 4096, 0); break;
    case POLL: poll(&p, 1, -1); break;
    case PPOLL: ppoll(&p, 1, NULL, NULL); break;
    case SELECT: select(b->fd + 1, &r, NULL, NULL, NULL); break;
    case PSELECT: pselect(b->fd + 1, &r, NULL, NULL, NULL, NULL); break;
    case EPOLL_WAIT: epoll_wait(b->epfd, &e, 1, -1); break;
    case EPOLL_PWAIT: epoll_pwait(b->epfd, &e, 1, -1, NULL); break;
    case WRITE: (void)!write(b->fd, byte, sizeof byte); break;
    case WRITEV: (void)!writev(b->fd, &part, 1); break;
    case SEND: send(b->fd, byte, sizeof byte, 0); break;
    case SENDTO: sendto(b->fd, byte, sizeof byte, MSG_NOSIGNAL, NULL, 0); break;
    case SENDMSG: sendmsg(b->fd, &list.msg_hdr, 0); break;
    case SENDMMSG: sendmmsg(b->fd, &list, 1, 0); break;
    case SPLICE_OUT: /* there may be room again, on the other transport; a byte is written or not */
        while (write(b->pipe[1], byte, 1) == 1 && splice(b->pipe[0], NULL, b->fd, NULL, 1, 0) > 0)
            ;
        break;
    case SPLICE_EMPTY: splice(b->pipe[0], NULL, b->fd, NULL, 4096, 0); break;
    case CONNECT: connect(b->fd, (struct sockaddr *)&to, loopback(AF_INET, b->port, &to)); break;
    case ACCEPT: accept(b->fd, NULL, NULL); break;
    case WAYS: break;
    }
}

static void clean(void *arg) {
    struct blocked *b = arg;
    b->cleaned++;
}

static void *thread_main(void *arg) {
    struct blocked *b = arg;
    pthread_cleanup_push(clean, b);
    b->tid = (int)syscall(SYS_gettid);
    call(b);
    pthread_cleanup_pop(0);
    return NULL;
}

/* Far reads the bytes that near has counted, and then those that the cancelled call has written. */
static void drain(struct stream *s, uint64_t counted) {
    far_do(FAR_RECV, s->index, (long)counted, 0, 0);
    for (int queued = 1; queued > 0;) {
        must(ioctl(s->fd, SIOCOUTQ, &queued));
        while (far_do(FAR_POLL, s->index, POLLIN, 0, 0).value & POLLIN)
            if (far_do(FAR_RAW_RECV, s->index, 4096, 0, 0).ret <= 0)
                die("far: the stream has ended");
    }
}

/* A port where a connect waits: no process accepts, and the queue is full, as the kernel reports for a listening socket
 * (tcp(7), TCP_INFO: how many wait, how many may). */
static int crowded_port(int *listener, int queued[8]) {
    int port, n = 0;
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    *listener = tcp_listen(AF_INET, &port);
    must(listen(*listener, 0));
    while (n < 8 && info.tcpi_unacked <= info.tcpi_sacked) {
        queued[n++] = tcp_connect(AF_INET, port);
        wait_for(*listener, POLLIN, PATIENCE_MS);
        must(getsockopt(*listener, IPPROTO_TCP, TCP_INFO, &info, &length));
    }
    for (int i = n; i < 8; i++)
        queued[i] = -1;
    return port;
}

static void cancel_in(struct stream *s, enum way way) {
    struct blocked b = {.way = way, .fd = s->fd};
    int listener = -1, queued[8], port = 0;
    uint64_t before = s->tx;
    if (way == EPOLL_WAIT || way == EPOLL_PWAIT) {
        struct epoll_event e = {.events = EPOLLIN};
        b.epfd = (int)must(epoll_create1(EPOLL_CLOEXEC));
        must(epoll_ctl(b.epfd, EPOLL_CTL_ADD, s->fd, &e));
    }
    if (way >= WRITE && way <= SPLICE_OUT)
        fill(s);
    must(pipe2(b.pipe, O_CLOEXEC));
    if (way == CONNECT) {
        b.port = crowded_port(&listener, queued);
        b.fd = tcp_socket(AF_INET);
    }
    if (way == ACCEPT)
        b.fd = tcp_listen(AF_INET, &port);
    pthread_t thread;
    must(-pthread_create(&thread, NULL, thread_main, &b));
    await_thread_asleep(&b.tid);
    must(-pthread_cancel(thread));
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE_MS / 1000;
    void *result = NULL;
    if (pthread_timedjoin_np(thread, &result, &end) != 0) {
        say("%s: it waits for ever", names[way]);
        exit(0);
    }
    say("%s: cancelled %d, cleaned up %d", names[way], result == PTHREAD_CANCELED, (int)b.cleaned);
    if (s->tx > before)
        drain(s, s->tx - before);
    if (b.epfd > 0)
        close(b.epfd);
    close(b.pipe[0]);
    close(b.pipe[1]);
    if (way == CONNECT) {
        close(b.fd);
        close(listener);
        for (int i = 0; i < 8; i++)
            close(queued[i]);
    }
    if (way == ACCEPT) {
        int mine = tcp_connect(AF_INET, port);
        close((int)must(accept(b.fd, NULL, NULL)));
        close(mine);
        close(b.fd);
    }
    dialogue(s, 10);
}

/* Tries each way in a process of its own, where nothing was cancelled before, on a stream that `begin` opens. */
static void each_apart(struct stream *begin(void)) {
    for (int way = 0; way < WAYS; way++) {
        if (opt.argc > 0 && strcmp(opt.argv[0], names[way]) != 0)
            continue;
        pid_t child = (pid_t)must(fork());
        int status;
        if (child == 0) {
            far_start();
            struct stream *s = begin();
            cancel_in(s, (enum way)way);
            warm_always();
            dialogue(s, 10);
            stream_close(s);
            far_stop();
            exit(0);
        }
        must(waitpid(child, &status, 0));
        if (status != 0)
            die("%s: status %#x", names[way], status);
    }
}

static struct stream *fresh(void) {
    return stream_open(AF_INET);
}

static void on_tcp(void) {
    each_apart(fresh);
}

static void between(void) {
    each_apart(between_transports);
}

/* One stream for all ways. */
static void moved(void) {
    struct stream *s = stream_open(AF_INET);
    warm_always();
    for (int way = 0; way < WAYS; way++)
        cancel_in(s, (enum way)way);
    stream_close(s);
}

const struct test_case cancel_cases[] = {
    {"cancel-on-tcp", on_tcp, "[CALL]: pthread_cancel in each blocking call before the move"},
    {"cancel-between", between, "[CALL]: between the transports"},
    {"cancel-moved", moved, "after the move"},
    {NULL, NULL, NULL},
};
