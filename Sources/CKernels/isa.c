// Which instruction set the kernels use: detected once, overridden by ACUITY_ISA or by a test.
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static const char *const names[] = {"portable", "avx2", "avx512", "avx512bf16"};

ak_isa ak_isa_best(void) {
#if defined(__x86_64__)
    // These builtins also ask the operating system (XGETBV) whether it saves the wide registers.
    __builtin_cpu_init();
    if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")))
        return AK_ISA_PORTABLE;
    if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")))
        return AK_ISA_AVX2;
    return __builtin_cpu_supports("avx512bf16") ? AK_ISA_AVX512_BF16 : AK_ISA_AVX512;
#else
    return AK_ISA_PORTABLE;
#endif
}

/// The set in use, or -1 before the first question.
static atomic_int current = -1;

static ak_isa initial(void) {
    ak_isa best = ak_isa_best();
    const char *wanted = getenv("ACUITY_ISA");
    if (!wanted || !*wanted) return best;
    for (int i = 0; i <= (int)AK_ISA_AVX512_BF16; i++) {
        if (strcmp(wanted, names[i]) != 0) continue;
        if (i <= (int)best) return (ak_isa)i;
        fprintf(stderr, "ACUITY_ISA=%s: this machine supports up to %s; using that\n", wanted, names[best]);
        return best;
    }
    fprintf(stderr, "ACUITY_ISA=%s: unknown (portable, avx2, avx512, avx512bf16); using %s\n", wanted, names[best]);
    return best;
}

ak_isa ak_isa_current(void) {
    int isa = atomic_load_explicit(&current, memory_order_relaxed);
    if (isa >= 0) return (ak_isa)isa;
    int unset = -1;
    // Two first callers agree on the first one's answer.
    atomic_compare_exchange_strong(&current, &unset, (int)initial());
    return (ak_isa)atomic_load(&current);
}

bool ak_isa_select(ak_isa isa) {
    if ((int)isa < 0 || isa > ak_isa_best()) return false;
    atomic_store(&current, (int)isa);
    return true;
}

const char *ak_isa_name(ak_isa isa) {
    return (int)isa >= 0 && (int)isa <= (int)AK_ISA_AVX512_BF16 ? names[isa] : "unknown";
}

void ak_fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("acuity kernels: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}
