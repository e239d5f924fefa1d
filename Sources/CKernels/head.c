// Products of some embeddings with very many class centres, which are read from memory once for each: the entry points.
//
// A matrix product in general copies both factors into an order of its own. Here one of them, the centres, is as large as
// memory, and each of its elements meets only N others: a copy would cost as much as a part of the work. So centres are
// read where they lie, the next ones are fetched while some are multiplied, and the embeddings are copied instead.
#include "vector.h"

/// Rows of a panel of transposed embeddings, components of a chunk of embeddings, and centres whose products are added
/// to the gradient of the embeddings before it is stored.
enum { AK_PANEL_ROWS = 32, AK_CHUNK = 64, AK_CENTRES = 64 };

typedef struct {
    const float *panels; // [N / 32][d][32], the last rows zero
    const float *chunks; // [d / 64][N][64]
    int n, d;
    const float *w; // c x d
    long c;
    float *z; // n x c: products, or their gradients
    long ld;
    float *inverse; // c, or NULL
    float *dx;      // n x d
    bool accumulate;
    float *p, *v;
    const int32_t *targets;
    const float *lengths; // 1/|p|, or NULL
    float rate, momentum, decay;
} head_task;

#define AK_KERNELS "head.inc.h"
#include "each_isa.h"

static size_t panel_floats(int n, int d) { return (size_t)((n + AK_PANEL_ROWS - 1) / AK_PANEL_ROWS) * AK_PANEL_ROWS * d; }

size_t ak_head_packed_floats(int n, int d) {
    const bool fits = n > 0 && n <= AK_HEAD_ROWS && d > 0 && d <= AK_HEAD_COMPONENTS && d % AK_CHUNK == 0;
    return fits ? panel_floats(n, d) + (size_t)n * d : 0;
}

void ak_head_pack(const float *x, int n, int d, float *packed) {
    float *chunks = packed + panel_floats(n, d);
    memset(packed, 0, panel_floats(n, d) * sizeof *packed);
    for (int i = 0; i < n; i++) {
        float *column = packed + (size_t)(i / AK_PANEL_ROWS) * AK_PANEL_ROWS * d + i % AK_PANEL_ROWS;
        for (int k = 0; k < d; k++) column[(size_t)k * AK_PANEL_ROWS] = x[(size_t)i * d + k];
        for (int k = 0; k < d; k += AK_CHUNK)
            memcpy(chunks + ((size_t)k * n + (size_t)i * AK_CHUNK), x + (size_t)i * d + k, AK_CHUNK * sizeof *x);
    }
}

static head_task packed_task(const float *packed, int n, int d) {
    AK_REQUIRE(ak_head_packed_floats(n, d) > 0, "%d embeddings of %d components cannot be packed", n, d);
    return (head_task){.panels = packed, .chunks = packed + panel_floats(n, d), .n = n, .d = d};
}

void ak_head_products(
    ak_pool *pool, const float *packed, int n, int d, const float *w, long c, float *z, long ld, float *inverse) {
    head_task task = packed_task(packed, n, d);
    task.w = w, task.c = c, task.z = z, task.ld = ld, task.inverse = inverse;
    ak_pool_run(pool, AK_DISPATCH(head_products), &task);
}

void ak_head_input_gradient(
    ak_pool *pool, const float *g, long ld, int n, int d, const float *w, long c, float *dx, bool accumulate) {
    AK_REQUIRE(d % AK_CHUNK == 0, "embeddings of %d components, which are no multiple of %d", d, AK_CHUNK);
    head_task task = {
        .n = n, .d = d, .w = w, .c = c, .z = (float *)g, .ld = ld, .dx = dx, .accumulate = accumulate};
    ak_pool_run(pool, AK_DISPATCH(head_input_gradient), &task);
}

void ak_head_update(
    ak_pool *pool, const float *packed, const float *g, long ld, int n, int d, long c, float *p, float *v,
    const int32_t *targets, const float *inverse, float lr, float momentum, float decay) {
    head_task task = packed_task(packed, n, d);
    task.c = c, task.z = (float *)g, task.ld = ld, task.p = p, task.v = v, task.targets = targets;
    task.lengths = inverse, task.rate = lr, task.momentum = momentum, task.decay = decay;
    ak_pool_run(pool, AK_DISPATCH(head_update), &task);
}
