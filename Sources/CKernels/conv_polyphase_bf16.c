// 3x3 convolution of bf16 maps with stride 2 on its phases with bf16 products: plans, dispatch. The work is in
// conv_polyphase_bf16.inc.h, for processors with bf16 products only.
#include "conv_polyphase_bf16.h"

#include "fusion.h"

#define AK_KERNELS "conv_polyphase_bf16.inc.h"
#include "each_isa.h"

#if defined(__x86_64__)
#define KERNEL(name) name##_avx512bf16
#else
#define KERNEL(name) NULL // nothing is taken there
#endif

static ak_polyphase_tiling tiling_of(const ak_conv *conv, int n) {
    return ak_polyphase_tiling_make(AK_POLYPHASE_BF16_SIDE, n, ak_conv_out_h(conv), ak_conv_out_w(conv));
}

/// Few channels do not repay the transforms, and maps that are no sum of threes and twos waste points.
bool ak_polyphase_bf16_takes(const ak_conv *conv) {
    if (ak_isa_current() != AK_ISA_AVX512_BF16) return false;
    if (conv->kh != 3 || conv->kw != 3 || conv->stride != 2 || conv->pad != 1 || conv->groups != 1) return false;
    if (conv->c < 16 || conv->k < 16) return false;
    const ak_polyphase_tiling tiling = tiling_of(conv, 1);
    return (double)ak_polyphase_tiling_points(&tiling) < 0.75 * 9 * ak_conv_out_h(conv) * ak_conv_out_w(conv);
}

size_t ak_polyphase_bf16_packed_bytes(const ak_conv *conv, ak_dtype dtype, ak_direction direction) {
    (void)dtype, (void)direction;
    const size_t blocks = (size_t)ak_blocks(conv->c) * (size_t)ak_blocks(conv->k);
    return sizeof(uint16_t) * AK_POLYPHASE_BF16_MATRICES * 256 * blocks;
}

/// Floats of one partial gradient.
static long gradient_floats(const ak_conv *conv) {
    return AK_POLYPHASE_BF16_MATRICES * ak_polyphase_matrix_stride(conv->c, conv->k);
}

/// Enough tiles to pay for reading the weights of all points once more, few enough that their points stay in the
/// second-level cache. As many as fill the widest register tile at every point.
static ak_polyphase_plan plan_of(
    const ak_conv *conv, ak_direction direction, int n, int threads, void *workspace) {
    enum { UNIT = 4 * AK_POLYPHASE_BF16_GRID }; // points
    const bool forward = direction == AK_FORWARD;
    const int in_blocks = ak_blocks(forward ? conv->c : conv->k), out_blocks = ak_blocks(forward ? conv->k : conv->c);
    const ak_polyphase_tiling tiling = tiling_of(conv, n);
    const ak_split split = ak_split_make(
        threads, (ak_polyphase_tiling_points(&tiling) + UNIT - 1) / UNIT, (out_blocks + 1) / 2);
    return ak_polyphase_plan_make(
        &tiling, split, in_blocks <= 8 ? 28 : 14, 1, 16 * ((in_blocks + 1) / 2 + 2), workspace);
}

/// The plan of the weights' gradient. Each round reads and writes the sums of all matrices once more: with many
/// channels they come from memory, and as few rounds as can be are best.
static ak_polyphase_plan gradient_plan_of(const ak_conv *conv, int n, int threads, void *workspace) {
    const ak_polyphase_tiling tiling = tiling_of(conv, n);
    const ak_split split = ak_polyphase_gradient_split(conv, &tiling, 1, threads);
    const int pairs = (ak_blocks(conv->k) + 1) / 2;
    const int blocks = ak_blocks(conv->c) + 2 * ((pairs + split.blocks - 1) / split.blocks);
    return ak_polyphase_plan_make(
        &tiling, split, blocks <= 32 ? 20 : AK_POLYPHASE_TILES, 2, 16 * blocks, workspace);
}

size_t ak_polyphase_bf16_workspace_bytes(const ak_conv *conv, ak_dtype dtype, int n, int threads) {
    (void)dtype;
    const ak_polyphase_plan gradient = gradient_plan_of(conv, n, threads, NULL);
    long floats = threads * gradient.thread_floats + gradient.split.positions * gradient_floats(conv);
    for (int direction = AK_FORWARD; direction <= AK_BACKWARD; direction++) {
        const long needed = threads * plan_of(conv, (ak_direction)direction, n, threads, NULL).thread_floats;
        if (needed > floats) floats = needed;
    }
    return sizeof(float) * (size_t)floats;
}

void ak_polyphase_bf16_pack(
    ak_pool *pool, const ak_conv *conv, ak_dtype dtype, ak_direction direction, const float *weights, void *packed) {
    (void)dtype;
    ak_bf16_pack_job job = {conv, direction, weights, packed};
    ak_pool_run(pool, KERNEL(ak_polyphase_bf16_pack_part), &job);
}

void ak_polyphase_bf16_forward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const void *packed, const ak_map *y, ak_moments *moments,
    void *workspace) {
    ak_polyphase_bf16_job job = {
        .direction = AK_FORWARD, .in = *x, .out = *y, .weights = packed, .moments = moments,
        .plan = plan_of(conv, AK_FORWARD, y->n, ak_pool_threads(pool), workspace)};
    ak_pool_run(pool, KERNEL(ak_polyphase_bf16_part), &job);
}

void ak_polyphase_bf16_backward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const ak_gradient *dy, const void *packed,
    const ak_conv_gradients *to, void *workspace) {
    AK_REQUIRE(
        !to->reduction.sums || to->reduction.x.dtype == AK_BF16, "the reduction of a bf16 gradient over an fp32 map");
    const int n = dy->map.n, threads = ak_pool_threads(pool);
    if (to->dx.data) {
        ak_polyphase_bf16_job job = {
            .direction = AK_BACKWARD, .in = {.map = dy->map}, .out = to->dx, .weights = packed,
            .accumulate = to->accumulate_dx, .reduction = to->reduction,
            .plan = plan_of(conv, AK_BACKWARD, n, threads, workspace)};
        ak_pool_run(pool, KERNEL(ak_polyphase_bf16_part), &job);
    }
    if (!to->dw) return;
    ak_polyphase_gradient_job job = {
        .x = *x, .dy = dy->map, .plan = gradient_plan_of(conv, n, threads, workspace), .dw = to->dw,
        .accumulate = to->accumulate_dw};
    job.partial = job.plan.workspace + threads * job.plan.thread_floats;
    ak_pool_run(pool, KERNEL(ak_polyphase_bf16_gradient_part), &job);
    ak_pool_run(pool, KERNEL(ak_polyphase_bf16_gradient_sum_part), &job);
}
