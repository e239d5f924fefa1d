// The gradient of the weights of conv_polyphase_bf16.inc.h, which includes this: the adjoint of forward. bf16 products
// sum over pairs, and the sum here is over tiles, so both transformed operands hold two tiles interleaved.

// -------------------------------------------------------------------------------------------------------- transforms

/// Transforms the windows of a panel's tiles of blocks b0..<b1 of a source to v, two tiles at a time, zero for the one
/// that does not need a point. A last tile may be without a second.
AK_INLINE void AK_FN(gradient_operand)(
    const ak_source *in, int b0, int b1, const ak_polyphase_panel *panel, int positions, uint16_t *v,
    const ak_reading reading, const ak_polyphase_window window) {
    for (int block = b0; block < b1; block++, v += positions * 32L) {
        const AK_FN(norm) norm = AK_FN(norm_of)(&in->activation, block, reading);
        for (int k = 0; k < panel->count; k += 2) {
            const int tiles = ak_min(2, panel->count - k);
            ak_vec t[2][POINTS][POINTS];
            for (int q = 0; q < tiles; q++)
                AK_FN(window_columns)(&in->map, block, &panel->tile[k + q], &norm, t[q], reading, window);
            const long *at = panel->at;
            for (int i = 0; i < POINTS; i++, at += POINTS) {
                ak_vec o[2][POINTS];
                bool needs[2][POINTS];
                AK_UNROLL for (int q = 0; q < 2; q++) {
                    const ak_polyphase_tile *tile = &panel->tile[k + q];
                    const bool row = q < tiles && ak_polyphase_needs(SIDE, tile->rows, i);
                    if (row) AK_FN(window_row)(t[q], i, o[q], window);
                    AK_UNROLL for (int j = 0; j < POINTS; j++) {
                        needs[q][j] = row && ak_polyphase_needs(SIDE, tile->cols, j);
                        if (!needs[q][j]) o[q][j] = ak_zero();
                    }
                }
                AK_UNROLL for (int j = 0; j < POINTS; j++)
                    if (needs[0][j] || needs[1][j]) AK_FN(put_pair)(v + at[j] + k * 16L, o[0][j], o[1][j]);
            }
        }
    }
}

#define OPERAND(name, reading, window) \
    AK_NOINLINE void AK_FN(name)( \
        const ak_source *in, int b0, int b1, const ak_polyphase_panel *panel, int positions, uint16_t *v) { \
        AK_FN(gradient_operand)(in, b0, b1, panel, positions, v, reading, window); \
    }
OPERAND(gradient_stored, AK_AS_STORED, AK_POLYPHASE_X)
OPERAND(gradient_affine, AK_AFFINE, AK_POLYPHASE_X)
OPERAND(gradient_prelu, AK_PRELU, AK_POLYPHASE_X)
OPERAND(gradient_dy, AK_AS_STORED, AK_POLYPHASE_TILE)
#undef OPERAND

// --------------------------------------------------------------------------------------------------------- the passes

/// A thread's part of the sums of all matrices.
void AK_FN(ak_polyphase_bf16_gradient_part)(void *context, int part, int parts);
void AK_FN(ak_polyphase_bf16_gradient_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_polyphase_gradient_job *job = context;
    const ak_polyphase_plan *plan = &job->plan;
    if (part >= plan->split.positions * plan->split.blocks) return;
    const int in_blocks = ak_blocks(job->x.map.c), positions = plan->positions;
    const long block = positions * 32L, matrix = ak_polyphase_matrix_stride(job->x.map.c, job->dy.c);
    const AK_FN(polyphase_share) share = AK_FN(polyphase_share_of)(plan, ak_blocks(job->dy.c), part);
    uint16_t *v = (uint16_t *)(plan->workspace + part * plan->thread_floats), *g = v + in_blocks * block;
    float *partial = job->partial + part % plan->split.positions * MATRICES * matrix;
    const ak_source dy = {.map = job->dy};
    const ak_reading reading = ak_reading_of(&job->x.activation);
    ak_polyphase_panel panels[2];
    AK_FN(polyphase_panel_of)(plan, &share, 0, &panels[0]);
    for (int round = 0; round < share.rounds; round++) {
        const ak_polyphase_panel *panel = &panels[round % 2];
        ak_polyphase_panel *next = &panels[(round + 1) % 2];
        if (reading == AK_AS_STORED) AK_FN(gradient_stored)(&job->x, 0, in_blocks, panel, positions, v);
        else if (reading == AK_AFFINE) AK_FN(gradient_affine)(&job->x, 0, in_blocks, panel, positions, v);
        else AK_FN(gradient_prelu)(&job->x, 0, in_blocks, panel, positions, v);
        AK_FN(gradient_dy)(&dy, share.k0, share.k1, panel, positions, g);
        AK_FN(polyphase_panel_of)(plan, &share, round + 1, next);
        AK_FN(ahead) ahead_x = AK_FN(ahead_of_window)(&job->x.map, next, 0, in_blocks, AK_POLYPHASE_X);
        AK_FN(ahead) ahead_dy = AK_FN(ahead_of_window)(&job->dy, next, share.k0, share.k1, AK_POLYPHASE_TILE);
        const int units = MATRICES * (share.k1 - share.k0);
        const int rows_x = AK_FN(ahead_rows)(&ahead_x, units), rows_dy = AK_FN(ahead_rows)(&ahead_dy, units);
        // A matrix without positions still is set to zero in the first round.
        for (int i = 0; i < MATRICES; i++)
            for (int k = share.k0; k < share.k1; k++) {
                const long at = panel->start[i] * 32L;
                AK_FN(gradient_sums)(
                    v + at, in_blocks, g + (k - share.k0) * block + at, 1, block,
                    panel->start[i + 1] - panel->start[i], partial + i * matrix + k * 256L * in_blocks, round == 0);
                AK_FN(ahead_step)(&ahead_x, rows_x);
                AK_FN(ahead_step)(&ahead_dy, rows_dy);
            }
    }
}

/// G^T: the gradients of the matrices to those of three taps.
AK_INLINE void AK_FN(phase_tap_gradients)(const ak_vec *m, ak_vec *o) {
    const ak_vec half = ak_splat(0.5f);
    o[0] = ak_fma(half, m[2] + m[3], m[1]);
    o[1] = m[0];
    o[2] = ak_fma(half, m[2] - m[3], m[4]);
}

/// Sums the partial gradients in the order of their positions, transforms them back, writes PyTorch's layout.
void AK_FN(ak_polyphase_bf16_gradient_sum_part)(void *context, int part, int parts);
void AK_FN(ak_polyphase_bf16_gradient_sum_part)(void *context, int part, int parts) {
    const ak_polyphase_gradient_job *job = context;
    const AK_FN(partial_gradients) from = {
        job->partial, ak_polyphase_matrix_stride(job->x.map.c, job->dy.c), job->plan.split.positions};
    AK_FN(put_gradient)(
        &from, job->dw, job->x.map.c, job->dy.c, job->accumulate, part, parts, WEIGHTS, AK_FN(phase_tap_gradients));
}
