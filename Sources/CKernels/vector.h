// Sixteen lanes of fp32, written once and compiled for every instruction set.
//
// A kernel's source is a file NAME.inc.h that names its functions with AK_FN(name) and computes with ak_vec and the
// macros below. A NAME.c includes this header and then each instruction set's copy:
//
//     #include "vector.h"
//     #define AK_KERNELS "NAME.inc.h"
//     #include "each_isa.h"
//     void ak_name(...) { AK_DISPATCH(name)(...); }
//
// Inside NAME.inc.h these are defined:
//     AK_LEVEL          0 portable, 1 AVX2 + FMA, 2 AVX-512, 3 AVX-512 with bf16 products
//     AK_FN(name)       name_portable, name_avx2, name_avx512, name_avx512bf16
//     ak_fma(a, b, c)   a*b + c, fused where the set has it (portable code must not call fmaf)
//     AK_REGISTERS      how many ak_vec fit in the registers (4 SSE2, 8 arm64 and AVX2, 32 AVX-512)
// The feature macros (__AVX512F__ and friends) are NOT set there; test AK_LEVEL.
// Helpers are macros or AK_INLINE functions named with AK_FN: a plain inline function would carry no target and could
// not be inlined into one that does.
#ifndef ACUITY_KERNELS_VECTOR_H
#define ACUITY_KERNELS_VECTOR_H

#include <stdint.h>
#include <string.h>

#include "internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Vectors are passed by value only between functions that are inlined or share a target.
#pragma clang diagnostic ignored "-Wpsabi"

typedef float ak_vec __attribute__((vector_size(64), aligned(64)));
typedef int32_t ak_ivec __attribute__((vector_size(64), aligned(64)));
typedef uint32_t ak_uvec __attribute__((vector_size(64), aligned(64)));
typedef struct {
    ak_vec v;
} __attribute__((packed, aligned(4))) ak_vec_unaligned;
/// Sixteen doubles, and sixteen bf16 as their bits.
typedef double ak_dvec __attribute__((vector_size(128), aligned(64)));
typedef uint16_t ak_hvec __attribute__((vector_size(32), aligned(32)));
typedef struct {
    ak_hvec v;
} __attribute__((packed, aligned(2))) ak_hvec_unaligned;

#define AK_INLINE static inline __attribute__((always_inline, unused))
#define AK_NOINLINE static __attribute__((noinline, unused))
#define AK_UNROLL _Pragma("clang loop unroll(full)")

/// Loads and stores of 64-byte-aligned addresses, and of any float's address.
#define ak_load(p) (*(const ak_vec *)(p))
#define ak_store(p, value) (*(ak_vec *)(p) = (value))
/// A store past the caches; ak_stream_fence() must follow before another thread reads.
#define ak_stream(p, value) __builtin_nontemporal_store((ak_vec)(value), (ak_vec *)(p))
#if defined(__x86_64__)
#define ak_stream_fence() __builtin_ia32_sfence()
#else
#define ak_stream_fence() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#endif
#define ak_load_unaligned(p) (((const ak_vec_unaligned *)(p))->v)
#define ak_store_unaligned(p, value) (((ak_vec_unaligned *)(p))->v = (value))
#define ak_load_half(p) (((const ak_hvec_unaligned *)(p))->v)
#define ak_store_half(p, value) (((ak_hvec_unaligned *)(p))->v = (value))
#define ak_widen(v) __builtin_convertvector((v), ak_dvec)
#define ak_narrow(v) __builtin_convertvector((v), ak_vec)
#define ak_zero() ((ak_vec){0})
/// All lanes the same.
#define ak_splat(s) ((float)(s) - (ak_vec){0})
/// Lane by lane: mask ? a : b, where the mask comes from a comparison of two ak_vec.
#define ak_select(mask, a, b) ((ak_vec)(((ak_ivec)(mask) & (ak_ivec)(a)) | (~(ak_ivec)(mask) & (ak_ivec)(b))))
#define ak_maximum(a, b) __builtin_elementwise_max(a, b)
#define ak_minimum(a, b) __builtin_elementwise_min(a, b)
#define ak_sqrt(a) __builtin_elementwise_sqrt(a)

#define AK_PASTE_(a, b) a##_##b
#define AK_PASTE(a, b) AK_PASTE_(a, b)
#define AK_FN(name) AK_PASTE(name, AK_SUFFIX)

/// The function of the instruction set in use.
#if defined(__x86_64__)
#define AK_DISPATCH(name) \
    (((__typeof__(&name##_portable)[]){ \
        name##_portable, name##_avx2, name##_avx512, name##_avx512bf16})[ak_isa_current()])
#else
#define AK_DISPATCH(name) (name##_portable)
#endif

#endif
