// Statistics of feature maps and of gradients, and the backward of norm and PReLU as a pass of its own: the entry
// points.
#include "elementwise_tasks.h"

typedef struct {
    ak_map x;
    ak_moments *moments;
} moments_task;

typedef struct {
    const ak_moments *moments;
    int blocks, threads;
    float *mean, *variance;
} moments_fold_task;

typedef struct {
    ak_map g;
    ak_reduction reduction;
} sums_task;

typedef struct {
    const ak_sums *sums;
    int blocks, threads;
    const float *invstd;
    float *dscale, *dshift, *dslope; // dslope NULL: not wanted
} sums_fold_task;

typedef struct {
    ak_gradient g;
    ak_map dx;
    ak_reduction reduction;
    bool accumulate, stream; // stream: dx is written past the caches
} chain_task;

#define AK_KERNELS "norm.inc.h"
#include "each_isa.h"

/// Folding a few sets takes less than waking the other threads.
static ak_pool *folding_pool(ak_pool *pool, int blocks) {
    return blocks * ak_pool_threads(pool) > 512 ? pool : NULL;
}

size_t ak_moments_bytes(int c, int threads) {
    return (size_t)ak_max(threads, 1) * (size_t)ak_blocks(c) * sizeof(ak_moments);
}

void ak_moments_of(ak_pool *pool, ak_map x, ak_moments *moments) {
    AK_REQUIRE(moments && (uintptr_t)moments % 64 == 0, "ak_moments_of: no moments, or not aligned to 64 bytes");
    ak_pool_run(pool, AK_DISPATCH(moments_of), &(moments_task){x, moments});
}

void ak_moments_fold(ak_pool *pool, const ak_moments *moments, int c, float *mean, float *variance) {
    moments_fold_task task = {moments, ak_blocks(c), ak_pool_threads(pool), mean, variance};
    ak_pool_run(folding_pool(pool, task.blocks), AK_DISPATCH(moments_fold), &task);
}

size_t ak_sums_bytes(int c, int threads) {
    return (size_t)ak_max(threads, 1) * (size_t)ak_blocks(c) * sizeof(ak_sums);
}

static void require_reduction(const ak_map *g, const ak_reduction *reduction, const char *kernel) {
    ak_require_alike(g, &reduction->x, kernel);
    AK_REQUIRE((uintptr_t)reduction->sums % 64 == 0, "%s: sums not aligned to 64 bytes", kernel);
}

void ak_sums_of(ak_pool *pool, ak_map g, ak_reduction reduction) {
    AK_REQUIRE(reduction.sums, "ak_sums_of: a reduction without sums");
    require_reduction(&g, &reduction, "ak_sums_of");
    ak_pool_run(pool, AK_DISPATCH(sums_of), &(sums_task){g, reduction});
}

void ak_sums_fold(
    ak_pool *pool, const ak_reduction *reduction, const float *invstd, float *dscale, float *dshift, float *dslope) {
    AK_REQUIRE(!reduction->slope || dslope, "ak_sums_fold: a slope but no place for its gradient");
    sums_fold_task task = {
        reduction->sums, ak_blocks(reduction->x.c), ak_pool_threads(pool), invstd, dscale, dshift,
        reduction->slope ? dslope : NULL};
    ak_pool_run(folding_pool(pool, task.blocks), AK_DISPATCH(sums_fold), &task);
}

void ak_chain_apply(ak_pool *pool, ak_gradient g, ak_map dx, bool accumulate, ak_reduction reduction) {
    ak_require_alike(&g.map, &dx, "ak_chain_apply");
    if (g.chain.x.data) ak_require_alike(&g.chain.x, &dx, "ak_chain_apply");
    if (reduction.sums) require_reduction(&dx, &reduction, "ak_chain_apply");
    AK_REQUIRE(!accumulate || dx.data != g.map.data, "ak_chain_apply: adding to the gradient that is read");
    const bool stream = !accumulate && dx.data != g.map.data && dx.data != g.chain.x.data && ak_streams(&dx);
    ak_pool_run(pool, AK_DISPATCH(chain_apply), &(chain_task){g, dx, reduction, accumulate, stream});
}
