// The job descriptions that conv_gemm.c fills in and conv_gemm.inc.h works off.
#ifndef ACUITY_CONV_GEMM_H
#define ACUITY_CONV_GEMM_H

#include "conv_panel.h"

/// Reduction steps (of 16 input channels at one tap) of one panel; more are done in several passes.
enum { AK_GEMM_STEPS = 40 };

typedef struct {
    ak_walk walk;
    ak_source x;
    const void *weights; // [output block][tap][input block of its range], packed as panel products want them
    ak_output y;
    bool half, begin; // bf16 products; whether this is the first walk over y
    ak_split split;
    float *workspace; // per thread: panel, then sums
    long thread_floats;
} ak_gemm_job;

typedef struct {
    ak_walk walk; // in: x, out: dy
    ak_source x;
    ak_gradient dy;
    float *partial; // [split.positions][output block][tap][input block of its range][16 in][16 out]
    long partial_floats;
    ak_split split;
    float *workspace; // per thread: panels of x and dy
    long thread_floats;
} ak_gemm_gradient_job;

/// Partial gradients of the weights, as above, that are to be summed.
typedef struct {
    const ak_conv *conv;
    const float *partial;
    long partial_floats;
    int count;
    float *dw;
    bool accumulate;
} ak_gemm_sum_job;

typedef struct {
    const ak_conv *conv;
    const float *weights;
    void *packed;
    ak_direction direction;
    bool half;
} ak_gemm_pack_job;

/// Backward-data with stride s: the taps of one axis, of `taps`, that inputs of parity class `class` modulo s meet, and
/// the first of them; each s-th from there is one.
static inline int ak_class_first_tap(const ak_conv *conv, int class) { return (class + conv->pad) % conv->stride; }
static inline int ak_class_taps(const ak_conv *conv, int class, int taps) {
    int first = ak_class_first_tap(conv, class);
    return taps > first ? (taps - first + conv->stride - 1) / conv->stride : 0;
}

/// Taps of the classes before (row, col): their weights are packed class by class.
static inline int ak_class_taps_before(const ak_conv *conv, int row, int col) {
    int before = 0;
    for (int i = 0; i < row * conv->stride + col; i++)
        before += ak_class_taps(conv, i / conv->stride, conv->kh) * ak_class_taps(conv, i % conv->stride, conv->kw);
    return before;
}

/// Floats of one partial gradient.
long ak_gemm_gradient_floats(const ak_conv *conv);
/// Sums partial gradients in their order and writes PyTorch's layout.
void ak_gemm_sum_gradients(ak_pool *pool, ak_gemm_sum_job job);

#endif
