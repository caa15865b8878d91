/*
 * Two processes and one stream between them.
 *
 *   peers serve TRANSPORT ADDRESS KIND SIZE MILLISECONDS [options]     prints a line once it can be reached
 *   peers talk  TRANSPORT ADDRESS KIND SIZE MILLISECONDS [options]
 *
 * KIND, and what it prints in the end:
 *   pingpong  SIZE bytes there and back.           talk: the number of round trips, and after the line the nanoseconds
 *                                                  of each as binary 32-bit words
 *   messages  the client writes -w messages of SIZE bytes, each by itself, then reads the answers; the server answers
 *             each by itself.                      talk: messages per second
 *   bulk      the client writes SIZE bytes at a time, the server reads up to 64 KiB (or SIZE) at a time.
 *                                                  serve: bytes per second
 *   duplex    bulk in both directions at once.     serve and talk: bytes per second that arrived there
 *
 *   buffers   nothing.                             talk: the send and receive buffers, as setsockopt wants them
 *
 * Options: -c CPU; -s BYTES and -r BYTES, send and receive buffers (unix); -n, recv(MSG_DONTWAIT) over and over;
 * -h, hold: the client prints its port and exchanges small messages until a line comes on standard input, and only then
 * measures.
 */
#include "channel.h"
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

#define MAX_SAMPLES (1 << 21)
#define WARM_UP 64
#define ROOM 65536

static struct channel stream;
static size_t size;
static uint64_t length;

static void pin_to(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    check(sched_setaffinity(0, sizeof set, &set) == 0, "sched_setaffinity");
}

static char *buffer(size_t bytes)
{
    char *b = malloc(bytes);
    check(b != NULL, "malloc");
    memset(b, 1, bytes);
    return b;
}

/* Round trips of a few bytes until the harness says go; the client then announces the end with a 1. */
static void hold_client(void)
{
    char bytes[WARM_UP] = {0};
    printf("%u\n", own_port(stream.in));
    fflush(stdout);
    do {
        bytes[0] = (char)told_to_go();
        send_all(&stream, bytes, sizeof bytes);
        check(receive_all(&stream, bytes, sizeof bytes), "the server's answer");
        usleep(bytes[0] ? 0 : 500);
    } while (!bytes[0]);
}

static void hold_server(void)
{
    char bytes[WARM_UP];
    do {
        check(receive_all(&stream, bytes, sizeof bytes), "the client's bytes");
        send_all(&stream, bytes, sizeof bytes);
    } while (!bytes[0]);
}

static void pingpong(void)
{
    static uint32_t samples[MAX_SAMPLES];
    char *bytes = buffer(size);
    uint64_t start = now(), before = start, n = 0, warm = length / 5;
    while (before - start < warm) {
        send_all(&stream, bytes, size);
        receive_all(&stream, bytes, size);
        before = now();
    }
    for (start = before; before - start < length && n < MAX_SAMPLES; n++) {
        send_all(&stream, bytes, size);
        receive_all(&stream, bytes, size);
        uint64_t after = now();
        samples[n] = (uint32_t)(after - before);
        before = after;
    }
    printf("%lu\n", (unsigned long)n);
    fwrite(samples, sizeof *samples, n, stdout);
}

static void messages(int window)
{
    size_t room = size * (size_t)window;
    char *bytes = buffer(room);
    uint64_t start = now(), n = 0;
    while (now() - start < length) {
        for (int i = 0; i < window; i++)
            send_all(&stream, bytes, size);
        receive_all(&stream, bytes, room);
        n += (uint64_t)window;
    }
    printf("%.0f\n", (double)n / ((double)(now() - start) / 1e9));
}

/* Asked by a raw system call, because libipc would answer for TCP. The kernel doubles the size that is set. */
static void print_buffers(void)
{
    for (int which = SO_SNDBUF; which <= SO_RCVBUF; which++) {
        int bytes = 0;
        socklen_t len = sizeof bytes;
        check(syscall(SYS_getsockopt, stream.in, SOL_SOCKET, which, &bytes, &len) == 0, "socket buffers");
        printf("%d\n", bytes / 2);
    }
}

static void answer(void)
{
    size_t pending = 0;
    char *bytes = buffer(ROOM > size ? ROOM : size), *reply = buffer(size);
    for (ssize_t n; (n = receive(&stream, bytes, ROOM > size ? ROOM : size)) > 0;)
        for (pending += (size_t)n; pending >= size; pending -= size)
            send_all(&stream, reply, size);
}

static void write_until_the_end(void)
{
    char *bytes = buffer(size);
    uint64_t start = now();
    while (now() - start < length)
        for (size_t sent = 0; sent < 65536; sent += size)
            send_all(&stream, bytes, size);
    end(&stream);
}

/* Reads to the end; prints how fast the bytes came after the first fifth of the time. */
static void read_to_the_end(void)
{
    size_t room = size < ROOM ? ROOM : size;
    char *bytes = buffer(room);
    uint64_t total = 0, start = 0;
    int warm = 0;
    for (ssize_t n; (n = receive(&stream, bytes, room)) > 0; total += (uint64_t)n) {
        start = start ? start : now();
        if (!warm && now() - start > length / 5)
            warm = 1, total = 0, start = now();
    }
    printf("%.0f\n", (double)total / ((double)(now() - start) / 1e9));
}

static void *writer(void *unused)
{
    write_until_the_end();
    return unused;
}

static void duplex(void)
{
    pthread_t thread;
    check(pthread_create(&thread, NULL, writer, NULL) == 0, "pthread_create");
    read_to_the_end();
    pthread_join(thread, NULL);
}

static void serve(const char *kind)
{
    if (!strcmp(kind, "bulk")) {
        read_to_the_end();
        end(&stream);
    } else if (!strcmp(kind, "duplex"))
        duplex();
    else if (!strcmp(kind, "messages"))
        answer();
    else
        for (char *bytes = buffer(size); receive_all(&stream, bytes, size);)
            send_all(&stream, bytes, size);
}

static void talk(const char *kind, int window)
{
    char end_of_stream;
    if (!strcmp(kind, "bulk")) {
        write_until_the_end();
        receive(&stream, &end_of_stream, 1);
    } else if (!strcmp(kind, "duplex"))
        duplex();
    else if (!strcmp(kind, "messages"))
        messages(window);
    else if (!strcmp(kind, "buffers"))
        print_buffers();
    else
        pingpong();
    end(&stream);
}

int main(int argc, char **argv)
{
    int cpu = -1, sizes[2] = {0, 0}, busy = 0, hold = 0, window = 1, option;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 7)
        return 2;
    int serving = !strcmp(argv[1], "serve");
    size = strtoul(argv[5], NULL, 10);
    length = strtoul(argv[6], NULL, 10) * 1000000;
    optind = 7;
    while ((option = getopt(argc, argv, "c:s:r:w:nh")) != -1)
        switch (option) {
        case 'c': cpu = atoi(optarg); break;
        case 's': sizes[0] = atoi(optarg); break;
        case 'r': sizes[1] = atoi(optarg); break;
        case 'w': window = atoi(optarg); break;
        case 'n': busy = 1; break;
        case 'h': hold = 1; break;
        default: return 2;
        }
    if (cpu >= 0)
        pin_to(cpu);
    stream = open_channel(argv[2], argv[3], serving, sizes);
    if (hold && serving)
        hold_server();
    else if (hold)
        hold_client();
    stream.busy = busy;
    if (serving)
        serve(argv[4]);
    else
        talk(argv[4], window);
    return 0;
}
