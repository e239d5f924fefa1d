// The processors this process may use, and the names of its threads.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "internal.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#if defined(__linux__)
#include <sched.h>
#include <sys/prctl.h>

/// Room for 65,536 processors, more than any kernel knows, on the stack: steps read it, and allocate nothing.
typedef struct {
    cpu_set_t sets[64];
} affinity_mask;

/// The mask of the calling thread.
static bool read_mask(affinity_mask *mask) {
    memset(mask, 0, sizeof *mask);
    return sched_getaffinity(0, sizeof *mask, mask->sets) == 0;
}
#endif

int ak_available_processors(void) {
#if defined(__linux__)
    affinity_mask mask;
    const int count = read_mask(&mask) ? CPU_COUNT_S(sizeof mask, mask.sets) : 0;
    if (count > 0) return count;
#endif
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (int)online : 1;
}

bool ak_leave_processors(const int *taken, int count) {
#if defined(__linux__)
    affinity_mask mine;
    if (!read_mask(&mine)) return false;
    affinity_mask others = mine;
    const size_t size = sizeof others;
    for (int i = 0; i < count; i++)
        if (taken[i] >= 0 && (size_t)taken[i] < 8 * size) CPU_CLR_S((size_t)taken[i], size, others.sets);
    // The first call moves the thread, the second lets the scheduler move it again.
    if (CPU_COUNT_S(size, others.sets) == 0 || sched_setaffinity(0, size, others.sets) != 0) return false;
    sched_setaffinity(0, size, mine.sets);
    return true;
#else
    (void)taken, (void)count;
    return false;
#endif
}

void ak_name_thread(const char *name) {
#if defined(__linux__)
    prctl(PR_SET_NAME, name);
#else
    (void)name;
#endif
}
