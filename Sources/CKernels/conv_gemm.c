// Convolution as a matrix product over gathered panels: jobs, workspaces, dispatch. The work is in conv_gemm.inc.h.
#include "conv_gemm.h"

#include "vector.h"

#define AK_KERNELS "conv_gemm.inc.h"
#include "each_isa.h"

static int taps(const ak_conv *conv) { return conv->kh * conv->kw; }

/// Floats of the forward weights, which is also the size of one partial gradient.
static long forward_floats(const ak_conv *conv) {
    return (long)ak_blocks(conv->k) * taps(conv) * ak_group_range_max(conv->k, conv->c, conv->groups) * 256;
}

static long backward_floats(const ak_conv *conv) {
    return (long)ak_blocks(conv->c) * taps(conv) * ak_group_range_max(conv->c, conv->k, conv->groups) * 256;
}

static long position_floats(int count) { return (long)ak_align64((size_t)count * sizeof(ak_position)) / 4; }

long ak_gemm_thread_floats(void) { return AK_GEMM_PANEL + position_floats(AK_GEMM_POSITIONS) + 16; }

long ak_gemm_gradient_thread_floats(const ak_conv *conv) {
    return AK_GEMM_PANEL + (long)ak_blocks(conv->k) * AK_GEMM_GRADIENT_POSITIONS * 16
        + position_floats(AK_GEMM_GRADIENT_POSITIONS) + 16;
}

size_t ak_gemm_packed_bytes(const ak_conv *conv) {
    return (size_t)(forward_floats(conv) + backward_floats(conv)) * sizeof(float);
}

void ak_gemm_pack(ak_pool *pool, const ak_conv *conv, const float *weights, float *packed) {
    ak_gemm_pack_job job = {conv, weights, packed, packed + forward_floats(conv)};
    ak_pool_run(pool, AK_DISPATCH(ak_gemm_pack_part), &job);
}

/// Partial gradients cost memory and a second pass, so positions are split only where the output blocks do not suffice
/// or there are many positions for each weight.
static ak_split gradient_split(const ak_conv *conv, int n, int threads) {
    enum { LIMIT = 64 << 20 }; // floats of all partial gradients
    long positions = (long)n * ak_conv_out_h(conv) * ak_conv_out_w(conv);
    int pairs = (ak_blocks(conv->k) + 1) / 2, most = ak_max(1, (int)(LIMIT / forward_floats(conv)));
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

size_t ak_gemm_workspace_bytes(const ak_conv *conv, int n, int threads) {
    ak_split split = gradient_split(conv, n, threads);
    size_t forward = (size_t)threads * (size_t)ak_gemm_thread_floats();
    size_t gradient = (size_t)threads * (size_t)ak_gemm_gradient_thread_floats(conv)
        + (size_t)split.positions * (size_t)forward_floats(conv);
    return (forward > gradient ? forward : gradient) * sizeof(float);
}

static void run(ak_pool *pool, ak_gemm_job *job) {
    long positions = (long)job->gather.in.n * job->gather.rows * job->gather.cols;
    long tiles = (positions + AK_GEMM_TILE_MAX - 1) / AK_GEMM_TILE_MAX;
    job->split = ak_split_make(ak_pool_threads(pool), tiles, (ak_blocks(job->gather.out.c) + 1) / 2);
    job->stream = !job->accumulate && ak_conv_streams(&job->gather.out);
    ak_pool_run(pool, AK_DISPATCH(ak_gemm_part), job);
}

static ak_gather forward_gather(const ak_conv *conv, const ak_map *x, const ak_map *y) {
    return (ak_gather){
        .in = *x, .out = *y, .rows = y->h, .cols = y->w, .out_stride = 1, .stride = conv->stride, .row0 = -conv->pad,
        .col0 = -conv->pad, .step = 1, .taps_rows = conv->kh, .taps_cols = conv->kw, .groups = conv->groups};
}

void ak_gemm_forward(
    ak_pool *pool, const ak_conv *conv, const ak_map *x, const float *packed, const ak_map *y, void *workspace) {
    ak_gemm_job job = {
        .gather = forward_gather(conv, x, y), .weights = packed, .border = true, .workspace = workspace};
    run(pool, &job);
}

/// With stride s, the inputs (row, col) of one parity class modulo s meet the taps of one parity class: each class is a
/// convolution of dy with stride 1 and its own taps.
void ak_gemm_backward_data(
    ak_pool *pool, const ak_conv *conv, const ak_map *dy, const float *packed, const ak_map *dx, bool accumulate,
    void *workspace) {
    int s = conv->stride;
    long block_floats =
        (long)ak_blocks(conv->c) * ak_group_range_max(conv->c, conv->k, conv->groups) * 256;
    const float *weights = packed + forward_floats(conv);
    for (int a = 0; a < s; a++)
        for (int b = 0; b < s; b++) {
            // Tap t = first + i*s reads dy at (class + pad - t)/s = base - i.
            int first_row = (a + conv->pad) % s, first_col = (b + conv->pad) % s;
            int taps_rows = conv->kh > first_row ? (conv->kh - first_row + s - 1) / s : 0;
            int taps_cols = conv->kw > first_col ? (conv->kw - first_col + s - 1) / s : 0;
            ak_gemm_job job = {
                .gather = {
                    .in = *dy, .out = *dx, .rows = (conv->h - a + s - 1) / s, .cols = (conv->w - b + s - 1) / s,
                    .out_stride = s, .out_row = a, .out_col = b, .stride = 1, .row0 = (a + conv->pad - first_row) / s,
                    .col0 = (b + conv->pad - first_col) / s, .step = -1, .taps_rows = taps_rows,
                    .taps_cols = taps_cols, .groups = conv->groups},
                .weights = weights, .accumulate = accumulate, .border = a == 0 && b == 0, .workspace = workspace};
            if (taps_rows * taps_cols == 0) job.gather.taps_rows = job.gather.taps_cols = 0;
            if (job.gather.rows > 0 && job.gather.cols > 0) run(pool, &job);
            weights += taps_rows * taps_cols * block_floats;
        }
}

void ak_gemm_backward_weights(
    ak_pool *pool, const ak_conv *conv, const ak_map *x, const ak_map *dy, float *dw, bool accumulate,
    void *workspace) {
    int threads = ak_pool_threads(pool);
    ak_gemm_gradient_job job = {
        .gather = forward_gather(conv, x, dy), .partial_size = forward_floats(conv),
        .split = gradient_split(conv, x->n, threads), .workspace = workspace, .dw = dw, .accumulate = accumulate,
        .conv = conv};
    job.partial = job.workspace + threads * ak_gemm_gradient_thread_floats(conv);
    ak_pool_run(pool, AK_DISPATCH(ak_gemm_gradient_part), &job);
    ak_pool_run(pool, AK_DISPATCH(ak_gemm_gradient_sum_part), &job);
}
