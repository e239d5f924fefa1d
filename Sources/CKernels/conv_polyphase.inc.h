// 3x3 convolution with stride 2 and padding 1 on the phases of its input. In one dimension
// y[i] = w0*x[2i-1] + w1*x[2i] + w2*x[2i+1] is a filter of one tap on the even values plus one of two taps on the odd.
// The latter by Winograd's F(4, 2) takes five products for four outputs, so that four outputs take nine in place of
// twelve, and a tile of 4x4 takes 81 per channel pair in place of 144. Backward, dx[2i] = w1*dy[i] and
// dx[2i+1] = w2*dy[i] + w0*dy[i+1] are the same filters; the weights' gradient is the adjoint of forward.
// Included once per instruction set.
#include "lanes.inc.h"

#include "fusion.inc.h"

#include "conv_polyphase_panels.inc.h"
#include "conv_polyphase_transforms.inc.h"

#include "conv_products.inc.h"
#include "conv_taps.inc.h"

// ------------------------------------------------------------------------------------------------------------- panels

/// Copies the part of a window that lies inside both the map and what a tile of rows x cols needs, as its reader sees
/// it, zero elsewhere. (y, x): its first element, which may lie outside the map.
AK_NOINLINE void AK_FN(polyphase_patch)(
    const ak_map *m, long plane, const AK_FN(norm) * norm, int y, int x, int rows, int cols, int size, float *patch) {
    const int left = ak_max(0, -x), right = ak_min(cols, m->w - x);
    for (int i = 0; i < size; i++, patch += size * 16) {
        const bool inside = i < rows && y + i >= 0 && y + i < m->h;
        const int j0 = inside ? left : size, j1 = inside ? right : size;
        for (int j = 0; j < j0; j++) ak_store(patch + j * 16, ak_zero());
        for (int j = j0; j < j1; j++) {
            ak_vec v = AK_FN(polyphase_get)(m, plane + (y + i) * m->row + (x + j) * 16);
            if (norm) v = AK_FN(activated)(v, norm, AK_PRELU);
            ak_store(patch + j * 16, v);
        }
        for (int j = j1; j < size; j++) ak_store(patch + j * 16, ak_zero());
    }
}

/// Transforms one kind of window of a panel's tiles, blocks b0..<b1, into v.
AK_NOINLINE void AK_FN(polyphase_transform)(
    const ak_map *m, const ak_activation *activation, int b0, int b1, const ak_polyphase_panel *panel, int positions,
    float *v, ak_polyphase_window window) {
    _Alignas(64) float patch[AK_POLYPHASE_GRID * 16];
    const ak_reading reading = activation ? ak_reading_of(activation) : AK_AS_STORED;
    const bool bf16 = m->dtype == AK_BF16;
    const int size = ak_polyphase_size(window, 4);
    const bool again = AK_FN(ahead_fails)(panel, b1 - b0);
    AK_FN(ahead) ahead = AK_FN(ahead_of_window)(m, panel, b0, b1, window);
    if (again) AK_FN(ahead_step)(&ahead, size);
    for (int b = b0; b < b1; b++, v += (long)positions * 16) {
        AK_FN(norm) norm, *given = NULL;
        if (reading != AK_AS_STORED) {
            given = &norm;
            if (reading == AK_PRELU) norm = AK_FN(norm_of)(activation, b, AK_PRELU);
            else norm = AK_FN(norm_of)(activation, b, AK_AFFINE), norm.slope = ak_splat(1);
        }
        for (int t = 0; t < panel->count; t++) {
            if (again) AK_FN(ahead_step)(&ahead, size);
            const ak_polyphase_tile *tile = &panel->tile[t];
            const int y = window == AK_POLYPHASE_X ? 2 * tile->y - 1 : tile->y;
            const int x = window == AK_POLYPHASE_X ? 2 * tile->x - 1 : tile->x;
            const int rows = ak_polyphase_size(window, tile->rows), cols = ak_polyphase_size(window, tile->cols);
            const long plane = ak_plane(m, tile->n, b);
            const bool whole = rows == size && cols == size && y >= 0 && x >= 0 && y + size <= m->h && x + size <= m->w;
            if (!whole) AK_FN(polyphase_patch)(m, plane, given, y, x, rows, cols, size, patch);
            const void *data = whole ? m->data : patch;
            const long from = whole ? plane + y * m->row + x * 16 : 0, row = whole ? m->row : size * 16;
            const AK_FN(norm) *left = whole ? given : NULL;
            float *to = v + t * 16;
            if (window == AK_POLYPHASE_X)
                AK_FN(polyphase_points_x)(data, from, row, whole && bf16, left, tile->rows, tile->cols, to, panel->at);
            else if (window == AK_POLYPHASE_DY)
                AK_FN(polyphase_points_dy)(data, from, row, whole && bf16, left, tile->rows, tile->cols, to, panel->at);
            else
                AK_FN(polyphase_points_tile)(
                    data, from, row, whole && bf16, left, tile->rows, tile->cols, to, panel->at);
        }
    }
}

/// Makes block k of a panel's outputs of their points, and gathers their statistics where wanted.
AK_INLINE void AK_FN(polyphase_outputs)(
    const ak_polyphase_job *job, const ak_polyphase_panel *panel, const float *m, int k, ak_moments *moments,
    ak_sums *sums, const ak_direction direction) {
    enum { STRETCH = 192 }; // values summed in fp32 before they are merged
    const int scale = direction == AK_FORWARD ? 1 : 2;
    const ak_map *out = &job->out, *x = &job->reduction.x;
    const bool prelu = job->reduction.slope;
    AK_FN(reducer) reducer = {ak_zero(), ak_zero(), ak_zero(), ak_zero()};
    if (sums) reducer = AK_FN(reducer_of)(&job->reduction, k, prelu);
    AK_FN(stretch) stretch = {ak_zero(), ak_zero(), ak_zero()};
    AK_FN(partial_sums) partial = {ak_zero(), ak_zero(), ak_zero()};
    ak_vec columns[8][AK_POLYPHASE_POINTS];
    int values = 0;
    const int again = AK_FN(ahead_fails)(panel, ak_blocks(out->c)) ? 4 * scale : 0;
    AK_FN(ahead) ahead_out = AK_FN(ahead_of)(out, panel, k, k + 1, scale, 0, 0);
    AK_FN(ahead) ahead_x = AK_FN(ahead_of)(x, panel, k, k + (sums != NULL), scale, 0, 0);
    for (int t = 0; t < panel->count; t++) {
        const ak_polyphase_tile *tile = &panel->tile[t];
        AK_FN(ahead_step)(&ahead_out, t ? again : 2 * again);
        AK_FN(ahead_step)(&ahead_x, t ? again : 2 * again);
        const int h = ak_min(scale * tile->rows, out->h - scale * tile->y);
        const int w = ak_min(scale * tile->cols, out->w - scale * tile->x);
        AK_FN(polyphase_columns)(m + t * 16, panel->at, tile, columns, direction);
        const long inside = scale * tile->y * out->row + scale * tile->x * 16;
        const long to = ak_plane(out, tile->n, k) + inside, from = sums ? ak_plane(x, tile->n, k) + inside : 0;
        for (int i = 0; i < h; i++) {
            ak_vec o[8];
            AK_FN(polyphase_collapse)(columns[i], o, direction);
            if (moments && values == 0) stretch = AK_FN(stretch_begin)(moments, o[0]);
            AK_UNROLL for (int j = 0; j < 4 * scale; j++) {
                if (j >= w) continue;
                const long at = i * out->row + j * 16;
                if (direction == AK_FORWARD) {
                    if (moments) AK_FN(stretch_add)(&stretch, o[j]);
                } else {
                    if (job->accumulate) o[j] += AK_FN(polyphase_get)(out, to + at);
                    if (sums) AK_FN(reduce_lanes)(&partial, o[j], AK_FN(polyphase_get)(x, from + at), &reducer, prelu);
                }
                AK_FN(polyphase_put)(out, to + at, o[j]);
            }
            values += w;
        }
        if (values < STRETCH && t + 1 < panel->count) continue;
        if (moments) AK_FN(stretch_end)(&stretch, values, moments);
        if (sums) {
            AK_FN(partial_sums_end)(&partial, sums);
            partial = (AK_FN(partial_sums)){ak_zero(), ak_zero(), ak_zero()};
        }
        values = 0;
    }
}

AK_NOINLINE void AK_FN(polyphase_outputs_y)(
    const ak_polyphase_job *job, const ak_polyphase_panel *panel, const float *m, int k, ak_moments *moments) {
    AK_FN(polyphase_outputs)(job, panel, m, k, moments, NULL, AK_FORWARD);
}

AK_NOINLINE void AK_FN(polyphase_outputs_dx)(
    const ak_polyphase_job *job, const ak_polyphase_panel *panel, const float *m, int k, ak_sums *sums) {
    AK_FN(polyphase_outputs)(job, panel, m, k, NULL, sums, AK_BACKWARD);
}

/// m = v*weights for output blocks k0..<k1 of a panel; meanwhile reads ahead.
AK_NOINLINE void AK_FN(polyphase_products)(
    const ak_polyphase_job *job, const ak_polyphase_panel *panel, const float *v, int k0, int k1, float *m,
    AK_FN(ahead) * ahead, int count) {
    const int in_blocks = ak_blocks(job->in.c);
    const long block = (long)job->plan.positions * 16, matrix = ak_polyphase_matrix_stride(job->in.c, job->out.c);
    int units = 1, rows[3] = {0, 0, 0};
    for (int i = 0; i < AK_POLYPHASE_MATRICES; i++)
        units += (panel->start[i + 1] - panel->start[i] + TILE - 1) / TILE * ((k1 - k0 + PAIR - 1) / PAIR);
    for (int i = 0; i < count; i++) rows[i] = AK_FN(ahead_rows)(&ahead[i], units);
    for (int i = 0; i < AK_POLYPHASE_MATRICES; i++) {
        const int positions = panel->start[i + 1] - panel->start[i], groups = (positions + TILE - 1) / TILE;
        for (int k = k0; k < k1; k += PAIR) {
            const float *u = job->weights + i * matrix + (long)k * in_blocks * 256;
            for (int g = 0; g < groups; g++) {
                const long first = ak_begin(positions, g, groups), at = (panel->start[i] + first) * 16;
                AK_FN(products)(
                    v + at, in_blocks, u, 0, ak_min(PAIR, k1 - k), m + (k - k0) * block + at, job->plan.positions,
                    (int)(ak_begin(positions, g + 1, groups) - first));
                for (int a = 0; a < count; a++) AK_FN(ahead_step)(&ahead[a], rows[a]);
            }
        }
    }
}

void AK_FN(ak_polyphase_part)(void *context, int part, int parts);
void AK_FN(ak_polyphase_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_polyphase_job *job = context;
    const ak_polyphase_plan *plan = &job->plan;
    const bool forward = job->direction == AK_FORWARD;
    const ak_polyphase_window window = forward ? AK_POLYPHASE_X : AK_POLYPHASE_DY;
    ak_moments *moments = ak_moments_begin(job->moments, job->out.c, part);
    ak_sums *sums = ak_sums_begin(job->reduction.sums, job->out.c, part);
    if (part >= plan->split.positions * plan->split.blocks) return;
    const int in_blocks = ak_blocks(job->in.c);
    const long block = (long)plan->positions * 16;
    const AK_FN(polyphase_share) share = AK_FN(polyphase_share_of)(plan, ak_blocks(job->out.c), part);
    float *v = plan->workspace + part * plan->thread_floats, *m = v + in_blocks * block;
    ak_polyphase_panel panels[2];
    AK_FN(polyphase_panel_of)(plan, &share, 0, &panels[0]);
    for (int round = 0; round < share.rounds; round++) {
        const ak_polyphase_panel *panel = &panels[round % 2];
        ak_polyphase_panel *next = &panels[(round + 1) % 2];
        AK_FN(polyphase_transform)(
            &job->in, &job->activation, 0, in_blocks, panel, plan->positions, v, window);
        AK_FN(ahead) ahead[3];
        int count = 0;
        if (round + 1 < share.rounds) {
            AK_FN(polyphase_panel_of)(plan, &share, round + 1, next);
            ahead[count++] = AK_FN(ahead_of_window)(&job->in, next, 0, in_blocks, window);
        }
        // What is written, too: each of its lines is read before it is overwritten, and stores past the caches stall.
        ahead[count++] = AK_FN(ahead_of)(&job->out, panel, share.k0, share.k1, forward ? 1 : 2, 0, 0);
        if (sums) ahead[count++] = AK_FN(ahead_of)(&job->reduction.x, panel, share.k0, share.k1, 2, 0, 0);
        AK_FN(polyphase_products)(job, panel, v, share.k0, share.k1, m, ahead, count);
        for (int k = share.k0; k < share.k1; k++) {
            const float *from = m + (k - share.k0) * block;
            if (forward) AK_FN(polyphase_outputs_y)(job, panel, from, k, moments ? moments + k : NULL);
            else AK_FN(polyphase_outputs_dx)(job, panel, from, k, sums ? sums + k : NULL);
        }
    }
}

// ------------------------------------------------------------------------------------------- gradient of the weights

void AK_FN(ak_polyphase_gradient_part)(void *context, int part, int parts);
void AK_FN(ak_polyphase_gradient_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_polyphase_gradient_job *job = context;
    const ak_polyphase_plan *plan = &job->plan;
    if (part >= plan->split.positions * plan->split.blocks) return;
    const int in_blocks = ak_blocks(job->x.map.c);
    const long block = (long)plan->positions * 16, matrix = ak_polyphase_matrix_stride(job->x.map.c, job->dy.c);
    const AK_FN(polyphase_share) share = AK_FN(polyphase_share_of)(plan, ak_blocks(job->dy.c), part);
    float *v = plan->workspace + part * plan->thread_floats, *g = v + in_blocks * block;
    float *partial = job->partial + part % plan->split.positions * AK_POLYPHASE_MATRICES * matrix;
    ak_polyphase_panel panels[2];
    AK_FN(polyphase_panel_of)(plan, &share, 0, &panels[0]);
    for (int round = 0; round < share.rounds; round++) {
        const ak_polyphase_panel *panel = &panels[round % 2];
        ak_polyphase_panel *next = &panels[(round + 1) % 2];
        AK_FN(polyphase_transform)(
            &job->x.map, &job->x.activation, 0, in_blocks, panel, plan->positions, v, AK_POLYPHASE_X);
        AK_FN(polyphase_transform)(
            &job->dy, NULL, share.k0, share.k1, panel, plan->positions, g, AK_POLYPHASE_TILE);
        AK_FN(polyphase_panel_of)(plan, &share, round + 1, next);
        AK_FN(ahead) ahead_x = AK_FN(ahead_of_window)(&job->x.map, next, 0, in_blocks, AK_POLYPHASE_X);
        AK_FN(ahead) ahead_dy = AK_FN(ahead_of_window)(&job->dy, next, share.k0, share.k1, AK_POLYPHASE_TILE);
        const int units = AK_POLYPHASE_MATRICES * ((share.k1 - share.k0 + 1) / 2);
        const int rows_x = AK_FN(ahead_rows)(&ahead_x, units), rows_dy = AK_FN(ahead_rows)(&ahead_dy, units);
        // A matrix without positions still is set to zero in the first round.
        for (int i = 0; i < AK_POLYPHASE_MATRICES; i++)
            for (int k = share.k0; k < share.k1; k += 2) {
                AK_FN(gradient_products)(
                    v + panel->start[i] * 16, in_blocks, g + (k - share.k0) * block + panel->start[i] * 16, 0,
                    ak_min(2, share.k1 - k), plan->positions, panel->start[i + 1] - panel->start[i],
                    partial + i * matrix + (long)k * in_blocks * 256, round == 0);
                AK_FN(ahead_step)(&ahead_x, rows_x);
                AK_FN(ahead_step)(&ahead_dy, rows_dy);
            }
    }
}

/// Sums the partial gradients in the order of their positions, transforms them back, writes PyTorch's layout.
void AK_FN(ak_polyphase_gradient_sum_part)(void *context, int part, int parts);
void AK_FN(ak_polyphase_gradient_sum_part)(void *context, int part, int parts) {
    const ak_polyphase_gradient_job *job = context;
    const AK_FN(partial_gradients) from = {
        job->partial, ak_polyphase_matrix_stride(job->x.map.c, job->dy.c), job->plan.split.positions};
    AK_FN(put_gradient)(
        &from, job->dw, job->x.map.c, job->dy.c, job->accumulate, part, parts, AK_POLYPHASE_WEIGHTS,
        AK_FN(polyphase_gt));
}

// ------------------------------------------------------------------------------------------------------------ packing

void AK_FN(ak_polyphase_pack_part)(void *context, int part, int parts);
void AK_FN(ak_polyphase_pack_part)(void *context, int part, int parts) {
    const ak_polyphase_pack_job *job = context;
    AK_FN(pack_matrices)(
        job->conv, job->direction, job->weights, job->packed,
        ak_polyphase_matrix_stride(job->conv->c, job->conv->k), part, parts, AK_POLYPHASE_WEIGHTS, AK_FN(polyphase_g));
}

#include "conv_products_end.inc.h"
