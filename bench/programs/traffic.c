/*
 * Requests and replies of given sizes, as a server and its clients exchange them.
 *
 *   traffic server REQUEST REPLY                     prints its port; one thread, epoll, never ends
 *   traffic client PORT THREADS CONNECTIONS REQUESTS REQUEST REPLY
 *
 * Each client thread opens CONNECTIONS connections, one after the other, with REQUESTS blocking exchanges on each.
 * After its last connection the client waits for a line on standard input before it exits.
 */
#include "hold.h"
#include <pthread.h>
#include <sys/epoll.h>

static size_t request, reply;
static int connections, requests;
static uint16_t port;

static void *client(void *unused)
{
    char *to = calloc(1, request), *from = malloc(reply);
    memset(to, 'x', request);
    for (int c = 0; c < connections; c++) {
        int fd = connect_to(port);
        for (int r = 0; r < requests; r++) {
            write_all(fd, to, request);
            read_all(fd, from, reply);
        }
        close(fd);
    }
    free(to);
    free(from);
    return unused;
}

/* Reads the bytes that are there; answers each request that is complete. False at the end. */
static int serve(int fd, size_t *pending, const char *answer)
{
    char buf[65536];
    ssize_t n = read(fd, buf, sizeof buf);
    if (n <= 0)
        return 0;
    for (*pending += (size_t)n; *pending >= request; *pending -= request)
        write_all(fd, answer, reply);
    return 1;
}

static void server(void)
{
    static size_t pending[65536];
    int listener = listen_on_loopback(&port), epfd = epoll_create1(0);
    char *answer = calloc(1, reply);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, events[64];
    memset(answer, 'y', reply);
    check(epoll_ctl(epfd, EPOLL_CTL_ADD, listener, &event) == 0, "epoll_ctl");
    printf("%u\n", port);
    fflush(stdout);
    for (;;) {
        int n = epoll_wait(epfd, events, 64, -1);
        check(n >= 0 || errno == EINTR, "epoll_wait");
        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd, on = 1;
            if (fd != listener) {
                if (!serve(fd, &pending[fd], answer))
                    close(fd);
                continue;
            }
            fd = accept(listener, NULL, NULL);
            check(fd >= 0 && fd < 65536, "accept");
            pending[fd] = 0;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            event = (struct epoll_event){.events = EPOLLIN, .data.fd = fd};
            check(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
        }
    }
}

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (argc == 4 && !strcmp(argv[1], "server")) {
        request = strtoul(argv[2], NULL, 10);
        reply = strtoul(argv[3], NULL, 10);
        server();
    }
    if (argc != 8)
        return 2;
    port = (uint16_t)atoi(argv[2]);
    int count = atoi(argv[3]);
    connections = atoi(argv[4]);
    requests = atoi(argv[5]);
    request = strtoul(argv[6], NULL, 10);
    reply = strtoul(argv[7], NULL, 10);
    pthread_t *threads = calloc((size_t)count, sizeof *threads);
    for (int i = 0; i < count; i++)
        check(pthread_create(&threads[i], NULL, client, NULL) == 0, "pthread_create");
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    puts("done");
    fflush(stdout);
    getchar();
    return 0;
}
