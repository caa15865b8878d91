/* victim differential THREADS: reads commands and prints their results.
 *
 * A command is a line "THREAD CALL ARGUMENTS…"; thread 0 is the main one, which is the only one if THREADS is 0 and else
 * only passes commands on. A thread says "begin THREAD" before it makes a call, and "end THREAD RESULT" after it. What
 * follows a '|' in a result is for the tester alone and differs between runs. */
#include "differential.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/syscall.h>

#define THREADS 8

struct slot slots[SLOTS];
struct position positions[2][STREAMS];
static int to_thread[THREADS + 1][2];
static _Thread_local volatile sig_atomic_t broken_pipes;

void answer(struct hand *h, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(h->answer + h->used, sizeof h->answer - h->used, format, args);
    va_end(args);
    h->used += (size_t)n < sizeof h->answer - h->used ? (size_t)n : 0;
}

void answer_result(struct hand *h, long ret) {
    answer(h, "%s", res(ret));
}

int fd_of(long slot) {
    return slots[slot % SLOTS].fd;
}

int slot_of(int fd) {
    for (int i = 0; i < SLOTS; i++)
        if (fd >= 0 && slots[i].fd == fd)
            return i;
    return -1;
}

static void on_broken_pipe(int signal) {
    (void)signal;
    broken_pipes++;
}

static void tell(const char *format, ...) {
    char line[600];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (write(1, line, (size_t)n) != n)
        _exit(1);
}

static void carry_out(struct hand *h, struct command *c) {
    tell("begin %s\n", c->word[0]);
    h->used = 0;
    h->answer[0] = 0;
    sig_atomic_t before = broken_pipes;
    errno = 0;
    if (!do_send(h, c) && !do_recv(h, c) && !do_wait(h, c) && !do_signal(h, c) && !do_child(h, c) && !do_life(h, c))
        die("no such call: %s", c->word[1]);
    tell("end %s %s%s\n", c->word[0], broken_pipes != before ? "SIGPIPE " : "", h->answer);
}

static void parse(char *line, struct command *c) {
    c->count = 0;
    for (char *at = strtok_r(line, " \n", &line); at && c->count < WORDS; at = strtok_r(NULL, " \n", &line)) {
        c->number[c->count] = atol(at);
        c->word[c->count++] = at;
    }
    for (int i = c->count; i < WORDS; i++)
        c->word[i] = (char *)"", c->number[i] = 0;
}

static bool read_line(int fd, char *line, size_t size) {
    size_t used = 0;
    while (used + 1 < size && read(fd, line + used, 1) == 1)
        if (line[used++] == '\n') {
            line[used] = 0;
            return true;
        }
    return false;
}

static void *work(void *arg) {
    int from = *(int *)arg;
    struct hand h = {.buffer = malloc(ROOM)};
    char line[256];
    struct command c;
    while (read_line(from, line, sizeof line)) {
        parse(line, &c);
        carry_out(&h, &c);
    }
    return NULL;
}

static void *announce_and_work(void *arg) {
    int *end = arg;
    tell("thread %d %ld\n", (int)(((int(*)[2])end) - to_thread), syscall(SYS_gettid));
    return work(end);
}

int differential_main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 0, own = 0;
    struct sigaction a = {.sa_handler = on_broken_pipe};
    sigaction(SIGPIPE, &a, NULL);
    hold_signals();
    for (int i = 0; i < SLOTS; i++)
        slots[i] = (struct slot){-1, -1};
    tell("thread 0 %ld\n", syscall(SYS_gettid));
    if (threads == 0) {
        work(&own);
        return 0;
    }
    for (int i = 1; i <= threads && i <= THREADS; i++) {
        pthread_t thread;
        must(pipe2(to_thread[i], O_CLOEXEC));
        must(-pthread_create(&thread, NULL, announce_and_work, to_thread[i]));
    }
    char line[256];
    while (read_line(0, line, sizeof line)) {
        int thread = atoi(line);
        if (thread < 1 || thread > threads)
            die("no such thread: %s", line);
        write_all(to_thread[thread][1], line, strlen(line));
    }
    return 0;
}
