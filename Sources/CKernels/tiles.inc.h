// A few pixels of one block of channels (see AK_TILE): read, treated and written. Included once per instruction set,
// after elementwise_tasks.h. Brings lanes.inc.h and fusion.inc.h.
//
// `count` is a compile-time constant at every call: AK_TILE, or 1 for what remains of a run.
#include "lanes.inc.h"
#include "fusion.inc.h"

AK_INLINE void AK_FN(read_tile)(ak_vec *v, const ak_map *map, long at, const int count) {
    if (map->dtype == AK_BF16) {
        AK_UNROLL for (int i = 0; i < count; i++) v[i] = AK_FN(lanes)(map->data, at + 16 * i, true);
    } else {
        AK_UNROLL for (int i = 0; i < count; i++) v[i] = AK_FN(lanes)(map->data, at + 16 * i, false);
    }
}

/// `stream`: past the caches; the map is fp32.
AK_INLINE void AK_FN(write_tile)(const ak_vec *v, const ak_map *map, long at, bool stream, const int count) {
    if (map->dtype == AK_BF16) {
        AK_UNROLL for (int i = 0; i < count; i++) AK_FN(put_lanes)(map->data, at + 16 * i, v[i], true);
    } else if (stream) {
        AK_UNROLL for (int i = 0; i < count; i++) ak_stream(ak_floats(map) + at + 16 * i, v[i]);
    } else {
        AK_UNROLL for (int i = 0; i < count; i++) AK_FN(put_lanes)(map->data, at + 16 * i, v[i], false);
    }
}

/// A source's pixels through its activation.
AK_INLINE void AK_FN(read_source)(
    ak_vec *v, const ak_source *x, long at, const AK_FN(norm) * n, ak_reading reading, const int count) {
    AK_FN(read_tile)(v, &x->map, at, count);
    if (reading == AK_PRELU) {
        AK_UNROLL for (int i = 0; i < count; i++) v[i] = AK_FN(activated)(v[i], n, AK_PRELU);
    } else if (reading == AK_AFFINE) {
        AK_UNROLL for (int i = 0; i < count; i++) v[i] = AK_FN(activated)(v[i], n, AK_AFFINE);
    }
}

// Sums run in two chains, so that an addition does not wait for the one before it.

typedef struct {
    AK_FN(stretch) chains[2];
} AK_FN(run_moments);

AK_INLINE AK_FN(run_moments) AK_FN(run_moments_begin)(const ak_moments *known, ak_vec first) {
    const AK_FN(stretch) empty = AK_FN(stretch_begin)(known, first);
    return (AK_FN(run_moments)){{empty, empty}};
}

AK_INLINE void AK_FN(run_moments_add)(AK_FN(run_moments) * run, const ak_vec *v, const int count) {
    AK_UNROLL for (int i = 0; i < count; i++) AK_FN(stretch_add)(&run->chains[i % 2], v[i]);
}

AK_INLINE void AK_FN(run_moments_end)(const AK_FN(run_moments) * run, int count, ak_moments *into) {
    AK_FN(stretch) both = run->chains[0];
    both.sum += run->chains[1].sum;
    both.squares += run->chains[1].squares;
    AK_FN(stretch_end)(&both, count, into);
}

typedef struct {
    AK_FN(partial_sums) chains[2];
} AK_FN(run_sums);

AK_INLINE void AK_FN(run_sums_add)(
    AK_FN(run_sums) * run, const ak_vec *g, const ak_reduction *r, const AK_FN(reducer) * reducer, long at,
    const int count) {
    ak_vec x[AK_TILE];
    AK_FN(read_tile)(x, &r->x, at, count);
    if (r->slope) {
        AK_UNROLL for (int i = 0; i < count; i++) AK_FN(reduce_lanes)(&run->chains[i % 2], g[i], x[i], reducer, true);
    } else {
        AK_UNROLL for (int i = 0; i < count; i++) AK_FN(reduce_lanes)(&run->chains[i % 2], g[i], x[i], reducer, false);
    }
}

AK_INLINE void AK_FN(run_sums_end)(const AK_FN(run_sums) * run, ak_sums *into) {
    AK_FN(partial_sums) both = run->chains[0];
    both.g += run->chains[1].g;
    both.gx += run->chains[1].gx;
    both.slope += run->chains[1].slope;
    AK_FN(partial_sums_end)(&both, into);
}
