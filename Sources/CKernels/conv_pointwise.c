// 1x1 convolutions of one group. Forward is the matrix product of conv_gemm.c, whose packed weights these are; the two
// gradients are one pass over the gradient and the input.
#include "conv_gemm.h"
#include "conv_pointwise.h"

#include "vector.h"

#define AK_KERNELS "conv_pointwise.inc.h"
#include "each_isa.h"

bool ak_pointwise_takes(const ak_conv *conv) {
    return conv->kh == 1 && conv->kw == 1 && conv->pad == 0 && conv->groups == 1;
}

size_t ak_pointwise_packed_bytes(const ak_conv *conv, ak_dtype dtype, ak_direction direction) {
    return ak_gemm_packed_bytes(conv, dtype, direction);
}

void ak_pointwise_pack(
    ak_pool *pool, const ak_conv *conv, ak_dtype dtype, ak_direction direction, const float *weights, void *packed) {
    ak_gemm_pack(pool, conv, dtype, direction, weights, packed);
}

void ak_pointwise_forward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const void *packed, const ak_map *y, ak_moments *moments,
    void *workspace) {
    ak_gemm_forward(pool, conv, x, packed, y, moments, workspace);
}

/// Floats of one thread's panels: the gradient's and the input's. In bf16 the gradient's is there twice at half the
/// size, its pairs being those of channels and of positions.
static long thread_floats(const ak_conv *conv) {
    return (long)(ak_blocks(conv->k) + ak_blocks(conv->c)) * AK_PANEL * 16;
}

/// Parts of the positions that have some.
static int split(const ak_conv *conv, int n, int threads) {
    long tiles = ((long)n * ak_conv_out_h(conv) * ak_conv_out_w(conv) + AK_TILE_MAX - 1) / AK_TILE_MAX;
    return tiles < threads ? ak_max(1, (int)tiles) : threads;
}

size_t ak_pointwise_workspace_bytes(const ak_conv *conv, ak_dtype dtype, int n, int threads) {
    size_t forward = ak_gemm_workspace_bytes(conv, dtype, n, threads);
    long backward = threads * thread_floats(conv) + split(conv, n, threads) * ak_gemm_gradient_floats(conv);
    return forward > (size_t)backward * sizeof(float) ? forward : (size_t)backward * sizeof(float);
}

void ak_pointwise_backward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const ak_gradient *dy, const void *packed,
    const ak_conv_gradients *to, void *workspace) {
    const ak_map *input = to->dx.data ? &to->dx : &x->map;
    const int threads = ak_pool_threads(pool);
    if (!to->dx.data && !to->dw) return;
    ak_pointwise_job job = {
        .walk = {
            .in = dy->map, .out = *input, .rows = dy->map.h, .cols = dy->map.w, .out_stride = conv->stride, .stride = 1,
            .taps_rows = 1, .taps_cols = 1, .groups = 1},
        .x = *x, .dy = *dy, .weights = packed,
        .dx = {
            .map = to->dx, .accumulate = to->accumulate_dx,
            .stream = to->dx.data && !to->accumulate_dx && ak_streams(&to->dx), .reduction = to->reduction},
        .partial_floats = ak_gemm_gradient_floats(conv), .split = split(conv, dy->map.n, threads),
        .half = ak_multiplies_bf16(dy->map.dtype), .workspace = workspace, .thread_floats = thread_floats(conv)};
    if (to->dw) job.partial = job.workspace + threads * job.thread_floats;
    ak_pool_run(pool, AK_DISPATCH(ak_pointwise_part), &job);
    if (to->dw)
        ak_gemm_sum_gradients(
            pool, (ak_gemm_sum_job){conv, job.partial, job.partial_floats, job.split, to->dw, to->accumulate_dw});
}
