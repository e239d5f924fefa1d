// The job description of the depthwise convolutions.
#ifndef ACUITY_CONV_DEPTHWISE_H
#define ACUITY_CONV_DEPTHWISE_H

#include "conv_internal.h"

/// Lines of the map that is read: three meet in a row, a fourth makes the place of a row its low bits.
#define AK_DEPTHWISE_RING 4

typedef struct {
    const ak_conv *conv;
    ak_source x;
    ak_gradient dy;       // backward
    ak_map y;             // forward: written
    ak_moments *moments;
    const ak_conv_gradients *to;
    const float *weights; // [block][tap][16]; backward: the taps in reverse order
    float *scratch;       // per thread
    float *partial;       // [thread][block][tap, in reverse order][16]
} ak_depthwise_job;

/// 3x3 with padding 1 goes row by row from registers, any other geometry plane by plane, tap by tap.
static inline bool ak_depthwise_by_rows(const ak_conv *conv) {
    return conv->kh == 3 && conv->kw == 3 && conv->pad == 1;
}

/// By rows: floats of a line, with one zero column on either side.
static inline long ak_depthwise_line_floats(const ak_conv *conv) { return (long)(conv->w + 2) * 16; }

/// By planes: floats of a row and of a plane of the input, with the padding.
static inline long ak_depthwise_padded_row(const ak_conv *conv) { return (long)(conv->w + 2 * conv->pad) * 16; }
static inline long ak_depthwise_padded_plane(const ak_conv *conv) {
    return (conv->h + 2 * conv->pad) * ak_depthwise_padded_row(conv);
}

static inline long ak_depthwise_scratch_floats(const ak_conv *conv) {
    if (ak_depthwise_by_rows(conv)) return (2 + AK_DEPTHWISE_RING) * ak_depthwise_line_floats(conv);
    return 2 * ak_depthwise_padded_plane(conv) + (long)ak_conv_out_w(conv) * 16;
}

static inline long ak_depthwise_packed_floats(const ak_conv *conv) {
    return (long)ak_blocks(conv->c) * conv->kh * conv->kw * 16;
}

/// Units begin..<end of one plane, of all that a thread does: units are numbered through all planes.
typedef struct {
    int n, block, begin, end;
} ak_depthwise_span;

static inline ak_depthwise_span ak_depthwise_span_at(long unit, long end, int blocks, int units) {
    const long plane = unit / units, last = (plane + 1) * units < end ? (plane + 1) * units : end;
    return (ak_depthwise_span){
        (int)(plane / blocks), (int)(plane % blocks), (int)(unit % units), (int)(last - plane * units)};
}

#endif
