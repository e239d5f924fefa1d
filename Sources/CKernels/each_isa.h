// Includes AK_KERNELS once per instruction set (see vector.h). No include guard: one inclusion per kernel source.

#define AK_LEVEL 0
#define AK_SUFFIX portable
#if defined(__aarch64__)
#define AK_REGISTERS 8
#else
#define AK_REGISTERS 4
#endif
// The compiler may fuse this where the architecture's base set has fused multiply-add (arm64); on x86-64 it stays two
// instructions.
#define ak_fma(a, b, c) ((a) * (b) + (c))
#include AK_KERNELS
#undef AK_LEVEL
#undef AK_SUFFIX
#undef AK_REGISTERS
#undef ak_fma

#if defined(__x86_64__)

#define ak_fma(a, b, c) __builtin_elementwise_fma((a), (b), (c))

#define AK_LEVEL 1
#define AK_SUFFIX avx2
#define AK_REGISTERS 8
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#include AK_KERNELS
#pragma clang attribute pop
#undef AK_LEVEL
#undef AK_SUFFIX
#undef AK_REGISTERS

#define AK_LEVEL 2
#define AK_SUFFIX avx512
#define AK_REGISTERS 32
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c,bmi,bmi2"))), apply_to = function)
#include AK_KERNELS
#pragma clang attribute pop
#undef AK_LEVEL
#undef AK_SUFFIX
#undef AK_REGISTERS

#define AK_LEVEL 3
#define AK_SUFFIX avx512bf16
#define AK_REGISTERS 32
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,bmi,bmi2"))), \
    apply_to = function)
#include AK_KERNELS
#pragma clang attribute pop
#undef AK_LEVEL
#undef AK_SUFFIX
#undef AK_REGISTERS

#undef ak_fma

#endif

#undef AK_KERNELS
