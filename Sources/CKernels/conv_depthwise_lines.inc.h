// 3x3 depthwise with padding 1, a row at a time. Lines begin at column -1 and end one column beyond the map, both zero;
// taps are [tap][16]. Included by conv_depthwise.inc.h.

#if AK_LEVEL >= 2
#define WIDTHS(X) X(14) X(7) X(3) X(1)
#define WIDTHS_EVEN(X) X(14) X(2) X(1)
#else
#define WIDTHS(X) X(4) X(2) X(1)
#define WIDTHS_EVEN(X) X(4) X(2) X(1)
#endif

// --------------------------------------------------------------------------------------------------------- correlation

/// `width` sums of three lines' taps.
AK_INLINE void AK_FN(correlation_tile)(
    const float *const *lines, const float *w, const AK_FN(target) * to, const AK_FN(ahead) * ahead, int x,
    const int stride, const int width) {
    AK_FN(ask)(ahead, x, width);
    ak_vec sum[14];
    AK_UNROLL for (int p = 0; p < width; p++) sum[p] = ak_zero();
    AK_UNROLL for (int a = 0; a < 3; a++) {
        const ak_vec w0 = ak_load(w + a * 48), w1 = ak_load(w + a * 48 + 16), w2 = ak_load(w + a * 48 + 32);
        const float *line = lines[a] + x * stride * 16;
        AK_UNROLL for (int p = 0; p < width; p++) {
            sum[p] = ak_fma(ak_load(line + p * stride * 16), w0, sum[p]);
            sum[p] = ak_fma(ak_load(line + p * stride * 16 + 16), w1, sum[p]);
            sum[p] = ak_fma(ak_load(line + p * stride * 16 + 32), w2, sum[p]);
        }
    }
    AK_FN(leave)(to, x, sum, width, width);
}

/// A row of the forward pass; with stride 1 and the taps in reverse order, of dx.
#define CORRELATION(stride) \
    AK_NOINLINE void AK_FN(correlation_##stride)( \
        const float *const *lines, const float *w, const AK_FN(target) * to, const AK_FN(ahead) * ahead, \
        int width) { \
        int x = 0; \
        WIDTHS(CORRELATION_TILES_##stride) \
    }
#define CORRELATION_TILES_1(count) \
    for (; x + count <= width; x += count) AK_FN(correlation_tile)(lines, w, to, ahead, x, 1, count);
#define CORRELATION_TILES_2(count) \
    for (; x + count <= width; x += count) AK_FN(correlation_tile)(lines, w, to, ahead, x, 2, count);
CORRELATION(1)
CORRELATION(2)
#undef CORRELATION
#undef CORRELATION_TILES_1
#undef CORRELATION_TILES_2

// -------------------------------------------------------------------------------------------------- stride 2, backward
//
// An even row or column of dx meets the middle tap of one of dy; an odd one the outer taps of two. In reverse order of
// the taps, dx[2i+1] = dy[i]*w[0] + dy[i+1]*w[2].

/// `width` values from column x on, which is even. An even row: lines[0] and the middle row of taps; an odd one: both
/// lines.
AK_INLINE void AK_FN(scatter_tile)(
    const float *const *lines, const float *w, const AK_FN(target) * to, const AK_FN(ahead) * ahead, int x,
    const bool odd, const int width) {
    AK_FN(ask)(ahead, x, width);
    ak_vec v[14];
    AK_UNROLL for (int p = 0; p < width; p++) v[p] = ak_zero();
    AK_UNROLL for (int a = 0; a < (odd ? 2 : 1); a++) {
        const float *taps = w + (odd ? 2 * a : 1) * 48, *line = lines[a] + (x / 2 + 1) * 16;
        const ak_vec w0 = ak_load(taps), w1 = ak_load(taps + 16), w2 = ak_load(taps + 32);
        AK_UNROLL for (int p = 0; p < width; p++) {
            const ak_vec here = ak_load(line + p / 2 * 16);
            if (p % 2 == 0) v[p] = ak_fma(here, w1, v[p]);
            else v[p] = ak_fma(ak_load(line + (p / 2 + 1) * 16), w2, ak_fma(here, w0, v[p]));
        }
    }
    AK_FN(leave)(to, x, v, width, width);
}

AK_INLINE void AK_FN(scatter)(
    const float *const *lines, const float *w, const AK_FN(target) * to, const AK_FN(ahead) * ahead, int width,
    const bool odd) {
    int x = 0;
#define TILES(count) \
    for (; x + count <= width; x += count) AK_FN(scatter_tile)(lines, w, to, ahead, x, odd, count);
    WIDTHS_EVEN(TILES)
#undef TILES
}

AK_NOINLINE void AK_FN(scatter_row)(
    const float *const *lines, const float *w, const AK_FN(target) * to, const AK_FN(ahead) * ahead, int width,
    bool odd) {
    if (odd) AK_FN(scatter)(lines, w, to, ahead, width, true);
    else AK_FN(scatter)(lines, w, to, ahead, width, false);
}

// ------------------------------------------------------------------------------------------------ gradient of the taps
//
// Each pixel of x meets the pixels of dy around it, so that x is read once, in passing, and only dy needs lines.

/// A row of x.
typedef struct {
    const void *data;
    long at;
    int width;
    AK_FN(norm) norm;
    AK_FN(ahead) ahead;
} AK_FN(passing_row);

AK_INLINE ak_vec AK_FN(passing)(const AK_FN(passing_row) * x, int p, const bool bf16) {
    return AK_FN(activated)(AK_FN(lanes)(x->data, x->at + p * 16, bf16), &x->norm, AK_PRELU);
}

/// Stride 1: adds to the taps' sums, in reverse order.
AK_INLINE void AK_FN(taps_row)(
    const float *const *lines, const AK_FN(passing_row) * from, float *sums, const bool bf16) {
    const AK_FN(passing_row) x = *from;
    ak_vec sum[9];
    AK_UNROLL for (int t = 0; t < 9; t++) sum[t] = ak_load(sums + t * 16);
    const float *r0 = lines[0], *r1 = lines[1], *r2 = lines[2];
    for (int p = 0; p < x.width; p++) {
        const ak_vec v = AK_FN(passing)(&x, p, bf16);
        AK_UNROLL for (int i = 0; i < 2; i++) __builtin_prefetch(x.ahead.from[i] + p * x.ahead.bytes[i], 0, 2);
        AK_UNROLL for (int b = 0; b < 3; b++) {
            sum[b] = ak_fma(ak_load(r0 + (p + b) * 16), v, sum[b]);
            sum[3 + b] = ak_fma(ak_load(r1 + (p + b) * 16), v, sum[3 + b]);
            sum[6 + b] = ak_fma(ak_load(r2 + (p + b) * 16), v, sum[6 + b]);
        }
    }
    AK_UNROLL for (int t = 0; t < 9; t++) ak_store(sums + t * 16, sum[t]);
}

/// Stride 2, as scatter_tile.
AK_INLINE void AK_FN(taps_row_2)(
    const float *const *lines, const AK_FN(passing_row) * from, float *sums, const bool odd, const bool bf16) {
    const AK_FN(passing_row) x = *from;
    const int rows = odd ? 2 : 1;
    ak_vec sum[6];
    const float *line[2] = {lines[0] + 16, lines[1] + 16};
    AK_UNROLL for (int t = 0; t < rows * 3; t++) sum[t] = ak_load(sums + (odd ? t / 3 * 6 : 3) * 16 + t % 3 * 16);
    int p = 0;
    for (; p + 2 <= x.width; p += 2) {
        const ak_vec u = AK_FN(passing)(&x, p, bf16), v = AK_FN(passing)(&x, p + 1, bf16);
        AK_FN(ask)(&x.ahead, p, 2);
        AK_UNROLL for (int a = 0; a < rows; a++) {
            const ak_vec here = ak_load(line[a] + p * 8);
            sum[a * 3] = ak_fma(here, v, sum[a * 3]);
            sum[a * 3 + 1] = ak_fma(here, u, sum[a * 3 + 1]);
            sum[a * 3 + 2] = ak_fma(ak_load(line[a] + p * 8 + 16), v, sum[a * 3 + 2]);
        }
    }
    if (p < x.width) {
        const ak_vec u = AK_FN(passing)(&x, p, bf16);
        AK_UNROLL for (int a = 0; a < rows; a++)
            sum[a * 3 + 1] = ak_fma(ak_load(line[a] + p * 8), u, sum[a * 3 + 1]);
    }
    AK_UNROLL for (int t = 0; t < rows * 3; t++) ak_store(sums + (odd ? t / 3 * 6 : 3) * 16 + t % 3 * 16, sum[t]);
}

AK_NOINLINE void AK_FN(taps_1)(const float *const *lines, const AK_FN(passing_row) * x, float *sums, bool bf16) {
    if (bf16) AK_FN(taps_row)(lines, x, sums, true);
    else AK_FN(taps_row)(lines, x, sums, false);
}

AK_NOINLINE void AK_FN(taps_2)(
    const float *const *lines, const AK_FN(passing_row) * x, float *sums, bool odd, bool bf16) {
    if (odd && bf16) AK_FN(taps_row_2)(lines, x, sums, true, true);
    else if (odd) AK_FN(taps_row_2)(lines, x, sums, true, false);
    else if (bf16) AK_FN(taps_row_2)(lines, x, sums, false, true);
    else AK_FN(taps_row_2)(lines, x, sums, false, false);
}

#undef WIDTHS
#undef WIDTHS_EVEN
