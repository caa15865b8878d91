/* Code that runs before main, after it, or past the hooks: constructors, destructors, libraries that are opened later. */
#include "victim.h"

#include <dlfcn.h>

/* tests/victims/libraries/sockets.c */
static struct {
    void (*connect)(int ends[2]);
    void (*write)(int fd, const void *buffer, size_t n);
    void (*read)(int fd, void *buffer, size_t n);
    void (*exchange)(int ends[2], int rounds);
    void (*go_on)(int rounds);
} library;

static void look_up(void *handle) {
    *(void **)&library.connect = dlsym(handle, "library_connect");
    *(void **)&library.write = dlsym(handle, "library_write");
    *(void **)&library.read = dlsym(handle, "library_read");
    *(void **)&library.exchange = dlsym(handle, "library_exchange");
    *(void **)&library.go_on = dlsym(handle, "library_continue");
    if (!library.go_on)
        die("the library: %s", dlerror());
}

static void library_dialogue(struct stream *s, int rounds) {
    for (int i = 0; i < rounds; i++) {
        char buffer[900];
        size_t n = 1 + (size_t)(i * 37) % sizeof buffer;
        far_begin(FAR_RECV, s->index, (long)n, 0, 0);
        next_out(s, buffer, n);
        library.write(s->fd, buffer, n);
        far_end();
        far_begin(FAR_SEND, s->index, (long)n, 0, 0);
        library.read(s->fd, buffer, n);
        next_in(s, buffer, n);
        far_end();
    }
}

/* Built beside this program. */
static const char *library_path(void) {
    static char path[4096];
    ssize_t n = must(readlink("/proc/self/exe", path, sizeof path - 32));
    path[n] = 0;
    return strcpy(strrchr(path, '/') + 1, "libsockets.so"), path;
}

/* The library was preloaded, and its constructor has opened a connection. */
static void preloaded(void) {
    if (!dlsym(RTLD_DEFAULT, "library_continue")) {
        char *argv[] = {"victim", "preloaded-library", opt.far_thread ? "--far=thread" : NULL, NULL};
        must(setenv("LD_PRELOAD", library_path(), 1));
        must(setenv("LIBRARY_BEGINS", "1", 1));
        execv("/proc/self/exe", argv);
        die("exec: %s", strerror(errno));
    }
    struct stream *s = stream_open(AF_INET);
    look_up(RTLD_DEFAULT);
    dialogue(s, 10);
    library.go_on(50);
    warm_always();
    library.go_on(50);
    library_dialogue(s, 10);
    dialogue(s, 10);
    stream_close(s);
    say("the library and the program");
}

/* Opens the library while the program runs; uses its connections and the program's, from both. */
static void opened(void) {
    int ends[2];
    bool deep = opt.argc > 0 && strcmp(opt.argv[0], "deep") == 0;
    struct stream *s = stream_open(AF_INET);
    void *handle = dlopen(library_path(), RTLD_NOW | RTLD_LOCAL | (deep ? RTLD_DEEPBIND : 0));
    if (!handle)
        die("%s", dlerror());
    look_up(handle);
    far_begin(FAR_RECV, s->index, 50, 0, 0);
    send_pattern(s, 50);
    far_end();
    library.connect(ends);
    library.exchange(ends, 100);
    library_dialogue(s, 10);
    dialogue(s, 10);
    warm_always();
    library_dialogue(s, 10);
    library.exchange(ends, 100);
    struct stream *mine = stream_adopt(ends[0], 0), *other = stream_adopt(ends[1], 0);
    for (int i = 0; i < 50; i++) {
        char bytes[10] = "";
        write_all(i % 2 ? mine->fd : other->fd, bytes, sizeof bytes);
        library.read(i % 2 ? other->fd : mine->fd, bytes, sizeof bytes);
    }
    dlclose(handle);
    dialogue(s, 10);
    stream_close(s);
    say("the library was closed");
}

static struct stream *late[2];

static void finish(int which, const char *where) {
    dialogue(late[which], 10);
    stream_close(late[which]);
    struct stream *s = stream_open(AF_INET);
    dialogue(s, 20);
    stream_close(s);
    say("%s: the stream has ended, and another one", where);
}

static void handler(void) {
    finish(0, "atexit");
}

__attribute__((destructor)) static void destructor(void) {
    if (!late[1])
        return;
    finish(1, "destructor");
    far_stop();
    fflush(stdout);
}

static void at_exit(void) {
    must(atexit(handler));
    late[0] = stream_open(AF_INET);
    dialogue(late[0], 10);
    warm();
    late[1] = stream_open(AF_INET);
    dialogue(late[1], 10);
    exit(0);
}

const struct test_case load_cases[] = {
    {"preloaded-library", preloaded, "a library whose constructor opens connections"},
    {"opened-library", opened, "[deep]: dlopen, RTLD_DEEPBIND"},
    {"at-exit", at_exit, "streams in atexit and in a destructor"},
    {NULL, NULL, NULL},
};
