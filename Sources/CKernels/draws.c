// Counter-based random words by index and normal numbers: the entry points.
#include <math.h>

#include "vector.h"

/// The words of 16 blocks in a row make up the words of 64 indices.
enum { AK_DRAW_BLOCKS = 16, AK_DRAW_INDICES = 4 * AK_DRAW_BLOCKS };

// The definition has two roundings where a fused operation has one.
#pragma STDC FP_CONTRACT OFF

/// Box and Muller's transform of two integers below 2^53.
static double scalar_normal(uint64_t a, uint64_t b) {
    const double u = 1 - (double)a * 0x1p-53, v = (double)b * 0x1p-53;
    const double t = 0x1.921fb54442d18p+2 * v;
    return sqrt(-2 * log(u)) * cos(t);
}

#define AK_KERNELS "draws.inc.h"
#include "each_isa.h"

void ak_indexed_words(const uint32_t key[2], uint32_t step, uint64_t first, size_t count, uint32_t *words) {
    uint32_t some[AK_DRAW_INDICES];
    const uint64_t last = first + count;
    for (uint64_t group = first / AK_DRAW_INDICES * AK_DRAW_INDICES; group < last; group += AK_DRAW_INDICES) {
        const uint64_t from = group < first ? first : group;
        const uint64_t to = last - group < AK_DRAW_INDICES ? last : group + AK_DRAW_INDICES;
        AK_DISPATCH(philox_words)(key, step, group / 4, some);
        memcpy(words + (from - first), some + (from - group), (to - from) * sizeof *some);
    }
}

size_t ak_indices_below(
    const uint32_t key[2], uint32_t step, uint64_t first, size_t count, uint32_t threshold, int32_t *chosen) {
    uint32_t words[1024];
    size_t found = 0;
    for (size_t start = 0; start < count; start += 1024) {
        const size_t some = count - start < 1024 ? count - start : 1024;
        ak_indexed_words(key, step, first + start, some, words);
        for (size_t i = 0; i < some; i++) {
            chosen[found] = (int32_t)(start + i);
            found += words[i] < threshold;
        }
    }
    return found;
}

void ak_keyed_normals(
    const uint32_t key[2], uint32_t step, uint64_t index, size_t count, double deviation, float *values) {
    float some[16];
    for (size_t i = 0; i < count; i += 16) {
        const size_t rest = count - i < 16 ? count - i : 16;
        AK_DISPATCH(normals)(key, step, index, (uint32_t)i, deviation, rest == 16 ? values + i : some);
        if (rest < 16) memcpy(values + i, some, rest * sizeof *some);
    }
}
