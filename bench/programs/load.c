/*
 * Many connections at once, each with one request under way: one thread and epoll, on both sides.
 *
 *   load serve TRANSPORT ADDRESS             echoes; prints a line once it can be reached
 *   load talk  TRANSPORT ADDRESS echo|memcached CONNECTIONS SIZE MILLISECONDS
 *
 * echo: SIZE bytes there and back. memcached: stores 10,000 items of SIZE bytes, then gets them one after the other.
 * talk prints the requests per second, then the number of requests and the nanoseconds of each as binary 32-bit words.
 */
#include "channel.h"
#include <sys/epoll.h>

#define MAX_SAMPLES (1 << 21)
#define MAX_CONNECTIONS 1024
#define ITEMS 10000
#define ROOM (1 << 20)

static uint32_t samples[MAX_SAMPLES];
static uint64_t asked[MAX_CONNECTIONS];
static size_t missing[MAX_CONNECTIONS], request_size, reply_size;
static int sockets[MAX_CONNECTIONS], memcached;
static char *request;

static void watch(int epfd, int fd, uint64_t data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};
    check(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static void echo(int fd)
{
    static char bytes[65536];
    ssize_t n = read(fd, bytes, sizeof bytes), written = 0, w = 1;
    for (; written < n && w > 0; written += w)
        w = write(fd, bytes + written, (size_t)(n - written));
    /* The client is gone, perhaps in the middle of an answer. */
    if (n <= 0 || w <= 0)
        close(fd);
}

static void serve(const char *transport, const char *address)
{
    int tcp = !strcmp(transport, "tcp"), epfd = epoll_create1(0);
    int listener = tcp ? tcp_listener(address) : unix_listener(address);
    struct epoll_event events[64];
    watch(epfd, listener, (uint64_t)listener);
    for (;;) {
        int n = epoll_wait(epfd, events, 64, -1);
        check(n >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < n; i++) {
            int fd = (int)events[i].data.u64;
            if (fd != listener) {
                echo(fd);
                continue;
            }
            fd = accept(listener, NULL, NULL);
            check(fd >= 0, "accept");
            watch(epfd, tcp ? no_delay(fd) : fd, (uint64_t)fd);
        }
    }
}

/* Whether the last item is there already, and as long. */
static int is_filled(int fd, size_t size)
{
    char line[64] = {0};
    size_t length, n = 0;
    n = (size_t)snprintf(line, sizeof line, "get key_%05d\r\n", ITEMS - 1);
    write_all(fd, line, n);
    for (n = 0; n == 0 || (line[n - 1] != '\n' && n < sizeof line - 1); n++)
        read_all(fd, line + n, 1);
    if (sscanf(line, "VALUE %*s %*d %zu", &length) != 1)
        return 0;
    char *rest = malloc(length + strlen("\r\nEND\r\n"));
    read_all(fd, rest, length + strlen("\r\nEND\r\n"));
    free(rest);
    return length == size;
}

/* Stores the items over one connection, and learns how long an answer is. */
static void fill(int fd, size_t size)
{
    int filled = is_filled(fd, size);
    char head[64], answer[8], *value = malloc(size + 2);
    memset(value, 'v', size);
    memcpy(value + size, "\r\n", 2);
    for (int i = 0; i < ITEMS && !filled; i++) {
        int n = snprintf(head, sizeof head, "set key_%05d 0 0 %zu\r\n", i, size);
        write_all(fd, head, (size_t)n);
        write_all(fd, value, size + 2);
        read_all(fd, answer, sizeof answer);
        check(!memcmp(answer, "STORED\r\n", sizeof answer), "memcached set");
    }
    free(value);
    request_size = strlen("get key_00000\r\n");
    reply_size = (size_t)snprintf(head, sizeof head, "VALUE key_00000 0 %zu\r\n", size) + size + strlen("\r\nEND\r\n");
}

static void ask(int connection)
{
    static int item;
    if (memcached) {
        snprintf(request, request_size + 1, "get key_%05d\r\n", item);
        item = (item + 1) % ITEMS;
    }
    missing[connection] = reply_size;
    asked[connection] = now();
    write_all(sockets[connection], request, request_size);
}

/* Exchanges until this time; returns how many were completed. */
static uint64_t run(int epfd, uint64_t until)
{
    static char bytes[ROOM];
    struct epoll_event events[64];
    uint64_t done = 0, time = now();
    while (time < until) {
        int n = epoll_wait(epfd, events, 64, 1000);
        check(n >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < n; i++) {
            int c = (int)events[i].data.u64;
            ssize_t got = read(sockets[c], bytes, sizeof bytes);
            check(got > 0 && (size_t)got <= missing[c], "the answer");
            missing[c] -= (size_t)got;
            if (missing[c] > 0)
                continue;
            time = now();
            if (done < MAX_SAMPLES)
                samples[done] = (uint32_t)(time - asked[c]);
            done++;
            ask(c);
        }
    }
    return done;
}

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (argc == 4 && !strcmp(argv[1], "serve"))
        serve(argv[2], argv[3]);
    if (argc != 8 || strcmp(argv[1], "talk"))
        return 2;
    int tcp = !strcmp(argv[2], "tcp"), count = atoi(argv[5]), epfd = epoll_create1(0);
    size_t size = strtoul(argv[6], NULL, 10);
    uint64_t length = strtoul(argv[7], NULL, 10) * 1000000;
    memcached = !strcmp(argv[4], "memcached");
    check(count > 0 && count <= MAX_CONNECTIONS, "CONNECTIONS");
    request_size = reply_size = size;
    for (int i = 0; i < count; i++)
        sockets[i] = tcp ? tcp_connect(argv[3]) : unix_connect(argv[3]);
    if (memcached)
        fill(sockets[0], size);
    request = calloc(1, request_size + 1);
    for (int i = 0; i < count; i++) {
        watch(epfd, sockets[i], (uint64_t)i);
        ask(i);
    }
    /* Warms up before the measurement begins. */
    run(epfd, now() + (length / 4 > 100000000 ? length / 4 : 100000000));
    uint64_t start = now(), done = run(epfd, start + length);
    printf("%.0f\n", (double)done / ((double)(now() - start) / 1e9));
    done = done < MAX_SAMPLES ? done : MAX_SAMPLES;
    printf("%lu\n", (unsigned long)done);
    fwrite(samples, sizeof *samples, done, stdout);
    return 0;
}
