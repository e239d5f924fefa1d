// Convolution as a matrix product: the inputs of a tile of output positions are gathered into a panel
// [step][position][16 channels] (a step is one tap of one input block), which then meets every output block while it
// lies in the cache. Any kernel size, stride, padding and grouping. Included once per instruction set.
#include "transpose.inc.h"
#include "conv_gemm_pack.inc.h"

// Register tiles: TILE positions x PAIR output blocks forward; TILE_C input channels x PAIR output blocks for weights.
#if AK_LEVEL >= 2
#define TILE 14
#define PAIR 2
#define TILE_C 8
#elif AK_REGISTERS == 8
#define TILE 6
#define PAIR 1
#define TILE_C 4
#else
#define TILE 2
#define PAIR 1
#define TILE_C 2
#endif

/// The positions first..<first+count of a gather.
AK_NOINLINE void AK_FN(gemm_positions)(const ak_gather *g, long first, int count, ak_position *out) {
    long per_image = (long)g->rows * g->cols;
    int n = (int)(first / per_image), rest = (int)(first % per_image), i = rest / g->cols, j = rest % g->cols;
    for (int p = 0; p < count; p++) {
        out[p].row = i * g->stride;
        out[p].col = j * g->stride;
        out[p].in = ak_interior(&g->in, n, 0) + out[p].row * g->in.row + out[p].col * 16;
        out[p].out = ak_interior(&g->out, n, 0) + (i * g->out_stride + g->out_row) * g->out.row
            + (j * g->out_stride + g->out_col) * 16;
        if (++j == g->cols) {
            j = 0;
            if (++i == g->rows) i = 0, n++;
        }
    }
}

/// True when no tap of any position leaves the input's physical extent (the halo supplies the zeros).
AK_INLINE bool AK_FN(gemm_inside)(const ak_gather *g) {
    int row1 = g->row0 + (g->taps_rows - 1) * g->step, col1 = g->col0 + (g->taps_cols - 1) * g->step;
    int last_row = (g->rows - 1) * g->stride, last_col = (g->cols - 1) * g->stride, halo = g->in.halo;
    return ak_min(g->row0, row1) >= -halo && ak_min(g->col0, col1) >= -halo
        && last_row + ak_max(g->row0, row1) < g->in.h + halo && last_col + ak_max(g->col0, col1) < g->in.w + halo;
}

/// Gathers steps s0..<s1 of `count` positions into panel[step][width][16]; positions count..<width repeat position 0.
AK_NOINLINE void AK_FN(gemm_gather)(
    const ak_gather *g, ak_range range, int s0, int s1, const ak_position *at, int count, int width, bool inside,
    float *panel) {
    const float *data = ak_floats(&g->in);
    long offsets[AK_GEMM_GRADIENT_POSITIONS];
    for (int s = s0; s < s1;) {
        int tap = s / range.count, block = s % range.count, blocks = ak_min(range.count - block, s1 - s);
        int dy = g->row0 + tap / g->taps_cols * g->step, dx = g->col0 + tap % g->taps_cols * g->step;
        long shift = dy * g->in.row + dx * 16;
        bool all = true;
        for (int p = 0; p < width; p++) {
            const ak_position *q = &at[p < count ? p : 0];
            bool valid = inside
                || (q->row + dy >= 0 && q->row + dy < g->in.h && q->col + dx >= 0 && q->col + dx < g->in.w);
            offsets[p] = valid ? q->in + shift : LONG_MIN;
            all &= valid;
        }
        for (int b = 0; b < blocks; b++, panel += (long)width * 16) {
            const float *from = data + (range.first + block + b) * g->in.block;
            if (all)
                for (int p = 0; p < width; p++) ak_store(panel + p * 16, ak_load(from + offsets[p]));
            else
                for (int p = 0; p < width; p++)
                    ak_store(panel + p * 16, offsets[p] == LONG_MIN ? ak_zero() : ak_load(from + offsets[p]));
        }
        s += blocks;
    }
}

/// TILE positions x `pair` output blocks; `steps` reduction steps of 16.
AK_INLINE void AK_FN(gemm_tile)(
    const float *panel, const float *w0, const float *w1, int steps, float *y0, float *y1, const ak_position *at,
    int count, ak_finish finish, const int pair) {
    ak_vec a[TILE], b[TILE];
    AK_UNROLL for (int p = 0; p < TILE; p++) a[p] = b[p] = ak_zero();
    for (int s = 0; s < steps; s++, panel += TILE * 16) {
        _Pragma("clang loop unroll_count(4)") for (int i = 0; i < 16; i++) {
            ak_vec u = ak_load(w0), v = pair == 2 ? ak_load(w1) : u;
            w0 += 16;
            w1 += 16;
            AK_UNROLL for (int p = 0; p < TILE; p++) {
                ak_vec x = ak_splat(panel[p * 16 + i]);
                a[p] = ak_fma(x, u, a[p]);
                if (pair == 2) b[p] = ak_fma(x, v, b[p]);
            }
        }
    }
#define FINISH(operation) \
    AK_UNROLL for (int p = 0; p < TILE; p++) \
        if (p < count) { \
            operation(y0 + at[p].out, a[p]); \
            if (pair == 2) operation(y1 + at[p].out, b[p]); \
        }
#define ADD(q, value) ak_store(q, ak_load(q) + (value))
    if (finish == AK_STREAM) {
        FINISH(ak_stream)
    } else if (finish == AK_ADD) {
        FINISH(ADD)
    } else {
        FINISH(ak_store)
    }
#undef ADD
#undef FINISH
}

AK_NOINLINE void AK_FN(gemm_tile_1)(
    const float *panel, const float *w, int steps, float *y, const ak_position *at, int count, ak_finish finish) {
    AK_FN(gemm_tile)(panel, w, w, steps, y, y, at, count, finish, 1);
}

#if PAIR == 2
AK_NOINLINE void AK_FN(gemm_tile_2)(
    const float *panel, const float *w0, const float *w1, int steps, float *y0, float *y1, const ak_position *at,
    int count, ak_finish finish) {
    AK_FN(gemm_tile)(panel, w0, w1, steps, y0, y1, at, count, finish, 2);
}
#endif

/// Output blocks k0..<k1, which share an input range, for tiles t0..<t1.
AK_NOINLINE void AK_FN(gemm_run)(
    const ak_gemm_job *job, ak_range range, int k0, int k1, long t0, long t1, float *panel) {
    const ak_gather *g = &job->gather;
    ak_position *at = (ak_position *)(panel + AK_GEMM_PANEL);
    int steps = g->taps_rows * g->taps_cols * range.count;
    long weights_block = (long)g->taps_rows * g->taps_cols * ak_group_range_max(g->out.c, g->in.c, g->groups) * 256;
    long positions = (long)g->in.n * g->rows * g->cols;
    bool inside = AK_FN(gemm_inside)(g);
    int chunk = ak_min(steps, AK_GEMM_STEPS);
    int tiles = ak_max(1, ak_min(AK_GEMM_PANEL / (TILE * 16 * ak_max(chunk, 1)), AK_GEMM_POSITIONS / TILE));
    float *y = ak_floats(&g->out);
    for (long t = t0; t < t1; t += tiles) {
        long first = t * TILE;
        int held = (int)(t1 - t < tiles ? t1 - t : tiles);
        int count = (int)(first + held * TILE < positions ? held * TILE : positions - first);
        AK_FN(gemm_positions)(g, first, count, at);
        int s0 = 0;
        do {
            int s1 = ak_min(s0 + chunk, steps);
            ak_finish finish = job->stream && steps <= chunk ? AK_STREAM : AK_STORE;
            if (job->accumulate || s0 > 0) finish = AK_ADD;
            long panel_tile = (long)(s1 - s0) * TILE * 16;
            for (int i = 0; i < held; i++)
                AK_FN(gemm_gather)(
                    g, range, s0, s1, at + i * TILE, ak_min(TILE, count - i * TILE), TILE, inside,
                    panel + i * panel_tile);
            for (int k = k0; k < k1;) {
                const float *w = job->weights + k * weights_block + (long)s0 * 256;
                float *yk = y + k * g->out.block;
                int pair = ak_min(PAIR, k1 - k);
                for (int i = 0; i < held; i++) {
                    const ak_position *q = at + i * TILE;
                    int valid = ak_min(TILE, count - i * TILE);
#if PAIR == 2
                    if (pair == 2) {
                        AK_FN(gemm_tile_2)(
                            panel + i * panel_tile, w, w + weights_block, s1 - s0, yk, yk + g->out.block, q, valid,
                            finish);
                        continue;
                    }
#endif
                    AK_FN(gemm_tile_1)(panel + i * panel_tile, w, s1 - s0, yk, q, valid, finish);
                }
                k += pair;
            }
            s0 = s1;
        } while (s0 < steps);
    }
}

/// The end of the run of output blocks from k that read the same input blocks.
AK_INLINE int AK_FN(gemm_run_end)(const ak_gather *g, int k, int k1, ak_range range) {
    for (k++; k < k1; k++) {
        ak_range next = ak_group_range(k, g->out.c, g->in.c, g->groups);
        if (next.first != range.first || next.count != range.count) break;
    }
    return k;
}

void AK_FN(ak_gemm_part)(void *context, int part, int parts);
void AK_FN(ak_gemm_part)(void *context, int part, int parts) {
    const ak_gemm_job *job = context;
    const ak_gather *g = &job->gather;
    int blocks = ak_blocks(g->out.c);
    if (job->border) {
        long planes = (long)g->out.n * blocks;
        for (long i = ak_begin(planes, part, parts); i < ak_begin(planes, part + 1, parts); i++)
            ak_zero_border(&g->out, (int)(i / blocks), (int)(i % blocks));
    }
    if (part >= job->split.positions * job->split.blocks) return;
    if (job->accumulate && g->taps_rows * g->taps_cols == 0) return;
    int a = part % job->split.positions, b = part / job->split.positions;
    long tiles = ((long)g->in.n * g->rows * g->cols + TILE - 1) / TILE;
    long t0 = ak_begin(tiles, a, job->split.positions), t1 = ak_begin(tiles, a + 1, job->split.positions);
    // Cut between pairs of output blocks, so that no thread is left with many single ones.
    int pairs = (blocks + 1) / 2;
    int k0 = 2 * (int)ak_begin(pairs, b, job->split.blocks);
    int k1 = ak_min(blocks, 2 * (int)ak_begin(pairs, b + 1, job->split.blocks));
    float *panel = job->workspace + part * ak_gemm_thread_floats();
    for (int k = k0; k < k1;) {
        ak_range range = ak_group_range(k, g->out.c, g->in.c, g->groups);
        int end = AK_FN(gemm_run_end)(g, k, k1, range);
        AK_FN(gemm_run)(job, range, k, end, t0, t1, panel);
        k = end;
    }
    if (job->stream) ak_stream_fence();
}

// ------------------------------------------------------------------------------------------- gradient of the weights

/// TILE_C input channels x `pair` output blocks, summed over `count` positions.
AK_INLINE void AK_FN(gemm_gradient_tile)(
    const float *x, const float *g0, const float *g1, int count, float *d0, float *d1, bool first, const int pair) {
    ak_vec a[TILE_C], b[TILE_C];
    AK_UNROLL for (int c = 0; c < TILE_C; c++) {
        a[c] = first ? ak_zero() : ak_load(d0 + c * 16);
        b[c] = first || pair == 1 ? ak_zero() : ak_load(d1 + c * 16);
    }
    _Pragma("clang loop unroll_count(4)") for (int p = 0; p < count; p++) {
        ak_vec u = ak_load(g0 + p * 16), v = pair == 2 ? ak_load(g1 + p * 16) : u;
        AK_UNROLL for (int c = 0; c < TILE_C; c++) {
            ak_vec s = ak_splat(x[p * 16 + c]);
            a[c] = ak_fma(s, u, a[c]);
            if (pair == 2) b[c] = ak_fma(s, v, b[c]);
        }
    }
    AK_UNROLL for (int c = 0; c < TILE_C; c++) {
        ak_store(d0 + c * 16, a[c]);
        if (pair == 2) ak_store(d1 + c * 16, b[c]);
    }
}

AK_NOINLINE void AK_FN(gemm_gradient_tile_1)(const float *x, const float *g, int count, float *d, bool first) {
    AK_FN(gemm_gradient_tile)(x, g, g, count, d, d, first, 1);
}

#if PAIR == 2
AK_NOINLINE void AK_FN(gemm_gradient_tile_2)(
    const float *x, const float *g0, const float *g1, int count, float *d0, float *d1, bool first) {
    AK_FN(gemm_gradient_tile)(x, g0, g1, count, d0, d1, first, 2);
}
#endif

/// Output blocks k0..<k1, which share an input range, for positions p0..<p1; dy's panel is [k - k0][position][16].
AK_NOINLINE void AK_FN(gemm_gradient_run)(
    const ak_gemm_gradient_job *job, ak_range range, int k0, int k1, long p0, long p1, float *partial, float *panel) {
    const ak_gather *g = &job->gather;
    enum { COUNT = AK_GEMM_GRADIENT_POSITIONS };
    float *panel_dy = panel + AK_GEMM_PANEL;
    ak_position *at = (ak_position *)(panel_dy + (long)ak_blocks(g->out.c) * COUNT * 16);
    int steps = g->taps_rows * g->taps_cols * range.count, chunk = AK_GEMM_PANEL / (COUNT * 16);
    long weights_block = (long)g->taps_rows * g->taps_cols * ak_group_range_max(g->out.c, g->in.c, g->groups) * 256;
    bool inside = AK_FN(gemm_inside)(g);
    const float *dy = ak_floats(&g->out);
    bool first = true;
    for (long p = p0; p < p1 || first; p += COUNT) {
        int count = (int)(p1 - p < COUNT ? p1 - p : COUNT);
        AK_FN(gemm_positions)(g, p, count, at);
        for (int k = k0; k < k1; k++)
            for (int i = 0; i < count; i++)
                ak_store(panel_dy + ((long)(k - k0) * COUNT + i) * 16, ak_load(dy + at[i].out + k * g->out.block));
        for (int s0 = 0; s0 < steps; s0 += chunk) {
            int s1 = ak_min(s0 + chunk, steps);
            if (count > 0) AK_FN(gemm_gather)(g, range, s0, s1, at, count, count, inside, panel);
            for (int k = k0; k < k1;) {
                int pair = ak_min(PAIR, k1 - k);
                const float *g0 = panel_dy + (long)(k - k0) * COUNT * 16;
                float *d = partial + k * weights_block + (long)s0 * 256;
                for (int s = 0; s < s1 - s0; s++)
                    for (int c = 0; c < 16; c += TILE_C) {
                        const float *x = panel + (long)s * count * 16 + c;
                        float *to = d + s * 256 + c * 16;
#if PAIR == 2
                        if (pair == 2) {
                            AK_FN(gemm_gradient_tile_2)(x, g0, g0 + COUNT * 16, count, to, to + weights_block, first);
                            continue;
                        }
#endif
                        AK_FN(gemm_gradient_tile_1)(x, g0, count, to, first);
                    }
                k += pair;
            }
        }
        first = false;
    }
}

void AK_FN(ak_gemm_gradient_part)(void *context, int part, int parts);
void AK_FN(ak_gemm_gradient_part)(void *context, int part, int parts) {
    (void)parts;
    const ak_gemm_gradient_job *job = context;
    const ak_gather *g = &job->gather;
    if (part >= job->split.positions * job->split.blocks) return;
    int a = part % job->split.positions, b = part / job->split.positions, blocks = ak_blocks(g->out.c);
    long positions = (long)g->in.n * g->rows * g->cols;
    long p0 = ak_begin(positions, a, job->split.positions), p1 = ak_begin(positions, a + 1, job->split.positions);
    int pairs = (blocks + 1) / 2;
    int k0 = 2 * (int)ak_begin(pairs, b, job->split.blocks);
    int k1 = ak_min(blocks, 2 * (int)ak_begin(pairs, b + 1, job->split.blocks));
    float *panel = job->workspace + part * ak_gemm_gradient_thread_floats(job->conv);
    for (int k = k0; k < k1;) {
        ak_range range = ak_group_range(k, g->out.c, g->in.c, g->groups);
        int end = AK_FN(gemm_run_end)(g, k, k1, range);
        AK_FN(gemm_gradient_run)(job, range, k, end, p0, p1, job->partial + a * job->partial_size, panel);
        k = end;
    }
}

/// Sums the partial gradients in the order of their positions and writes PyTorch's layout.
void AK_FN(ak_gemm_gradient_sum_part)(void *context, int part, int parts);
void AK_FN(ak_gemm_gradient_sum_part)(void *context, int part, int parts) {
    const ak_gemm_gradient_job *job = context;
    const ak_conv *conv = job->conv;
    int taps = conv->kh * conv->kw, kb = ak_blocks(conv->k), sums = job->split.positions;
    int held = ak_group_range_max(conv->k, conv->c, conv->groups);
    int cg = conv->c / conv->groups, kg = conv->k / conv->groups;
    long units = (long)kb * held;
    for (long unit = ak_begin(units, part, parts); unit < ak_begin(units, part + 1, parts); unit++) {
        int k0 = (int)(unit / held) * 16, block = (int)(unit % held);
        ak_range range = ak_group_range(k0 / 16, conv->k, conv->c, conv->groups);
        if (block >= range.count) continue;
        // Blocks are stored with the count of their own range, at the stride of the largest.
        const float *from = job->partial + (long)(k0 / 16) * taps * held * 256;
        int c0 = (range.first + block) * 16;
        for (int r0 = 0; r0 < 16 * taps; r0 += 16) {
            ak_vec rows[16];
            for (int i = 0; i < 16; i++) {
                int c = (r0 + i) / taps, tap = (r0 + i) % taps;
                const float *q = from + ((long)tap * range.count + block) * 256 + c * 16;
                ak_vec sum = ak_load(q);
                for (int s = 1; s < sums; s++) sum += ak_load(q + s * job->partial_size);
                rows[i] = sum;
            }
            AK_FN(transpose16)(rows);
            for (int k = k0; k < ak_min(k0 + 16, conv->k); k++) {
                int valid = ak_min(16, (conv->c - c0) * taps - r0);
                if (conv->groups == 1 && valid == 16) {
                    float *to = job->dw + ((long)k * conv->c + c0) * taps + r0;
                    ak_vec value = rows[k - k0];
                    ak_store_unaligned(to, job->accumulate ? ak_load_unaligned(to) + value : value);
                    continue;
                }
                float values[16];
                memcpy(values, &rows[k - k0], sizeof values);
                for (int i = 0; i < valid; i++) {
                    int c = c0 + (r0 + i) / taps, inner = c - k / kg * cg;
                    if (inner < 0 || inner >= cg) continue;
                    float *to = job->dw + ((long)k * cg + inner) * taps + (r0 + i) % taps;
                    *to = job->accumulate ? *to + values[i] : values[i];
                }
            }
        }
    }
}

#undef TILE
#undef PAIR
#undef TILE_C
