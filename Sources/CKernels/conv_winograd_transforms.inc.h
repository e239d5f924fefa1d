// Winograd's transforms of inputs, outputs, weights and their gradients for conv_winograd.inc.h, which includes this.

// --------------------------------------------------------------------------------------------------- one-dimensional

/// B^T: six inputs to six points.
AK_INLINE void AK_FN(winograd_bt)(const ak_vec *d, ak_vec *o) {
    ak_vec four = ak_splat(4), five = ak_splat(5), two = ak_splat(2);
    ak_vec even = ak_fma(-four, d[2], d[4]), odd = ak_fma(-four, d[1], d[3]);
    ak_vec even2 = d[4] - d[2], odd2 = d[3] - d[1];
    o[0] = ak_fma(four, d[0], ak_fma(-five, d[2], d[4]));
    o[1] = even + odd;
    o[2] = even - odd;
    o[3] = ak_fma(two, odd2, even2);
    o[4] = ak_fma(-two, odd2, even2);
    o[5] = ak_fma(four, d[1], ak_fma(-five, d[3], d[5]));
}

/// A^T: six points to four outputs.
AK_INLINE void AK_FN(winograd_at)(const ak_vec *m, ak_vec *o) {
    ak_vec s1 = m[1] + m[2], d1 = m[1] - m[2], s2 = m[3] + m[4], d2 = m[3] - m[4];
    o[0] = m[0] + s1 + s2;
    o[1] = ak_fma(ak_splat(2), d2, d1);
    o[2] = ak_fma(ak_splat(4), s2, s1);
    o[3] = ak_fma(ak_splat(8), d2, d1) + m[5];
}

/// A: four output gradients to six points.
AK_INLINE void AK_FN(winograd_a)(const ak_vec *g, ak_vec *o) {
    ak_vec even = g[0] + g[2], odd = g[1] + g[3];
    ak_vec even2 = ak_fma(ak_splat(4), g[2], g[0]), odd2 = ak_fma(ak_splat(4), g[3], g[1]);
    o[0] = g[0];
    o[1] = even + odd;
    o[2] = even - odd;
    o[3] = ak_fma(ak_splat(2), odd2, even2);
    o[4] = ak_fma(ak_splat(-2), odd2, even2);
    o[5] = g[3];
}

/// G: three taps to six points.
AK_INLINE void AK_FN(winograd_g)(const ak_vec *g, ak_vec *o) {
    ak_vec sixth = ak_splat(-1.f / 6), small = ak_splat(1.f / 24);
    ak_vec even = g[0] + g[2], even2 = ak_fma(ak_splat(4), g[2], g[0]), odd2 = g[1] + g[1];
    o[0] = g[0] * ak_splat(0.25f);
    o[1] = (even + g[1]) * sixth;
    o[2] = (even - g[1]) * sixth;
    o[3] = (even2 + odd2) * small;
    o[4] = (even2 - odd2) * small;
    o[5] = g[2];
}

/// G^T: six points to three taps.
AK_INLINE void AK_FN(winograd_gt)(const ak_vec *m, ak_vec *o) {
    ak_vec s1 = (m[1] + m[2]) * ak_splat(-1.f / 6), d1 = (m[1] - m[2]) * ak_splat(-1.f / 6);
    ak_vec s2 = (m[3] + m[4]) * ak_splat(1.f / 24), d2 = (m[3] - m[4]) * ak_splat(1.f / 12);
    o[0] = ak_fma(ak_splat(0.25f), m[0], s1) + s2;
    o[1] = d1 + d2;
    o[2] = ak_fma(ak_splat(4), s2, s1) + m[5];
}

// ----------------------------------------------------------------------------------------------------------- reading

/// A map's block of channels, as a tile's transform reads it. All is decided at run time, once for a column of a tile:
/// that costs nothing beside the arithmetic, and one copy serves all.
typedef struct {
    const void *data;
    long row; // elements between rows
    bool bf16;
    ak_reading reading;
    AK_FN(norm) norm;
} AK_FN(winograd_reader);

/// The `size` rows of one column of a tile, from element `at`; zero outside [i0, i1).
AK_INLINE void AK_FN(winograd_column)(
    const AK_FN(winograd_reader) * r, long at, int i0, int i1, ak_vec *d, const int size) {
    if (i0 == 0 && i1 == size) {
        if (r->bf16) AK_UNROLL for (int i = 0; i < size; i++) d[i] = AK_FN(lanes)(r->data, at + i * r->row, true);
        else AK_UNROLL for (int i = 0; i < size; i++) d[i] = AK_FN(lanes)(r->data, at + i * r->row, false);
        if (r->reading == AK_PRELU)
            AK_UNROLL for (int i = 0; i < size; i++) d[i] = AK_FN(activated)(d[i], &r->norm, AK_PRELU);
        else if (r->reading == AK_AFFINE)
            AK_UNROLL for (int i = 0; i < size; i++) d[i] = AK_FN(activated)(d[i], &r->norm, AK_AFFINE);
        return;
    }
    AK_UNROLL for (int i = 0; i < size; i++) {
        d[i] = ak_zero();
        if (i < i0 || i >= i1) continue;
        d[i] = AK_FN(activated)(AK_FN(lanes)(r->data, at + i * r->row, r->bf16), &r->norm, r->reading);
    }
}

/// A tile, its first row and column at element `at` (which may lie outside), to 36 points `stride` floats apart:
/// 6x6 inputs by B^T, or 4x4 output gradients by A.
AK_INLINE void AK_FN(winograd_tile)(
    const AK_FN(winograd_reader) * r, long at, ak_winograd_inside in, float *v, long stride, const bool gradient) {
    const int size = gradient ? 4 : 6;
    ak_vec t[6][6];
    _Pragma("clang loop unroll(disable)") for (int j = 0; j < size; j++) {
        ak_vec d[6], o[6];
        if (j < in.j0 || j >= in.j1) {
            AK_UNROLL for (int i = 0; i < 6; i++) t[i][j] = ak_zero();
            continue;
        }
        AK_FN(winograd_column)(r, at + j * 16, in.i0, in.i1, d, size);
        if (gradient) AK_FN(winograd_a)(d, o);
        else AK_FN(winograd_bt)(d, o);
        AK_UNROLL for (int i = 0; i < 6; i++) t[i][j] = o[i];
    }
    _Pragma("clang loop unroll(disable)") for (int i = 0; i < 6; i++, v += 6 * stride) {
        ak_vec o[6];
        if (gradient) AK_FN(winograd_a)(t[i], o);
        else AK_FN(winograd_bt)(t[i], o);
        AK_UNROLL for (int j = 0; j < 6; j++) ak_store(v + j * stride, o[j]);
    }
}

// ----------------------------------------------------------------------------------------------------------- writing

/// One block of channels as it is written, and the statistics gathered from it.
typedef struct {
    void *data;
    bool bf16, x_bf16, prelu;
    ak_finish finish;
    bool moments, sums;
    const void *x; // the reduction's map
    AK_FN(stretch) stretch;
    AK_FN(reducer) reducer;
    AK_FN(partial_sums) partial;
} AK_FN(winograd_writer);

/// Leaves `count` outputs of one row at element `at`.
AK_INLINE void AK_FN(winograd_leave)(AK_FN(winograd_writer) * w, long at, ak_vec *o, const int count) {
    if (w->finish == AK_ADD)
        AK_UNROLL for (int j = 0; j < count; j++) o[j] += AK_FN(lanes)(w->data, at + j * 16, w->bf16);
    if (w->moments) AK_UNROLL for (int j = 0; j < count; j++) AK_FN(stretch_add)(&w->stretch, o[j]);
    if (w->sums)
        AK_UNROLL for (int j = 0; j < count; j++)
            AK_FN(reduce_lanes)(
                &w->partial, o[j], AK_FN(lanes)(w->x, at + j * 16, w->x_bf16), &w->reducer, w->prelu);
    AK_UNROLL for (int j = 0; j < count; j++) {
        if (w->finish == AK_STREAM) ak_stream((float *)w->data + at + j * 16, o[j]);
        else AK_FN(put_lanes)(w->data, at + j * 16, o[j], w->bf16);
    }
}

/// The first of 4x4 outputs.
AK_INLINE ak_vec AK_FN(winograd_corner)(const float *m, long stride) {
    ak_vec sum = ak_zero();
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++) sum += ak_load(m + (i * 6 + j) * stride);
    return sum;
}

/// 36 points to the first `rows` x `cols` of 4x4 outputs at element `at`.
AK_INLINE void AK_FN(winograd_output)(
    const float *m, long stride, AK_FN(winograd_writer) * w, long at, long row, int rows, int cols) {
    ak_vec t[4][6];
    _Pragma("clang loop unroll(disable)") for (int j = 0; j < 6; j++) {
        ak_vec d[6], o[4];
        AK_UNROLL for (int i = 0; i < 6; i++) d[i] = ak_load(m + (i * 6 + j) * stride);
        AK_FN(winograd_at)(d, o);
        AK_UNROLL for (int i = 0; i < 4; i++) t[i][j] = o[i];
    }
    _Pragma("clang loop unroll(disable)") for (int i = 0; i < rows; i++, at += row) {
        ak_vec o[4];
        AK_FN(winograd_at)(t[i], o);
        if (cols == 4) AK_FN(winograd_leave)(w, at, o, 4);
        else if (cols == 3) AK_FN(winograd_leave)(w, at, o, 3);
        else if (cols == 2) AK_FN(winograd_leave)(w, at, o, 2);
        else AK_FN(winograd_leave)(w, at, o, 1);
    }
}
