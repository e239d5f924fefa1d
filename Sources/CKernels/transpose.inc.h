// A 16 x 16 transposition in registers, for packing weights and unpacking their gradients. Included by kernel sources.

// One butterfly stage: lanes whose bit `d` is clear keep a's, the others come from b, and the converse.
#define AK_BUTTERFLY(a, b, ...) \
    do { \
        ak_vec low_ = __builtin_shufflevector(a, b, __VA_ARGS__); \
        (b) = __builtin_shufflevector(a, b, AK_BUTTERFLY_HIGH); \
        (a) = low_; \
    } while (0)

/// r[i][j] becomes r[j][i].
AK_INLINE void AK_FN(transpose16)(ak_vec *r) {
    AK_UNROLL for (int i = 0; i < 16; i++)
        if (!(i & 8)) {
#define AK_BUTTERFLY_HIGH 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
            AK_BUTTERFLY(r[i], r[i + 8], 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23);
#undef AK_BUTTERFLY_HIGH
        }
    AK_UNROLL for (int i = 0; i < 16; i++)
        if (!(i & 4)) {
#define AK_BUTTERFLY_HIGH 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
            AK_BUTTERFLY(r[i], r[i + 4], 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27);
#undef AK_BUTTERFLY_HIGH
        }
    AK_UNROLL for (int i = 0; i < 16; i++)
        if (!(i & 2)) {
#define AK_BUTTERFLY_HIGH 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
            AK_BUTTERFLY(r[i], r[i + 2], 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
#undef AK_BUTTERFLY_HIGH
        }
    AK_UNROLL for (int i = 0; i < 16; i++)
        if (!(i & 1)) {
#define AK_BUTTERFLY_HIGH 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
            AK_BUTTERFLY(r[i], r[i + 1], 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30);
#undef AK_BUTTERFLY_HIGH
        }
}

#undef AK_BUTTERFLY
