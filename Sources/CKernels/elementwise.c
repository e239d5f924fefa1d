// Additions, subsampling and dropout over feature maps: the entry points.
#include "elementwise_tasks.h"

#include <math.h>

typedef struct {
    ak_source x, residual; // residual.map.data NULL: none
    ak_map y;
    ak_moments *moments;
    bool stream; // y is written past the caches
} merge_task;

typedef struct {
    ak_source x;
    ak_map y;
} subsample_forward_task;

typedef struct {
    ak_map dy, dx;
    bool accumulate;
} subsample_backward_task;

typedef struct {
    ak_map x, y;
    int32_t threshold; // an element is kept when the high 24 bits of its random word reach this
    float scale;
    uint64_t key, first_image;
} dropout_task;

#define AK_KERNELS "elementwise.inc.h"
#include "each_isa.h"

void ak_merge(ak_pool *pool, ak_source x, ak_source residual, ak_map y, ak_moments *moments) {
    ak_require_alike(&x.map, &y, "ak_merge");
    if (residual.map.data) ak_require_alike(&residual.map, &y, "ak_merge");
    const bool stream = x.map.data != y.data && residual.map.data != y.data && ak_streams(&y);
    ak_pool_run(pool, AK_DISPATCH(merge), &(merge_task){x, residual, y, moments, stream});
}

void ak_add(ak_pool *pool, ak_map a, ak_map b, ak_map y) {
    ak_merge(pool, (ak_source){.map = a}, (ak_source){.map = b}, y, NULL);
}

static void require_half(const ak_map *full, const ak_map *half, const char *kernel) {
    AK_REQUIRE(
        full->n == half->n && full->c == half->c && half->h == (full->h + 1) / 2 && half->w == (full->w + 1) / 2,
        "%s: %d x %d x %d x %d is not every second row and column of %d x %d x %d x %d", kernel, half->n, half->c,
        half->h, half->w, full->n, full->c, full->h, full->w);
}

void ak_subsample_forward(ak_pool *pool, ak_source x, ak_map y) {
    require_half(&x.map, &y, "ak_subsample_forward");
    ak_pool_run(pool, AK_DISPATCH(subsample_forward), &(subsample_forward_task){x, y});
}

void ak_subsample_backward(ak_pool *pool, ak_map dy, ak_map dx, bool accumulate) {
    require_half(&dx, &dy, "ak_subsample_backward");
    ak_pool_run(pool, AK_DISPATCH(subsample_backward), &(subsample_backward_task){dy, dx, accumulate});
}

void ak_dropout(ak_pool *pool, ak_map x, float probability, uint64_t key, uint64_t first_image, ak_map y) {
    ak_require_alike(&x, &y, "ak_dropout");
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
