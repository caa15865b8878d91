/* Another program, without the shim, inherits a stream and has it for a while; the parent closes it. The stream ends when
 * the program does. */
#include "victim.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

enum { SPAWN, SPAWN_ACTION, SPAWNP, SYSTEM, POPEN, WAYS };
static const char *const names[] = {"posix_spawn", "posix_spawn with dup2", "posix_spawnp", "system", "popen"};

static FILE *pipe_to_child;
static pid_t child;

/* Starts the program with the stream; its orders come from the pipe. */
static void start(int way, int fd, int orders) {
    char text[300], numbers[2][16];
    int number = way == SPAWN_ACTION ? 200 : fd;
    snprintf(numbers[0], sizeof numbers[0], "%d", number);
    snprintf(numbers[1], sizeof numbers[1], "%d", orders);
    char *argv[] = {opt.argv[0], numbers[0], numbers[1], NULL};
    if (way != SPAWN_ACTION)
        must(fcntl(fd, F_SETFD, 0));
    must(fcntl(orders, F_SETFD, 0));
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fd, number);
    char *preload = getenv("LD_PRELOAD");
    if (preload)
        preload = strdup(preload);
    unsetenv("LD_PRELOAD");
    child = -1;
    snprintf(text, sizeof text, "exec %s %d %d", opt.argv[0], number, orders);
    if (way == SYSTEM) {
        snprintf(text, sizeof text, "%s %d %d &", opt.argv[0], number, orders);
        must(system(text));
    } else if (way == POPEN) {
        pipe_to_child = popen(text, "w");
    } else if (way == SPAWNP) {
        must(-posix_spawnp(&child, opt.argv[0], NULL, NULL, argv, environ));
    } else {
        must(-posix_spawn(&child, opt.argv[0], way == SPAWN_ACTION ? &actions : NULL, NULL, argv, environ));
    }
    posix_spawn_file_actions_destroy(&actions);
    if (preload)
        setenv("LD_PRELOAD", preload, 1);
    free(preload);
}

/* Prints in a line what far sees of the stream. */
static void one(int k) {
    int way = k == MOVED ? SPAWN : k % WAYS, orders[2], status = 0;
    long heard = 0, answered = 0;
    struct stream *s = stream_after(k);
    must(pipe2(orders, O_CLOEXEC));
    start(way, s->fd, orders[0]);
    must(close(orders[0]));
    must(close(s->fd));
    s->open = false;
    short told = (short)far_do(FAR_POLL, s->index, POLLIN | POLLRDHUP, k % 3 ? 0 : 10, 0).value;
    if (k % 2) {
        must(write(orders[1], "w", 1));
        heard = far_do(FAR_RAW_RECV, s->index, 5, MSG_WAITALL, 0).ret;
    }
    if (k % 4 > 1) {
        must(write(orders[1], "r", 1));
        far_do(FAR_SEND_RAW, s->index, 10, 0, 0);
        answered = far_do(FAR_RAW_RECV, s->index, 1, 0, 0).ret;
    }
    must(close(orders[1]));
    if (way == POPEN)
        status = pclose(pipe_to_child);
    else if (way != SYSTEM)
        must(waitpid(child, &status, 0));
    short last = (short)far_do(FAR_POLL, s->index, POLLIN | POLLRDHUP, 5000, 0).value;
    struct reply end = far_do(FAR_RAW_RECV, s->index, 5, MSG_DONTWAIT, 0);
    say("%s after %d exchanges: far is told %s, hears %ld and %ld; the child's status is %d, far is told %s, reads %s",
        names[way], k, told ? name_poll(told) : "nothing", heard, answered, status, name_poll(last), res(end.ret));
    far_do(FAR_CLOSE, s->index, 0, 0, 0);
}

static void spawned(void) {
    if (opt.argc < 1)
        die("the program that holds the stream");
    for (int k = 0; k <= MOVED; k++)
        one(k);
}

const struct test_case spawned_cases[] = {
    {"spawned", spawned, "PROGRAM: it inherits the stream, the parent closes"},
    {NULL, NULL, NULL},
};
