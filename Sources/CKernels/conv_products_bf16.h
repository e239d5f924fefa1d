// What the Winograd-like convolutions with bf16 products share.
#ifndef ACUITY_CONV_PRODUCTS_BF16_H
#define ACUITY_CONV_PRODUCTS_BF16_H

#include "conv_internal.h"

/// Weights to the points of a transform: [pair of out blocks][matrix][pair of in channels][out block of the
/// pair][16][2].
typedef struct {
    const ak_conv *conv;
    ak_direction direction;
    const float *weights;
    uint16_t *packed;
} ak_bf16_pack_job;

#endif
