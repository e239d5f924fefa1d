// Loops that do nothing but multiply and add in registers, or read and write memory.

// Enough sums to hide the latency of a fused multiply-add, in the registers that two operands leave; without fusion
// every step is two instructions.
#if AK_REGISTERS >= 32
#define SUMS 24
#elif AK_REGISTERS >= 8
#define SUMS 6
#else
#define SUMS 3
#endif

/// Operations of one repeat on one thread.
static double AK_FN(f32_operations)(void) { return SUMS * 16 * 2; }

static void AK_FN(f32_products)(void *task, int part, int parts) {
    (void)part, (void)parts;
    const flops_task t = *(const flops_task *)task;
    // All lanes the same: halves of a vector share their operands' registers.
    const ak_vec factor = ak_splat(t.start), term = ak_splat(t.start);
    ak_vec sums[SUMS];
    AK_UNROLL for (int i = 0; i < SUMS; i++) sums[i] = ak_splat(t.start * (float)i);
    for (long repeat = 0; repeat < t.repeats; repeat++) {
        AK_UNROLL for (int i = 0; i < SUMS; i++) sums[i] = ak_fma(sums[i], factor, term);
    }
    AK_UNROLL for (int i = 1; i < SUMS; i++) sums[0] += sums[i];
    // Taken for used, or the loop would go.
    __asm__ volatile("" : : "m"(sums[0]));
}

#if AK_LEVEL == 3
static double AK_FN(bf16_operations)(void) { return SUMS * 32 * 2; }

static void AK_FN(bf16_products)(void *task, int part, int parts) {
    (void)part, (void)parts;
    const flops_task t = *(const flops_task *)task;
    const __m512bh operand = _mm512_cvtne2ps_pbh((__m512)ak_splat(t.start), (__m512)ak_splat(t.start));
    __m512 sums[SUMS];
    AK_UNROLL for (int i = 0; i < SUMS; i++) sums[i] = (__m512)ak_splat(t.start * (float)i);
    for (long repeat = 0; repeat < t.repeats; repeat++) {
        AK_UNROLL for (int i = 0; i < SUMS; i++) sums[i] = _mm512_dpbf16_ps(sums[i], operand, operand);
    }
    AK_UNROLL for (int i = 1; i < SUMS; i++) sums[0] += sums[i];
    __asm__ volatile("" : : "m"(sums[0]));
}
#else
static double AK_FN(bf16_operations)(void) { return 0; }

static void AK_FN(bf16_products)(void *task, int part, int parts) { (void)task, (void)part, (void)parts; }
#endif

#undef SUMS

static void AK_FN(touch)(void *task, int part, int parts) {
    const triad_task t = *(const triad_task *)task;
    const long end = ak_begin(t.count / 16, part + 1, parts) * 16;
    float *const arrays[] = {(float *)t.a, (float *)t.b, t.c};
    for (int which = 0; which < 3; which++) {
        for (long i = ak_begin(t.count / 16, part, parts) * 16; i < end; i += 16)
            ak_store(arrays[which] + i, ak_zero());
    }
}

static void AK_FN(triad)(void *task, int part, int parts) {
    const triad_task t = *(const triad_task *)task;
    const ak_vec factor = ak_splat(0.5f);
    const long end = ak_begin(t.count / 16, part + 1, parts) * 16;
    for (long i = ak_begin(t.count / 16, part, parts) * 16; i < end; i += 16)
        ak_stream(t.c + i, ak_fma(factor, ak_load(t.b + i), ak_load(t.a + i)));
    ak_stream_fence();
}
