/* Preloaded before libipc.so, or alone: the first calls on each TCP socket wait a little. So tests that exchange a few
   short messages last long enough for ipcd to answer, and the streams move. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { NUMBERS = 1024, CALLS = 12, MICROSECONDS = 4000 };

static atomic_uchar calls[NUMBERS];

static void pause_a_little(int fd)
{
    int saved = errno, domain = 0;
    socklen_t size = sizeof domain;
    struct timespec time = {0, MICROSECONDS * 1000};

    if (fd < 0 || fd >= NUMBERS || calls[fd] >= CALLS)
        return;
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && (domain == AF_INET || domain == AF_INET6)) {
        atomic_fetch_add(&calls[fd], 1);
        nanosleep(&time, 0);
    }
    errno = saved;
}

#define PAUSE(type, name, parameters, ...)                                                                             \
    type name parameters                                                                                               \
    {                                                                                                                  \
        type(*next) parameters = (type(*) parameters)dlsym(RTLD_NEXT, #name);                                          \
        pause_a_little(fd);                                                                                            \
        return next(__VA_ARGS__);                                                                                      \
    }

PAUSE(ssize_t, read, (int fd, void *p, size_t n), fd, p, n)
PAUSE(ssize_t, write, (int fd, const void *p, size_t n), fd, p, n)
PAUSE(ssize_t, recv, (int fd, void *p, size_t n, int flags), fd, p, n, flags)
PAUSE(ssize_t, send, (int fd, const void *p, size_t n, int flags), fd, p, n, flags)
PAUSE(ssize_t, recvfrom, (int fd, void *p, size_t n, int flags, struct sockaddr *a, socklen_t *l), fd, p, n, flags, a, l)
PAUSE(ssize_t, sendto, (int fd, const void *p, size_t n, int flags, const struct sockaddr *a, socklen_t l), fd, p, n,
      flags, a, l)
PAUSE(ssize_t, recvmsg, (int fd, struct msghdr *m, int flags), fd, m, flags)
PAUSE(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), fd, m, flags)
PAUSE(int, shutdown, (int fd, int how), fd, how)

int close(int fd)
{
    int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "close");

    pause_a_little(fd);
    if (fd >= 0 && fd < NUMBERS)
        calls[fd] = 0;
    return next(fd);
}
