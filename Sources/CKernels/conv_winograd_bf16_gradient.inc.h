// The gradient of the weights of conv_winograd_bf16.inc.h, which includes this: the adjoint of F(2x2, 3x3),
// dg = G^T [(B^T d B) . (A dY A^T)] G. bf16 products sum over pairs, and the sum here is over tiles, so both
// transformed operands hold two tiles interleaved: [point][block][pair of tiles][16 channels][2].

// -------------------------------------------------------------------------------------------------------- transforms

/// Column x of the rows around a tile, at four points of its height: of the source by B^T, of the output's gradient by
/// A, whose last point is left with the opposite sign.
AK_INLINE void AK_FN(gradient_column)(
    const AK_FN(rows) * rows, int x, const AK_FN(norm) * norm, ak_vec *o, const ak_reading reading, const bool of_dy) {
    if (!of_dy) {
        AK_FN(input_column)(rows, x, norm, o, reading);
        return;
    }
    AK_UNROLL for (int i = 0; i < 4; i++) o[i] = ak_zero();
    if (x >= rows->width) return;
    AK_UNROLL for (int i = 0; i < 2; i++)
        o[i * 3] = (ak_vec)_mm512_maskz_mov_ps(rows->keep[i], (__m512)AK_FN(lanes)(rows->at[i], x * 16L, true));
    o[1] = o[0] + o[3];
    o[2] = o[0] - o[3];
}

/// Row i of a tile's columns to four points of its width.
AK_INLINE void AK_FN(gradient_row)(ak_vec (*column)[4], int i, ak_vec *o, const bool of_dy) {
    if (!of_dy) {
        AK_FN(input_points)(column[0][i], column[1][i], column[2][i], column[3][i], o);
        return;
    }
    o[0] = column[0][i];
    o[1] = column[0][i] + column[1][i];
    o[2] = column[0][i] - column[1][i];
    o[3] = column[1][i];
}

/// Transforms a strip of one block, whose first tile is number `tile` of its panel, to v. The first tile of a pair
/// waits in `held` for the second, which may lie in the next strip. `stride`: elements between points.
AK_INLINE void AK_FN(gradient_strip)(
    const AK_FN(rows) * rows, AK_FN(strip) strip, int tile, const AK_FN(norm) * norm, ak_vec *held, uint16_t *v,
    long stride, const ak_reading reading, const bool of_dy) {
    const int before = of_dy ? 0 : 2; // columns shared with the tile before
    ak_vec column[4][4];
    AK_UNROLL for (int i = 0; i < before; i++)
        AK_FN(gradient_column)(rows, strip.x + i - 1, norm, column[i], reading, of_dy);
    for (int t = 0; t < strip.tiles; t++, tile++) {
        const int x = strip.x + 2 * t + before / 2;
        AK_UNROLL for (int i = 0; i < 2; i++)
            AK_FN(gradient_column)(rows, x + i, norm, column[before + i], reading, of_dy);
        uint16_t *to = v + tile / 2 * 32L;
        AK_UNROLL for (int i = 0; i < 4; i++) {
            ak_vec o[4];
            AK_FN(gradient_row)(column, i, o, of_dy);
            if (tile % 2 == 0)
                AK_UNROLL for (int j = 0; j < 4; j++) held[i * 4 + j] = o[j];
            else
                AK_UNROLL for (int j = 0; j < 4; j++)
                    AK_FN(put_pair)(to + (i * 4 + j) * stride, held[i * 4 + j], o[j]);
        }
        if (!of_dy) AK_UNROLL for (int i = 0; i < 4; i++) column[0][i] = column[2][i], column[1][i] = column[3][i];
    }
}

/// Transforms the strips of blocks b0..<b1 of a source or, `of_dy`, of the output's gradient. A last tile without a
/// second is paired with zeros.
AK_INLINE void AK_FN(gradient_operand)(
    const ak_source *in, int b0, int b1, const AK_FN(panel) * panel, uint16_t *v, long stride,
    const ak_reading reading, const bool of_dy) {
    const ak_map *m = &in->map;
    const int pairs = (panel->tiles + 1) / 2;
    ak_vec held[POINTS];
    for (int block = b0; block < b1; block++, v += pairs * 32L) {
        const AK_FN(norm) norm = AK_FN(norm_of)(&in->activation, block, reading);
        int tile = 0;
        for (int s = 0; s < panel->count; s++) {
            const AK_FN(strip) strip = panel->strips[s];
            const uint16_t *plane = ak_halves(m) + ak_plane(m, strip.n, block);
            const AK_FN(rows) rows = AK_FN(rows_of)(m, plane, strip.y - !of_dy);
            AK_FN(gradient_strip)(&rows, strip, tile, &norm, held, v, stride, reading, of_dy);
            tile += strip.tiles;
        }
        if (tile % 2 == 1)
            for (int point = 0; point < POINTS; point++)
                AK_FN(put_pair)(v + point * stride + tile / 2 * 32L, held[point], ak_zero());
    }
}

#define OPERAND(name, reading, of_dy) \
    AK_NOINLINE void AK_FN(name)( \
        const ak_source *in, int b0, int b1, const AK_FN(panel) * panel, uint16_t *v, long stride) { \
        AK_FN(gradient_operand)(in, b0, b1, panel, v, stride, reading, of_dy); \
    }
OPERAND(gradient_stored, AK_AS_STORED, false)
OPERAND(gradient_affine, AK_AFFINE, false)
OPERAND(gradient_prelu, AK_PRELU, false)
OPERAND(gradient_dy, AK_AS_STORED, true)
#undef OPERAND

// --------------------------------------------------------------------------------------------------------- the passes

/// A thread's part of the sums of all points.
void AK_FN(ak_winograd_bf16_gradient_part)(void *context, int part, int parts);
void AK_FN(ak_winograd_bf16_gradient_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_winograd_bf16_gradient_job *job = context;
    if (part >= job->split.positions * job->split.blocks) return;
    const int a = part % job->split.positions, b = part / job->split.positions;
    const ak_map *dy = &job->dy.map;
    const int in_blocks = ak_blocks(job->x.map.c), out_blocks = ak_blocks(dy->c);
    const int k0 = (int)ak_begin(out_blocks, b, job->split.blocks);
    const int k1 = (int)ak_begin(out_blocks, b + 1, job->split.blocks);
    const long all = ak_winograd_bf16_tiles(dy);
    const long t0 = ak_begin(all, a, job->split.positions), t1 = ak_begin(all, a + 1, job->split.positions);
    const int rounds = ak_max(1, (int)((t1 - t0 + job->tiles - 1) / job->tiles));
    uint16_t *v = (uint16_t *)(job->workspace + (size_t)part * job->thread_bytes), *g = v + POINTS * job->in_stride;
    float *partial = job->partial + a * POINTS * job->weights + k0 * 256L * in_blocks;
    const ak_reading reading = ak_reading_of(&job->x.activation);
    AK_FN(panel) panels[2];
    AK_FN(panel_of)(dy, t0, t1, 0, rounds, &panels[0]);
    for (int round = 0; round < rounds; round++) {
        const AK_FN(panel) *panel = &panels[round % 2], *next = &panels[(round + 1) % 2];
        AK_FN(panel_of)(dy, t0, t1, round + 1, rounds, &panels[(round + 1) % 2]);
        if (reading == AK_AS_STORED) AK_FN(gradient_stored)(&job->x, 0, in_blocks, panel, v, job->in_stride);
        else if (reading == AK_AFFINE) AK_FN(gradient_affine)(&job->x, 0, in_blocks, panel, v, job->in_stride);
        else AK_FN(gradient_prelu)(&job->x, 0, in_blocks, panel, v, job->in_stride);
        AK_FN(gradient_dy)(&job->dy, k0, k1, panel, g, job->out_stride);
        for (int point = 0; point < POINTS; point++) {
            const int b0 = (int)ak_begin(in_blocks, point, POINTS), b1 = (int)ak_begin(in_blocks, point + 1, POINTS);
            const int c0 = (int)ak_begin(k1 - k0, point, POINTS), c1 = (int)ak_begin(k1 - k0, point + 1, POINTS);
            AK_FN(prefetch)(&job->x.map, next, 1, b0, b1);
            AK_FN(prefetch)(dy, next, 0, k0 + c0, k0 + c1);
            const int pairs = (panel->tiles + 1) / 2;
            AK_FN(gradient_sums)(
                v + point * job->in_stride, in_blocks, g + point * job->out_stride, k1 - k0, pairs * 32L, pairs,
                partial + point * job->weights, round == 0);
        }
    }
}

/// G^T: four points to three taps, where the output's gradient changed the sign of the last.
AK_INLINE void AK_FN(tap_gradients)(const ak_vec *m, ak_vec *o) {
    const ak_vec half = ak_splat(0.5f), even = (m[1] + m[2]) * half;
    o[0] = m[0] + even;
    o[1] = (m[1] - m[2]) * half;
    o[2] = even - m[3];
}

/// Sums the partial gradients, transforms them back, writes PyTorch's layout.
void AK_FN(ak_winograd_bf16_gradient_sum_part)(void *context, int part, int parts);
void AK_FN(ak_winograd_bf16_gradient_sum_part)(void *context, int part, int parts) {
    const ak_winograd_bf16_gradient_job *job = context;
    const AK_FN(partial_gradients) from = {job->partial, job->weights, job->split.positions};
    AK_FN(put_gradient)(
        &from, job->dw, job->x.map.c, job->dy.map.c, job->accumulate, part, parts, 4, AK_FN(tap_gradients));
}
