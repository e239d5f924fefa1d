// Batch normalisation: the entry points.
#include "elementwise_tasks.h"

/// Count, mean and sum of squared deviations of 16 channels, as one part has seen them.
typedef struct {
    ak_dvec mean, m2;
    double count;
} ak_moments;

/// The sums of the backward pass for 16 channels, as one part has seen them: of g, g*(x - mean) and dy*z where z <= 0.
typedef struct {
    ak_dvec g, gx, slope;
} ak_sums;

typedef struct {
    ak_map x;
    ak_moments *moments; // [parts][blocks]
    float *mean, *variance;
} statistics_task;

typedef struct {
    ak_map x, dy;
    const float *mean, *invstd, *scale, *shift, *slope;
    ak_sums *sums; // [parts][blocks]
    float *dgamma, *dbeta, *dslope;
} reduce_task;

typedef struct {
    ak_map x, dy, dx;
    const float *scale, *shift, *slope, *a, *b, *d;
    bool accumulate, stream; // stream: dx is written past the caches
} apply_task;

#define AK_KERNELS "norm.inc.h"
#include "each_isa.h"

size_t ak_bn_workspace_bytes(int c, int n, int threads) {
    (void)n; // the partition is over rows of all images: one set of sums per thread
    const size_t each = sizeof(ak_sums) > sizeof(ak_moments) ? sizeof(ak_sums) : sizeof(ak_moments);
    return (size_t)ak_max(threads, 1) * (size_t)ak_blocks(c) * each;
}

void ak_bn_statistics(ak_pool *pool, ak_map x, float *mean, float *variance, void *workspace) {
    AK_REQUIRE(x.n >= 1, "ak_bn_statistics: statistics of no images");
    AK_REQUIRE((uintptr_t)workspace % 64 == 0, "ak_bn_statistics: the workspace is not aligned to 64 bytes");
    statistics_task task = {x, workspace, mean, variance};
    ak_pool_run(pool, AK_DISPATCH(statistics), &task);
    ak_pool_run(pool, AK_DISPATCH(statistics_fold), &task);
}

void ak_bn_backward_reduce(
    ak_pool *pool, ak_map x, ak_map dy, const float *mean, const float *invstd, const float *scale, const float *shift,
    const float *slope, float *dgamma, float *dbeta, float *dslope, void *workspace) {
    ak_require_alike(x, dy, "ak_bn_backward_reduce");
    AK_REQUIRE((uintptr_t)workspace % 64 == 0, "ak_bn_backward_reduce: the workspace is not aligned to 64 bytes");
    AK_REQUIRE(!slope || dslope, "ak_bn_backward_reduce: a slope but no place for its gradient");
    reduce_task task = {x, dy, mean, invstd, scale, shift, slope, workspace, dgamma, dbeta, dslope};
    ak_pool_run(pool, AK_DISPATCH(reduce), &task);
    ak_pool_run(pool, AK_DISPATCH(reduce_fold), &task);
}

void ak_bn_backward_apply(
    ak_pool *pool, ak_map x, ak_map dy, const float *scale, const float *shift, const float *slope, const float *a,
    const float *b, const float *d, ak_map dx, bool accumulate) {
    ak_require_alike(x, dy, "ak_bn_backward_apply");
    ak_require_alike(x, dx, "ak_bn_backward_apply");
    AK_REQUIRE(!accumulate || dx.data != dy.data, "ak_bn_backward_apply: adding to the gradient that is read");
    const bool stream = !accumulate && dx.data != dy.data && dx.data != x.data && ak_streams(dx);
    apply_task task = {x, dy, dx, scale, shift, slope, a, b, d, accumulate, stream};
    ak_pool_run(pool, AK_DISPATCH(apply), &task);
}
