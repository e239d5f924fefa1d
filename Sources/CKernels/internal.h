// What the kernels' sources share and nobody else sees: checks, partitions, map arithmetic.
#ifndef ACUITY_KERNELS_INTERNAL_H
#define ACUITY_KERNELS_INTERNAL_H

#include "acuity_kernels.h"

/// Prints the message to stderr and aborts: the caller broke a documented rule.
_Noreturn void ak_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define AK_REQUIRE(condition, ...) \
    do { \
        if (__builtin_expect(!(condition), 0)) ak_fail(__VA_ARGS__); \
    } while (0)

/// Where part `part` of `parts` begins in 0..<count; it ends where the next one begins.
static inline long ak_begin(long count, int part, int parts) { return count * part / parts; }

static inline int ak_min(int a, int b) { return a < b ? a : b; }
static inline int ak_max(int a, int b) { return a > b ? a : b; }
static inline size_t ak_align64(size_t bytes) { return (bytes + 63) & ~(size_t)63; }
/// Blocks of 16 channels that c channels take.
static inline int ak_blocks(int c) { return (c + 15) / 16; }

/// The first element of image n, channel block `block`, interior position (0, 0), in elements.
static inline long ak_interior(const ak_map *m, int n, int block) {
    return n * m->image + block * m->block + m->halo * (m->row + 16);
}

/// The fp32 elements of a map.
static inline float *ak_floats(const ak_map *m) { return (float *)m->data; }

/// Zeros everything outside the interior of one plane (image n, channel block `block`). Padding lanes inside the
/// interior are the kernel's own business.
void ak_zero_border(const ak_map *m, int n, int block);
/// The same for interior row y alone; the first row also clears the lines above it, the last those below.
void ak_zero_row_border(const ak_map *m, int n, int block, int y);

#endif
