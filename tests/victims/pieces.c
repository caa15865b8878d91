/* A stream that goes one way, in writes of one size. */
#include "victim.h"

static void pieces(void) {
    int size = opt.argc > 0 ? atoi(opt.argv[0]) : 64, count = opt.argc > 1 ? atoi(opt.argv[1]) : 100;
    struct stream *s = stream_open(AF_INET);
    far_begin(FAR_RECV, s->index, (long)size * count, 0, 0);
    for (int i = 0; i < count; i++)
        send_pattern(s, (size_t)size);
    say("far has read %ld", far_end().value);
    warm_always();
    stream_close(s);
}

const struct test_case pieces_cases[] = {
    {"pieces", pieces, "SIZE COUNT: so many writes of that size, one way"},
    {NULL, NULL, NULL},
};
