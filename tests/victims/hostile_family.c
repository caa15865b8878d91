/* Members of a family of processes that are killed in the middle of calls on a stream that other members hold, too. */
#include "victim.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

/* Waits, or polls again and again, so that a kill at any time interrupts a call. No byte comes. */
static _Noreturn void use_for_ever(int fd, int way) {
    char byte;
    for (;;) {
        struct pollfd p = {fd, POLLIN, 0};
        ssize_t n = way == 0   ? recv(fd, &byte, 1, 0)
                    : way == 1 ? read(fd, &byte, 1)
                    : way == 2 ? poll(&p, 1, -1)
                               : recv(fd, &byte, 1, MSG_DONTWAIT);
        if (n >= 0 || errno != EAGAIN)
            _exit(1);
    }
}

/* Near takes up its grant, far makes no call: near is between the transports when the harness answers. */
struct stream *between_transports(void) {
    bool held = getenv("VICTIM_HOLD") != NULL;
    char byte;
    /* Both ends have spoken to ipcd by then, and know how long a prefix is. */
    struct stream *first = stream_open(AF_INET);
    warm_always();
    stream_close(first);
    struct stream *s = stream_open(AF_INET);
    far_begin(FAR_RECV, s->index, 50, 0, 0);
    send_pattern(s, 50);
    far_end();
    say("@event dual %d", s->port);
    while (held && !wait_for(0, POLLIN, 1))
        if (recv(s->fd, &byte, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN)
            die("there was something to read");
    if (held && read(0, (char[8]){0}, 3) != 3)
        die("the harness let go");
    return s;
}

/* Far sleeps on. */
static void monologue(struct stream *s) {
    char byte;
    send_pattern(s, 10);
    if (recv(s->fd, &byte, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN)
        die("there was something to read");
}

/* Children use the stream and are killed; the parent goes on each time. As long as one more child has the stream, the
 * stream stays in its state (tcp, between), unless it has moved before (moved). */
static void killed(void) {
    const char *where = opt.argc > 0 ? opt.argv[0] : "moved";
    const int rounds = 300;
    bool between = strcmp(where, "between") == 0;
    struct stream *s = between ? between_transports() : stream_open(AF_INET), *more[5];
    struct rng rng = {opt.seed};
    if (strcmp(where, "moved") == 0)
        warm_always();
    pid_t holder = (pid_t)must(fork());
    while (holder == 0)
        pause();
    for (int i = 0; i < rounds; i++) {
        pid_t child = (pid_t)must(fork());
        int status;
        if (child == 0)
            use_for_ever(s->fd, i % 4);
        if (i % 4 == 3)
            usleep((useconds_t)rng_below(&rng, 2000));
        else
            await_asleep(child, child);
        must(kill(child, SIGKILL));
        must(waitpid(child, &status, 0));
        if (!WIFSIGNALED(status))
            die("the child ended with status %#x", status);
        if (between)
            monologue(s);
        else
            dialogue(s, 1 + i % 3);
    }
    must(kill(holder, SIGKILL));
    must(waitpid(holder, NULL, 0));
    if (between)
        far_do(FAR_RECV, s->index, 10 * rounds, 0, 0);
    dialogue(s, 5);
    stream_close(s);
    for (int i = 0; i < LEN(more); i++)
        more[i] = stream_open(AF_INET);
    /* A family without a free slot would keep its streams on TCP here. */
    pid_t last = (pid_t)must(fork());
    if (last == 0)
        _exit(0);
    must(waitpid(last, NULL, 0));
    warm_always();
    for (int i = 0; i < LEN(more); i++)
        stream_close(more[i]);
    say("%d children were killed", rounds);
}

/* A child is killed in a blocking read; then only the parent has the stream, and it moves. */
static void killed_reader(void) {
    for (int way = 0; way < 3; way++) {
        struct stream *s = stream_open(AF_INET);
        pid_t child = (pid_t)must(fork());
        if (child == 0)
            use_for_ever(s->fd, way);
        await_asleep(child, child);
        must(kill(child, SIGKILL));
        must(waitpid(child, NULL, 0));
        dialogue(s, 5);
        warm_always();
        stream_close(s);
    }
    say("all of them moved");
}

const struct test_case family_cases[] = {
    {"killed-children", killed, "[tcp|between|moved]: children that share a stream are killed"},
    {"killed-reader", killed_reader, "a child is killed while it waits for a stream that has not moved"},
    {NULL, NULL, NULL},
};
