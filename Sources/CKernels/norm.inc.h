// Batch normalisation: statistics, and the two passes of its backward through PReLU.
#include "elementwise_lanes.inc.h"

// Sums run in fp32 over at most about this many pixels of 16 channels before they join the totals in double.
#define SEGMENT_PIXELS 128

// ---------------------------------------------------------------------------------------------------------- statistics

/// Sums of (x - shift) and (x - shift)^2 over `rows` rows of `width` pixels. Two chains of additions hide latency.
AK_INLINE void AK_FN(shifted_sums)(
    const char *line, long stride, int rows, int width, ak_vec shift, ak_vec *sum, ak_vec *squares, const bool bf16) {
    ak_vec s0 = ak_zero(), s1 = ak_zero(), q0 = ak_zero(), q1 = ak_zero();
    for (int y = 0; y < rows; y++, line += stride) {
        int x = 0;
        for (; x + 2 <= width; x += 2) {
            const ak_vec d0 = AK_FN(pixel)(line, x, bf16) - shift, d1 = AK_FN(pixel)(line, x + 1, bf16) - shift;
            s0 += d0;
            s1 += d1;
            q0 = ak_fma(d0, d0, q0);
            q1 = ak_fma(d1, d1, q1);
        }
        if (x < width) {
            const ak_vec d = AK_FN(pixel)(line, x, bf16) - shift;
            s0 += d;
            q0 = ak_fma(d, d, q0);
        }
    }
    *sum = s0 + s1;
    *squares = q0 + q1;
}

/// Adds a set of values to the moments (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
/// computing sample variances", 1979).
AK_INLINE void AK_FN(merge_moments)(ak_moments *into, double count, ak_dvec mean, ak_dvec m2) {
    const double total = into->count + count, share = count / total;
    const ak_dvec delta = mean - into->mean;
    into->mean += delta * share;
    into->m2 += m2 + delta * delta * (into->count * share);
    into->count = total;
}

/// The values are shifted by the mean of what this part has seen of the channel before, so that the squares stay of the
/// order of the variance however large the mean is; the first segment is read twice to have such a mean.
AK_INLINE void AK_FN(statistics_segment)(
    const char *line, long stride, int rows, int width, ak_moments *moments, const bool bf16) {
    const double count = (double)rows * width;
    ak_vec sum, squares;
    ak_vec shift = __builtin_convertvector(moments->mean, ak_vec);
    if (moments->count == 0) {
        AK_FN(shifted_sums)(line, stride, rows, width, AK_FN(pixel)(line, 0, bf16), &sum, &squares, bf16);
        shift = AK_FN(pixel)(line, 0, bf16) + sum * (float)(1 / count);
    }
    AK_FN(shifted_sums)(line, stride, rows, width, shift, &sum, &squares, bf16);
    const ak_dvec s = ak_widen(sum), offset = s * (1 / count);
    AK_FN(merge_moments)(moments, count, ak_widen(shift) + offset, ak_widen(squares) - s * offset);
}

AK_INLINE void AK_FN(statistics_rows)(const statistics_task *t, int part, int parts, const bool bf16) {
    const int blocks = ak_blocks(t->x.c), width = t->x.w, step = ak_max(1, SEGMENT_PIXELS / width);
    ak_moments *moments = t->moments + (long)part * blocks;
    memset(moments, 0, (size_t)blocks * sizeof *moments);
    const long stride = t->x.row * (bf16 ? 2 : 4);
    ak_walk walk = AK_FN(walk)(&t->x, part, parts);
    ak_rows rows;
    while (AK_FN(walk_next)(&walk, &rows)) {
        for (int y = rows.top; y < rows.bottom; y += step) {
            const char *line = AK_FN(row_at)(&t->x, rows, y, bf16);
            const int count = ak_min(step, rows.bottom - y);
            AK_FN(statistics_segment)(line, stride, count, width, &moments[rows.block], bf16);
        }
    }
}

static void AK_FN(statistics)(void *task, int part, int parts) {
    const statistics_task *t = task;
    if (t->x.dtype == AK_BF16) AK_FN(statistics_rows)(t, part, parts, true);
    else AK_FN(statistics_rows)(t, part, parts, false);
}

/// Merges what the parts have seen, in their order.
static void AK_FN(statistics_fold)(void *task, int part, int parts) {
    const statistics_task *t = task;
    const int blocks = ak_blocks(t->x.c), last = (int)ak_begin(blocks, part + 1, parts);
    for (int block = (int)ak_begin(blocks, part, parts); block < last; block++) {
        ak_moments total = t->moments[block];
        for (int p = 1; p < parts; p++) {
            const ak_moments *other = &t->moments[(long)p * blocks + block];
            if (other->count > 0) AK_FN(merge_moments)(&total, other->count, other->mean, other->m2);
        }
        const ak_vec mean = __builtin_convertvector(total.mean, ak_vec);
        ak_vec variance = __builtin_convertvector(total.m2 * (1 / total.count), ak_vec);
        // Rounding can leave a constant channel just below zero; a NaN passes.
        variance = ak_select(variance < ak_zero(), ak_zero(), variance);
        AK_FN(put_channels)(t->mean, mean, block, t->x.c);
        AK_FN(put_channels)(t->variance, variance, block, t->x.c);
    }
}

// ------------------------------------------------------------------------------------------------------ backward: sums

typedef struct {
    ak_vec g, gx, slope;
} AK_FN(sums);

AK_INLINE void AK_FN(reduce_pixel)(
    ak_vec x, ak_vec dy, ak_vec mean, ak_vec scale, ak_vec shift, ak_vec slope, AK_FN(sums) *into, const bool prelu) {
    ak_vec g = dy;
    if (prelu) {
        const ak_vec z = ak_fma(x, scale, shift);
        const ak_ivec positive = z > ak_zero();
        g = ak_select(positive, dy, dy * slope);
        into->slope = ak_fma(ak_select(positive, ak_zero(), dy), z, into->slope);
    }
    into->g += g;
    into->gx = ak_fma(g, x - mean, into->gx);
}

AK_INLINE void AK_FN(reduce_rows)(const reduce_task *t, int part, int parts, const bool bf16, const bool prelu) {
    const int c = t->x.c, blocks = ak_blocks(c), width = t->x.w, step = ak_max(1, SEGMENT_PIXELS / width);
    ak_sums *totals = t->sums + (long)part * blocks;
    memset(totals, 0, (size_t)blocks * sizeof *totals);
    ak_walk walk = AK_FN(walk)(&t->x, part, parts);
    ak_rows rows;
    while (AK_FN(walk_next)(&walk, &rows)) {
        const ak_vec mean = AK_FN(channels)(t->mean, rows.block, c);
        const ak_vec scale = prelu ? AK_FN(channels)(t->scale, rows.block, c) : ak_zero();
        const ak_vec shift = prelu ? AK_FN(channels)(t->shift, rows.block, c) : ak_zero();
        const ak_vec slope = prelu ? AK_FN(channels)(t->slope, rows.block, c) : ak_zero();
        for (int top = rows.top; top < rows.bottom; top += step) {
            AK_FN(sums) even = {0}, odd = {0};
            for (int y = top; y < ak_min(top + step, rows.bottom); y++) {
                const void *x = AK_FN(row_at)(&t->x, rows, y, bf16), *dy = AK_FN(row_at)(&t->dy, rows, y, bf16);
                int i = 0;
                for (; i + 2 <= width; i += 2) {
                    const ak_vec x0 = AK_FN(pixel)(x, i, bf16), dy0 = AK_FN(pixel)(dy, i, bf16);
                    const ak_vec x1 = AK_FN(pixel)(x, i + 1, bf16), dy1 = AK_FN(pixel)(dy, i + 1, bf16);
                    AK_FN(reduce_pixel)(x0, dy0, mean, scale, shift, slope, &even, prelu);
                    AK_FN(reduce_pixel)(x1, dy1, mean, scale, shift, slope, &odd, prelu);
                }
                if (i < width) {
                    const ak_vec x0 = AK_FN(pixel)(x, i, bf16), dy0 = AK_FN(pixel)(dy, i, bf16);
                    AK_FN(reduce_pixel)(x0, dy0, mean, scale, shift, slope, &even, prelu);
                }
            }
            ak_sums *total = &totals[rows.block];
            total->g += ak_widen(even.g + odd.g);
            total->gx += ak_widen(even.gx + odd.gx);
            if (prelu) total->slope += ak_widen(even.slope + odd.slope);
        }
    }
}

static void AK_FN(reduce)(void *task, int part, int parts) {
    const reduce_task *t = task;
    const bool prelu = t->slope != NULL;
    if (t->x.dtype == AK_BF16) {
        if (prelu) AK_FN(reduce_rows)(t, part, parts, true, true);
        else AK_FN(reduce_rows)(t, part, parts, true, false);
    } else {
        if (prelu) AK_FN(reduce_rows)(t, part, parts, false, true);
        else AK_FN(reduce_rows)(t, part, parts, false, false);
    }
}

static void AK_FN(reduce_fold)(void *task, int part, int parts) {
    const reduce_task *t = task;
    const int c = t->x.c, blocks = ak_blocks(c), last = (int)ak_begin(blocks, part + 1, parts);
    for (int block = (int)ak_begin(blocks, part, parts); block < last; block++) {
        ak_sums total = t->sums[block];
        for (int p = 1; p < parts; p++) {
            const ak_sums *other = &t->sums[(long)p * blocks + block];
            total.g += other->g;
            total.gx += other->gx;
            total.slope += other->slope;
        }
        total.gx *= ak_widen(AK_FN(channels)(t->invstd, block, c));
        AK_FN(put_channels)(t->dbeta, __builtin_convertvector(total.g, ak_vec), block, c);
        AK_FN(put_channels)(t->dgamma, __builtin_convertvector(total.gx, ak_vec), block, c);
        if (t->slope) AK_FN(put_channels)(t->dslope, __builtin_convertvector(total.slope, ak_vec), block, c);
    }
}

// -------------------------------------------------------------------------------------------------- backward: gradient

AK_INLINE void AK_FN(apply_rows)(
    const apply_task *t, int part, int parts, const bool bf16, const bool prelu, const bool accumulate,
    const bool stream) {
    const int c = t->x.c, width = t->x.w;
    ak_walk walk = AK_FN(walk)(&t->x, part, parts);
    ak_rows rows;
    while (AK_FN(walk_next)(&walk, &rows)) {
        const ak_vec a = AK_FN(channels)(t->a, rows.block, c);
        const ak_vec b = AK_FN(channels)(t->b, rows.block, c);
        const ak_vec d = AK_FN(channels)(t->d, rows.block, c);
        const ak_vec scale = prelu ? AK_FN(channels)(t->scale, rows.block, c) : ak_zero();
        const ak_vec shift = prelu ? AK_FN(channels)(t->shift, rows.block, c) : ak_zero();
        const ak_vec slope = prelu ? AK_FN(channels)(t->slope, rows.block, c) : ak_zero();
        for (int y = rows.top; y < rows.bottom; y++) {
            const void *x = AK_FN(row_at)(&t->x, rows, y, bf16), *dy = AK_FN(row_at)(&t->dy, rows, y, bf16);
            void *dx = AK_FN(row_at)(&t->dx, rows, y, bf16);
            for (int i = 0; i < width; i++) {
                const ak_vec value = AK_FN(pixel)(x, i, bf16);
                ak_vec g = AK_FN(pixel)(dy, i, bf16);
                if (prelu) g = ak_select(ak_fma(value, scale, shift) > ak_zero(), g, g * slope);
                ak_vec result = ak_fma(a, g, ak_fma(b, value, d));
                if (accumulate) result += AK_FN(pixel)(dx, i, bf16);
                if (stream) __builtin_nontemporal_store(result, (ak_vec *)dx + i);
                else AK_FN(put_pixel)(dx, i, result, bf16);
            }
        }
        AK_FN(zero_margins)(&t->dx, rows, bf16);
    }
    if (stream) AK_FN(stream_fence)();
}

AK_INLINE void AK_FN(apply_typed)(const apply_task *t, int part, int parts, const bool bf16, const bool stream) {
    const bool prelu = t->slope != NULL;
    if (t->accumulate) {
        if (prelu) AK_FN(apply_rows)(t, part, parts, bf16, true, true, false);
        else AK_FN(apply_rows)(t, part, parts, bf16, false, true, false);
    } else {
        if (prelu) AK_FN(apply_rows)(t, part, parts, bf16, true, false, stream);
        else AK_FN(apply_rows)(t, part, parts, bf16, false, false, stream);
    }
}

static void AK_FN(apply)(void *task, int part, int parts) {
    const apply_task *t = task;
    if (t->x.dtype == AK_BF16) AK_FN(apply_typed)(t, part, parts, true, false);
    else if (t->stream) AK_FN(apply_typed)(t, part, parts, false, true);
    else AK_FN(apply_typed)(t, part, parts, false, false);
}

#undef SEGMENT_PIXELS
