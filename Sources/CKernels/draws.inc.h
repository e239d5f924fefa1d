// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), sixteen blocks at a time, and
// standard normal numbers from it.
#include "lanes.inc.h"

typedef uint64_t AK_FN(wide) __attribute__((vector_size(128), aligned(64)));
typedef int64_t AK_FN(signed_wide) __attribute__((vector_size(128), aligned(64)));

/// The words of sixteen blocks, given counters and key.
AK_INLINE void AK_FN(philox)(const uint32_t key[2], ak_uvec *c0, ak_uvec *c1, ak_uvec *c2, ak_uvec *c3) {
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const AK_FN(wide) a = __builtin_convertvector(*c0, AK_FN(wide)) * 0xD2511F53u;
        const AK_FN(wide) b = __builtin_convertvector(*c2, AK_FN(wide)) * 0xCD9E8D57u;
        *c0 = __builtin_convertvector(b >> 32, ak_uvec) ^ *c1 ^ k0;
        *c1 = __builtin_convertvector(b, ak_uvec);
        *c2 = __builtin_convertvector(a >> 32, ak_uvec) ^ *c3 ^ k1;
        *c3 = __builtin_convertvector(a, ak_uvec);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/// words[4 * i + j] is word j of the block with counter (0, step, low and high word of first + i).
static void AK_FN(philox_words)(const uint32_t key[2], uint32_t step, uint64_t first, uint32_t *words) {
    AK_FN(wide) block;
    for (int i = 0; i < 16; i++) block[i] = first + (uint64_t)i;
    ak_uvec c0 = {0}, c1 = (ak_uvec){0} + step;
    ak_uvec c2 = __builtin_convertvector(block, ak_uvec), c3 = __builtin_convertvector(block >> 32, ak_uvec);
    AK_FN(philox)(key, &c0, &c1, &c2, &c3);
    for (int i = 0; i < 16; i++) {
        words[4 * i] = c0[i];
        words[4 * i + 1] = c1[i];
        words[4 * i + 2] = c2[i];
        words[4 * i + 3] = c3[i];
    }
}

// -------------------------------------------------------------------------------------------------------------- normal

/// log(u) for u in [2^-53, 1], within a few units in the last place.
///
/// u = 2^e * m with m in [sqrt(1/2), sqrt(2)); log m = 2 artanh(s), s = (m - 1) / (m + 1), by its series to s^23 / 23
/// (the rest is below 2e-18 of the whole).
AK_INLINE ak_dvec AK_FN(logarithm)(ak_dvec u) {
    const AK_FN(signed_wide) bits = (AK_FN(signed_wide))u;
    const AK_FN(signed_wide) exponent = (bits - 0x3fe6a09e667f3bcd) >> 52;
    const ak_dvec m = (ak_dvec)(bits - (exponent << 52));
    const ak_dvec e = __builtin_convertvector(__builtin_convertvector(exponent, ak_ivec), ak_dvec);
    const ak_dvec s = (m - 1) / (m + 1), z = s * s;
    ak_dvec p = z * (1.0 / 23) + 1.0 / 21;
    p = p * z + 1.0 / 19;
    p = p * z + 1.0 / 17;
    p = p * z + 1.0 / 15;
    p = p * z + 1.0 / 13;
    p = p * z + 1.0 / 11;
    p = p * z + 1.0 / 9;
    p = p * z + 1.0 / 7;
    p = p * z + 1.0 / 5;
    p = p * z + 1.0 / 3;
    const ak_dvec twice = s + s;
    // ln 2 in two parts, the first with 42 bits so that e times it is exact.
    return e * 0x1.62e42fefa38p-1 + (twice + (twice * (z * p) + e * 0x1.ef35793c7673p-45));
}

/// cos(t) for t in [0, 2 pi], within a few units in the last place, also near its zeros.
///
/// t = k * pi/2 + r with |r| <= pi/4; pi/2 in three parts, the first two with 33 bits so that k times them is exact;
/// Taylor's series to r^17 / 17! and r^16 / 16! (the rest is below 3e-18).
AK_INLINE ak_dvec AK_FN(cosine)(ak_dvec t) {
    // Adding 1.5 * 2^52 rounds to an integer, which is then in the low bits.
    const ak_dvec magic = (ak_dvec){0} + 0x1.8p52;
    const ak_dvec rounded = t * 0x1.45f306dc9c883p-1 + magic;
    const ak_dvec k = rounded - magic;
    const AK_FN(signed_wide) quadrant = (AK_FN(signed_wide))rounded & 3;
    ak_dvec r = t - k * 0x1.921fb544p+0;
    r = r - k * 0x1.0b4611a6p-34;
    r = r - k * 0x1.3198a2e037073p-69;
    const ak_dvec z = r * r;
    ak_dvec sine = z * (1.0 / 355687428096000) - 1.0 / 1307674368000;
    sine = sine * z + 1.0 / 6227020800;
    sine = sine * z - 1.0 / 39916800;
    sine = sine * z + 1.0 / 362880;
    sine = sine * z - 1.0 / 5040;
    sine = sine * z + 1.0 / 120;
    sine = sine * z - 1.0 / 6;
    sine = r + r * (z * sine);
    ak_dvec cosine = z * (1.0 / 20922789888000) - 1.0 / 87178291200;
    cosine = cosine * z + 1.0 / 479001600;
    cosine = cosine * z - 1.0 / 3628800;
    cosine = cosine * z + 1.0 / 40320;
    cosine = cosine * z - 1.0 / 720;
    cosine = cosine * z + 1.0 / 24;
    cosine = 1 - (0.5 * z - z * z * cosine);
    // cos r, -sin r, -cos r, sin r.
    const AK_FN(signed_wide) odd = -(quadrant & 1), negative = ((quadrant + 1) & 2) << 62;
    const AK_FN(signed_wide) value = ((AK_FN(signed_wide))sine & odd) | ((AK_FN(signed_wide))cosine & ~odd);
    return (ak_dvec)(value ^ negative);
}

/// values[i] = (float)(deviation * the normal number of block first + i), for sixteen blocks. Where the double is so near
/// to the middle of two floats that its last places decide, the scalar definition decides.
static void AK_FN(normals)(
    const uint32_t key[2], uint32_t step, uint64_t index, uint32_t first, double deviation, float *values) {
    ak_uvec c0, c1 = (ak_uvec){0} + step, c2 = (ak_uvec){0} + (uint32_t)index, c3 = (ak_uvec){0} + (uint32_t)(index >> 32);
    for (int i = 0; i < 16; i++) c0[i] = first + (uint32_t)i;
    AK_FN(philox)(key, &c0, &c1, &c2, &c3);
    typedef AK_FN(wide) wide;
    const wide a = (__builtin_convertvector(c0, wide) | __builtin_convertvector(c1, wide) << 32) >> 11;
    const wide b = (__builtin_convertvector(c2, wide) | __builtin_convertvector(c3, wide) << 32) >> 11;
    const ak_dvec u = 1 - __builtin_convertvector(a, ak_dvec) * 0x1p-53;
    const ak_dvec v = __builtin_convertvector(b, ak_dvec) * 0x1p-53;
    const ak_dvec t = v * 0x1.921fb54442d18p+2;
    const ak_dvec radius = __builtin_elementwise_sqrt(AK_FN(logarithm)(u) * -2);
    const ak_dvec y = radius * AK_FN(cosine)(t) * deviation;
    // The doubles above are within 2^-49 of the scalar ones.
    const ak_vec low = __builtin_convertvector(y - y * 0x1p-47, ak_vec);
    const ak_vec high = __builtin_convertvector(y + y * 0x1p-47, ak_vec);
    ak_store_unaligned(values, low);
    const ak_ivec doubtful = low != high;
    int any = 0;
    for (int lane = 0; lane < 16; lane++) any |= doubtful[lane];
    if (!any) return;
    for (int lane = 0; lane < 16; lane++)
        if (doubtful[lane]) values[lane] = (float)(deviation * scalar_normal(a[lane], b[lane]));
}
