// The first convolution: jobs, workspaces, dispatch. The work is in conv_stem.inc.h.
#include "conv_stem.h"

#include "fusion.h"
#include "vector.h"

#define AK_KERNELS "conv_stem.inc.h"
#include "each_isa.h"

static int tap_count(const ak_conv *conv) { return conv->c * conv->kh * conv->kw; }

static void check(const ak_conv *conv, const ak_map *y, int n) {
    AK_REQUIRE(
        conv->c >= 1 && conv->c <= 4 && conv->groups == 1 && tap_count(conv) <= AK_STEM_TAPS
            && (conv->stride == 1 || conv->stride == 2) && (conv->pad == 0 || conv->pad == 1),
        "first convolution of %d channels, %dx%d, stride %d, pad %d, %d groups", conv->c, conv->kh, conv->kw,
        conv->stride, conv->pad, conv->groups);
    AK_REQUIRE(
        y->n == n && y->c == conv->k && y->h == ak_conv_out_h(conv) && y->w == ak_conv_out_w(conv),
        "first convolution to %d x %d x %d x %d given a map of %d x %d x %d x %d", n, conv->k, ak_conv_out_h(conv),
        ak_conv_out_w(conv), y->n, y->c, y->h, y->w);
}

size_t ak_stem_workspace_bytes(const ak_conv *conv, int n, int threads) {
    (void)n;
    const long blocks = ak_blocks(conv->k), taps = tap_count(conv);
    // The weights of forward and the partial gradients of backward share their place.
    const long floats = ak_stem_scratch_floats(conv) + blocks * (taps + AK_STEM_GROUP) * 16;
    return (size_t)threads * (size_t)floats * sizeof(float);
}

void ak_stem_forward(
    ak_pool *pool, const ak_conv *conv, const float *images, int n, const float *weights, ak_map y, ak_moments *moments,
    void *workspace) {
    check(conv, &y, n);
    const int taps = tap_count(conv);
    ak_stem_job job = {
        .conv = conv, .images = images, .n = n, .y = y, .moments = moments, .scratch = workspace};
    float *packed = job.scratch + ak_pool_threads(pool) * ak_stem_scratch_floats(conv);
    for (int k = 0; k < ak_blocks(conv->k) * 16; k++)
        for (int t = 0; t < taps; t++)
            packed[((long)(k / 16) * taps + t) * 16 + k % 16] = k < conv->k ? weights[(long)k * taps + t] : 0;
    job.weights = packed;
    ak_pool_run(pool, AK_DISPATCH(ak_stem_forward_part), &job);
}

void ak_stem_backward_weights(
    ak_pool *pool, const ak_conv *conv, const float *images, int n, ak_gradient dy, float *dw, bool accumulate,
    void *workspace) {
    check(conv, &dy.map, n);
    AK_REQUIRE(
        !dy.chain.x.data || (ak_same_shape(&dy.chain.x, &dy.map) && dy.chain.x.dtype == dy.map.dtype),
        "a first convolution's chain over a map of another shape or type");
    const int taps = tap_count(conv), held = taps + AK_STEM_GROUP, threads = ak_pool_threads(pool);
    ak_stem_job job = {.conv = conv, .images = images, .n = n, .dy = dy, .scratch = workspace};
    job.partial = job.scratch + threads * ak_stem_scratch_floats(conv);
    ak_pool_run(pool, AK_DISPATCH(ak_stem_gradient_part), &job);
    const long size = (long)ak_blocks(conv->k) * held * 16;
    for (int k = 0; k < conv->k; k++)
        for (int t = 0; t < taps; t++) {
            const float *from = job.partial + ((long)(k / 16) * held + t) * 16 + k % 16;
            float sum = from[0];
            for (int i = 1; i < threads; i++) sum += from[i * size];
            float *to = dw + (long)k * taps + t;
            *to = accumulate ? *to + sum : sum;
        }
}
