// Packing of the weights for conv_gemm.inc.h, which includes this.

/// Where tap (row, col) lies among the taps of the backward-data classes, and the first float of its class.
AK_INLINE int AK_FN(gemm_class_tap)(const ak_conv *conv, int row, int col, long block_floats, long *class_base) {
    int s = conv->stride;
    // Classes are ordered by the parity of the input row and column that they write.
    int class_row = ((row - conv->pad) % s + s) % s, class_col = ((col - conv->pad) % s + s) % s;
    long before = 0;
    int taps_cols = 0;
    for (int a = 0; a < s; a++)
        for (int b = 0; b < s; b++) {
            int first_row = (a + conv->pad) % s, first_col = (b + conv->pad) % s;
            int rows = conv->kh > first_row ? (conv->kh - first_row + s - 1) / s : 0;
            int cols = conv->kw > first_col ? (conv->kw - first_col + s - 1) / s : 0;
            if (a == class_row && b == class_col) {
                *class_base = before * block_floats;
                taps_cols = cols;
                return (row - first_row) / s * taps_cols + (col - first_col) / s;
            }
            before += (long)rows * cols;
        }
    __builtin_unreachable();
}

/// Taps of the class that tap (row, col) belongs to.
AK_INLINE int AK_FN(gemm_class_taps)(const ak_conv *conv, int row, int col) {
    int s = conv->stride;
    int first_row = row % s, first_col = col % s;
    return ((conv->kh - first_row + s - 1) / s) * ((conv->kw - first_col + s - 1) / s);
}

/// One group: transpositions of 16 x 16 blocks.
AK_INLINE void AK_FN(gemm_pack_dense)(const ak_gemm_pack_job *job, int kb, int cb) {
    const ak_conv *conv = job->conv;
    int taps = conv->kh * conv->kw, kbs = ak_blocks(conv->k), cbs = ak_blocks(conv->c);
    long row_floats = (long)conv->c * taps;
    float *forward = job->forward + (long)kb * taps * cbs * 256;
    for (int r0 = 0; r0 < 16 * taps; r0 += 16) {
        ak_vec rows[16];
        int valid = ak_max(0, ak_min(16, (conv->c - cb * 16) * taps - r0));
        for (int i = 0; i < 16; i++) {
            int k = kb * 16 + i;
            rows[i] = ak_zero();
            if (k >= conv->k) continue;
            const float *from = job->weights + k * row_floats + (long)cb * 16 * taps + r0;
            if (valid == 16) rows[i] = ak_load_unaligned(from);
            else memcpy(&rows[i], from, (size_t)valid * sizeof(float));
        }
        AK_FN(transpose16)(rows);
        for (int i = 0; i < 16; i++) {
            int c = (r0 + i) / taps, tap = (r0 + i) % taps;
            ak_store(forward + ((long)tap * cbs + cb) * 256 + c * 16, rows[i]);
        }
    }
    for (int tap = 0; tap < taps; tap++) {
        ak_vec rows[16];
        for (int i = 0; i < 16; i++) rows[i] = ak_load(forward + ((long)tap * cbs + cb) * 256 + i * 16);
        AK_FN(transpose16)(rows);
        long base;
        int row = tap / conv->kw, col = tap % conv->kw;
        int at = AK_FN(gemm_class_tap)(conv, row, col, (long)cbs * kbs * 256, &base);
        float *to = job->backward + base + (((long)cb * AK_FN(gemm_class_taps)(conv, row, col) + at) * kbs + kb) * 256;
        for (int i = 0; i < 16; i++) ak_store(to + i * 16, rows[i]);
    }
}

/// Several groups: each output block holds zeros where a channel of another group would be. Block `b` of either side.
AK_INLINE void AK_FN(gemm_pack_grouped)(const ak_gemm_pack_job *job, int b) {
    const ak_conv *conv = job->conv;
    int taps = conv->kh * conv->kw, cg = conv->c / conv->groups, kg = conv->k / conv->groups;
    int cbs = ak_blocks(conv->c), kbs = ak_blocks(conv->k);
    int held = ak_group_range_max(conv->k, conv->c, conv->groups);
    int held_back = ak_group_range_max(conv->c, conv->k, conv->groups);
    if (b < kbs) {
        ak_range range = ak_group_range(b, conv->k, conv->c, conv->groups);
        float *to = job->forward + (long)b * taps * held * 256;
        memset(to, 0, (size_t)taps * held * 256 * sizeof(float));
        for (int k = b * 16; k < ak_min(b * 16 + 16, conv->k); k++)
            for (int i = 0; i < cg * taps; i++) {
                int c = k / kg * cg + i / taps - range.first * 16;
                to[((long)(i % taps) * range.count + c / 16) * 256 + c % 16 * 16 + k % 16] =
                    job->weights[(long)k * cg * taps + i];
            }
    }
    if (b < cbs) {
        ak_range range = ak_group_range(b, conv->c, conv->k, conv->groups);
        for (int tap = 0; tap < taps; tap++) {
            long base;
            int row = tap / conv->kw, col = tap % conv->kw;
            int at = AK_FN(gemm_class_tap)(conv, row, col, (long)cbs * held_back * 256, &base);
            int class_taps = AK_FN(gemm_class_taps)(conv, row, col);
            float *block = job->backward + base + (long)b * class_taps * held_back * 256;
            float *to = block + (long)at * range.count * 256;
            memset(to, 0, (size_t)range.count * 256 * sizeof(float));
            for (int c = b * 16; c < ak_min(b * 16 + 16, conv->c); c++)
                for (int i = 0; i < kg; i++) {
                    int k = c / cg * kg + i, inner = k - range.first * 16;
                    to[(long)inner / 16 * 256 + inner % 16 * 16 + c % 16] =
                        job->weights[((long)k * cg + c % cg) * taps + tap];
                }
        }
    }
}

void AK_FN(ak_gemm_pack_part)(void *context, int part, int parts);
void AK_FN(ak_gemm_pack_part)(void *context, int part, int parts) {
    const ak_gemm_pack_job *job = context;
    int kbs = ak_blocks(job->conv->k), cbs = ak_blocks(job->conv->c);
    if (job->conv->groups == 1) {
        long units = (long)kbs * cbs;
        for (long u = ak_begin(units, part, parts); u < ak_begin(units, part + 1, parts); u++)
            AK_FN(gemm_pack_dense)(job, (int)(u / cbs), (int)(u % cbs));
    } else {
        int units = ak_max(kbs, cbs);
        for (long u = ak_begin(units, part, parts); u < ak_begin(units, part + 1, parts); u++)
            AK_FN(gemm_pack_grouped)(job, (int)u);
    }
}
