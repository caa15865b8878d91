/* The calls of the interpreter that move bytes. */
#include "differential.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

#define UNTOUCHED 0x5a

static int end_of(long slot) {
    return slot >= SLOTS / 2;
}

static struct position *position_of(long slot) {
    static struct position none;
    return slots[slot].stream < 0 ? &none : &positions[end_of(slot)][slots[slot].stream];
}

/* The key of the pattern that this end sends, or receives. */
static uint64_t key_of(long slot, bool sends) {
    return (uint64_t)slots[slot].stream * 2 + (uint64_t)(sends ? end_of(slot) : !end_of(slot));
}

/* n bytes in a few pieces of different lengths. */
static int pieces(char *buffer, size_t n, struct iovec *out) {
    size_t cuts[] = {n / 7, n / 3, n / 3, n};
    int count = 0;
    for (size_t i = 0, at = 0; i < LEN(cuts); i++) {
        size_t take = cuts[i] < n - at ? cuts[i] : n - at;
        out[count++] = (struct iovec){buffer + at, take};
        at += take;
    }
    return count;
}

static ssize_t send_file(int fd, const char *bytes, size_t n, bool by_pipe) {
    int from[2];
    ssize_t r;
    if (by_pipe) {
        must(pipe2(from, O_CLOEXEC));
        must(fcntl(from[1], F_SETPIPE_SZ, ROOM));
        must(write(from[1], bytes, n));
        r = splice(from[0], NULL, fd, NULL, n, 0);
    } else {
        off_t at = 100;
        from[0] = from[1] = (int)must(memfd_create("bytes", MFD_CLOEXEC));
        must(pwrite(from[0], bytes, n, at));
        r = sendfile(fd, from[0], &at, n);
    }
    int error = errno;
    close(from[0]);
    if (by_pipe)
        close(from[1]);
    errno = error;
    return r;
}

static ssize_t send_by(const char *how, int fd, char *bytes, size_t n, int flags) {
    struct iovec parts[8];
    struct mmsghdr list[2] = {{{0}, 0}, {{0}, 0}};
    struct msghdr m = {.msg_iov = parts};
    if (strcmp(how, "write") == 0)
        return write(fd, bytes, n);
    if (strcmp(how, "writev") == 0)
        return writev(fd, parts, pieces(bytes, n, parts));
    if (strcmp(how, "sendto") == 0)
        return sendto(fd, bytes, n, flags, NULL, 0);
    if (strcmp(how, "sendfile") == 0 || strcmp(how, "splice") == 0)
        return send_file(fd, bytes, n, how[1] == 'p');
    if (strcmp(how, "sendmsg") == 0) {
        m.msg_iovlen = (size_t)pieces(bytes, n, parts);
        return sendmsg(fd, &m, flags);
    }
    if (strcmp(how, "sendmmsg") == 0) {
        parts[0] = (struct iovec){bytes, n / 2}, parts[1] = (struct iovec){bytes + n / 2, n - n / 2};
        for (int i = 0; i < 2; i++)
            list[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
        int r = sendmmsg(fd, list, 2, flags);
        return r < 0 ? r : (ssize_t)(list[0].msg_len + (r > 1 ? list[1].msg_len : 0));
    }
    return send(fd, bytes, n, flags);
}

/* Whether a call on a descriptor that does not block is to be made once more. */
static bool may_go_on(int fd, short events) {
    return errno == EAGAIN && wait_for(fd, events, 10000) != 0;
}

/* send HOW SLOT BYTES FLAGS; fill SLOT PIECE: until it would block; sendall HOW SLOT BYTES */
int do_send(struct hand *h, const struct command *c) {
    bool fill = strcmp(c->word[1], "fill") == 0, all = strcmp(c->word[1], "sendall") == 0, again;
    if (!fill && !all && strcmp(c->word[1], "send") != 0)
        return 0;
    long slot = c->number[fill ? 2 : 3] % SLOTS, total = 0;
    size_t n = (size_t)c->number[fill ? 3 : 4] % ROOM;
    struct position *at = position_of(slot);
    ssize_t r;
    do {
        size_t rest = all ? n - (size_t)total : n;
        pattern_fill(key_of(slot, true), at->tx, h->buffer, rest);
        r = send_by(fill ? "send" : c->word[2], slots[slot].fd, h->buffer, rest,
                    fill ? MSG_DONTWAIT : (int)c->number[5]);
        at->tx += r > 0 ? (uint64_t)r : 0;
        total += r > 0 ? r : 0;
        again = all ? (size_t)total < n && (r > 0 || may_go_on(slots[slot].fd, 4)) : fill && r > 0;
    } while (again);
    answer_result(h, all && r > 0 ? total : r);
    if (fill)
        answer(h, " | %ld", total);
    return 1;
}

static ssize_t splice_out(int fd, char *bytes, size_t n, unsigned flags) {
    int to[2];
    must(pipe2(to, O_CLOEXEC));
    must(fcntl(to[1], F_SETPIPE_SZ, ROOM));
    ssize_t r = splice(fd, NULL, to[1], NULL, n, flags);
    int error = errno;
    for (ssize_t done = 0; done < r;)
        done += must(read(to[0], bytes + done, (size_t)(r - done)));
    close(to[0]), close(to[1]);
    errno = error;
    return r;
}

/* Receives with room for control messages; TCP_INQ is the only one that may come. */
static ssize_t recv_inq(struct hand *h, int fd, size_t n, int flags) {
    char control[256];
    struct iovec parts[8];
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = (size_t)pieces(h->buffer, n, parts)};
    m.msg_control = control, m.msg_controllen = sizeof control;
    ssize_t r = recvmsg(fd, &m, flags);
    if (r < 0)
        return r;
    int error = errno;
    answer(h, "flags %#x control %d ", m.msg_flags, (int)m.msg_controllen);
    for (struct cmsghdr *one = CMSG_FIRSTHDR(&m); one; one = CMSG_NXTHDR(&m, one)) {
        int value;
        memcpy(&value, CMSG_DATA(one), sizeof value);
        answer(h, "%d/%d/%d: %d ", one->cmsg_level, one->cmsg_type, (int)one->cmsg_len, value);
    }
    errno = error;
    return r;
}

/* Receives two messages. The time, if it is given, is in milliseconds; of the time that is left only its kind is
 * printed. */
static ssize_t recv_two(struct hand *h, int fd, size_t n, int flags, const char *time) {
    /* The second message begins where the first may end short, so it is checked only if the first is complete. */
    struct iovec parts[2] = {{h->buffer, n / 2}, {h->buffer + n / 2, n - n / 2}};
    struct mmsghdr list[2] = {{{0}, 0}, {{0}, 0}};
    long ms = atol(time);
    struct timespec given = {ms / 1000, ms < 0 ? -1 : ms % 1000 * 1000000}, left = given;
    for (int i = 0; i < 2; i++)
        list[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    int r = recvmmsg(fd, list, 2, flags | MSG_WAITFORONE, *time ? &left : NULL);
    answer(h, "messages %d ", r);
    for (int i = 0; i < r; i++)
        answer(h, "flags %#x ", list[i].msg_hdr.msg_flags);
    if (*time) {
        bool same = left.tv_sec == given.tv_sec && left.tv_nsec == given.tv_nsec;
        answer(h, "left %s ", same ? "all" : left.tv_sec || left.tv_nsec ? "some" : "nothing");
    }
    if (r == 2)
        memmove(h->buffer + list[0].msg_len, h->buffer + n / 2, list[1].msg_len);
    return r < 0 ? r : (ssize_t)(list[0].msg_len + (r > 1 ? list[1].msg_len : 0));
}

static ssize_t recv_by(struct hand *h, const char *how, int fd, size_t n, int flags, const char *time) {
    struct iovec parts[8];
    struct sockaddr_storage from;
    socklen_t size = sizeof from;
    struct msghdr m = {.msg_iov = parts, .msg_name = &from, .msg_namelen = sizeof from};
    if (strcmp(how, "read") == 0)
        return read(fd, h->buffer, n);
    if (strcmp(how, "readv") == 0)
        return readv(fd, parts, pieces(h->buffer, n, parts));
    if (strcmp(how, "splice") == 0)
        return splice_out(fd, h->buffer, n, flags & MSG_DONTWAIT ? SPLICE_F_NONBLOCK : 0);
    if (strcmp(how, "recvfrom") == 0) {
        ssize_t r = recvfrom(fd, h->buffer, n, flags, (struct sockaddr *)&from, &size);
        answer(h, "name %d ", r < 0 ? 0 : (int)size);
        return r;
    }
    if (strcmp(how, "recvmsg") == 0) {
        m.msg_iovlen = (size_t)pieces(h->buffer, n, parts);
        ssize_t r = recvmsg(fd, &m, flags);
        answer(h, "name %d flags %#x ", r < 0 ? 0 : (int)m.msg_namelen, r < 0 ? 0 : m.msg_flags);
        return r;
    }
    if (strcmp(how, "recvinq") == 0)
        return recv_inq(h, fd, n, flags);
    if (strcmp(how, "recvmmsg") == 0)
        return recv_two(h, fd, n, flags, time);
    return recv(fd, h->buffer, n, flags);
}

/* Whether the bytes are the ones at this place in the stream; if not, prints them. */
static void judge(struct hand *h, long slot, uint64_t at, size_t n) {
    /* The buffer is not in the threads' own memory: that is taken from their stacks, and some are small. */
    static _Thread_local char *expected;
    if (!expected && !(expected = malloc(ROOM)))
        die("no memory");
    pattern_fill(key_of(slot, false), at, expected, n);
    if (memcmp(expected, h->buffer, n) == 0)
        return;
    uint64_t hash = 0;
    for (size_t i = 0; i < n; i++)
        hash = mix(hash ^ (unsigned char)h->buffer[i]);
    answer(h, " WRONG BYTES %016llx", (unsigned long long)hash);
}

/* recv HOW SLOT BYTES FLAGS [TIME]; drain SLOT: until nothing is there; take SLOT BYTES: that many, or to the end. */
int do_recv(struct hand *h, const struct command *c) {
    bool drain = strcmp(c->word[1], "drain") == 0, take = strcmp(c->word[1], "take") == 0;
    if (!drain && !take && strcmp(c->word[1], "recv") != 0)
        return 0;
    long slot = c->number[drain || take ? 2 : 3] % SLOTS, total = 0, wanted = take ? c->number[3] : 0;
    struct position *at = position_of(slot);
    bool has_flags = strncmp(c->word[2], "recv", 4) == 0, splices = strcmp(c->word[2], "splice") == 0;
    int own = has_flags ? (int)c->number[5] : splices ? (int)c->number[5] & MSG_DONTWAIT : 0;
    int flags = drain ? MSG_DONTWAIT : take ? MSG_WAITALL : own;
    ssize_t r = 0;
    while (!take || wanted > 0) {
        size_t n = drain ? ROOM : take ? (size_t)(wanted - total) : (size_t)c->number[4];
        n = n < ROOM ? n : ROOM;
        if (flags & MSG_TRUNC)
            memset(h->buffer, UNTOUCHED, n);
        r = recv_by(h, drain || take ? "recv" : c->word[2], slots[slot].fd, n, flags, c->word[6]);
        if (r > 0 && !(flags & MSG_TRUNC))
            judge(h, slot, at->rx, (size_t)r);
        if (r > 0 && flags & MSG_TRUNC && (h->buffer[0] != UNTOUCHED || memcmp(h->buffer, h->buffer + 1, n - 1) != 0))
            answer(h, "TOUCHED ");
        if (r > 0 && !(flags & MSG_PEEK))
            at->rx += (uint64_t)r;
        total += r > 0 ? r : 0;
        bool more = r > 0 && (drain || (take && total < wanted));
        if (!more && !(take && r < 0 && may_go_on(slots[slot].fd, 1)))
            break;
    }
    if (take)
        answer(h, "%s | %ld", total == wanted ? "all" : "not all", total);
    else if (drain)
        answer(h, "%ld then ", total), answer_result(h, r);
    else
        answer_result(h, r);
    return 1;
}
