/* Declarations that the files that try socket options share. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include "victim.h"

/* The moment at which something is tried: before connect, before the first byte, while near has promised and far makes
 * no call, once the stream is final. */
enum moment { NEW, TRACKED, DUAL, AFTER };
enum moment moment_of_argument(void);
const char *moment_name(enum moment m);

/* A stream on which one thing is tried. */
struct trial {
    struct stream *s;
    int level, number; /* the option, if it is one */
    int fd;            /* a socket that is not connected yet (NEW), else that of the stream */
    bool accepted;     /* a value was set that not every socket has */
};

/* Opens `n` trials and calls `attempt` for each at the moment; then they are moved, tell the harness what was
 * accepted, have a dialogue, and are closed. */
void trials_run(enum moment m, int family, struct trial *t, int n, void (*attempt)(struct trial *));

#endif
