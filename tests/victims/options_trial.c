/* Streams on which one option or call each is tried, at one moment of their life. */
#include "options.h"

#include <poll.h>
#include <unistd.h>

const char *moment_name(enum moment m) {
    static const char *const names[] = {"new", "tracked", "dual", "after"};
    return names[m];
}

enum moment moment_of_argument(void) {
    if (opt.argc == 0)
        return AFTER;
    for (int m = NEW; m <= AFTER; m++)
        if (strcmp(opt.argv[0], moment_name((enum moment)m)) == 0)
            return (enum moment)m;
    die("which moment: new, tracked, dual or after?");
}

static void open_trials(enum moment m, int family, struct trial *t, int n, void (*attempt)(struct trial *)) {
    int port, listener = -1;
    if (opt.near_accepts)
        listener = tcp_listen(family, &port);
    else
        port = (int)far_do(FAR_LISTEN, 0, family, 0, 0).value;
    for (int i = 0; i < n; i++) {
        t[i].accepted = false;
        if (opt.near_accepts) {
            if (m == NEW) {
                /* An option that is set on the listening socket is inherited. */
                close(listener);
                listener = tcp_listen(family, &port);
                t[i].s = NULL;
                t[i].fd = listener;
                attempt(&t[i]);
            }
            t[i].s = stream_adopt(-1, 0);
            far_begin(FAR_CONNECT, t[i].s->index, family, port, 0);
            t[i].fd = (int)must(accept(listener, NULL, NULL));
            t[i].s->port = (int)far_end().value;
        } else {
            struct sockaddr_storage to;
            socklen_t size = loopback(family, port, &to);
            t[i].fd = tcp_socket(family);
            t[i].s = NULL;
            if (m == NEW)
                attempt(&t[i]);
            must(connect(t[i].fd, (struct sockaddr *)&to, size));
            t[i].s = stream_adopt(t[i].fd, local_port(t[i].fd));
            far_do(FAR_ACCEPT, t[i].s->index, 0, 0, 0);
        }
        t[i].s->fd = t[i].fd;
    }
    if (listener >= 0)
        close(listener);
}

/* One exchange, after which far makes no call and near polls again and again, until the harness says that near has
 * promised on every stream. */
static void into_dual(struct trial *t, int n) {
    bool held = getenv("VICTIM_HOLD") != NULL;
    for (int i = 0; i < n; i++) {
        far_begin(FAR_RECV, t[i].s->index, 64, 0, 0);
        send_pattern(t[i].s, 64);
        far_end();
        far_do(FAR_SEND, t[i].s->index, 64, 0, 0);
        recv_pattern(t[i].s, 64);
    }
    flockfile(stdout);
    printf("@event dual");
    for (int i = 0; i < n; i++)
        printf(" %d", t[i].s->port);
    putchar('\n');
    fflush(stdout);
    funlockfile(stdout);
    while (held && !wait_for(0, POLLIN, 1)) {
        for (int i = 0; i < n; i++) {
            char byte;
            if (recv(t[i].fd, &byte, 1, MSG_DONTWAIT) >= 0 || errno != EAGAIN)
                die("trial %d: something came from an idle far", i);
        }
    }
    char answer[8];
    if (held && read(0, answer, 3) != 3)
        die("the harness let go");
}

void trials_run(enum moment m, int family, struct trial *t, int n, void (*attempt)(struct trial *)) {
    static bool known;
    if (m == DUAL && !known) {
        known = true;
        /* Once a stream has moved both processes know how many bytes are hashed: one exchange is enough for the others. */
        int fd = tcp_connect(AF_INET, (int)far_do(FAR_LISTEN, 0, AF_INET, 0, 0).value);
        struct stream *first = stream_adopt(fd, local_port(fd));
        far_do(FAR_ACCEPT, first->index, 0, 0, 0);
        warm_always();
        stream_close(first);
    }
    open_trials(m, family, t, n, attempt);
    if (m == DUAL)
        into_dual(t, n);
    if (m == AFTER)
        warm_always();
    for (int i = 0; i < n && m != NEW; i++)
        attempt(&t[i]);
    flockfile(stdout);
    for (int i = 0; i < n; i++)
        printf("@option %d %d %d %d\n", t[i].s->port, t[i].level, t[i].number, t[i].accepted);
    fflush(stdout);
    funlockfile(stdout);
    if (m != AFTER)
        warm_always();
    for (int i = 0; i < n; i++) {
        /* A dialogue has messages below any mark. */
        must(setsockopt(t[i].fd, SOL_SOCKET, SO_RCVLOWAT, &(int){1}, sizeof(int)));
        dialogue(t[i].s, 2);
        stream_close(t[i].s);
    }
}
