/* Bytes that know their place: byte i of a direction is a function of (key, i) alone. */
#include "victim.h"

uint64_t mix(uint64_t x) {
    /* splitmix64's finaliser */
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline uint64_t word(uint64_t key, uint64_t index) {
    return mix(key * 0xd1342543de82ef95u + index);
}

void pattern_fill(uint64_t key, uint64_t offset, void *buffer, size_t n) {
    uint8_t *out = buffer;
    while (n > 0) {
        uint64_t w = word(key, offset / 8);
        size_t skip = offset % 8, take = 8 - skip < n ? 8 - skip : n;
        memcpy(out, (uint8_t *)&w + skip, take);
        out += take, offset += take, n -= take;
    }
}

void pattern_check(uint64_t key, uint64_t offset, const void *buffer, size_t n) {
    const uint8_t *in = buffer;
    while (n > 0) {
        uint64_t w = word(key, offset / 8);
        size_t skip = offset % 8, take = 8 - skip < n ? 8 - skip : n;
        if (memcmp(in, (uint8_t *)&w + skip, take) != 0)
            die("wrong bytes: key %llu, at or just after offset %llu", (unsigned long long)key,
                (unsigned long long)offset);
        in += take, offset += take, n -= take;
    }
}

uint64_t rng_next(struct rng *r) {
    return mix(r->state++);
}

uint64_t rng_below(struct rng *r, uint64_t bound) {
    return bound ? rng_next(r) % bound : 0;
}
