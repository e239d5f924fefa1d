// Flat vectors and rows of a matrix: sums, the optimizer's step, conversions, the exponentials of a softmax.
#include "lanes.inc.h"

AK_INLINE double AK_FN(sum_lanes)(ak_dvec v) {
    double total = 0;
    for (int i = 0; i < 16; i++) total += v[i];
    return total;
}

/// The elements of a flat vector that belong to a part, in multiples of 16 but for the last part.
AK_INLINE void AK_FN(flat_range)(size_t count, int part, int parts, size_t *first, size_t *last) {
    const long groups = (long)(count / 16);
    *first = (size_t)ak_begin(groups, part, parts) * 16;
    *last = part + 1 == parts ? count : (size_t)ak_begin(groups, part + 1, parts) * 16;
}

// ---------------------------------------------------------------------------------------------------------------- flat

static void AK_FN(sum_squares)(void *task, int part, int parts) {
    const flat_task *t = task;
    size_t i, last;
    AK_FN(flat_range)(t->count, part, parts, &i, &last);
    ak_dvec even = {0}, odd = {0};
    for (; i + 32 <= last; i += 32) {
        const ak_dvec a = ak_widen(ak_load_unaligned(t->x + i)), b = ak_widen(ak_load_unaligned(t->x + i + 16));
        even += a * a;
        odd += b * b;
    }
    for (; i < last; i += 16) {
        const ak_vec some =
            i + 16 <= last ? ak_load_unaligned(t->x + i) : AK_FN(load_some)(t->x + i, (int)(last - i), 0);
        even += ak_widen(some) * ak_widen(some);
    }
    t->partial[part] = AK_FN(sum_lanes)(even + odd);
}

AK_INLINE void AK_FN(sgd_step)(const flat_task *t, ak_vec g, ak_vec *p, ak_vec *v) {
    g = ak_fma(g, ak_splat(t->scale), *p * t->decay);
    *v = ak_fma(*v, ak_splat(t->momentum), g);
    *p = ak_fma(*v, ak_splat(-t->rate), *p);
}

/// Elements first to last of p and v; g NULL: the gradient is zero.
AK_INLINE void AK_FN(sgd_range)(
    const flat_task *t, float *p, float *v, const float *g, size_t first, size_t last) {
    size_t i = first;
    for (; i + 16 <= last; i += 16) {
        ak_vec pi = ak_load_unaligned(p + i), vi = ak_load_unaligned(v + i);
        AK_FN(sgd_step)(t, g ? ak_load_unaligned(g + i) : ak_zero(), &pi, &vi);
        ak_store_unaligned(p + i, pi);
        ak_store_unaligned(v + i, vi);
    }
    const int rest = (int)(last - i);
    if (rest == 0) return;
    ak_vec pi = AK_FN(load_some)(p + i, rest, 0), vi = AK_FN(load_some)(v + i, rest, 0);
    AK_FN(sgd_step)(t, g ? AK_FN(load_some)(g + i, rest, 0) : ak_zero(), &pi, &vi);
    AK_FN(store_some)(p + i, pi, rest);
    AK_FN(store_some)(v + i, vi, rest);
}

static void AK_FN(sgd)(void *task, int part, int parts) {
    const flat_task t = *(const flat_task *)task;
    size_t first, last;
    AK_FN(flat_range)(t.count, part, parts, &first, &last);
    AK_FN(sgd_range)(&t, t.y, t.v, t.x, first, last);
}

AK_INLINE void AK_FN(adam_step)(const ak_adam_constants *c, ak_vec g, ak_vec *p, ak_vec *m, ak_vec *s) {
    g = ak_fma(g, ak_splat(c->scale), *p * c->decay);
    *m = ak_fma(*m, ak_splat(c->beta1), g * c->rest1);
    *s = ak_fma(*s, ak_splat(c->beta2), g * g * c->rest2);
    *p = *p - *m * c->rate / ak_fma(ak_sqrt(*s), ak_splat(c->root), ak_splat(c->epsilon));
}

static void AK_FN(adam)(void *task, int part, int parts) {
    const adam_task t = *(const adam_task *)task;
    size_t i, last;
    AK_FN(flat_range)(t.count, part, parts, &i, &last);
    for (; i + 16 <= last; i += 16) {
        ak_vec p = ak_load_unaligned(t.p + i), m = ak_load_unaligned(t.m + i), s = ak_load_unaligned(t.s + i);
        AK_FN(adam_step)(&t.constants, ak_load_unaligned(t.grad + i), &p, &m, &s);
        ak_store_unaligned(t.p + i, p);
        ak_store_unaligned(t.m + i, m);
        ak_store_unaligned(t.s + i, s);
    }
    const int rest = (int)(last - i);
    if (rest <= 0) return;
    ak_vec p = AK_FN(load_some)(t.p + i, rest, 0), m = AK_FN(load_some)(t.m + i, rest, 0);
    ak_vec s = AK_FN(load_some)(t.s + i, rest, 0);
    AK_FN(adam_step)(&t.constants, AK_FN(load_some)(t.grad + i, rest, 0), &p, &m, &s);
    AK_FN(store_some)(t.p + i, p, rest);
    AK_FN(store_some)(t.m + i, m, rest);
    AK_FN(store_some)(t.s + i, s, rest);
}

static void AK_FN(sgd_rows)(void *task, int part, int parts) {
    const row_sgd_task t = *(const row_sgd_task *)task;
    const size_t last = (size_t)ak_begin((long)t.rows, part + 1, parts);
    for (size_t i = (size_t)ak_begin((long)t.rows, part, parts); i < last; i++) {
        const size_t row = (t.targets ? (size_t)t.targets[i] : i) * t.columns;
        const long source = t.sources ? t.sources[i] : (long)i;
        const float *g = source < 0 ? NULL : t.grad + (size_t)source * t.columns;
        AK_FN(sgd_range)(&t.constants, t.p + row, t.v + row, g, 0, t.columns);
    }
}

/// The inner product of two rows in double.
AK_INLINE double AK_FN(row_product)(const float *a, const float *b, size_t count) {
    ak_dvec even = {0}, odd = {0};
    size_t i = 0;
    for (; i + 32 <= count; i += 32) {
        even += ak_widen(ak_load_unaligned(a + i)) * ak_widen(ak_load_unaligned(b + i));
        odd += ak_widen(ak_load_unaligned(a + i + 16)) * ak_widen(ak_load_unaligned(b + i + 16));
    }
    for (; i < count; i += 16) {
        const int rest = ak_min(16, (int)(count - i));
        even += ak_widen(AK_FN(load_some)(a + i, rest, 0)) * ak_widen(AK_FN(load_some)(b + i, rest, 0));
    }
    return AK_FN(sum_lanes)(even + odd);
}

static void AK_FN(sgd_centres)(const row_sgd_task *t) {
    for (size_t i = 0; i < t->rows; i++) {
        const size_t row = (t->targets ? (size_t)t->targets[i] : i) * t->columns;
        const float *g = t->grad + i * t->columns;
        flat_task step = t->constants;
        if (t->inverse) {
            // Less the gradient's part along the centre: a change of the decay.
            const double inverse = t->inverse[i];
            step.decay -= (float)(AK_FN(row_product)(g, t->p + row, t->columns) * inverse * inverse);
        }
        AK_FN(sgd_range)(&step, t->p + row, t->v + row, g, 0, t->columns);
    }
}

static void AK_FN(accumulate)(void *task, int part, int parts) {
    const flat_task t = *(const flat_task *)task;
    size_t i, last;
    AK_FN(flat_range)(t.count, part, parts, &i, &last);
    for (; i + 16 <= last; i += 16)
        ak_store_unaligned(t.y + i, ak_load_unaligned(t.y + i) + ak_load_unaligned(t.x + i));
    for (; i < last; i++) t.y[i] += t.x[i];
}

static void AK_FN(scale)(void *task, int part, int parts) {
    const flat_task t = *(const flat_task *)task;
    size_t i, last;
    AK_FN(flat_range)(t.count, part, parts, &i, &last);
    for (; i + 16 <= last; i += 16) ak_store_unaligned(t.y + i, ak_load_unaligned(t.y + i) * t.scale);
    for (; i < last; i++) t.y[i] *= t.scale;
}

/// partial: 1 when all of the part's elements are finite, else 0.
static void AK_FN(all_finite)(void *task, int part, int parts) {
    const flat_task *t = task;
    size_t i, last;
    AK_FN(flat_range)(t->count, part, parts, &i, &last);
    const ak_uvec exponent = (ak_uvec){0} + 0x7f800000;
    ak_ivec bad = {0};
    for (; i < last; i += 16) {
        const ak_vec some =
            i + 16 <= last ? ak_load_unaligned(t->x + i) : AK_FN(load_some)(t->x + i, (int)(last - i), 0);
        bad |= ((ak_uvec)some & exponent) == exponent;
    }
    int any = 0;
    for (int lane = 0; lane < 16; lane++) any |= bad[lane];
    t->partial[part] = any == 0;
}

static void AK_FN(bf16_from_f32)(void *task, int part, int parts) {
    const flat_task t = *(const flat_task *)task;
    size_t i, last;
    AK_FN(flat_range)(t.count, part, parts, &i, &last);
    for (; i + 16 <= last; i += 16) ak_store_half(t.y16 + i, AK_FN(rounded_to_bf16)(ak_load_unaligned(t.x + i)));
    if (i == last) return;
    const ak_hvec rest = AK_FN(rounded_to_bf16)(AK_FN(load_some)(t.x + i, (int)(last - i), 0));
    for (size_t lane = 0; i < last; i++, lane++) t.y16[i] = rest[lane];
}

static void AK_FN(f32_from_bf16)(void *task, int part, int parts) {
    const flat_task t = *(const flat_task *)task;
    size_t i, last;
    AK_FN(flat_range)(t.count, part, parts, &i, &last);
    for (; i + 16 <= last; i += 16) ak_store_unaligned(t.y + i, AK_FN(from_bf16)(ak_load_half(t.x16 + i)));
    if (i == last) return;
    ak_hvec rest = {0};
    for (size_t lane = 0; i + lane < last; lane++) rest[lane] = t.x16[i + lane];
    AK_FN(store_some)(t.y + i, AK_FN(from_bf16)(rest), (int)(last - i));
}

// ---------------------------------------------------------------------------------------------------------------- rows

/// exp(x), within 2 units in the last place, subnormal results included; 0 for -inf, inf above 88.73, NaN for NaN.
///
/// x = n*ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor series to r^7/7! (the rest is below 6e-9); 2^n as two
/// factors, because neither 2^128 nor 2^-150 is a float.
AK_INLINE ak_vec AK_FN(exponential)(ak_vec x) {
    const ak_vec low = ak_splat(-104.0f), high = ak_splat(89.0f);
    x = ak_select(x < low, low, x);
    x = ak_select(x > high, high, x);
    // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
    const ak_vec magic = ak_splat(0x1.8p23f);
    const ak_vec rounded = ak_fma(x, ak_splat(0x1.715476p0f), magic);
    const ak_vec n = rounded - magic;
    // ln 2 in two parts, the first with 9 bits so that n times it is exact.
    ak_vec r = ak_fma(n, ak_splat(-355.0f / 512), x);
    r = ak_fma(n, ak_splat(2.12194440054690583e-4f), r);
    ak_vec p = ak_splat(1.0f / 5040);
    p = ak_fma(p, r, ak_splat(1.0f / 720));
    p = ak_fma(p, r, ak_splat(1.0f / 120));
    p = ak_fma(p, r, ak_splat(1.0f / 24));
    p = ak_fma(p, r, ak_splat(1.0f / 6));
    p = ak_fma(p, r, ak_splat(0.5f));
    p = ak_fma(p, r, ak_splat(1.0f));
    p = ak_fma(p, r, ak_splat(1.0f));
    const ak_ivec power = (ak_ivec)rounded - (ak_ivec)magic, half = power >> 1;
    return p * (ak_vec)((half + 127) << 23) * (ak_vec)((power - half + 127) << 23);
}

/// The columns of piece i of all rows' pieces.
AK_INLINE float *AK_FN(piece)(const row_task *t, long i, int *count) {
    const long row = i / t->pieces;
    const int first = (int)(i % t->pieces) * t->width;
    *count = ak_min(t->width, t->c - first);
    return t->x + row * t->ld + first;
}

static void AK_FN(row_max)(void *task, int part, int parts) {
    const row_task *t = task;
    const long count = (long)t->n * t->pieces, last = ak_begin(count, part + 1, parts);
    const float nothing = -__builtin_inff();
    for (long i = ak_begin(count, part, parts); i < last; i++) {
        int columns, j = 0;
        const float *x = AK_FN(piece)(t, i, &columns);
        ak_vec even = ak_splat(nothing), odd = even;
        for (; j + 32 <= columns; j += 32) {
            const ak_vec a = ak_load_unaligned(x + j), b = ak_load_unaligned(x + j + 16);
            even = ak_select(a > even, a, even);
            odd = ak_select(b > odd, b, odd);
        }
        for (; j < columns; j += 16) {
            const ak_vec a =
                j + 16 <= columns ? ak_load_unaligned(x + j) : AK_FN(load_some)(x + j, columns - j, nothing);
            even = ak_select(a > even, a, even);
        }
        even = ak_select(odd > even, odd, even);
        float maximum = nothing;
        for (int lane = 0; lane < 16; lane++) maximum = even[lane] > maximum ? even[lane] : maximum;
        if (t->partial) t->partial[i] = maximum;
        else t->result[i] = maximum;
    }
}

static void AK_FN(row_exp_sum)(void *task, int part, int parts) {
    const row_task *t = task;
    const long count = (long)t->n * t->pieces, last = ak_begin(count, part + 1, parts);
    for (long i = ak_begin(count, part, parts); i < last; i++) {
        int columns;
        float *x = AK_FN(piece)(t, i, &columns);
        const ak_vec m = ak_splat(t->m[i / t->pieces]);
        ak_dvec total = {0};
        for (int j = 0; j < columns;) {
            // At most 64 additions per lane in fp32.
            ak_vec sum = ak_zero();
            for (const int stop = ak_min(columns / 16 * 16, j + 1024); j < stop; j += 16) {
                const ak_vec e = AK_FN(exponential)(ak_load_unaligned(x + j) - m);
                ak_store_unaligned(x + j, e);
                sum += e;
            }
            if (columns - j > 0 && columns - j < 16) {
                const ak_vec e = AK_FN(exponential)(AK_FN(load_some)(x + j, columns - j, -__builtin_inff()) - m);
                AK_FN(store_some)(x + j, e, columns - j);
                sum += e;
                j = columns;
            }
            total += ak_widen(sum);
        }
        if (t->partial) t->partial[i] = AK_FN(sum_lanes)(total);
        else t->result[i] = (float)AK_FN(sum_lanes)(total);
    }
}

static void AK_FN(row_inverse_norm)(void *task, int part, int parts) {
    const row_task *t = task;
    const long last = ak_begin(t->n, part + 1, parts);
    for (long i = ak_begin(t->n, part, parts); i < last; i++) {
        const float *x = t->x + i * t->ld;
        ak_dvec total = {0};
        for (int j = 0; j < t->c; j += 16) {
            const ak_dvec some =
                ak_widen(j + 16 <= t->c ? ak_load_unaligned(x + j) : AK_FN(load_some)(x + j, t->c - j, 0));
            total += some * some;
        }
        const double norm = __builtin_sqrt(AK_FN(sum_lanes)(total));
        // A NaN norm stays one.
        t->result[i] = (float)(1 / (norm < 1e-12 ? 1e-12 : norm));
    }
}
