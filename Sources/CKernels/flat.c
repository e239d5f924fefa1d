// Flat vectors and rows of a matrix: the entry points.
#include "vector.h"

typedef struct {
    const float *x;
    float *y, *v;
    const uint16_t *x16;
    uint16_t *y16;
    size_t count;
    float scale, rate, momentum, decay;
    double *partial; // [parts]
} flat_task;

/// The optimizer's step on rows of a matrix; see ak_sgd_rows.
typedef struct {
    flat_task constants; // scale, rate, momentum, decay
    float *p, *v;
    const float *grad;
    const int32_t *targets, *sources;
    const float *inverse; // of ak_sgd_centres
    size_t rows, columns;
} row_sgd_task;

typedef struct {
    float *p, *m, *s;
    const float *grad;
    size_t count;
    ak_adam_constants constants;
} adam_task;

/// Rows of an n x c matrix, each cut into `pieces` of `width` columns (the last may be shorter).
typedef struct {
    float *x;
    int n, c;
    long ld;
    int pieces, width;
    const float *m;
    float *result;
    double *partial; // [n][pieces], or NULL when a row is one piece: then the result is written at once
} row_task;

#define AK_KERNELS "flat.inc.h"
#include "each_isa.h"

double ak_sum_squares(ak_pool *pool, const float *x, size_t count) {
    const int parts = ak_pool_threads(pool);
    double partial[parts], total = 0;
    ak_pool_run(pool, AK_DISPATCH(sum_squares), &(flat_task){.x = x, .count = count, .partial = partial});
    for (int part = 0; part < parts; part++) total += partial[part];
    return total;
}

bool ak_all_finite(ak_pool *pool, const float *x, size_t count) {
    const int parts = ak_pool_threads(pool);
    double partial[parts];
    ak_pool_run(pool, AK_DISPATCH(all_finite), &(flat_task){.x = x, .count = count, .partial = partial});
    for (int part = 0; part < parts; part++)
        if (partial[part] == 0) return false;
    return true;
}

void ak_sgd(
    ak_pool *pool, float *p, float *v, const float *grad, size_t count, float scale, float lr, float momentum,
    float decay) {
    flat_task task = {
        .x = grad, .y = p, .v = v, .count = count, .scale = scale, .rate = lr, .momentum = momentum, .decay = decay};
    ak_pool_run(pool, AK_DISPATCH(sgd), &task);
}

void ak_adam(
    ak_pool *pool, float *p, float *m, float *s, const float *grad, size_t count, const ak_adam_constants *constants) {
    adam_task task = {.p = p, .m = m, .s = s, .grad = grad, .count = count, .constants = *constants};
    ak_pool_run(pool, AK_DISPATCH(adam), &task);
}

void ak_sgd_rows(
    ak_pool *pool, float *p, float *v, const float *grad, const int32_t *targets, const int32_t *sources, size_t rows,
    size_t columns, float scale, float lr, float momentum, float decay) {
    row_sgd_task task = {
        .constants = {.scale = scale, .rate = lr, .momentum = momentum, .decay = decay},
        .p = p, .v = v, .grad = grad, .targets = targets, .sources = sources, .rows = rows, .columns = columns};
    ak_pool_run(pool, AK_DISPATCH(sgd_rows), &task);
}

void ak_sgd_centres(
    float *p, float *v, const float *grad, const int32_t *targets, const float *inverse, size_t rows, size_t columns,
    float lr, float momentum, float decay) {
    row_sgd_task task = {
        .constants = {.scale = 1, .rate = lr, .momentum = momentum, .decay = decay},
        .p = p, .v = v, .grad = grad, .targets = targets, .inverse = inverse, .rows = rows, .columns = columns};
    AK_DISPATCH(sgd_centres)(&task);
}

void ak_accumulate(ak_pool *pool, const float *x, float *y, size_t count) {
    ak_pool_run(pool, AK_DISPATCH(accumulate), &(flat_task){.x = x, .y = y, .count = count});
}

void ak_scale(ak_pool *pool, float *x, float factor, size_t count) {
    ak_pool_run(pool, AK_DISPATCH(scale), &(flat_task){.y = x, .count = count, .scale = factor});
}

void ak_bf16_from_f32(ak_pool *pool, const float *x, uint16_t *y, size_t count) {
    ak_pool_run(pool, AK_DISPATCH(bf16_from_f32), &(flat_task){.x = x, .y16 = y, .count = count});
}

void ak_f32_from_bf16(ak_pool *pool, const uint16_t *x, float *y, size_t count) {
    ak_pool_run(pool, AK_DISPATCH(f32_from_bf16), &(flat_task){.x16 = x, .y = y, .count = count});
}

/// Rows are cut only when there are too few of them to keep all parts busy, and never below 1024 columns; then
/// n * pieces is less than 8 * parts.
static row_task rows_task(const float *x, int n, int c, long ld, int parts) {
    row_task task = {.x = (float *)x, .n = n, .c = c, .ld = ld, .pieces = 1, .width = c};
    if (parts == 1 || n == 0 || n >= 4 * parts || c < 2048) return task;
    const int wanted = ak_min((4 * parts + n - 1) / n, c / 1024);
    task.width = ((c + wanted - 1) / wanted + 15) / 16 * 16;
    task.pieces = (c + task.width - 1) / task.width;
    return task;
}

void ak_row_max(ak_pool *pool, const float *x, int n, int c, long ld, float *maximum) {
    const int parts = ak_pool_threads(pool);
    row_task task = rows_task(x, n, c, ld, parts);
    double partial[8 * parts];
    task.result = maximum;
    task.partial = task.pieces > 1 ? partial : NULL;
    ak_pool_run(pool, AK_DISPATCH(row_max), &task);
    for (int i = 0; task.partial && i < n; i++) {
        double largest = partial[(long)i * task.pieces];
        for (int j = 1; j < task.pieces; j++) {
            const double other = partial[(long)i * task.pieces + j];
            if (other > largest) largest = other;
        }
        maximum[i] = (float)largest;
    }
}

void ak_row_exp_sum(ak_pool *pool, float *x, int n, int c, long ld, const float *m, float *sum) {
    const int parts = ak_pool_threads(pool);
    row_task task = rows_task(x, n, c, ld, parts);
    double partial[8 * parts];
    task.m = m;
    task.result = sum;
    task.partial = task.pieces > 1 ? partial : NULL;
    ak_pool_run(pool, AK_DISPATCH(row_exp_sum), &task);
    for (int i = 0; task.partial && i < n; i++) {
        double total = 0;
        for (int j = 0; j < task.pieces; j++) total += partial[(long)i * task.pieces + j];
        sum[i] = (float)total;
    }
}

void ak_row_inverse_norm(ak_pool *pool, const float *x, int n, int d, long ld, float *inverse) {
    row_task task = {.x = (float *)x, .n = n, .c = d, .ld = ld, .pieces = 1, .width = d, .result = inverse};
    ak_pool_run(pool, AK_DISPATCH(row_inverse_norm), &task);
}
