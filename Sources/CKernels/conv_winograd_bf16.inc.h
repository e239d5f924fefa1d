// 3x3 convolution of bf16 maps with stride 1 and padding 1 by Winograd's F(2x2, 3x3): Lavin and Gray, "Fast Algorithms
// for Convolutional Neural Networks" (2016), with the interpolation points 0, 1, -1, infinity. Each 2x2 tile of outputs
// takes 16 multiplications per channel pair in place of 36: Y = A^T [(G g G^T) . (B^T d B)] A. Transforms and sums are
// fp32; transformed inputs and weights are rounded to bf16. F(4x4, 3x3) saves more, but that rounding costs it sixfold.
// Included once per instruction set; those without bf16 products get nothing of their own.
#include "lanes.inc.h"

#if AK_LEVEL == 3

#include "fusion.inc.h"

#include "conv_products_bf16.inc.h"

#define POINTS AK_WINOGRAD_BF16_POINTS
/// Elements between blocks of transformed tiles.
#define BLOCK (AK_WINOGRAD_BF16_ROOM * 16L)
#define PRODUCTS AK_WINOGRAD_BF16_PRODUCTS

/// Neighbouring tiles of one row of tiles: the image and the output position where they begin.
typedef struct {
    int n, y, x, tiles;
} AK_FN(strip);

/// The tiles of one round, forward or of the gradient of the weights.
typedef struct {
    int tiles, count;
    AK_FN(strip) strips[AK_WINOGRAD_BF16_GRADIENT_TILES];
} AK_FN(panel);

/// The panel of round `round` of `rounds` over tiles t0..<t1 of a map; empty after the last.
AK_INLINE void AK_FN(panel_of)(const ak_map *m, long t0, long t1, int round, int rounds, AK_FN(panel) * panel) {
    const long first = t0 + ak_begin(t1 - t0, round, rounds);
    const int across = (m->w + 1) / 2, down = (m->h + 1) / 2, at = (int)(first % (across * down));
    int n = (int)(first / (across * down)), y = at / across, x = at % across;
    panel->tiles = round < rounds ? (int)(t0 + ak_begin(t1 - t0, round + 1, rounds) - first) : 0;
    panel->count = 0;
    for (int left = panel->tiles; left > 0;) {
        const int tiles = ak_min(left, across - x);
        panel->strips[panel->count++] = (AK_FN(strip)){n, y * 2, x * 2, tiles};
        left -= tiles;
        x = 0;
        if (++y == down) y = 0, n++;
    }
}

// ------------------------------------------------------------------------------------------------------------- inputs

/// B^T: four inputs to four points.
AK_INLINE void AK_FN(input_points)(ak_vec d0, ak_vec d1, ak_vec d2, ak_vec d3, ak_vec *o) {
    o[0] = d0 - d2;
    o[1] = d1 + d2;
    o[2] = d2 - d1;
    o[3] = d1 - d3;
}

/// Four rows of one block of a map around a strip; those outside point into the map and are not kept.
typedef struct {
    const uint16_t *at[4];
    __mmask16 keep[4];
    int width;
} AK_FN(rows);

/// The rows of a plane from y on.
AK_INLINE AK_FN(rows) AK_FN(rows_of)(const ak_map *m, const uint16_t *plane, int y) {
    AK_FN(rows) rows = {.width = m->w};
    AK_UNROLL for (int i = 0; i < 4; i++) {
        const bool inside = y + i >= 0 && y + i < m->h;
        rows.at[i] = plane + (inside ? (y + i) * m->row : 0);
        rows.keep[i] = inside ? 0xffff : 0;
    }
    return rows;
}

/// Column x of the rows, activated and transformed; zero outside the map.
AK_INLINE void AK_FN(input_column)(
    const AK_FN(rows) * rows, int x, const AK_FN(norm) * norm, ak_vec *o, const ak_reading reading) {
    AK_UNROLL for (int i = 0; i < 4; i++) o[i] = ak_zero();
    if (x < 0 || x >= rows->width) return;
    ak_vec d[4];
    AK_UNROLL for (int i = 0; i < 4; i++) {
        d[i] = AK_FN(activated)(AK_FN(lanes)(rows->at[i], x * 16L, true), norm, reading);
        d[i] = (ak_vec)_mm512_maskz_mov_ps(rows->keep[i], (__m512)d[i]);
    }
    AK_FN(input_points)(d[0], d[1], d[2], d[3], o);
}

/// Two neighbouring tiles' values at one point, rounded.
AK_INLINE void AK_FN(put_two)(uint16_t *v, ak_vec first, ak_vec second) {
    _mm512_storeu_si512(v, (__m512i)_mm512_cvtne2ps_pbh((__m512)second, (__m512)first));
}

/// Transforms a strip of one block, two tiles at a time: an odd number of tiles is followed by one that means nothing.
/// Neighbouring tiles share two columns. `stride`: elements between points.
AK_INLINE void AK_FN(input_strip)(
    const AK_FN(rows) * rows, int x, int tiles, const AK_FN(norm) * norm, uint16_t *v, long stride,
    const ak_reading reading) {
    ak_vec column[6][4];
    AK_FN(input_column)(rows, x - 1, norm, column[0], reading);
    AK_FN(input_column)(rows, x, norm, column[1], reading);
    for (int t = 0; t < tiles; t += 2, v += 32) {
        AK_UNROLL for (int i = 2; i < 6; i++) AK_FN(input_column)(rows, x + 2 * t + i - 1, norm, column[i], reading);
        AK_UNROLL for (int i = 0; i < 4; i++) {
            ak_vec o[2][4];
            AK_UNROLL for (int q = 0; q < 2; q++) {
                ak_vec(*from)[4] = column + q * 2;
                AK_FN(input_points)(from[0][i], from[1][i], from[2][i], from[3][i], o[q]);
            }
            AK_UNROLL for (int j = 0; j < 4; j++) AK_FN(put_two)(v + (i * 4 + j) * stride, o[0][j], o[1][j]);
        }
        AK_UNROLL for (int i = 0; i < 4; i++) column[0][i] = column[4][i], column[1][i] = column[5][i];
    }
}

/// Transforms the strips of all blocks of a source into v: [point][block][tile][16].
AK_INLINE void AK_FN(inputs)(
    const ak_source *in, const AK_FN(panel) * panel, uint16_t *v, long stride, const ak_reading reading) {
    const ak_map *m = &in->map;
    for (int block = 0; block < ak_blocks(m->c); block++) {
        const AK_FN(norm) norm = AK_FN(norm_of)(&in->activation, block, reading);
        uint16_t *to = v + block * BLOCK;
        for (int s = 0; s < panel->count; s++) {
            const AK_FN(strip) strip = panel->strips[s];
            const uint16_t *plane = ak_halves(m) + ak_plane(m, strip.n, block);
            const AK_FN(rows) rows = AK_FN(rows_of)(m, plane, strip.y - 1);
            AK_FN(input_strip)(&rows, strip.x, strip.tiles, &norm, to, stride, reading);
            to += strip.tiles * 16;
        }
    }
}

#define INPUTS(name, reading) \
    AK_NOINLINE void AK_FN(name)(const ak_source *in, const AK_FN(panel) * panel, uint16_t *v, long stride) { \
        AK_FN(inputs)(in, panel, v, stride, reading); \
    }
INPUTS(inputs_stored, AK_AS_STORED)
INPUTS(inputs_affine, AK_AFFINE)
INPUTS(inputs_prelu, AK_PRELU)
#undef INPUTS

// ------------------------------------------------------------------------------------------------------------ outputs

/// A^T . A: sixteen points to 2x2 outputs.
AK_INLINE void AK_FN(output_tile)(const float *m, ak_vec *o) {
    ak_vec t[2][4];
    AK_UNROLL for (int j = 0; j < 4; j++) {
        const float *q = m + j * PRODUCTS;
        const ak_vec a = ak_load(q), b = ak_load(q + 4 * PRODUCTS), c = ak_load(q + 8 * PRODUCTS);
        t[0][j] = a + b + c;
        t[1][j] = b - c - ak_load(q + 12 * PRODUCTS);
    }
    AK_UNROLL for (int i = 0; i < 2; i++) {
        o[i * 2] = t[i][0] + t[i][1] + t[i][2];
        o[i * 2 + 1] = t[i][1] - t[i][2] - t[i][3];
    }
}

/// Asks for blocks b0..<b1 of a map's pixels under a panel, `below` rows further down, to have them when the products
/// are done: the runs are too short and too scattered for the processor to foresee.
AK_INLINE void AK_FN(prefetch)(const ak_map *m, const AK_FN(panel) * panel, int below, int b0, int b1) {
    for (int s = 0; s < panel->count; s++) {
        const AK_FN(strip) strip = panel->strips[s];
        const int y0 = strip.y + below, y1 = ak_min(y0 + 2, m->h), x1 = ak_min(strip.x + strip.tiles * 2, m->w);
        for (int block = b0; block < b1; block++)
            for (int y = y0; y < y1; y++) {
                const uint16_t *row = ak_halves(m) + ak_plane(m, strip.n, block) + y * m->row;
                for (int x = strip.x; x < x1; x += 2) __builtin_prefetch(row + x * 16, 0, 2);
            }
    }
}

/// What is gathered from the outputs.
typedef enum { AK_FN(NOTHING), AK_FN(MOMENTS), AK_FN(SUMS), AK_FN(SUMS_PRELU) } AK_FN(gathering);

/// Transforms and writes the strips of output block k; m: [point][tile][16].
AK_INLINE void AK_FN(outputs)(
    const ak_winograd_bf16_job *job, const AK_FN(panel) * panel, int k, const float *m, void *own,
    const AK_FN(gathering) gathering) {
    const ak_map *out = &job->out;
    const long row = out->row;
    uint16_t *const data = ak_halves(out);
    const uint16_t *const x_data = ak_halves(&job->reduction.x);
    const bool reduces = gathering >= AK_FN(SUMS), prelu = gathering == AK_FN(SUMS_PRELU), add = job->accumulate;
    ak_vec o[4];
    AK_FN(stretch) stretch = {ak_zero(), ak_zero(), ak_zero()};
    AK_FN(reducer) reducer = {ak_zero(), ak_zero(), ak_zero(), ak_zero()};
    AK_FN(partial_sums) sums = {ak_zero(), ak_zero(), ak_zero()};
    int written = 0;
    if (gathering == AK_FN(MOMENTS)) {
        AK_FN(output_tile)(m, o);
        stretch = AK_FN(stretch_begin)(own, o[0]);
    }
    if (reduces) reducer = AK_FN(reducer_of)(&job->reduction, k, prelu);
    for (int s = 0; s < panel->count; s++) {
        const AK_FN(strip) strip = panel->strips[s];
        const int rows = ak_min(2, out->h - strip.y), columns = ak_min(strip.tiles * 2, out->w - strip.x);
        long at = ak_plane(out, strip.n, k) + strip.y * row + strip.x * 16L;
        for (int x = 0; x < columns; x += 2, m += 16, at += 32) {
            AK_FN(output_tile)(m, o);
            AK_UNROLL for (int i = 0; i < 4; i++) {
                if (i / 2 >= rows || x + i % 2 >= columns) continue;
                const long pixel = at + i / 2 * row + i % 2 * 16;
                if (add) o[i] += AK_FN(lanes)(data, pixel, true);
                if (gathering == AK_FN(MOMENTS)) AK_FN(stretch_add)(&stretch, o[i]);
                if (reduces)
                    AK_FN(reduce_lanes)(&sums, o[i], AK_FN(lanes)(x_data, pixel, true), &reducer, prelu);
                AK_FN(put_lanes)(data, pixel, o[i], true);
            }
        }
        written += rows * columns;
    }
    // Copies: what a call is given the address of would live in memory all along.
    const AK_FN(stretch) all = stretch;
    const AK_FN(partial_sums) reduced = sums;
    if (gathering == AK_FN(MOMENTS)) AK_FN(stretch_end)(&all, written, own);
    if (reduces) AK_FN(partial_sums_end)(&reduced, own);
}

#define OUTPUTS(name, gathering) \
    AK_NOINLINE void AK_FN(name)( \
        const ak_winograd_bf16_job *job, const AK_FN(panel) * panel, int k, const float *m, void *own) { \
        AK_FN(outputs)(job, panel, k, m, own, AK_FN(gathering)); \
    }
OUTPUTS(outputs_alone, NOTHING)
OUTPUTS(outputs_moments, MOMENTS)
OUTPUTS(outputs_sums, SUMS)
OUTPUTS(outputs_sums_prelu, SUMS_PRELU)
#undef OUTPUTS

// --------------------------------------------------------------------------------------------------------- the pass

void AK_FN(ak_winograd_bf16_part)(void *context, int part, int parts);
void AK_FN(ak_winograd_bf16_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_winograd_bf16_job *job = context;
    const ak_map *out = &job->out;
    ak_moments *moments = ak_moments_begin(job->moments, out->c, part);
    ak_sums *sums = ak_sums_begin(job->reduction.sums, out->c, part);
    if (part >= job->split.positions * job->split.blocks) return;
    const int a = part % job->split.positions, b = part / job->split.positions;
    const int in_blocks = ak_blocks(job->in.map.c), out_blocks = ak_blocks(out->c), pairs = (out_blocks + 1) / 2;
    const int k0 = 2 * (int)ak_begin(pairs, b, job->split.blocks);
    const int k1 = ak_min(out_blocks, 2 * (int)ak_begin(pairs, b + 1, job->split.blocks));
    const long all = ak_winograd_bf16_tiles(out);
    const long t0 = ak_begin(all, a, job->split.positions), t1 = ak_begin(all, a + 1, job->split.positions);
    uint16_t *v = (uint16_t *)(job->workspace + (size_t)part * job->thread_bytes);
    float *m = (float *)(v + POINTS * job->stride);
    const ak_reading reading = ak_reading_of(&job->in.activation);
    const int rounds = (int)((t1 - t0 + AK_WINOGRAD_BF16_TILES - 1) / AK_WINOGRAD_BF16_TILES);
    AK_FN(panel) panels[2];
    if (rounds > 0) AK_FN(panel_of)(out, t0, t1, 0, rounds, &panels[0]);
    for (int round = 0; round < rounds; round++) {
        const AK_FN(panel) *panel = &panels[round % 2], *next = &panels[(round + 1) % 2];
        AK_FN(panel_of)(out, t0, t1, round + 1, rounds, &panels[(round + 1) % 2]);
        if (reading == AK_AS_STORED) AK_FN(inputs_stored)(&job->in, panel, v, job->stride);
        else if (reading == AK_AFFINE) AK_FN(inputs_affine)(&job->in, panel, v, job->stride);
        else AK_FN(inputs_prelu)(&job->in, panel, v, job->stride);
        for (int k = k0; k < k1; k += 2) {
            const int pair = ak_min(2, k1 - k), turn = (k - k0) / 2, turns = (k1 - k0 + 1) / 2;
            const int b0 = (int)ak_begin(in_blocks, turn, turns), b1 = (int)ak_begin(in_blocks, turn + 1, turns);
            AK_FN(prefetch)(&job->in.map, next, 1, b0, b1);
            AK_FN(prefetch)(out, panel, 0, k, k + pair);
            if (sums) AK_FN(prefetch)(&job->reduction.x, panel, 0, k, k + pair);
            const uint16_t *u = job->weights + k * (POINTS * 256L) * in_blocks;
            for (int point = 0; point < POINTS; point++)
                AK_FN(bf16_products)(
                    v + point * job->stride, BLOCK, in_blocks, u + point * in_blocks * 256L * pair, pair,
                    m + point * PRODUCTS, panel->tiles);
            for (int q = 0; q < pair; q++) {
                const float *from = m + q * BLOCK;
                if (moments) AK_FN(outputs_moments)(job, panel, k + q, from, moments + k + q);
                else if (!sums) AK_FN(outputs_alone)(job, panel, k + q, from, NULL);
                else if (!job->reduction.slope) AK_FN(outputs_sums)(job, panel, k + q, from, sums + k + q);
                else AK_FN(outputs_sums_prelu)(job, panel, k + q, from, sums + k + q);
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ packing

/// G: three taps to four points.
AK_INLINE void AK_FN(weight_points)(const ak_vec *g, ak_vec *o) {
    const ak_vec half = ak_splat(0.5f), even = (g[0] + g[2]) * half;
    o[0] = g[0];
    o[1] = ak_fma(g[1], half, even);
    o[2] = ak_fma(g[1], -half, even);
    o[3] = g[2];
}

void AK_FN(ak_winograd_bf16_pack_part)(void *context, int part, int parts);
void AK_FN(ak_winograd_bf16_pack_part)(void *context, int part, int parts) {
    AK_FN(bf16_pack)(context, part, parts, 4, AK_FN(weight_points));
}

#include "conv_winograd_bf16_gradient.inc.h"

#undef POINTS
#undef BLOCK
#undef PRODUCTS
#endif
