// Additions, subsampling and dropout over feature maps.
#include "tiles.inc.h"

// --------------------------------------------------------------------------------------------------------------- merge

/// How the two sources of a merge are read, for one block of channels.
typedef struct {
    AK_FN(norm) x, residual;
    ak_reading reading_x, reading_residual;
} AK_FN(merge_norms);

AK_INLINE void AK_FN(merge_values)(
    ak_vec *v, const merge_task *t, const AK_FN(merge_norms) * norms, long at, const int count) {
    AK_FN(read_source)(v, &t->x, at, &norms->x, norms->reading_x, count);
    if (!t->residual.map.data) return;
    ak_vec other[AK_TILE];
    AK_FN(read_source)(other, &t->residual, at, &norms->residual, norms->reading_residual, count);
    AK_UNROLL for (int i = 0; i < count; i++) v[i] += other[i];
}

AK_INLINE void AK_FN(merge_tile)(
    const merge_task *t, const AK_FN(merge_norms) * norms, AK_FN(run_moments) * gathered, long at, const bool moments,
    const int count) {
    ak_vec v[AK_TILE];
    AK_FN(merge_values)(v, t, norms, at, count);
    AK_FN(write_tile)(v, &t->y, at, t->stream, count);
    if (moments) AK_FN(run_moments_add)(gathered, v, count);
}

AK_INLINE void AK_FN(merge_runs)(const merge_task *t, int part, int parts, const bool moments) {
    ak_moments *own = moments ? ak_moments_begin(t->moments, t->y.c, part) : NULL;
    AK_FN(merge_norms) norms = {
        .reading_x = ak_reading_of(&t->x.activation), .reading_residual = ak_reading_of(&t->residual.activation)};
    ak_walk walk = ak_walk_pixels(&t->y, part, parts);
    for (ak_run run; ak_walk_next(&walk, &run);) {
        norms.x = AK_FN(norm_of)(&t->x.activation, run.block, norms.reading_x);
        norms.residual = AK_FN(norm_of)(&t->residual.activation, run.block, norms.reading_residual);
        const long at = ak_run_at(&t->y, &run);
        AK_FN(run_moments) gathered;
        if (moments) {
            ak_vec first;
            AK_FN(merge_values)(&first, t, &norms, at, 1);
            gathered = AK_FN(run_moments_begin)(&own[run.block], first);
        }
        int i = 0;
        for (; i + AK_TILE <= run.count; i += AK_TILE)
            AK_FN(merge_tile)(t, &norms, &gathered, at + i * 16, moments, AK_TILE);
        for (; i < run.count; i++) AK_FN(merge_tile)(t, &norms, &gathered, at + i * 16, moments, 1);
        if (moments) AK_FN(run_moments_end)(&gathered, run.count, &own[run.block]);
    }
    if (t->stream) ak_stream_fence();
}

static void AK_FN(merge)(void *task, int part, int parts) {
    const merge_task t = *(const merge_task *)task;
    if (t.moments) AK_FN(merge_runs)(&t, part, parts, true);
    else AK_FN(merge_runs)(&t, part, parts, false);
}

// ----------------------------------------------------------------------------------------------------------- subsample

static void AK_FN(subsample_forward)(void *task, int part, int parts) {
    const subsample_forward_task t = *(const subsample_forward_task *)task;
    const ak_reading reading = ak_reading_of(&t.x.activation);
    ak_walk walk = ak_walk_rows(&t.y, part, parts);
    for (ak_run run; ak_walk_next(&walk, &run);) {
        const AK_FN(norm) n = AK_FN(norm_of)(&t.x.activation, run.block, reading);
        for (long y = run.first; y < run.first + run.count; y++) {
            const long from = ak_plane(&t.x.map, run.image, run.block) + 2 * y * t.x.map.row;
            const long to = ak_plane(&t.y, run.image, run.block) + y * t.y.row;
            for (int x = 0; x < t.y.w; x++) {
                ak_vec v;
                AK_FN(read_source)(&v, &t.x, from + 32 * x, &n, reading, 1);
                AK_FN(write_tile)(&v, &t.y, to + 16 * x, false, 1);
            }
        }
    }
}

static void AK_FN(subsample_backward)(void *task, int part, int parts) {
    const subsample_backward_task t = *(const subsample_backward_task *)task;
    const ak_vec zero = ak_zero();
    ak_walk walk = ak_walk_rows(&t.dx, part, parts);
    for (ak_run run; ak_walk_next(&walk, &run);) {
        for (long y = run.first; y < run.first + run.count; y++) {
            const long to = ak_plane(&t.dx, run.image, run.block) + y * t.dx.row;
            const long from = ak_plane(&t.dy, run.image, run.block) + y / 2 * t.dy.row;
            for (int x = 0; x < t.dx.w; x++) {
                const bool hit = y % 2 == 0 && x % 2 == 0;
                ak_vec v = zero, before = zero;
                if (hit) AK_FN(read_tile)(&v, &t.dy, from + 8 * x, 1);
                if (hit && t.accumulate) AK_FN(read_tile)(&before, &t.dx, to + 16 * x, 1);
                v += before;
                if (hit || !t.accumulate) AK_FN(write_tile)(&v, &t.dx, to + 16 * x, false, 1);
            }
        }
    }
}

// ------------------------------------------------------------------------------------------------------------- dropout

/// The first word of Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) for the
/// counters (low, high, 0, 0). Each 32-bit word is the low half of a 64-bit lane; what is in the high halves is
/// ignored, as the 32 x 32 bit multiplication does.
AK_INLINE ak_uvec AK_FN(philox_first_word)(ak_wvec counter, uint64_t key) {
    const uint64_t low = 0xFFFFFFFF;
    ak_wvec c0 = counter, c1 = counter >> 32, c2 = {0}, c3 = {0};
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const ak_wvec a = (c0 & low) * 0xD2511F53, b = (c2 & low) * 0xCD9E8D57;
        c0 = (b >> 32) ^ c1 ^ (uint64_t)k0;
        c1 = b;
        c2 = (a >> 32) ^ c3 ^ (uint64_t)k1;
        c3 = a;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return __builtin_convertvector(c0, ak_uvec);
}

static void AK_FN(dropout)(void *task, int part, int parts) {
    const dropout_task t = *(const dropout_task *)task;
    const ak_wvec lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const uint64_t area = (uint64_t)t.y.h * (uint64_t)t.y.w;
    ak_walk walk = ak_walk_pixels(&t.y, part, parts);
    for (ak_run run; ak_walk_next(&walk, &run);) {
        const uint64_t image = t.first_image + (uint64_t)run.image;
        const uint64_t channel = image * (uint64_t)t.y.c + 16 * (uint64_t)run.block;
        const ak_wvec index = (lane + channel) * area + (uint64_t)run.first;
        const long at = ak_run_at(&t.y, &run);
        for (int i = 0; i < run.count; i++) {
            const ak_uvec word = AK_FN(philox_first_word)(index + (uint64_t)i, t.key);
            const ak_ivec keep = (ak_ivec)(word >> 8) >= t.threshold;
            ak_vec v;
            AK_FN(read_tile)(&v, &t.x, at + 16 * i, 1);
            v = ak_select(keep, v * t.scale, ak_zero());
            AK_FN(write_tile)(&v, &t.y, at + 16 * i, false, 1);
        }
    }
}
