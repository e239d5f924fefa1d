// Depthwise convolutions, vectorised over 16 channels: every map is read once and written once. The gradients of input
// and weights come from one pass. Included once per instruction set.
#include "lanes.inc.h"

#include "fusion.inc.h"

#include "conv_rows.inc.h"

// ------------------------------------------------------------------------------------------------- a row of dx is left

/// The reduction of one block of channels as it is gathered.
typedef struct {
    ak_sums *into; // NULL: none are wanted
    AK_FN(partial_sums) sums;
    int count;
} AK_FN(reducing);

AK_INLINE void AK_FN(reduce_end)(AK_FN(reducing) * r) {
    if (r->into) AK_FN(partial_sums_end)(&r->sums, r->into);
    r->sums = (AK_FN(partial_sums)){ak_zero(), ak_zero(), ak_zero()};
    r->count = 0;
}

AK_INLINE void AK_FN(leave_gradient_of)(
    const ak_conv_gradients *to, const float *line, long at, int block, AK_FN(partial_sums) * into, const bool bf16,
    const bool reduce) {
    void *data = to->dx.data;
    const bool accumulate = to->accumulate_dx, stream = !accumulate && ak_streams(&to->dx);
    AK_FN(reducer) reducer = {ak_zero(), ak_zero(), ak_zero(), ak_splat(1)};
    if (reduce) reducer = AK_FN(reducer_of)(&to->reduction, block, to->reduction.slope);
    if (!to->reduction.slope) reducer.slope = ak_splat(1);
    AK_FN(partial_sums) sums = *into;
    for (int p = 0; p < to->dx.w; p++, at += 16) {
        ak_vec v = ak_load(line + p * 16);
        if (accumulate) v += AK_FN(lanes)(data, at, bf16);
        if (reduce) AK_FN(reduce_lanes)(&sums, v, AK_FN(lanes)(to->reduction.x.data, at, bf16), &reducer, true);
        if (!bf16 && stream) ak_stream((float *)data + at, v);
        else AK_FN(put_lanes)(data, at, v, bf16);
    }
    *into = sums;
}

/// Leaves a line as row y of dx.
AK_NOINLINE void AK_FN(leave_gradient)(
    const ak_conv_gradients *to, const float *line, int n, int block, int y, AK_FN(reducing) * r) {
    const long at = ak_plane(&to->dx, n, block) + y * to->dx.row;
    const bool bf16 = to->dx.dtype == AK_BF16;
    if (r->into) {
        if (bf16) AK_FN(leave_gradient_of)(to, line, at, block, &r->sums, true, true);
        else AK_FN(leave_gradient_of)(to, line, at, block, &r->sums, false, true);
        r->count += to->dx.w;
        if (r->count >= STRETCH) AK_FN(reduce_end)(r);
    } else {
        if (bf16) AK_FN(leave_gradient_of)(to, line, at, block, &r->sums, true, false);
        else AK_FN(leave_gradient_of)(to, line, at, block, &r->sums, false, false);
    }
}

#include "conv_depthwise_lines.inc.h"
#include "conv_depthwise_planes.inc.h"

// ------------------------------------------------------------------------------------------------------- lines of rows

/// The lines of one plane of x or dy.
typedef struct {
    const ak_source *x;
    const ak_gradient *dy; // where x is NULL
    int n, block, h;
    long length;
    float *zero, *ring;
    int held[AK_DEPTHWISE_RING];
} AK_FN(lines);

AK_INLINE AK_FN(lines) AK_FN(lines_of)(const ak_depthwise_job *job, const ak_source *x, float *scratch) {
    const long length = ak_depthwise_line_floats(job->conv);
    AK_FN(lines) lines = {
        .x = x, .dy = &job->dy, .h = x ? x->map.h : job->dy.map.h, .length = length, .zero = scratch,
        .ring = scratch + length};
    memset(scratch, 0, (size_t)(1 + AK_DEPTHWISE_RING) * (size_t)length * sizeof(float));
    return lines;
}

AK_INLINE void AK_FN(lines_select)(AK_FN(lines) * lines, const ak_depthwise_span *span) {
    lines->n = span->n;
    lines->block = span->block;
    for (int i = 0; i < AK_DEPTHWISE_RING; i++) lines->held[i] = -1;
}

/// Row r from column -1 on. What lies behind the row in its line is zero.
AK_INLINE const float *AK_FN(line)(AK_FN(lines) * lines, int r) {
    if (r < 0 || r >= lines->h) return lines->zero;
    const int slot = r % AK_DEPTHWISE_RING;
    float *line = lines->ring + slot * lines->length;
    if (lines->held[slot] != r) {
        if (lines->x) AK_FN(source_row)(lines->x, lines->n, lines->block, r, line + 16);
        else AK_FN(gradient_row)(lines->dy, lines->n, lines->block, r, line + 16);
        lines->held[slot] = r;
    }
    return line;
}

// ------------------------------------------------------------------------------------------------------------- forward

/// 3x3: some rows of y.
AK_INLINE void AK_FN(rows_forward)(
    const ak_depthwise_job *job, const ak_depthwise_span *span, AK_FN(lines) * lines, AK_FN(gathering) * moments) {
    const int stride = job->conv->stride;
    const float *w = job->weights + span->block * 9 * 16;
    AK_FN(lines_select)(lines, span);
    for (int y = span->begin; y < span->end; y++) {
        const int top = y * stride - 1;
        const float *r[3] = {AK_FN(line)(lines, top), AK_FN(line)(lines, top + 1), AK_FN(line)(lines, top + 2)};
        const AK_FN(target) to = AK_FN(target_of)(&job->y, span->n, span->block, y, moments);
        // With stride 2 the processor foresees enough by itself: each row that is written reads two.
        AK_FN(ahead) ahead = AK_FN(nothing_ahead)(job);
        if (stride == 1) AK_FN(look_ahead)(&ahead, 0, &job->x.map, span->n, span->block, y + 2, 16);
        if (stride == 1) AK_FN(correlation_1)(r, w, &to, &ahead, job->y.w);
        else AK_FN(correlation_2)(r, w, &to, &ahead, job->y.w);
        if (moments->count >= STRETCH) AK_FN(gather_end)(moments);
    }
}

void AK_FN(ak_depthwise_forward_part)(void *context, int part, int parts);
void AK_FN(ak_depthwise_forward_part)(void *context, int part, int parts) {
    const ak_depthwise_job *job = context;
    const ak_conv *conv = job->conv;
    const bool by_rows = ak_depthwise_by_rows(conv);
    const int blocks = ak_blocks(conv->c), units = by_rows ? job->y.h : 1;
    const long all = (long)job->y.n * blocks * units, end = ak_begin(all, part + 1, parts);
    ak_moments *own = ak_moments_begin(job->moments, conv->c, part);
    float *scratch = job->scratch + part * ak_depthwise_scratch_floats(conv);
    AK_FN(lines) lines;
    if (by_rows) lines = AK_FN(lines_of)(job, &job->x, scratch);
    else memset(scratch, 0, (size_t)ak_depthwise_padded_plane(conv) * sizeof(float));
    for (long unit = ak_begin(all, part, parts); unit < end;) {
        const ak_depthwise_span span = ak_depthwise_span_at(unit, end, blocks, units);
        AK_FN(gathering) moments = {.into = own ? own + span.block : NULL};
        if (by_rows) AK_FN(rows_forward)(job, &span, &lines, &moments);
        else AK_FN(plane_forward)(job, span.n, span.block, scratch, &moments);
        AK_FN(gather_end)(&moments);
        unit += span.end - span.begin;
    }
    if (ak_streams(&job->y)) ak_stream_fence();
}

// ------------------------------------------------------------------------------------------------------------ backward

/// What the rows after row y of dx will read: asked for while row y is computed, and while x passes. What is asked for
/// late in a row is what the row after the next reads: the next one begins at once.
AK_INLINE void AK_FN(backward_ahead)(
    const ak_depthwise_job *job, const ak_depthwise_span *span, int y, AK_FN(ahead) * computing,
    AK_FN(ahead) * passing) {
    const int stride = job->conv->stride, n = span->n, block = span->block;
    const bool dw = job->to->dw;
    *computing = *passing = AK_FN(nothing_ahead)(job);
    if (dw) AK_FN(look_ahead)(passing, 1, &job->x.map, n, block, y + 2, 16);
    // With stride 2 two rows of dx read one new row of dy, of half their width: the first of the two asks for it.
    if (y % stride != 0) return;
    AK_FN(look_ahead)(computing, 0, &job->dy.map, n, block, y / stride + 2, 16 / stride);
    AK_FN(look_ahead)(dw ? passing : computing, dw ? 0 : 1, &job->dy.chain.x, n, block, y / stride + 3, 16 / stride);
}

/// 3x3: what some rows of dy give, with stride 1, or some pairs of rows of dx. left: a line.
AK_INLINE void AK_FN(rows_backward)(
    const ak_depthwise_job *job, const ak_depthwise_span *span, AK_FN(lines) * lines, float *left, float *sums,
    AK_FN(reducing) * reducing) {
    const ak_conv_gradients *to = job->to;
    const int stride = job->conv->stride, h = job->conv->h, w = job->conv->w;
    const float *taps = to->dx.data ? job->weights + span->block * 9 * 16 : NULL;
    const bool direct = !to->accumulate_dx && !reducing->into, bf16 = job->dy.map.dtype == AK_BF16;
    AK_FN(passing_row) x = {.data = job->x.map.data, .width = w};
    if (to->dw) x.norm = AK_FN(any_norm_of)(&job->x.activation, span->block);
    AK_FN(lines_select)(lines, span);
    for (int y = span->begin * stride; y < ak_min(span->end * stride, h); y++) {
        // Stride 2: row y / 2 of dy and the one below.
        const int top = stride == 1 ? y - 1 : y / 2;
        const float *r[3] = {AK_FN(line)(lines, top), AK_FN(line)(lines, top + 1), lines->zero};
        if (stride == 1) r[2] = AK_FN(line)(lines, top + 2);
        AK_FN(ahead) ahead;
        AK_FN(backward_ahead)(job, span, y, &ahead, &x.ahead);
        if (to->dx.data) {
            AK_FN(target) target = {.data = left};
            if (direct) target = AK_FN(target_of)(&to->dx, span->n, span->block, y, NULL);
            if (stride == 1) AK_FN(correlation_1)(r, taps, &target, &ahead, w);
            else AK_FN(scatter_row)(r, taps, &target, &ahead, w, y % 2);
            if (!direct) AK_FN(leave_gradient)(to, left, span->n, span->block, y, reducing);
        }
        if (!to->dw) continue;
        x.at = ak_plane(&job->x.map, span->n, span->block) + y * job->x.map.row;
        if (stride == 1) AK_FN(taps_1)(r, &x, sums, bf16);
        else AK_FN(taps_2)(r, &x, sums, y % 2, bf16);
    }
}

/// Sums of one plane join those of all: two levels of sums keep the error of fp32 small.
AK_INLINE void AK_FN(join_taps)(float *sums, float *partial, int taps) {
    for (int t = 0; t < taps; t++) {
        ak_store(partial + t * 16, ak_load(partial + t * 16) + ak_load(sums + t * 16));
        ak_store(sums + t * 16, ak_zero());
    }
}

void AK_FN(ak_depthwise_backward_part)(void *context, int part, int parts);
void AK_FN(ak_depthwise_backward_part)(void *context, int part, int parts) {
    const ak_depthwise_job *job = context;
    const ak_conv *conv = job->conv;
    const bool by_rows = ak_depthwise_by_rows(conv);
    const int blocks = ak_blocks(conv->c), taps = conv->kh * conv->kw, units = by_rows ? job->dy.map.h : 1;
    const long all = (long)job->dy.map.n * blocks * units, end = ak_begin(all, part + 1, parts);
    ak_sums *own = ak_sums_begin(job->to->reduction.sums, conv->c, part);
    float *scratch = job->scratch + part * ak_depthwise_scratch_floats(conv);
    float *partial = job->partial + part * ak_depthwise_packed_floats(conv);
    if (job->to->dw) memset(partial, 0, (size_t)ak_depthwise_packed_floats(conv) * sizeof(float));
    AK_FN(lines) lines;
    if (by_rows) lines = AK_FN(lines_of)(job, NULL, scratch);
    else memset(scratch, 0, (size_t)ak_depthwise_padded_plane(conv) * sizeof(float));
    _Alignas(64) float sums[9 * 16] = {0};
    for (long unit = ak_begin(all, part, parts); unit < end;) {
        const ak_depthwise_span span = ak_depthwise_span_at(unit, end, blocks, units);
        float *block = partial + (long)span.block * taps * 16;
        AK_FN(reducing) reducing = {.into = own ? own + span.block : NULL};
        if (by_rows) {
            float *left = scratch + (1 + AK_DEPTHWISE_RING) * lines.length;
            AK_FN(rows_backward)(job, &span, &lines, left, sums, &reducing);
            if (job->to->dw) AK_FN(join_taps)(sums, block, 9);
        } else {
            AK_FN(plane_backward)(job, span.n, span.block, scratch, block, &reducing);
        }
        AK_FN(reduce_end)(&reducing);
        unit += span.end - span.begin;
    }
    if (job->to->dx.data && ak_streams(&job->to->dx)) ak_stream_fence();
}

#undef STRETCH
