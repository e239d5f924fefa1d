// Convolution as a matrix product over gathered panels: jobs, workspaces, dispatch. The work is in conv_gemm.inc.h.
#include "conv_gemm.h"

#include "vector.h"

#define AK_KERNELS "conv_gemm.inc.h"
#include "each_isa.h"

static int taps(const ak_conv *conv) { return conv->kh * conv->kw; }

/// Blocks of 16 x 16 weights packed for one direction.
static long packed_blocks(const ak_conv *conv, ak_direction direction) {
    int out = direction == AK_FORWARD ? conv->k : conv->c, in = direction == AK_FORWARD ? conv->c : conv->k;
    return (long)ak_blocks(out) * taps(conv) * ak_group_range_max(out, in, conv->groups);
}

long ak_gemm_gradient_floats(const ak_conv *conv) { return packed_blocks(conv, AK_FORWARD) * 256; }

size_t ak_gemm_packed_bytes(const ak_conv *conv, ak_dtype dtype, ak_direction direction) {
    return (size_t)packed_blocks(conv, direction) * 256
        * (ak_multiplies_bf16(dtype) ? sizeof(uint16_t) : sizeof(float));
}

void ak_gemm_pack(
    ak_pool *pool, const ak_conv *conv, ak_dtype dtype, ak_direction direction, const float *weights, void *packed) {
    ak_gemm_pack_job job = {conv, weights, packed, direction, ak_multiplies_bf16(dtype)};
    ak_pool_run(pool, AK_DISPATCH(ak_gemm_pack_part), &job);
}

// --------------------------------------------------------------------------------------------------------- workspaces

/// Floats of one panel of one thread.
static long panel_floats(int steps) { return (long)ak_min(steps, AK_GEMM_STEPS) * AK_PANEL * 16; }

/// Floats of one thread's share of the workspace to write a map of `out` channels.
static long thread_floats(const ak_conv *conv, int out, int in) {
    int steps = taps(conv) * ak_group_range_max(out, in, conv->groups);
    return panel_floats(steps) + (steps > AK_GEMM_STEPS ? (long)ak_blocks(out) * AK_PANEL * 16 : 0);
}

static long gradient_thread_floats(const ak_conv *conv) {
    int steps = taps(conv) * ak_group_range_max(conv->k, conv->c, conv->groups);
    return panel_floats(steps) + (long)ak_blocks(conv->k) * AK_PANEL * 16;
}

/// Partial gradients cost memory and a second pass, so positions are split only where the output blocks do not suffice
/// or there are many positions for each weight.
static ak_split gradient_split(const ak_conv *conv, int n, int threads) {
    enum { LIMIT = 16 << 20 }; // floats of all partial gradients
    long positions = (long)n * ak_conv_out_h(conv) * ak_conv_out_w(conv);
    int pairs = (ak_blocks(conv->k) + 1) / 2, most = ak_max(1, (int)(LIMIT / ak_gemm_gradient_floats(conv)));
    long units = (positions + 63) / 64;
    ak_split best = {1, 1};
    double least = 1e300;
    for (int a = ak_min(threads, most); a >= 1; a--) {
        int b = ak_min(threads / a, pairs);
        if (a > units) continue;
        double share = (double)((units + a - 1) / a) * 64, blocks = (pairs + b - 1) / b;
        // Products, gathering for each block part, and the sum of the partial gradients.
        double cost = share * blocks * 2 * conv->c + share * (conv->c + 16 * blocks)
            + (double)a * pairs * 2 * conv->c / ak_min(threads, a * b) * 2;
        if (cost < least) least = cost, best = (ak_split){a, b};
    }
    return best;
}

size_t ak_gemm_workspace_bytes(const ak_conv *conv, ak_dtype dtype, int n, int threads) {
    (void)dtype;
    long forward = threads * thread_floats(conv, conv->k, conv->c);
    long backward = threads * thread_floats(conv, conv->c, conv->k);
    long gradient = threads * gradient_thread_floats(conv)
        + gradient_split(conv, n, threads).positions * ak_gemm_gradient_floats(conv);
    long most = forward > backward ? forward : backward;
    return (size_t)(most > gradient ? most : gradient) * sizeof(float);
}

// --------------------------------------------------------------------------------------------------------- directions

static void run(ak_pool *pool, ak_gemm_job *job) {
    long positions = (long)job->walk.in.n * job->walk.rows * job->walk.cols;
    long tiles = (positions + AK_TILE_MAX - 1) / AK_TILE_MAX;
    job->split = ak_split_make(ak_pool_threads(pool), tiles, (ak_blocks(job->y.map.c) + 1) / 2);
    job->half = ak_multiplies_bf16(job->x.map.dtype);
    ak_pool_run(pool, AK_DISPATCH(ak_gemm_part), job);
}

static ak_walk forward_walk(const ak_conv *conv, const ak_map *x, const ak_map *y) {
    return (ak_walk){
        .in = *x, .out = *y, .rows = y->h, .cols = y->w, .out_stride = 1, .stride = conv->stride, .row0 = -conv->pad,
        .col0 = -conv->pad, .step = 1, .taps_rows = conv->kh, .taps_cols = conv->kw, .groups = conv->groups};
}

void ak_gemm_forward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const void *packed, const ak_map *y, ak_moments *moments,
    void *workspace) {
    ak_gemm_job job = {
        .walk = forward_walk(conv, &x->map, y), .x = *x, .weights = packed,
        .y = {.map = *y, .stream = ak_streams(y), .moments = moments}, .begin = true, .workspace = workspace,
        .thread_floats = thread_floats(conv, conv->k, conv->c)};
    run(pool, &job);
}

/// With stride s, the inputs (row, col) of one parity class modulo s meet the taps of one parity class: each class is a
/// convolution of dy with stride 1 and its own taps.
static void backward_data(
    ak_pool *pool, const ak_conv *conv, const ak_map *dy, const char *packed, const ak_conv_gradients *to,
    void *workspace) {
    int s = conv->stride;
    size_t tap_bytes = ak_gemm_packed_bytes(conv, dy->dtype, AK_BACKWARD) / (size_t)taps(conv);
    bool begin = true;
    for (int a = 0; a < ak_min(s, conv->h); a++)
        for (int b = 0; b < ak_min(s, conv->w); b++) {
            int rows = ak_class_taps(conv, a, conv->kh), cols = ak_class_taps(conv, b, conv->kw);
            // Tap t = first + i*s reads dy at (class + pad - t)/s = base - i.
            int row0 = (a + conv->pad) / s, col0 = (b + conv->pad) / s;
            ak_gemm_job job = {
                .walk = {
                    .in = *dy, .out = to->dx, .rows = (conv->h - a + s - 1) / s, .cols = (conv->w - b + s - 1) / s,
                    .out_stride = s, .out_row = a, .out_col = b, .stride = 1, .row0 = row0, .col0 = col0, .step = -1,
                    .taps_rows = cols > 0 ? rows : 0, .taps_cols = rows > 0 ? cols : 0, .groups = conv->groups},
                .x = {.map = *dy}, .weights = packed + (size_t)ak_class_taps_before(conv, a, b) * tap_bytes,
                .y = {
                    .map = to->dx, .accumulate = to->accumulate_dx,
                    .stream = !to->accumulate_dx && ak_streams(&to->dx), .reduction = to->reduction},
                .begin = begin, .workspace = workspace, .thread_floats = thread_floats(conv, conv->c, conv->k)};
            run(pool, &job);
            begin = false;
        }
}

static void backward_weights(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const ak_gradient *dy, const ak_conv_gradients *to,
    float *workspace) {
    int threads = ak_pool_threads(pool);
    ak_gemm_gradient_job job = {
        .walk = forward_walk(conv, &x->map, &dy->map), .x = *x, .dy = *dy,
        .partial_floats = ak_gemm_gradient_floats(conv), .split = gradient_split(conv, x->map.n, threads),
        .workspace = workspace, .thread_floats = gradient_thread_floats(conv)};
    job.partial = workspace + threads * job.thread_floats;
    ak_pool_run(pool, AK_DISPATCH(ak_gemm_gradient_part), &job);
    ak_gemm_sum_gradients(
        pool,
        (ak_gemm_sum_job){conv, job.partial, job.partial_floats, job.split.positions, to->dw, to->accumulate_dw});
}

void ak_gemm_sum_gradients(ak_pool *pool, ak_gemm_sum_job job) {
    ak_pool_run(pool, AK_DISPATCH(ak_gemm_sum_part), &job);
}

void ak_gemm_backward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const ak_gradient *dy, const void *packed,
    const ak_conv_gradients *to, void *workspace) {
    if (to->dx.data) backward_data(pool, conv, &dy->map, packed, to, workspace);
    if (to->dw) backward_weights(pool, conv, x, dy, to, workspace);
}
