// Interleaved bytes to planes of floats. The compiler vectorises these loops; on x86-64 that pays from AVX2 on, where bytes
// can be shuffled across a register.
#include "acuity_codecs.h"

enum { PIECE = 128 };

/// One colour of a piece; mirroring reverses it on the way, which vector units do while they widen.
static inline __attribute__((always_inline)) void normalise(
    const uint8_t *bytes, int count, bool mirrored, float mean, float scale, float *restrict values)
{
    if (mirrored) {
        for (int i = 0; i < count; i++) values[i] = ((float)bytes[count - 1 - i] - mean) / scale;
    } else {
        for (int i = 0; i < count; i++) values[i] = ((float)bytes[i] - mean) / scale;
    }
}

/// Both branches of the callers are this, compiled for other instruction sets.
static inline __attribute__((always_inline)) void line_to_planes(
    const uint8_t *rgb, int width, bool mirrored, float mean, float scale, float *restrict first, float *restrict second,
    float *restrict third)
{
    uint8_t a[PIECE], b[PIECE], c[PIECE];
    for (int x = 0; x < width; x += PIECE) {
        const int count = width - x < PIECE ? width - x : PIECE;
        const uint8_t *from = rgb + 3 * (mirrored ? width - x - count : x);
        for (int i = 0; i < count; i++) {
            a[i] = from[3 * i];
            b[i] = from[3 * i + 1];
            c[i] = from[3 * i + 2];
        }
        normalise(a, count, mirrored, mean, scale, first + x);
        normalise(b, count, mirrored, mean, scale, second + x);
        normalise(c, count, mirrored, mean, scale, third + x);
    }
}

static inline __attribute__((always_inline)) void image_to_planes(
    const uint8_t *rgb, size_t row_bytes, int width, int height, bool mirrored, float mean, float scale, float *first,
    float *second, float *third)
{
    for (int y = 0; y < height; y++) {
        const size_t start = (size_t)y * (size_t)width;
        line_to_planes(
            rgb + (size_t)y * row_bytes, width, mirrored, mean, scale, first + start, second + start, third + start);
    }
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void image_to_planes_avx2(
    const uint8_t *rgb, size_t row_bytes, int width, int height, bool mirrored, float mean, float scale, float *first,
    float *second, float *third)
{
    image_to_planes(rgb, row_bytes, width, height, mirrored, mean, scale, first, second, third);
}
#endif

void ac_planes(
    const uint8_t *rgb, size_t row_bytes, int width, int height, bool mirrored, float mean, float scale, float *first,
    float *second, float *third)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        image_to_planes_avx2(rgb, row_bytes, width, height, mirrored, mean, scale, first, second, third);
        return;
    }
#endif
    image_to_planes(rgb, row_bytes, width, height, mirrored, mean, scale, first, second, third);
}
