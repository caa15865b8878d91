/* Two byte rings in shared memory between two processes that spin, one for each direction: no system call at all. */
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#define RING_BYTES (256u * 1024)

struct ring {
    _Alignas(128) _Atomic uint64_t written;
    uint64_t read_seen; /* the writer's last look at `read` */
    _Alignas(128) _Atomic uint64_t read;
    uint64_t written_seen; /* the reader's last look at `written` */
    _Alignas(128) _Atomic int closed;
    _Alignas(4096) char bytes[RING_BYTES];
};

struct rings {
    struct ring up, down;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Reads the bytes that are there, at most n; 0 once the writer has closed. */
static inline ssize_t ring_read(struct ring *r, char *to, size_t n)
{
    uint64_t at = atomic_load_explicit(&r->read, memory_order_relaxed), offset = at % RING_BYTES;
    while (r->written_seen == at) {
        int closed = atomic_load_explicit(&r->closed, memory_order_acquire);
        r->written_seen = atomic_load_explicit(&r->written, memory_order_acquire);
        if (r->written_seen == at && closed)
            return 0;
        relax();
    }
    if (n > r->written_seen - at)
        n = r->written_seen - at;
    size_t first = n < RING_BYTES - offset ? n : RING_BYTES - offset;
    memcpy(to, r->bytes + offset, first);
    memcpy(to + first, r->bytes, n - first);
    atomic_store_explicit(&r->read, at + n, memory_order_release);
    return (ssize_t)n;
}

/* Writes as much as there is room for, at most n bytes. */
static inline ssize_t ring_write(struct ring *r, const char *from, size_t n)
{
    uint64_t at = atomic_load_explicit(&r->written, memory_order_relaxed), offset = at % RING_BYTES;
    while (at - r->read_seen == RING_BYTES || (at - r->read_seen > RING_BYTES - n && n <= RING_BYTES)) {
        uint64_t seen = r->read_seen;
        r->read_seen = atomic_load_explicit(&r->read, memory_order_acquire);
        if (r->read_seen == seen)
            relax();
    }
    if (n > RING_BYTES - (at - r->read_seen))
        n = RING_BYTES - (at - r->read_seen);
    size_t first = n < RING_BYTES - offset ? n : RING_BYTES - offset;
    memcpy(r->bytes + offset, from, first);
    memcpy(r->bytes, from + first, n - first);
    atomic_store_explicit(&r->written, at + n, memory_order_release);
    return (ssize_t)n;
}
