// Sixteen lanes in memory: as fp32 or bf16, and partly. Included once per instruction set (see vector.h), before what
// uses it.

AK_INLINE ak_vec AK_FN(from_bf16)(ak_hvec v) { return (ak_vec)(__builtin_convertvector(v, ak_uvec) << 16); }

/// Rounds to nearest even; a NaN stays one.
AK_INLINE ak_hvec AK_FN(rounded_to_bf16)(ak_vec v) {
    const ak_uvec bits = (ak_uvec)v, high = bits >> 16;
    const ak_uvec rounded = (bits + 0x7fff + (high & 1)) >> 16;
    // Compared as signed numbers: there the sign bit is clear, and sets without an unsigned comparison need no detour.
    const ak_ivec nan = (ak_ivec)(bits & 0x7fffffff) > 0x7f800000;
    return __builtin_convertvector((ak_uvec)ak_select(nan, high | 0x40, rounded), ak_hvec);
}

/// The same in one instruction where there is one; that gives zero for a subnormal.
AK_INLINE ak_hvec AK_FN(to_bf16)(ak_vec v) {
#if AK_LEVEL == 3
    return (ak_hvec)_mm512_cvtneps_pbh((__m512)v);
#else
    return AK_FN(rounded_to_bf16)(v);
#endif
}

/// Sixteen channels at element `at` of a map's data.
AK_INLINE ak_vec AK_FN(lanes)(const void *data, long at, const bool bf16) {
    return bf16 ? AK_FN(from_bf16)(ak_load_half((const uint16_t *)data + at)) : ak_load((const float *)data + at);
}

AK_INLINE void AK_FN(put_lanes)(void *data, long at, ak_vec v, const bool bf16) {
    if (bf16) ak_store_half((uint16_t *)data + at, AK_FN(to_bf16)(v));
    else ak_store((float *)data + at, v);
}

/// The first `count` lanes at p, the others `fill`.
AK_INLINE ak_vec AK_FN(load_some)(const float *p, int count, float fill) {
#if AK_LEVEL >= 2
    return (ak_vec)_mm512_mask_loadu_ps((__m512)ak_splat(fill), (__mmask16)((1u << count) - 1), p);
#else
    if (count == 16) return ak_load_unaligned(p);
    float some[16];
    for (int i = 0; i < 16; i++) some[i] = i < count ? p[i] : fill;
    return ak_load_unaligned(some);
#endif
}

AK_INLINE void AK_FN(store_some)(float *p, ak_vec v, int count) {
#if AK_LEVEL >= 2
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), (__m512)v);
#else
    if (count == 16) {
        ak_store_unaligned(p, v);
        return;
    }
    float some[16];
    ak_store_unaligned(some, v);
    for (int i = 0; i < count; i++) p[i] = some[i];
#endif
}
