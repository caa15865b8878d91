/* Other work on the machine: uses a CPU for ever.   spin CPU */
#include "hold.h"
#include <sched.h>

int main(int argc, char **argv)
{
    cpu_set_t set;
    volatile uint64_t turns = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    CPU_ZERO(&set);
    CPU_SET(argc > 1 ? atoi(argv[1]) : 0, &set);
    check(sched_setaffinity(0, sizeof set, &set) == 0, "sched_setaffinity");
    for (;;)
        turns = turns + 1;
}
