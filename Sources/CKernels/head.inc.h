// Products of embeddings with class centres where they lie.

// Registers hold the sums of CLASSES centres and PANEL_VECS * 16 embeddings, or of TILE_ROWS rows and TILE_VECS * 16
// components.
#if AK_REGISTERS >= 32
#define CLASSES 12
#define PANEL_VECS 2
#define TILE_ROWS 6
#define TILE_VECS 4
#elif AK_REGISTERS >= 8
#define CLASSES 6
#define PANEL_VECS 1
#define TILE_ROWS 3
#define TILE_VECS 2
#else
#define CLASSES 2
#define PANEL_VECS 1
#define TILE_ROWS 2
#define TILE_VECS 1
#endif
#define PANEL (16 * PANEL_VECS)
#define TILE (16 * TILE_VECS)

AK_INLINE double AK_FN(head_sum)(ak_vec v) {
    const ak_dvec wide = ak_widen(v);
    double total = 0;
    for (int i = 0; i < 16; i++) total += wide[i];
    return total;
}

/// The inner product of two rows, in sixteen times four sums of fp32.
AK_INLINE double AK_FN(head_dot)(const float *a, const float *b, int d) {
    ak_vec sums[4] = {ak_zero(), ak_zero(), ak_zero(), ak_zero()};
    for (int k = 0; k < d; k += 64)
        AK_UNROLL for (int i = 0; i < 4; i++)
            sums[i] = ak_fma(ak_load_unaligned(a + k + i * 16), ak_load_unaligned(b + k + i * 16), sums[i]);
    return AK_FN(head_sum)((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

// ------------------------------------------------------------------------------------------------------------ products

/// sums[class][row of the panel] of CLASSES centres; fetches the centres `ahead` meanwhile, unless it is NULL.
AK_INLINE void AK_FN(head_products_tile)(
    const float *x, const float *const *w, const float *const *ahead, int d, float *sums) {
    ak_vec total[CLASSES][PANEL_VECS];
    AK_UNROLL for (int i = 0; i < CLASSES; i++)
        AK_UNROLL for (int v = 0; v < PANEL_VECS; v++) total[i][v] = ak_zero();
    for (int k = 0; k < d; k += 16) {
        if (ahead)
            for (int i = 0; i < CLASSES; i++) __builtin_prefetch(ahead[i] + k, 0, 2);
        _Pragma("clang loop unroll_count(4)") for (int e = k; e < k + 16; e++) {
            ak_vec a[PANEL_VECS];
            AK_UNROLL for (int v = 0; v < PANEL_VECS; v++) a[v] = ak_load(x + (long)e * AK_PANEL_ROWS + v * 16);
            AK_UNROLL for (int i = 0; i < CLASSES; i++) {
                const ak_vec s = ak_splat(w[i][e]);
                AK_UNROLL for (int v = 0; v < PANEL_VECS; v++) total[i][v] = ak_fma(s, a[v], total[i][v]);
            }
        }
    }
    AK_UNROLL for (int i = 0; i < CLASSES; i++)
        AK_UNROLL for (int v = 0; v < PANEL_VECS; v++) ak_store(sums + i * PANEL + v * 16, total[i][v]);
}

/// Of rows `row` to `row + rows` and `count` centres from j on.
AK_INLINE void AK_FN(head_put)(const head_task *t, const float *sums, int row, int rows, long j, const int count) {
    for (int r = 0; r < rows; r++) {
        float *z = t->z + (row + r) * t->ld + j;
        for (int i = 0; i < count; i++) z[i] = sums[i * PANEL + r];
    }
}

static void AK_FN(head_products)(void *task, int part, int parts) {
    const head_task *t = task;
    const long tiles = (t->c + CLASSES - 1) / CLASSES, last = ak_begin(tiles, part + 1, parts);
    float sums[CLASSES * PANEL] __attribute__((aligned(64)));
    for (long tile = ak_begin(tiles, part, parts); tile < last; tile++) {
        const long j = tile * CLASSES;
        const int count = (int)(t->c - j < CLASSES ? t->c - j : CLASSES);
        // Beyond the last centre there are copies of it.
        const float *w[CLASSES], *ahead[CLASSES];
        for (int i = 0; i < CLASSES; i++) {
            const long next = j + CLASSES + i;
            w[i] = t->w + (j + ak_min(i, count - 1)) * t->d;
            ahead[i] = t->w + (next < t->c ? next : t->c - 1) * t->d;
        }
        for (int row = 0; row < t->n; row += PANEL) {
            const float *x = t->panels + (long)(row / AK_PANEL_ROWS) * AK_PANEL_ROWS * t->d + row % AK_PANEL_ROWS;
            AK_FN(head_products_tile)(x, w, row == 0 ? ahead : NULL, t->d, sums);
            const int rows = ak_min(PANEL, t->n - row);
            if (count == CLASSES) AK_FN(head_put)(t, sums, row, rows, j, CLASSES);
            else AK_FN(head_put)(t, sums, row, rows, j, count);
        }
        for (int i = 0; t->inverse && i < count; i++) {
            const double length = __builtin_sqrt(AK_FN(head_dot)(w[i], w[i], t->d));
            // A NaN stays one.
            t->inverse[j + i] = (float)(1 / (length < 1e-12 ? 1e-12 : length));
        }
    }
}

// --------------------------------------------------------------------------------------------------- input gradient

/// dx += g*w for TILE_ROWS rows (of which `rows` count), TILE components and `count` centres. w: those of the first
/// centre; `ahead` further on lie those that are fetched meanwhile: every `every`th row from `due` on, of `left`.
AK_INLINE void AK_FN(head_gradient_tile)(
    const head_task *t, const float *const *g, float *const *dx, const int rows, const float *w, int count, bool fresh,
    long ahead, int due, int every, int left) {
    ak_vec total[TILE_ROWS][TILE_VECS];
    AK_UNROLL for (int i = 0; i < TILE_ROWS; i++)
        AK_UNROLL for (int v = 0; v < TILE_VECS; v++)
            total[i][v] = fresh ? ak_zero() : ak_load_unaligned(dx[i] + v * 16);
    for (int j = 0; j < count; j++, w += t->d) {
        if (j == due) {
            if (j < left)
                for (int v = 0; v < TILE_VECS; v++) __builtin_prefetch(w + ahead + v * 16, 0, 2);
            due += every;
        }
        ak_vec a[TILE_VECS];
        AK_UNROLL for (int v = 0; v < TILE_VECS; v++) a[v] = ak_load_unaligned(w + v * 16);
        AK_UNROLL for (int i = 0; i < TILE_ROWS; i++) {
            const ak_vec s = ak_splat(g[i][j]);
            AK_UNROLL for (int v = 0; v < TILE_VECS; v++) total[i][v] = ak_fma(s, a[v], total[i][v]);
        }
    }
    for (int i = 0; i < rows; i++)
        AK_UNROLL for (int v = 0; v < TILE_VECS; v++) ak_store_unaligned(dx[i] + v * 16, total[i][v]);
}

static void AK_FN(head_input_gradient)(void *task, int part, int parts) {
    const head_task *t = task;
    const int row_tiles = (t->n + TILE_ROWS - 1) / TILE_ROWS;
    const long tiles = (long)row_tiles * (t->d / TILE);
    const long first = ak_begin(tiles, part, parts), last = ak_begin(tiles, part + 1, parts);
    for (long c0 = 0; c0 < t->c; c0 += AK_CENTRES) {
        const int count = (int)(t->c - c0 < AK_CENTRES ? t->c - c0 : AK_CENTRES);
        const long left = t->c - c0 - AK_CENTRES;
        for (long tile = first; tile < last; tile++) {
            const int at = (int)(tile / row_tiles) * TILE, row_tile = (int)(tile % row_tiles);
            const int row = row_tile * TILE_ROWS, rows = ak_min(TILE_ROWS, t->n - row);
            const float *g[TILE_ROWS];
            float *dx[TILE_ROWS];
            for (int i = 0; i < TILE_ROWS; i++) {
                const long own = row + ak_min(i, rows - 1);
                g[i] = t->z + own * t->ld + c0;
                dx[i] = t->dx + own * t->d + at;
            }
            AK_FN(head_gradient_tile)(
                t, g, dx, rows, t->w + c0 * t->d + at, count, c0 == 0 && !t->accumulate, (long)AK_CENTRES * t->d,
                row_tile, row_tiles, left < 0 ? 0 : left > AK_CENTRES ? AK_CENTRES : (int)left);
        }
    }
}

// ----------------------------------------------------------------------------------------------------------- update

/// sums[centre][component] for TILE_ROWS centres and TILE components; fetches those of other centres and their momentum
/// meanwhile.
AK_INLINE void AK_FN(head_update_tile)(
    const head_task *t, const float *const *g, int at, const float *const *ahead, float *sums) {
    const float *x = t->chunks + (long)(at / AK_CHUNK) * AK_CHUNK * t->n + at % AK_CHUNK;
    ak_vec total[TILE_ROWS][TILE_VECS];
    AK_UNROLL for (int i = 0; i < TILE_ROWS; i++)
        AK_UNROLL for (int v = 0; v < TILE_VECS; v++) total[i][v] = ak_zero();
    long row = 0;
    for (int r = 0; r < t->n; r++, row += t->ld, x += AK_CHUNK) {
        if (r < 2 * TILE_ROWS * TILE_VECS)
            __builtin_prefetch(ahead[r % (2 * TILE_ROWS)] + at + r / (2 * TILE_ROWS) * 16, 1, 2);
        ak_vec a[TILE_VECS];
        AK_UNROLL for (int v = 0; v < TILE_VECS; v++) a[v] = ak_load_unaligned(x + v * 16);
        AK_UNROLL for (int i = 0; i < TILE_ROWS; i++) {
            const ak_vec s = ak_splat(g[i][row]);
            AK_UNROLL for (int v = 0; v < TILE_VECS; v++) total[i][v] = ak_fma(s, a[v], total[i][v]);
        }
    }
    AK_UNROLL for (int i = 0; i < TILE_ROWS; i++)
        AK_UNROLL for (int v = 0; v < TILE_VECS; v++) ak_store(sums + i * t->d + at + v * 16, total[i][v]);
}

/// The step of one centre with its gradient, less the part of it along the centre: that is a change of the decay.
AK_INLINE void AK_FN(head_step)(const head_task *t, float *p, float *v, const float *g, const float *length) {
    float decay = t->decay;
    if (length) decay -= (float)(AK_FN(head_dot)(g, p, t->d) * *length * *length);
    for (int k = 0; k < t->d; k += 16) {
        const ak_vec old = ak_load_unaligned(p + k);
        const ak_vec gradient = ak_fma(old, ak_splat(decay), ak_load(g + k));
        const ak_vec speed = ak_fma(ak_load_unaligned(v + k), ak_splat(t->momentum), gradient);
        ak_store_unaligned(v + k, speed);
        ak_store_unaligned(p + k, ak_fma(speed, ak_splat(-t->rate), old));
    }
}

static void AK_FN(head_update)(void *task, int part, int parts) {
    const head_task *t = task;
    const long tiles = (t->c + TILE_ROWS - 1) / TILE_ROWS, last = ak_begin(tiles, part + 1, parts);
    float sums[TILE_ROWS * AK_HEAD_COMPONENTS] __attribute__((aligned(64)));
    for (long tile = ak_begin(tiles, part, parts); tile < last; tile++) {
        const long j = tile * TILE_ROWS;
        const int count = (int)(t->c - j < TILE_ROWS ? t->c - j : TILE_ROWS);
        const float *g[TILE_ROWS], *ahead[2 * TILE_ROWS];
        for (int i = 0; i < TILE_ROWS; i++) {
            const long next = j + TILE_ROWS + i < t->c ? j + TILE_ROWS + i : t->c - 1;
            const long place = (t->targets ? t->targets[next] : next) * t->d;
            g[i] = t->z + j + ak_min(i, count - 1);
            ahead[i] = t->p + place;
            ahead[TILE_ROWS + i] = t->v + place;
        }
        for (int at = 0; at < t->d; at += TILE) AK_FN(head_update_tile)(t, g, at, ahead, sums);
        for (int i = 0; i < count; i++) {
            const long place = (t->targets ? t->targets[j + i] : j + i) * t->d;
            AK_FN(head_step)(t, t->p + place, t->v + place, sums + i * t->d, t->lengths ? t->lengths + j + i : NULL);
        }
    }
}

#undef CLASSES
#undef PANEL_VECS
#undef TILE_ROWS
#undef TILE_VECS
#undef PANEL
#undef TILE
