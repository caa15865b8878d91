/* Uses of a socket that no hook sees: stdio, raw system calls, and the numbers that they close. */
#include "victim.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

/* Lines of text both ways by stdio; far sends its pattern, so the reading side compares bytes. */
static void streams_of_text(void) {
    struct stream *s = stream_open(AF_INET);
    char buffer[500];
    warm();
    FILE *in = fdopen(s->fd, "r"), *out = fdopen((int)must(dup(s->fd)), "w");
    for (int i = 0; i < 40; i++) {
        size_t n = 1 + (size_t)i * 11;
        next_out(s, buffer, n);
        far_begin(FAR_RECV, s->index, (long)n, 0, 0);
        if (fwrite(buffer, 1, n, out) != n || fflush(out) != 0)
            die("fwrite: %s", strerror(errno));
        far_end();
        far_do(FAR_SEND, s->index, (long)n, 0, 0);
        if (fread(buffer, 1, n, in) != n)
            die("fread: %s", strerror(errno));
        next_in(s, buffer, n);
    }
    say("40 exchanges by stdio");
    fclose(out);
    far_do(FAR_SHUT, s->index, SHUT_WR, 0, 0);
    int last = fgetc(in);
    say("fgetc at the end = %d, feof %d", last, feof(in) != 0);
    fclose(in);
    far_do(FAR_RECV_EOF, s->index, 0, 0, 0);
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
}

static void printed(void) {
    struct stream *s = stream_open(AF_INET);
    warm();
    for (int i = 0; i < 10; i++) {
        dprintf(s->fd, "line %d\n", i);
        struct reply r = far_do(FAR_RAW_RECV, s->index, 7, MSG_WAITALL, 0);
        say("far read %ld bytes from %c", r.ret, (char)r.value);
        dialogue(s, 1);
    }
    stream_close(s);
}

/* Raw system calls mixed with ordinary ones, all of them in order. */
static void raw_calls(void) {
    struct stream *s = stream_open(AF_INET);
    char buffer[300];
    for (int i = 0; i < 60; i++) {
        size_t n = 1 + (size_t)i * 4;
        if (i == 30)
            warm();
        next_out(s, buffer, n);
        far_begin(FAR_RECV, s->index, (long)n, 0, 0);
        must(i % 2 ? syscall(SYS_write, s->fd, buffer, n) : write(s->fd, buffer, n));
        far_end();
        far_do(FAR_SEND, s->index, (long)n, 0, 0);
        await_readable(s, (int)n);
        must(i % 3 ? syscall(SYS_recvfrom, s->fd, buffer, n, MSG_WAITALL, NULL, NULL)
                   : recv(s->fd, buffer, n, MSG_WAITALL));
        next_in(s, buffer, n);
    }
    say("60 exchanges");
    stream_close(s);
}

/* Raw calls on a stream that was never used in any other way before. */
static void raw_first(void) {
    struct stream *s = stream_open(AF_INET);
    char buffer[100];
    next_out(s, buffer, sizeof buffer);
    must(syscall(SYS_write, s->fd, buffer, sizeof buffer));
    far_do(FAR_RECV, s->index, sizeof buffer, 0, 0);
    dialogue(s, 100);
    stream_close(s);
    say("100 exchanges after a raw one");
}

/* A runtime that waits by raw system calls and reads by ordinary ones: no hook sees what it waits for. */
static void raw_epoll(void) {
    struct stream *s = stream_open(AF_INET);
    int epfd = (int)must(syscall(SYS_epoll_create1, EPOLL_CLOEXEC));
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.fd = s->fd};
    char buffer[64];
    set_nonblocking(s->fd, true);
    must(syscall(SYS_epoll_ctl, epfd, EPOLL_CTL_ADD, s->fd, &event));
    for (int i = 0; i < 200; i++) {
        next_out(s, buffer, sizeof buffer);
        must(write(s->fd, buffer, sizeof buffer));
        far_do(FAR_RECV, s->index, sizeof buffer, 0, 0);
        far_do(FAR_SEND, s->index, sizeof buffer, 0, 0);
        for (size_t got = 0; got < sizeof buffer;) {
            ssize_t n = read(s->fd, buffer + got, sizeof buffer - got);
            if (n < 0 && errno == EAGAIN) {
                if (must(syscall(SYS_epoll_pwait, epfd, &event, 1, 10000, NULL, 0)) == 0)
                    die("nothing in ten seconds");
                continue;
            }
            got += (size_t)must(n);
        }
        next_in(s, buffer, sizeof buffer);
    }
    say("200 exchanges");
    set_nonblocking(s->fd, false);
    close(epfd);
    stream_close(s);
}

enum { BY_FCLOSE, BY_SYSCALL, BY_CLOSE, BY_DUP2, BY_CLOSE_RANGE };

static void close_by(int way, int fd) {
    switch (way) {
    case BY_FCLOSE:
        fclose(fdopen(fd, "r"));
        break;
    case BY_SYSCALL:
        must(syscall(SYS_close, fd));
        break;
    case BY_DUP2: {
        int null = (int)must(open("/dev/null", O_RDWR));
        must(syscall(SYS_dup2, null, fd));
        close(null);
        must(close(fd));
        break;
    }
    case BY_CLOSE_RANGE:
        must(close_range((unsigned)fd, (unsigned)fd, 0));
        break;
    default:
        must(close(fd));
    }
}

/* The number is closed unseen and comes back as a file, a pipe, another stream. */
static void number_reused(void) {
    for (int way = BY_FCLOSE; way <= BY_CLOSE_RANGE; way++) {
        struct stream *s = stream_open(AF_INET);
        char name[] = "/tmp/victim-reuse-XXXXXX", text[16] = "", byte;
        int number = s->fd;
        dialogue(s, 10);
        if (way != BY_CLOSE)
            warm();
        close_by(way, number);
        s->open = false;
        struct reply r = far_do(FAR_RECV_EOF, s->index, 0, 0, 0);
        say("way %d: far reads %s", way, res(r.ret));
        far_do(FAR_CLOSE, s->index, 0, 0, 0);
        int file = (int)must(mkstemp(name));
        unlink(name);
        say("way %d: the number came back: %d", way, file == number);
        for (int i = 0; i < 20; i++)
            must(write(file, "text ", 5));
        must(lseek(file, 90, SEEK_SET));
        say("way %d: read %s of the file", way, res(read(file, text, 10)));
        say("way %d: it says %s, recv %s", way, text, res(recv(file, &byte, 1, 0)));
        close_by(way, file);
        s = stream_open(AF_INET);
        say("way %d: the number came back: %d", way, s->fd == number);
        dialogue(s, 40);
        warm();
        stream_close(s);
        int pipes[2];
        must(pipe(pipes));
        must(write(pipes[1], "pipe", 4));
        say("way %d: a pipe at the number: %d, read %s", way, pipes[0] == number, res(read(pipes[0], text, 10)));
        close_by(way, pipes[0]);
        close(pipes[1]);
    }
}

/* open returns the lowest free number: the shim may not take one of these. */
static void lowest_numbers(void) {
    struct stream *s = stream_open(AF_INET), *t = stream_open(AF_INET);
    int before = (int)must(dup(0));
    close(before);
    warm();
    int fd = (int)must(open("/dev/null", O_RDONLY));
    say("the lowest number is the same: %d", fd == before);
    dialogue(s, 20);
    int next = (int)must(dup(0));
    say("and the next follows: %d", next == fd + 1);
    close(fd);
    close(next);
    int u = s->fd;
    stream_close(s);
    fd = (int)must(open("/dev/null", O_RDONLY));
    say("a closed number is free at once: %d", fd == u);
    close(fd);
    dialogue(t, 5);
    stream_close(t);
    say("getdtablesize is the soft limit: %d", getdtablesize() == (int)sysconf(_SC_OPEN_MAX));
}

/* The fortified and the 64-bit names of calls. */
extern ssize_t __read_chk(int, void *, size_t, size_t);
extern ssize_t __recv_chk(int, void *, size_t, size_t, int);
extern ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);
extern ssize_t sendfile64(int, int, off_t *, size_t);
extern int fcntl64(int, int, ...);
extern ssize_t __send(int, const void *, size_t, int);
extern ssize_t __write(int, const void *, size_t);
extern ssize_t __read(int, void *, size_t);
extern int __close(int);
extern int __dup2(int, int);
extern int __fcntl(int, int, ...);
extern int __connect(int, const struct sockaddr *, socklen_t);

static void other_names(void) {
    int port = (int)far_do(FAR_LISTEN, 0, AF_INET, 0, 0).value;
    int fd = tcp_socket(AF_INET);
    struct sockaddr_storage to;
    socklen_t length = loopback(AF_INET, port, &to);
    must(__connect(fd, (struct sockaddr *)&to, length));
    struct stream *s = stream_adopt(fd, local_port(fd));
    far_do(FAR_ACCEPT, s->index, 0, 0, 0);
    FILE *payload = tmpfile();
    char buffer[64];
    for (int i = 0; i < 60; i++) {
        if (i == 30)
            warm();
        next_out(s, buffer, 64);
        rewind(payload);
        if (fwrite(buffer, 1, 64, payload) != 64 || fflush(payload) != 0)
            die("fwrite");
        far_begin(FAR_RECV, s->index, 64, 0, 0);
        off_t at = 0;
        long sent = i % 3 == 0 ? __write(s->fd, buffer, 64)
                  : i % 3 == 1 ? __send(s->fd, buffer, 64, 0)
                               : sendfile64(s->fd, fileno(payload), &at, 64);
        if (sent != 64)
            die("sent %ld: %s", sent, strerror(errno));
        far_end();
        far_do(FAR_SEND, s->index, 64, 0, 0);
        await_readable(s, 64);
        long got = i % 4 == 0   ? __read_chk(s->fd, buffer, 64, sizeof buffer)
                   : i % 4 == 1 ? __recv_chk(s->fd, buffer, 64, sizeof buffer, MSG_WAITALL)
                   : i % 4 == 2 ? __recvfrom_chk(s->fd, buffer, 64, sizeof buffer, 0, NULL, NULL)
                                : __read(s->fd, buffer, 64);
        if (got != 64)
            die("received %ld: %s", got, strerror(errno));
        next_in(s, buffer, 64);
    }
    int high = (int)must(fcntl64(s->fd, F_DUPFD_CLOEXEC, 300)), other = (int)must(__fcntl(s->fd, F_DUPFD, 400));
    must(__dup2(s->fd, 500));
    must(__close(s->fd));
    s->fd = other;
    dialogue(s, 5);
    s->fd = 500;
    dialogue(s, 5);
    s->fd = high;
    dialogue(s, 5);
    must(close(other));
    must(close(500));
    stream_close(s);
    fclose(payload);
    say("60 exchanges by other names");
}

const struct test_case stdio_cases[] = {
    {"stdio", streams_of_text, "fdopen, fread, fwrite"},
    {"dprintf", printed, "dprintf between ordinary calls"},
    {"raw-calls", raw_calls, "syscall() mixed with ordinary calls"},
    {"raw-first", raw_first, "syscall() as the first use of a stream"},
    {"raw-epoll", raw_epoll, "waiting by raw system calls"},
    {"number-reused", number_reused, "numbers closed unseen that come back"},
    {"lowest-numbers", lowest_numbers, "the lowest free number is free"},
    {"other-names", other_names, "fortified and 64-bit names"},
    {NULL, NULL, NULL},
};
