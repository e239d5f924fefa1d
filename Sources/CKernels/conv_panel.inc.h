// Matrix products over panels. A panel holds what some positions of a map read, [block][position][16 channels]; it meets
// every output block while it lies in the cache. Where products are bf16 (`half`), it holds bf16 and is multiplied in
// pairs of adjacent channels. Included once per instruction set.
#include "conv_products.inc.h"
#include "fusion.inc.h"

// ------------------------------------------------------------------------------------------------------------ loading

/// Where one block of loaded values goes. Rows: [position][16 channels], fp32 or bf16. Pairs: [position/2][16
/// channels][2 positions], bf16, so that products can be summed over positions. NULL: not wanted.
typedef struct {
    void *rows;
    uint16_t *pairs;
} AK_FN(panel);

/// Block `block` of a panel.
AK_INLINE AK_FN(panel) AK_FN(panel_block)(AK_FN(panel) p, int block, const bool half) {
    const long elements = (long)block * AK_PANEL * 16;
    if (p.rows) p.rows = half ? (void *)((uint16_t *)p.rows + elements) : (void *)((float *)p.rows + elements);
    if (p.pairs) p.pairs += elements;
    return p;
}

/// Adjacent bf16: a in the low half of each lane, b in the high one.
AK_INLINE ak_uvec AK_FN(pair_lanes)(ak_hvec a, ak_hvec b) {
    return __builtin_convertvector(a, ak_uvec) | __builtin_convertvector(b, ak_uvec) << 16;
}

// Loads `count` positions into a panel: VALUE(i) is the vector of position i.
#define PANEL_LOAD(VALUE) \
    if (!half) { \
        for (int i = 0; i < count; i++) ak_store((float *)to.rows + i * 16, VALUE(i)); \
        return; \
    } \
    for (int i = 0; i < count; i += 2) { \
        const ak_hvec first = AK_FN(to_bf16)(VALUE(i)); \
        const ak_hvec second = i + 1 < count ? AK_FN(to_bf16)(VALUE(i + 1)) : (ak_hvec){0}; \
        if (to.rows) { \
            ak_store_half((uint16_t *)to.rows + i * 16, first); \
            ak_store_half((uint16_t *)to.rows + i * 16 + 16, second); \
        } \
        if (to.pairs) *(ak_uvec *)(to.pairs + i * 16) = AK_FN(pair_lanes)(first, second); \
    }

AK_INLINE void AK_FN(load_source_as)(
    const void *data, const long *at, int count, const ak_activation *activation, int block, AK_FN(panel) to,
    const bool bf16, const bool half, const ak_reading reading) {
    const AK_FN(norm) norm = AK_FN(norm_of)(activation, block, reading);
#define VALUE(i) \
    (at[i] < 0 ? ak_zero() : AK_FN(activated)(AK_FN(lanes)(data, at[i], bf16), &norm, reading))
    PANEL_LOAD(VALUE)
#undef VALUE
}

/// Block `block` of a source, whose element 0 is at `data`, at `count` offsets; zero where an offset is negative.
AK_NOINLINE void AK_FN(load_source)(
    const ak_source *x, const void *data, const long *at, int count, int block, AK_FN(panel) to, bool half) {
    const ak_activation *a = &x->activation;
#define LOAD(bf16, half) \
    switch (ak_reading_of(a)) { \
    case AK_AS_STORED: AK_FN(load_source_as)(data, at, count, a, block, to, bf16, half, AK_AS_STORED); break; \
    case AK_AFFINE: AK_FN(load_source_as)(data, at, count, a, block, to, bf16, half, AK_AFFINE); break; \
    case AK_PRELU: AK_FN(load_source_as)(data, at, count, a, block, to, bf16, half, AK_PRELU); break; \
    }
    if (AK_LEVEL == 3 && half) {
        LOAD(true, AK_LEVEL == 3)
    } else if (x->map.dtype == AK_BF16) {
        LOAD(true, false)
    } else {
        LOAD(false, false)
    }
#undef LOAD
}

AK_INLINE void AK_FN(load_chain_as)(
    const ak_gradient *dy, const long *at, int count, int block, AK_FN(panel) to, const bool bf16, const bool half,
    const bool prelu) {
    const AK_FN(link) link = AK_FN(link_of)(&dy->chain, block, prelu);
    const void *g = dy->map.data, *x = dy->chain.x.data;
    const long plane = block * dy->map.block;
#define VALUE(i) \
    AK_FN(chained)(AK_FN(lanes)(g, plane + at[i], bf16), AK_FN(lanes)(x, plane + at[i], bf16), &link, prelu)
    PANEL_LOAD(VALUE)
#undef VALUE
}

/// Block `block` of a gradient at `count` offsets.
AK_NOINLINE void AK_FN(load_gradient)(
    const ak_gradient *dy, const long *at, int count, int block, AK_FN(panel) to, bool half) {
    const bool bf16 = dy->map.dtype == AK_BF16, prelu = dy->chain.slope != NULL;
    if (!dy->chain.x.data) {
        const ak_source stored = {.map = dy->map};
        const long plane = block * dy->map.block;
        const void *data = bf16 ? (void *)(ak_halves(&dy->map) + plane) : (void *)(ak_floats(&dy->map) + plane);
        AK_FN(load_source)(&stored, data, at, count, block, to, half);
    } else if (AK_LEVEL == 3 && half) {
        if (prelu) AK_FN(load_chain_as)(dy, at, count, block, to, true, AK_LEVEL == 3, true);
        else AK_FN(load_chain_as)(dy, at, count, block, to, true, AK_LEVEL == 3, false);
    } else if (bf16) {
        if (prelu) AK_FN(load_chain_as)(dy, at, count, block, to, true, false, true);
        else AK_FN(load_chain_as)(dy, at, count, block, to, true, false, false);
    } else {
        if (prelu) AK_FN(load_chain_as)(dy, at, count, block, to, false, false, true);
        else AK_FN(load_chain_as)(dy, at, count, block, to, false, false, false);
    }
}
#undef PANEL_LOAD

// ---------------------------------------------------------------------------------------------------------- finishing

/// What has been gathered of one block of channels over one panel.
typedef struct {
    AK_FN(stretch) stretch;
    AK_FN(partial_sums) sums;
} AK_FN(gathered);

AK_INLINE void AK_FN(finish_as)(
    const ak_output *y, const float *m, const long *at, int count, int block, AK_FN(gathered) * into,
    const bool bf16, const ak_gathering gathering) {
    const ak_reduction *r = &y->reduction;
    const bool prelu = gathering == AK_GATHER_SUMS_PRELU, sums = prelu || gathering == AK_GATHER_SUMS;
    AK_FN(reducer) reducer;
    if (sums) reducer = AK_FN(reducer_of)(r, block, prelu);
    AK_FN(gathered) own = *into;
    for (int p = 0; p < count; p++) {
        const long q = block * y->map.block + at[p];
        ak_vec v = ak_load(m + p * 16);
        if (y->accumulate) v += AK_FN(lanes)(y->map.data, q, bf16);
        if (!bf16 && y->stream) ak_stream(ak_floats(&y->map) + q, v);
        else AK_FN(put_lanes)(y->map.data, q, v, bf16);
        if (gathering == AK_GATHER_MOMENTS) AK_FN(stretch_add)(&own.stretch, v);
        if (sums)
            AK_FN(reduce_lanes)(&own.sums, v, AK_FN(lanes)(r->x.data, q, r->x.dtype == AK_BF16), &reducer, prelu);
    }
    *into = own;
}

/// Writes the sums m of `count` positions of one block of the output.
AK_NOINLINE void AK_FN(finish)(
    const ak_output *y, ak_gathering gathering, const float *m, const long *at, int count, int block,
    AK_FN(gathered) * into) {
#define CASE(gathering) \
    case gathering: \
        if (y->map.dtype == AK_BF16) AK_FN(finish_as)(y, m, at, count, block, into, true, gathering); \
        else AK_FN(finish_as)(y, m, at, count, block, into, false, gathering); \
        break;
    switch (gathering) {
        CASE(AK_GATHER_NOTHING)
        CASE(AK_GATHER_MOMENTS)
        CASE(AK_GATHER_SUMS)
        CASE(AK_GATHER_SUMS_PRELU)
    }
#undef CASE
}

/// Joins what `count` positions gave to the thread's statistics.
AK_INLINE void AK_FN(finish_end)(
    const ak_output *y, ak_gathering gathering, const AK_FN(gathered) * of, int count, int block, int part) {
    const long own = (long)part * ak_blocks(y->map.c) + block;
    if (gathering == AK_GATHER_MOMENTS) AK_FN(stretch_end)(&of->stretch, count, y->moments + own);
    else if (gathering != AK_GATHER_NOTHING) AK_FN(partial_sums_end)(&of->sums, y->reduction.sums + own);
}

// ----------------------------------------------------------------------------------------------------------- products

#if AK_LEVEL == 3
/// products_tile() in bf16: u holds [step][8 pairs of input channels][16 output channels][2].
AK_INLINE void AK_FN(products_tile_bf16)(
    const uint16_t *v, int steps, const uint16_t *u0, const uint16_t *u1, float *m0, float *m1, const int pair) {
    __m512 a[TILE], b[TILE];
    AK_UNROLL for (int p = 0; p < TILE; p++) a[p] = b[p] = _mm512_setzero_ps();
    for (int s = 0; s < steps; s++, v += AK_PANEL * 16) {
        _Pragma("clang loop unroll_count(4)") for (int i = 0; i < 8; i++) {
            const __m512bh s0 = (__m512bh)_mm512_load_si512(u0);
            const __m512bh s1 = pair == 2 ? (__m512bh)_mm512_load_si512(u1) : s0;
            u0 += 32;
            u1 += 32;
            AK_UNROLL for (int p = 0; p < TILE; p++) {
                const __m512bh x = (__m512bh)_mm512_set1_epi32(*(const int32_t *)(v + p * 16 + i * 2));
                a[p] = _mm512_dpbf16_ps(a[p], x, s0);
                if (pair == 2) b[p] = _mm512_dpbf16_ps(b[p], x, s1);
            }
        }
    }
    AK_UNROLL for (int p = 0; p < TILE; p++) {
        ak_store(m0 + p * 16, (ak_vec)a[p]);
        if (pair == 2) ak_store(m1 + p * 16, (ak_vec)b[p]);
    }
}

AK_NOINLINE void AK_FN(panel_tile_bf16_1)(const uint16_t *v, int steps, const uint16_t *u, float *m) {
    AK_FN(products_tile_bf16)(v, steps, u, u, m, m, 1);
}

AK_NOINLINE void AK_FN(panel_tile_bf16_2)(const uint16_t *v, int steps, const uint16_t *u, long weights, float *m) {
    AK_FN(products_tile_bf16)(v, steps, u, u + weights, m, m + TILE * 16, 2);
}
#endif

AK_NOINLINE void AK_FN(panel_tile_1)(const float *v, int steps, const float *u, float *m) {
    AK_FN(products_tile)(v, AK_PANEL * 16, steps, u, u, m, m, TILE, 1);
}

#if PAIR == 2
AK_NOINLINE void AK_FN(panel_tile_2)(const float *v, int steps, const float *u, long weights, float *m) {
    AK_FN(products_tile)(v, AK_PANEL * 16, steps, u, u + weights, m, m + TILE * 16, TILE, 2);
}
#endif

/// m[pair][TILE][16] = positions first..<first + TILE of the panel times `pair` output blocks' weights, which lie
/// `weights` elements apart.
AK_INLINE void AK_FN(panel_tile)(
    const void *panel, int first, int steps, const void *u, long weights, float *m, int pair, bool half) {
#if AK_LEVEL == 3
    if (half) {
        const uint16_t *v = (const uint16_t *)panel + first * 16;
        if (pair == 2) AK_FN(panel_tile_bf16_2)(v, steps, u, weights, m);
        else AK_FN(panel_tile_bf16_1)(v, steps, u, m);
        return;
    }
#endif
    (void)half;
    const float *v = (const float *)panel + first * 16;
#if PAIR == 2
    if (pair == 2) {
        AK_FN(panel_tile_2)(v, steps, u, weights, m);
        return;
    }
#endif
    (void)weights;
    (void)pair;
    AK_FN(panel_tile_1)(v, steps, u, m);
}

/// One panel against packed weights.
typedef struct {
    const void *panel;   // [step][AK_PANEL][16]
    int steps;
    const void *weights; // [output block][...][step][16 in][16 out], or in bf16 [8][16][2] in place of the last two
    long weights_block;  // elements from one output block to the next
    bool half;
    // Where the steps are not all: sums so far, [output block][AK_PANEL][16], and whether these are the last.
    float *sums;
    bool first, last;
} AK_FN(product);

/// Output blocks k0..<k1 of the positions `at`.
AK_NOINLINE void AK_FN(panel_products)(
    const AK_FN(product) * of, int k0, int k1, const ak_output *y, const ak_positions *at, int part) {
    const ak_gathering gathering = ak_gathering_of(y);
    const size_t element = of->half ? sizeof(uint16_t) : sizeof(float);
    ak_vec tile[PAIR * TILE];
    for (int k = k0, pair; k < k1; k += pair) {
        pair = ak_min(PAIR, k1 - k);
        const void *u = (const char *)of->weights + (size_t)(k * of->weights_block) * element;
        AK_FN(gathered) gathered[PAIR];
        memset(gathered, 0, sizeof gathered);
        for (int p = 0; p < at->count; p += TILE) {
            AK_FN(panel_tile)(of->panel, p, of->steps, u, of->weights_block, (float *)tile, pair, of->half);
            const int count = ak_min(TILE, at->count - p);
            for (int i = 0; i < pair; i++) {
                ak_vec *m = tile + i * TILE;
                if (of->sums) {
                    ak_vec *sums = (ak_vec *)of->sums + (k - k0 + i) * AK_PANEL + p;
                    for (int j = 0; j < TILE; j++) sums[j] = of->first ? m[j] : sums[j] + m[j];
                    if (!of->last) continue;
                    m = sums;
                }
                if (gathering == AK_GATHER_MOMENTS && p == 0)
                    gathered[i].stretch = AK_FN(stretch_begin)(
                        y->moments + (long)part * ak_blocks(y->map.c) + k + i, m[0]);
                AK_FN(finish)(y, gathering, (float *)m, at->out + p, count, k + i, &gathered[i]);
            }
        }
        if (of->last)
            for (int i = 0; i < pair; i++)
                AK_FN(finish_end)(y, gathering, &gathered[i], at->count, k + i, part);
    }
}
