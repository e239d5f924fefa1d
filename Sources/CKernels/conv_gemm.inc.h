// Convolution as a matrix product: what a panel of output positions reads is gathered, a step being one tap of one
// input block, and then meets every output block while it lies in the cache. Any kernel size, stride, padding and
// grouping. Included once per instruction set.
#include "lanes.inc.h"
#include "transpose.inc.h"
#include "conv_panel.inc.h"
#include "conv_gemm_pack.inc.h"

/// Gathers steps s0..<s1 into a panel.
AK_NOINLINE void AK_FN(gemm_gather)(
    const ak_walk *walk, const ak_source *x, ak_range range, int s0, int s1, const ak_positions *at, void *panel,
    bool half) {
    long offsets[AK_PANEL];
    const size_t block_bytes = (size_t)walk->in.block * (x->map.dtype == AK_BF16 ? sizeof(uint16_t) : sizeof(float));
    for (int s = s0; s < s1;) {
        const int tap = s / range.count, from = s % range.count, blocks = ak_min(range.count - from, s1 - s);
        const int dy = walk->row0 + tap / walk->taps_cols * walk->step;
        const int dx = walk->col0 + tap % walk->taps_cols * walk->step;
        for (int p = 0; p < at->count; p++) {
            const int row = at->row[p] + dy, col = at->col[p] + dx;
            const bool valid = row >= 0 && row < walk->in.h && col >= 0 && col < walk->in.w;
            offsets[p] = valid ? at->in[p] + dy * walk->in.row + dx * 16 : -1;
        }
        for (int b = 0; b < blocks; b++, s++) {
            const int block = range.first + from + b;
            const AK_FN(panel) to = AK_FN(panel_block)((AK_FN(panel)){panel, NULL}, s - s0, half);
            const char *data = (const char *)x->map.data + (size_t)block * block_bytes;
            AK_FN(load_source)(x, data, offsets, at->count, block, to, half);
        }
    }
}

/// Output blocks k0..<k1, which share an input range, for positions p0..<p1.
AK_NOINLINE void AK_FN(gemm_run)(const ak_gemm_job *job, ak_range range, int k0, int k1, long p0, long p1, int part) {
    const ak_walk *walk = &job->walk;
    const int taps = walk->taps_rows * walk->taps_cols, steps = taps * range.count;
    const int held = ak_group_range_max(walk->out.c, walk->in.c, walk->groups);
    float *panel = job->workspace + part * job->thread_floats;
    AK_FN(product) product = {
        .panel = panel, .weights_block = (long)taps * held * 256, .half = job->half,
        .sums = steps > AK_GEMM_STEPS ? panel + (long)AK_GEMM_STEPS * AK_PANEL * 16 : NULL};
    const size_t step_bytes = 256 * (job->half ? sizeof(uint16_t) : sizeof(float));
    ak_positions at, next;
    ak_positions_make(walk, p0, ak_panel_count(p0, p1), &next);
    for (long p = p0; p < p1; p += AK_PANEL) {
        at = next;
        ak_positions_make(walk, p + AK_PANEL, ak_panel_count(p + AK_PANEL, p1), &next);
        if (taps == 1) product.fetches.reads[0] = ak_ahead_of(&job->x.map, next.in, next.count);
        if (!job->y.stream) product.fetches.touches[0] = ak_ahead_of(&job->y.map, at.out, at.count);
        if (job->y.reduction.sums) product.fetches.touches[1] = ak_ahead_of(&job->y.reduction.x, at.out, at.count);
        int s0 = 0;
        do {
            const int s1 = ak_min(s0 + AK_GEMM_STEPS, steps);
            AK_FN(gemm_gather)(walk, &job->x, range, s0, s1, &at, panel, job->half);
            product.steps = s1 - s0;
            product.weights = (const char *)job->weights + (size_t)s0 * step_bytes;
            product.first = s0 == 0;
            product.last = s1 == steps;
            AK_FN(panel_products)(&product, k0, k1, &job->y, &at, part);
            s0 = s1;
        } while (s0 < steps);
    }
}

/// The end of the run of output blocks from k that read the same input blocks.
AK_INLINE int AK_FN(gemm_run_end)(const ak_walk *walk, int k, int k1, ak_range range) {
    for (k++; k < k1; k++) {
        const ak_range next = ak_group_range(k, walk->out.c, walk->in.c, walk->groups);
        if (next.first != range.first || next.count != range.count) break;
    }
    return k;
}

/// A part's share of positions and output blocks; the latter are cut between pairs, so that no thread is left with many
/// single ones.
typedef struct {
    long p0, p1;
    int k0, k1;
} AK_FN(gemm_share);

AK_INLINE AK_FN(gemm_share) AK_FN(gemm_share_of)(const ak_walk *walk, ak_split split, int part) {
    const int a = part % split.positions, b = part / split.positions, blocks = ak_blocks(walk->out.c);
    const long positions = (long)walk->in.n * walk->rows * walk->cols, tiles = (positions + TILE - 1) / TILE;
    const long end = ak_begin(tiles, a + 1, split.positions) * TILE;
    return (AK_FN(gemm_share)){
        ak_begin(tiles, a, split.positions) * TILE, end < positions ? end : positions,
        2 * (int)ak_begin((blocks + 1) / 2, b, split.blocks),
        ak_min(blocks, 2 * (int)ak_begin((blocks + 1) / 2, b + 1, split.blocks))};
}

void AK_FN(ak_gemm_part)(void *context, int part, int parts);
void AK_FN(ak_gemm_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_gemm_job *job = context;
    const ak_walk *walk = &job->walk;
    if (job->begin) ak_output_begin(&job->y, part);
    if (part >= job->split.positions * job->split.blocks) return;
    // Nothing is added, and nothing of it is asked.
    if (job->y.accumulate && !job->y.reduction.sums && walk->taps_rows == 0) return;
    const AK_FN(gemm_share) share = AK_FN(gemm_share_of)(walk, job->split, part);
    for (int k = share.k0, end; k < share.k1; k = end) {
        const ak_range range = ak_group_range(k, walk->out.c, walk->in.c, walk->groups);
        end = AK_FN(gemm_run_end)(walk, k, share.k1, range);
        AK_FN(gemm_run)(job, range, k, end, share.p0, share.p1, part);
    }
    if (job->y.stream) ak_stream_fence();
}

// ------------------------------------------------------------------------------------------- gradient of the weights

/// Output blocks k0..<k1, which share an input range, for positions p0..<p1; dy's panel is [k - k0][position][16].
AK_NOINLINE void AK_FN(gemm_gradient_run)(
    const ak_gemm_gradient_job *job, ak_range range, int k0, int k1, long p0, long p1, float *partial, float *panel) {
    const ak_walk *walk = &job->walk;
    const int taps = walk->taps_rows * walk->taps_cols, steps = taps * range.count;
    const int held = ak_group_range_max(walk->out.c, walk->in.c, walk->groups);
    float *panel_dy = panel + (long)ak_min(taps * held, AK_GEMM_STEPS) * AK_PANEL * 16;
    bool first = true;
    for (long p = p0; p < p1 || first; p += AK_PANEL) {
        ak_positions at;
        ak_positions_make(walk, p, ak_panel_count(p, p1), &at);
        for (int k = k0; k < k1; k++) {
            const AK_FN(panel) to = AK_FN(panel_block)((AK_FN(panel)){panel_dy, NULL}, k - k0, false);
            AK_FN(load_gradient)(&job->dy, at.out, at.count, k, to, false);
        }
        for (int s0 = 0, s1; s0 < steps; s0 = s1) {
            s1 = ak_min(s0 + AK_GEMM_STEPS, steps);
            AK_FN(gemm_gather)(walk, &job->x, range, s0, s1, &at, panel, false);
            AK_FN(gradient_products_at)(
                panel, s1 - s0, panel_dy, k0, k1, AK_PANEL, at.count, partial + (long)s0 * 256, (long)taps * held * 256,
                first);
        }
        first = false;
    }
}

void AK_FN(ak_gemm_gradient_part)(void *context, int part, int parts);
void AK_FN(ak_gemm_gradient_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_gemm_gradient_job *job = context;
    const ak_walk *walk = &job->walk;
    if (part >= job->split.positions * job->split.blocks) return;
    const AK_FN(gemm_share) share = AK_FN(gemm_share_of)(walk, job->split, part);
    float *partial = job->partial + part % job->split.positions * job->partial_floats;
    float *panel = job->workspace + part * job->thread_floats;
    for (int k = share.k0, end; k < share.k1; k = end) {
        const ak_range range = ak_group_range(k, walk->out.c, walk->in.c, walk->groups);
        end = AK_FN(gemm_run_end)(walk, k, share.k1, range);
        AK_FN(gemm_gradient_run)(job, range, k, end, share.p0, share.p1, partial, panel);
    }
}

/// Sums the partial gradients in the order of their positions and writes PyTorch's layout.
void AK_FN(ak_gemm_sum_part)(void *context, int part, int parts);
void AK_FN(ak_gemm_sum_part)(void *context, int part, int parts) {
    const ak_gemm_sum_job *job = context;
    const ak_conv *conv = job->conv;
    int taps = conv->kh * conv->kw, kb = ak_blocks(conv->k), sums = job->count;
    int held = ak_group_range_max(conv->k, conv->c, conv->groups);
    int cg = conv->c / conv->groups, kg = conv->k / conv->groups;
    long units = (long)kb * held;
    for (long unit = ak_begin(units, part, parts); unit < ak_begin(units, part + 1, parts); unit++) {
        int k0 = (int)(unit / held) * 16, block = (int)(unit % held);
        ak_range range = ak_group_range(k0 / 16, conv->k, conv->c, conv->groups);
        if (block >= range.count) continue;
        // Blocks are stored with the count of their own range, at the stride of the largest.
        const float *from = job->partial + (long)(k0 / 16) * taps * held * 256;
        int c0 = (range.first + block) * 16;
        for (int r0 = 0; r0 < 16 * taps; r0 += 16) {
            ak_vec rows[16];
            for (int i = 0; i < 16; i++) {
                int c = (r0 + i) / taps, tap = (r0 + i) % taps;
                const float *q = from + ((long)tap * range.count + block) * 256 + c * 16;
                ak_vec sum = ak_load(q);
                for (int s = 1; s < sums; s++) sum += ak_load(q + s * job->partial_floats);
                rows[i] = sum;
            }
            AK_FN(transpose16)(rows);
            for (int k = k0; k < ak_min(k0 + 16, conv->k); k++) {
                int valid = ak_min(16, (conv->c - c0) * taps - r0);
                if (conv->groups == 1 && valid == 16) {
                    float *to = job->dw + ((long)k * conv->c + c0) * taps + r0;
                    ak_vec value = rows[k - k0];
                    ak_store_unaligned(to, job->accumulate ? ak_load_unaligned(to) + value : value);
                    continue;
                }
                float values[16];
                memcpy(values, &rows[k - k0], sizeof values);
                for (int i = 0; i < valid; i++) {
                    int c = c0 + (r0 + i) / taps, inner = c - k / kg * cg;
                    if (inner < 0 || inner >= cg) continue;
                    float *to = job->dw + ((long)k * cg + inner) * taps + (r0 + i) % taps;
                    *to = job->accumulate ? *to + values[i] : values[i];
                }
            }
        }
    }
}

#include "conv_products_end.inc.h"
