// What the convolutions by matrix products over panels share: the walk over output positions, and how sums are written.
#ifndef ACUITY_CONV_PANEL_H
#define ACUITY_CONV_PANEL_H

#include "conv_internal.h"
#include "fusion.h"

/// Positions of one panel: a multiple of every register tile, few enough for fp32 statistics, and such that blocks of a
/// panel, 64 or 32 bytes to a position, do not lie a multiple of 4 KiB apart.
enum { AK_PANEL = 126 };
/// The widest register tile of any instruction set, in positions.
enum { AK_TILE_MAX = 14 };

/// Output positions (i, j), i < rows, j < cols, of every image. Position (i, j) is written at
/// (i*out_stride + out_row, j*out_stride + out_col); its tap (a, b) reads the input at
/// (i*stride + row0 + a*step, j*stride + col0 + b*step), zero outside.
typedef struct {
    ak_map in, out; // shapes and strides
    int rows, cols;
    int out_stride, out_row, out_col;
    int stride, row0, col0, step, taps_rows, taps_cols;
    int groups;
} ak_walk;

/// Some consecutive positions: offsets of their element of block 0 in the input (without a tap) and in the output, and
/// their row and column in the input.
typedef struct {
    long in[AK_PANEL], out[AK_PANEL];
    int row[AK_PANEL], col[AK_PANEL];
    int count;
} ak_positions;

/// Positions of the panel at p of those before p1.
static inline int ak_panel_count(long p, long p1) { return p1 - p < AK_PANEL ? ak_max(0, (int)(p1 - p)) : AK_PANEL; }

static inline void ak_positions_make(const ak_walk *walk, long first, int count, ak_positions *at) {
    long per_image = (long)walk->rows * walk->cols;
    int n = (int)(first / per_image), rest = (int)(first % per_image), i = rest / walk->cols, j = rest % walk->cols;
    at->count = count;
    for (int p = 0; p < count; p++) {
        at->row[p] = i * walk->stride;
        at->col[p] = j * walk->stride;
        at->in[p] = ak_plane(&walk->in, n, 0) + at->row[p] * walk->in.row + at->col[p] * 16;
        at->out[p] = ak_plane(&walk->out, n, 0) + (i * walk->out_stride + walk->out_row) * walk->out.row
            + (j * walk->out_stride + walk->out_col) * 16;
        if (++j == walk->cols) {
            j = 0;
            if (++i == walk->rows) i = 0, n++;
        }
    }
}

/// A map that is written, and the statistics gathered on the way: moments or sums, or neither.
typedef struct {
    ak_map map;
    bool accumulate, stream;
    ak_moments *moments;
    ak_reduction reduction;
} ak_output;

/// Begins a thread's share of an output's statistics.
static inline void ak_output_begin(const ak_output *y, int part) {
    ak_moments_begin(y->moments, y->map.c, part);
    ak_sums_begin(y->reduction.sums, y->map.c, part);
}

/// Positions of a map whose lines are fetched while a tile is computed, ahead of their use: memory is slow, and its
/// time is hidden only while there is something else to do.
typedef struct {
    const char *data; // NULL: nothing
    size_t element;   // bytes
    long block_bytes;
    const long *at; // offsets of `count` positions
    int count, blocks;
    int every; // of how many positions one is fetched: two bf16 ones share a line
    // The next one, where they are fetched block after block.
    int block, position;
} ak_ahead;

static inline ak_ahead ak_ahead_of(const ak_map *map, const long *at, int count) {
    const size_t element = map->dtype == AK_BF16 ? sizeof(uint16_t) : sizeof(float);
    return (ak_ahead){
        .data = count > 0 ? map->data : NULL, .element = element, .block_bytes = map->block * (long)element, .at = at,
        .count = count, .blocks = ak_blocks(map->c),
        .every = element == sizeof(uint16_t) && count > 1 && at[1] - at[0] == 16 ? 2 : 1};
}

/// Fetches positions p0..<p1 of one block.
static inline __attribute__((always_inline)) void ak_fetch(const ak_ahead *a, int block, int p0, int p1) {
    const char *data = a->data + block * a->block_bytes;
    for (int p = p0; p < p1; p += a->every) __builtin_prefetch(data + (size_t)a->at[p] * a->element, 0, 3);
}

/// Fetches the next `count` positions.
static inline __attribute__((always_inline)) void ak_fetch_next(ak_ahead *a, int count) {
    while (count > 0 && a->block < a->blocks) {
        const int end = ak_min(a->count, a->position + count);
        ak_fetch(a, a->block, a->position, end);
        count -= end - a->position;
        a->position = end;
        if (end == a->count) a->position = 0, a->block++;
    }
}

typedef enum { AK_GATHER_NOTHING, AK_GATHER_MOMENTS, AK_GATHER_SUMS, AK_GATHER_SUMS_PRELU } ak_gathering;

static inline ak_gathering ak_gathering_of(const ak_output *y) {
    if (y->moments) return AK_GATHER_MOMENTS;
    if (!y->reduction.sums) return AK_GATHER_NOTHING;
    return y->reduction.slope ? AK_GATHER_SUMS_PRELU : AK_GATHER_SUMS;
}

/// Whether the products of maps of this type are bf16, with the instruction set in use.
static inline bool ak_multiplies_bf16(ak_dtype dtype) {
    return dtype == AK_BF16 && ak_isa_current() == AK_ISA_AVX512_BF16;
}

#endif
