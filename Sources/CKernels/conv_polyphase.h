// The tiling and the panels of the convolutions on phases, and the job descriptions of those with fp32 products.
#ifndef ACUITY_CONV_POLYPHASE_H
#define ACUITY_CONV_POLYPHASE_H

#include "conv_internal.h"

/// Outputs of a tile in one dimension, at most. Its points are as many of the phase with one tap, then those of
/// F(AK_POLYPHASE_SIDE, 2), one more, of which the last is infinity.
#define AK_POLYPHASE_SIDE 4
#define AK_POLYPHASE_POINTS (2 * AK_POLYPHASE_SIDE + 1)
/// Different weights among them: the points of the first phase share theirs.
#define AK_POLYPHASE_WEIGHTS (AK_POLYPHASE_SIDE + 2)

/// Pairs of the above, for two dimensions.
#define AK_POLYPHASE_GRID (AK_POLYPHASE_POINTS * AK_POLYPHASE_POINTS)
#define AK_POLYPHASE_MATRICES (AK_POLYPHASE_WEIGHTS * AK_POLYPHASE_WEIGHTS)

/// Tiles of one panel at most.
#define AK_POLYPHASE_TILES 192
/// Keeps what is stored to all the weights' matrices together out of the same few cache sets.
#define AK_POLYPHASE_PADDING 48

/// The outputs of a batch of maps in tiles of side x side, at most AK_POLYPHASE_SIDE. Where a size is no multiple of
/// the side, the last tiles have a row or column less, as many of them as make the sum come out (or exceed the map the
/// least). Tiles are numbered by class, for a side of four in the order 4x3, 4x4, 3x4, 3x3 (rows x columns): those with
/// a fourth row follow one another, and so do those with a fourth column.
typedef struct {
    int side;
    int down[2], across[2]; // tiles of an image with all rows and with one less; with all columns and with one less
    long begin[5];          // the first tile of each class, and the end
} ak_polyphase_tiling;

/// The position of the first output, and the extent.
typedef struct {
    int n, y, x, rows, cols;
} ak_polyphase_tile;

/// Tiles transformed together. In memory: [block][position][16], where every tile has a position for each point that it
/// needs, ordered by weights, then points, then tiles: what is multiplied by the same weights is contiguous. Where
/// sums are over pairs of tiles, a position belongs to two, [block][position][16][2], zero for the one without the
/// point.
typedef struct {
    int side, count;
    int start[AK_POLYPHASE_MATRICES + 1]; // the positions of each matrix of weights
    long at[AK_POLYPHASE_GRID];           // elements from block 0 to tile 0's position, were it to need the point
    ak_polyphase_tile tile[AK_POLYPHASE_TILES];
} ak_polyphase_panel;

ak_polyphase_tiling ak_polyphase_tiling_make(int side, int n, int h, int w);
/// Points of all tiles.
long ak_polyphase_tiling_points(const ak_polyphase_tiling *tiling);
/// The first tile of part `part` of `parts` of about equal work.
long ak_polyphase_begin(const ak_polyphase_tiling *tiling, int part, int parts);
/// `together`: tiles to a position, 1 or 2.
void ak_polyphase_panel_make(
    ak_polyphase_panel *panel, const ak_polyphase_tiling *tiling, long first, int count, int together);

/// Whether a tile of `extent` rows (columns) of at most `side` needs a point: the last of the first phase and the one
/// at infinity serve the last output only.
static inline bool ak_polyphase_needs(int side, int extent, int point) {
    return extent == side || (point != side - 1 && point != 2 * side);
}

/// What is transformed to points: the values of x under a tile of outputs, the values of dy that a tile of dx is made
/// of, or the tile of dy itself.
typedef enum { AK_POLYPHASE_X, AK_POLYPHASE_DY, AK_POLYPHASE_TILE } ak_polyphase_window;

/// The values that a window takes for `extent` outputs.
static inline int ak_polyphase_size(ak_polyphase_window window, int extent) {
    return window == AK_POLYPHASE_X ? 2 * extent + 1 : window == AK_POLYPHASE_DY ? extent + 1 : extent;
}

/// How a convolution's maps are worked through: panels of at most `tiles` tiles, `positions` to a block.
typedef struct {
    ak_polyphase_tiling tiling;
    int tiles, together, positions;
    ak_split split;
    float *workspace; // per thread: transformed inputs, then products (of the gradient: transformed output gradients)
    long thread_floats;
} ak_polyphase_plan;

/// A plan with panels of `tiles` tiles, or as few as a thread has. `floats`: of workspace to a position.
ak_polyphase_plan ak_polyphase_plan_make(
    const ak_polyphase_tiling *tiling, ak_split split, int tiles, int together, long floats, void *workspace);
/// The split of the weights' gradient. `cycles`: of a channel's products with a pair of output blocks at one position.
ak_split ak_polyphase_gradient_split(
    const ak_conv *conv, const ak_polyphase_tiling *tiling, double cycles, int threads);

/// y of x, or dx of dy.
typedef struct {
    ak_direction direction;
    ak_map in, out;
    ak_activation activation;
    const float *weights; // [matrix][out block][in channel][16]
    bool accumulate;
    ak_moments *moments;
    ak_reduction reduction;
    ak_polyphase_plan plan;
} ak_polyphase_job;

typedef struct {
    ak_source x;
    ak_map dy;
    ak_polyphase_plan plan;
    float *partial; // [split.positions][matrix][out block][in channel][16]
    float *dw;
    bool accumulate;
} ak_polyphase_gradient_job;

typedef struct {
    const ak_conv *conv;
    ak_direction direction;
    const float *weights;
    float *packed;
} ak_polyphase_pack_job;

/// Floats between two matrices of the weights.
static inline long ak_polyphase_matrix_stride(int c, int k) {
    return (long)ak_blocks(c) * ak_blocks(k) * 256 + AK_POLYPHASE_PADDING;
}

#endif
