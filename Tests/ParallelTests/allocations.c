// Counts the allocations of a training step by who asks for them; `allocations` beside this file uses it.
//
// Loaded before the program (LD_PRELOAD), it stands in front of malloc and its kin and defines acuity_step_mark, which
// the program calls where a step begins (Sources/Training/StepMark.swift). An allocation, on whatever thread, is the
// program's own unless code of MPI or OpenBLAS is on its stack, or the thread is named "loader": those read and decode
// images for later steps. At exit the counts of every step, and the stacks of what the steps ALLOCATIONS_FIRST to
// ALLOCATIONS_LAST asked for, go to the file ALLOCATIONS_REPORT.RANK.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>

// glibc's own, under the names that it keeps for those who replace the public ones.
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

enum { depth = 64, most_sites = 512, most_steps = 256, set_up_sample = 2000 };
enum party { own, mpi, blas, loader, parties };
static const char *const party_names[parties] = {"own", "mpi", "blas", "loader"};

typedef struct {
    void *frames[depth];
    int length;
    long count;
} site;

/// Place 0 is the set-up, of which only the first allocations are looked at; then one place for each step.
static atomic_long counts[most_steps + 1][parties];
static atomic_long looked_at_in_set_up;
static atomic_int steps;
static atomic_bool counting;
static int first_step, last_step;
static void *program;
static site sites[most_sites];
static int site_count;
static atomic_flag sites_lock = ATOMIC_FLAG_INIT;
/// Looking at a stack may allocate.
static _Thread_local bool looking __attribute__((tls_model("initial-exec")));

static bool begins(const char *text, const char *start) { return strncmp(text, start, strlen(start)) == 0; }

/// Whose an allocation with this stack is.
static enum party judge(void *const *frames, int length) {
    char thread[16] = "";
    prctl(PR_GET_NAME, thread);
    if (strcmp(thread, "loader") == 0) return loader;
    for (int i = 0; i < length; i++) {
        Dl_info info;
        if (!dladdr(frames[i], &info) || !info.dli_fname) continue;
        const char *slash = strrchr(info.dli_fname, '/');
        const char *name = slash ? slash + 1 : info.dli_fname;
        if (begins(name, "libmpi") || begins(name, "libopen-") || begins(name, "libpmix") || begins(name, "mca_"))
            return mpi;
        if (begins(name, "libopenblas")) return blas;
    }
    return own;
}

static void remember(void *const *frames, int length) {
    while (atomic_flag_test_and_set(&sites_lock)) {}
    int i = 0;
    while (i < site_count && (sites[i].length != length || memcmp(sites[i].frames, frames, length * sizeof *frames)))
        i++;
    if (i < most_sites) {
        if (i == site_count) {
            site_count++;
            sites[i].length = length;
            memcpy(sites[i].frames, frames, length * sizeof *frames);
        }
        sites[i].count++;
    }
    atomic_flag_clear(&sites_lock);
}

__attribute__((noinline)) static void note(void) {
    if (!atomic_load_explicit(&counting, memory_order_relaxed) || looking) return;
    int step = atomic_load(&steps);
    if (step == 0 && atomic_fetch_add(&looked_at_in_set_up, 1) >= set_up_sample) return;
    looking = true;
    void *frames[depth + 2];
    // Without this function and the one that stands for malloc.
    int length = backtrace(frames, depth + 2) - 2;
    if (length < 0) length = 0;
    enum party party = judge(frames + 2, length);
    atomic_fetch_add(&counts[step < most_steps ? step : most_steps][party], 1);
    if (party == own && step >= first_step && step <= last_step) remember(frames + 2, length);
    looking = false;
}

void *malloc(size_t size) {
    note();
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    note();
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size) {
    note();
    return __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    note();
    return __libc_memalign(alignment, size);
}

void *memalign(size_t alignment, size_t size) {
    note();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size) {
    note();
    void *made = __libc_memalign(alignment, size);
    if (!made) return ENOMEM;
    *memory = made;
    return 0;
}

void acuity_step_mark(void) { atomic_fetch_add(&steps, 1); }

static int number(const char *name) {
    const char *value = getenv(name);
    return value ? atoi(value) : 0;
}

__attribute__((constructor)) static void start(void) {
    if (!getenv("ALLOCATIONS_REPORT")) return;
    first_step = number("ALLOCATIONS_FIRST");
    last_step = number("ALLOCATIONS_LAST");
    Dl_info info;
    if (dladdr((void *)getauxval(AT_ENTRY), &info)) program = info.dli_fbase;
    // The first call loads the unwinder.
    void *frames[2];
    backtrace(frames, 2);
    atomic_store(&counting, true);
}

__attribute__((destructor)) static void report(void) {
    if (!atomic_exchange(&counting, false)) return;
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    char path[4096];
    snprintf(path, sizeof path, "%s.%s", getenv("ALLOCATIONS_REPORT"), rank ? rank : "0");
    FILE *file = fopen(path, "w");
    if (!file) return;
    for (int step = 0; step <= atomic_load(&steps) && step <= most_steps; step++) {
        fprintf(file, "step %d", step);
        for (int party = 0; party < parties; party++)
            fprintf(file, " %s %ld", party_names[party], atomic_load(&counts[step][party]));
        fputc('\n', file);
    }
    for (int i = 0; i < site_count; i++) {
        fprintf(file, "stack %ld\n", sites[i].count);
        for (int j = 0; j < sites[i].length; j++) {
            Dl_info info;
            if (!dladdr(sites[i].frames[j], &info)) continue;
            // The address before the one to return to lies in the call.
            long offset = (long)((char *)sites[i].frames[j] - (char *)info.dli_fbase) - 1;
            fprintf(file, "frame %d 0x%lx %s %s\n", info.dli_fbase == program, offset, info.dli_fname,
                    info.dli_sname ? info.dli_sname : "?");
        }
    }
    fclose(file);
}
