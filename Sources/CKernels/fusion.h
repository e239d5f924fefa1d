// What the kernels that write or read maps share of batch norm and PReLU: the statistics as they are gathered.
#ifndef ACUITY_KERNELS_FUSION_H
#define ACUITY_KERNELS_FUSION_H

#include "vector.h"

/// Count, mean and sum of squared deviations of one block of channels, as one thread has seen them. In memory: for each
/// thread, every block; a thread that writes a map sets all its entries, count 0 where it saw nothing.
struct ak_moments {
    ak_dvec mean, m2;
    double count;
};

/// The sums of the backward pass for one block of channels, as one thread has seen them: of g', g'*(x - mean), and
/// g*z where z <= 0.
struct ak_sums {
    ak_dvec g, gx, slope;
};

/// A thread's entries, cleared; NULL where none are wanted.
static inline ak_moments *ak_moments_begin(ak_moments *moments, int c, int part) {
    if (!moments) return NULL;
    ak_moments *own = moments + (long)part * ak_blocks(c);
    memset(own, 0, (size_t)ak_blocks(c) * sizeof *own);
    return own;
}

static inline ak_sums *ak_sums_begin(ak_sums *sums, int c, int part) {
    if (!sums) return NULL;
    ak_sums *own = sums + (long)part * ak_blocks(c);
    memset(own, 0, (size_t)ak_blocks(c) * sizeof *own);
    return own;
}

/// How a source is read.
typedef enum { AK_AS_STORED, AK_AFFINE, AK_PRELU } ak_reading;

static inline ak_reading ak_reading_of(const ak_activation *a) {
    return !a->scale ? AK_AS_STORED : a->slope ? AK_PRELU : AK_AFFINE;
}

#endif
