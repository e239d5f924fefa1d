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

/// What the same algorithm with fp32 products takes.
bool ak_winograd_bf16_takes(const ak_conv *conv) {
    return ak_isa_current() == AK_ISA_AVX512_BF16 && ak_winograd_takes(conv);
}

size_t ak_winograd_bf16_packed_bytes(const ak_conv *conv, ak_dtype dtype, ak_direction direction) {
    (void)dtype, (void)direction;
    return sizeof(uint16_t) * AK_WINOGRAD_BF16_POINTS * 256 * (size_t)ak_blocks(conv->c) * (size_t)ak_blocks(conv->k);
}

/// Elements between points of the transformed inputs.
static long input_stride(int channels) { return ((long)ak_blocks(channels) * AK_WINOGRAD_BF16_ROOM / 2 | 1) * 32; }

/// The same of the gradient's operands, pairs of tiles interleaved.
static long gradient_stride(int blocks, int tiles) { return ((long)blocks * ((tiles + 1) / 2) | 1) * 32; }

/// Floats of the gradient's sums, of one point and of all: an odd number of cache lines to a point.
static long point_floats(const ak_conv *conv) { return 256L * ak_blocks(conv->c) * ak_blocks(conv->k) + 16; }
static long weight_floats(const ak_conv *conv) { return AK_WINOGRAD_BF16_POINTS * point_floats(conv); }

static size_t thread_bytes(int channels) {
    return AK_WINOGRAD_BF16_POINTS
        * ((size_t)input_stride(channels) * sizeof(uint16_t) + AK_WINOGRAD_BF16_PRODUCTS * sizeof(float));
}

/// Splitting positions costs a partial gradient each; splitting output blocks transforms the inputs again.
static ak_split gradient_split(const ak_conv *conv, long tiles, int threads) {
    enum { LIMIT = 128 << 20 }; // floats of all partial gradients
    const int in_blocks = ak_blocks(conv->c), out_blocks = ak_blocks(conv->k);
    const int most = ak_max(1, (int)(LIMIT / weight_floats(conv)));
    ak_split best = {1, 1};
    double least = 1e300;
    for (int a = ak_min(threads, most); a >= 1; a--) {
        if (a > 1 && tiles / a < 16) continue;
        const int b = ak_min(threads / a, out_blocks);
        // Cycles, about: of a tile's products and transforms, and of writing the sums and reading them again.
        const double share = (double)((tiles + a - 1) / a), blocks = (out_blocks + b - 1) / b;
        const double transfers = blocks * (1 + 2 * share / AK_WINOGRAD_BF16_GRADIENT_TILES) + (double)out_blocks / b;
        const double cost = share * (128.0 * in_blocks * blocks + 80.0 * in_blocks + 50 * blocks)
            + 2048.0 * in_blocks * transfers;
        if (cost < least) least = cost, best = (ak_split){a, b};
    }
    return best;
}

/// The job but for its maps and where it leaves what.
static ak_winograd_bf16_gradient_job gradient_job(const ak_conv *conv, int n, int threads) {
    const long tiles = (long)n * ((conv->h + 1) / 2) * ((conv->w + 1) / 2);
    ak_winograd_bf16_gradient_job job = {.split = gradient_split(conv, tiles, threads), .weights = point_floats(conv)};
    const long share = (tiles + job.split.positions - 1) / job.split.positions;
    job.tiles = share < AK_WINOGRAD_BF16_GRADIENT_TILES ? (int)share : AK_WINOGRAD_BF16_GRADIENT_TILES;
    job.in_stride = gradient_stride(ak_blocks(conv->c), job.tiles);
    job.out_stride = gradient_stride((ak_blocks(conv->k) + job.split.blocks - 1) / job.split.blocks, job.tiles);
    job.thread_bytes = AK_WINOGRAD_BF16_POINTS * sizeof(uint16_t) * (size_t)(job.in_stride + job.out_stride);
    return job;
}

size_t ak_winograd_bf16_workspace_bytes(const ak_conv *conv, ak_dtype dtype, int n, int threads) {
    (void)dtype;
    const ak_winograd_bf16_gradient_job job = gradient_job(conv, n, threads);
    const size_t data = (size_t)threads * thread_bytes(ak_max(conv->c, conv->k));
    const size_t weights = (size_t)threads * job.thread_bytes
        + sizeof(float) * (size_t)job.split.positions * (size_t)weight_floats(conv);
    return data > weights ? data : weights;
}

void ak_winograd_bf16_pack(
    ak_pool *pool, const ak_conv *conv, ak_dtype dtype, ak_direction direction, const float *weights, void *packed) {
    (void)dtype;
    ak_bf16_pack_job job = {conv, direction, weights, packed};
    ak_pool_run(pool, KERNEL(ak_winograd_bf16_pack_part), &job);
}

static void run(ak_pool *pool, ak_winograd_bf16_job *job) {
    const ak_map *out = &job->out;
    job->split = ak_split_make(
        ak_pool_threads(pool), (ak_winograd_bf16_tiles(out) + 13) / 14, (ak_blocks(out->c) + 1) / 2);
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

static void backward_weights(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const ak_map *dy, const ak_conv_gradients *to,
    void *workspace) {
    const int threads = ak_pool_threads(pool);
    ak_winograd_bf16_gradient_job job = gradient_job(conv, dy->n, threads);
    job.x = *x;
    job.dy = (ak_source){.map = *dy};
    job.workspace = workspace;
    job.partial = (float *)(job.workspace + (size_t)threads * job.thread_bytes);
    job.dw = to->dw;
    job.accumulate = to->accumulate_dw;
    ak_pool_run(pool, KERNEL(ak_winograd_bf16_gradient_part), &job);
    ak_pool_run(pool, KERNEL(ak_winograd_bf16_gradient_sum_part), &job);
}

/// dx: the same convolution with the taps turned round and the channels exchanged.
void ak_winograd_bf16_backward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const ak_gradient *dy, const void *packed,
    const ak_conv_gradients *to, void *workspace) {
    AK_REQUIRE(
        !to->reduction.sums || to->reduction.x.dtype == AK_BF16, "the reduction of a bf16 gradient over an fp32 map");
    if (to->dx.data)
        run(pool, &(ak_winograd_bf16_job){
            .in = {.map = dy->map}, .out = to->dx, .weights = packed, .accumulate = to->accumulate_dx,
            .reduction = to->reduction, .workspace = workspace});
    if (to->dw) backward_weights(pool, conv, x, &dy->map, to, workspace);
}
