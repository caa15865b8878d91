/* The whole life of a stream on the smallest stacks: threads of PTHREAD_STACK_MIN, handlers on a small alternate stack.
 * */
#include "victim.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#define THREAD 16384 /* PTHREAD_STACK_MIN on most machines */
#define HANDLER 8192
#define GUARD 65536  /* what lies below and must not be touched */

enum { READ, POLL, SELECT, EPOLL, WAITALL, SENDFILE, VECTORS, WAYS };

/* What is to be done on the small stack, and the results. Static, so that nothing of the stack is used for it. */
static struct {
    int fd, listener, file, ep, way, times, failed;
    bool closes;
    struct sockaddr_storage to;
    socklen_t length;
    struct pollfd poll;
    fd_set set;
    struct epoll_event event;
    char record[64], answer[64];
} life;

static void await(void) {
    switch (life.way) {
    case POLL:
        life.poll = (struct pollfd){life.fd, POLLIN, 0};
        life.failed += poll(&life.poll, 1, -1) != 1;
        break;
    case SELECT:
        FD_ZERO(&life.set);
        FD_SET(life.fd, &life.set);
        life.failed += select(life.fd + 1, &life.set, NULL, NULL, NULL) != 1;
        break;
    case EPOLL:
        life.failed += epoll_wait(life.ep, &life.event, 1, -1) != 1;
        break;
    }
}

static void exchange_on_it(bool last) {
    struct iovec out[2] = {{life.record, 20}, {life.record + 20, 44}}, in[2] = {{life.answer, 20}, {life.answer + 20, 44}};
    off_t at = last ? 64 : 0;
    ssize_t n;
    life.record[0] = last ? 'E' : 'P';
    if (life.way == SENDFILE)
        n = sendfile(life.fd, life.file, &at, 64);
    else
        n = life.way == VECTORS ? writev(life.fd, out, 2) : write(life.fd, life.record, 64);
    life.failed += n != 64;
    await();
    for (size_t have = 0; have < 64; have += n > 0 ? (size_t)n : 0) {
        if (have == 0 && life.way == VECTORS)
            n = readv(life.fd, in, 2);
        else if (life.way == WAITALL)
            n = recv(life.fd, life.answer, 64, MSG_WAITALL);
        else
            n = read(life.fd, life.answer + have, 64 - have);
        if (n <= 0) {
            life.failed++;
            return;
        }
    }
    life.failed += life.answer[0] != (last ? 'E' : 'P');
}

static void live(void) {
    if (life.fd < 0) {
        if (opt.near_accepts)
            life.fd = accept4(life.listener, NULL, NULL, SOCK_CLOEXEC);
        else
            life.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        life.failed += life.fd < 0;
        if (!opt.near_accepts)
            life.failed += connect(life.fd, (struct sockaddr *)&life.to, life.length) != 0;
    }
    if (life.way == EPOLL) {
        life.ep = epoll_create1(EPOLL_CLOEXEC);
        life.event = (struct epoll_event){.events = EPOLLIN};
        life.failed += epoll_ctl(life.ep, EPOLL_CTL_ADD, life.fd, &life.event) != 0;
    }
    for (int i = 0; i < life.times; i++)
        exchange_on_it(i == life.times - 1);
    if (life.way == EPOLL)
        close(life.ep);
    if (!life.closes)
        return;
    life.failed += shutdown(life.fd, SHUT_WR) != 0;
    life.failed += read(life.fd, life.answer, 1) != 0;
    life.failed += close(life.fd) != 0;
}

static void *thread(void *unused) {
    (void)unused;
    live();
    return NULL;
}

static void handler(int signal) {
    (void)signal;
    live();
}

/* The stack lies above memory that may not be accessed: code that needs more stack crashes. */
static void on_a_small_stack(bool in_handler) {
    static char *stacks[2];
    size_t size = in_handler ? HANDLER : THREAD;
    if (!stacks[in_handler]) {
        char *memory = mmap(NULL, GUARD + size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            die("mmap: %s", strerror(errno));
        stacks[in_handler] = memory + GUARD;
        must(mprotect(stacks[in_handler], size, PROT_READ | PROT_WRITE));
    }
    if (in_handler) {
        stack_t alternate = {.ss_sp = stacks[1], .ss_size = size}, before;
        struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
        must(sigaltstack(&alternate, &before));
        must(sigaction(SIGUSR1, &action, NULL));
        raise(SIGUSR1);
        must(sigaltstack(&before, NULL));
        return;
    }
    pthread_attr_t attributes;
    pthread_t id;
    pthread_attr_init(&attributes);
    must(-pthread_attr_setstack(&attributes, stacks[0], size));
    must(-pthread_create(&id, &attributes, thread, NULL));
    must(-pthread_join(id, NULL));
    pthread_attr_destroy(&attributes);
}

/* The stream begins on the small stack, moves where it is told to, and ends on the small stack. */
static void one(int way, int times, bool in_handler, bool moves) {
    struct stream *s = stream_adopt(-1, 0);
    int port;
    life.fd = -1, life.way = way, life.times = times, life.failed = 0, life.closes = false;
    if (opt.near_accepts) {
        life.listener = tcp_listen(AF_INET, &port);
        far_begin(FAR_CONNECT, s->index, AF_INET, port, 0);
    } else {
        life.length = loopback(AF_INET, (int)far_do(FAR_LISTEN, 0, AF_INET, 0, 0).value, &life.to);
        far_begin(FAR_ACCEPT, s->index, 0, 0, 0);
    }
    far_begin(FAR_ECHO, 0, 0, 0, 0);
    on_a_small_stack(in_handler);
    port = (int)far_end().value;
    far_end();
    s->fd = life.fd, s->port = opt.near_accepts ? port : local_port(life.fd);
    if (moves)
        warm_always();
    life.closes = true;
    far_begin(FAR_ECHO, 0, 0, 0, 0);
    far_begin(FAR_RECV_EOF, s->index, 0, 0, 0);
    far_begin(FAR_CLOSE, s->index, 0, 0, 0);
    on_a_small_stack(in_handler);
    for (int i = 0; i < 3; i++)
        far_end();
    s->open = false;
    if (opt.near_accepts)
        must(close(life.listener));
    if (life.failed)
        say("%s, way %d, %d exchanges: %d calls failed", in_handler ? "handler" : "thread", way, times, life.failed);
}

static void stacks(void) {
    static const int times[] = {1, 2, 3, 5, 8, 13, 20, 60};
    char name[] = "/tmp/victim-stacks-XXXXXX", records[128];
    bool in_handler = opt.argc > 0 && strcmp(opt.argv[0], "handler") == 0;
    memset(records, 'P', 64);
    memset(records + 64, 'E', 64);
    life.file = (int)must(mkstemp(name));
    must(unlink(name));
    write_all(life.file, records, sizeof records);
    for (int way = 0; way < WAYS; way++)
        for (int i = 0; i < LEN(times); i++)
            one(way, times[i], in_handler, (i + way) % 4 == 0);
    say("on a stack of %d bytes", in_handler ? HANDLER : THREAD);
}

const struct test_case stack_cases[] = {
    {"small-stacks", stacks, "[handler]: the life of streams on small stacks"},
    {NULL, NULL, NULL},
};
