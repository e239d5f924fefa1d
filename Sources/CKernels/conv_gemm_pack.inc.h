// Packing of the weights for conv_gemm.inc.h, which includes this.

/// rows[i][lane] = the weight of output channel kb*16 + i and input channel cb*16 + lane at one tap; zero where there
/// is none or it would lead from one group to another.
AK_INLINE void AK_FN(gemm_weights)(const ak_conv *conv, const float *weights, int kb, int cb, int tap, ak_vec *rows) {
    const int taps = conv->kh * conv->kw, cg = conv->c / conv->groups, kg = conv->k / conv->groups;
    for (int i = 0; i < 16; i++) {
        const int k = kb * 16 + i, first = k / kg * cg;
        float row[16] = {0};
        if (k < conv->k) {
            const float *from = weights + (long)k * cg * taps + tap;
            const int c0 = ak_max(cb * 16, first), c1 = ak_min(cb * 16 + 16, first + cg);
            if (taps == 1 && c1 - c0 == 16) memcpy(row, from + c0 - first, sizeof row);
            else
                for (int c = c0; c < c1; c++) row[c - cb * 16] = from[(long)(c - first) * taps];
        }
        rows[i] = ak_load_unaligned(row);
    }
}

/// Stores a block of rows of 16 output channels, one for each input channel.
AK_INLINE void AK_FN(gemm_store_weights)(const ak_vec *rows, void *packed, long block, bool half) {
    if (!half) {
        memcpy((float *)packed + block * 256, rows, 256 * sizeof(float));
        return;
    }
    ak_uvec *to = (ak_uvec *)((uint16_t *)packed + block * 256);
    for (int i = 0; i < 8; i++) {
        const ak_hvec even = AK_FN(to_bf16)(rows[2 * i]), odd = AK_FN(to_bf16)(rows[2 * i + 1]);
        to[i] = AK_FN(pair_lanes)(even, odd);
    }
}

/// The number of the 16 x 16 block of tap `tap` from input block `in` (of its range) to output block `out`.
AK_INLINE long AK_FN(gemm_block_at)(const ak_gemm_pack_job *job, int out, ak_range range, int in, int tap, int held) {
    const ak_conv *conv = job->conv;
    int taps = conv->kh * conv->kw, before = 0;
    if (job->direction == AK_BACKWARD) {
        const int s = conv->stride, row = tap / conv->kw, col = tap % conv->kw;
        // Classes are ordered by the parity of the input row and column that they write.
        const int a = (row + s - conv->pad % s) % s, b = (col + s - conv->pad % s) % s;
        const int cols = ak_class_taps(conv, b, conv->kw);
        taps = ak_class_taps(conv, a, conv->kh) * cols;
        before = ak_class_taps_before(conv, a, b);
        tap = (row - ak_class_first_tap(conv, a)) / s * cols + (col - ak_class_first_tap(conv, b)) / s;
    }
    const int outs = ak_blocks(job->direction == AK_FORWARD ? conv->k : conv->c);
    return (long)before * outs * held + (long)out * taps * held + (long)tap * range.count + in;
}

void AK_FN(ak_gemm_pack_part)(void *context, int part, int parts);
void AK_FN(ak_gemm_pack_part)(void *context, int part, int parts) {
    const ak_gemm_pack_job *job = context;
    const ak_conv *conv = job->conv;
    const bool forward = job->direction == AK_FORWARD;
    const int out = forward ? conv->k : conv->c, in = forward ? conv->c : conv->k, taps = conv->kh * conv->kw;
    const int held = ak_group_range_max(out, in, conv->groups);
    const long units = (long)ak_blocks(out) * held;
    for (long unit = ak_begin(units, part, parts); unit < ak_begin(units, part + 1, parts); unit++) {
        const int to = (int)(unit / held), i = (int)(unit % held);
        const ak_range range = ak_group_range(to, out, in, conv->groups);
        if (i >= range.count) continue;
        const int from = range.first + i;
        for (int tap = 0; tap < taps; tap++) {
            ak_vec rows[16];
            AK_FN(gemm_weights)(conv, job->weights, forward ? to : from, forward ? from : to, tap, rows);
            if (forward) AK_FN(transpose16)(rows);
            AK_FN(gemm_store_weights)(rows, job->packed, AK_FN(gemm_block_at)(job, to, range, i, tap, held), job->half);
        }
    }
}
