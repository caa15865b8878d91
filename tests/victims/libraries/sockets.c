/* A library that uses TCP by itself: in its constructor, when it is called, and in its destructor. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int ours[2] = {-1, -1}; /* both ends of one connection */

static void fail(const char *what) {
    perror(what);
    _exit(1);
}

void library_connect(int ends[2]) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&at, length) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &length) != 0 ||
        connect(ends[0], (struct sockaddr *)&at, length) != 0)
        fail("a connection of the library");
    ends[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    close(listener);
}

void library_write(int fd, const void *buffer, size_t n) {
    if (send(fd, buffer, n, MSG_NOSIGNAL) != (ssize_t)n)
        fail("send in the library");
}

void library_read(int fd, void *buffer, size_t n) {
    if (recv(fd, buffer, n, MSG_WAITALL) != (ssize_t)n)
        fail("recv in the library");
}

void library_exchange(int ends[2], int rounds) {
    for (int i = 0; i < rounds; i++) {
        char sent[100], received[100];
        memset(sent, i, sizeof sent);
        library_write(ends[i % 2], sent, sizeof sent);
        library_read(ends[1 - i % 2], received, sizeof received);
        if (memcmp(sent, received, sizeof sent) != 0)
            fail("wrong bytes in the library");
    }
}

/* Uses the connection that the constructor has opened. */
void library_continue(int rounds) {
    library_exchange(ours, rounds);
}

/* Only where the environment asks for it: the shell and other programs of a test must not do it. */
__attribute__((constructor)) static void begin(void) {
    if (!getenv("LIBRARY_BEGINS"))
        return;
    int gone[2];
    library_connect(gone);
    library_exchange(gone, 50);
    close(gone[0]);
    close(gone[1]);
    library_connect(ours);
    library_exchange(ours, 50);
}

__attribute__((destructor)) static void end(void) {
    if (ours[0] < 0)
        return;
    int late[2];
    library_exchange(ours, 50);
    library_connect(late);
    library_exchange(late, 50);
    if (write(1, "the library has ended\n", 22) != 22)
        fail("write in the library");
}
