/* Sockets on the loopback. */
#include "victim.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/syscall.h>

socklen_t loopback(int family, int port, struct sockaddr_storage *to) {
    memset(to, 0, sizeof *to);
    if (family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)to;
        in->sin_family = AF_INET;
        in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        in->sin_port = htons((uint16_t)port);
        return sizeof *in;
    }
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons((uint16_t)port);
    inet_pton(AF_INET6, family == AF_MAPPED ? "::ffff:127.0.0.1" : "::1", &in6->sin6_addr);
    return sizeof *in6;
}

int tcp_socket(int family) {
    return (int)must(socket(family == AF_INET ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

int local_port(int fd) {
    struct sockaddr_storage at;
    socklen_t length = sizeof at;
    must(getsockname(fd, (struct sockaddr *)&at, &length));
    return ntohs(at.ss_family == AF_INET ? ((struct sockaddr_in *)&at)->sin_port
                                         : ((struct sockaddr_in6 *)&at)->sin6_port);
}

int tcp_listen(int family, int *port) {
    struct sockaddr_storage at;
    int fd = tcp_socket(family), off = 0;
    if (family == AF_MAPPED)
        must(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
    socklen_t length = loopback(family, 0, &at);
    must(bind(fd, (struct sockaddr *)&at, length));
    must(listen(fd, 4096));
    *port = local_port(fd);
    return fd;
}

int tcp_connect(int family, int port) {
    struct sockaddr_storage to;
    int fd = tcp_socket(family);
    socklen_t length = loopback(family, port, &to);
    must(connect(fd, (struct sockaddr *)&to, length));
    return fd;
}

int wait_for(int fd, short events, int timeout_ms) {
    struct pollfd p = {fd, events, 0};
    int n;
    do
        n = poll(&p, 1, timeout_ms);
    while (n < 0 && errno == EINTR);
    must(n);
    return n ? p.revents : 0;
}

void set_nonblocking(int fd, bool on) {
    int flags = (int)must(fcntl(fd, F_GETFL));
    must(fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

void write_all(int fd, const void *buffer, size_t n) {
    const char *from = buffer;
    while (n > 0) {
        ssize_t done = write(fd, from, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno == EAGAIN) {
            wait_for(fd, POLLOUT, -1);
            continue;
        }
        must(done);
        from += done, n -= (size_t)done;
    }
}

size_t read_all(int fd, void *buffer, size_t n) {
    size_t have = 0;
    while (have < n) {
        ssize_t done = read(fd, (char *)buffer + have, n - have);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno == EAGAIN) {
            wait_for(fd, POLLIN, -1);
            continue;
        }
        must(done);
        if (done == 0)
            break;
        have += (size_t)done;
    }
    return have;
}

/* By a call that no hook sees. */
bool has_moved(int fd) {
    int domain = 0;
    socklen_t size = sizeof domain;
    long r = SYS_getsockopt;
    register long value __asm__("r10") = (long)&domain;
    register long length __asm__("r8") = (long)&size;
    __asm__ volatile("syscall"
                     : "+a"(r)
                     : "D"((long)fd), "S"((long)SOL_SOCKET), "d"((long)SO_DOMAIN), "r"(value), "r"(length)
                     : "rcx", "r11", "memory");
    return r == 0 && domain == AF_UNIX;
}

void raise_nofile(unsigned long n) {
    struct rlimit limit;
    must(getrlimit(RLIMIT_NOFILE, &limit));
    if (limit.rlim_cur >= n)
        return;
    if (limit.rlim_max < n)
        die("this case needs a hard RLIMIT_NOFILE of %lu, it is %lu", n, (unsigned long)limit.rlim_max);
    limit.rlim_cur = n;
    must(setrlimit(RLIMIT_NOFILE, &limit));
}
