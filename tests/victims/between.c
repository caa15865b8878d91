/* Streams between the two transports: near has left TCP and far sleeps, or the other way round. Then near makes a call,
 * or passes the stream to another program, that knows only one socket. */
#include "victim.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define NUDGES 200

/* Makes small calls at one end until the harness has seen enough of them (it delays its answer until then). */
static void nudge(struct stream *s, bool far) {
    char what[64], byte;
    snprintf(what, sizeof what, "%s %d", far ? "nudged-far" : "nudged-near", s->port);
    for (int i = 0; i < NUDGES; i++) {
        if (far)
            far_do(FAR_POLL, s->index, POLLIN, 0, 0);
        else if (recv(s->fd, &byte, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN)
            die("there was something to read");
        event(what);
    }
}

/* A stream that is between the transports: one end has promised and sleeps, the other one has promised after it and
 * left TCP. Or near has promised and far has not taken up its grant (promised). */
static struct stream *between(void) {
    const char *state = opt.argc > 0 ? opt.argv[0] : "left";
    /* Both ends have spoken to ipcd by then, and know how long a prefix is. */
    struct stream *first = stream_open(AF_INET);
    warm();
    stream_close(first);
    struct stream *s = stream_open(AF_INET);
    bool left = strcmp(state, "left") == 0, promised = strcmp(state, "promised") == 0;
    /* One call of each end completes a prefix; only the next call can take up a grant. */
    far_begin(FAR_RECV, s->index, 50, 0, 0);
    send_pattern(s, 50);
    far_end();
    if (!promised)
        nudge(s, left);
    nudge(s, !left && !promised);
    event(state);
    return s;
}

static void splices(void) {
    struct stream *s = between();
    int pipes[2];
    char buffer[300];
    must(pipe(pipes));
    for (int i = 0; i < 5; i++) {
        next_out(s, buffer, sizeof buffer);
        write_all(pipes[1], buffer, sizeof buffer);
        say("splice %s", res(splice(pipes[0], NULL, s->fd, NULL, 65536, 0)));
        say("splice of nothing %s", res(splice(pipes[0], NULL, s->fd, NULL, 65536, SPLICE_F_NONBLOCK)));
    }
    far_do(FAR_RECV, s->index, 5 * sizeof buffer, 0, 0);
    dialogue(s, 3);
    stream_close(s);
}

/* Writes more than any socket takes, by a descriptor that does not block. */
static void sends_a_file(void) {
    enum { SIZE = 8 << 20 };
    struct stream *s = between();
    char *buffer = malloc(SIZE), name[] = "/tmp/victim-between-XXXXXX";
    int file = (int)must(mkstemp(name));
    off_t at = 0;
    must(unlink(name));
    next_out(s, buffer, SIZE);
    write_all(file, buffer, SIZE);
    set_nonblocking(s->fd, true);
    bool full = false;
    while (at < SIZE) {
        ssize_t n = sendfile(s->fd, file, &at, (size_t)(SIZE - at));
        if (n < 0 && errno != EAGAIN)
            die("sendfile: %s", strerror(errno));
        if (n < 0 && !full) {
            full = true;
            far_begin(FAR_RECV, s->index, SIZE, 0, 0);
        }
        if (n < 0)
            wait_for(s->fd, POLLOUT, PATIENCE_MS);
    }
    say("@full %d", full);
    if (!full) /* as much room as natively is rare, but ipcd may have been given such a --buffer */
        far_begin(FAR_RECV, s->index, SIZE, 0, 0);
    say("sendfile has sent all, far %ld", far_end().value);
    set_nonblocking(s->fd, false);
    stream_close(s);
    free(buffer);
}

/* The process goes on with only reading and writing, as a child of sshd does. Every other call ends it. */
static void confine(void) {
    const int forbidden[] = {SYS_recvfrom, SYS_sendto, SYS_recvmsg, SYS_sendmsg, SYS_getsockopt, SYS_setsockopt, SYS_fcntl,
                             SYS_ppoll, SYS_poll, SYS_dup3, SYS_epoll_ctl, SYS_shutdown, SYS_openat, SYS_futex};
    struct sock_filter filter[2 * LEN(forbidden) + 2] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    for (int i = 0; i < LEN(forbidden); i++) {
        filter[1 + 2 * i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)forbidden[i], 0, 1);
        filter[2 + 2 * i] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
    }
    filter[LEN(filter) - 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {LEN(filter), filter};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

/* Uses the stream in another process, which begins with `before`; near sees the stream end when that process ends. */
static void in_a_child(struct stream *s, void (*before)(void)) {
    int status;
    pid_t child = (pid_t)must(fork());
    if (child == 0) {
        before();
        for (int i = 0; i < 20; i++) {
            char byte;
            far_do(FAR_SEND_RAW, s->index, 1, 0, 0);
            if (read(s->fd, &byte, 1) != 1 || write(s->fd, &byte, 1) != 1)
                _exit(1);
            if (far_do(FAR_RAW_RECV, s->index, 1, 0, 0).ret != 1)
                _exit(2);
        }
        _exit(0);
    }
    must(waitpid(child, &status, 0));
    say("the child: %s %d", WIFEXITED(status) ? "exit" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
}

static void confined(void) {
    struct stream *s = between();
    in_a_child(s, confine);
    dialogue(s, 10);
    stream_close(s);
}

/* A program that does not know of the other transport has the stream for a while, together with this one. */
static void executed(void) {
    struct stream *s = between();
    char reading[80];
    snprintf(reading, sizeof reading, "head -c 10 <&%d >/dev/null; printf 0123456789 >&%d", s->fd, s->fd);
    must(fcntl(s->fd, F_SETFD, 0));
    pid_t child = (pid_t)must(fork());
    if (child == 0) {
        unsetenv("LD_PRELOAD");
        execl("/bin/sh", "sh", "-c", reading, (char *)NULL);
        _exit(127);
    }
    far_do(FAR_SEND_RAW, s->index, 10, 0, 0);
    struct reply r = far_do(FAR_RAW_RECV, s->index, 10, MSG_WAITALL, 0);
    say("far received %ld, the first one %c", r.ret, (char)r.value);
    int status;
    must(waitpid(child, &status, 0));
    say("the shell: %d", status);
    dialogue(s, 10);
    stream_close(s);
}

/* The number becomes the program's standard input, which the C library reads by itself. */
static void standard(void) {
    struct stream *s = between();
    int before = (int)must(dup(0));
    must(dup2(s->fd, 0));
    dialogue(s, 10);
    must(dup2(before, 0));
    dialogue(s, 10);
    stream_close(s);
}

/* Far ends without closing anything, and leaves unread what near has sent on the other transport. */
static void ended(void) {
    struct stream *s = between();
    char byte;
    say("recv of nothing %s", res(recv(s->fd, &byte, 1, MSG_DONTWAIT)));
    far_begin(FAR_EXIT, 0, 0, 0, 0);
    say("poll %s", name_poll((short)wait_for(s->fd, POLLIN, PATIENCE_MS)));
    int error = -1;
    socklen_t len = sizeof error;
    must(getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len));
    say("SO_ERROR %d", error);
    say("recv %s", res(recv(s->fd, &byte, 1, 0)));
    say("send %s", res(send(s->fd, "x", 1, MSG_NOSIGNAL)));
    must(close(s->fd));
    s->open = false;
    far_drop_pipes();
}

/* Both ends go on as if nothing had happened. */
static void goes_on(void) {
    struct stream *s = between();
    dialogue(s, 10);
    warm();
    dialogue(s, 10);
    stream_close(s);
}

const struct test_case between_cases[] = {
    {"between-splice", splices, "splice from a pipe"},
    {"between-sendfile", sends_a_file, "sendfile on a non-blocking socket"},
    {"between-confined", confined, "a child that may do nothing but read and write"},
    {"between-executed", executed, "a child that is another program"},
    {"between-standard", standard, "dup2 to standard input"},
    {"between-ended", ended, "a peer that ends without closing"},
    {"between-goes-on", goes_on, "nothing of the kind"},
    {NULL, NULL, NULL},
};
