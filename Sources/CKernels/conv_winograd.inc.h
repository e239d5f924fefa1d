// 3x3 convolution with stride 1 and padding 1 by Winograd's F(4x4, 3x3): Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks" (2016), with the interpolation points 0, 1, -1, 2, -2, infinity. Each 4x4 tile of
// outputs takes 36 multiplications per channel pair in place of 144: Y = A^T [(G g G^T) . (B^T d B)] A.
// The weights' gradient is the adjoint of the same: dg = G^T [(B^T d B) . (A dY A^T)] G.
// Included once per instruction set.
#include "conv_winograd_transforms.inc.h"
#include "transpose.inc.h"

#include "conv_products.inc.h"

// ------------------------------------------------------------------------------------------------------------- tiles

/// Tile t of a map: the image and the interior position of its first output.
typedef struct {
    int n, y, x;
} AK_FN(tile_place);

AK_INLINE AK_FN(tile_place) AK_FN(winograd_place)(const ak_map *m, long t) {
    int across = (m->w + 3) / 4, down = (m->h + 3) / 4;
    int rest = (int)(t % (across * down));
    return (AK_FN(tile_place)){(int)(t / (across * down)), rest / across * 4, rest % across * 4};
}

/// Copies size x size elements from interior position (y, x), which may lie outside, into `patch`.
AK_NOINLINE void AK_FN(winograd_patch)(const ak_map *m, const float *plane, int y, int x, int size, float *patch) {
    for (int i = 0; i < size; i++)
        for (int j = 0; j < size; j++) {
            bool inside = y + i >= 0 && y + i < m->h && x + j >= 0 && x + j < m->w;
            ak_store(patch + (i * 6 + j) * 16, inside ? ak_load(plane + (y + i) * m->row + (x + j) * 16) : ak_zero());
        }
}

/// Transforms tiles t0..<t0+count of all blocks of a map into v: [point][block][tile][16], `tiles` tiles to a block.
/// `gradient`: the 4x4 tiles of dy; else the 6x6 tiles that surround them.
AK_INLINE void AK_FN(winograd_transform)(
    const ak_map *m, int b0, int b1, long t0, int count, int tiles, float *v, long stride, const bool gradient) {
    _Alignas(64) float patch[6 * 6 * 16];
    for (int t = 0; t < count; t++) {
        AK_FN(tile_place) at = AK_FN(winograd_place)(m, t0 + t);
        int y = at.y - !gradient, x = at.x - !gradient;
        for (int b = b0; b < b1; b++) {
            const float *plane = ak_floats(m) + ak_interior(m, at.n, b), *from = plane + y * m->row + x * 16;
            long row = m->row;
            if (!m->halo) {
                AK_FN(winograd_patch)(m, plane, y, x, gradient ? 4 : 6, patch);
                from = patch;
                row = 6 * 16;
            }
            float *to = v + ((long)(b - b0) * tiles + t) * 16;
            if (gradient) AK_FN(winograd_output_gradient)(from, row, to, stride);
            else AK_FN(winograd_input)(from, row, to, stride);
        }
    }
}

void AK_FN(ak_winograd_part)(void *context, int part, int parts);
void AK_FN(ak_winograd_part)(void *context, int part, int parts) {
    const ak_winograd_job *job = context;
    const ak_map *in = &job->in, *out = &job->out;
    int in_blocks = ak_blocks(in->c), out_blocks = ak_blocks(out->c);
    if (!job->accumulate) {
        long planes = (long)out->n * out_blocks;
        for (long i = ak_begin(planes, part, parts); i < ak_begin(planes, part + 1, parts); i++)
            ak_zero_border(out, (int)(i / out_blocks), (int)(i % out_blocks));
    }
    if (part >= job->split.positions * job->split.blocks) return;
    int a = part % job->split.positions, b = part / job->split.positions, pairs = (out_blocks + 1) / 2;
    int k0 = 2 * (int)ak_begin(pairs, b, job->split.blocks);
    int k1 = ak_min(out_blocks, 2 * (int)ak_begin(pairs, b + 1, job->split.blocks));
    long all = (long)in->n * ((in->h + 3) / 4) * ((in->w + 3) / 4);
    long t0 = ak_begin(all, a, job->split.positions), t1 = ak_begin(all, a + 1, job->split.positions);
    float *v = job->workspace + part * job->thread_floats, *m = v + AK_WINOGRAD_POINTS * job->panel.in;
    long weights = ak_winograd_weight_stride(in->c, out->c);
    int tiles = job->panel.tiles, rounds = (int)((t1 - t0 + tiles - 1) / tiles);
    for (int round = 0; round < rounds; round++) {
        long first = t0 + ak_begin(t1 - t0, round, rounds);
        int count = (int)(t0 + ak_begin(t1 - t0, round + 1, rounds) - first);
        AK_FN(winograd_transform)(in, 0, in_blocks, first, count, tiles, v, job->panel.in, false);
        for (int point = 0; point < AK_WINOGRAD_POINTS; point++)
            AK_FN(products)(
                v + point * job->panel.in, in_blocks, job->weights + point * weights, k0, k1,
                m + point * job->panel.out, tiles, count);
        for (int t = 0; t < count; t++) {
            AK_FN(tile_place) at = AK_FN(winograd_place)(out, first + t);
            int rows = ak_min(4, out->h - at.y), cols = ak_min(4, out->w - at.x);
            for (int k = k0; k < k1; k++) {
                const float *from = m + ((long)(k - k0) * tiles + t) * 16;
                float *to = ak_floats(out) + ak_interior(out, at.n, k) + at.y * out->row + at.x * 16;
                if (rows == 4 && cols == 4 && job->stream)
                    AK_FN(winograd_output_stream)(from, job->panel.out, to, out->row);
                else if (rows == 4 && cols == 4 && !job->accumulate)
                    AK_FN(winograd_output)(from, job->panel.out, to, out->row);
                else
                    AK_FN(winograd_output_edge)(from, job->panel.out, to, out->row, rows, cols, job->accumulate);
            }
        }
    }
    if (job->stream) ak_stream_fence();
}

// ------------------------------------------------------------------------------------------- gradient of the weights

void AK_FN(ak_winograd_gradient_part)(void *context, int part, int parts);
void AK_FN(ak_winograd_gradient_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_winograd_gradient_job *job = context;
    const ak_map *x = &job->x, *dy = &job->dy;
    if (part >= job->split.positions * job->split.blocks) return;
    int in_blocks = ak_blocks(x->c), out_blocks = ak_blocks(dy->c);
    int a = part % job->split.positions, b = part / job->split.positions, pairs = (out_blocks + 1) / 2;
    int k0 = 2 * (int)ak_begin(pairs, b, job->split.blocks);
    int k1 = ak_min(out_blocks, 2 * (int)ak_begin(pairs, b + 1, job->split.blocks));
    long all = (long)x->n * ((x->h + 3) / 4) * ((x->w + 3) / 4);
    long t0 = ak_begin(all, a, job->split.positions), t1 = ak_begin(all, a + 1, job->split.positions);
    long weights = ak_winograd_weight_stride(x->c, dy->c);
    float *v = job->workspace + part * job->thread_floats, *g = v + AK_WINOGRAD_POINTS * job->panel.in;
    float *partial = job->partial + a * AK_WINOGRAD_POINTS * weights;
    int tiles = job->panel.tiles, rounds = ak_max(1, (int)((t1 - t0 + tiles - 1) / tiles));
    for (int round = 0; round < rounds; round++) {
        long first = t0 + ak_begin(t1 - t0, round, rounds);
        int count = (int)(t0 + ak_begin(t1 - t0, round + 1, rounds) - first);
        AK_FN(winograd_transform)(x, 0, in_blocks, first, count, tiles, v, job->panel.in, false);
        AK_FN(winograd_transform)(dy, k0, k1, first, count, tiles, g, job->panel.out, true);
        for (int point = 0; point < AK_WINOGRAD_POINTS; point++)
            AK_FN(gradient_products)(
                v + point * job->panel.in, in_blocks, g + point * job->panel.out, k0, k1, tiles, count,
                partial + point * weights, round == 0);
    }
}

/// Sums the partial gradients in the order of their positions, transforms them back, writes PyTorch's layout.
void AK_FN(ak_winograd_gradient_sum_part)(void *context, int part, int parts);
void AK_FN(ak_winograd_gradient_sum_part)(void *context, int part, int parts) {
    const ak_winograd_gradient_job *job = context;
    int c_count = job->x.c, k_count = job->dy.c, in_blocks = ak_blocks(c_count), sums = job->split.positions;
    long weights = ak_winograd_weight_stride(c_count, k_count), units = (long)in_blocks * ak_blocks(k_count);
    ak_vec taps[16 * 9];
    for (long unit = ak_begin(units, part, parts); unit < ak_begin(units, part + 1, parts); unit++) {
        const float *from = job->partial + unit * 256;
        int k0 = (int)(unit / in_blocks) * 16, c0 = (int)(unit % in_blocks) * 16;
        for (int c = 0; c < 16; c++) {
            ak_vec t[3][6];
            for (int j = 0; j < 6; j++) {
                ak_vec d[6], o[3];
                AK_UNROLL for (int i = 0; i < 6; i++) {
                    const float *q = from + (i * 6 + j) * weights + c * 16;
                    d[i] = ak_load(q);
                    for (int s = 1; s < sums; s++) d[i] += ak_load(q + s * AK_WINOGRAD_POINTS * weights);
                }
                AK_FN(winograd_gt)(d, o);
                AK_UNROLL for (int i = 0; i < 3; i++) t[i][j] = o[i];
            }
            AK_UNROLL for (int i = 0; i < 3; i++) AK_FN(winograd_gt)(t[i], &taps[c * 9 + i * 3]);
        }
        for (int r = 0; r < 9; r++) {
            AK_FN(transpose16)(taps + r * 16);
            int valid = ak_min(16, (c_count - c0) * 9 - r * 16);
            for (int k = 0; k < ak_min(16, k_count - k0); k++) {
                float *to = job->dw + ((long)(k0 + k) * c_count + c0) * 9 + r * 16;
                if (valid == 16) {
                    ak_vec value = taps[r * 16 + k];
                    ak_store_unaligned(to, job->accumulate ? ak_load_unaligned(to) + value : value);
                } else {
                    const float *values = (const float *)&taps[r * 16 + k];
                    for (int i = 0; i < valid; i++) to[i] = job->accumulate ? to[i] + values[i] : values[i];
                }
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------------ packing

/// 3x3 taps (tap t at g[t * step]) of one channel pair block row to 36 points.
AK_INLINE void AK_FN(winograd_weights)(const ak_vec *g, int step, float *u, long stride) {
    ak_vec t[6][3];
    AK_UNROLL for (int j = 0; j < 3; j++) {
        ak_vec d[3] = {g[j * step], g[(3 + j) * step], g[(6 + j) * step]}, o[6];
        AK_FN(winograd_g)(d, o);
        AK_UNROLL for (int i = 0; i < 6; i++) t[i][j] = o[i];
    }
    AK_UNROLL for (int i = 0; i < 6; i++) {
        ak_vec o[6];
        AK_FN(winograd_g)(t[i], o);
        AK_UNROLL for (int j = 0; j < 6; j++) ak_store(u + (i * 6 + j) * stride, o[j]);
    }
}

void AK_FN(ak_winograd_pack_part)(void *context, int part, int parts);
void AK_FN(ak_winograd_pack_part)(void *context, int part, int parts) {
    const ak_winograd_pack_job *job = context;
    int c_count = job->conv->c, k_count = job->conv->k, in_blocks = ak_blocks(c_count), out_blocks = ak_blocks(k_count);
    long stride = ak_winograd_weight_stride(c_count, k_count), units = (long)in_blocks * out_blocks;
    ak_vec taps[16 * 9], turned[9 * 16];
    for (long unit = ak_begin(units, part, parts); unit < ak_begin(units, part + 1, parts); unit++) {
        int kb = (int)(unit / in_blocks), cb = (int)(unit % in_blocks);
        for (int r = 0; r < 9; r++) {
            int valid = ak_max(0, ak_min(16, (c_count - cb * 16) * 9 - r * 16));
            for (int i = 0; i < 16; i++) {
                taps[r * 16 + i] = ak_zero();
                if (kb * 16 + i >= k_count) continue;
                const float *from = job->weights + ((long)(kb * 16 + i) * c_count + cb * 16) * 9 + r * 16;
                if (valid == 16) taps[r * 16 + i] = ak_load_unaligned(from);
                else memcpy(&taps[r * 16 + i], from, (size_t)valid * sizeof(float));
            }
            AK_FN(transpose16)(taps + r * 16);
        }
        // taps: [channel][tap] of 16 output channels. For backward: [flipped tap][output channel] of 16 channels.
        for (int tap = 0; tap < 9; tap++) {
            ak_vec *to = turned + (8 - tap) * 16;
            for (int c = 0; c < 16; c++) to[c] = taps[c * 9 + tap];
            AK_FN(transpose16)(to);
        }
        for (int i = 0; i < 16; i++) {
            AK_FN(winograd_weights)(taps + i * 9, 1, job->forward + unit * 256 + i * 16, stride);
            AK_FN(winograd_weights)(
                turned + i, 16, job->backward + ((long)cb * out_blocks + kb) * 256 + i * 16, stride);
        }
    }
}

#include "conv_products_end.inc.h"
