// The matrix products between the transforms of a Winograd-like convolution, at one point: over input channels forward,
// over tiles for the gradient of the weights. v: [in block][tile][16]; g, m: [out block][tile][16]; u, d: [out block][in
// channel][16]; `tiles` tiles to a block. Included once per instruction set; conv_products_end.inc.h undoes its macros.
#if AK_LEVEL >= 2
#define TILE 14
#define PAIR 2
#define TILE_C 8
#elif AK_REGISTERS == 8
#define TILE 6
#define PAIR 1
#define TILE_C 4
#else
#define TILE 2
#define PAIR 1
#define TILE_C 2
#endif

// ---------------------------------------------------------------------------------------------------------- products

/// `width` tiles x `pair` output blocks over one block of input channels: a += v*u0, b += v*u1.
AK_INLINE void AK_FN(products_step)(
    const float *v, const float *u0, const float *u1, ak_vec *a, ak_vec *b, const int width, const int pair) {
    _Pragma("clang loop unroll_count(4)") for (int i = 0; i < 16; i++) {
        const ak_vec s = ak_load(u0 + i * 16), t = pair == 2 ? ak_load(u1 + i * 16) : s;
        AK_UNROLL for (int p = 0; p < width; p++) {
            const ak_vec x = ak_splat(v[p * 16 + i]);
            a[p] = ak_fma(x, s, a[p]);
            if (pair == 2) b[p] = ak_fma(x, t, b[p]);
        }
    }
}

/// `width` tiles x `pair` output blocks over all input channels: m = sum of v*u.
AK_INLINE void AK_FN(products_tile)(
    const float *v, long v_block, int blocks, const float *u0, const float *u1, float *m0, float *m1, const int width,
    const int pair) {
    ak_vec a[TILE], b[TILE];
    AK_UNROLL for (int p = 0; p < width; p++) a[p] = b[p] = ak_zero();
    for (int block = 0; block < blocks; block++, v += v_block, u0 += 256, u1 += 256)
        AK_FN(products_step)(v, u0, u1, a, b, width, pair);
    AK_UNROLL for (int p = 0; p < width; p++) {
        ak_store(m0 + p * 16, a[p]);
        if (pair == 2) ak_store(m1 + p * 16, b[p]);
    }
}

// One function per width, so that each keeps its accumulators in registers.
#define WIDTHS_2(X) X(1) X(2)
#define WIDTHS_6(X) WIDTHS_2(X) X(3) X(4) X(5) X(6)
#define WIDTHS_14(X) WIDTHS_6(X) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#if TILE == 14
#define WIDTHS WIDTHS_14
#elif TILE == 6
#define WIDTHS WIDTHS_6
#else
#define WIDTHS WIDTHS_2
#endif

#define SINGLE(width) \
    AK_NOINLINE void AK_FN(products_tile_1_##width)( \
        const float *v, long v_block, int blocks, const float *u, float *m) { \
        AK_FN(products_tile)(v, v_block, blocks, u, u, m, m, width, 1); \
    }
WIDTHS(SINGLE)
#undef SINGLE

#if PAIR == 2
#define DOUBLE(width) \
    AK_NOINLINE void AK_FN(products_tile_2_##width)( \
        const float *v, long v_block, int blocks, const float *u0, const float *u1, float *m0, float *m1) { \
        AK_FN(products_tile)(v, v_block, blocks, u0, u1, m0, m1, width, 2); \
    }
WIDTHS(DOUBLE)
#undef DOUBLE
#endif

/// Output blocks k0..<k1 at one point, m = v*u, for `count` tiles, in groups of nearly equal width.
AK_NOINLINE void AK_FN(products)(
    const float *v, int in_blocks, const float *u, int k0, int k1, float *m, int tiles, int count) {
    int groups = (count + TILE - 1) / TILE;
    long block = (long)tiles * 16, weights = (long)in_blocks * 256;
    for (int k = k0; k < k1;) {
        int pair = ak_min(PAIR, k1 - k);
        const float *uk = u + k * weights;
        float *mk = m + (k - k0) * block;
        for (int i = 0; i < groups; i++) {
            long first = ak_begin(count, i, groups);
            int width = (int)(ak_begin(count, i + 1, groups) - first);
            const float *from = v + first * 16;
            float *to = mk + first * 16;
#if PAIR == 2
            if (pair == 2) {
#define CASE(w) \
    case w: AK_FN(products_tile_2_##w)(from, block, in_blocks, uk, uk + weights, to, to + block); break;
                switch (width) { WIDTHS(CASE) }
#undef CASE
                continue;
            }
#endif
#define CASE(w) \
    case w: AK_FN(products_tile_1_##w)(from, block, in_blocks, uk, to); break;
            switch (width) { WIDTHS(CASE) }
#undef CASE
        }
        k += pair;
    }
}

/// TILE_C input channels x `pair` output blocks, summed over `count` tiles.
AK_INLINE void AK_FN(gradient_tile)(
    const float *v, const float *g0, const float *g1, int count, float *d0, float *d1, bool first, const int pair) {
    ak_vec a[TILE_C], b[TILE_C];
    AK_UNROLL for (int c = 0; c < TILE_C; c++) {
        a[c] = first ? ak_zero() : ak_load(d0 + c * 16);
        b[c] = first || pair == 1 ? ak_zero() : ak_load(d1 + c * 16);
    }
    _Pragma("clang loop unroll_count(4)") for (int t = 0; t < count; t++) {
        ak_vec u = ak_load(g0 + t * 16), w = pair == 2 ? ak_load(g1 + t * 16) : u;
        AK_UNROLL for (int c = 0; c < TILE_C; c++) {
            ak_vec s = ak_splat(v[t * 16 + c]);
            a[c] = ak_fma(s, u, a[c]);
            if (pair == 2) b[c] = ak_fma(s, w, b[c]);
        }
    }
    AK_UNROLL for (int c = 0; c < TILE_C; c++) {
        ak_store(d0 + c * 16, a[c]);
        if (pair == 2) ak_store(d1 + c * 16, b[c]);
    }
}

/// All input channels x output blocks k0..<k1, summed over `count` tiles: d = v g^T, or d += unless first. `weights`
/// floats of d to an output block.
AK_NOINLINE void AK_FN(gradient_products_at)(
    const float *v, int in_blocks, const float *g, int k0, int k1, int tiles, int count, float *d, long weights,
    bool first) {
    long block = (long)tiles * 16;
    for (int k = k0; k < k1;) {
        int pair = ak_min(PAIR, k1 - k);
        const float *gk = g + (k - k0) * block;
        for (int c = 0; c < in_blocks * 16; c += TILE_C) {
            const float *from = v + c / 16 * block + c % 16;
            float *to = d + k * weights + c * 16;
            if (pair == 2)
                AK_FN(gradient_tile)(from, gk, gk + block, count, to, to + weights, first, 2);
            else
                AK_FN(gradient_tile)(from, gk, gk, count, to, to, first, 1);
        }
        k += pair;
    }
}

/// The same at one point, where the output blocks of d follow each other.
AK_INLINE void AK_FN(gradient_products)(
    const float *v, int in_blocks, const float *g, int k0, int k1, int tiles, int count, float *d, bool first) {
    AK_FN(gradient_products_at)(v, in_blocks, g, k0, k1, tiles, count, d, (long)in_blocks * 256, first);
}
