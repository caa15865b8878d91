/* Every flag of send and recv, and the requests of ioctl. */
#include "options.h"

#include <fcntl.h>
#include <net/if.h>
#include <sys/ioctl.h>

static const char *hex(const void *bytes, size_t n) {
    static char text[128];
    for (size_t i = 0; i < n && i < 32; i++)
        snprintf(text + 2 * i, sizeof text - 2 * i, "%02x", ((const unsigned char *)bytes)[i]);
    return n ? text : "";
}

/* The bytes that far gets, one at a time: a flag may hold some of them back for a while. */
static void show_far(struct trial *t, const char *what, int expected) {
    char all[64] = "";
    int got = 0;
    for (int i = 0; i < PATIENCE_MS && got < expected; i++) {
        struct reply r = far_do(FAR_RAW_RECV, t->s->index, 1, MSG_DONTWAIT, 0);
        if (r.ret > 0)
            all[got++] = (char)r.value;
        else
            sleep_ms(1);
    }
    say("%s %d: far has %s", what, t->number, all);
}

static void send_flag(struct trial *t) {
    int flag = (int)(1u << t->number);
    struct iovec parts[2] = {{"ab", 2}, {"cde", 3}};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2};
    long a = send(t->fd, "12345", 5, flag | MSG_NOSIGNAL);
    say("send flag %d: send %s", t->number, res(a));
    long b = sendmsg(t->fd, &m, flag | MSG_NOSIGNAL);
    say("send flag %d: sendmsg %s", t->number, res(b));
    long c = send(t->fd, "", 0, flag | MSG_NOSIGNAL);
    say("send flag %d: send nothing %s", t->number, res(c));
    long d = send(t->fd, "678", 3, MSG_NOSIGNAL);
    say("send flag %d: send without %s", t->number, res(d));
    show_far(t, "send flag", (int)((a > 0 ? a : 0) + (b > 0 ? b : 0) + (d > 0 ? d : 0)));
    say("send flag %d: far's poll %s", t->number,
        name_poll((short)far_do(FAR_POLL, t->s->index, 0x7f, 0, 0).value));
}

static void recv_flag(struct trial *t) {
    char buffer[40], control[200];
    int flag = (int)(1u << t->number);
    far_do(FAR_SEND_RAW, t->s->index, 30, 0, 0);
    await_readable(t->s, 30);
    ssize_t n = recv(t->fd, buffer, 6, flag);
    say("recv flag %d: recv %s %s", t->number, res(n), hex(buffer, n > 0 && !(flag & MSG_TRUNC) ? (size_t)n : 0));
    struct iovec parts[2] = {{buffer, 2}, {buffer + 2, 3}};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = 2, .msg_control = control, .msg_controllen = sizeof control,
                       .msg_name = buffer + 20, .msg_namelen = 16};
    n = recvmsg(t->fd, &m, flag);
    say("recv flag %d: recvmsg %s %s flags %#x control %zu name %d", t->number, res(n),
        hex(buffer, n > 0 && !(flag & MSG_TRUNC) ? (size_t)n : 0), n < 0 ? 0 : m.msg_flags,
        n < 0 ? 0 : m.msg_controllen, n < 0 ? 0 : (int)m.msg_namelen);
    say("recv flag %d: recv nothing %s", t->number, res(recv(t->fd, buffer, 0, flag | MSG_DONTWAIT)));
    int left = 0;
    must(ioctl(t->fd, FIONREAD, &left));
    say("recv flag %d: %d left", t->number, left);
    for (ssize_t got; left > 0; left -= (int)got)
        got = must(recv(t->fd, buffer, sizeof buffer, 0));
    say("recv flag %d: recv of an empty queue %s", t->number, res(recv(t->fd, buffer, 6, flag | MSG_DONTWAIT)));
}

static void run_flags(void (*attempt)(struct trial *)) {
    static struct trial trials[32];
    int n = 0;
    for (int bit = 0; bit < 32; bit++)
        if (1u << bit != MSG_OOB) /* "urgent" */
            trials[n++] = (struct trial){.level = -1, .number = bit};
    trials_run(moment_of_argument(), AF_INET, trials, n, attempt);
}

static void send_flags(void) {
    run_flags(send_flag);
}

static void recv_flags(void) {
    run_flags(recv_flag);
}

/* Requests that change interfaces, routes or bridges, which belong to the machine, not to a socket. */
static bool changes_the_machine(int request) {
    static const int asks[] = {0x8901, 0x8902, 0x8903, 0x8904, 0x8905, 0x8906, 0x8907, 0x890d, 0x8910, 0x8912, 0x8913, 0x8915,
                               0x8917, 0x8919, 0x891b, 0x891d, 0x891f, 0x8921, 0x8927, 0x8929, 0x8933, 0x8935, 0x8938, 0x8942,
                               0x8946, 0x8948, 0x894b, 0x894c, 0x8954, 0x8961, 0x8970};
    for (int i = 0; i < LEN(asks); i++)
        if (asks[i] == request)
            return false;
    return request >= 0x8900;
}

/* One request with an argument that is an int, a name of an interface, or room for an answer. */
static void request(struct trial *t, int number) {
    union {
        char bytes[512];
        int value;
    } arg;
    memset(&arg, 0, sizeof arg);
    if (number >= 0x8910)
        strcpy(arg.bytes, "lo");
    if (number == 0x8912) /* SIOCGIFCONF: how much room would be needed */
        memset(&arg, 0, sizeof arg);
    int r = ioctl(t->fd, (unsigned long)number, &arg);
    bool clock = number == 0x8906 || number == 0x8907;
    say("ioctl %#x %s %s", number, res(r), r < 0 || clock ? "" : hex(&arg, 32));
}

static void show_flags(struct trial *t, const char *what, int r) {
    say("%s %s: F_GETFL %#x F_GETFD %d F_GETOWN %d", what, res(r), fcntl(t->fd, F_GETFL), fcntl(t->fd, F_GETFD),
        fcntl(t->fd, F_GETOWN) == getpid());
}

static void requests(struct trial *t) {
    int on = 1, off = 0, me = getpid(), owner = -5;
    far_do(FAR_SEND_RAW, t->s->index, 30, 0, 0);
    await_readable(t->s, 30);
    for (int number = 0x5400; number < 0x5500; number++)
        if (number != TIOCOUTQ && number != 0x5421 && number != 0x5450 && number != 0x5451 && number != 0x5452)
            request(t, number);
    for (int number = 0x8900; number < 0x8a00; number++)
        if (number != 0x894b && !changes_the_machine(number))
            request(t, number);
    show_flags(t, "FIONBIO 1", ioctl(t->fd, FIONBIO, &on));
    show_flags(t, "FIONBIO 0", ioctl(t->fd, FIONBIO, &off));
    show_flags(t, "FIONBIO nowhere", ioctl(t->fd, FIONBIO, (void *)8));
    show_flags(t, "FIOCLEX", ioctl(t->fd, FIOCLEX));
    show_flags(t, "FIONCLEX", ioctl(t->fd, FIONCLEX));
    show_flags(t, "SIOCSPGRP", ioctl(t->fd, 0x8902, &me));
    int r = ioctl(t->fd, 0x8904, &owner);
    say("SIOCGPGRP %s %d", res(r), owner == me);
    show_flags(t, "FIOSETOWN 0", ioctl(t->fd, 0x8901, &off));
    show_flags(t, "FIOASYNC 1", ioctl(t->fd, FIOASYNC, &on));
    show_flags(t, "FIOASYNC 0", ioctl(t->fd, FIOASYNC, &off));
    say("FIONREAD nowhere %s", res(ioctl(t->fd, FIONREAD, (void *)8)));
    char buffer[40];
    say("recv %s", res(recv(t->fd, buffer, sizeof buffer, 0)));
    /* Sent bytes are acknowledged after a while, whether far reads them or not. */
    say("send %s", res(send(t->fd, "0123456789", 10, 0)));
    for (int i = 0; i < PATIENCE_MS && ioctl(t->fd, TIOCOUTQ, &owner) == 0 && owner != 0; i++)
        sleep_ms(1);
    say("TIOCOUTQ: %d", owner);
    must(ioctl(t->fd, 0x894b, &owner));
    say("SIOCOUTQNSD: %d", owner);
    far_do(FAR_RAW_RECV, t->s->index, 10, MSG_WAITALL, 0);
}

static void ioctls(void) {
    struct trial t[1] = {{.level = -1}};
    trials_run(moment_of_argument(), AF_INET, t, 1, requests);
}

const struct test_case option_call_cases[] = {
    {"send-flags", send_flags, "MOMENT: every flag of send"},
    {"recv-flags", recv_flags, "MOMENT: every flag of recv"},
    {"ioctls", ioctls, "MOMENT: every request that asks"},
    {NULL, NULL, NULL},
};
