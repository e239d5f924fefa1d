// The job descriptions of the convolutions on phases with bf16 products.
#ifndef ACUITY_CONV_POLYPHASE_BF16_H
#define ACUITY_CONV_POLYPHASE_BF16_H

#include "conv_polyphase.h"
#include "conv_products_bf16.h"

/// Outputs of a tile in one dimension, at most; its points: one per output of the phase with one tap, then those of
/// F(3, 2); and different weights among them.
#define AK_POLYPHASE_BF16_SIDE 3
#define AK_POLYPHASE_BF16_POINTS 7
#define AK_POLYPHASE_BF16_WEIGHTS 5
/// Pairs of the above, for two dimensions.
#define AK_POLYPHASE_BF16_GRID (AK_POLYPHASE_BF16_POINTS * AK_POLYPHASE_BF16_POINTS)
#define AK_POLYPHASE_BF16_MATRICES (AK_POLYPHASE_BF16_WEIGHTS * AK_POLYPHASE_BF16_WEIGHTS)

/// y of x, or dx of dy.
typedef struct {
    ak_direction direction;
    ak_source in;
    ak_map out;
    const uint16_t *weights; // see ak_bf16_pack_job
    bool accumulate;
    ak_moments *moments;
    ak_reduction reduction;
    ak_polyphase_plan plan; // workspace: transformed inputs in bf16, then products of a pair of output blocks
} ak_polyphase_bf16_job;

#endif
