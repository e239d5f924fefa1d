// Affine maps, additions, subsampling and dropout over feature maps: the entry points.
#include "elementwise_tasks.h"

#include <math.h>

typedef struct {
    ak_map x, y, residual;
    const float *scale, *shift, *slope;
    bool stream; // y is written past the caches
} affine_task;

typedef struct {
    ak_map a, b, y;
    bool stream;
} add_task;

typedef struct {
    ak_map x, y;
    bool accumulate;
} subsample_task;

typedef struct {
    ak_map x, y;
    int32_t threshold; // an element is kept when the high 24 bits of its random word reach this
    float scale;
    uint64_t key, first_image;
} dropout_task;

#define AK_KERNELS "elementwise.inc.h"
#include "each_isa.h"

void ak_affine(
    ak_pool *pool, ak_map x, const float *scale, const float *shift, const float *slope, ak_map residual, ak_map y) {
    ak_require_alike(x, y, "ak_affine");
    if (residual.data != NULL) ak_require_alike(residual, y, "ak_affine");
    affine_task task = {
        .x = x,
        .y = y,
        .residual = residual,
        .scale = scale,
        .shift = shift,
        .slope = slope,
        .stream = x.data != y.data && residual.data != y.data && ak_streams(y),
    };
    ak_pool_run(pool, AK_DISPATCH(affine), &task);
}

void ak_add(ak_pool *pool, ak_map a, ak_map b, ak_map y) {
    ak_require_alike(a, y, "ak_add");
    ak_require_alike(b, y, "ak_add");
    const bool stream = a.data != y.data && b.data != y.data && ak_streams(y);
    ak_pool_run(pool, AK_DISPATCH(add), &(add_task){a, b, y, stream});
}

static void require_half(ak_map full, ak_map half, const char *kernel) {
    AK_REQUIRE(
        full.n == half.n && full.c == half.c && half.h == (full.h + 1) / 2 && half.w == (full.w + 1) / 2,
        "%s: %d x %d x %d x %d is not every second row and column of %d x %d x %d x %d", kernel, half.n, half.c, half.h,
        half.w, full.n, full.c, full.h, full.w);
    AK_REQUIRE(full.dtype == half.dtype, "%s: maps of different element types", kernel);
}

void ak_subsample_forward(ak_pool *pool, ak_map x, ak_map y) {
    require_half(x, y, "ak_subsample_forward");
    ak_pool_run(pool, AK_DISPATCH(subsample_forward), &(subsample_task){x, y, false});
}

void ak_subsample_backward(ak_pool *pool, ak_map dy, ak_map dx, bool accumulate) {
    require_half(dx, dy, "ak_subsample_backward");
    ak_pool_run(pool, AK_DISPATCH(subsample_backward), &(subsample_task){dy, dx, accumulate});
}

void ak_dropout(ak_pool *pool, ak_map x, float probability, uint64_t key, uint64_t first_image, ak_map y) {
    ak_require_alike(x, y, "ak_dropout");
    AK_REQUIRE(probability >= 0 && probability <= 1, "ak_dropout: probability %g", (double)probability);
    dropout_task task = {
        .x = x,
        .y = y,
        .threshold = (int32_t)ceilf(probability * 0x1p24f),
        .scale = probability < 1 ? 1 / (1 - probability) : 0,
        .key = key,
        .first_image = first_image,
    };
    ak_pool_run(pool, AK_DISPATCH(dropout), &task);
}
