// The thread pool: fixed partitions, a short spin, then sleep in the kernel.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"
#include "pool_swift.h"

typedef void (*pool_body)(void *context, int part, int parts);

typedef struct {
    ak_pool *pool;
    int part;
    atomic_int cpu;   // where its last round began
    int64_t moved_at; // nanoseconds; when it last left a processor that another participant was on
} worker;

struct ak_pool {
    int threads;
    int spins; // pauses before sleep; 0 when the threads outnumber the processors
    int caller_cpu; // where this round began
    pthread_mutex_t callers;
    pthread_t *handles;
    worker *workers;
    pool_body body;
    void *context;
    bool stop;
    // Each on a cache line of its own: workers watch the first, the caller the second.
    _Alignas(128) atomic_uint round;    // increased to start a round
    atomic_int sleepers;                // workers asleep on `round`
    _Alignas(128) atomic_uint pending;  // workers that have not ended this round
    atomic_uint caller_sleeps;
};

/// The pool whose body this thread runs, so that a nested run traps instead of deadlocking.
static _Thread_local const ak_pool *running;

static inline void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

static void futex_wait(atomic_uint *word, unsigned expected) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

/// Waits until `round` differs from `seen`; returns its value.
static unsigned await_round(ak_pool *pool, unsigned seen) {
    unsigned now;
    for (int i = 0; i < pool->spins; i++) {
        if ((now = atomic_load_explicit(&pool->round, memory_order_acquire)) != seen) return now;
        pause_briefly();
    }
    // The starter reads `sleepers` after it has changed `round`, and this thread re-reads `round` (in the futex call)
    // after it has changed `sleepers`: one of the two sees the other, so no wake-up is lost.
    atomic_fetch_add(&pool->sleepers, 1);
    while ((now = atomic_load(&pool->round)) == seen) futex_wait(&pool->round, seen);
    atomic_fetch_sub(&pool->sleepers, 1);
    return now;
}

static void await_workers(ak_pool *pool) {
    for (int i = 0; i < pool->spins; i++) {
        if (atomic_load_explicit(&pool->pending, memory_order_acquire) == 0) return;
        pause_briefly();
    }
    atomic_store(&pool->caller_sleeps, 1);
    unsigned left;
    while ((left = atomic_load(&pool->pending)) != 0) futex_wait(&pool->pending, left);
    atomic_store(&pool->caller_sleeps, 0);
}

/// Leaves a processor that the caller, or a worker before this one, is on, while others are free.
///
/// The scheduler may start a woken worker beside its waker and leave the two there for tens of milliseconds, with the
/// round twice as long and another processor idle.
static void step_aside(ak_pool *pool, worker *self) {
    const int cpu = sched_getcpu();
    if (atomic_load_explicit(&self->cpu, memory_order_relaxed) != cpu)
        atomic_store_explicit(&self->cpu, cpu, memory_order_relaxed);
    bool meets = cpu == pool->caller_cpu;
    for (int i = 0; i < self->part - 1; i++)
        meets |= cpu == atomic_load_explicit(&pool->workers[i].cpu, memory_order_relaxed);
    if (!meets) return;
    // Not oftener than every few milliseconds: where another process holds the free processor, the scheduler is right.
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t nanoseconds = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    if (nanoseconds - self->moved_at < 5000000) return;
    self->moved_at = nanoseconds;
    int taken[64] = {pool->caller_cpu};
    int count = 1;
    for (int i = 0; i < pool->threads - 1 && count < 64; i++)
        if (i != self->part - 1) taken[count++] = atomic_load_explicit(&pool->workers[i].cpu, memory_order_relaxed);
    if (ak_leave_processors(taken, count)) atomic_store_explicit(&self->cpu, sched_getcpu(), memory_order_relaxed);
}

static void *work(void *argument) {
    worker *self = argument;
    ak_pool *pool = self->pool;
    running = pool;
    unsigned seen = 0;
    for (;;) {
        seen = await_round(pool, seen);
        if (pool->stop) return NULL;
        if (pool->spins > 0) step_aside(pool, self);
        pool->body(pool->context, self->part, pool->threads);
        bool last = atomic_fetch_sub(&pool->pending, 1) == 1;
        if (last && atomic_load(&pool->caller_sleeps)) futex_wake(&pool->pending, 1);
    }
}

static void start_round(ak_pool *pool) {
    atomic_fetch_add(&pool->round, 1);
    if (atomic_load(&pool->sleepers) > 0) futex_wake(&pool->round, pool->threads);
}

static void stop_workers(ak_pool *pool, int started) {
    pool->stop = true;
    start_round(pool);
    for (int i = 0; i < started; i++) pthread_join(pool->handles[i], NULL);
    pthread_mutex_destroy(&pool->callers);
    free(pool->handles);
    free(pool->workers);
    free(pool);
}

ak_pool *ak_pool_create(int threads) {
    AK_REQUIRE(threads >= 1, "a pool of %d threads", threads);
    ak_pool *pool = aligned_alloc(128, sizeof *pool);
    if (!pool) return NULL;
    memset(pool, 0, sizeof *pool);
    pool->threads = threads;
    // About 20 microseconds: longer than the gap between two kernels, too short to steal from other processes.
    pool->spins = threads > ak_available_processors() ? 0 : 1000;
    pthread_mutex_init(&pool->callers, NULL);
    pool->handles = calloc((size_t)threads, sizeof *pool->handles);
    pool->workers = calloc((size_t)threads, sizeof *pool->workers);
    if (!pool->handles || !pool->workers) {
        stop_workers(pool, 0);
        return NULL;
    }
    // Signals are the main thread's.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int started = 0;
    for (int part = 1; part < threads; part++) {
        worker *w = &pool->workers[part - 1];
        w->pool = pool, w->part = part;
        atomic_init(&w->cpu, -1);
        if (pthread_create(&pool->handles[started], NULL, work, w) != 0) break;
        started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (started == threads - 1) return pool;
    stop_workers(pool, started);
    return NULL;
}

void ak_pool_destroy(ak_pool *pool) {
    if (pool) stop_workers(pool, pool->threads - 1);
}

int ak_pool_threads(const ak_pool *pool) { return pool ? pool->threads : 1; }

void ak_pool_run(ak_pool *pool, pool_body body, void *context) {
    if (!pool) {
        body(context, 0, 1);
        return;
    }
    AK_REQUIRE(running != pool, "ak_pool_run called from inside a run of the same pool");
    const ak_pool *outer = running;
    pthread_mutex_lock(&pool->callers);
    running = pool;
    if (pool->threads == 1) {
        body(context, 0, 1);
    } else {
        pool->body = body;
        pool->context = context;
        pool->caller_cpu = sched_getcpu();
        atomic_store_explicit(&pool->pending, (unsigned)pool->threads - 1, memory_order_relaxed);
        start_round(pool);
        body(context, 0, pool->threads);
        await_workers(pool);
    }
    running = outer;
    pthread_mutex_unlock(&pool->callers);
}

typedef struct {
    swift_pool_body body;
    void *context;
} swift_closure;

static void call_swift(void *context, int part, int parts) {
    const swift_closure *closure = context;
    closure->body(part, parts, closure->context);
}

__attribute__((swiftcall)) void ak_pool_run_swift(ak_pool *pool, swift_pool_body body, void *context) {
    // Lives until all parts have ended, as the closure's captures do.
    swift_closure closure = {body, context};
    ak_pool_run(pool, call_swift, &closure);
}
