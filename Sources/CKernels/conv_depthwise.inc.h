// Depthwise convolutions, vectorised over 16 channels. 3x3 with padding 1 works row by row from registers; any other
// geometry (the global KxK one above all) goes tap by tap. Included once per instruction set.

/// A source of rows padded by a zero column on either side: of one plane of one map.
typedef struct {
    const ak_map *map;
    const float *plane; // interior element (0, 0)
    float *ring, *zero;
    int held[AK_DEPTHWISE_RING];
} AK_FN(row_source);

AK_INLINE void AK_FN(rows_prepare)(AK_FN(row_source) *s, const ak_map *map, float *scratch) {
    s->map = map;
    s->zero = scratch;
    s->ring = scratch + (map->w + 2) * 16;
    memset(scratch, 0, (size_t)(1 + AK_DEPTHWISE_RING) * (map->w + 2) * 16 * sizeof(float));
}

AK_INLINE void AK_FN(rows_select)(AK_FN(row_source) *s, int n, int block) {
    s->plane = ak_floats(s->map) + ak_interior(s->map, n, block);
    for (int i = 0; i < AK_DEPTHWISE_RING; i++) s->held[i] = -1;
}

/// Row r, from column -1.
AK_INLINE const float *AK_FN(rows_get)(AK_FN(row_source) *s, int r) {
    if (r < 0 || r >= s->map->h) return s->zero;
    if (s->map->halo) return s->plane + r * s->map->row - 16;
    int slot = r % AK_DEPTHWISE_RING;
    float *line = s->ring + (long)slot * (s->map->w + 2) * 16;
    if (s->held[slot] != r) {
        memcpy(line + 16, s->plane + r * s->map->row, (size_t)s->map->w * 16 * sizeof(float));
        s->held[slot] = r;
    }
    return line;
}

// ----------------------------------------------------------------------------------------------------- 3x3, forward

/// `width` outputs from three padded rows; w holds nine taps.
AK_INLINE void AK_FN(depthwise_tile)(
    const float *r0, const float *r1, const float *r2, const float *w, float *y, const ak_finish finish,
    const int stride, const int width) {
    const float *rows[3] = {r0, r1, r2};
    ak_vec sum[14];
    AK_UNROLL for (int p = 0; p < width; p++) sum[p] = finish == AK_ADD ? ak_load(y + p * 16) : ak_zero();
    AK_UNROLL for (int r = 0; r < 3; r++) {
        ak_vec w0 = ak_load(w + r * 48), w1 = ak_load(w + r * 48 + 16), w2 = ak_load(w + r * 48 + 32);
        AK_UNROLL for (int p = 0; p < width; p++) {
            const float *x = rows[r] + p * stride * 16;
            sum[p] = ak_fma(ak_load(x), w0, sum[p]);
            sum[p] = ak_fma(ak_load(x + 16), w1, sum[p]);
            sum[p] = ak_fma(ak_load(x + 32), w2, sum[p]);
        }
    }
    if (finish == AK_STREAM) {
        AK_UNROLL for (int p = 0; p < width; p++) ak_stream(y + p * 16, sum[p]);
    } else {
        AK_UNROLL for (int p = 0; p < width; p++) ak_store(y + p * 16, sum[p]);
    }
}

#if AK_LEVEL >= 2
#define WIDE 14
#define NARROW 7
#else
#define WIDE 4
#define NARROW 2
#endif

AK_INLINE void AK_FN(depthwise_line)(
    const float *r0, const float *r1, const float *r2, const float *w, float *y, int width, long ahead,
    const ak_finish finish, const int stride) {
    int p = 0;
    // With stride 2 the next output row reads two rows that the hardware has not foreseen.
#define TILES(count) \
    for (; p + count <= width; p += count) { \
        long at = (long)p * stride * 16; \
        if (stride == 2) \
            for (int i = 0; i < 2 * count; i++) { \
                __builtin_prefetch(r2 + at + ahead + i * 16, 0, 2); \
                __builtin_prefetch(r2 + at + 2 * ahead + i * 16, 0, 2); \
            } \
        AK_FN(depthwise_tile)(r0 + at, r1 + at, r2 + at, w, y + p * 16, finish, stride, count); \
    }
    TILES(WIDE)
    TILES(NARROW)
    TILES(1)
#undef TILES
}

AK_NOINLINE void AK_FN(depthwise_line_1)(
    const float *r0, const float *r1, const float *r2, const float *w, float *y, int width,
    ak_finish finish) {
    if (finish == AK_STREAM) AK_FN(depthwise_line)(r0, r1, r2, w, y, width, 0, AK_STREAM, 1);
    else if (finish == AK_ADD) AK_FN(depthwise_line)(r0, r1, r2, w, y, width, 0, AK_ADD, 1);
    else AK_FN(depthwise_line)(r0, r1, r2, w, y, width, 0, AK_STORE, 1);
}

AK_NOINLINE void AK_FN(depthwise_line_2)(
    const float *r0, const float *r1, const float *r2, const float *w, float *y, int width, long ahead,
    ak_finish finish) {
    if (finish == AK_STREAM) AK_FN(depthwise_line)(r0, r1, r2, w, y, width, ahead, AK_STREAM, 2);
    else AK_FN(depthwise_line)(r0, r1, r2, w, y, width, ahead, AK_STORE, 2);
}

// ------------------------------------------------------------------------------------- 3x3, stride 2, backward data

/// One row of dx from one row of dy: column 2j meets the middle tap of dy[j]; column 2j+1 the last of dy[j] and the
/// first of dy[j+1]. dy begins at column -1; w holds the three taps of the row.
AK_INLINE void AK_FN(depthwise_scatter)(const float *dy, const float *w, float *dx, int width,
    const ak_finish finish) {
    ak_vec w0 = ak_load(w), w1 = ak_load(w + 16), w2 = ak_load(w + 32);
    ak_vec here = ak_load(dy + 16);
    for (int j = 0; 2 * j < width; j++) {
        float *to = dx + j * 32;
        ak_vec even = here * w1, odd = here * w2, next = ak_load(dy + (j + 2) * 16);
        odd = ak_fma(next, w0, odd);
        bool last = 2 * j + 1 >= width;
        here = next;
        if (finish == AK_STREAM) {
            ak_stream(to, even);
            if (!last) ak_stream(to + 16, odd);
        } else {
            ak_store(to, finish == AK_ADD ? ak_load(to) + even : even);
            if (!last) ak_store(to + 16, finish == AK_ADD ? ak_load(to + 16) + odd : odd);
        }
    }
}

/// The same from two rows of dy with two rows of taps.
AK_INLINE void AK_FN(depthwise_scatter_two)(
    const float *above, const float *below, const float *w, float *dx, int width, const ak_finish finish) {
    ak_vec a0 = ak_load(w + 96), a1 = ak_load(w + 112), a2 = ak_load(w + 128);
    ak_vec b0 = ak_load(w), b1 = ak_load(w + 16), b2 = ak_load(w + 32);
    ak_vec a = ak_load(above + 16), b = ak_load(below + 16);
    for (int j = 0; 2 * j < width; j++) {
        float *to = dx + j * 32;
        ak_vec next_a = ak_load(above + (j + 2) * 16), next_b = ak_load(below + (j + 2) * 16);
        ak_vec even = ak_fma(b, b1, a * a1), odd = ak_fma(b, b2, a * a2);
        odd = ak_fma(next_b, b0, ak_fma(next_a, a0, odd));
        bool last = 2 * j + 1 >= width;
        a = next_a;
        b = next_b;
        if (finish == AK_STREAM) {
            ak_stream(to, even);
            if (!last) ak_stream(to + 16, odd);
        } else {
            ak_store(to, finish == AK_ADD ? ak_load(to) + even : even);
            if (!last) ak_store(to + 16, finish == AK_ADD ? ak_load(to + 16) + odd : odd);
        }
    }
}

/// Row y of dx: an even one meets the middle row of taps, an odd one the last with the dy above and the first with the
/// dy below.
AK_NOINLINE void AK_FN(depthwise_scatter_row)(
    AK_FN(row_source) *rows, int y, const float *w, float *dx, int width, ak_finish finish) {
    const float *above = AK_FN(rows_get)(rows, y / 2), *below = y % 2 ? AK_FN(rows_get)(rows, y / 2 + 1) : above;
#define SCATTER(finish) \
    do { \
        if (y % 2) AK_FN(depthwise_scatter_two)(above, below, w, dx, width, finish); \
        else AK_FN(depthwise_scatter)(above, w + 48, dx, width, finish); \
    } while (0)
    if (finish == AK_STREAM) SCATTER(AK_STREAM);
    else if (finish == AK_ADD) SCATTER(AK_ADD);
    else SCATTER(AK_STORE);
#undef SCATTER
}

// ------------------------------------------------------------------------------------------- 3x3, gradient of weights

AK_INLINE void AK_FN(depthwise_gradient_line)(
    const float *r0, const float *r1, const float *r2, const float *dy, int width, float *sums, const int stride) {
    const float *rows[3] = {r0, r1, r2};
    ak_vec sum[9];
    AK_UNROLL for (int t = 0; t < 9; t++) sum[t] = ak_load(sums + t * 16);
    _Pragma("clang loop unroll_count(2)") for (int p = 0; p < width; p++) {
        ak_vec g = ak_load(dy + p * 16);
        AK_UNROLL for (int t = 0; t < 9; t++)
            sum[t] = ak_fma(ak_load(rows[t / 3] + (p * stride + t % 3) * 16), g, sum[t]);
    }
    AK_UNROLL for (int t = 0; t < 9; t++) ak_store(sums + t * 16, sum[t]);
}

AK_NOINLINE void AK_FN(depthwise_gradient_line_1)(
    const float *r0, const float *r1, const float *r2, const float *dy, int width, float *sums) {
    AK_FN(depthwise_gradient_line)(r0, r1, r2, dy, width, sums, 1);
}

AK_NOINLINE void AK_FN(depthwise_gradient_line_2)(
    const float *r0, const float *r1, const float *r2, const float *dy, int width, float *sums) {
    AK_FN(depthwise_gradient_line)(r0, r1, r2, dy, width, sums, 2);
}

// ------------------------------------------------------------------------------------------------------ any geometry

/// Row y of the output.
AK_NOINLINE void AK_FN(depthwise_any_row)(
    const ak_depthwise_job *job, const float *x, int y, const float *w, float *out) {
    const ak_conv *conv = job->conv;
    int top = y * conv->stride - conv->pad;
    for (int j = 0; j < job->out.w; j++) {
        int left = j * conv->stride - conv->pad;
        int b0 = ak_max(0, -left), b1 = ak_min(conv->kw, conv->w - left);
        ak_vec sum = ak_zero();
        for (int a = ak_max(0, -top); a < ak_min(conv->kh, conv->h - top); a++)
            for (int b = b0; b < b1; b++)
                sum = ak_fma(
                    ak_load(x + (top + a) * job->x.row + (left + b) * 16), ak_load(w + (a * conv->kw + b) * 16), sum);
        ak_store(out + j * 16, sum);
    }
}

/// Row y of dx.
AK_NOINLINE void AK_FN(depthwise_any_back_row)(
    const ak_depthwise_job *job, const float *dy, int y, const float *w, float *out) {
    const ak_conv *conv = job->conv;
    int s = conv->stride;
    if (job->dy.h == 1 && job->dy.w == 1 && conv->pad == 0) {
        // The global convolution: each input meets one tap, those that the kernel does not reach none.
        ak_vec g = ak_load(dy);
        for (int x = 0; x < conv->w; x++) {
            ak_vec value = y < conv->kh && x < conv->kw ? g * ak_load(w + (y * conv->kw + x) * 16) : ak_zero();
            ak_store(out + x * 16, job->accumulate ? ak_load(out + x * 16) + value : value);
        }
        return;
    }
    for (int x = 0; x < conv->w; x++) {
        ak_vec sum = job->accumulate ? ak_load(out + x * 16) : ak_zero();
        for (int a = (y + conv->pad) % s; a < conv->kh; a += s) {
            int i = (y + conv->pad - a) / s;
            if (y + conv->pad < a || i >= job->dy.h) continue;
            for (int b = (x + conv->pad) % s; b < conv->kw; b += s) {
                int j = (x + conv->pad - b) / s;
                if (x + conv->pad < b || j >= job->dy.w) continue;
                sum = ak_fma(ak_load(dy + i * job->dy.row + j * 16), ak_load(w + (a * conv->kw + b) * 16), sum);
            }
        }
        ak_store(out + x * 16, sum);
    }
}

/// Adds what row y of dy gives to the taps' sums.
AK_NOINLINE void AK_FN(depthwise_any_gradient_row)(
    const ak_depthwise_job *job, const float *x, const float *dy, int y, float *sums) {
    const ak_conv *conv = job->conv;
    int top = y * conv->stride - conv->pad;
    for (int j = 0; j < job->dy.w; j++) {
        ak_vec g = ak_load(dy + j * 16);
        int left = j * conv->stride - conv->pad;
        int b0 = ak_max(0, -left), b1 = ak_min(conv->kw, conv->w - left);
        for (int a = ak_max(0, -top); a < ak_min(conv->kh, conv->h - top); a++)
            for (int b = b0; b < b1; b++) {
                float *sum = sums + (a * conv->kw + b) * 16;
                ak_store(sum, ak_fma(ak_load(x + (top + a) * job->x.row + (left + b) * 16), g, ak_load(sum)));
            }
    }
}

// -------------------------------------------------------------------------------------------------------- the parts

/// Work is cut in rows of the written map (of dy, for the weights), numbered through all planes.
typedef struct {
    int n, block, y;
} AK_FN(row_place);

AK_INLINE AK_FN(row_place) AK_FN(row_at)(long row, int blocks, int h) {
    long plane = row / h;
    return (AK_FN(row_place)){(int)(plane / blocks), (int)(plane % blocks), (int)(row % h)};
}

void AK_FN(ak_depthwise_forward_part)(void *context, int part, int parts);
void AK_FN(ak_depthwise_forward_part)(void *context, int part, int parts) {
    const ak_depthwise_job *job = context;
    const ak_conv *conv = job->conv;
    int blocks = ak_blocks(conv->c), taps = conv->kh * conv->kw, h = job->out.h;
    long rows = (long)job->out.n * blocks * h;
    long begin = ak_begin(rows, part, parts), end = ak_begin(rows, part + 1, parts);
    if (begin == end) return;
    bool three = conv->kh == 3 && conv->kw == 3 && conv->pad == 1;
    ak_finish finish = ak_conv_streams(&job->out) ? AK_STREAM : AK_STORE;
    AK_FN(row_source) source;
    AK_FN(rows_prepare)(&source, &job->x, job->workspace + part * ak_depthwise_thread_floats(conv));
    for (long row = begin; row < end; row++) {
        AK_FN(row_place) at = AK_FN(row_at)(row, blocks, h);
        if (row == begin || at.y == 0) AK_FN(rows_select)(&source, at.n, at.block);
        const float *w = job->weights + (long)at.block * taps * 16;
        float *out = ak_floats(&job->out) + ak_interior(&job->out, at.n, at.block) + at.y * job->out.row;
        ak_zero_row_border(&job->out, at.n, at.block, at.y);
        if (!three) {
            AK_FN(depthwise_any_row)(job, source.plane, at.y, w, out);
            continue;
        }
        int top = at.y * conv->stride - 1;
        const float *r0 = AK_FN(rows_get)(&source, top), *r1 = AK_FN(rows_get)(&source, top + 1);
        const float *r2 = AK_FN(rows_get)(&source, top + 2);
        if (conv->stride == 1) AK_FN(depthwise_line_1)(r0, r1, r2, w, out, job->out.w, finish);
        else AK_FN(depthwise_line_2)(r0, r1, r2, w, out, job->out.w, job->x.halo ? job->x.row : 0, finish);
    }
    if (finish == AK_STREAM) ak_stream_fence();
}

void AK_FN(ak_depthwise_backward_part)(void *context, int part, int parts);
void AK_FN(ak_depthwise_backward_part)(void *context, int part, int parts) {
    const ak_depthwise_job *job = context;
    const ak_conv *conv = job->conv;
    int blocks = ak_blocks(conv->c), taps = conv->kh * conv->kw, h = job->out.h;
    long rows = (long)job->out.n * blocks * h;
    long begin = ak_begin(rows, part, parts), end = ak_begin(rows, part + 1, parts);
    if (begin == end) return;
    bool three = conv->kh == 3 && conv->kw == 3 && conv->pad == 1;
    AK_FN(row_source) source;
    AK_FN(rows_prepare)(&source, &job->dy, job->workspace + part * ak_depthwise_thread_floats(conv));
    ak_finish finish = job->accumulate ? AK_ADD : ak_conv_streams(&job->out) ? AK_STREAM : AK_STORE;
    _Alignas(64) float flipped[9 * 16];
    for (long row = begin; row < end; row++) {
        AK_FN(row_place) at = AK_FN(row_at)(row, blocks, h);
        const float *w = job->weights + (long)at.block * taps * 16;
        if (row == begin || at.y == 0) {
            AK_FN(rows_select)(&source, at.n, at.block);
            if (three) for (int t = 0; t < 9; t++) memcpy(flipped + (8 - t) * 16, w + t * 16, 64);
        }
        float *out = ak_floats(&job->out) + ak_interior(&job->out, at.n, at.block) + at.y * job->out.row;
        if (!job->accumulate) ak_zero_row_border(&job->out, at.n, at.block, at.y);
        if (!three) {
            AK_FN(depthwise_any_back_row)(job, source.plane, at.y, w, out);
        } else if (conv->stride == 2) {
            AK_FN(depthwise_scatter_row)(&source, at.y, w, out, conv->w, finish);
        } else {
            const float *r0 = AK_FN(rows_get)(&source, at.y - 1), *r1 = AK_FN(rows_get)(&source, at.y);
            const float *r2 = AK_FN(rows_get)(&source, at.y + 1);
            AK_FN(depthwise_line_1)(r0, r1, r2, flipped, out, conv->w, finish);
        }
    }
    if (finish == AK_STREAM) ak_stream_fence();
}

void AK_FN(ak_depthwise_gradient_part)(void *context, int part, int parts);
void AK_FN(ak_depthwise_gradient_part)(void *context, int part, int parts) {
    const ak_depthwise_job *job = context;
    const ak_conv *conv = job->conv;
    int blocks = ak_blocks(conv->c), taps = conv->kh * conv->kw, h = job->dy.h;
    float *partial = job->partial + (long)part * blocks * taps * 16;
    memset(partial, 0, (size_t)blocks * taps * 16 * sizeof(float));
    long rows = (long)job->dy.n * blocks * h;
    long begin = ak_begin(rows, part, parts), end = ak_begin(rows, part + 1, parts);
    if (begin == end) return;
    bool three = conv->kh == 3 && conv->kw == 3 && conv->pad == 1;
    AK_FN(row_source) source;
    AK_FN(rows_prepare)(&source, &job->x, job->workspace + part * ak_depthwise_thread_floats(conv));
    for (long row = begin; row < end; row++) {
        AK_FN(row_place) at = AK_FN(row_at)(row, blocks, h);
        if (row == begin || at.y == 0) AK_FN(rows_select)(&source, at.n, at.block);
        const float *dy = ak_floats(&job->dy) + ak_interior(&job->dy, at.n, at.block) + at.y * job->dy.row;
        float *sums = partial + (long)at.block * taps * 16;
        if (!three) {
            AK_FN(depthwise_any_gradient_row)(job, source.plane, dy, at.y, sums);
            continue;
        }
        int top = at.y * conv->stride - 1;
        const float *r0 = AK_FN(rows_get)(&source, top), *r1 = AK_FN(rows_get)(&source, top + 1);
        const float *r2 = AK_FN(rows_get)(&source, top + 2);
        if (conv->stride == 1) AK_FN(depthwise_gradient_line_1)(r0, r1, r2, dy, job->dy.w, sums);
        else AK_FN(depthwise_gradient_line_2)(r0, r1, r2, dy, job->dy.w, sums);
    }
}

#undef WIDE
#undef NARROW
