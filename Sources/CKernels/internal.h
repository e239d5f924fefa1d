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

/// Moves the calling thread to a processor of its affinity mask other than those of `taken` (negative numbers count for
/// nothing), and leaves the mask as it was; false where there is none.
bool ak_leave_processors(const int *taken, int count);

/// Where part `part` of `parts` begins in 0..<count; it ends where the next one begins.
static inline long ak_begin(long count, int part, int parts) { return count * part / parts; }

static inline int ak_min(int a, int b) { return a < b ? a : b; }
static inline int ak_max(int a, int b) { return a > b ? a : b; }
static inline size_t ak_align64(size_t bytes) { return (bytes + 63) & ~(size_t)63; }
/// Blocks of 16 channels that c channels take.
static inline int ak_blocks(int c) { return (c + 15) / 16; }

/// The first element of block `block` of image n, in elements.
static inline long ak_plane(const ak_map *m, int n, int block) { return n * m->image + block * m->block; }

/// The elements of a map.
static inline float *ak_floats(const ak_map *m) { return (float *)m->data; }
static inline uint16_t *ak_halves(const ak_map *m) { return (uint16_t *)m->data; }

/// Whether a map is so large that it is better written past the caches: what reads it next finds nothing of it there,
/// and its lines need not be read before they are overwritten.
static inline bool ak_streams(const ak_map *y) {
    return y->dtype == AK_F32 && (size_t)y->n * (size_t)y->image * sizeof(float) >= (size_t)32 << 20;
}

static inline bool ak_same_shape(const ak_map *a, const ak_map *b) {
    return a->n == b->n && a->c == b->c && a->h == b->h && a->w == b->w;
}

#endif
