// What this machine can do at most, as the kernels would: products in registers, and memory bandwidth.
#define _GNU_SOURCE
#include <time.h>

#include "vector.h"

typedef struct {
    long repeats;
    float start; // of every sum; read at run time, so that nothing is computed in advance
} flops_task;

/// c = a + factor * b over `count` floats.
typedef struct {
    const float *a, *b;
    float *c;
    long count;
} triad_task;

#define AK_KERNELS "peak.inc.h"
#include "each_isa.h"

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double duration(ak_pool *pool, void (*body)(void *, int, int), void *task) {
    const double start = seconds();
    ak_pool_run(pool, body, task);
    return seconds() - start;
}

double ak_peak_flops(ak_pool *pool, ak_dtype dtype) {
    const bool bf16 = dtype == AK_BF16;
    const double each = (bf16 ? AK_DISPATCH(bf16_operations) : AK_DISPATCH(f32_operations))();
    if (each == 0) return 0;
    void (*body)(void *, int, int) = bf16 ? AK_DISPATCH(bf16_products) : AK_DISPATCH(f32_products);
    flops_task task = {1000, 0x1p-20f};
    // As many as take about 5 ms, to be repeated for about 50.
    double least = duration(pool, body, &task);
    while (least < 1e-3) task.repeats *= 4, least = duration(pool, body, &task);
    task.repeats = (long)((double)task.repeats * (5e-3 / least)) + 1;
    least = 1e300;
    for (const double end = seconds() + 50e-3; seconds() < end;) {
        const double time = duration(pool, body, &task);
        if (time < least) least = time;
    }
    return each * (double)task.repeats * ak_pool_threads(pool) / least;
}

double ak_peak_bandwidth(ak_pool *pool, void *memory, size_t bytes) {
    AK_REQUIRE((uintptr_t)memory % 64 == 0, "ak_peak_bandwidth: the memory is not aligned to 64 bytes");
    const long count = (long)(bytes / (3 * 64)) * 16;
    AK_REQUIRE(count > 0, "ak_peak_bandwidth: %zu bytes of memory", bytes);
    float *first = memory;
    triad_task task = {first, first + count, first + 2 * count, count};
    // The system hands out pages when they are first written.
    ak_pool_run(pool, AK_DISPATCH(touch), &task);
    double least = 1e300;
    const double end = seconds() + 50e-3;
    for (int i = 0; i < 5 || seconds() < end; i++) {
        const double time = duration(pool, AK_DISPATCH(triad), &task);
        if (time < least) least = time;
    }
    return 3.0 * (double)count * sizeof(float) / least;
}
