/* victim CASE [--far=process|thread] [--near-accepts] [--cold] [--far-plain | --near-plain] [--seed=N] [ARGS…] */
#include "victim.h"

#include <signal.h>

struct options opt = {.seed = 1};

static const struct test_case *const groups[] = {
    blocking_cases, after_cases,   many_cases,  wait_cases,  epoll_cases, halfclose_cases, question_cases,
    signal_cases,   process_cases, stdio_cases, fault_cases, option_cases, option_call_cases,
    option_special_cases, between_cases, pieces_cases, apart_cases,
    life_cases, uring_cases, load_cases, hostile_cases, family_cases, cancel_cases,
    order_cases, closed_cases, end_cases, unseen_cases, spawned_cases, driven_cases, peek_cases, trunc_cases, message_cases, stack_cases, control_cases, handover_cases,
};

static const struct test_case *find(const char *name) {
    for (int g = 0; g < LEN(groups); g++)
        for (const struct test_case *c = groups[g]; c->name; c++)
            if (strcmp(c->name, name) == 0)
                return c;
    return NULL;
}

static void usage(void) {
    puts("victim CASE [--far=process|thread] [--near-accepts] [--cold] [--far-plain | --near-plain] [--seed=N]\n"
         "victim exact [--streams=N] [--threads=T] [--mode=blocking|nonblocking|mixed] [--one-process] [--seed=S] …\n");
    for (int g = 0; g < LEN(groups); g++)
        for (const struct test_case *c = groups[g]; c->name; c++)
            printf("  %-24s %s\n", c->name, c->what);
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc >= 4 && strcmp(argv[1], "far") == 0) {
        far_main(atoi(argv[2]), atoi(argv[3]));
        return 0;
    }
    if (argc >= 4 && strcmp(argv[1], "receiver") == 0) {
        handover_receiver(atoi(argv[2]), atoi(argv[3]));
        return 0;
    }
    if (argc >= 2 && strcmp(argv[1], "exact") == 0)
        return exact_main(argc - 1, argv + 1);
    if (argc >= 2 && strcmp(argv[1], "differential") == 0)
        return differential_main(argc - 1, argv + 1);
    if (argc >= 5 && strcmp(argv[1], "continue") == 0) {
        far_inherit(argv[2], argv[3]);
        opt.cold = strcmp(argv[4], "cold") == 0;
        continue_after_exec(argc - 4, argv + 4);
        return 0;
    }
    const struct test_case *c = argc >= 2 ? find(argv[1]) : NULL;
    if (!c) {
        usage();
        return 2;
    }
    int i = 2;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i++) {
        if (strcmp(argv[i], "--far=thread") == 0)
            opt.far_thread = true;
        else if (strcmp(argv[i], "--far=process") == 0)
            opt.far_thread = false;
        else if (strcmp(argv[i], "--near-accepts") == 0)
            opt.near_accepts = true;
        else if (strcmp(argv[i], "--cold") == 0)
            opt.cold = true;
        else if (strcmp(argv[i], "--far-plain") == 0)
            opt.far_plain = true;
        else if (strcmp(argv[i], "--near-plain") == 0)
            opt.near_plain = true;
        else if (strncmp(argv[i], "--seed=", 7) == 0)
            opt.seed = strtoull(argv[i] + 7, NULL, 0);
        else
            die("unknown option %s", argv[i]);
    }
    opt.argc = argc - i;
    opt.argv = argv + i;
    far_start();
    c->run();
    far_stop();
    say("end");
    return 0;
}
