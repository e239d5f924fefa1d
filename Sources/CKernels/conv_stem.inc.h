// The first convolution: NCHW fp32 images of a few channels in, blocked maps out. For each output row the image rows
// that it reads are copied, padded and separated by column parity (stride 2), so that consecutive output positions read
// consecutive floats; each is broadcast against 16 output channels. Included once per instruction set.
#include "lanes.inc.h"

#include "fusion.inc.h"

#include "conv_rows.inc.h"

#if AK_LEVEL >= 2
#define TILE 14
#define PAIR 2
#define GROUP 9
#elif AK_REGISTERS == 8
#define TILE 6
#define PAIR 1
#define GROUP 6
#else
#define TILE 2
#define PAIR 1
#define GROUP 3
#endif

/// Copies the rows that output row `y` of image n reads; at[tap] is where tap (channel, row, col) of output column 0
/// lies.
AK_NOINLINE void AK_FN(stem_lines)(const ak_stem_job *job, int n, int y, float *lines, const float **at) {
    const ak_conv *conv = job->conv;
    int s = conv->stride, length = ak_stem_line_floats(conv);
    for (int c = 0; c < conv->c; c++)
        for (int a = 0; a < conv->kh; a++) {
            float *line = lines + (long)(1 + (c * conv->kh + a) * s) * length;
            int row = y * s - conv->pad + a;
            for (int b = 0; b < conv->kw; b++)
                at[(c * conv->kh + a) * conv->kw + b] = line + b % s * length + b / s;
            memset(line, 0, (size_t)s * length * sizeof(float));
            if (row < 0 || row >= conv->h) continue;
            const float *from = job->images + (((long)n * conv->c + c) * conv->h + row) * conv->w;
            if (s == 1) {
                memcpy(line + conv->pad, from, (size_t)conv->w * sizeof(float));
                continue;
            }
            // Padded column q = x + pad goes to parity q % 2, place q / 2.
            float *even = line + (conv->pad ? length : 0), *odd = conv->pad ? line + 1 : line + length;
            for (int x = 0; x < conv->w / 2; x++) {
                even[x] = from[2 * x];
                odd[x] = from[2 * x + 1];
            }
            if (conv->w % 2) even[conv->w / 2] = from[conv->w - 1];
        }
}

AK_INLINE void AK_FN(stem_tile)(
    const float *const *at, int taps, int x, const float *w0, const float *w1, const AK_FN(target) * to, int count,
    const int pair) {
    ak_vec a[TILE], b[TILE];
    AK_UNROLL for (int p = 0; p < TILE; p++) a[p] = b[p] = ak_zero();
    for (int t = 0; t < taps; t++) {
        const float *q = at[t] + x;
        ak_vec u = ak_load(w0 + t * 16), v = pair == 2 ? ak_load(w1 + t * 16) : u;
        AK_UNROLL for (int p = 0; p < TILE; p++) {
            ak_vec s = ak_splat(q[p]);
            a[p] = ak_fma(s, u, a[p]);
            if (pair == 2) b[p] = ak_fma(s, v, b[p]);
        }
    }
    AK_FN(leave)(to, x, a, count, TILE);
    if (pair == 2) AK_FN(leave)(to + 1, x, b, count, TILE);
}

/// One or two output blocks of one output row.
AK_INLINE void AK_FN(stem_row)(
    const float *const *at, int taps, const float *w, const AK_FN(target) * to, int width, const int pair) {
    const float *w1 = pair == 2 ? w + (long)taps * 16 : w;
    for (int x = 0; x < width; x += TILE) AK_FN(stem_tile)(at, taps, x, w, w1, to, ak_min(TILE, width - x), pair);
}

AK_NOINLINE void AK_FN(stem_row_1)(
    const float *const *at, int taps, const float *w, const AK_FN(target) * to, int width) {
    AK_FN(stem_row)(at, taps, w, to, width, 1);
}

#if PAIR == 2
AK_NOINLINE void AK_FN(stem_row_2)(
    const float *const *at, int taps, const float *w, const AK_FN(target) * to, int width) {
    AK_FN(stem_row)(at, taps, w, to, width, 2);
}
#endif

void AK_FN(ak_stem_forward_part)(void *context, int part, int parts);
void AK_FN(ak_stem_forward_part)(void *context, int part, int parts) {
    const ak_stem_job *job = context;
    const ak_conv *conv = job->conv;
    const int taps = conv->c * conv->kh * conv->kw, blocks = ak_blocks(conv->k), h = job->y.h;
    ak_moments *own = ak_moments_begin(job->moments, conv->k, part);
    float *lines = job->scratch + part * ak_stem_scratch_floats(conv);
    const float *at[AK_STEM_TAPS];
    const long rows = (long)job->n * h;
    for (long row = ak_begin(rows, part, parts); row < ak_begin(rows, part + 1, parts); row++) {
        const int n = (int)(row / h), y = (int)(row % h);
        AK_FN(stem_lines)(job, n, y, lines, at);
        for (int k = 0; k < blocks; k += PAIR) {
            AK_FN(gathering) moments[PAIR];
            AK_FN(target) to[PAIR];
            const int pair = ak_min(PAIR, blocks - k);
            for (int i = 0; i < pair; i++) {
                moments[i].into = own ? own + k + i : NULL;
                moments[i].count = 0;
                to[i] = AK_FN(target_of)(&job->y, n, k + i, y, &moments[i]);
            }
            const float *w = job->weights + (long)k * taps * 16;
#if PAIR == 2
            if (pair == 2) AK_FN(stem_row_2)(at, taps, w, to, job->y.w);
            else
#endif
                AK_FN(stem_row_1)(at, taps, w, to, job->y.w);
            for (int i = 0; i < pair; i++) AK_FN(gather_end)(&moments[i]);
        }
    }
    if (ak_streams(&job->y)) ak_stream_fence();
}

/// Adds to GROUP taps' sums what one row of dy gives, for `pair` output blocks.
AK_INLINE void AK_FN(stem_gradient_row)(
    const float *const *at, const float *dy0, const float *dy1, int width, float *sums0, float *sums1,
    const AK_FN(ahead) * ahead, const int pair) {
    const char *ahead0 = ahead->from[0], *ahead1 = ahead->from[1];
    const long bytes = ahead->bytes[0];
    ak_vec a[GROUP], b[GROUP];
    AK_UNROLL for (int t = 0; t < GROUP; t++) {
        a[t] = ak_load(sums0 + t * 16);
        b[t] = ak_load(sums1 + t * 16);
    }
    _Pragma("clang loop unroll_count(2)") for (int p = 0; p < width; p++) {
        ak_vec g0 = ak_load(dy0 + p * 16), g1 = ak_load(dy1 + p * 16);
        __builtin_prefetch(ahead0 + p * bytes, 0, 2);
        if (pair == 2) __builtin_prefetch(ahead1 + p * bytes, 0, 2);
        AK_UNROLL for (int t = 0; t < GROUP; t++) {
            ak_vec x = ak_splat(at[t][p]);
            a[t] = ak_fma(x, g0, a[t]);
            if (pair == 2) b[t] = ak_fma(x, g1, b[t]);
        }
    }
    AK_UNROLL for (int t = 0; t < GROUP; t++) {
        ak_store(sums0 + t * 16, a[t]);
        if (pair == 2) ak_store(sums1 + t * 16, b[t]);
    }
}

AK_NOINLINE void AK_FN(stem_gradient_row_1)(
    const float *const *at, const float *dy, int width, float *sums, const AK_FN(ahead) * ahead) {
    AK_FN(stem_gradient_row)(at, dy, dy, width, sums, sums, ahead, 1);
}

#if PAIR == 2
AK_NOINLINE void AK_FN(stem_gradient_row_2)(
    const float *const *at, const float *dy0, const float *dy1, int width, float *sums0, float *sums1,
    const AK_FN(ahead) * ahead) {
    AK_FN(stem_gradient_row)(at, dy0, dy1, width, sums0, sums1, ahead, 2);
}
#endif

/// All taps of PAIR output blocks from k on, or of the last one; dy: their rows.
AK_INLINE void AK_FN(stem_gradient_taps)(
    const ak_stem_job *job, const float *const *at, const float *dy, int n, int y, int k, float *sums) {
    const ak_conv *conv = job->conv;
    const int taps = conv->c * conv->kh * conv->kw, width = job->dy.map.w;
    const int next = k + PAIR < ak_blocks(conv->k) ? k + PAIR : 0;
    for (int t = 0; t < taps; t += GROUP, sums += GROUP * 16) {
        // The first group of taps asks for the next rows of dy, the second for those of its chain.
        const ak_map *asked = t == 0 ? &job->dy.map : &job->dy.chain.x;
        AK_FN(ahead) ahead = AK_FN(nothing_ahead)(dy);
        for (int i = 0; i < PAIR && t <= GROUP; i++)
            AK_FN(look_ahead)(&ahead, i, asked, n, next + i, next ? y : y + 1, 16);
#if PAIR == 2
        if (k + 1 < ak_blocks(conv->k)) {
            float *sums1 = sums + (long)(taps + AK_STEM_GROUP) * 16;
            AK_FN(stem_gradient_row_2)(at + t, dy, dy + width * 16, width, sums, sums1, &ahead);
            continue;
        }
#endif
        AK_FN(stem_gradient_row_1)(at + t, dy, width, sums, &ahead);
    }
}

void AK_FN(ak_stem_gradient_part)(void *context, int part, int parts);
void AK_FN(ak_stem_gradient_part)(void *context, int part, int parts) {
    const ak_stem_job *job = context;
    const ak_conv *conv = job->conv;
    const int taps = conv->c * conv->kh * conv->kw, held = taps + AK_STEM_GROUP, blocks = ak_blocks(conv->k);
    const int h = job->dy.map.h, width = job->dy.map.w;
    float *lines = job->scratch + part * ak_stem_scratch_floats(conv), *dy = lines + ak_stem_image_floats(conv);
    float *partial = job->partial + (long)part * blocks * held * 16;
    memset(partial, 0, (size_t)blocks * (size_t)held * 16 * sizeof(float));
    const float *at[AK_STEM_TAPS + AK_STEM_GROUP];
    // Taps that only fill the last group read the line of zeros.
    memset(lines, 0, (size_t)ak_stem_line_floats(conv) * sizeof(float));
    for (int t = taps; t < taps + AK_STEM_GROUP; t++) at[t] = lines;
    const long rows = (long)job->n * h;
    for (long row = ak_begin(rows, part, parts); row < ak_begin(rows, part + 1, parts); row++) {
        const int n = (int)(row / h), y = (int)(row % h);
        AK_FN(stem_lines)(job, n, y, lines, at);
        for (int k = 0; k < blocks; k += PAIR) {
            const int pair = ak_min(PAIR, blocks - k);
            for (int i = 0; i < pair; i++) AK_FN(gradient_row)(&job->dy, n, k + i, y, dy + (long)i * width * 16);
            AK_FN(stem_gradient_taps)(job, at, dy, n, y, k, partial + (long)k * held * 16);
        }
    }
}

#undef TILE
#undef PAIR
#undef GROUP
#undef STRETCH
