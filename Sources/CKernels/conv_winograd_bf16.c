// 3x3 convolution of bf16 maps by Winograd's algorithm with bf16 products: jobs, workspaces. The work is in
// conv_winograd_bf16.inc.h, for processors with bf16 products only.
#include "conv_winograd_bf16.h"

#include "vector.h"

#define AK_KERNELS "conv_winograd_bf16.inc.h"
#include "each_isa.h"

#if defined(__x86_64__)
#define KERNEL(name) name##_avx512bf16
#else
#define KERNEL(name) NULL // nothing is taken there
#endif

/// What the family that gives the weights' gradient takes.
bool ak_winograd_bf16_takes(const ak_conv *conv) {
    return ak_isa_current() == AK_ISA_AVX512_BF16 && ak_winograd_takes(conv);
}

size_t ak_winograd_bf16_packed_bytes(const ak_conv *conv, ak_dtype dtype, ak_direction direction) {
    (void)dtype, (void)direction;
    return sizeof(uint16_t) * AK_WINOGRAD_BF16_POINTS * 256 * (size_t)ak_blocks(conv->c) * (size_t)ak_blocks(conv->k);
}

/// Elements between points of the transformed inputs.
static long input_stride(int channels) { return ((long)ak_blocks(channels) * AK_WINOGRAD_BF16_ROOM / 2 | 1) * 32; }

static size_t thread_bytes(int channels) {
    return AK_WINOGRAD_BF16_POINTS
        * ((size_t)input_stride(channels) * sizeof(uint16_t) + AK_WINOGRAD_BF16_PRODUCTS * sizeof(float));
}

size_t ak_winograd_bf16_workspace_bytes(const ak_conv *conv, ak_dtype dtype, int n, int threads) {
    size_t data = (size_t)threads * thread_bytes(ak_max(conv->c, conv->k));
    size_t weights = ak_winograd_workspace_bytes(conv, dtype, n, threads);
    return data > weights ? data : weights;
}

void ak_winograd_bf16_pack(
    ak_pool *pool, const ak_conv *conv, ak_dtype dtype, ak_direction direction, const float *weights, void *packed) {
    (void)dtype;
    ak_winograd_bf16_pack_job job = {conv, direction, weights, packed};
    ak_pool_run(pool, KERNEL(ak_winograd_bf16_pack_part), &job);
}

static void run(ak_pool *pool, ak_winograd_bf16_job *job) {
    const ak_map *out = &job->out;
    long tiles = (long)out->n * ((out->h + 1) / 2) * ((out->w + 1) / 2);
    job->split = ak_split_make(ak_pool_threads(pool), (tiles + 13) / 14, (ak_blocks(out->c) + 1) / 2);
    job->stride = input_stride(job->in.map.c);
    job->thread_bytes = thread_bytes(job->in.map.c);
    ak_pool_run(pool, KERNEL(ak_winograd_bf16_part), job);
}

void ak_winograd_bf16_forward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const void *packed, const ak_map *y, ak_moments *moments,
    void *workspace) {
    (void)conv;
    run(pool, &(ak_winograd_bf16_job){
        .in = *x, .out = *y, .weights = packed, .moments = moments, .workspace = workspace});
}

/// dx: the same convolution with the taps turned round and the channels exchanged. dw: from fp32 products.
void ak_winograd_bf16_backward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const ak_gradient *dy, const void *packed,
    const ak_conv_gradients *to, void *workspace) {
    AK_REQUIRE(
        !to->reduction.sums || to->reduction.x.dtype == AK_BF16, "the reduction of a bf16 gradient over an fp32 map");
    if (to->dx.data)
        run(pool, &(ak_winograd_bf16_job){
            .in = {.map = dy->map}, .out = to->dx, .weights = packed, .accumulate = to->accumulate_dx,
            .reduction = to->reduction, .workspace = workspace});
    if (to->dw) {
        const ak_conv_gradients weights = {.dw = to->dw, .accumulate_dw = to->accumulate_dw};
        ak_winograd_backward(pool, conv, x, dy, NULL, &weights, workspace);
    }
}
