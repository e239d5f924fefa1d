// 3x3 convolution of bf16 maps with stride 2 and padding 1 on the phases of its input (see conv_polyphase.inc.h), with
// bf16 products: the filter of two taps by Winograd's F(3, 2) with the interpolation points 0, 1, -1, infinity, so that
// three outputs take seven products in place of nine, and a tile of 3x3 takes 49 per channel pair in place of 81.
// Transforms and sums are fp32; transformed inputs and weights are rounded to bf16. F(4, 2) saves more, but that
// rounding costs it twice as much. Included once per instruction set; those without bf16 products get nothing of their
// own.
#include "lanes.inc.h"

#if AK_LEVEL == 3

#include "fusion.inc.h"

#include "conv_polyphase_panels.inc.h"
#include "conv_products_bf16.inc.h"

#define SIDE AK_POLYPHASE_BF16_SIDE
#define POINTS AK_POLYPHASE_BF16_POINTS
#define WEIGHTS AK_POLYPHASE_BF16_WEIGHTS
#define MATRICES AK_POLYPHASE_BF16_MATRICES

// ------------------------------------------------------------------------------------------------------------- inputs

/// The values that a window takes for a whole tile.
AK_INLINE int AK_FN(window_size)(const ak_polyphase_window window) { return ak_polyphase_size(window, SIDE); }

/// A window's values to points: those of the phase with one tap as they are, the others by B^T, or by A for a tile of
/// dy.
AK_INLINE void AK_FN(phases)(const ak_vec *d, ak_vec *o, const ak_polyphase_window window) {
    const bool x = window == AK_POLYPHASE_X;
    const int step = x ? 2 : 1;
    AK_UNROLL for (int i = 0; i < SIDE; i++) o[i] = d[x ? 2 * i + 1 : i];
    if (window == AK_POLYPHASE_TILE) {
        const ak_vec even = d[0] + d[2];
        o[3] = d[0];
        o[4] = even + d[1];
        o[5] = even - d[1];
        o[6] = d[2];
        return;
    }
    o[3] = d[0] - d[2 * step];
    o[4] = d[step] + d[2 * step];
    o[5] = d[2 * step] - d[step];
    o[6] = d[3 * step] - d[step];
}

/// A tile's window, activated and zero outside the map, to columns of points of its height: t[column][point].
AK_INLINE void AK_FN(window_columns)(
    const ak_map *m, int block, const ak_polyphase_tile *tile, const AK_FN(norm) * norm, ak_vec (*t)[POINTS],
    const ak_reading reading, const ak_polyphase_window window) {
    const int size = AK_FN(window_size)(window), scale = window == AK_POLYPHASE_X ? 2 : 1;
    const int y = scale * tile->y - (scale - 1), x = scale * tile->x - (scale - 1);
    // A tile of dy ends where the next one begins.
    const bool ends = window == AK_POLYPHASE_TILE;
    const int bottom = ends ? ak_min(m->h, y + tile->rows) : m->h, right = ends ? ak_min(m->w, x + tile->cols) : m->w;
    const uint16_t *plane = ak_halves(m) + ak_plane(m, tile->n, block), *at[POINTS];
    __mmask16 keep[POINTS]; // rows outside point into the map and are not kept
    AK_UNROLL for (int i = 0; i < size; i++) {
        const bool inside = y + i >= 0 && y + i < bottom;
        at[i] = plane + (inside ? (y + i) * m->row : 0);
        keep[i] = inside ? 0xffff : 0;
    }
    for (int j = 0; j < size; j++) {
        if (x + j < 0 || x + j >= right) {
            AK_UNROLL for (int i = 0; i < POINTS; i++) t[j][i] = ak_zero();
            continue;
        }
        ak_vec d[POINTS];
        AK_UNROLL for (int i = 0; i < size; i++) {
            d[i] = AK_FN(activated)(AK_FN(lanes)(at[i], (x + j) * 16L, true), norm, reading);
            d[i] = (ak_vec)_mm512_maskz_mov_ps(keep[i], (__m512)d[i]);
        }
        AK_FN(phases)(d, t[j], window);
    }
}

/// Row i of a window's columns to points of its width.
AK_INLINE void AK_FN(window_row)(ak_vec (*t)[POINTS], int i, ak_vec *o, const ak_polyphase_window window) {
    ak_vec d[POINTS];
    AK_UNROLL for (int j = 0; j < AK_FN(window_size)(window); j++) d[j] = t[j][i];
    AK_FN(phases)(d, o, window);
}

/// Transforms the windows of a panel's tiles of all blocks of a source to v: [block][position][16].
AK_INLINE void AK_FN(inputs)(
    const ak_source *in, const ak_polyphase_panel *panel, int positions, uint16_t *v, const ak_reading reading,
    const ak_polyphase_window window) {
    for (int block = 0; block < ak_blocks(in->map.c); block++, v += positions * 16L) {
        const AK_FN(norm) norm = AK_FN(norm_of)(&in->activation, block, reading);
        for (int k = 0; k < panel->count; k++) {
            const ak_polyphase_tile *tile = &panel->tile[k];
            ak_vec t[POINTS][POINTS];
            AK_FN(window_columns)(&in->map, block, tile, &norm, t, reading, window);
            const long *at = panel->at;
            for (int i = 0; i < POINTS; i++, at += POINTS) {
                if (!ak_polyphase_needs(SIDE, tile->rows, i)) continue;
                ak_vec o[POINTS];
                AK_FN(window_row)(t, i, o, window);
                AK_UNROLL for (int j = 0; j < POINTS; j++)
                    if (ak_polyphase_needs(SIDE, tile->cols, j))
                        AK_FN(put_lanes)(v, at[j] + k * 16L, o[j], true);
            }
        }
    }
}

#define INPUTS(name, reading, window) \
    AK_NOINLINE void AK_FN(name)( \
        const ak_source *in, const ak_polyphase_panel *panel, int positions, uint16_t *v) { \
        AK_FN(inputs)(in, panel, positions, v, reading, window); \
    }
INPUTS(inputs_stored, AK_AS_STORED, AK_POLYPHASE_X)
INPUTS(inputs_affine, AK_AFFINE, AK_POLYPHASE_X)
INPUTS(inputs_prelu, AK_PRELU, AK_POLYPHASE_X)
INPUTS(inputs_dy, AK_AS_STORED, AK_POLYPHASE_DY)
#undef INPUTS

// ------------------------------------------------------------------------------------------------------------ outputs

/// A^T: points to three outputs, both phases' sum; or to six values of dx, which are the phases in turn.
AK_INLINE void AK_FN(values)(const ak_vec *m, ak_vec *o, const ak_direction direction) {
    const ak_vec even = m[4] + m[5], y[SIDE] = {m[3] + even, m[4] - m[5], even + m[6]};
    AK_UNROLL for (int i = 0; i < SIDE; i++) {
        if (direction == AK_FORWARD) o[i] = m[i] + y[i];
        else o[2 * i] = m[i], o[2 * i + 1] = y[i];
    }
}

/// The points of a tile to columns of outputs: t[output][point of its width].
AK_INLINE void AK_FN(columns)(
    const float *m, const long *at, const ak_polyphase_tile *tile, ak_vec (*t)[POINTS], const ak_direction direction) {
    const int size = direction == AK_FORWARD ? SIDE : 2 * SIDE;
    const bool rows = tile->rows == SIDE;
    for (int j = 0; j < POINTS; j++, at++) {
        ak_vec d[POINTS], o[2 * SIDE];
        AK_UNROLL for (int i = 0; i < 2 * SIDE; i++) o[i] = ak_zero();
        if (ak_polyphase_needs(SIDE, tile->cols, j)) {
            AK_UNROLL for (int i = 0; i < POINTS; i++)
                d[i] = rows || ak_polyphase_needs(SIDE, SIDE - 1, i) ? ak_load(m + at[i * POINTS]) : ak_zero();
            AK_FN(values)(d, o, direction);
        }
        AK_UNROLL for (int i = 0; i < size; i++) t[i][j] = o[i];
    }
}

/// What is gathered from the outputs.
typedef enum { AK_FN(NOTHING), AK_FN(MOMENTS), AK_FN(SUMS), AK_FN(SUMS_PRELU) } AK_FN(gathering);

/// Makes block k of tiles t0..<t1 of a panel's outputs of their points, m, and gathers their statistics.
AK_INLINE void AK_FN(some_outputs)(
    const ak_polyphase_bf16_job *job, const ak_polyphase_panel *panel, int t0, int t1, int k, const float *m, void *own,
    const ak_direction direction, const AK_FN(gathering) gathering) {
    const int scale = direction == AK_FORWARD ? 1 : 2;
    const ak_map *out = &job->out;
    uint16_t *const data = ak_halves(out);
    const uint16_t *const x_data = ak_halves(&job->reduction.x);
    const bool reduces = gathering >= AK_FN(SUMS), prelu = gathering == AK_FN(SUMS_PRELU), add = job->accumulate;
    AK_FN(stretch) stretch = {ak_zero(), ak_zero(), ak_zero()};
    AK_FN(reducer) reducer = {ak_zero(), ak_zero(), ak_zero(), ak_zero()};
    AK_FN(partial_sums) sums = {ak_zero(), ak_zero(), ak_zero()};
    int written = 0;
    if (reduces) reducer = AK_FN(reducer_of)(&job->reduction, k, prelu);
    for (int q = t0; q < t1; q++) {
        const ak_polyphase_tile *tile = &panel->tile[q];
        const int h = ak_min(scale * tile->rows, out->h - scale * tile->y);
        const int w = ak_min(scale * tile->cols, out->w - scale * tile->x);
        ak_vec t[2 * SIDE][POINTS];
        AK_FN(columns)(m + q * 16, panel->at, tile, t, direction);
        long at = ak_plane(out, tile->n, k) + scale * (tile->y * out->row + tile->x * 16);
        for (int i = 0; i < h; i++, at += out->row) {
            ak_vec o[2 * SIDE];
            AK_FN(values)(t[i], o, direction);
            if (gathering == AK_FN(MOMENTS) && written == 0) stretch = AK_FN(stretch_begin)(own, o[0]);
            AK_UNROLL for (int j = 0; j < SIDE * scale; j++) {
                if (j >= w) continue;
                if (add) o[j] += AK_FN(lanes)(data, at + j * 16, true);
                if (gathering == AK_FN(MOMENTS)) AK_FN(stretch_add)(&stretch, o[j]);
                if (reduces)
                    AK_FN(reduce_lanes)(&sums, o[j], AK_FN(lanes)(x_data, at + j * 16, true), &reducer, prelu);
                AK_FN(put_lanes)(data, at + j * 16, o[j], true);
            }
            written += w;
        }
    }
    // Copies: what a call is given the address of would live in memory all along.
    const AK_FN(stretch) all = stretch;
    const AK_FN(partial_sums) reduced = sums;
    if (gathering == AK_FN(MOMENTS)) AK_FN(stretch_end)(&all, written, own);
    if (reduces) AK_FN(partial_sums_end)(&reduced, own);
}

/// The same of all tiles, as many together as give what is summed in fp32 before it is merged.
#define OUTPUTS(name, direction, gathering) \
    AK_NOINLINE void AK_FN(name)( \
        const ak_polyphase_bf16_job *job, const ak_polyphase_panel *panel, int k, const float *m, void *own) { \
        const int tiles = direction == AK_FORWARD ? 28 : 7; \
        for (int t = 0; t < panel->count; t += tiles) \
            AK_FN(some_outputs)( \
                job, panel, t, ak_min(t + tiles, panel->count), k, m, own, direction, AK_FN(gathering)); \
    }
OUTPUTS(outputs_y, AK_FORWARD, NOTHING)
OUTPUTS(outputs_y_moments, AK_FORWARD, MOMENTS)
OUTPUTS(outputs_dx, AK_BACKWARD, NOTHING)
OUTPUTS(outputs_dx_sums, AK_BACKWARD, SUMS)
OUTPUTS(outputs_dx_sums_prelu, AK_BACKWARD, SUMS_PRELU)
#undef OUTPUTS

// ---------------------------------------------------------------------------------------------------------- the pass

/// m = v*u for a pair of output blocks of a panel, or one; meanwhile reads ahead, so many rows per matrix.
AK_INLINE void AK_FN(panel_products)(
    const ak_polyphase_panel *panel, int positions, const uint16_t *v, int in_blocks, const uint16_t *u, int pair,
    float *m, AK_FN(ahead) * ahead, const int *rows, int count) {
    for (int i = 0; i < MATRICES; i++, u += in_blocks * 256L * pair) {
        const long at = panel->start[i] * 16L;
        AK_FN(bf16_products)(
            v + at, positions * 16L, in_blocks, u, pair, m + at, panel->start[i + 1] - panel->start[i]);
        for (int a = 0; a < count; a++) AK_FN(ahead_step)(&ahead[a], rows[a]);
    }
}

/// Leaves output block k of a panel.
AK_INLINE void AK_FN(panel_outputs)(
    const ak_polyphase_bf16_job *job, const ak_polyphase_panel *panel, int k, const float *m, ak_moments *moments,
    ak_sums *sums) {
    if (job->direction == AK_FORWARD) {
        if (moments) AK_FN(outputs_y_moments)(job, panel, k, m, moments + k);
        else AK_FN(outputs_y)(job, panel, k, m, NULL);
    } else if (!sums) {
        AK_FN(outputs_dx)(job, panel, k, m, NULL);
    } else if (!job->reduction.slope) {
        AK_FN(outputs_dx_sums)(job, panel, k, m, sums + k);
    } else {
        AK_FN(outputs_dx_sums_prelu)(job, panel, k, m, sums + k);
    }
}

void AK_FN(ak_polyphase_bf16_part)(void *context, int part, int parts);
void AK_FN(ak_polyphase_bf16_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_polyphase_bf16_job *job = context;
    const ak_polyphase_plan *plan = &job->plan;
    const bool forward = job->direction == AK_FORWARD;
    ak_moments *moments = ak_moments_begin(job->moments, job->out.c, part);
    ak_sums *sums = ak_sums_begin(job->reduction.sums, job->out.c, part);
    if (part >= plan->split.positions * plan->split.blocks) return;
    const int in_blocks = ak_blocks(job->in.map.c), positions = plan->positions, scale = forward ? 1 : 2;
    const AK_FN(polyphase_share) share = AK_FN(polyphase_share_of)(plan, ak_blocks(job->out.c), part);
    const int turns = (share.k1 - share.k0 + 1) / 2;
    uint16_t *v = (uint16_t *)(plan->workspace + part * plan->thread_floats);
    float *m = plan->workspace + part * plan->thread_floats + positions * 16L * ((in_blocks + 1) / 2);
    const ak_reading reading = ak_reading_of(&job->in.activation);
    ak_polyphase_panel panels[2];
    AK_FN(polyphase_panel_of)(plan, &share, 0, &panels[0]);
    for (int round = 0; round < share.rounds; round++) {
        const ak_polyphase_panel *panel = &panels[round % 2];
        ak_polyphase_panel *next = &panels[(round + 1) % 2];
        if (!forward) AK_FN(inputs_dy)(&job->in, panel, positions, v);
        else if (reading == AK_AS_STORED) AK_FN(inputs_stored)(&job->in, panel, positions, v);
        else if (reading == AK_AFFINE) AK_FN(inputs_affine)(&job->in, panel, positions, v);
        else AK_FN(inputs_prelu)(&job->in, panel, positions, v);
        AK_FN(polyphase_panel_of)(plan, &share, round + 1, next);
        AK_FN(ahead) ahead[3];
        ahead[0] = AK_FN(ahead_of_window)(
            &job->in.map, next, 0, in_blocks, forward ? AK_POLYPHASE_X : AK_POLYPHASE_DY);
        int rows[3] = {AK_FN(ahead_rows)(&ahead[0], MATRICES * turns)};
        for (int k = share.k0; k < share.k1; k += 2) {
            const int pair = ak_min(2, share.k1 - k);
            // What is written, too: each of its lines is read before it is overwritten.
            ahead[1] = AK_FN(ahead_of)(&job->out, panel, k, k + pair, scale, 0, 0);
            if (sums) ahead[2] = AK_FN(ahead_of)(&job->reduction.x, panel, k, k + pair, scale, 0, 0);
            rows[1] = rows[2] = AK_FN(ahead_rows)(&ahead[1], MATRICES);
            const uint16_t *u = job->weights + k * (MATRICES * 256L) * in_blocks;
            AK_FN(panel_products)(panel, positions, v, in_blocks, u, pair, m, ahead, rows, sums ? 3 : 2);
            for (int q = 0; q < pair; q++)
                AK_FN(panel_outputs)(job, panel, k + q, m + q * positions * 16L, moments, sums);
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ packing

/// G: three taps to the weights of the first phase and of F(3, 2).
AK_INLINE void AK_FN(phase_weights)(const ak_vec *g, ak_vec *o) {
    const ak_vec half = ak_splat(0.5f);
    o[0] = g[1];
    o[1] = g[0];
    o[2] = (g[0] + g[2]) * half;
    o[3] = (g[0] - g[2]) * half;
    o[4] = g[2];
}

void AK_FN(ak_polyphase_bf16_pack_part)(void *context, int part, int parts);
void AK_FN(ak_polyphase_bf16_pack_part)(void *context, int part, int parts) {
    AK_FN(bf16_pack)(context, part, parts, WEIGHTS, AK_FN(phase_weights));
}

#include "conv_polyphase_bf16_gradient.inc.h"

#undef SIDE
#undef POINTS
#undef WEIGHTS
#undef MATRICES
#endif
