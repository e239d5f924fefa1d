// Affine maps, additions, subsampling and dropout over feature maps.
#include "elementwise_lanes.inc.h"

// -------------------------------------------------------------------------------------------------------------- affine

AK_INLINE void AK_FN(affine_rows)(
    const affine_task *t, int part, int parts, const bool bf16, const bool prelu, const bool add, const bool stream) {
    ak_walk walk = AK_FN(walk)(&t->y, part, parts);
    ak_rows rows;
    const int width = t->y.w;
    while (AK_FN(walk_next)(&walk, &rows)) {
        const ak_vec scale = AK_FN(channels)(t->scale, rows.block, t->y.c);
        const ak_vec shift = AK_FN(channels)(t->shift, rows.block, t->y.c);
        const ak_vec slope = prelu ? AK_FN(channels)(t->slope, rows.block, t->y.c) : ak_zero();
        for (int y = rows.top; y < rows.bottom; y++) {
            const void *from = AK_FN(row_at)(&t->x, rows, y, bf16);
            const void *other = add ? AK_FN(row_at)(&t->residual, rows, y, bf16) : NULL;
            void *to = AK_FN(row_at)(&t->y, rows, y, bf16);
            for (int x = 0; x < width; x++) {
                ak_vec z = ak_fma(AK_FN(pixel)(from, x, bf16), scale, shift);
                if (prelu) z = ak_select(z > ak_zero(), z, z * slope);
                if (add) z += AK_FN(pixel)(other, x, bf16);
                if (stream) __builtin_nontemporal_store(z, (ak_vec *)to + x);
                else AK_FN(put_pixel)(to, x, z, bf16);
            }
        }
        AK_FN(zero_margins)(&t->y, rows, bf16);
    }
    if (stream) AK_FN(stream_fence)();
}

AK_INLINE void AK_FN(affine_typed)(const affine_task *t, int part, int parts, const bool bf16, const bool stream) {
    const bool prelu = t->slope != NULL, add = t->residual.data != NULL;
    if (prelu && add) AK_FN(affine_rows)(t, part, parts, bf16, true, true, stream);
    else if (prelu) AK_FN(affine_rows)(t, part, parts, bf16, true, false, stream);
    else if (add) AK_FN(affine_rows)(t, part, parts, bf16, false, true, stream);
    else AK_FN(affine_rows)(t, part, parts, bf16, false, false, stream);
}

static void AK_FN(affine)(void *task, int part, int parts) {
    const affine_task *t = task;
    if (t->y.dtype == AK_BF16) AK_FN(affine_typed)(t, part, parts, true, false);
    else if (t->stream) AK_FN(affine_typed)(t, part, parts, false, true);
    else AK_FN(affine_typed)(t, part, parts, false, false);
}

// ----------------------------------------------------------------------------------------------------------------- add

AK_INLINE void AK_FN(add_rows)(const add_task *t, int part, int parts, const bool bf16, const bool stream) {
    ak_walk walk = AK_FN(walk)(&t->y, part, parts);
    ak_rows rows;
    const int width = t->y.w;
    while (AK_FN(walk_next)(&walk, &rows)) {
        for (int y = rows.top; y < rows.bottom; y++) {
            const void *a = AK_FN(row_at)(&t->a, rows, y, bf16), *b = AK_FN(row_at)(&t->b, rows, y, bf16);
            void *to = AK_FN(row_at)(&t->y, rows, y, bf16);
            for (int x = 0; x < width; x++) {
                const ak_vec sum = AK_FN(pixel)(a, x, bf16) + AK_FN(pixel)(b, x, bf16);
                if (stream) __builtin_nontemporal_store(sum, (ak_vec *)to + x);
                else AK_FN(put_pixel)(to, x, sum, bf16);
            }
        }
        AK_FN(zero_margins)(&t->y, rows, bf16);
    }
    if (stream) AK_FN(stream_fence)();
}

static void AK_FN(add)(void *task, int part, int parts) {
    const add_task *t = task;
    if (t->y.dtype == AK_BF16) AK_FN(add_rows)(t, part, parts, true, false);
    else if (t->stream) AK_FN(add_rows)(t, part, parts, false, true);
    else AK_FN(add_rows)(t, part, parts, false, false);
}

// ----------------------------------------------------------------------------------------------------------- subsample

AK_INLINE void AK_FN(subsample_forward_rows)(const subsample_task *t, int part, int parts, const bool bf16) {
    ak_walk walk = AK_FN(walk)(&t->y, part, parts);
    ak_rows rows;
    const int width = t->y.w;
    while (AK_FN(walk_next)(&walk, &rows)) {
        for (int y = rows.top; y < rows.bottom; y++) {
            const void *from = AK_FN(row_at)(&t->x, rows, 2 * y, bf16);
            void *to = AK_FN(row_at)(&t->y, rows, y, bf16);
            for (int x = 0; x < width; x++) AK_FN(put_pixel)(to, x, AK_FN(pixel)(from, 2 * x, bf16), bf16);
        }
        AK_FN(zero_margins)(&t->y, rows, bf16);
    }
}

static void AK_FN(subsample_forward)(void *task, int part, int parts) {
    const subsample_task *t = task;
    if (t->y.dtype == AK_BF16) AK_FN(subsample_forward_rows)(t, part, parts, true);
    else AK_FN(subsample_forward_rows)(t, part, parts, false);
}

/// Here x is the upstream gradient and y the gradient that is written.
AK_INLINE void AK_FN(subsample_backward_rows)(const subsample_task *t, int part, int parts, const bool bf16) {
    ak_walk walk = AK_FN(walk)(&t->y, part, parts);
    ak_rows rows;
    const int width = t->y.w, upstream_width = t->x.w;
    while (AK_FN(walk_next)(&walk, &rows)) {
        for (int y = rows.top; y < rows.bottom; y++) {
            void *to = AK_FN(row_at)(&t->y, rows, y, bf16);
            if (!t->accumulate) AK_FN(zero_pixels)(to, 0, width, bf16);
            if (y % 2 != 0) continue;
            const void *from = AK_FN(row_at)(&t->x, rows, y / 2, bf16);
            for (int x = 0; x < upstream_width; x++) {
                const ak_vec sum = AK_FN(pixel)(to, 2 * x, bf16) + AK_FN(pixel)(from, x, bf16);
                AK_FN(put_pixel)(to, 2 * x, sum, bf16);
            }
        }
        AK_FN(zero_margins)(&t->y, rows, bf16);
    }
}

static void AK_FN(subsample_backward)(void *task, int part, int parts) {
    const subsample_task *t = task;
    if (t->y.dtype == AK_BF16) AK_FN(subsample_backward_rows)(t, part, parts, true);
    else AK_FN(subsample_backward_rows)(t, part, parts, false);
}

// ------------------------------------------------------------------------------------------------------------- dropout

/// The first word of Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) for the
/// counters (low, high, 0, 0). Each 32-bit word is the low half of a 64-bit lane; what is in the high halves is
/// ignored, as the 32 x 32 bit multiplication does.
AK_INLINE ak_uvec AK_FN(philox_first_word)(ak_wvec counter, uint64_t key) {
    const uint64_t low = 0xFFFFFFFF;
    ak_wvec c0 = counter, c1 = counter >> 32, c2 = {0}, c3 = {0};
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const ak_wvec a = (c0 & low) * 0xD2511F53, b = (c2 & low) * 0xCD9E8D57;
        c0 = (b >> 32) ^ c1 ^ (uint64_t)k0;
        c1 = b;
        c2 = (a >> 32) ^ c3 ^ (uint64_t)k1;
        c3 = a;
        k0 += 0x9E3779B9;
        k1 += 0xBB67AE85;
    }
    return __builtin_convertvector(c0, ak_uvec);
}

AK_INLINE void AK_FN(dropout_rows)(const dropout_task *t, int part, int parts, const bool bf16) {
    ak_walk walk = AK_FN(walk)(&t->y, part, parts);
    ak_rows rows;
    const int width = t->y.w;
    const ak_wvec lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const uint64_t area = (uint64_t)t->y.h * (uint64_t)t->y.w;
    while (AK_FN(walk_next)(&walk, &rows)) {
        const uint64_t image = t->first_image + (uint64_t)rows.image;
        const uint64_t channel = image * (uint64_t)t->y.c + 16 * (uint64_t)rows.block;
        for (int y = rows.top; y < rows.bottom; y++) {
            const void *from = AK_FN(row_at)(&t->x, rows, y, bf16);
            void *to = AK_FN(row_at)(&t->y, rows, y, bf16);
            const ak_wvec index = (lane + channel) * area + (uint64_t)y * (uint64_t)t->y.w;
            for (int x = 0; x < width; x++) {
                const ak_uvec word = AK_FN(philox_first_word)(index + (uint64_t)x, t->key);
                const ak_ivec keep = (ak_ivec)(word >> 8) >= t->threshold;
                AK_FN(put_pixel)(to, x, ak_select(keep, AK_FN(pixel)(from, x, bf16) * t->scale, ak_zero()), bf16);
            }
        }
        AK_FN(zero_margins)(&t->y, rows, bf16);
    }
}

static void AK_FN(dropout)(void *task, int part, int parts) {
    const dropout_task *t = task;
    if (t->y.dtype == AK_BF16) AK_FN(dropout_rows)(t, part, parts, true);
    else AK_FN(dropout_rows)(t, part, parts, false);
}
