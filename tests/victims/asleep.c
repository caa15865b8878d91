/* Whether a thread sleeps: a case brings about the event that a thread waits for once it sleeps, and not before. */
#include "victim.h"

#include <fcntl.h>

/* The kernel's file about a thread. It stays open for the next look: there may be no number left then. */
static char state_of(pid_t process, pid_t thread) {
    static _Thread_local pid_t known;
    static _Thread_local int fd = -1;
    char path[64], text[512] = "";
    if (known != thread) {
        if (fd >= 0)
            close(fd);
        snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)process, (int)thread);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        known = thread;
    }
    if (fd < 0 || pread(fd, text, sizeof text - 1, 0) <= 0)
        die("thread %d of %d is gone: it did not wait", (int)thread, (int)process);
    return strrchr(text, ')')[2];
}

/* Ten looks in a row must agree, because a call may sleep for a moment on its way to the wait that is meant. A thread
 * that only waits for a processor does not look asleep, however busy the machine is. */
void await_asleep(pid_t process, pid_t thread) {
    for (int asleep = 0; asleep < 10; sleep_ms(1))
        asleep = state_of(process, thread) == 'S' ? asleep + 1 : 0;
}

/* The same for a thread that stores its number here. */
void await_thread_asleep(const atomic_int *thread) {
    while (*thread == 0)
        sleep_ms(1);
    await_asleep(getpid(), *thread);
}
