// Speed of the convolution kernels on the shapes of IResNet-18 and MobileFaceNet, against the peak of a loop of fused
// multiply-adds measured in the same run (other programs on the machine slow both).
//
//     make -C Benchmarks/kernels && Benchmarks/kernels/convolutions [threads [batch [filter]]]
//
// GF/s counts the multiplications and additions of the direct convolution; % is against the peak of `threads` threads,
// so that Winograd's algorithm exceeds 100. With one thread, time is the thread's processor time, which other programs
// disturb less. For depthwise convolutions GB/s counts what must move: inputs and outputs
// once, halo included. The best of several runs is shown.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "acuity_kernels.h"

typedef struct {
    const char *network;
    bool stem;
    ak_conv conv;
} shape;

static const shape shapes[] = {
    {"mobilefacenet 1x1", false, {64, 128, 1, 1, 1, 0, 1, 56, 56}},
    {"mobilefacenet 1x1", false, {128, 64, 1, 1, 1, 0, 1, 28, 28}},
    {"mobilefacenet 1x1", false, {128, 256, 1, 1, 1, 0, 1, 28, 28}},
    {"mobilefacenet 1x1", false, {128, 256, 1, 1, 1, 0, 1, 14, 14}},
    {"mobilefacenet 1x1", false, {256, 128, 1, 1, 1, 0, 1, 14, 14}},
    {"mobilefacenet 1x1", false, {128, 512, 1, 1, 1, 0, 1, 7, 7}},
    {"iresnet 1x1 s2", false, {64, 128, 1, 1, 2, 0, 1, 56, 56}},
    {"iresnet 1x1 s2", false, {256, 512, 1, 1, 2, 0, 1, 14, 14}},
    {"depthwise", false, {64, 64, 3, 3, 1, 1, 64, 56, 56}},
    {"depthwise", false, {128, 128, 3, 3, 1, 1, 128, 28, 28}},
    {"depthwise", false, {256, 256, 3, 3, 1, 1, 256, 14, 14}},
    {"depthwise s2", false, {128, 128, 3, 3, 2, 1, 128, 56, 56}},
    {"depthwise s2", false, {256, 256, 3, 3, 2, 1, 256, 28, 28}},
    {"depthwise 7x7", false, {512, 512, 7, 7, 1, 0, 512, 7, 7}},
    {"iresnet 3x3", false, {64, 64, 3, 3, 1, 1, 1, 112, 112}},
    {"iresnet 3x3", false, {64, 64, 3, 3, 1, 1, 1, 56, 56}},
    {"iresnet 3x3", false, {128, 128, 3, 3, 1, 1, 1, 28, 28}},
    {"iresnet 3x3", false, {256, 256, 3, 3, 1, 1, 1, 14, 14}},
    {"iresnet 3x3", false, {512, 512, 3, 3, 1, 1, 1, 7, 7}},
    {"stem", true, {3, 64, 3, 3, 1, 1, 1, 112, 112}},
    {"stem s2", true, {3, 64, 3, 3, 2, 1, 1, 112, 112}},
    {"iresnet 3x3 s2", false, {64, 64, 3, 3, 2, 1, 1, 112, 112}},
    {"iresnet 3x3 s2", false, {128, 128, 3, 3, 2, 1, 1, 56, 56}},
    {"iresnet 3x3 s2", false, {256, 256, 3, 3, 2, 1, 1, 28, 28}},
    {"iresnet 3x3 s2", false, {512, 512, 3, 3, 2, 1, 1, 14, 14}},
};

static clockid_t clock_used = CLOCK_MONOTONIC;
static double now(void) {
    struct timespec t;
    clock_gettime(clock_used, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static unsigned state = 1;
static float next_random(void) {
    state = state * 1664525u + 1013904223u;
    return (float)(state >> 8) / (1 << 23) - 1;
}

static void *memory(size_t bytes) {
    bytes = (bytes + (2 << 20) - 1) / (2 << 20) * (2 << 20);
    void *p = aligned_alloc(2 << 20, bytes);
    if (!p) abort();
    madvise(p, bytes, MADV_HUGEPAGE);
    memset(p, 0, bytes);
    return p;
}

static ak_map random_map(int n, int c, int h, int w, int halo) {
    ak_map m = ak_map_make(memory(ak_map_bytes(AK_F32, n, c, h, w, halo)), AK_F32, n, c, h, w, halo);
    for (int i = 0; i < n; i++)
        for (int b = 0; b < (c + 15) / 16; b++)
            for (int y = 0; y < h; y++)
                for (int x = 0; x < w * 16 && b * 16 + x % 16 < c; x++)
                    ((float *)m.data)[i * m.image + b * m.block + (y + halo) * m.row + halo * 16 + x] = next_random();
    return m;
}

#if defined(__x86_64__)
#define VECTOR_BYTES 64
#define TARGET __attribute__((target("avx512f"), noinline))
#else
#define VECTOR_BYTES 16
#define TARGET __attribute__((noinline))
#endif
typedef float vector __attribute__((vector_size(VECTOR_BYTES)));
enum { PEAK_LOOPS = 2000000, PEAK_SUMS = 14 };

/// Independent fused multiply-adds.
TARGET static void peak_part(void *context, int part, int parts) {
    (void)parts;
    vector sums[PEAK_SUMS], a = {1.0f}, b = {1e-9f};
    for (int i = 0; i < PEAK_SUMS; i++) sums[i] = a * (float)i;
    for (long n = 0; n < PEAK_LOOPS; n++) {
#pragma clang loop unroll(full)
        for (int i = 0; i < PEAK_SUMS; i++) {
            sums[i] = __builtin_elementwise_fma(sums[i], a, b);
            __asm__ volatile("" : "+v"(sums[i]));
        }
    }
    float total = 0;
    for (int i = 0; i < PEAK_SUMS; i++) total += sums[i][0];
    ((float *)context)[part * 16] = total;
}

static double peak(ak_pool *pool) {
    static float sink[16 * 1024];
    double best = 0, flops = 2.0 * VECTOR_BYTES / 4 * PEAK_SUMS * PEAK_LOOPS * ak_pool_threads(pool);
    for (int i = 0; i < 5; i++) {
        double t = now();
        ak_pool_run(pool, peak_part, sink);
        best = fmax(best, flops / (now() - t));
    }
    return best;
}

typedef struct {
    ak_pool *pool;
    const shape *s;
    int n;
    ak_map x, y, dx, dy;
    float *images, *weights, *dw;
    void *packed, *workspace;
} run;

static void forward(run *r) {
    if (r->s->stem) ak_stem_forward(r->pool, &r->s->conv, r->images, r->n, r->weights, r->y, r->workspace);
    else ak_conv_forward(r->pool, &r->s->conv, r->x, r->packed, r->y, r->workspace);
}
static void backward_data(run *r) {
    ak_conv_backward_data(r->pool, &r->s->conv, r->dy, r->packed, r->dx, false, r->workspace);
}
static void backward_weights(run *r) {
    if (r->s->stem)
        ak_stem_backward_weights(r->pool, &r->s->conv, r->images, r->n, r->dy, r->dw, false, r->workspace);
    else ak_conv_backward_weights(r->pool, &r->s->conv, r->x, r->dy, r->dw, false, r->workspace);
}
static void pack(run *r) { ak_conv_pack(r->pool, &r->s->conv, r->weights, r->packed); }

/// Seconds of the fastest of several calls.
static double fastest(void (*body)(run *), run *r) {
    double best = 1e9, spent = 0;
    body(r);
    for (int i = 0; i < 40 && (i < 5 || spent < 0.4); i++) {
        double t = now();
        body(r);
        t = now() - t;
        spent += t;
        best = fmin(best, t);
    }
    return best;
}

static void measure(const shape *s, int n, ak_pool *pool) {
    const ak_conv *v = &s->conv;
    int threads = ak_pool_threads(pool), oh = ak_conv_out_h(v), ow = ak_conv_out_w(v);
    size_t weights = (size_t)v->k * (size_t)(v->c / v->groups) * (size_t)(v->kh * v->kw) * 4;
    run r = {.pool = pool, .s = s, .n = n, .weights = memory(weights), .dw = memory(weights)};
    for (size_t i = 0; i < weights / 4; i++) r.weights[i] = 0.05f * next_random();
    int halo = v->pad || v->h > 7;
    r.y = random_map(n, v->k, oh, ow, halo);
    r.dy = random_map(n, v->k, oh, ow, halo);
    r.x = random_map(n, v->c, v->h, v->w, halo);
    r.dx = random_map(n, v->c, v->h, v->w, halo);
    size_t plain = (size_t)n * (size_t)(v->c * v->h * v->w) * 4;
    r.images = memory(plain);
    ak_map_to_nchw(pool, r.x, r.images);
    r.workspace = memory(s->stem ? ak_stem_workspace_bytes(v, n, threads) : ak_conv_workspace_bytes(v, n, threads));
    r.packed = memory(s->stem ? 64 : ak_conv_packed_bytes(v));
    double flops = 2.0 * n * v->k * (v->c / v->groups) * v->kh * v->kw * oh * ow, top = peak(pool);
    double bytes =
        (double)(ak_map_bytes(AK_F32, n, v->k, oh, ow, halo) + ak_map_bytes(AK_F32, n, v->c, v->h, v->w, halo));
    printf("%-18s %3d->%3d @%3d  peak %5.1f |", s->network, v->c, v->k, v->h, top * 1e-9);
    double packing = 0;
    if (!s->stem) {
        pack(&r);
        packing = fastest(pack, &r);
    }
    void (*const bodies[])(run *) = {forward, s->stem ? NULL : backward_data, backward_weights};
    const char *const names[] = {"fwd", "bwd-d", "bwd-w"};
    for (int i = 0; i < 3; i++) {
        if (!bodies[i]) continue;
        double t = fastest(bodies[i], &r);
        if (v->groups > 1) printf(" %s %6.3f ms %5.1f GB/s |", names[i], t * 1e3, bytes / t * 1e-9);
        else printf(" %s %6.2f ms %5.1f GF/s %3.0f%% |", names[i], t * 1e3, flops / t * 1e-9, 100 * flops / t / top);
    }
    printf(" pack %.3f ms\n", packing * 1e3);
    fflush(stdout);
    void *blocks[] = {r.x.data, r.y.data, r.dx.data, r.dy.data, r.images, r.weights, r.dw, r.packed, r.workspace};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) free(blocks[i]);
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 2, n = argc > 2 ? atoi(argv[2]) : 32;
    ak_pool *pool = ak_pool_create(threads, NULL);
    if (threads == 1) clock_used = CLOCK_THREAD_CPUTIME_ID;
    printf("%s, %d threads, batch %d\n", ak_isa_name(ak_isa_current()), threads, n);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (argc <= 3 || strstr(shapes[i].network, argv[3])) measure(&shapes[i], n, pool);
    ak_pool_destroy(pool);
}
