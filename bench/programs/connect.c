/*
 * Short connections: connect, messages there and back, close.
 *
 *   connect serve TRANSPORT ADDRESS                         one thread; prints a line once it can be reached
 *   connect talk  TRANSPORT ADDRESS COUNT EXCHANGES BYTES   prints connections per second, then as peers pingpong the
 *                                                           times of each
 */
#include "channel.h"

static uint32_t samples[1 << 17];

int main(int argc, char **argv)
{
    char message[4096] = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (argc < 4)
        return 2;
    int tcp = !strcmp(argv[2], "tcp");
    if (!strcmp(argv[1], "serve")) {
        int listener = tcp ? tcp_listener(argv[3]) : unix_listener(argv[3]);
        for (;;) {
            int fd = accept(listener, NULL, NULL);
            check(fd >= 0, "accept");
            for (ssize_t n; (n = read(fd, message, sizeof message)) > 0;)
                write_all(fd, message, (size_t)n);
            close(fd);
        }
    }
    size_t count = argc == 7 ? strtoul(argv[4], NULL, 10) : 0, warm = count / 8;
    size_t exchanges = argc == 7 ? strtoul(argv[5], NULL, 10) : 0, bytes = argc == 7 ? strtoul(argv[6], NULL, 10) : 0;
    check(exchanges > 0 && bytes > 0 && bytes <= sizeof message, "EXCHANGES, BYTES");
    check(count > 0 && count <= sizeof samples / sizeof *samples, "COUNT");
    uint64_t start = 0, before = 0;
    for (size_t i = 0; i < warm + count; i++) {
        if (i == warm)
            start = before = now();
        int fd = tcp ? tcp_connect(argv[3]) : unix_connect(argv[3]);
        for (size_t k = 0; k < exchanges; k++) {
            write_all(fd, message, bytes);
            read_all(fd, message, bytes);
        }
        close(fd);
        uint64_t after = now();
        if (i >= warm)
            samples[i - warm] = (uint32_t)(after - before);
        before = after;
    }
    printf("%.0f\n%lu\n", (double)count / ((double)(before - start) / 1e9), (unsigned long)count);
    fwrite(samples, sizeof *samples, count, stdout);
    return 0;
}
