// The job descriptions of the Winograd convolutions.
#ifndef ACUITY_CONV_WINOGRAD_H
#define ACUITY_CONV_WINOGRAD_H

#include "conv_internal.h"

/// Transformed tiles, weights and gradients lie point by point (36 points of a 6 x 6 tile). The stride between points
/// is padded, or the 36 stores of one tile would fall into the same few cache sets.
#define AK_WINOGRAD_POINTS 36
#define AK_WINOGRAD_PADDING 48

/// Tiles transformed together.
typedef struct {
    int tiles;       // of one thread's block, at most
    long in, out;    // floats between points: [in block][tile][16], [out block][tile][16]
} ak_winograd_panel;

typedef struct {
    ak_map in, out;
    const float *weights; // [point][out block][in channel][16]
    bool accumulate, stream;
    ak_split split;
    ak_winograd_panel panel;
    float *workspace; // per thread: transformed inputs, then products
    long thread_floats;
} ak_winograd_job;

typedef struct {
    ak_map x, dy;
    ak_split split;
    ak_winograd_panel panel;
    float *workspace;
    long thread_floats;
    float *partial; // [split.positions][point][out block][in channel][16]
    float *dw;
    bool accumulate;
} ak_winograd_gradient_job;

typedef struct {
    const ak_conv *conv;
    const float *weights;
    float *forward, *backward;
} ak_winograd_pack_job;

/// Floats between two points of the weights.
static inline long ak_winograd_weight_stride(int c, int k) {
    return (long)ak_blocks(c) * ak_blocks(k) * 256 + AK_WINOGRAD_PADDING;
}

#endif
