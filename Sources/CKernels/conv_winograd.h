// The job descriptions of the Winograd convolutions.
#ifndef ACUITY_CONV_WINOGRAD_H
#define ACUITY_CONV_WINOGRAD_H

#include "conv_internal.h"

/// Transformed tiles, weights and gradients lie point by point (36 points of a 6 x 6 tile). The stride between points
/// is padded, or the 36 stores of one tile would fall into the same few cache sets.
#define AK_WINOGRAD_POINTS 36
#define AK_WINOGRAD_PADDING 48
/// The largest panel; tiles whose outputs are summed in fp32 before they join the statistics.
#define AK_WINOGRAD_MOST_TILES 70
#define AK_WINOGRAD_STRETCH 28

/// Tiles transformed together.
typedef struct {
    int tiles;       // of one thread's block, at most
    long in, out;    // floats between points: [in block][tile][16], [out block][tile][16]
} ak_winograd_panel;

typedef struct {
    ak_source in;
    ak_map out;
    const float *weights; // [point][out block][in channel][16]
    ak_finish finish;
    ak_moments *moments;
    ak_reduction reduction;
    ak_split split;
    ak_winograd_panel panel;
    float *workspace; // per thread: transformed inputs, then products
    long thread_floats;
} ak_winograd_job;

typedef struct {
    ak_source x, dy;
    ak_split split;
    ak_winograd_panel panel;
    float *workspace;
    long thread_floats;
    float *partial; // [split.positions][point][out block][in channel][16]
    float *dw;
    bool accumulate;
} ak_winograd_gradient_job;

typedef struct {
    const ak_conv *conv;
    ak_direction direction;
    const float *weights;
    float *packed;
} ak_winograd_pack_job;

/// Tiles of 4x4 outputs of a map.
static inline long ak_winograd_tiles(const ak_map *m) { return (long)m->n * ((m->h + 3) / 4) * ((m->w + 3) / 4); }

/// The part of a tile that lies inside the map: rows [i0, i1), columns [j0, j1) of the tile.
typedef struct {
    int i0, i1, j0, j1;
} ak_winograd_inside;

/// Tile t of a map: the image and the position of its first output.
typedef struct {
    int n, y, x;
} ak_winograd_place;

/// A thread's share of a job: output blocks [k0, k1) of tiles [t0, t1).
typedef struct {
    int position, k0, k1;
    long t0, t1;
} ak_winograd_share;

static inline ak_winograd_share ak_winograd_share_of(const ak_map *out, ak_split split, int part) {
    int a = part % split.positions, b = part / split.positions, blocks = ak_blocks(out->c), pairs = (blocks + 1) / 2;
    long all = ak_winograd_tiles(out);
    return (ak_winograd_share){
        a, 2 * (int)ak_begin(pairs, b, split.blocks), ak_min(blocks, 2 * (int)ak_begin(pairs, b + 1, split.blocks)),
        ak_begin(all, a, split.positions), ak_begin(all, a + 1, split.positions)};
}

/// Rounds of at most `tiles` tiles that a share takes.
static inline int ak_winograd_rounds(const ak_winograd_share *s, int tiles) {
    return (int)((s->t1 - s->t0 + tiles - 1) / tiles);
}

/// The places of the tiles of one of a share's rounds; returns how many, 0 after the last round.
static inline int ak_winograd_places(
    const ak_map *m, const ak_winograd_share *s, int round, int rounds, ak_winograd_place *places) {
    if (round == rounds) return 0;
    const int across = (m->w + 3) / 4, image = across * ((m->h + 3) / 4);
    const long first = s->t0 + ak_begin(s->t1 - s->t0, round, rounds);
    const int count = (int)(s->t0 + ak_begin(s->t1 - s->t0, round + 1, rounds) - first), rest = (int)(first % image);
    ak_winograd_place at = {(int)(first / image), rest / across * 4, rest % across * 4};
    for (int t = 0; t < count; t++) {
        places[t] = at;
        if ((at.x += 4) >= m->w) at.x = 0, at.y += 4;
        if (at.y >= m->h) at.y = 0, at.n++;
    }
    return count;
}

/// Floats between two points of the weights.
static inline long ak_winograd_weight_stride(int c, int k) {
    return (long)ak_blocks(c) * ak_blocks(k) * 256 + AK_WINOGRAD_PADDING;
}

#endif
