/* The test programs: ordinary users of TCP, written without any regard to the shim.
 *
 * One program, many cases. A case is a script run by the "near" end. The "far" end of every stream is a second
 * process (or, with --far=thread, a thread of the same one) that does what near tells it over a pair of pipes, so that
 * a case reads from top to bottom and what it prints does not depend on timing. The harness runs a case with and
 * without the shim and compares what it printed. Lines that start with '@' are for the harness and are not compared.
 */
#ifndef VICTIM_H
#define VICTIM_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#define MAX_STREAMS 2048
/* A family of our own: an AF_INET6 socket that is connected to ::ffff:127.0.0.1. */
#define AF_MAPPED 1000
/* Longer than anything takes on a busy machine: only an event that never comes takes so long. */
#define PATIENCE_MS 50000
#define LEN(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* One TCP stream as near sees it. */
struct stream {
    int fd;      /* near's descriptor */
    int index;   /* the stream's number, the same on both sides */
    int port;    /* the port of the end that connected */
    bool open;
    uint64_t tx; /* pattern bytes near has sent */
    uint64_t rx; /* pattern bytes near has checked */
};

/* What far can be told to do; a..c are explained in far.c. */
enum far_op {
    FAR_LISTEN, FAR_ACCEPT, FAR_CONNECT, FAR_SEND, FAR_RECV, FAR_RECV_EOF, FAR_ECHO, FAR_DUPLEX, FAR_SHUT, FAR_CLOSE,
    FAR_LINGER0, FAR_POLL, FAR_SLEEP, FAR_INTERRUPT, FAR_EXIT, FAR_DIE, FAR_RAW_RECV, FAR_SEND_RAW, FAR_BLOCKED_READER,
    FAR_NAMES, FAR_STATE, FAR_NUMBERS, FAR_QUIT,
};
struct reply {
    long ret;
    int err;
    long value;
};

/* Options that every case understands. */
struct options {
    bool far_thread;   /* --far=thread: both ends in one process */
    bool near_accepts; /* --near-accepts: far connects */
    bool cold;         /* --cold: no warm-up, so streams may move in the middle of the case */
    bool far_plain;    /* --far-plain: far runs without LD_PRELOAD */
    bool near_plain;   /* --near-plain: only far is given LD_PRELOAD (from VICTIM_FAR_PRELOAD) */
    uint64_t seed;     /* --seed=N */
    int argc;          /* the arguments that are left for the case */
    char **argv;
};
extern struct options opt;

/* say.c: printing, failing, time */
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *res(long ret);                   /* "= 5" or "= -1 EAGAIN", reads errno */
const char *name_poll(short events);         /* "IN|RDHUP" */
const char *name_epoll(uint32_t events);
#define must(call) must_((long)(call), #call, __FILE__, __LINE__)
long must_(long ret, const char *what, const char *file, int line);
uint64_t now_us(void);
void sleep_ms(int ms);
void event(const char *what);                /* tells the harness and waits for its answer */

/* asleep.c */
void await_asleep(pid_t process, pid_t thread);
void await_thread_asleep(const atomic_int *thread);

/* pattern.c: bytes that know their place */
uint64_t mix(uint64_t x);
void pattern_fill(uint64_t key, uint64_t offset, void *buffer, size_t n);
void pattern_check(uint64_t key, uint64_t offset, const void *buffer, size_t n);
struct rng {
    uint64_t state;
};
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t bound);

/* net.c: sockets of the loopback */
int tcp_listen(int family, int *port);
int tcp_socket(int family);
int tcp_connect(int family, int port);
socklen_t loopback(int family, int port, struct sockaddr_storage *to);
int local_port(int fd);
int wait_for(int fd, short events, int timeout_ms); /* revents, 0 on timeout */
void set_nonblocking(int fd, bool on);
void write_all(int fd, const void *buffer, size_t n);
size_t read_all(int fd, void *buffer, size_t n);    /* less than n only at end of stream */
bool has_moved(int fd);                             /* whether it is a Unix-domain socket now */
void raise_nofile(unsigned long n);

/* far.c */
void far_start(void);
void far_stop(void);
void far_main(int from_near, int to_near);
void far_begin(enum far_op op, int stream, long a, long b, long c);
struct reply far_end(void);
struct reply far_do(enum far_op op, int stream, long a, long b, long c);
pid_t far_pid(void);
void far_drop_pipes(void);
void far_keep_over_exec(char *to, char *from, size_t size);
void far_inherit(const char *to, const char *from);

/* near.c */
extern struct stream streams[MAX_STREAMS];
struct stream *stream_open(int family);
struct stream *stream_adopt(int fd, int port); /* for cases that connect in their own way */
void stream_close(struct stream *s);           /* both ends, in order, checking for the end of stream */
void warm(void);                               /* ping-pong on every open stream until the harness has seen them move */
void warm_always(void);                        /* the same, --cold or not */
void send_pattern(struct stream *s, size_t n);
void recv_pattern(struct stream *s, size_t n);
void next_out(struct stream *s, void *buffer, size_t n);       /* the bytes that near sends next, by any call */
void next_in(struct stream *s, const void *buffer, size_t n);  /* checks bytes that near received by any call */
void be_seen_to_wait(int fd);                  /* polls it once, unless waits_in_sight is false */
extern bool waits_in_sight;
void dialogue(struct stream *s, int rounds);   /* checks that the stream still works in both directions */
size_t fill(struct stream *s);                 /* until no room is left, or will be made; returns the number of bytes */
int await_readable(struct stream *s, int bytes); /* until FIONREAD reports so many; returns its answer */

/* sweep.c */
#define SWEEP 60        /* exchanges before which a stream has moved on any terms */
#define MOVED (SWEEP + 1)
void exchange(struct stream *s, int times);
struct stream *stream_after(int exchanges);
void settle(int fd, int bytes);

/* hostile_uring.c */
struct epoll_event;
long ring_epoll_ctl(int ep, int op, int fd, struct epoll_event *event);

/* hostile_family.c */
struct stream *between_transports(void);      /* near has promised, far has not taken up its grant */

struct test_case {
    const char *name;
    void (*run)(void);
    const char *what;
};
extern const struct test_case blocking_cases[], after_cases[], many_cases[], epoll_cases[], halfclose_cases[], question_cases[],
    signal_cases[], process_cases[], stdio_cases[], fault_cases[], wait_cases[], option_cases[], option_call_cases[],
    option_special_cases[], between_cases[], pieces_cases[], apart_cases[];
extern const struct test_case life_cases[], uring_cases[], load_cases[], hostile_cases[], family_cases[], cancel_cases[];
extern const struct test_case order_cases[], closed_cases[], end_cases[], unseen_cases[], spawned_cases[], driven_cases[], peek_cases[], trunc_cases[], message_cases[], stack_cases[], control_cases[], handover_cases[];
int exact_main(int argc, char **argv);
int differential_main(int argc, char **argv);
void continue_after_exec(int argc, char **argv);
void handover_receiver(int orders, int next);

#endif
