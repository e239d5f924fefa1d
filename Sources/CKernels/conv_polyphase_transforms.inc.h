// The transforms of conv_polyphase.inc.h, which includes this, between values and points.
//
// The points of a tile in one dimension: first the phase with one tap, value by value as it is; then F(4, 2) of the
// phase with two taps, at 1, -1, 1/2, -1/2 and infinity. With zero in place of one of these the error would be half as
// large again. Without infinity they are F(3, 2): a tile of three outputs leaves out two points and is no other case.

// --------------------------------------------------------------------------------------------------- one-dimensional

/// B^T: five inputs d[step * i] to the points of F(4, 2).
AK_INLINE void AK_FN(polyphase_bt)(const ak_vec *d, const int step, ak_vec *o) {
    const ak_vec quarter = ak_splat(0.25f), half = ak_splat(0.5f);
    const ak_vec d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];
    const ak_vec even = ak_fma(-quarter, d0, d2), odd = ak_fma(-quarter, d1, d3), even2 = d2 - d0, odd2 = d3 - d1;
    o[0] = odd + even;
    o[1] = odd - even;
    o[2] = ak_fma(half, even2, odd2);
    o[3] = ak_fma(-half, even2, odd2);
    o[4] = ak_fma(-quarter, even2, d4 - d2);
}

/// A^T: the points of F(4, 2) to four outputs.
AK_INLINE void AK_FN(polyphase_at)(const ak_vec *m, ak_vec *o) {
    const ak_vec s1 = m[0] + m[1], d1 = m[0] - m[1], s2 = m[2] + m[3], d2 = m[2] - m[3];
    o[0] = s1 + s2;
    o[1] = ak_fma(ak_splat(0.5f), d2, d1);
    o[2] = ak_fma(ak_splat(0.25f), s2, s1);
    o[3] = ak_fma(ak_splat(0.125f), d2, d1) + m[4];
}

/// A: four output gradients to the points of F(4, 2).
AK_INLINE void AK_FN(polyphase_a)(const ak_vec *g, ak_vec *o) {
    const ak_vec even = g[0] + g[2], odd = g[1] + g[3], even2 = ak_fma(ak_splat(0.25f), g[2], g[0]);
    const ak_vec odd2 = ak_fma(ak_splat(0.125f), g[3], ak_splat(0.5f) * g[1]);
    o[0] = even + odd;
    o[1] = even - odd;
    o[2] = even2 + odd2;
    o[3] = even2 - odd2;
    o[4] = g[3];
}

/// G: three taps to the weights of the first phase and of F(4, 2).
AK_INLINE void AK_FN(polyphase_g)(const ak_vec *g, ak_vec *o) {
    const ak_vec half = ak_splat(0.5f), two = ak_splat(2.f / 3), four = ak_splat(4.f / 3);
    o[0] = g[1];
    o[1] = (g[0] + g[2]) * two;
    o[2] = (g[2] - g[0]) * two;
    o[3] = ak_fma(half, g[2], g[0]) * -four;
    o[4] = ak_fma(-half, g[2], g[0]) * four;
    o[5] = g[2];
}

/// G^T: their gradients to those of three taps.
AK_INLINE void AK_FN(polyphase_gt)(const ak_vec *m, ak_vec *o) {
    const ak_vec two = ak_splat(2.f / 3), four = ak_splat(4.f / 3);
    o[0] = ak_fma(four, m[4] - m[3], (m[1] - m[2]) * two);
    o[1] = m[0];
    o[2] = ak_fma(two, (m[1] + m[2]) - (m[3] + m[4]), m[5]);
}

/// A window's values to points.
AK_INLINE void AK_FN(polyphase_expand)(const ak_vec *d, ak_vec *o, const ak_polyphase_window window) {
    AK_UNROLL for (int i = 0; i < 4; i++) o[i] = window == AK_POLYPHASE_X ? d[2 * i + 1] : d[i];
    if (window == AK_POLYPHASE_X) AK_FN(polyphase_bt)(d, 2, o + 4);
    else if (window == AK_POLYPHASE_DY) AK_FN(polyphase_bt)(d, 1, o + 4);
    else AK_FN(polyphase_a)(d, o + 4);
}

/// Points to four outputs: both phases' sum; or to eight values of dx, which are the phases in turn.
AK_INLINE void AK_FN(polyphase_collapse)(const ak_vec *m, ak_vec *o, const ak_direction direction) {
    ak_vec y[4];
    AK_FN(polyphase_at)(m + 4, y);
    AK_UNROLL for (int i = 0; i < 4; i++) {
        if (direction == AK_FORWARD) o[i] = m[i] + y[i];
        else o[2 * i] = m[i], o[2 * i + 1] = y[i];
    }
}

// --------------------------------------------------------------------------------------------------- two-dimensional

/// The whole of a window, at element `from` of a map's data, to the points that a tile of rows x cols needs.
AK_INLINE void AK_FN(polyphase_points)(
    const void *data, long from, long row, bool bf16, const AK_FN(norm) * norm, int rows, int cols, float *v,
    const long *at, const ak_polyphase_window window) {
    const int size = ak_polyphase_size(window, 4);
    ak_vec t[AK_POLYPHASE_POINTS][AK_POLYPHASE_POINTS];
    for (int i = 0; i < size; i++) {
        ak_vec d[AK_POLYPHASE_POINTS];
        if (bf16) {
            AK_UNROLL for (int j = 0; j < size; j++) d[j] = AK_FN(lanes)(data, from + i * row + j * 16, true);
        } else {
            AK_UNROLL for (int j = 0; j < size; j++) d[j] = AK_FN(lanes)(data, from + i * row + j * 16, false);
        }
        if (norm) {
            AK_UNROLL for (int j = 0; j < size; j++) d[j] = AK_FN(activated)(d[j], norm, AK_PRELU);
        }
        AK_FN(polyphase_expand)(d, t[i], window);
    }
    for (int j = 0; j < AK_POLYPHASE_POINTS; j++, at++) {
        if (!ak_polyphase_needs(AK_POLYPHASE_SIDE, cols, j)) continue;
        ak_vec d[AK_POLYPHASE_POINTS], o[AK_POLYPHASE_POINTS];
        AK_UNROLL for (int i = 0; i < size; i++) d[i] = t[i][j];
        AK_FN(polyphase_expand)(d, o, window);
        AK_UNROLL for (int i = 0; i < AK_POLYPHASE_POINTS; i++)
            if (ak_polyphase_needs(AK_POLYPHASE_SIDE, rows, i)) ak_store(v + at[i * AK_POLYPHASE_POINTS], o[i]);
    }
}

#define POINTS(name, window) \
    AK_NOINLINE void AK_FN(polyphase_points_##name)( \
        const void *data, long from, long row, bool bf16, const AK_FN(norm) * norm, int rows, int cols, float *v, \
        const long *at) { \
        AK_FN(polyphase_points)(data, from, row, bf16, norm, rows, cols, v, at, window); \
    }
POINTS(x, AK_POLYPHASE_X)
POINTS(dy, AK_POLYPHASE_DY)
POINTS(tile, AK_POLYPHASE_TILE)
#undef POINTS

/// The points of a tile to columns of outputs, each of which polyphase_collapse makes outputs of: t[output][point].
AK_INLINE void AK_FN(polyphase_columns)(
    const float *m, const long *at, const ak_polyphase_tile *tile, ak_vec (*t)[AK_POLYPHASE_POINTS],
    const ak_direction direction) {
    for (int j = 0; j < AK_POLYPHASE_POINTS; j++, at++) {
        ak_vec d[AK_POLYPHASE_POINTS], o[8];
        const bool needed = ak_polyphase_needs(AK_POLYPHASE_SIDE, tile->cols, j);
        AK_UNROLL for (int i = 0; i < AK_POLYPHASE_POINTS; i++) {
            const float *from = m + at[i * AK_POLYPHASE_POINTS];
            d[i] = needed && ak_polyphase_needs(AK_POLYPHASE_SIDE, tile->rows, i) ? ak_load(from) : ak_zero();
            __builtin_prefetch(from + 16, 0, 3); // the next tile's
        }
        AK_FN(polyphase_collapse)(d, o, direction);
        AK_UNROLL for (int i = 0; i < (direction == AK_FORWARD ? 4 : 8); i++) t[i][j] = o[i];
    }
}

/// Leaves a value in a map.
AK_INLINE void AK_FN(polyphase_put)(const ak_map *to, long at, ak_vec v) {
    if (to->dtype == AK_BF16) AK_FN(put_lanes)(to->data, at, v, true);
    else AK_FN(put_lanes)(to->data, at, v, false);
}

/// A stored value.
AK_INLINE ak_vec AK_FN(polyphase_get)(const ak_map *from, long at) {
    return from->dtype == AK_BF16 ? AK_FN(lanes)(from->data, at, true) : AK_FN(lanes)(from->data, at, false);
}
