// The matrix products between the transforms of a Winograd-like convolution with bf16 operands, at one point, and the
// packing of its weights. Forward they sum over pairs of input channels; v: [in block][tile][16], m: [out block of a
// pair][tile][16], u as in conv_products_bf16.h. For the gradient of the weights they sum over pairs of tiles. Included
// once per instruction set, where it has bf16 products.
#include "conv_taps.inc.h"

/// A register tile: TILE tiles by two output blocks.
#define TILE 14

// ---------------------------------------------------------------------------------------------------------- products

/// `width` tiles x `pair` output blocks over all input channels: m = sum of v*u.
AK_INLINE void AK_FN(bf16_products_tile)(
    const uint16_t *v, long block, int in_blocks, const uint16_t *u, float *m, const int width, const int pair) {
    __m512 sums[2][TILE];
    AK_UNROLL for (int p = 0; p < width; p++) sums[0][p] = sums[1][p] = _mm512_setzero_ps();
    for (int b = 0; b < in_blocks; b++, v += block) {
        _Pragma("clang loop unroll_count(4)") for (int i = 0; i < 16; i += 2, u += pair * 32) {
            const __m512bh first = (__m512bh)_mm512_load_si512(u);
            const __m512bh second = pair == 2 ? (__m512bh)_mm512_load_si512(u + 32) : first;
            AK_UNROLL for (int p = 0; p < width; p++) {
                int32_t channels;
                memcpy(&channels, v + p * 16 + i, sizeof channels);
                const __m512bh x = (__m512bh)_mm512_set1_epi32(channels);
                sums[0][p] = _mm512_dpbf16_ps(sums[0][p], first, x);
                if (pair == 2) sums[1][p] = _mm512_dpbf16_ps(sums[1][p], second, x);
            }
        }
    }
    AK_UNROLL for (int p = 0; p < width; p++) {
        ak_store(m + p * 16, (ak_vec)sums[0][p]);
        if (pair == 2) ak_store(m + block + p * 16, (ak_vec)sums[1][p]);
    }
}

// One function per width, so that each keeps its sums in registers.
#define WIDTHS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#define KERNELS(width) \
    AK_NOINLINE void AK_FN(bf16_products_1_##width)( \
        const uint16_t *v, long block, int in_blocks, const uint16_t *u, float *m) { \
        AK_FN(bf16_products_tile)(v, block, in_blocks, u, m, width, 1); \
    } \
    AK_NOINLINE void AK_FN(bf16_products_2_##width)( \
        const uint16_t *v, long block, int in_blocks, const uint16_t *u, float *m) { \
        AK_FN(bf16_products_tile)(v, block, in_blocks, u, m, width, 2); \
    }
WIDTHS(KERNELS)
#undef KERNELS

/// The same for `count` tiles, in groups of nearly equal width. `block`: elements between blocks of v, and of m.
AK_INLINE void AK_FN(bf16_products)(
    const uint16_t *v, long block, int in_blocks, const uint16_t *u, int pair, float *m, int count) {
    static void (*const kernels[2][TILE])(const uint16_t *, long, int, const uint16_t *, float *) = {
#define NAME(width) AK_FN(bf16_products_1_##width),
        {WIDTHS(NAME)},
#undef NAME
#define NAME(width) AK_FN(bf16_products_2_##width),
        {WIDTHS(NAME)},
#undef NAME
    };
    const int groups = (count + TILE - 1) / TILE;
    for (int i = 0; i < groups; i++) {
        const long first = ak_begin(count, i, groups), width = ak_begin(count, i + 1, groups) - first;
        kernels[pair - 1][width - 1](v + first * 16, block, in_blocks, u, m + first * 16);
    }
}

#undef WIDTHS
#undef TILE

// ------------------------------------------------------------------------------------------- products of a gradient

/// Two tiles' values at one point, rounded and interleaved.
AK_INLINE void AK_FN(put_pair)(uint16_t *v, ak_vec first, ak_vec second) {
    typedef uint16_t halves __attribute__((vector_size(64)));
    const halves both = (halves)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first);
    *(halves *)v = __builtin_shufflevector(
        both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13,
        29, 14, 30, 15, 31);
}

/// A block of input channels x a block of output channels at one point, summed over pairs of tiles: d = v*g, or d +=
/// unless first.
AK_INLINE void AK_FN(gradient_sums_block)(const uint16_t *v, const uint16_t *g, int pairs, float *d, bool first) {
    __m512 sums[16];
    AK_UNROLL for (int c = 0; c < 16; c++) sums[c] = first ? _mm512_setzero_ps() : (__m512)ak_load(d + c * 16);
    _Pragma("clang loop unroll_count(2)") for (int t = 0; t < pairs; t++, v += 32, g += 32) {
        const __m512bh a = (__m512bh)_mm512_load_si512(g);
        AK_UNROLL for (int c = 0; c < 16; c++) {
            int32_t tiles;
            memcpy(&tiles, v + c * 2, sizeof tiles);
            sums[c] = _mm512_dpbf16_ps(sums[c], a, (__m512bh)_mm512_set1_epi32(tiles));
        }
    }
    AK_UNROLL for (int c = 0; c < 16; c++) ak_store(d + c * 16, (ak_vec)sums[c]);
}

/// All input channels x `out_blocks` output blocks: d: [out block][in channel][16]. `block`: elements between blocks of
/// v, and of g.
AK_NOINLINE void AK_FN(gradient_sums)(
    const uint16_t *v, int in_blocks, const uint16_t *g, int out_blocks, long block, int pairs, float *d,
    bool first) {
    for (int k = 0; k < out_blocks; k++, g += block)
        for (int c = 0; c < in_blocks; c++, d += 256)
            AK_FN(gradient_sums_block)(v + c * block, g, pairs, d, first);
}

// ------------------------------------------------------------------------------------------------------------ weights

/// The part's share of the weights in side x side matrices; `transform` takes three taps to `side` values.
AK_INLINE void AK_FN(bf16_pack)(
    const ak_bf16_pack_job *job, int part, int parts, const int side,
    void (*const transform)(const ak_vec *, ak_vec *)) {
    const int matrices = side * side;
    const bool backward = job->direction == AK_BACKWARD;
    const int c_blocks = ak_blocks(job->conv->c), k_blocks = ak_blocks(job->conv->k);
    const int in_blocks = backward ? k_blocks : c_blocks, out_blocks = backward ? c_blocks : k_blocks;
    const long units = (long)in_blocks * out_blocks;
    ak_vec taps[16 * 9], turned[9 * 16], points[2][AK_MATRICES_SIDE * AK_MATRICES_SIDE];
    for (long unit = ak_begin(units, part, parts); unit < ak_begin(units, part + 1, parts); unit++) {
        const int out = (int)(unit / in_blocks), in = (int)(unit % in_blocks);
        const int pair = ak_min(2, out_blocks - (out & ~1));
        AK_FN(block_taps)(
            job->weights, job->conv->c, job->conv->k, backward ? out : in, backward ? in : out, taps);
        if (backward) AK_FN(turn_taps)(taps, turned);
        uint16_t *to = job->packed + (out & ~1) * (matrices * 256L) * in_blocks + (out & 1) * 32 + in * 256L * pair;
        for (int i = 0; i < 16; i += 2, to += pair * 32) {
            for (int c = 0; c < 2; c++)
                AK_FN(matrices_of_taps)(
                    backward ? turned + i + c : taps + (i + c) * 9, backward ? 16 : 1, side, transform, points[c]);
            for (int point = 0; point < matrices; point++) {
                const ak_uvec low = __builtin_convertvector(AK_FN(to_bf16)(points[0][point]), ak_uvec);
                const ak_uvec high = __builtin_convertvector(AK_FN(to_bf16)(points[1][point]), ak_uvec);
                *(ak_uvec *)(to + point * 256L * in_blocks * pair) = low | high << 16;
            }
        }
    }
}
