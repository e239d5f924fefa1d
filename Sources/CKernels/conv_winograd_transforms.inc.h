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

// --------------------------------------------------------------------------------------------------- two-dimensional

/// 6x6 inputs (rows `row` floats apart) to 36 points `stride` floats apart.
AK_NOINLINE void AK_FN(winograd_input)(const float *x, long row, float *v, long stride) {
    ak_vec t[6][6];
    AK_UNROLL for (int j = 0; j < 6; j++) {
        ak_vec d[6], o[6];
        AK_UNROLL for (int i = 0; i < 6; i++) d[i] = ak_load(x + i * row + j * 16);
        AK_FN(winograd_bt)(d, o);
        AK_UNROLL for (int i = 0; i < 6; i++) t[i][j] = o[i];
    }
    AK_UNROLL for (int i = 0; i < 6; i++) {
        ak_vec o[6];
        AK_FN(winograd_bt)(t[i], o);
        AK_UNROLL for (int j = 0; j < 6; j++) ak_store(v + (i * 6 + j) * stride, o[j]);
    }
}

/// 4x4 output gradients to 36 points.
AK_NOINLINE void AK_FN(winograd_output_gradient)(const float *dy, long row, float *v, long stride) {
    ak_vec t[6][4];
    AK_UNROLL for (int j = 0; j < 4; j++) {
        ak_vec d[4], o[6];
        AK_UNROLL for (int i = 0; i < 4; i++) d[i] = ak_load(dy + i * row + j * 16);
        AK_FN(winograd_a)(d, o);
        AK_UNROLL for (int i = 0; i < 6; i++) t[i][j] = o[i];
    }
    AK_UNROLL for (int i = 0; i < 6; i++) {
        ak_vec o[6];
        AK_FN(winograd_a)(t[i], o);
        AK_UNROLL for (int j = 0; j < 6; j++) ak_store(v + (i * 6 + j) * stride, o[j]);
    }
}

/// 36 points to the first `rows` x `cols` of 4x4 outputs.
AK_INLINE void AK_FN(winograd_output_any)(
    const float *m, long stride, float *y, long row, int rows, int cols, const ak_finish finish) {
    ak_vec t[4][6];
    AK_UNROLL for (int j = 0; j < 6; j++) {
        ak_vec d[6], o[4];
        AK_UNROLL for (int i = 0; i < 6; i++) d[i] = ak_load(m + (i * 6 + j) * stride);
        AK_FN(winograd_at)(d, o);
        AK_UNROLL for (int i = 0; i < 4; i++) t[i][j] = o[i];
    }
    AK_UNROLL for (int i = 0; i < 4; i++) {
        ak_vec o[4];
        if (i < rows) AK_FN(winograd_at)(t[i], o);
        AK_UNROLL for (int j = 0; j < 4; j++)
            if (i < rows && j < cols) {
                float *to = y + i * row + j * 16;
                if (finish == AK_STREAM) ak_stream(to, o[j]);
                else ak_store(to, finish == AK_ADD ? ak_load(to) + o[j] : o[j]);
            }
    }
}

AK_NOINLINE void AK_FN(winograd_output)(const float *m, long stride, float *y, long row) {
    AK_FN(winograd_output_any)(m, stride, y, row, 4, 4, AK_STORE);
}

AK_NOINLINE void AK_FN(winograd_output_stream)(const float *m, long stride, float *y, long row) {
    AK_FN(winograd_output_any)(m, stride, y, row, 4, 4, AK_STREAM);
}

AK_NOINLINE void AK_FN(winograd_output_edge)(
    const float *m, long stride, float *y, long row, int rows, int cols, bool add) {
    if (add) AK_FN(winograd_output_any)(m, stride, y, row, rows, cols, AK_ADD);
    else AK_FN(winograd_output_any)(m, stride, y, row, rows, cols, AK_STORE);
}
