// 3x3 convolution with stride 1 and padding 1 by Winograd's F(4x4, 3x3): Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks" (2016), with the interpolation points 0, 1, -1, 2, -2, infinity. Each 4x4 tile of
// outputs takes 36 multiplications per channel pair in place of 144: Y = A^T [(G g G^T) . (B^T d B)] A.
// The weights' gradient is the adjoint of the same: dg = G^T [(B^T d B) . (A dY A^T)] G.
// Included once per instruction set.
#include "lanes.inc.h"
#include "fusion.inc.h"

#include "conv_products.inc.h"
#include "conv_taps.inc.h"
#include "conv_winograd_transforms.inc.h"

// ------------------------------------------------------------------------------------------------------------- tiles

/// Transforms `count` tiles of blocks b0..<b1 of a map into v: [point][block][tile][16], `tiles` tiles to a block.
/// `gradient`: the 4x4 tiles of dy; else the 6x6 tiles that surround them, zero outside the map.
AK_INLINE void AK_FN(winograd_transform)(
    const ak_source *x, int b0, int b1, const ak_winograd_place * places, int count, int tiles, float *v, long stride,
    const bool gradient) {
    const ak_map *m = &x->map;
    const int size = gradient ? 4 : 6;
    AK_FN(winograd_reader) r = {
        .data = m->data, .row = m->row, .bf16 = m->dtype == AK_BF16, .reading = ak_reading_of(&x->activation)};
    for (int b = b0; b < b1; b++, v += (long)tiles * 16) {
        r.norm = AK_FN(norm_of)(&x->activation, b, r.reading);
        for (int t = 0; t < count; t++) {
            int y = places[t].y - !gradient, left = places[t].x - !gradient;
            ak_winograd_inside in = {
                ak_max(0, -y), ak_min(size, m->h - y), ak_max(0, -left), ak_min(size, m->w - left)};
            AK_FN(winograd_tile)(
                &r, ak_plane(m, places[t].n, b) + y * m->row + left * 16, in, v + t * 16, stride, gradient);
        }
    }
}

/// Fetches the pixels of the `count` tiles of blocks b0..<b1 into the second-level cache: a 36th of it at each of the
/// points, so that memory works beside the products, which hardly need it.
AK_NOINLINE void AK_FN(winograd_prefetch)(
    const ak_map *m, int b0, int b1, const ak_winograd_place *places, int count, int point, bool write) {
    const long size = m->dtype == AK_BF16 ? 2 : 4, units = (long)count * (b1 - b0);
    const long last = ak_begin(units, point + 1, AK_WINOGRAD_POINTS);
    for (long unit = ak_begin(units, point, AK_WINOGRAD_POINTS); unit < last; unit++) {
        const ak_winograd_place at = places[unit % count];
        const long bytes = ak_min(4, m->w - at.x) * 16 * size;
        const char *from = (const char *)m->data
            + (ak_plane(m, at.n, b0 + (int)(unit / count)) + at.y * m->row + at.x * 16) * size;
        for (int i = 0; i < ak_min(4, m->h - at.y); i++, from += m->row * size)
            for (long byte = 0; byte < bytes; byte += 64) {
                if (write) __builtin_prefetch(from + byte, 1, 2);
                else __builtin_prefetch(from + byte, 0, 2);
            }
    }
}

/// Transforms products m ([point][out block][tile][16]) of `count` tiles back, to output blocks k0..<k1.
AK_NOINLINE void AK_FN(winograd_leave_tiles)(
    const ak_winograd_job *job, int k0, int k1, const ak_winograd_place * places, int count, const float *m,
    ak_moments *moments, ak_sums *sums) {
    const ak_map *out = &job->out;
    const ak_reduction *reduction = &job->reduction;
    const long stride = job->panel.out;
    AK_FN(winograd_writer) w = {
        .data = out->data, .bf16 = out->dtype == AK_BF16, .finish = job->finish, .moments = moments, .sums = sums,
        .x = reduction->x.data, .x_bf16 = reduction->x.dtype == AK_BF16, .prelu = reduction->slope};
    for (int k = k0; k < k1; k++, m += (long)job->panel.tiles * 16) {
        if (sums) w.reducer = AK_FN(reducer_of)(reduction, k, w.prelu);
        for (int t = 0, end; t < count; t = end) {
            end = ak_min(count, t + AK_WINOGRAD_STRETCH);
            int outputs = 0;
            w.stretch = (AK_FN(stretch)){ak_zero(), ak_zero(), ak_zero()};
            if (moments) w.stretch = AK_FN(stretch_begin)(moments + k, AK_FN(winograd_corner)(m + t * 16, stride));
            w.partial = (AK_FN(partial_sums)){ak_zero(), ak_zero(), ak_zero()};
            for (; t < end; t++) {
                int rows = ak_min(4, out->h - places[t].y), cols = ak_min(4, out->w - places[t].x);
                AK_FN(winograd_output)(
                    m + t * 16, stride, &w,
                    ak_plane(out, places[t].n, k) + places[t].y * out->row + places[t].x * 16, out->row, rows, cols);
                outputs += rows * cols;
            }
            if (moments) AK_FN(stretch_end)(&w.stretch, outputs, moments + k);
            if (sums) AK_FN(partial_sums_end)(&w.partial, sums + k);
        }
    }
}

void AK_FN(ak_winograd_part)(void *context, int part, int parts);
void AK_FN(ak_winograd_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_winograd_job *job = context;
    ak_moments *moments = ak_moments_begin(job->moments, job->out.c, part);
    ak_sums *sums = ak_sums_begin(job->reduction.sums, job->out.c, part);
    if (part >= job->split.positions * job->split.blocks) return;
    const ak_winograd_share own = ak_winograd_share_of(&job->out, job->split, part);
    const int in_blocks = ak_blocks(job->in.map.c), tiles = job->panel.tiles, rounds = ak_winograd_rounds(&own, tiles);
    const long weights = ak_winograd_weight_stride(job->in.map.c, job->out.c);
    float *v = job->workspace + part * job->thread_floats, *m = v + AK_WINOGRAD_POINTS * job->panel.in;
    ak_winograd_place places[AK_WINOGRAD_MOST_TILES], ahead[AK_WINOGRAD_MOST_TILES];
    for (int round = 0; round < rounds; round++) {
        const int count = ak_winograd_places(&job->out, &own, round, rounds, places);
        const int next = ak_winograd_places(&job->out, &own, round + 1, rounds, ahead);
        AK_FN(winograd_transform)(&job->in, 0, in_blocks, places, count, tiles, v, job->panel.in, false);
        for (int point = 0; point < AK_WINOGRAD_POINTS; point++) {
            AK_FN(products)(
                v + point * job->panel.in, in_blocks, job->weights + point * weights, own.k0, own.k1,
                m + point * job->panel.out, tiles, count);
            AK_FN(winograd_prefetch)(&job->in.map, 0, in_blocks, ahead, next, point, false);
            if (job->finish != AK_STREAM)
                AK_FN(winograd_prefetch)(&job->out, own.k0, own.k1, places, count, point, true);
            if (sums) AK_FN(winograd_prefetch)(&job->reduction.x, own.k0, own.k1, places, count, point, false);
        }
        AK_FN(winograd_leave_tiles)(job, own.k0, own.k1, places, count, m, moments, sums);
    }
    if (job->finish == AK_STREAM) ak_stream_fence();
}

// ------------------------------------------------------------------------------------------- gradient of the weights

void AK_FN(ak_winograd_gradient_part)(void *context, int part, int parts);
void AK_FN(ak_winograd_gradient_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_winograd_gradient_job *job = context;
    if (part >= job->split.positions * job->split.blocks) return;
    const ak_map *dy = &job->dy.map;
    const ak_winograd_share own = ak_winograd_share_of(dy, job->split, part);
    const int in_blocks = ak_blocks(job->x.map.c), tiles = job->panel.tiles;
    const int rounds = ak_max(1, ak_winograd_rounds(&own, tiles));
    const long weights = ak_winograd_weight_stride(job->x.map.c, dy->c);
    float *v = job->workspace + part * job->thread_floats, *g = v + AK_WINOGRAD_POINTS * job->panel.in;
    float *partial = job->partial + own.position * AK_WINOGRAD_POINTS * weights;
    ak_winograd_place places[AK_WINOGRAD_MOST_TILES], ahead[AK_WINOGRAD_MOST_TILES];
    for (int round = 0; round < rounds; round++) {
        const int count = ak_winograd_places(dy, &own, round, rounds, places);
        const int next = ak_winograd_places(dy, &own, round + 1, rounds, ahead);
        AK_FN(winograd_transform)(&job->x, 0, in_blocks, places, count, tiles, v, job->panel.in, false);
        AK_FN(winograd_transform)(&job->dy, own.k0, own.k1, places, count, tiles, g, job->panel.out, true);
        for (int point = 0; point < AK_WINOGRAD_POINTS; point++) {
            AK_FN(gradient_products)(
                v + point * job->panel.in, in_blocks, g + point * job->panel.out, own.k0, own.k1, tiles, count,
                partial + point * weights, round == 0);
            AK_FN(winograd_prefetch)(&job->x.map, 0, in_blocks, ahead, next, point, false);
            AK_FN(winograd_prefetch)(dy, own.k0, own.k1, ahead, next, point, false);
        }
    }
}

/// Sums the partial gradients in the order of their positions, transforms them back, writes PyTorch's layout.
void AK_FN(ak_winograd_gradient_sum_part)(void *context, int part, int parts);
void AK_FN(ak_winograd_gradient_sum_part)(void *context, int part, int parts) {
    const ak_winograd_gradient_job *job = context;
    const AK_FN(partial_gradients) from = {
        job->partial, ak_winograd_weight_stride(job->x.map.c, job->dy.map.c), job->split.positions};
    AK_FN(put_gradient)(
        &from, job->dw, job->x.map.c, job->dy.map.c, job->accumulate, part, parts, 6, AK_FN(winograd_gt));
}

// ------------------------------------------------------------------------------------------------------------ packing

void AK_FN(ak_winograd_pack_part)(void *context, int part, int parts);
void AK_FN(ak_winograd_pack_part)(void *context, int part, int parts) {
    const ak_winograd_pack_job *job = context;
    AK_FN(pack_matrices)(
        job->conv, job->direction, job->weights, job->packed,
        ak_winograd_weight_stride(job->conv->c, job->conv->k), part, parts, 6, AK_FN(winograd_g));
}

#include "conv_products_end.inc.h"
