// Types, checks and choices that the element-wise kernels share.
#ifndef ACUITY_KERNELS_ELEMENTWISE_TASKS_H
#define ACUITY_KERNELS_ELEMENTWISE_TASKS_H

#include "vector.h"

typedef double ak_dvec __attribute__((vector_size(128), aligned(64)));
typedef uint64_t ak_wvec __attribute__((vector_size(128), aligned(64)));
typedef uint16_t ak_hvec __attribute__((vector_size(32), aligned(32)));
typedef struct {
    ak_hvec v;
} __attribute__((packed, aligned(2))) ak_hvec_unaligned;

#define ak_widen(v) __builtin_convertvector((v), ak_dvec)
#define ak_load_half(p) (((const ak_hvec_unaligned *)(p))->v)
#define ak_store_half(p, value) (((ak_hvec_unaligned *)(p))->v = (value))

/// Rows top ..< bottom of one block of channels of one image.
typedef struct {
    int image, block, top, bottom;
} ak_rows;

/// The n * blocks * h rows of a batch, in memory order, are cut into one contiguous range per part, so that all parts
/// have the same work whatever the batch.
typedef struct {
    long next, last;
    int h, blocks;
} ak_walk;

static inline void ak_require_alike(ak_map a, ak_map b, const char *kernel) {
    AK_REQUIRE(
        a.n == b.n && a.c == b.c && a.h == b.h && a.w == b.w,
        "%s: maps of %d x %d x %d x %d and %d x %d x %d x %d", kernel, a.n, a.c, a.h, a.w, b.n, b.c, b.h, b.w);
    AK_REQUIRE(a.dtype == b.dtype, "%s: maps of different element types", kernel);
}

/// Whether a map is so large that it is better written past the caches: nothing useful of it would be left there for
/// the next kernel, and its lines need not be read first.
static inline bool ak_streams(ak_map y) {
    const size_t bytes = (size_t)y.n * (size_t)y.image * sizeof(float);
    return y.dtype == AK_F32 && (uintptr_t)y.data % 64 == 0 && bytes >= (size_t)32 << 20;
}

#endif
