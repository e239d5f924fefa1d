// The job descriptions of the Winograd convolutions with bf16 products.
#ifndef ACUITY_CONV_WINOGRAD_BF16_H
#define ACUITY_CONV_WINOGRAD_BF16_H

#include "conv_products_bf16.h"
#include "fusion.h"

/// Transformed tiles and weights lie point by point (16 points of a 4 x 4 tile).
#define AK_WINOGRAD_BF16_POINTS 16
/// Tiles transformed together, at most: enough to pay for reading the weights of all points once more, few enough that
/// they stay in the second-level cache. A multiple of the widest register tile.
#define AK_WINOGRAD_BF16_TILES 28
/// Tiles between blocks of transformed ones: even, and more than there are, as inputs are written in pairs.
#define AK_WINOGRAD_BF16_ROOM (AK_WINOGRAD_BF16_TILES + 2)

/// Floats between points of the products, [out block of a pair][tile][16]. An odd number of cache lines, as is the
/// distance between points of the inputs: so the sixteen points of a tile fall into different sets of a cache.
#define AK_WINOGRAD_BF16_PRODUCTS (AK_WINOGRAD_BF16_ROOM * 2 * 16 + 16)

/// The same for the gradient of the weights, which reads and writes the sums of all points once more each time.
#define AK_WINOGRAD_BF16_GRADIENT_TILES 256

typedef struct {
    ak_source in;
    ak_map out;
    const uint16_t *weights; // [pair of out blocks][point][pair of in channels][out block of the pair][16][2]
    bool accumulate;
    ak_moments *moments;     // of out
    ak_reduction reduction;  // of out
    ak_split split;
    long stride;     // elements between points of the inputs, [in block][tile][16]
    char *workspace; // per thread: transformed inputs, then products
    size_t thread_bytes;
} ak_winograd_bf16_job;

typedef struct {
    ak_source x, dy;
    ak_split split;
    int tiles;                  // transformed together, at most
    long in_stride, out_stride; // elements between points of the inputs and of the outputs' gradients
    char *workspace;            // per thread: transformed inputs, then gradients
    size_t thread_bytes;
    float *partial; // [split.positions][point][out block][in channel][16]
    long weights;   // floats of that to a point
    float *dw;
    bool accumulate;
} ak_winograd_bf16_gradient_job;

/// Tiles of 2x2 outputs of a map.
static inline long ak_winograd_bf16_tiles(const ak_map *m) { return (long)m->n * ((m->h + 1) / 2) * ((m->w + 1) / 2); }

#endif
