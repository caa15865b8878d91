/* What processes become: daemons, processes of other users without privilege and in another root, many at a time. */
#include "victim.h"

#include <grp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

#define NOBODY 65534

static void expect_byte(int fd, const char *what) {
    char byte;
    if (must(read(fd, &byte, 1)) != 1)
        die("%s ended early", what);
}

/* The stream goes on in a process that daemon(3) has made; its parent ends in between. */
static void daemonized(void) {
    struct stream *s = stream_open(AF_INET);
    int gate[2], status;
    must(pipe(gate));
    dialogue(s, 3);
    warm();
    pid_t child = (pid_t)must(fork());
    if (child == 0) {
        close(gate[0]);
        must(daemon(1, 1));
        dialogue(s, 20);
        warm_always();
        stream_close(s);
        write_all(gate[1], "x", 1);
        _exit(0);
    }
    must(close(s->fd));
    close(gate[1]);
    s->open = false;
    must(waitpid(child, &status, 0));
    expect_byte(gate[0], "the daemon");
    say("the daemon went on; its parent: %#x", status);
}

/* Another root, another user, and only then the first connection: no ipcd can be found from there. */
static void less_privilege(void) {
    char root[] = "/tmp/victim-root-XXXXXX";
    int status;
    if (!mkdtemp(root))
        die("mkdtemp: %s", strerror(errno));
    pid_t child = (pid_t)must(fork());
    if (child == 0) {
        must(chroot(root));
        must(chdir("/"));
        must(setgroups(0, NULL));
        must(setresgid(NOBODY, NOBODY, NOBODY));
        must(setresuid(NOBODY, NOBODY, NOBODY));
        struct stream *s = stream_open(AF_INET), *t = stream_open(AF_INET6);
        dialogue(s, 20);
        dialogue(t, 20);
        stream_close(s);
        stream_close(t);
        _exit(0);
    }
    must(waitpid(child, &status, 0));
    must(rmdir(root));
    say("without privilege: %#x", status);
}

/* A child that has a stream of its own, and holds its parent's for a while. */
static void *forks(void *arg) {
    for (int i = 0; i < 8; i++) {
        int status;
        pid_t child = (pid_t)must(fork());
        if (child == 0) {
            int port, listener = tcp_listen(AF_INET, &port), mine = tcp_connect(AF_INET, port);
            int other = (int)must(accept(listener, NULL, NULL));
            char text[64];
            for (int round = 0; round < 20; round++) {
                write_all(mine, "one of many children", 21);
                if (read_all(other, text, 21) != 21)
                    _exit(1);
                write_all(other, text, 21);
                if (read_all(mine, text, 21) != 21 || strcmp(text, "one of many children") != 0)
                    _exit(1);
            }
            _exit(0);
        }
        must(waitpid(child, &status, 0));
        if (status != 0)
            die("a child ended with %#x", status);
    }
    return arg;
}

static void threads_fork(void) {
    struct stream *s = stream_open(AF_INET);
    pthread_t threads[4];
    dialogue(s, 3);
    warm();
    for (int i = 0; i < LEN(threads); i++)
        pthread_create(&threads[i], NULL, forks, NULL);
    dialogue(s, 150);
    for (int i = 0; i < LEN(threads); i++)
        pthread_join(threads[i], NULL);
    dialogue(s, 20);
    warm_always();
    say("%d threads that fork", LEN(threads));
    stream_close(s);
}

/* A thread with a descriptor table of its own: the other threads do not see a file that is put over one of its numbers.
 * */
static void *apart(void *s) {
    must(unshare(CLONE_FILES));
    dialogue(s, 30);
    return NULL;
}

static void unshared(void) {
    struct stream *s = stream_open(AF_INET), *t = stream_open(AF_INET);
    pthread_t thread;
    dialogue(s, 3);
    warm();
    dialogue(t, 3);
    must(-pthread_create(&thread, NULL, apart, s));
    pthread_join(thread, NULL);
    dialogue(s, 20);
    must(-pthread_create(&thread, NULL, apart, t));
    pthread_join(thread, NULL);
    dialogue(t, 20);
    say("two threads apart");
    stream_close(s);
    stream_close(t);
}

const struct test_case life_cases[] = {
    {"daemon", daemonized, "daemon(3) in the middle of a stream"},
    {"less-privilege", less_privilege, "chroot and setuid before the first connection"},
    {"threads-fork", threads_fork, "threads that fork while another one talks"},
    {"unshared", unshared, "threads that unshare their descriptors"},
    {NULL, NULL, NULL},
};
