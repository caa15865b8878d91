/* The calls of the interpreter that execute another program, without the shim, which inherits a descriptor and holds it
 * until it is told to end. */
#include "differential.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define CHILDREN 8
#define HELD_AT 60

extern char **environ;

/* A child ends when the writing end of its pipe is closed. */
static struct child {
    int release;
    FILE *pipe;
} children[CHILDREN];
static int count;

/* The environment without the shim. */
static char **plain_environment(char **room, int size) {
    int n = 0;
    for (char **one = environ; *one && n < size - 1; one++)
        if (strncmp(*one, "LD_PRELOAD=", 11) != 0)
            room[n++] = *one;
    room[n] = NULL;
    return room;
}

/* posix_spawn; `action`: it gives the child the descriptor under another number. */
static long spawn_cat(char **arguments, char **plain, int held, bool by_action) {
    posix_spawn_file_actions_t actions;
    pid_t pid;
    if (!by_action)
        return -posix_spawn(&pid, "/bin/cat", NULL, NULL, arguments, plain);
    must(posix_spawn_file_actions_init(&actions));
    must(posix_spawn_file_actions_adddup2(&actions, held, HELD_AT));
    int r = posix_spawn(&pid, "/bin/cat", &actions, NULL, arguments, plain);
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

/* fork, in which the child takes the descriptor under another number, or vfork */
static long fork_cat(char **arguments, char **plain, int held, bool shares) {
    pid_t pid = shares ? vfork() : fork();
    if (pid == 0) {
        if (!shares)
            dup2(held, HELD_AT);
        execve("/bin/cat", arguments, plain);
        _exit(1);
    }
    return pid < 0 ? -1 : 0;
}

static long start_cat(int from, const char *how, int held) {
    char *plain[512], path[32], *arguments[] = {(char *)"cat", path, NULL};
    plain_environment(plain, LEN(plain));
    snprintf(path, sizeof path, "/proc/self/fd/%d", from);
    if (strcmp(how, "fork") == 0 || strcmp(how, "vfork") == 0)
        return fork_cat(arguments, plain, held, how[0] == 'v');
    return spawn_cat(arguments, plain, held, how[0] == 'a');
}

/* Starts it by a shell, which ends at once: this process adopts the program that the shell leaves. */
static long shell_cat(int from, struct child *child, bool by_popen) {
    char line[100];
    snprintf(line, sizeof line, "LD_PRELOAD= cat </proc/self/fd/%d >/dev/null &", from);
    if (!by_popen)
        return system(line);
    snprintf(line, sizeof line, "LD_PRELOAD= exec cat </proc/self/fd/%d", from);
    child->pipe = popen(line, "r");
    return child->pipe ? 0 : -1;
}

/* child HOW SLOT: spawn, action, fork, vfork, system, popen */
static void start_child(struct hand *h, const struct command *c) {
    const char *how = c->word[2];
    int fd = fd_of(c->number[3]), ends[2];
    struct child *child = &children[count];
    if (count == CHILDREN) {
        answer(h, "too many");
        return;
    }
    must(prctl(PR_SET_CHILD_SUBREAPER, 1));
    must(pipe2(ends, O_CLOEXEC));
    must(fcntl(ends[0], F_SETFD, 0));
    *child = (struct child){ends[1], NULL};
    bool by_shell = strcmp(how, "system") == 0 || strcmp(how, "popen") == 0;
    int flags = fcntl(fd, F_GETFD);
    if (strcmp(how, "action") != 0 && strcmp(how, "fork") != 0)
        fcntl(fd, F_SETFD, 0);
    long r = by_shell ? shell_cat(ends[0], child, how[0] == 'p') : start_cat(ends[0], how, fd);
    answer_result(h, r);
    if (flags >= 0)
        fcntl(fd, F_SETFD, flags);
    close(ends[0]);
    count++;
}

/* release: every child ends, and is waited for */
static void release_children(struct hand *h) {
    for (int i = 0; i < count; i++) {
        close(children[i].release);
        if (children[i].pipe)
            pclose(children[i].pipe);
    }
    while (waitpid(-1, NULL, 0) > 0)
        continue;
    answer(h, "released %d", count);
    count = 0;
}

int do_child(struct hand *h, const struct command *c) {
    if (strcmp(c->word[1], "child") == 0)
        start_child(h, c);
    else if (strcmp(c->word[1], "release") == 0)
        release_children(h);
    else
        return 0;
    return 1;
}
