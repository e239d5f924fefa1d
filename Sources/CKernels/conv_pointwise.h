// The job description that conv_pointwise.c fills in and conv_pointwise.inc.h works off.
#ifndef ACUITY_CONV_POINTWISE_H
#define ACUITY_CONV_POINTWISE_H

#include "conv_panel.h"

typedef struct {
    ak_walk walk; // in: dy, out: dx and x
    ak_source x;
    ak_gradient dy;
    const void *weights; // packed for AK_BACKWARD
    ak_output dx;        // data NULL: not wanted
    float *partial;      // [split][output block][input block][16 in][16 out]; NULL: not wanted
    long partial_floats;
    int split; // parts of the positions; further parts of the pool stay idle
    bool half;
    float *workspace; // per thread: panels
    long thread_floats;
} ak_pointwise_job;

#endif
