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

/// A family of kernels.
typedef struct {
    size_t (*packed_bytes)(const ak_conv *, ak_dtype, ak_direction);
    size_t (*workspace_bytes)(const ak_conv *, ak_dtype, int, int);
    void (*pack)(ak_pool *, const ak_conv *, ak_dtype, ak_direction, const float *, void *);
    void (*forward)(ak_pool *, const ak_conv *, const ak_source *, const void *, const ak_map *, ak_moments *, void *);
    void (*backward)(
        ak_pool *, const ak_conv *, const ak_source *, const ak_gradient *, const void *, const ak_conv_gradients *,
        void *);
    bool chains;
} family;

#define FAMILY(name, chains) \
    static const family name = { \
        ak_##name##_packed_bytes, ak_##name##_workspace_bytes, ak_##name##_pack, ak_##name##_forward, \
        ak_##name##_backward, chains};
FAMILY(gemm, false)
FAMILY(pointwise, true)
FAMILY(winograd, false)
FAMILY(polyphase, false)
FAMILY(winograd_bf16, false)
FAMILY(polyphase_bf16, false)
FAMILY(depthwise, true)

static const family *family_of(const ak_conv *conv, ak_dtype dtype) {
    AK_REQUIRE(
        conv->c >= 1 && conv->k >= 1 && conv->groups >= 1 && conv->c % conv->groups == 0 && conv->k % conv->groups == 0,
        "convolution of %d to %d channels in %d groups", conv->c, conv->k, conv->groups);
    AK_REQUIRE(
        (conv->stride == 1 || conv->stride == 2) && (conv->pad == 0 || conv->pad == 1),
        "convolution with stride %d, pad %d", conv->stride, conv->pad);
    AK_REQUIRE(
        conv->kh >= 1 && conv->kw >= 1 && conv->h + 2 * conv->pad >= conv->kh && conv->w + 2 * conv->pad >= conv->kw,
        "%dx%d convolution of a %dx%d map", conv->kh, conv->kw, conv->h, conv->w);
    if (ak_depthwise_takes(conv)) return &depthwise;
    if (ak_pointwise_takes(conv)) return &pointwise;
    if (dtype == AK_BF16 && ak_winograd_bf16_takes(conv)) return &winograd_bf16;
    if (dtype == AK_BF16 && ak_polyphase_bf16_takes(conv)) return &polyphase_bf16;
    if (ak_winograd_takes(conv)) return &winograd;
    return ak_polyphase_takes(conv) ? &polyphase : &gemm;
}

/// Checks that the maps are the convolution's input and output; returns the family.
static const family *check(const ak_conv *conv, const ak_map *input, const ak_map *output) {
    const family *f = family_of(conv, output->dtype);
    AK_REQUIRE(
        !input->data || !output->data || input->dtype == output->dtype, "convolution of maps of different element types");
    AK_REQUIRE(
        !input->data || (input->c == conv->c && input->h == conv->h && input->w == conv->w),
        "convolution of %d x %d x %d given an input map of %d x %d x %d", conv->c, conv->h, conv->w, input->c, input->h,
        input->w);
    AK_REQUIRE(
        output->c == conv->k && output->h == ak_conv_out_h(conv) && output->w == ak_conv_out_w(conv)
            && (!input->data || output->n == input->n),
        "convolution to %d x %d x %d x %d given an output map of %d x %d x %d x %d", input->n, conv->k,
        ak_conv_out_h(conv), ak_conv_out_w(conv), output->n, output->c, output->h, output->w);
    return f;
}

size_t ak_conv_packed_bytes(const ak_conv *conv, ak_dtype dtype, ak_direction direction) {
    return family_of(conv, dtype)->packed_bytes(conv, dtype, direction);
}

size_t ak_conv_workspace_bytes(const ak_conv *conv, ak_dtype dtype, int n, int threads) {
    AK_REQUIRE(threads >= 1, "workspace for %d threads", threads);
    const family *f = family_of(conv, dtype);
    // Fewer images may be split otherwise, and then need more.
    size_t most = 0;
    for (int images = 1; images <= n; images++) {
        const size_t bytes = f->workspace_bytes(conv, dtype, images, threads);
        if (bytes > most) most = bytes;
    }
    return most;
}

bool ak_conv_chains(const ak_conv *conv, ak_dtype dtype) { return family_of(conv, dtype)->chains; }

void ak_conv_pack(
    ak_pool *pool, const ak_conv *conv, ak_dtype dtype, ak_direction direction, const float *weights, void *packed) {
    family_of(conv, dtype)->pack(pool, conv, dtype, direction, weights, packed);
}

void ak_conv_forward(
    ak_pool *pool, const ak_conv *conv, ak_source x, const void *packed, ak_map y, ak_moments *moments,
    void *workspace) {
    check(conv, &x.map, &y)->forward(pool, conv, &x, packed, &y, moments, workspace);
}

void ak_conv_backward(
    ak_pool *pool, const ak_conv *conv, ak_source x, ak_gradient dy, const void *packed, const ak_conv_gradients *to,
    void *workspace) {
    const family *f = check(conv, &x.map, &dy.map);
    check(conv, &to->dx, &dy.map);
    AK_REQUIRE(x.map.data || !to->dw, "the weights' gradient of a convolution without its input");
    AK_REQUIRE(
        !to->reduction.sums || (to->dx.data && ak_same_shape(&to->reduction.x, &to->dx)),
        "a convolution's reduction without its gradient or of another shape");
    AK_REQUIRE(!dy.chain.x.data || f->chains, "a chain given to a convolution that does not apply it");
    AK_REQUIRE(
        !dy.chain.x.data || (ak_same_shape(&dy.chain.x, &dy.map) && dy.chain.x.dtype == dy.map.dtype),
        "a chain over a map of another shape or type");
    f->backward(pool, conv, &x, &dy, packed, to, workspace);
}
