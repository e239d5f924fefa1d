// Depthwise convolutions: jobs, workspaces, dispatch. The work is in conv_depthwise.inc.h.
#include "conv_depthwise.h"

#include "fusion.h"
#include "vector.h"

#define AK_KERNELS "conv_depthwise.inc.h"
#include "each_isa.h"

bool ak_depthwise_takes(const ak_conv *conv) {
    return conv->groups > 1 && conv->groups == conv->c && conv->c == conv->k;
}

size_t ak_depthwise_packed_bytes(const ak_conv *conv, ak_dtype dtype, ak_direction direction) {
    (void)dtype, (void)direction;
    return (size_t)ak_depthwise_packed_floats(conv) * sizeof(float);
}

size_t ak_depthwise_workspace_bytes(const ak_conv *conv, ak_dtype dtype, int n, int threads) {
    (void)dtype, (void)n;
    return (size_t)threads * (size_t)(ak_depthwise_scratch_floats(conv) + ak_depthwise_packed_floats(conv))
        * sizeof(float);
}

void ak_depthwise_pack(
    ak_pool *pool, const ak_conv *conv, ak_dtype dtype, ak_direction direction, const float *weights, void *packed) {
    (void)pool;
    const int taps = conv->kh * conv->kw;
    float *to = packed;
    memset(to, 0, ak_depthwise_packed_bytes(conv, dtype, direction));
    for (int c = 0; c < conv->c; c++)
        for (int t = 0; t < taps; t++) {
            const int tap = direction == AK_FORWARD ? t : taps - 1 - t;
            to[((long)(c / 16) * taps + tap) * 16 + c % 16] = weights[(long)c * taps + t];
        }
}

void ak_depthwise_forward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const void *packed, const ak_map *y, ak_moments *moments,
    void *workspace) {
    ak_depthwise_job job = {
        .conv = conv, .x = *x, .y = *y, .moments = moments, .weights = packed, .scratch = workspace};
    ak_pool_run(pool, AK_DISPATCH(ak_depthwise_forward_part), &job);
}

/// Sums the threads' gradients in their order. A few thousand numbers: not worth the other threads.
static void sum_partials(const ak_depthwise_job *job, int threads) {
    const int taps = job->conv->kh * job->conv->kw;
    const long size = ak_depthwise_packed_floats(job->conv);
    for (int c = 0; c < job->conv->c; c++)
        for (int t = 0; t < taps; t++) {
            const float *from = job->partial + ((long)(c / 16) * taps + taps - 1 - t) * 16 + c % 16;
            float sum = from[0];
            for (int i = 1; i < threads; i++) sum += from[i * size];
            float *to = job->to->dw + (long)c * taps + t;
            *to = job->to->accumulate_dw ? *to + sum : sum;
        }
}

void ak_depthwise_backward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const ak_gradient *dy, const void *packed,
    const ak_conv_gradients *to, void *workspace) {
    AK_REQUIRE(
        !to->reduction.sums || to->reduction.x.dtype == dy->map.dtype,
        "a depthwise convolution's reduction over a map of another type");
    if (!to->dx.data && !to->dw) return;
    const int threads = ak_pool_threads(pool);
    ak_depthwise_job job = {
        .conv = conv, .x = *x, .dy = *dy, .to = to, .weights = packed, .scratch = workspace};
    job.partial = job.scratch + threads * ak_depthwise_scratch_floats(conv);
    ak_pool_run(pool, AK_DISPATCH(ak_depthwise_backward_part), &job);
    if (to->dw) sum_partials(&job, threads);
}
