// The processors this process may use, and the names of its threads.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "internal.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#include <sys/prctl.h>
#endif

int ak_available_processors(void) {
#if defined(__linux__)
    // The call fails where the kernel knows more processors than the set has room for, which nothing tells beforehand.
    for (int room = 1024; room <= 1 << 20; room *= 4) {
        cpu_set_t *set = CPU_ALLOC(room);
        if (!set) break;
        const size_t size = CPU_ALLOC_SIZE(room);
        const bool fits = sched_getaffinity(0, size, set) == 0;
        const int count = fits ? CPU_COUNT_S(size, set) : 0;
        const bool isTooSmall = !fits && errno == EINVAL;
        CPU_FREE(set);
        if (count > 0) return count;
        if (!isTooSmall) break;
    }
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

bool ak_leave_processors(const int *taken, int count) {
    bool left = false;
#if defined(__linux__)
    // Room for 65,536 processors on the stack: steps call this, and allocate nothing.
    cpu_set_t mine[64], others[64];
    const size_t size = sizeof mine;
    memset(mine, 0, size);
    if (sched_getaffinity(0, size, mine) != 0) return false;
    memcpy(others, mine, size);
    for (int i = 0; i < count; i++)
        if (taken[i] >= 0 && (size_t)taken[i] < 8 * size) CPU_CLR_S((size_t)taken[i], size, others);
    // The first call moves the thread, the second lets the scheduler move it again.
    left = CPU_COUNT_S(size, others) > 0 && sched_setaffinity(0, size, others) == 0;
    if (left) sched_setaffinity(0, size, mine);
#else
    (void)taken, (void)count;
#endif
    return left;
}

void ak_name_thread(const char *name) {
#if defined(__linux__)
    prctl(PR_SET_NAME, name);
#else
    (void)name;
#endif
}
