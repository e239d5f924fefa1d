// The two gradients of a 1x1 convolution in one pass: of a panel of positions the gradient of the output is loaded
// once, with the chain below it, and meets the weights for the input's gradient and the input for the weights'.
// Included once per instruction set.
#include "lanes.inc.h"
#include "conv_panel.inc.h"

#if AK_LEVEL == 3
/// gradient_tile() in bf16, over pairs of positions: [pair][16][2].
AK_INLINE void AK_FN(pointwise_gradient_tile)(
    const uint16_t *x, const uint16_t *g0, const uint16_t *g1, int pairs, float *d0, float *d1, bool first,
    const int pair) {
    enum { CHANNELS = 8 };
    __m512 a[CHANNELS], b[CHANNELS];
    AK_UNROLL for (int c = 0; c < CHANNELS; c++) {
        a[c] = (__m512)(first ? ak_zero() : ak_load(d0 + c * 16));
        b[c] = (__m512)(first || pair == 1 ? ak_zero() : ak_load(d1 + c * 16));
    }
    _Pragma("clang loop unroll_count(4)") for (int p = 0; p < pairs; p++) {
        const __m512bh u = (__m512bh)_mm512_load_si512(g0 + p * 32);
        const __m512bh v = pair == 2 ? (__m512bh)_mm512_load_si512(g1 + p * 32) : u;
        AK_UNROLL for (int c = 0; c < CHANNELS; c++) {
            const __m512bh s = (__m512bh)_mm512_set1_epi32(*(const int32_t *)(x + p * 32 + c * 2));
            a[c] = _mm512_dpbf16_ps(a[c], s, u);
            if (pair == 2) b[c] = _mm512_dpbf16_ps(b[c], s, v);
        }
    }
    AK_UNROLL for (int c = 0; c < CHANNELS; c++) {
        ak_store(d0 + c * 16, (ak_vec)a[c]);
        if (pair == 2) ak_store(d1 + c * 16, (ak_vec)b[c]);
    }
}

/// gradient_products() in bf16.
AK_NOINLINE void AK_FN(pointwise_gradient)(
    const uint16_t *x, int cbs, const uint16_t *g, int kbs, int count, float *d, bool first) {
    const long block = AK_PANEL * 16, weights = (long)cbs * 256;
    const int pairs = (count + 1) / 2;
    for (int k = 0, pair; k < kbs; k += pair, g += pair * block) {
        pair = ak_min(2, kbs - k);
        for (int c = 0; c < cbs * 16; c += 8) {
            const uint16_t *from = x + c / 16 * block + c % 16 * 2;
            float *to = d + k * weights + c * 16;
            if (pair == 2)
                AK_FN(pointwise_gradient_tile)(from, g, g + block, pairs, to, to + weights, first, 2);
            else
                AK_FN(pointwise_gradient_tile)(from, g, g, pairs, to, to, first, 1);
        }
    }
}
#endif

/// With stride 2: the positions of dx that no position of dy meets.
AK_NOINLINE void AK_FN(pointwise_unmet)(const ak_pointwise_job *job, const ak_positions *at, int part) {
    const ak_output *dx = &job->dx;
    // The gradient there is zero: it adds nothing to the sums.
    const ak_gathering gathering = dx->accumulate ? ak_gathering_of(dx) : AK_GATHER_NOTHING;
    if (dx->accumulate && gathering == AK_GATHER_NOTHING) return;
    long unmet[3 * AK_PANEL];
    int count = 0;
    for (int p = 0; p < at->count; p++) {
        const bool right = 2 * at->col[p] + 1 < dx->map.w, below = 2 * at->row[p] + 1 < dx->map.h;
        if (right) unmet[count++] = at->out[p] + 16;
        if (below) unmet[count++] = at->out[p] + dx->map.row;
        if (right && below) unmet[count++] = at->out[p] + dx->map.row + 16;
    }
    ak_vec zeros[TILE];
    memset(zeros, 0, sizeof zeros);
    for (int block = 0; block < ak_blocks(dx->map.c); block++) {
        AK_FN(gathered) gathered;
        memset(&gathered, 0, sizeof gathered);
        for (int i = 0; i < count; i += TILE)
            AK_FN(finish)(
                dx, gathering, (const float *)zeros, unmet + i, ak_min(TILE, count - i), block, &gathered);
        AK_FN(finish_end)(dx, gathering, &gathered, count, block, part);
    }
}

/// The panels of one thread.
typedef struct {
    AK_FN(panel) dy, x;
} AK_FN(pointwise_panels);

AK_INLINE AK_FN(pointwise_panels) AK_FN(pointwise_panels_of)(const ak_pointwise_job *job, int part) {
    float *floats = job->workspace + part * job->thread_floats;
    const long size = (long)ak_blocks(job->dy.map.c) * AK_PANEL * 16;
    AK_FN(pointwise_panels) panels = {{floats, NULL}, {floats + size, NULL}};
    if (job->half) {
        // The gradient's rows are for dx, its pairs for dw.
        panels.dy = (AK_FN(panel)){
            job->dx.map.data ? floats : NULL, job->partial ? (uint16_t *)(floats + size / 2) : NULL};
        panels.x = (AK_FN(panel)){NULL, (uint16_t *)(floats + size)};
    }
    return panels;
}

/// What is fetched while dx is computed: the next panel, and what dx's tiles meet in memory.
AK_INLINE void AK_FN(pointwise_fetches)(
    const ak_pointwise_job *job, const ak_positions *at, const ak_positions *next, AK_FN(fetches) * to) {
    const ak_map *reduced = &job->dx.reduction.x;
    to->reads[0] = ak_ahead_of(&job->dy.map, next->in, next->count);
    to->reads[1] = ak_ahead_of(&job->dy.chain.x, next->in, next->count);
    if (job->partial) to->reads[2] = ak_ahead_of(&job->x.map, next->out, next->count);
    if (!job->dx.stream) to->touches[0] = ak_ahead_of(&job->dx.map, at->out, at->count);
    // Where that is x, it is there already.
    if (job->dx.reduction.sums && !(job->partial && reduced->data == job->x.map.data))
        to->touches[1] = ak_ahead_of(reduced, at->out, at->count);
}

void AK_FN(ak_pointwise_part)(void *context, int part, int parts);
void AK_FN(ak_pointwise_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_pointwise_job *job = context;
    const ak_walk *walk = &job->walk;
    const int kbs = ak_blocks(walk->in.c), cbs = ak_blocks(walk->out.c);
    if (job->dx.map.data) ak_output_begin(&job->dx, part);
    if (part >= job->split) return;
    const long positions = (long)walk->in.n * walk->rows * walk->cols, tiles = (positions + TILE - 1) / TILE;
    const long p0 = ak_begin(tiles, part, job->split) * TILE, end = ak_begin(tiles, part + 1, job->split) * TILE;
    const long p1 = end < positions ? end : positions;
    const AK_FN(pointwise_panels) panels = AK_FN(pointwise_panels_of)(job, part);
    AK_FN(product) product = {
        .panel = panels.dy.rows, .steps = kbs, .weights = job->weights, .weights_block = (long)kbs * 256,
        .half = job->half, .last = true};
    float *partial = job->partial ? job->partial + part * job->partial_floats : NULL;
    const size_t element = job->x.map.dtype == AK_BF16 ? sizeof(uint16_t) : sizeof(float);
    if (partial && p0 == p1) memset(partial, 0, (size_t)job->partial_floats * sizeof(float));
    ak_positions at, next;
    ak_positions_make(walk, p0, ak_panel_count(p0, p1), &next);
    for (long p = p0; p < p1; p += AK_PANEL) {
        at = next;
        ak_positions_make(walk, p + AK_PANEL, ak_panel_count(p + AK_PANEL, p1), &next);
        AK_FN(pointwise_fetches)(job, &at, &next, &product.fetches);
        for (int k = 0; k < kbs; k++)
            AK_FN(load_gradient)(
                &job->dy, at.in, at.count, k, AK_FN(panel_block)(panels.dy, k, job->half), job->half);
        for (int c = 0; partial && c < cbs; c++)
            AK_FN(load_source)(
                &job->x, (const char *)job->x.map.data + (size_t)(c * walk->out.block) * element, at.out, at.count, c,
                AK_FN(panel_block)(panels.x, c, job->half), job->half);
        if (job->dx.map.data) {
            if (walk->out_stride == 2) AK_FN(pointwise_unmet)(job, &at, part);
            AK_FN(panel_products)(&product, 0, cbs, &job->dx, &at, part);
        }
        if (!partial) continue;
#if AK_LEVEL == 3
        if (job->half) {
            AK_FN(pointwise_gradient)(panels.x.pairs, cbs, panels.dy.pairs, kbs, at.count, partial, p == p0);
            continue;
        }
#endif
        AK_FN(gradient_products_at)(
            panels.x.rows, cbs, panels.dy.rows, 0, kbs, AK_PANEL, at.count, partial, (long)cbs * 256, p == p0);
    }
    if (job->dx.stream) ak_stream_fence();
}

#include "conv_products_end.inc.h"
