/*
 * One end of a stream, over the transport that is measured. A server and a client that name the same address meet:
 *
 *   tcp     address:port; the server prints the port that it was given
 *   unix    a path; both socket buffers can be set
 *   pipe    two FIFOs, PATH.up and PATH.down
 *   shm     a file that both map, made by the server
 */
#include "hold.h"
#include "ring.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>

struct channel {
    int in, out; /* the same number, but for pipes */
    struct ring *from, *to;
    int busy; /* ask again instead of sleeping */
};

static inline ssize_t receive(struct channel *c, char *to, size_t n)
{
    ssize_t got;
    if (c->from)
        return ring_read(c->from, to, n);
    if (!c->busy)
        return read(c->in, to, n);
    while ((got = recv(c->in, to, n, MSG_DONTWAIT)) < 0 && errno == EAGAIN)
        relax();
    return got;
}

/* False if the stream ends before the first byte. */
static inline int receive_all(struct channel *c, char *to, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = receive(c, to + done, n - done);
        check(got > 0 || (got == 0 && done == 0), "receive");
        if (got == 0)
            return 0;
        done += (size_t)got;
    }
    return 1;
}

static inline void send_all(struct channel *c, const char *from, size_t n)
{
    while (n > 0) {
        ssize_t sent = c->to ? ring_write(c->to, from, n) : write(c->out, from, n);
        check(sent > 0, "send");
        from += sent;
        n -= (size_t)sent;
    }
}

/* Sends nothing more from this side. */
static inline void end(struct channel *c)
{
    if (c->to)
        atomic_store(&c->to->closed, 1);
    else if (c->in != c->out)
        close(c->out);
    else
        shutdown(c->out, SHUT_WR);
}

/* Sets the size even beyond the system's limit, if this process may. */
static inline void set_buffer(int fd, int bytes, int force, int option)
{
    if (bytes > 0 && setsockopt(fd, SOL_SOCKET, force, &bytes, sizeof bytes) != 0)
        check(setsockopt(fd, SOL_SOCKET, option, &bytes, sizeof bytes) == 0, "socket buffers");
}

static inline int no_delay(int fd)
{
    int on = 1;
    check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0, "TCP_NODELAY");
    return fd;
}

static inline int tcp_listener(const char *address)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(inet_pton(AF_INET, address, &a.sin_addr) == 1, address);
    check(fd >= 0 && bind(fd, (struct sockaddr *)&a, len) == 0 && listen(fd, 4096) == 0, "listen");
    check(getsockname(fd, (struct sockaddr *)&a, &len) == 0, "getsockname");
    printf("%u\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

/* HOST:PORT */
static inline int tcp_connect(const char *address)
{
    char host[64];
    struct sockaddr_in a = {.sin_family = AF_INET};
    const char *colon = strchr(address, ':');
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    check(colon && snprintf(host, sizeof host, "%.*s", (int)(colon - address), address) > 0, address);
    check(inet_pton(AF_INET, host, &a.sin_addr) == 1, host);
    a.sin_port = htons((uint16_t)atoi(colon + 1));
    check(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0, "connect");
    return no_delay(fd);
}

static inline struct sockaddr_un unix_address(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    return a;
}

static inline int unix_listener(const char *path)
{
    struct sockaddr_un a = unix_address(path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    unlink(path);
    check(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 4096) == 0, path);
    puts("0");
    fflush(stdout);
    return fd;
}

static inline int unix_connect(const char *path)
{
    struct sockaddr_un a = unix_address(path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    check(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0, path);
    return fd;
}

static inline struct channel pipe_channel(const char *path, int serving)
{
    char up[256], down[256];
    struct channel c = {0};
    snprintf(up, sizeof up, "%s.up", path);
    snprintf(down, sizeof down, "%s.down", path);
    if (serving) {
        unlink(up), unlink(down);
        check(mkfifo(up, 0600) == 0 && mkfifo(down, 0600) == 0, path);
        puts("0");
        fflush(stdout);
    }
    c.in = serving ? open(up, O_RDONLY) : -1;
    c.out = open(serving ? down : up, O_WRONLY);
    c.in = serving ? c.in : open(down, O_RDONLY);
    check(c.in >= 0 && c.out >= 0, "FIFO");
    return c;
}

static inline struct channel ring_channel(const char *path, int serving)
{
    struct channel c = {-1, -1, NULL, NULL, 0};
    int fd = open(path, serving ? O_RDWR | O_CREAT | O_TRUNC : O_RDWR, 0600);
    check(fd >= 0 && (!serving || ftruncate(fd, sizeof(struct rings)) == 0), path);
    struct rings *r = mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    check(r != MAP_FAILED, "mmap");
    c.from = serving ? &r->up : &r->down;
    c.to = serving ? &r->down : &r->up;
    if (serving) {
        puts("0");
        fflush(stdout);
    }
    return c;
}

/* The stream between the server and the client that named this address. */
static inline struct channel open_channel(const char *transport, const char *address, int serving, const int sizes[2])
{
    if (!strcmp(transport, "pipe"))
        return pipe_channel(address, serving);
    if (!strcmp(transport, "shm"))
        return ring_channel(address, serving);
    int tcp = !strcmp(transport, "tcp"), fd;
    check(tcp || !strcmp(transport, "unix"), transport);
    if (serving) {
        int listener = tcp ? tcp_listener(address) : unix_listener(address);
        fd = accept(listener, NULL, NULL);
        check(fd >= 0, "accept");
        close(listener);
        if (tcp)
            no_delay(fd);
    } else
        fd = tcp ? tcp_connect(address) : unix_connect(address);
    set_buffer(fd, sizes[0], SO_SNDBUFFORCE, SO_SNDBUF);
    set_buffer(fd, sizes[1], SO_RCVBUFFORCE, SO_RCVBUF);
    return (struct channel){fd, fd, NULL, NULL, 0};
}
