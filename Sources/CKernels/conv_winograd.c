// 3x3 convolution by Winograd's algorithm: jobs, workspaces, dispatch. The work is in conv_winograd.inc.h.
#include "conv_winograd.h"

#include "fusion.h"

#define AK_KERNELS "conv_winograd.inc.h"
#include "each_isa.h"

/// Small maps waste most of their tiles, and few channels do not repay the transforms.
bool ak_winograd_takes(const ak_conv *conv) {
    return conv->kh == 3 && conv->kw == 3 && conv->stride == 1 && conv->pad == 1 && conv->groups == 1 && conv->c >= 16
        && conv->k >= 16 && conv->h >= 5 && conv->w >= 5;
}

static long weight_floats(const ak_conv *conv) {
    return AK_WINOGRAD_POINTS * ak_winograd_weight_stride(conv->c, conv->k);
}

static long tile_count(const ak_conv *conv, int n) { return (long)n * ((conv->h + 3) / 4) * ((conv->w + 3) / 4); }

static ak_winograd_panel panel_of(int in, int out, int tiles) {
    return (ak_winograd_panel){
        .tiles = tiles, .in = (long)ak_blocks(in) * tiles * 16 + AK_WINOGRAD_PADDING,
        .out = (long)ak_blocks(out) * tiles * 16 + AK_WINOGRAD_PADDING};
}

/// Few channels: as many tiles as keep both panels in the second-level cache. Many: enough tiles to pay for reading
/// the weights of all points once more. Multiples of the widest register tile.
static ak_winograd_panel panel_make(int in, int out) {
    int channels = (ak_blocks(in) + ak_blocks(out)) * 16;
    return panel_of(in, out, channels <= 160 ? 14 : channels <= 640 ? 28 : 70);
}

/// Each round of the gradient reads and writes the sums of all points once more, so it takes more tiles.
static ak_winograd_panel gradient_panel_make(int in, int out) {
    int channels = (ak_blocks(in) + ak_blocks(out)) * 16;
    return panel_of(in, out, channels <= 160 ? 28 : 70);
}

static long thread_floats(const ak_winograd_panel *panel) { return AK_WINOGRAD_POINTS * (panel->in + panel->out); }

/// Splitting positions costs a partial gradient each; splitting output blocks transforms the inputs again.
static ak_split gradient_split(const ak_conv *conv, int n, int threads) {
    enum { LIMIT = 16 << 20 }; // floats of all partial gradients
    long tiles = tile_count(conv, n);
    int pairs = (ak_blocks(conv->k) + 1) / 2, most = ak_max(1, (int)(LIMIT / weight_floats(conv)));
    ak_split best = {1, 1};
    double least = 1e300, products = 36.0 * ak_blocks(conv->c) * 32; // vector operations per pair of blocks and tile
    for (int a = ak_min(threads, most); a >= 1; a--) {
        if (a > 1 && tiles / a < 8) continue;
        int b = ak_min(threads / a, pairs);
        double share = (double)((tiles + a - 1) / a), blocks = (pairs + b - 1) / b;
        double cost = share * (blocks * products + 250.0 * ak_blocks(conv->c) + 500 * blocks)
            + products * pairs * (1.5 * a + 3) / (a * b);
        if (cost < least) least = cost, best = (ak_split){a, b};
    }
    return best;
}

size_t ak_winograd_packed_bytes(const ak_conv *conv, ak_dtype dtype, ak_direction direction) {
    (void)dtype;
    (void)direction;
    return (size_t)weight_floats(conv) * sizeof(float);
}

size_t ak_winograd_workspace_bytes(const ak_conv *conv, ak_dtype dtype, int n, int threads) {
    (void)dtype;
    // The gradient's panels are the larger ones.
    ak_winograd_panel panel = gradient_panel_make(conv->c, conv->k);
    ak_split split = gradient_split(conv, n, threads);
    return sizeof(float)
        * ((size_t)threads * (size_t)thread_floats(&panel) + (size_t)split.positions * (size_t)weight_floats(conv));
}

void ak_winograd_pack(
    ak_pool *pool, const ak_conv *conv, ak_dtype dtype, ak_direction direction, const float *weights, void *packed) {
    (void)dtype;
    ak_pool_run(pool, AK_DISPATCH(ak_winograd_pack_part), &(ak_winograd_pack_job){conv, direction, weights, packed});
}

/// The job's maps and epilogue are set.
static void run(ak_pool *pool, ak_winograd_job job, const void *weights, void *workspace) {
    const ak_map *in = &job.in.map, *out = &job.out;
    job.weights = weights;
    job.workspace = workspace;
    job.panel = panel_make(in->c, out->c);
    job.thread_floats = thread_floats(&job.panel);
    job.split = ak_split_make(ak_pool_threads(pool), (ak_winograd_tiles(out) + 3) / 4, (ak_blocks(out->c) + 1) / 2);
    if (job.finish == AK_STORE && ak_streams(out)) job.finish = AK_STREAM;
    ak_pool_run(pool, AK_DISPATCH(ak_winograd_part), &job);
}

void ak_winograd_forward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const void *packed, const ak_map *y, ak_moments *moments,
    void *workspace) {
    (void)conv;
    run(pool, (ak_winograd_job){.in = *x, .out = *y, .finish = AK_STORE, .moments = moments}, packed, workspace);
}

static void backward_weights(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const ak_map *dy, const ak_conv_gradients *to,
    void *workspace) {
    int threads = ak_pool_threads(pool);
    ak_winograd_gradient_job job = {
        .x = *x, .dy = {.map = *dy}, .split = gradient_split(conv, dy->n, threads),
        .panel = gradient_panel_make(conv->c, conv->k), .workspace = workspace, .dw = to->dw,
        .accumulate = to->accumulate_dw};
    job.thread_floats = thread_floats(&job.panel);
    job.partial = job.workspace + threads * job.thread_floats;
    ak_pool_run(pool, AK_DISPATCH(ak_winograd_gradient_part), &job);
    ak_pool_run(pool, AK_DISPATCH(ak_winograd_gradient_sum_part), &job);
}

/// The gradient of the input is the same convolution with the taps turned round and the channels exchanged.
void ak_winograd_backward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const ak_gradient *dy, const void *packed,
    const ak_conv_gradients *to, void *workspace) {
    if (to->dw) backward_weights(pool, conv, x, &dy->map, to, workspace);
    if (!to->dx.data) return;
    ak_winograd_job job = {
        .in = {.map = dy->map}, .out = to->dx, .finish = to->accumulate_dx ? AK_ADD : AK_STORE,
        .reduction = to->reduction};
    run(pool, job, packed, workspace);
}
