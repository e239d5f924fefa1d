// Depthwise convolutions: jobs, workspaces, dispatch. The work is in conv_depthwise.inc.h.
#include "conv_depthwise.h"

#include "vector.h"

#define AK_KERNELS "conv_depthwise.inc.h"
#include "each_isa.h"

bool ak_depthwise_takes(const ak_conv *conv) {
    return conv->groups > 1 && conv->groups == conv->c && conv->c == conv->k;
}

static long packed_floats(const ak_conv *conv) { return (long)ak_blocks(conv->c) * conv->kh * conv->kw * 16; }

long ak_depthwise_thread_floats(const ak_conv *conv) {
    return (long)(1 + AK_DEPTHWISE_RING) * (ak_max(conv->w, ak_conv_out_w(conv)) + 2) * 16;
}

size_t ak_depthwise_packed_bytes(const ak_conv *conv) { return (size_t)packed_floats(conv) * sizeof(float); }

size_t ak_depthwise_workspace_bytes(const ak_conv *conv, int n, int threads) {
    (void)n;
    return (size_t)threads * (size_t)(ak_depthwise_thread_floats(conv) + packed_floats(conv)) * sizeof(float);
}

void ak_depthwise_pack(ak_pool *pool, const ak_conv *conv, const float *weights, float *packed) {
    (void)pool;
    int taps = conv->kh * conv->kw;
    memset(packed, 0, ak_depthwise_packed_bytes(conv));
    for (int c = 0; c < conv->c; c++)
        for (int t = 0; t < taps; t++) packed[((long)(c / 16) * taps + t) * 16 + c % 16] = weights[(long)c * taps + t];
}

void ak_depthwise_forward(
    ak_pool *pool, const ak_conv *conv, const ak_map *x, const float *packed, const ak_map *y, void *workspace) {
    ak_depthwise_job job = {.conv = conv, .x = *x, .out = *y, .weights = packed, .workspace = workspace};
    ak_pool_run(pool, AK_DISPATCH(ak_depthwise_forward_part), &job);
}

void ak_depthwise_backward_data(
    ak_pool *pool, const ak_conv *conv, const ak_map *dy, const float *packed, const ak_map *dx, bool accumulate,
    void *workspace) {
    ak_depthwise_job job = {
        .conv = conv, .dy = *dy, .out = *dx, .weights = packed, .accumulate = accumulate, .workspace = workspace};
    ak_pool_run(pool, AK_DISPATCH(ak_depthwise_backward_part), &job);
}

/// Sums the threads' gradients in their order. A few thousand numbers: not worth the other threads.
static void sum_partials(const ak_depthwise_job *job, int threads) {
    int taps = job->conv->kh * job->conv->kw;
    long size = packed_floats(job->conv);
    for (int c = 0; c < job->conv->c; c++)
        for (int t = 0; t < taps; t++) {
            const float *from = job->partial + ((long)(c / 16) * taps + t) * 16 + c % 16;
            float sum = from[0];
            for (int i = 1; i < threads; i++) sum += from[i * size];
            float *to = job->dw + (long)c * taps + t;
            *to = job->accumulate ? *to + sum : sum;
        }
}

void ak_depthwise_backward_weights(
    ak_pool *pool, const ak_conv *conv, const ak_map *x, const ak_map *dy, float *dw, bool accumulate,
    void *workspace) {
    int threads = ak_pool_threads(pool);
    ak_depthwise_job job = {
        .conv = conv, .x = *x, .dy = *dy, .dw = dw, .accumulate = accumulate, .workspace = workspace};
    job.partial = job.workspace + threads * ak_depthwise_thread_floats(conv);
    ak_pool_run(pool, AK_DISPATCH(ak_depthwise_gradient_part), &job);
    sum_partials(&job, threads);
}
