// How the convolutions on phases work through panels of tiles: a thread's share of them, and reading ahead of it.
// Included once per instruction set, after conv_polyphase.h.

/// A thread's part of a plan: tiles t0..<t1 in `rounds` panels (one at least, be it empty), output blocks k0..<k1.
typedef struct {
    long t0, t1;
    int k0, k1, rounds;
} AK_FN(polyphase_share);

AK_INLINE AK_FN(polyphase_share) AK_FN(polyphase_share_of)(const ak_polyphase_plan *plan, int out_blocks, int part) {
    const ak_split split = plan->split;
    const int a = part % split.positions, b = part / split.positions, pairs = (out_blocks + 1) / 2;
    AK_FN(polyphase_share) s;
    s.t0 = ak_polyphase_begin(&plan->tiling, a, split.positions);
    s.t1 = ak_polyphase_begin(&plan->tiling, a + 1, split.positions);
    s.k0 = 2 * (int)ak_begin(pairs, b, split.blocks);
    s.k1 = ak_min(out_blocks, 2 * (int)ak_begin(pairs, b + 1, split.blocks));
    s.rounds = ak_max(1, (int)((s.t1 - s.t0 + plan->tiles - 1) / plan->tiles));
    return s;
}

/// The panel of a round; empty after the last.
AK_INLINE void AK_FN(polyphase_panel_of)(
    const ak_polyphase_plan *plan, const AK_FN(polyphase_share) * s, int round, ak_polyphase_panel *panel) {
    const long first = s->t0 + ak_begin(s->t1 - s->t0, round, s->rounds);
    const long end = s->t0 + ak_begin(s->t1 - s->t0, ak_min(round + 1, s->rounds), s->rounds);
    ak_polyphase_panel_make(panel, &plan->tiling, first, (int)(end - first), plan->together);
}

// ------------------------------------------------------------------------------------------------------- reading ahead

/// What is to be in the caches when the products at hand are done: blocks b0..<b1 of a map where a panel's tiles lie,
/// `scale` values per output and some before and after. A processor does not foresee windows of few rows, each
/// elsewhere in memory, and the transforms are too short to hide the wait, while the products leave the memory idle.
typedef struct {
    const ak_map *map;
    const ak_polyphase_panel *panel;
    int b0, b1, scale, before, after;
    int row, tile, block; // where it stands
} AK_FN(ahead);

AK_INLINE AK_FN(ahead) AK_FN(ahead_of)(
    const ak_map *m, const ak_polyphase_panel *panel, int b0, int b1, int scale, int before, int after) {
    return (AK_FN(ahead)){m, panel, b0, b1, scale, before, after, 0, 0, b0};
}

/// The panel's windows of x, or of dy for dx.
AK_INLINE AK_FN(ahead) AK_FN(ahead_of_window)(
    const ak_map *m, const ak_polyphase_panel *panel, int b0, int b1, ak_polyphase_window window) {
    return AK_FN(ahead_of)(
        m, panel, b0, b1, window == AK_POLYPHASE_X ? 2 : 1, window == AK_POLYPHASE_X, window == AK_POLYPHASE_DY);
}

/// Rows of windows per step, for all to be done in so many steps.
AK_INLINE int AK_FN(ahead_rows)(const AK_FN(ahead) * a, int steps) {
    return ((a->b1 - a->b0) * a->panel->count * (a->panel->side * a->scale + a->before + a->after) + steps - 1) / steps;
}

/// Whether what was read ahead for a whole panel has likely left the second-level cache again, so that it pays to call
/// for each tile's part once more shortly before its turn.
AK_INLINE bool AK_FN(ahead_fails)(const ak_polyphase_panel *panel, int blocks) { return panel->count * blocks >= 128; }

AK_NOINLINE void AK_FN(ahead_step)(AK_FN(ahead) * a, int rows) {
    const ak_map *m = a->map;
    const int bytes = m->dtype == AK_BF16 ? 2 : 4;
    for (; rows > 0 && a->block < a->b1; rows--) {
        const ak_polyphase_tile *tile = &a->panel->tile[a->tile];
        const int y = a->scale * tile->y - a->before + a->row;
        if (y >= 0 && y < m->h) {
            const int x0 = ak_max(0, a->scale * tile->x - a->before);
            const int x1 = ak_min(m->w, a->scale * (tile->x + tile->cols) + a->after);
            const char *from = (const char *)m->data + (ak_plane(m, tile->n, a->block) + y * m->row + x0 * 16) * bytes;
            for (int i = 0; i < (x1 - x0) * 16 * bytes; i += 64) __builtin_prefetch(from + i, 0, 2);
        }
        if (++a->row < a->scale * tile->rows + a->before + a->after) continue;
        a->row = 0;
        if (++a->tile < a->panel->count) continue;
        a->tile = 0;
        a->block++;
    }
}
