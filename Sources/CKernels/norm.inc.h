// Statistics of feature maps and of gradients, and the backward of norm and PReLU as a pass of its own.
#include "tiles.inc.h"

// ------------------------------------------------------------------------------------------------------------- moments

AK_INLINE void AK_FN(moments_tile)(const ak_map *x, AK_FN(run_moments) * gathered, long at, const int count) {
    ak_vec v[AK_TILE];
    AK_FN(read_tile)(v, x, at, count);
    AK_FN(run_moments_add)(gathered, v, count);
}

static void AK_FN(moments_of)(void *task, int part, int parts) {
    const moments_task t = *(const moments_task *)task;
    ak_moments *own = ak_moments_begin(t.moments, t.x.c, part);
    ak_walk walk = ak_walk_pixels(&t.x, part, parts);
    for (ak_run run; ak_walk_next(&walk, &run);) {
        const long at = ak_run_at(&t.x, &run);
        ak_vec first;
        AK_FN(read_tile)(&first, &t.x, at, 1);
        AK_FN(run_moments) gathered = AK_FN(run_moments_begin)(&own[run.block], first);
        int i = 0;
        for (; i + AK_TILE <= run.count; i += AK_TILE) AK_FN(moments_tile)(&t.x, &gathered, at + i * 16, AK_TILE);
        for (; i < run.count; i++) AK_FN(moments_tile)(&t.x, &gathered, at + i * 16, 1);
        AK_FN(run_moments_end)(&gathered, run.count, &own[run.block]);
    }
}

/// Merges what the threads have seen, in their order.
static void AK_FN(moments_fold)(void *task, int part, int parts) {
    const moments_fold_task t = *(const moments_fold_task *)task;
    const int last = (int)ak_begin(t.blocks, part + 1, parts);
    for (int block = (int)ak_begin(t.blocks, part, parts); block < last; block++) {
        ak_moments total = t.moments[block];
        for (int p = 1; p < t.threads; p++) {
            const ak_moments *other = &t.moments[(long)p * t.blocks + block];
            if (other->count > 0) AK_FN(merge_moments)(&total, other->count, other->mean, other->m2);
        }
        AK_REQUIRE(total.count > 0, "ak_moments_fold: moments of no values");
        const ak_vec variance = ak_narrow(total.m2 * (1 / total.count));
        ak_store(t.mean + block * 16, ak_narrow(total.mean));
        // Rounding can leave a constant channel just below zero; a NaN passes.
        ak_store(t.variance + block * 16, ak_select(variance < ak_zero(), ak_zero(), variance));
    }
}

// ---------------------------------------------------------------------------------------------------------------- sums

AK_INLINE void AK_FN(sums_tile)(
    const sums_task *t, const AK_FN(reducer) * reducer, AK_FN(run_sums) * sums, long at, const int count) {
    ak_vec g[AK_TILE];
    AK_FN(read_tile)(g, &t->g, at, count);
    AK_FN(run_sums_add)(sums, g, &t->reduction, reducer, at, count);
}

static void AK_FN(sums_of)(void *task, int part, int parts) {
    const sums_task t = *(const sums_task *)task;
    ak_sums *own = ak_sums_begin(t.reduction.sums, t.g.c, part);
    ak_walk walk = ak_walk_pixels(&t.g, part, parts);
    for (ak_run run; ak_walk_next(&walk, &run);) {
        const AK_FN(reducer) reducer = AK_FN(reducer_of)(&t.reduction, run.block, t.reduction.slope != NULL);
        AK_FN(run_sums) sums = {0};
        const long at = ak_run_at(&t.g, &run);
        int i = 0;
        for (; i + AK_TILE <= run.count; i += AK_TILE) AK_FN(sums_tile)(&t, &reducer, &sums, at + i * 16, AK_TILE);
        for (; i < run.count; i++) AK_FN(sums_tile)(&t, &reducer, &sums, at + i * 16, 1);
        AK_FN(run_sums_end)(&sums, &own[run.block]);
    }
}

static void AK_FN(sums_fold)(void *task, int part, int parts) {
    const sums_fold_task t = *(const sums_fold_task *)task;
    const int last = (int)ak_begin(t.blocks, part + 1, parts);
    for (int block = (int)ak_begin(t.blocks, part, parts); block < last; block++) {
        ak_sums total = t.sums[block];
        for (int p = 1; p < t.threads; p++) {
            const ak_sums *other = &t.sums[(long)p * t.blocks + block];
            total.g += other->g;
            total.gx += other->gx;
            total.slope += other->slope;
        }
        ak_store(t.dshift + block * 16, ak_narrow(total.g));
        ak_store(t.dscale + block * 16, ak_narrow(total.gx * ak_widen(ak_load(t.invstd + block * 16))));
        if (t.dslope) ak_store(t.dslope + block * 16, ak_narrow(total.slope));
    }
}

// --------------------------------------------------------------------------------------------------------------- chain

AK_INLINE void AK_FN(chain_tile)(
    const chain_task *t, const AK_FN(link) * link, const AK_FN(reducer) * reducer, AK_FN(run_sums) * sums, long at,
    const bool reduce, const int count) {
    ak_vec g[AK_TILE], other[AK_TILE];
    AK_FN(read_tile)(g, &t->g.map, at, count);
    if (t->g.chain.x.data) {
        AK_FN(read_tile)(other, &t->g.chain.x, at, count);
        if (t->g.chain.slope) {
            AK_UNROLL for (int i = 0; i < count; i++) g[i] = AK_FN(chained)(g[i], other[i], link, true);
        } else {
            AK_UNROLL for (int i = 0; i < count; i++) g[i] = AK_FN(chained)(g[i], other[i], link, false);
        }
    }
    if (t->accumulate) {
        AK_FN(read_tile)(other, &t->dx, at, count);
        AK_UNROLL for (int i = 0; i < count; i++) g[i] += other[i];
    }
    AK_FN(write_tile)(g, &t->dx, at, t->stream, count);
    if (reduce) AK_FN(run_sums_add)(sums, g, &t->reduction, reducer, at, count);
}

AK_INLINE void AK_FN(chain_runs)(const chain_task *t, int part, int parts, const bool reduce) {
    const ak_chain *chain = &t->g.chain;
    ak_sums *own = reduce ? ak_sums_begin(t->reduction.sums, t->dx.c, part) : NULL;
    ak_walk walk = ak_walk_pixels(&t->dx, part, parts);
    for (ak_run run; ak_walk_next(&walk, &run);) {
        AK_FN(link) link;
        AK_FN(reducer) reducer;
        AK_FN(run_sums) sums = {0};
        if (chain->x.data) link = AK_FN(link_of)(chain, run.block, chain->slope != NULL);
        if (reduce) reducer = AK_FN(reducer_of)(&t->reduction, run.block, t->reduction.slope != NULL);
        const long at = ak_run_at(&t->dx, &run);
        int i = 0;
        for (; i + AK_TILE <= run.count; i += AK_TILE)
            AK_FN(chain_tile)(t, &link, &reducer, &sums, at + i * 16, reduce, AK_TILE);
        for (; i < run.count; i++) AK_FN(chain_tile)(t, &link, &reducer, &sums, at + i * 16, reduce, 1);
        if (reduce) AK_FN(run_sums_end)(&sums, &own[run.block]);
    }
    if (t->stream) ak_stream_fence();
}

static void AK_FN(chain_apply)(void *task, int part, int parts) {
    const chain_task t = *(const chain_task *)task;
    if (t.reduction.sums) AK_FN(chain_runs)(&t, part, parts, true);
    else AK_FN(chain_runs)(&t, part, parts, false);
}
