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

/// How a tile leaves its sums in the output.
typedef enum { AK_STORE, AK_ADD, AK_STREAM } ak_finish;

/// Each family: bytes of packed weights and of workspace, and the directions. conv_gemm takes every geometry. All take
/// maps of either element type; dx wanted and dw wanted are independent. Families other than those with a chain are never
/// given one.
#define AK_CONV_FAMILY(family) \
    size_t ak_##family##_packed_bytes(const ak_conv *conv, ak_dtype dtype, ak_direction direction); \
    size_t ak_##family##_workspace_bytes(const ak_conv *conv, ak_dtype dtype, int n, int threads); \
    void ak_##family##_pack( \
        ak_pool *pool, const ak_conv *conv, ak_dtype dtype, ak_direction direction, const float *weights, void *packed); \
    void ak_##family##_forward( \
        ak_pool *pool, const ak_conv *conv, const ak_source *x, const void *packed, const ak_map *y, \
        ak_moments *moments, void *workspace); \
    void ak_##family##_backward( \
        ak_pool *pool, const ak_conv *conv, const ak_source *x, const ak_gradient *dy, const void *packed, \
        const ak_conv_gradients *to, void *workspace);

/// Any geometry: a matrix product over gathered panels.
AK_CONV_FAMILY(gemm)
/// 1x1, stride 1 or 2, one group: applies chains.
AK_CONV_FAMILY(pointwise)
/// 3x3, padding 1, one group, stride 1: F(4x4, 3x3).
AK_CONV_FAMILY(winograd)
/// 3x3, padding 1, one group, stride 2: F(4x4, 2x2) on the four phases.
AK_CONV_FAMILY(polyphase)
/// bf16 products: 3x3, padding 1, one group, stride 1: F(2x2, 3x3).
AK_CONV_FAMILY(winograd_bf16)
/// bf16 products: 3x3, padding 1, one group, stride 2: F(3x3, 2x2) on the four phases.
AK_CONV_FAMILY(polyphase_bf16)
/// One channel to a group: applies chains.
AK_CONV_FAMILY(depthwise)

bool ak_pointwise_takes(const ak_conv *conv);
bool ak_winograd_takes(const ak_conv *conv);
bool ak_polyphase_takes(const ak_conv *conv);
/// For bf16 maps, with the instruction set in use.
bool ak_winograd_bf16_takes(const ak_conv *conv);
bool ak_polyphase_bf16_takes(const ak_conv *conv);
bool ak_depthwise_takes(const ak_conv *conv);

#endif
