// Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), sixteen blocks at a time.

typedef uint64_t AK_FN(wide) __attribute__((vector_size(128), aligned(64)));

/// words[4 * i + j] is word j of the block with counter (0, step, low and high word of first + i).
static void AK_FN(philox_words)(const uint32_t key[2], uint32_t step, uint64_t first, uint32_t *words) {
    AK_FN(wide) block;
    for (int i = 0; i < 16; i++) block[i] = first + (uint64_t)i;
    ak_uvec c0 = {0}, c1 = (ak_uvec){0} + step;
    ak_uvec c2 = __builtin_convertvector(block, ak_uvec), c3 = __builtin_convertvector(block >> 32, ak_uvec);
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const AK_FN(wide) a = __builtin_convertvector(c0, AK_FN(wide)) * 0xD2511F53u;
        const AK_FN(wide) b = __builtin_convertvector(c2, AK_FN(wide)) * 0xCD9E8D57u;
        c0 = __builtin_convertvector(b >> 32, ak_uvec) ^ c1 ^ k0;
        c1 = __builtin_convertvector(b, ak_uvec);
        c2 = __builtin_convertvector(a >> 32, ak_uvec) ^ c3 ^ k1;
        c3 = __builtin_convertvector(a, ak_uvec);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < 16; i++) {
        words[4 * i] = c0[i];
        words[4 * i + 1] = c1[i];
        words[4 * i + 2] = c2[i];
        words[4 * i + 3] = c3[i];
    }
}
