// What the convolutions' sources share: geometry, the split of work over threads, and each family's entry points.
#ifndef ACUITY_CONV_INTERNAL_H
#define ACUITY_CONV_INTERNAL_H

#include "internal.h"

/// A matrix-like product of output positions and output blocks, split into `positions` x `blocks` parts; parts beyond
/// the product stay idle.
typedef struct {
    int positions, blocks;
} ak_split;

/// The split of `positions` units by `blocks` units over the threads that leaves the busiest the least.
ak_split ak_split_make(int threads, long positions, int blocks);

/// The input blocks that one output block of a grouped convolution reads: [first, first + count). `out` and `in` are
/// the channel counts of the side that is written and of the side that is read.
typedef struct {
    int first, count;
} ak_range;
ak_range ak_group_range(int block, int out, int in, int groups);
/// The largest count of any output block.
int ak_group_range_max(int out, int in, int groups);

/// Whether an output map is so large that it is better written past the caches: what reads it next finds nothing of it
/// there, and each line need not be read before it is overwritten.
static inline bool ak_conv_streams(const ak_map *y) {
    return (size_t)y->n * (size_t)y->image * sizeof(float) >= (size_t)32 << 20;
}

/// How a tile leaves its sums in the output.
typedef enum { AK_STORE, AK_ADD, AK_STREAM } ak_finish;

/// Each family: does it take this geometry, bytes of packed weights, bytes of workspace, and the three directions.
/// conv_gemm takes everything.
#define AK_CONV_FAMILY(family) \
    size_t ak_##family##_packed_bytes(const ak_conv *conv); \
    size_t ak_##family##_workspace_bytes(const ak_conv *conv, int n, int threads); \
    void ak_##family##_pack(ak_pool *pool, const ak_conv *conv, const float *weights, float *packed); \
    void ak_##family##_forward( \
        ak_pool *pool, const ak_conv *conv, const ak_map *x, const float *packed, const ak_map *y, void *workspace); \
    void ak_##family##_backward_data( \
        ak_pool *pool, const ak_conv *conv, const ak_map *dy, const float *packed, const ak_map *dx, bool accumulate, \
        void *workspace); \
    void ak_##family##_backward_weights( \
        ak_pool *pool, const ak_conv *conv, const ak_map *x, const ak_map *dy, float *dw, bool accumulate, \
        void *workspace);

AK_CONV_FAMILY(gemm)
AK_CONV_FAMILY(winograd)
AK_CONV_FAMILY(depthwise)

bool ak_winograd_takes(const ak_conv *conv);
bool ak_depthwise_takes(const ak_conv *conv);

#endif
