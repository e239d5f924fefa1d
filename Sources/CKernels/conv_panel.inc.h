// Matrix products over panels. A panel holds what some positions of a map read, [block][position][16 channels]; it
// meets every output block while it lies in the cache. Where products are bf16 (`half`), it holds bf16 and is
// multiplied in pairs of adjacent channels. Included once per instruction set.
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
    AK_FN(stretch) stretch;
    AK_FN(partial_sums) partial;
    if (sums) reducer = AK_FN(reducer_of)(r, block, prelu), partial = into->sums;
    else stretch = into->stretch;
    // Read here, since the stores might change them for all that the compiler knows.
    void *const data = y->map.data;
    const void *const x = r->x.data;
    const bool accumulate = y->accumulate, stream = y->stream, x_bf16 = r->x.dtype == AK_BF16;
    const long plane = block * y->map.block;
    for (int p = 0; p < count; p++) {
        const long q = plane + at[p];
        ak_vec v = ak_load(m + p * 16);
        if (accumulate) v += AK_FN(lanes)(data, q, bf16);
        if (!bf16 && stream) ak_stream((float *)data + q, v);
        else AK_FN(put_lanes)(data, q, v, bf16);
        if (gathering == AK_GATHER_MOMENTS) AK_FN(stretch_add)(&stretch, v);
        if (sums) AK_FN(reduce_lanes)(&partial, v, AK_FN(lanes)(x, q, x_bf16), &reducer, prelu);
    }
    if (sums) into->sums = partial;
    else if (gathering == AK_GATHER_MOMENTS) into->stretch = stretch;
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

/// Writes a register tile of one block of the output, gathering no more than moments.
AK_INLINE void AK_FN(emit)(
    const ak_output *y, const ak_vec *a, const long *at, int count, int block, AK_FN(stretch) * into,
    const ak_moments *known, const bool bf16) {
    const long plane = block * y->map.block;
    AK_UNROLL for (int p = 0; p < TILE; p++)
        if (p < count) {
            if (!bf16 && y->stream) ak_stream(ak_floats(&y->map) + plane + at[p], a[p]);
            else AK_FN(put_lanes)(y->map.data, plane + at[p], a[p], bf16);
        }
    if (!y->moments) return;
    AK_FN(stretch) s = known ? AK_FN(stretch_begin)(known, a[0]) : *into;
    AK_UNROLL for (int p = 0; p < TILE; p++)
        if (p < count) AK_FN(stretch_add)(&s, a[p]);
    *into = s;
}

/// What is fetched while tiles are computed: `reads`, an equal share with every step, for the next panel; `touches`,
/// what a tile meets in memory when it is written.
typedef struct {
    ak_ahead reads[3], touches[2];
} AK_FN(fetches);

/// A tile's share at step s of `steps`: of each read the `share`-th part of its positions, and touches at positions
/// first..<first + TILE of output blocks k..<k + pair.
AK_INLINE void AK_FN(fetch_step)(
    AK_FN(fetches) * fetches, int s, int steps, const int *shares, int first, int k, const int pair) {
    AK_UNROLL for (int i = 0; i < 3; i++)
        if (fetches->reads[i].data) ak_fetch_next(&fetches->reads[i], shares[i]);
    const int each = (TILE + steps - 1) / steps, p0 = first + ak_min(TILE, s * each);
    AK_UNROLL for (int i = 0; i < 2; i++) {
        const ak_ahead *a = &fetches->touches[i];
        if (!a->data) continue;
        const int p1 = ak_min(a->count, ak_min(first + TILE, p0 + each));
        for (int j = 0; j < pair; j++) ak_fetch(a, k + j, p0, p1);
    }
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
    AK_FN(fetches) fetches;
} AK_FN(product);

/// A register tile: positions first..<first + TILE of the panel and output blocks k..<k + pair.
typedef struct {
    int first, k;
    int shares[3]; // positions that each step fetches of the reads
    // Where sums are written as they come: the output, the tile's offsets in it, what is gathered of each block, and
    // for the panel's first tile what is known of the blocks' moments. Else y is NULL and they are left in m.
    const ak_output *y;
    const long *at;
    int count;
    AK_FN(gathered) *gathered;
    const ak_moments *known;
    ak_vec *m; // [pair][TILE]
} AK_FN(tile);

AK_INLINE void AK_FN(panel_tile)(
    AK_FN(product) * of, const AK_FN(tile) * tile, const int pair, const bool half, const bool bf16) {
    const int first = tile->first, k = tile->k;
    ak_vec a[TILE], b[TILE];
    AK_UNROLL for (int p = 0; p < TILE; p++) a[p] = b[p] = ak_zero();
    const long from = (long)first * 16, to = k * of->weights_block;
    if (half) {
#if AK_LEVEL == 3
        const uint16_t *v = (const uint16_t *)of->panel + from;
        const uint16_t *u0 = (const uint16_t *)of->weights + to, *u1 = u0 + of->weights_block;
        for (int s = 0; s < of->steps; s++, v += AK_PANEL * 16) {
            AK_FN(fetch_step)(&of->fetches, s, of->steps, tile->shares, first, k, pair);
            _Pragma("clang loop unroll_count(4)") for (int i = 0; i < 8; i++, u0 += 32, u1 += 32) {
                const __m512bh s0 = (__m512bh)_mm512_load_si512(u0);
                const __m512bh s1 = pair == 2 ? (__m512bh)_mm512_load_si512(u1) : s0;
                AK_UNROLL for (int p = 0; p < TILE; p++) {
                    const __m512bh x = (__m512bh)_mm512_set1_epi32(*(const int32_t *)(v + p * 16 + i * 2));
                    a[p] = (ak_vec)_mm512_dpbf16_ps((__m512)a[p], x, s0);
                    if (pair == 2) b[p] = (ak_vec)_mm512_dpbf16_ps((__m512)b[p], x, s1);
                }
            }
        }
#endif
    } else {
        const float *v = (const float *)of->panel + from;
        const float *u0 = (const float *)of->weights + to, *u1 = u0 + of->weights_block;
        for (int s = 0; s < of->steps; s++, v += AK_PANEL * 16, u0 += 256, u1 += 256) {
            AK_FN(fetch_step)(&of->fetches, s, of->steps, tile->shares, first, k, pair);
            AK_FN(products_step)(v, u0, u1, a, b, TILE, pair);
        }
    }
    if (tile->y) {
        const ak_moments *known = tile->known;
        AK_FN(gathered) *g = tile->gathered;
        AK_FN(emit)(tile->y, a, tile->at, tile->count, k, &g[0].stretch, known, bf16);
        if (pair == 2)
            AK_FN(emit)(tile->y, b, tile->at, tile->count, k + 1, &g[1].stretch, known ? known + 1 : known, bf16);
        return;
    }
    AK_UNROLL for (int p = 0; p < TILE; p++) {
        tile->m[p] = a[p];
        if (pair == 2) tile->m[TILE + p] = b[p];
    }
}

// One function each, so that the sums stay in registers.
#define PANEL_TILE(pair, half, bf16) \
    AK_NOINLINE void AK_FN(panel_tile_##pair##_##bf16)(AK_FN(product) * of, const AK_FN(tile) * tile) { \
        AK_FN(panel_tile)(of, tile, pair, half, bf16); \
    }
PANEL_TILE(1, 0, 0)
PANEL_TILE(1, AK_LEVEL == 3, 1)
#if PAIR == 2
PANEL_TILE(2, 0, 0)
PANEL_TILE(2, AK_LEVEL == 3, 1)
#endif
#undef PANEL_TILE

AK_INLINE void AK_FN(panel_tile_of)(AK_FN(product) * of, const AK_FN(tile) * tile, int pair, bool bf16) {
#if PAIR == 2
    if (pair == 2) {
        if (bf16) AK_FN(panel_tile_2_1)(of, tile);
        else AK_FN(panel_tile_2_0)(of, tile);
        return;
    }
#endif
    (void)pair;
    if (bf16) AK_FN(panel_tile_1_1)(of, tile);
    else AK_FN(panel_tile_1_0)(of, tile);
}

/// Output blocks k0..<k1 of the positions `at`.
AK_NOINLINE void AK_FN(panel_products)(
    AK_FN(product) * of, int k0, int k1, const ak_output *y, const ak_positions *at, int part) {
    const ak_gathering gathering = ak_gathering_of(y);
    const bool direct = !of->sums && !y->accumulate && !y->reduction.sums;
    const int tiles = (at->count + TILE - 1) / TILE, slots = tiles * ((k1 - k0 + PAIR - 1) / PAIR) * of->steps;
    AK_FN(tile) tile = {.y = direct ? y : NULL};
    for (int i = 0; i < 3 && slots > 0; i++) {
        const ak_ahead *a = &of->fetches.reads[i];
        tile.shares[i] = (a->blocks * a->count + slots - 1) / slots;
    }
    ak_vec m[PAIR * TILE];
    tile.m = m;
    for (int k = k0, pair; k < k1; k += pair) {
        pair = ak_min(PAIR, k1 - k);
        const ak_moments *known = y->moments ? y->moments + (long)part * ak_blocks(y->map.c) + k : NULL;
        AK_FN(gathered) gathered[PAIR];
        memset(gathered, 0, sizeof gathered);
        for (int p = 0; p < at->count; p += TILE) {
            const int count = ak_min(TILE, at->count - p);
            tile.first = p;
            tile.k = k;
            tile.at = at->out + p;
            tile.count = count;
            tile.gathered = gathered;
            tile.known = p == 0 ? known : NULL;
            AK_FN(panel_tile_of)(of, &tile, pair, y->map.dtype == AK_BF16);
            for (int i = 0; i < pair && !direct; i++) {
                ak_vec *left = m + i * TILE;
                if (of->sums) {
                    ak_vec *sums = (ak_vec *)of->sums + (k - k0 + i) * AK_PANEL + p;
                    for (int j = 0; j < TILE; j++) sums[j] = of->first ? left[j] : sums[j] + left[j];
                    if (!of->last) continue;
                    left = sums;
                    if (known && p == 0) gathered[i].stretch = AK_FN(stretch_begin)(known + i, left[0]);
                }
                AK_FN(finish)(y, gathering, (float *)left, at->out + p, count, k + i, &gathered[i]);
            }
        }
        if (of->last)
            for (int i = 0; i < pair; i++)
                AK_FN(finish_end)(y, gathering, &gathered[i], at->count, k + i, part);
    }
}
