/* Every call that moves bytes, chosen at random. */
#include "exact.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

extern ssize_t __read_chk(int, void *, size_t, size_t);
extern ssize_t __recv_chk(int, void *, size_t, size_t, int);
extern ssize_t __recvfrom_chk(int, void *, size_t, size_t, int, struct sockaddr *, socklen_t *);

void tools_open(struct tools *t, uint64_t seed) {
    t->rng.state = seed;
    t->memory = (int)must(memfd_create("exact", MFD_CLOEXEC));
    must(pipe2(t->pipe, O_CLOEXEC | O_NONBLOCK));
    t->buffer = malloc(BUFFER);
}

void tools_close(struct tools *t) {
    close(t->memory);
    close(t->pipe[0]);
    close(t->pipe[1]);
    free(t->buffer);
}

void pause_sometimes(struct tools *t) {
    if (rng_below(&t->rng, 60) == 0)
        usleep((useconds_t)rng_below(&t->rng, 400));
}

/* Mostly small, at times as much as the buffer holds. */
static size_t chunk(struct tools *t, uint64_t left) {
    static const uint32_t bounds[] = {8, 100, 1500, 1500, 20000, 20000, 70000, BUFFER};
    uint64_t n = 1 + rng_below(&t->rng, bounds[rng_below(&t->rng, LEN(bounds))]);
    return (size_t)(n < left ? n : left);
}

static int cut(struct iovec *parts, int most, char *buffer, size_t n, struct tools *t) {
    int count = 0;
    while (n > 0) {
        size_t take = count + 1 == most ? n : rng_below(&t->rng, n + 1);
        parts[count++] = (struct iovec){buffer, take}; /* empty parts are legal */
        buffer += take, n -= take;
        if (count == most)
            break;
    }
    return count;
}

static ssize_t sum(struct mmsghdr *m, int messages) {
    ssize_t total = messages < 0 ? -1 : 0;
    for (int i = 0; i < messages; i++)
        total += m[i].msg_len;
    return total;
}

static ssize_t out_by_splice(struct end *e, struct tools *t, size_t n) {
    ssize_t in_pipe = must(write(t->pipe[1], t->buffer, n < 60000 ? n : 60000)), done = 0;
    while (done < in_pipe) {
        ssize_t moved = splice(t->pipe[0], NULL, e->fd, NULL, (size_t)(in_pipe - done), SPLICE_F_MOVE);
        if (moved < 0 && errno == EINTR)
            continue;
        if (moved < 0 && errno == EAGAIN)
            break;
        done += must(moved);
    }
    if (done < in_pipe) /* what did not fit is made again later */
        read_all(t->pipe[0], t->buffer, (size_t)(in_pipe - done));
    errno = EAGAIN;
    return done ? done : -1;
}

static ssize_t out_by_sendfile(struct end *e, struct tools *t, size_t n) {
    /* the socket keeps the pages of the file, not a copy: no page is written twice */
    if (t->memory_used > 16 << 20) {
        close(t->memory);
        t->memory = (int)must(memfd_create("exact", MFD_CLOEXEC));
        t->memory_used = 0;
    }
    off_t start = t->memory_used, at = start;
    must(pwrite(t->memory, t->buffer, n, start));
    t->memory_used += (off_t)n;
    ssize_t done = sendfile(e->fd, t->memory, &at, n);
    if (done >= 0 && at - start != done)
        die("stream %d: sendfile moved its offset by %ld, returned %zd", e->id, (long)(at - start), done);
    return done;
}

ssize_t move_out(struct end *e, struct tools *t) {
    size_t n = chunk(t, e->out.total - e->out.done);
    int flags = (e->style == DONTWAIT ? MSG_DONTWAIT : 0) | (rng_below(&t->rng, 2) ? MSG_NOSIGNAL : 0) |
                (rng_below(&t->rng, 4) ? 0 : MSG_MORE);
    struct iovec parts[8];
    struct mmsghdr m[4] = {0};
    struct sockaddr_storage to;
    ssize_t done;
    if (n == e->out.total - e->out.done)
        flags &= ~MSG_MORE;
    pattern_fill(e->out.key, e->out.done, t->buffer, n);
    do {
        switch (rng_below(&t->rng, e->style == DONTWAIT ? 5 : 10)) {
        case 0:
            done = send(e->fd, t->buffer, n, flags);
            break;
        case 1:
            done = sendto(e->fd, t->buffer, n, flags, NULL, 0);
            break;
        case 2: { /* an address is ignored by a connected TCP socket */
            socklen_t length = loopback(AF_INET, 9, &to);
            done = sendto(e->fd, t->buffer, n, flags, (struct sockaddr *)&to, length);
            break;
        }
        case 3:
            m[0].msg_hdr.msg_iov = parts;
            m[0].msg_hdr.msg_iovlen = (size_t)cut(parts, 8, t->buffer, n, t);
            done = sendmsg(e->fd, &m[0].msg_hdr, flags);
            break;
        case 4: {
            int count = cut(parts, 4, t->buffer, n, t);
            for (int i = 0; i < count; i++)
                m[i].msg_hdr.msg_iov = &parts[i], m[i].msg_hdr.msg_iovlen = 1;
            done = sum(m, sendmmsg(e->fd, m, (unsigned)count, flags & ~MSG_MORE));
            break;
        }
        case 5:
            done = writev(e->fd, parts, cut(parts, 8, t->buffer, n, t));
            break;
        case 6:
            done = out_by_sendfile(e, t, n);
            break;
        case 7:
            done = out_by_splice(e, t, n);
            break;
        default:
            done = write(e->fd, t->buffer, n);
        }
    } while (done < 0 && errno == EINTR);
    if (done < 0 && errno != EAGAIN)
        die("stream %d: writing: %s", e->id, strerror(errno));
    if (done > (ssize_t)n || (done >= 0 && done < (ssize_t)n && e->style == BLOCKING && n < 60000))
        die("stream %d: a blocking write of %zu returned %zd", e->id, n, done);
    e->out.done += done > 0 ? (uint64_t)done : 0;
    return done;
}

static ssize_t in_by_splice(struct end *e, struct tools *t, size_t n) {
    ssize_t got = splice(e->fd, NULL, t->pipe[1], NULL, n < 60000 ? n : 60000, SPLICE_F_MOVE);
    if (got > 0 && read_all(t->pipe[0], t->buffer, (size_t)got) != (size_t)got)
        die("stream %d: splice lost bytes", e->id);
    return got;
}

static ssize_t in_by_peek(struct end *e, struct tools *t, size_t n, int flags) {
    ssize_t seen = recv(e->fd, t->buffer, n, flags | MSG_PEEK);
    if (seen <= 0)
        return seen;
    pattern_check(e->in.key, e->in.done, t->buffer, (size_t)seen);
    ssize_t got = recv(e->fd, t->buffer, (size_t)seen, flags);
    if (got != seen && !(got > 0 && e->in.threads > 1))
        die("stream %d: %zd bytes were peeked at, then %zd came", e->id, seen, got);
    return got;
}

ssize_t move_in(struct end *e, struct tools *t) {
    size_t n = chunk(t, e->in.total - e->in.done);
    int flags = e->style == DONTWAIT ? MSG_DONTWAIT : 0;
    struct iovec parts[8];
    struct mmsghdr m[4] = {0};
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    ssize_t got;
    do {
        switch (rng_below(&t->rng, e->style == DONTWAIT ? 8 : 13)) {
        case 0:
            got = recv(e->fd, t->buffer, n, flags);
            break;
        case 1:
            got = recvfrom(e->fd, t->buffer, n, flags, NULL, NULL);
            break;
        case 2:
            got = recvfrom(e->fd, t->buffer, n, flags, (struct sockaddr *)&from, &length);
            break;
        case 3:
            m[0].msg_hdr.msg_iov = parts;
            m[0].msg_hdr.msg_iovlen = (size_t)cut(parts, 8, t->buffer, n, t);
            got = recvmsg(e->fd, &m[0].msg_hdr, flags);
            break;
        case 4: /* one part per message, so that a short message would leave a hole: one message */
            m[0].msg_hdr.msg_iov = parts;
            m[0].msg_hdr.msg_iovlen = (size_t)cut(parts, 4, t->buffer, n, t);
            got = sum(m, recvmmsg(e->fd, m, 1, flags | MSG_WAITFORONE, NULL));
            break;
        case 5:
            got = in_by_peek(e, t, n, flags);
            break;
        case 6:
            got = __recv_chk(e->fd, t->buffer, n, BUFFER, flags);
            break;
        case 7:
            got = __recvfrom_chk(e->fd, t->buffer, n, BUFFER, flags, NULL, NULL);
            break;
        case 8:
            got = readv(e->fd, parts, cut(parts, 8, t->buffer, n, t));
            break;
        case 9:
            got = in_by_splice(e, t, n);
            break;
        case 10:
            got = __read_chk(e->fd, t->buffer, n, BUFFER);
            break;
        case 11:
            got = recv(e->fd, t->buffer, n, e->style == BLOCKING ? MSG_WAITALL : MSG_DONTWAIT);
            break;
        default:
            got = read(e->fd, t->buffer, n);
        }
    } while (got < 0 && errno == EINTR);
    if (got < 0 && errno != EAGAIN)
        die("stream %d: reading: %s", e->id, strerror(errno));
    if (got == 0)
        die("stream %d: the end came after %llu of %llu bytes", e->id, (unsigned long long)e->in.done,
            (unsigned long long)e->in.total);
    if (got > 0) {
        pattern_check(e->in.key, e->in.done, t->buffer, (size_t)got);
        e->in.done += (uint64_t)got;
    }
    return got;
}
