// What the passes over whole maps share: checks, and the split of a map's pixels over the threads.
#ifndef ACUITY_KERNELS_ELEMENTWISE_TASKS_H
#define ACUITY_KERNELS_ELEMENTWISE_TASKS_H

#include "fusion.h"

typedef uint64_t ak_wvec __attribute__((vector_size(128), aligned(64)));

/// Pixels of a block of channels that are worked on at once: how they are read, treated and written is asked once for
/// all of them, so that no combination of element types and coefficients needs a loop of its own.
#define AK_TILE (AK_REGISTERS >= 32 ? 8 : 4)

/// The longest run: fp32 sums over a run are short enough to lose nothing that matters.
#define AK_RUN 256

/// `count` pixels (or rows), from `first` on, of one block of channels of one image.
typedef struct {
    int image, block;
    long first;
    int count;
} ak_run;

/// The pixels (or rows) of a batch, in memory order, are cut into one contiguous range per part, so that all parts have
/// the same work whatever the batch. A walk visits a part's range run by run.
typedef struct {
    long next, last, plane;
    int blocks;
} ak_walk;

/// `plane`: pixels or rows of one block of channels of one image.
static inline ak_walk ak_walk_over(const ak_map *map, long plane, int part, int parts) {
    const int blocks = ak_blocks(map->c);
    const long count = map->n * plane * blocks;
    return (ak_walk){ak_begin(count, part, parts), ak_begin(count, part + 1, parts), plane, blocks};
}

static inline ak_walk ak_walk_pixels(const ak_map *map, int part, int parts) {
    return ak_walk_over(map, (long)map->h * map->w, part, parts);
}

static inline ak_walk ak_walk_rows(const ak_map *map, int part, int parts) {
    return ak_walk_over(map, map->h, part, parts);
}

static inline bool ak_walk_next(ak_walk *walk, ak_run *run) {
    if (walk->next >= walk->last) return false;
    const long plane = walk->next / walk->plane, first = walk->next - plane * walk->plane;
    long count = walk->plane - first;
    if (count > walk->last - walk->next) count = walk->last - walk->next;
    if (count > AK_RUN) count = AK_RUN;
    *run = (ak_run){(int)(plane / walk->blocks), (int)(plane % walk->blocks), first, (int)count};
    walk->next += count;
    return true;
}

/// The first element of a run of pixels: the same in all maps of one shape.
static inline long ak_run_at(const ak_map *map, const ak_run *run) {
    return ak_plane(map, run->image, run->block) + run->first * 16;
}

static inline void ak_require_alike(const ak_map *a, const ak_map *b, const char *kernel) {
    AK_REQUIRE(
        ak_same_shape(a, b), "%s: maps of %d x %d x %d x %d and %d x %d x %d x %d", kernel, a->n, a->c, a->h, a->w,
        b->n, b->c, b->h, b->w);
    AK_REQUIRE(
        a->data != b->data || a->dtype == b->dtype, "%s: one map read and written as different element types", kernel);
}

#endif
