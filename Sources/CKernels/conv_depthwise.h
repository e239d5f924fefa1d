// The job description of the depthwise convolutions.
#ifndef ACUITY_CONV_DEPTHWISE_H
#define ACUITY_CONV_DEPTHWISE_H

#include "conv_internal.h"

/// Rows of the map that is read are handed to the kernels with one zero column on either side. Rows of a map with halo
/// 1 are so already; those of a map without are copied into a ring of this many lines.
#define AK_DEPTHWISE_RING 4

typedef struct {
    const ak_conv *conv;
    ak_map x, dy;         // read; forward and backward-data use one of them
    ak_map out;           // written
    const float *weights; // [block][tap][16]
    bool accumulate;
    float *workspace;     // per thread: ring and a zero line
    float *partial;       // [thread][block][tap][16]
    float *dw;
} ak_depthwise_job;

/// Floats of one thread's ring and zero line.
long ak_depthwise_thread_floats(const ak_conv *conv);

#endif
