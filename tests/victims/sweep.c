/* Streams that are at every point of their way when something comes: after so many exchanges, and moved. */
#include "victim.h"

#include <sys/ioctl.h>
#include <sys/syscall.h>

/* Far speaks first: what near says acknowledges it, so that nothing that far writes next is held back (Nagle). */
void exchange(struct stream *s, int times) {
    for (int i = 0; i < times; i++) {
        far_begin(FAR_SEND, s->index, 8, 0, 0);
        recv_pattern(s, 8);
        far_end();
        far_begin(FAR_RECV, s->index, 8, 0, 0);
        send_pattern(s, 8);
        far_end();
    }
}

/* A new stream after so many exchanges; MOVED: when the harness has seen that it is final. */
struct stream *stream_after(int exchanges) {
    struct stream *s = stream_open(AF_INET);
    if (exchanges == MOVED)
        warm_always();
    exchange(s, exchanges == MOVED ? 1 : exchanges);
    return s;
}

/* Until the kernel has brought so many bytes to the number: TCP may be in the middle of it when the writer's call is
 * over. By a raw call, which disturbs nobody; a number that is between the transports need not show them. */
void settle(int fd, int bytes) {
    for (int i = 0, have = 0; i < 20 && have < bytes; i++) {
        must(syscall(SYS_ioctl, fd, FIONREAD, &have));
        if (have < bytes)
            usleep(50);
    }
}
