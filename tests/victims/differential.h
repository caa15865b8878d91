/* Declarations that the files of the interpreter share. The interpreter carries out the differential tester's commands,
 * one call at a time. */
#ifndef DIFFERENTIAL_H
#define DIFFERENTIAL_H

#include "victim.h"

#define SLOTS 32       /* the tester's names for descriptors; end b's begin at SLOTS / 2 */
#define STREAMS 16     /* a stream's name is the slot that it has at end a */
#define ROOM (1 << 20) /* the longest call */
#define WORDS 16

/* One end of one stream: how many bytes it has sent and received. */
struct position {
    uint64_t tx, rx;
};

struct slot {
    int fd;
    int stream; /* -1: not a stream */
};

extern struct slot slots[SLOTS];
extern struct position positions[2][STREAMS];

/* A thread that carries out commands. */
struct hand {
    char *buffer;
    char answer[400];
    size_t used;
};

/* A command: its words, as text and as numbers. */
struct command {
    int count;
    char *word[WORDS];
    long number[WORDS];
};

void answer(struct hand *h, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "= 5" or "= -1 EAGAIN" */
void answer_result(struct hand *h, long ret);

int fd_of(long slot);
/* The slot that has the number; -1: none. */
int slot_of(int fd);

int do_send(struct hand *h, const struct command *c);
int do_recv(struct hand *h, const struct command *c);
int do_wait(struct hand *h, const struct command *c);
int do_signal(struct hand *h, const struct command *c);
int do_child(struct hand *h, const struct command *c);
int do_life(struct hand *h, const struct command *c);

/* Called before there are threads. */
void hold_signals(void);

#endif
