// Convolutions: checks, and the choice of the family of kernels that a geometry gets.
#include "conv_internal.h"

int ak_conv_out_h(const ak_conv *conv) { return (conv->h + 2 * conv->pad - conv->kh) / conv->stride + 1; }
int ak_conv_out_w(const ak_conv *conv) { return (conv->w + 2 * conv->pad - conv->kw) / conv->stride + 1; }

ak_split ak_split_make(int threads, long positions, int blocks) {
    ak_split best = {1, 1};
    double least = 1e300;
    for (int a = threads; a >= 1; a--) {
        int b = ak_min(threads / a, blocks);
        // Every part of the blocks reads all its positions anew: a little dearer than its share.
        double cost = (double)((positions + a - 1) / a) * (double)((blocks + b - 1) / b) * (1 + 0.02 * (b - 1));
        if (cost < least) least = cost, best = (ak_split){a, b};
    }
    return best;
}

ak_range ak_group_range(int block, int out, int in, int groups) {
    if (groups == 1) return (ak_range){0, ak_blocks(in)};
    int out_group = out / groups, in_group = in / groups;
    int first = block * 16 / out_group, last = (ak_min(out, block * 16 + 16) - 1) / out_group;
    int c0 = first * in_group / 16, c1 = ((last + 1) * in_group - 1) / 16;
    return (ak_range){c0, c1 - c0 + 1};
}

int ak_group_range_max(int out, int in, int groups) {
    if (groups == 1) return ak_blocks(in);
    int most = 0;
    for (int b = 0; b < ak_blocks(out); b++) most = ak_max(most, ak_group_range(b, out, in, groups).count);
    return most;
}

typedef enum { GEMM, WINOGRAD, DEPTHWISE } family;

static family family_of(const ak_conv *conv) {
    AK_REQUIRE(
        conv->c >= 1 && conv->k >= 1 && conv->groups >= 1 && conv->c % conv->groups == 0 && conv->k % conv->groups == 0,
        "convolution of %d to %d channels in %d groups", conv->c, conv->k, conv->groups);
    AK_REQUIRE(
        (conv->stride == 1 || conv->stride == 2) && (conv->pad == 0 || conv->pad == 1),
        "convolution with stride %d, pad %d", conv->stride, conv->pad);
    AK_REQUIRE(
        conv->kh >= 1 && conv->kw >= 1 && conv->h + 2 * conv->pad >= conv->kh && conv->w + 2 * conv->pad >= conv->kw,
        "%dx%d convolution of a %dx%d map", conv->kh, conv->kw, conv->h, conv->w);
    if (ak_depthwise_takes(conv)) return DEPTHWISE;
    return ak_winograd_takes(conv) ? WINOGRAD : GEMM;
}

/// Checks that the maps are the convolution's input and output; returns the family.
static family check(const ak_conv *conv, const ak_map *input, const ak_map *output) {
    family f = family_of(conv);
    AK_REQUIRE(input->dtype == AK_F32 && output->dtype == AK_F32, "convolution of maps that are not fp32");
    AK_REQUIRE(
        input->c == conv->c && input->h == conv->h && input->w == conv->w,
        "convolution of %d x %d x %d given an input map of %d x %d x %d", conv->c, conv->h, conv->w, input->c, input->h,
        input->w);
    AK_REQUIRE(
        output->c == conv->k && output->h == ak_conv_out_h(conv) && output->w == ak_conv_out_w(conv)
            && output->n == input->n,
        "convolution to %d x %d x %d x %d given an output map of %d x %d x %d x %d", input->n, conv->k,
        ak_conv_out_h(conv), ak_conv_out_w(conv), output->n, output->c, output->h, output->w);
    return f;
}

size_t ak_conv_packed_bytes(const ak_conv *conv) {
    switch (family_of(conv)) {
    case DEPTHWISE: return ak_depthwise_packed_bytes(conv);
    case WINOGRAD: return ak_winograd_packed_bytes(conv);
    case GEMM: break;
    }
    return ak_gemm_packed_bytes(conv);
}

size_t ak_conv_workspace_bytes(const ak_conv *conv, int n, int threads) {
    AK_REQUIRE(threads >= 1, "workspace for %d threads", threads);
    switch (family_of(conv)) {
    case DEPTHWISE: return ak_depthwise_workspace_bytes(conv, n, threads);
    case WINOGRAD: return ak_winograd_workspace_bytes(conv, n, threads);
    case GEMM: break;
    }
    return ak_gemm_workspace_bytes(conv, n, threads);
}

void ak_conv_pack(ak_pool *pool, const ak_conv *conv, const float *weights, void *packed) {
    switch (family_of(conv)) {
    case DEPTHWISE: ak_depthwise_pack(pool, conv, weights, packed); break;
    case WINOGRAD: ak_winograd_pack(pool, conv, weights, packed); break;
    case GEMM: ak_gemm_pack(pool, conv, weights, packed); break;
    }
}

void ak_conv_forward(ak_pool *pool, const ak_conv *conv, ak_map x, const void *packed, ak_map y, void *workspace) {
    switch (check(conv, &x, &y)) {
    case DEPTHWISE: ak_depthwise_forward(pool, conv, &x, packed, &y, workspace); break;
    case WINOGRAD: ak_winograd_forward(pool, conv, &x, packed, &y, workspace); break;
    case GEMM: ak_gemm_forward(pool, conv, &x, packed, &y, workspace); break;
    }
}

void ak_conv_backward_data(
    ak_pool *pool, const ak_conv *conv, ak_map dy, const void *packed, ak_map dx, bool accumulate, void *workspace) {
    switch (check(conv, &dx, &dy)) {
    case DEPTHWISE: ak_depthwise_backward_data(pool, conv, &dy, packed, &dx, accumulate, workspace); break;
    case WINOGRAD: ak_winograd_backward_data(pool, conv, &dy, packed, &dx, accumulate, workspace); break;
    case GEMM: ak_gemm_backward_data(pool, conv, &dy, packed, &dx, accumulate, workspace); break;
    }
}

void ak_conv_backward_weights(
    ak_pool *pool, const ak_conv *conv, ak_map x, ak_map dy, float *dw, bool accumulate, void *workspace) {
    switch (check(conv, &x, &dy)) {
    case DEPTHWISE: ak_depthwise_backward_weights(pool, conv, &x, &dy, dw, accumulate, workspace); break;
    case WINOGRAD: ak_winograd_backward_weights(pool, conv, &x, &dy, dw, accumulate, workspace); break;
    case GEMM: ak_gemm_backward_weights(pool, conv, &x, &dy, dw, accumulate, workspace); break;
    }
}
