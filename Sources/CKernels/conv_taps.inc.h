// 3x3 weights in PyTorch's layout by blocks of 16 output and 16 input channels, as the transforms of the Winograd-like
// convolutions take and leave them. Included once per instruction set, after lanes.inc.h.
#include "transpose.inc.h"

/// The most values that a transform takes three taps to.
#define AK_MATRICES_SIDE 6

/// The taps of input block `in` and output block `out` of c x k channels: [input channel][tap] of 16 output channels,
/// zero beyond the last channel of either.
AK_INLINE void AK_FN(block_taps)(const float *weights, int c, int k, int in, int out, ak_vec *taps) {
    for (int r = 0; r < 9; r++) {
        const int valid = ak_max(0, ak_min(16, (c - in * 16) * 9 - r * 16));
        for (int i = 0; i < 16; i++) {
            const float *from = weights + ((long)(out * 16 + i) * c + in * 16) * 9 + r * 16;
            taps[r * 16 + i] = out * 16 + i < k ? AK_FN(load_some)(from, valid, 0) : ak_zero();
        }
        AK_FN(transpose16)(taps + r * 16);
    }
}

/// The same for AK_BACKWARD: [tap][output channel] of 16 input channels, the taps turned round.
AK_INLINE void AK_FN(turn_taps)(const ak_vec *taps, ak_vec *turned) {
    for (int tap = 0; tap < 9; tap++) {
        ak_vec *to = turned + (8 - tap) * 16;
        for (int c = 0; c < 16; c++) to[c] = taps[c * 9 + tap];
        AK_FN(transpose16)(to);
    }
}

/// 3x3 taps (tap t at g[t * step]) to side x side matrices' values; `transform` takes three taps to `side` values.
AK_INLINE void AK_FN(matrices_of_taps)(
    const ak_vec *g, int step, const int side, void (*const transform)(const ak_vec *, ak_vec *), ak_vec *o) {
    ak_vec t[AK_MATRICES_SIDE][3];
    AK_UNROLL for (int j = 0; j < 3; j++) {
        const ak_vec d[3] = {g[j * step], g[(3 + j) * step], g[(6 + j) * step]};
        ak_vec column[AK_MATRICES_SIDE];
        transform(d, column);
        AK_UNROLL for (int i = 0; i < side; i++) t[i][j] = column[i];
    }
    AK_UNROLL for (int i = 0; i < side; i++) transform(t[i], o + i * side);
}

/// A part's share of packed fp32 weights, [matrix][out block][in channel][16], `matrix` floats to a matrix.
AK_INLINE void AK_FN(pack_matrices)(
    const ak_conv *conv, ak_direction direction, const float *weights, float *packed, long matrix, int part, int parts,
    const int side, void (*const transform)(const ak_vec *, ak_vec *)) {
    const bool forward = direction == AK_FORWARD;
    const int c_blocks = ak_blocks(conv->c), k_blocks = ak_blocks(conv->k);
    const long units = (long)c_blocks * k_blocks;
    ak_vec taps[16 * 9], turned[9 * 16], values[AK_MATRICES_SIDE * AK_MATRICES_SIDE];
    for (long unit = ak_begin(units, part, parts); unit < ak_begin(units, part + 1, parts); unit++) {
        const int out = (int)(unit / c_blocks), in = (int)(unit % c_blocks);
        AK_FN(block_taps)(weights, conv->c, conv->k, in, out, taps);
        if (!forward) AK_FN(turn_taps)(taps, turned);
        float *to = packed + (forward ? unit : (long)in * k_blocks + out) * 256;
        for (int i = 0; i < 16; i++, to += 16) {
            AK_FN(matrices_of_taps)(forward ? taps + i * 9 : turned + i, forward ? 1 : 16, side, transform, values);
            AK_UNROLL for (int m = 0; m < side * side; m++) ak_store(to + m * matrix, values[m]);
        }
    }
}

/// Leaves the gradient of such a block, which it overwrites.
AK_INLINE void AK_FN(put_block_taps)(float *dw, int c, int k, int in, int out, ak_vec *taps, bool accumulate) {
    for (int r = 0; r < 9; r++) {
        AK_FN(transpose16)(taps + r * 16);
        const int valid = ak_max(0, ak_min(16, (c - in * 16) * 9 - r * 16));
        for (int i = 0; i < ak_min(16, k - out * 16); i++) {
            float *to = dw + ((long)(out * 16 + i) * c + in * 16) * 9 + r * 16;
            ak_vec value = taps[r * 16 + i];
            if (accumulate) value += AK_FN(load_some)(to, valid, 0);
            AK_FN(store_some)(to, value, valid);
        }
    }
}

/// Partial gradients of the matrices: [partial][matrix][out block][in channel][16], `matrix` floats to a matrix.
typedef struct {
    const float *data;
    long matrix;
    int count;
} AK_FN(partial_gradients);

/// A part's share of c x k channels' gradient: sums the partial ones in their order and transforms them back.
/// `transform` takes `side` values to three taps.
AK_INLINE void AK_FN(put_gradient)(
    const AK_FN(partial_gradients) * from, float *dw, int c, int k, bool accumulate, int part, int parts,
    const int side, void (*const transform)(const ak_vec *, ak_vec *)) {
    const int in_blocks = ak_blocks(c);
    const long units = (long)in_blocks * ak_blocks(k), partial = side * side * from->matrix;
    ak_vec taps[16 * 9];
    for (long unit = ak_begin(units, part, parts); unit < ak_begin(units, part + 1, parts); unit++) {
        for (int i = 0; i < 16; i++) {
            const float *data = from->data + unit * 256 + i * 16;
            ak_vec t[3][AK_MATRICES_SIDE];
            for (int column = 0; column < side; column++) {
                ak_vec d[AK_MATRICES_SIDE], o[3];
                AK_UNROLL for (int row = 0; row < side; row++) {
                    const float *q = data + (row * side + column) * from->matrix;
                    d[row] = ak_load(q);
                    __builtin_prefetch(q + 256, 0, 2);
                    for (int s = 1; s < from->count; s++) d[row] += ak_load(q + s * partial);
                }
                transform(d, o);
                AK_UNROLL for (int row = 0; row < 3; row++) t[row][column] = o[row];
            }
            AK_UNROLL for (int row = 0; row < 3; row++) transform(t[row], &taps[i * 9 + row * 3]);
        }
        AK_FN(put_block_taps)(dw, c, k, (int)(unit % in_blocks), (int)(unit / in_blocks), taps, accumulate);
    }
}
