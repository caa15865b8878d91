/* Streams at every point of their way when an event comes: after a given number of exchanges, and moved. */
#include "victim.h"

#include <sys/ioctl.h>
#include <sys/syscall.h>

/* Far sends first: near's answer acknowledges that, so that nothing that far writes next is held back (Nagle). */
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

/* A new stream after this many exchanges; MOVED: when the harness has seen that it is final. */
struct stream *stream_after(int exchanges) {
    struct stream *s = stream_open(AF_INET);
    if (exchanges == MOVED)
        warm_always();
    exchange(s, exchanges == MOVED ? 1 : exchanges);
    return s;
}

/* Waits until the kernel has brought this many bytes to the number: TCP may still be delivering them when the writer's
 * call ends. It asks by a raw call, which has no effect on the shim; a number that is between the transports need not
 * show the bytes. */
void settle(int fd, int bytes) {
    for (int i = 0, have = 0; i < 20 && have < bytes; i++) {
        must(syscall(SYS_ioctl, fd, FIONREAD, &have));
        if (have < bytes)
            usleep(50);
    }
}
