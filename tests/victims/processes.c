/* fork, exec, and descriptors that several processes hold. */
#include "victim.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

static void expect_exit(pid_t child, const char *what) {
    int status;
    must(waitpid(child, &status, 0));
    if (status != 0)
        die("%s ended with status %#x", what, status);
}

/* A child inherits the descriptors of a far that is a thread, and would keep its streams from ending. */
static void need_far_process(void) {
    if (opt.far_thread)
        die("this case needs --far=process");
}

/* accept in the parent, the child does the work, the parent closes */
static void accept_fork(void) {
    int port, listener = tcp_listen(AF_INET, &port);
    need_far_process();
    for (int i = 0; i < 4; i++) {
        far_begin(FAR_CONNECT, i, AF_INET, port, 0);
        int fd = (int)must(accept(listener, NULL, NULL));
        struct stream *s = stream_adopt(fd, (int)far_end().value);
        pid_t child = (pid_t)must(fork());
        if (child == 0) {
            close(listener);
            warm();
            dialogue(s, 30);
            stream_close(s);
            _exit(0);
        }
        must(close(fd));
        s->open = false;
        expect_exit(child, "the child");
        say("child %d served its stream", i);
    }
}

/* The parent talks first, then hands over to a child. */
static void hand_over(void) {
    need_far_process();
    struct stream *s = stream_open(AF_INET);
    dialogue(s, 3);
    warm();
    pid_t child = (pid_t)must(fork());
    if (child == 0) {
        dialogue(s, 30);
        warm_always();
        stream_close(s);
        _exit(0);
    }
    must(close(s->fd));
    s->open = false;
    expect_exit(child, "the child");
    say("the child went on");
}

/* A child that only holds the descriptors for a while, again and again, while the parent goes on. */
static void background_save(void) {
    struct stream *a = stream_open(AF_INET), *b = stream_open(AF_INET);
    for (int round = 0; round < 12; round++) {
        int gate[2];
        must(pipe(gate));
        if (round == 8)
            warm();
        pid_t child = (pid_t)must(fork());
        if (child == 0) {
            char byte;
            close(gate[1]);
            (void)!read(gate[0], &byte, 1);
            _exit(0);
        }
        close(gate[0]);
        dialogue(a, 5);
        if (round % 2)
            dialogue(b, 5);
        if (round % 3 == 0) {
            far_begin(FAR_DUPLEX, a->index, 200000, 0, 0);
            send_pattern(a, 200000);
            recv_pattern(a, 200000);
            far_end();
        }
        close(gate[1]);
        expect_exit(child, "the background child");
        dialogue(a, 2);
    }
    say("12 background children");
    warm_always();
    dialogue(b, 5);
    stream_close(a);
    stream_close(b);
}

/* Parent and child use the stream in turn. */
static void in_turn(void) {
    struct stream *s = stream_open(AF_INET);
    warm();
    for (int round = 0; round < 10; round++) {
        pid_t child = (pid_t)must(fork());
        if (child == 0) {
            dialogue(s, 1 + round);
            _exit(0);
        }
        expect_exit(child, "the child");
        for (int i = 0; i < 1 + round; i++) {
            s->tx += (uint64_t)(1 + (i * 37) % 900);
            s->rx += (uint64_t)(1 + (i * 37) % 900);
        }
        dialogue(s, 1 + round);
    }
    say("10 turns");
    stream_close(s);
}

/* Children by every other way; none of them must disturb the parent's stream. */
static void other_children(void) {
    struct stream *s = stream_open(AF_INET);
    char *const argv[] = {"true", NULL};
    for (int round = 0; round < 6; round++) {
        pid_t child;
        int status;
        if (round == 3)
            warm();
        must(-posix_spawn(&child, "/bin/true", NULL, NULL, argv, environ));
        dialogue(s, 2);
        expect_exit(child, "posix_spawn");
        say("system = %d", system("exit 3") >> 8);
        dialogue(s, 2);
        FILE *p = popen("echo popen", "r");
        char line[32] = "";
        if (!p || !fgets(line, sizeof line, p))
            die("popen");
        pclose(p);
        say("%.5s", line);
        child = vfork();
        if (child == 0) {
            close(s->fd);
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        must(waitpid(child, &status, 0));
        say("vfork: status %d", status);
        dialogue(s, 2);
        child = (pid_t)must(fork());
        if (child == 0) {
            for (int fd = 3; fd < 1024; fd++)
                close(fd);
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        expect_exit(child, "the child that closed everything");
        dialogue(s, 2);
        child = (pid_t)must(fork());
        if (child == 0) {
            must(close_range(3, ~0u, 0));
            int port, listener = tcp_listen(AF_INET, &port), mine = tcp_connect(AF_INET, port);
            int other = (int)must(accept(listener, NULL, NULL));
            char text[6];
            for (int i = 0; i < 50; i++) {
                write_all(mine, "hello", 6);
                read_all(other, text, 6);
                write_all(other, text, 6);
                read_all(mine, text, 6);
            }
            _exit(strcmp(text, "hello") != 0);
        }
        expect_exit(child, "the child with streams of its own");
        dialogue(s, 2);
    }
    warm_always();
    stream_close(s);
}

/* exec into ourselves: the stream goes on under the same number */
void continue_after_exec(int argc, char **argv) {
    if (argc < 5)
        die("continue FD PORT TX RX");
    struct stream *s = stream_adopt(atoi(argv[1]), atoi(argv[2]));
    s->tx = strtoull(argv[3], NULL, 10);
    s->rx = strtoull(argv[4], NULL, 10);
    dialogue(s, 10);
    warm();
    dialogue(s, 10);
    stream_close(s);
    far_stop();
    say("the program went on after exec");
}

static void exec_self(void) {
    struct stream *s = stream_open(AF_INET);
    char fd[16], port[16], tx[24], rx[24], to[16], from[16];
    need_far_process();
    dialogue(s, 10);
    warm();
    dialogue(s, 3);
    must(fcntl(s->fd, F_SETFD, 0));
    far_keep_over_exec(to, from, sizeof to);
    snprintf(fd, sizeof fd, "%d", s->fd);
    snprintf(port, sizeof port, "%d", s->port);
    snprintf(tx, sizeof tx, "%llu", (unsigned long long)s->tx);
    snprintf(rx, sizeof rx, "%llu", (unsigned long long)s->rx);
    execl("/proc/self/exe", "victim", "continue", to, from, opt.cold ? "cold" : "warm", fd, port, tx, rx, (char *)NULL);
    die("exec: %s", strerror(errno));
}

/* The child is another program (cat, or the one that is named), with the stream as its standard input and output. */
static void exec_cat(bool plain) {
    const char *program = opt.argc > 0 ? opt.argv[0] : "/bin/cat";
    struct stream *s = stream_open(AF_INET);
    dialogue(s, 5);
    warm();
    pid_t child = (pid_t)must(fork());
    if (child == 0) {
        must(dup2(s->fd, 0));
        must(dup2(s->fd, 1));
        if (plain)
            unsetenv("LD_PRELOAD");
        execl(program, "cat", (char *)NULL);
        _exit(127);
    }
    must(close(s->fd));
    s->open = false;
    /* far sends, and gets its own bytes back: they are not near's pattern, so only their number is checked */
    for (int i = 0; i < 20; i++) {
        far_do(FAR_SEND_RAW, s->index, 100, 0, 0);
        struct reply r = far_do(FAR_RAW_RECV, s->index, 100, MSG_WAITALL, 0);
        if (r.ret != 100 || r.value != 'x')
            die("cat: %ld bytes of %c", r.ret, (char)r.value);
    }
    far_do(FAR_SHUT, s->index, SHUT_WR, 0, 0);
    struct reply r = far_do(FAR_RAW_RECV, s->index, 100, 0, 0);
    say("cat echoed 2000 bytes, then far read %ld", r.ret);
    expect_exit(child, "cat");
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
}

static void exec_cat_inheriting(void) {
    exec_cat(false);
}

static void exec_cat_plain(void) {
    exec_cat(true);
}

/* The descriptor goes to another process in a message and is closed here. */
static void passed(void) {
    struct stream *s = stream_open(AF_INET);
    int pair[2];
    need_far_process();
    dialogue(s, 3);
    warm();
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
    pid_t child = (pid_t)must(fork());
    char control[CMSG_SPACE(sizeof(int))] = {0}, byte = 'x';
    struct iovec part = {&byte, 1};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    if (child == 0) {
        close(s->fd);
        must(recvmsg(pair[1], &m, 0));
        memcpy(&s->fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
        dialogue(s, 30);
        stream_close(s);
        _exit(0);
    }
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &s->fd, sizeof(int));
    must(sendmsg(pair[0], &m, 0));
    must(close(s->fd));
    s->open = false;
    expect_exit(child, "the receiver");
    say("the receiver went on");
}

/* Several children accept from one listener. */
static void prefork(void) {
    int port, listener = tcp_listen(AF_INET, &port);
    pid_t children[3];
    for (int i = 0; i < LEN(children); i++) {
        children[i] = (pid_t)must(fork());
        if (children[i] == 0) {
            for (int served = 0; served < 4; served++) {
                char record[64];
                int fd = (int)must(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
                while (read_all(fd, record, sizeof record) == sizeof record)
                    write_all(fd, record, sizeof record);
                close(fd);
            }
            _exit(0);
        }
    }
    for (int i = 0; i < LEN(children) * 4; i++) {
        char record[64], answer[64];
        int fd = tcp_connect(i % 2 ? AF_INET : AF_INET, port);
        for (int round = 0; round < 30; round++) {
            memset(record, i + round, sizeof record);
            write_all(fd, record, sizeof record);
            if (read_all(fd, answer, sizeof answer) != sizeof answer || memcmp(record, answer, sizeof record) != 0)
                die("stream %d: wrong bytes", i);
            if (round % 3 == 0)
                sleep_ms(1);
        }
        close(fd);
    }
    for (int i = 0; i < LEN(children); i++)
        expect_exit(children[i], "a server");
    say("3 servers, 12 streams");
}

const struct test_case process_cases[] = {
    {"accept-fork", accept_fork, "accept in the parent, work in the child"},
    {"hand-over", hand_over, "the parent begins, a child goes on"},
    {"background-save", background_save, "children that only hold the descriptors"},
    {"in-turn", in_turn, "parent and child in turn"},
    {"other-children", other_children, "posix_spawn, system, popen, vfork, closing loops"},
    {"exec-self", exec_self, "the stream goes on after exec"},
    {"exec-cat", exec_cat_inheriting, "[PROGRAM]: fork and exec of cat on the stream"},
    {"exec-cat-plain", exec_cat_plain, "the same without LD_PRELOAD"},
    {"passed", passed, "SCM_RIGHTS"},
    {"prefork", prefork, "several children accept"},
    {NULL, NULL, NULL},
};
