// The job description of the first convolution.
#ifndef ACUITY_CONV_STEM_H
#define ACUITY_CONV_STEM_H

#include "conv_internal.h"

/// Input channels x taps at most: 4 x 7 x 7.
#define AK_STEM_TAPS 196
/// Floats read beyond the last output position by the widest register tile.
#define AK_STEM_MARGIN 16
/// Taps of one register tile of the gradient, rounded up by the largest tile.
#define AK_STEM_GROUP 9
/// Output blocks that the widest register tiles take at once.
#define AK_STEM_PAIR 2

typedef struct {
    const ak_conv *conv;
    const float *images;
    int n;
    const float *weights; // forward: [block][tap][16]
    ak_map y;             // forward: written
    ak_moments *moments;
    ak_gradient dy;       // backward
    float *scratch;       // per thread
    float *partial;       // [thread][block][tap, rounded up][16]
} ak_stem_job;

/// Floats of one line of one channel at one column parity.
static inline int ak_stem_line_floats(const ak_conv *conv) {
    return (conv->w + 2 * conv->pad + conv->stride - 1) / conv->stride + AK_STEM_MARGIN;
}

/// Floats of a thread's lines of the images: a line of zeros, then [channel][tap row][column parity][line].
static inline long ak_stem_image_floats(const ak_conv *conv) {
    const long floats = (long)(conv->c * conv->kh * conv->stride + 1) * ak_stem_line_floats(conv);
    return (floats + 15) / 16 * 16;
}

/// Floats of a thread's scratch: its lines of the images, then one row of dy of each block that is taken at once.
static inline long ak_stem_scratch_floats(const ak_conv *conv) {
    return ak_stem_image_floats(conv) + (long)AK_STEM_PAIR * ak_conv_out_w(conv) * 16;
}

#endif
