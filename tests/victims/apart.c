/* Threads whose stacks lie at chosen addresses: no address may be taken for a thread's identity. */
#include "victim.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#define STACK (8ul << 20)

static struct stream *shared;

/* Makes many epoll_ctl calls on an instance of the thread's own; the result is how many failed. */
static void *registers(void *arg) {
    int ep = (int)must(epoll_create1(EPOLL_CLOEXEC));
    struct epoll_event e = {.events = EPOLLIN};
    long failed = 0;
    for (int i = 0; i < 20000; i++) {
        failed += epoll_ctl(ep, EPOLL_CTL_ADD, shared->fd, &e) != 0;
        failed += epoll_ctl(ep, EPOLL_CTL_DEL, shared->fd, &e) != 0;
    }
    close(ep);
    *(long *)arg = failed;
    return NULL;
}

/* At each distance that is a power of two, two threads at the same time. */
static void apart(void) {
    shared = stream_open(AF_INET);
    dialogue(shared, 2);
    for (int bit = 24; bit <= 36; bit++) {
        size_t distance = 1ul << bit;
        char *base = mmap(NULL, distance + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED)
            die("mmap: %s", strerror(errno));
        pthread_t threads[2];
        long failed[2];
        for (int i = 0; i < 2; i++) {
            pthread_attr_t attr;
            must(-pthread_attr_init(&attr));
            must(-pthread_attr_setstack(&attr, base + (size_t)i * distance, STACK));
            must(-pthread_create(&threads[i], &attr, registers, &failed[i]));
            pthread_attr_destroy(&attr);
        }
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
        say("2^%d bytes apart: %ld failed", bit, failed[0] + failed[1]);
        munmap(base, distance + STACK);
    }
    warm_always();
    dialogue(shared, 5);
    stream_close(shared);
}

const struct test_case apart_cases[] = {
    {"threads-apart", apart, "threads whose stacks lie powers of two apart"},
    {NULL, NULL, NULL},
};
