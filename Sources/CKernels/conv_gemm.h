// The job descriptions that conv_gemm.c fills in and conv_gemm.inc.h works off.
#ifndef ACUITY_CONV_GEMM_H
#define ACUITY_CONV_GEMM_H

#include <limits.h>

#include "conv_internal.h"

/// The widest register tile of any instruction set, in output positions.
#define AK_GEMM_TILE_MAX 14
/// Reduction steps (of 16 input channels at one tap) of one panel; more are done in several passes over the output.
#define AK_GEMM_STEPS 72
/// Floats of one thread's panel.
#define AK_GEMM_PANEL (96 * 1024)
/// Output positions of one panel at most.
#define AK_GEMM_POSITIONS (AK_GEMM_TILE_MAX * 64)

/// Positions of one block of the weights' gradient.
#define AK_GEMM_GRADIENT_POSITIONS 128

/// Where one output position reads and writes.
typedef struct {
    long in;    // offset of input element (row, col) of block 0
    long out;   // offset of the output element of block 0
    int row, col;
} ak_position;

/// Output positions (i, j), i < rows, j < cols, of every image. Position (i, j) is written at
/// (i*out_stride + out_row, j*out_stride + out_col); its tap (a, b) reads the input at
/// (i*stride + row0 + a*step, j*stride + col0 + b*step), zero outside.
typedef struct {
    ak_map in, out;
    int rows, cols;
    int out_stride, out_row, out_col;
    int stride, row0, col0, step, taps_rows, taps_cols;
    int groups;
} ak_gather;

typedef struct {
    ak_gather gather;
    const float *weights; // [output block][tap][input block of its range][16 in][16 out]
    bool accumulate, border, stream;
    ak_split split;
    float *workspace; // per thread: panel, then positions
} ak_gemm_job;

typedef struct {
    ak_gather gather; // in: x, out: dy
    float *partial;   // [split.positions][output block][tap][input block of its range][16 in][16 out]
    long partial_size;
    ak_split split;
    float *workspace; // per thread: panels of x and dy, then positions
    // The second pass.
    float *dw;
    bool accumulate;
    const ak_conv *conv;
} ak_gemm_gradient_job;

typedef struct {
    const ak_conv *conv;
    const float *weights;
    float *forward, *backward;
} ak_gemm_pack_job;

/// Floats that one thread's share of the workspace takes.
long ak_gemm_thread_floats(void);
long ak_gemm_gradient_thread_floats(const ak_conv *conv);

#endif
