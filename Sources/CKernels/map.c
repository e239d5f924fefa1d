// Feature maps in the blocked layout: shapes, and the way to and from plain NCHW.
#include <string.h>

#include "internal.h"

ak_map ak_map_make(void *data, ak_dtype dtype, int n, int c, int h, int w) {
    AK_REQUIRE(n >= 0 && c >= 1 && h >= 1 && w >= 1, "map of %d x %d x %d x %d", n, c, h, w);
    ak_map m = {.data = data, .dtype = dtype, .n = n, .c = c, .h = h, .w = w};
    m.row = (long)w * 16;
    m.block = h * m.row;
    m.image = ak_blocks(c) * m.block;
    return m;
}

static size_t element_bytes(ak_dtype dtype) { return dtype == AK_BF16 ? 2 : 4; }

size_t ak_map_bytes(ak_dtype dtype, int n, int c, int h, int w) {
    ak_map m = ak_map_make(NULL, dtype, n, c, h, w);
    return (size_t)n * (size_t)m.image * element_bytes(dtype);
}

typedef struct {
    const float *plain;
    float *plain_out;
    ak_map map;
} convert_job;

static uint16_t bf16_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)((bits >> 16) | 0x40); // NaN stays NaN
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static float float_from_bf16(uint16_t value) {
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, 4);
    return result;
}

static void from_nchw_part(void *context, int part, int parts) {
    const convert_job *job = context;
    const ak_map *m = &job->map;
    int blocks = ak_blocks(m->c);
    long plane = (long)m->h * m->w;
    for (long i = ak_begin((long)m->n * blocks, part, parts); i < ak_begin((long)m->n * blocks, part + 1, parts); i++) {
        int n = (int)(i / blocks), block = (int)(i % blocks), lanes = ak_min(16, m->c - block * 16);
        const float *source = job->plain + ((long)n * m->c + block * 16) * plane;
        long base = ak_plane(m, n, block);
        for (int y = 0; y < m->h; y++)
            for (int x = 0; x < m->w; x++) {
                long at = base + y * m->row + x * 16;
                for (int lane = 0; lane < 16; lane++) {
                    float value = lane < lanes ? source[lane * plane + (long)y * m->w + x] : 0;
                    if (m->dtype == AK_F32) ((float *)m->data)[at + lane] = value;
                    else ((uint16_t *)m->data)[at + lane] = bf16_from_float(value);
                }
            }
    }
}

void ak_map_from_nchw(ak_pool *pool, const float *plain, ak_map y) {
    ak_pool_run(pool, from_nchw_part, &(convert_job){plain, NULL, y});
}

static void to_nchw_part(void *context, int part, int parts) {
    const convert_job *job = context;
    const ak_map *m = &job->map;
    long planes = (long)m->n * m->c, plane = (long)m->h * m->w;
    for (long i = ak_begin(planes, part, parts); i < ak_begin(planes, part + 1, parts); i++) {
        int n = (int)(i / m->c), c = (int)(i % m->c);
        float *target = job->plain_out + i * plane;
        long base = ak_plane(m, n, c / 16) + c % 16;
        for (int y = 0; y < m->h; y++)
            for (int x = 0; x < m->w; x++) {
                long at = base + y * m->row + x * 16;
                target[(long)y * m->w + x] =
                    m->dtype == AK_F32 ? ((float *)m->data)[at] : float_from_bf16(((uint16_t *)m->data)[at]);
            }
    }
}

void ak_map_to_nchw(ak_pool *pool, ak_map x, float *plain) {
    ak_pool_run(pool, to_nchw_part, &(convert_job){NULL, plain, x});
}

static void zero_part(void *context, int part, int parts) {
    const ak_map *m = context;
    long lines = (long)m->n * (m->image / 16);
    size_t line = 16 * element_bytes(m->dtype);
    long begin = ak_begin(lines, part, parts), end = ak_begin(lines, part + 1, parts);
    memset((char *)m->data + (size_t)begin * line, 0, (size_t)(end - begin) * line);
}

void ak_map_zero(ak_pool *pool, ak_map x) { ak_pool_run(pool, zero_part, &x); }
