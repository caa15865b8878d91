/* Byte-exactness: declarations that the three files of the stress share. */
#ifndef EXACT_H
#define EXACT_H

#include "victim.h"

#include <pthread.h>

/* How an end's calls behave when they cannot go on. */
enum style { BLOCKING, NONBLOCKING, DONTWAIT };

/* One direction as one side sees it. */
struct half {
    uint64_t key, total, done;
    pthread_mutex_t lock; /* several writers, or readers: held over one call */
    int threads;
};

struct end {
    int fd, id;
    enum style style;
    struct half out, in;
};

/* What a thread needs to move bytes in all the ways. */
struct tools {
    struct rng rng;
    int memory; /* a memfd, for sendfile */
    off_t memory_used;
    int pipe[2];
    char *buffer;
};

#define BUFFER (256 << 10)
#define ROUNDS_MAX 1000

void tools_open(struct tools *t, uint64_t seed);
void tools_close(struct tools *t);
void pause_sometimes(struct tools *t);
/* One call of some kind: the bytes that it moved, or -1 if it would have to wait. */
ssize_t move_out(struct end *e, struct tools *t);
ssize_t move_in(struct end *e, struct tools *t);
/* Waits in some way until e may be ready for these poll events. */
void wait_somehow(struct end *e, short events, int timeout_ms, struct tools *t);
/* Moves all bytes of all ends in one loop. */
void run_events(struct end **ends, int n, struct tools *t);

#endif
