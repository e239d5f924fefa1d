// Rows of maps as the row-by-row convolutions take them: brought in as fp32 lines through their activation or chain,
// and left as the map's element type with their statistics. Included once per instruction set, after lanes.inc.h and
// fusion.inc.h.

// ---------------------------------------------------------------------------------------------------------- brought in

/// The coefficients as those of an affine map with a PReLU, whatever the reading: one code for all.
AK_INLINE AK_FN(norm) AK_FN(any_norm_of)(const ak_activation *a, int block) {
    const ak_reading reading = ak_reading_of(a);
    AK_FN(norm) n = {ak_splat(1), ak_zero(), ak_splat(1)};
    if (reading != AK_AS_STORED) n.scale = ak_load(a->scale + block * 16), n.shift = ak_load(a->shift + block * 16);
    if (reading == AK_PRELU) n.slope = ak_load(a->slope + block * 16);
    return n;
}

AK_INLINE void AK_FN(source_row_of)(
    const void *data, long at, int width, const AK_FN(norm) * norm, float *line, const ak_reading reading,
    const bool bf16) {
    _Pragma("clang loop unroll_count(2)") for (int p = 0; p < width; p++)
        ak_store(line + p * 16, AK_FN(activated)(AK_FN(lanes)(data, at + p * 16, bf16), norm, reading));
}

/// Row y of one plane of a source.
AK_NOINLINE void AK_FN(source_row)(const ak_source *x, int n, int block, int y, float *line) {
    const ak_map *m = &x->map;
    const long at = ak_plane(m, n, block) + y * m->row;
    const AK_FN(norm) norm = AK_FN(any_norm_of)(&x->activation, block);
    const bool stored = ak_reading_of(&x->activation) == AK_AS_STORED;
    if (m->dtype == AK_BF16) {
        if (stored) AK_FN(source_row_of)(m->data, at, m->w, &norm, line, AK_AS_STORED, true);
        else AK_FN(source_row_of)(m->data, at, m->w, &norm, line, AK_PRELU, true);
    } else {
        if (stored) AK_FN(source_row_of)(m->data, at, m->w, &norm, line, AK_AS_STORED, false);
        else AK_FN(source_row_of)(m->data, at, m->w, &norm, line, AK_PRELU, false);
    }
}

AK_INLINE void AK_FN(gradient_row_of)(
    const void *g, const void *x, long at, int width, const AK_FN(link) * link, float *line, const bool prelu,
    const bool bf16) {
    _Pragma("clang loop unroll_count(2)") for (int p = 0; p < width; p++) {
        const long here = at + p * 16;
        ak_store(
            line + p * 16,
            AK_FN(chained)(AK_FN(lanes)(g, here, bf16), AK_FN(lanes)(x, here, bf16), link, prelu));
    }
}

/// Row y of one plane of a gradient. Its map and that of its chain have one element type.
AK_NOINLINE void AK_FN(gradient_row)(const ak_gradient *g, int n, int block, int y, float *line) {
    const ak_map *m = &g->map;
    if (!g->chain.x.data) {
        AK_FN(source_row)(&(ak_source){.map = *m}, n, block, y, line);
        return;
    }
    const long at = ak_plane(m, n, block) + y * m->row;
    const bool prelu = g->chain.slope;
    const AK_FN(link) link = AK_FN(link_of)(&g->chain, block, prelu);
    const void *x = g->chain.x.data;
    if (m->dtype == AK_BF16) {
        if (prelu) AK_FN(gradient_row_of)(m->data, x, at, m->w, &link, line, true, true);
        else AK_FN(gradient_row_of)(m->data, x, at, m->w, &link, line, false, true);
    } else {
        if (prelu) AK_FN(gradient_row_of)(m->data, x, at, m->w, &link, line, true, false);
        else AK_FN(gradient_row_of)(m->data, x, at, m->w, &link, line, false, false);
    }
}

// ------------------------------------------------------------------------------------------------------------- to come

/// Up to two rows that will be read soon, asked for in passing, so many bytes for each pixel worked on: a row is
/// brought in faster than memory gives it, and the processor's own prefetching rests while the row is worked on.
typedef struct {
    const char *from[2];
    long bytes[2];
} AK_FN(ahead);

/// Nothing to ask for: `near` is any address that is read now.
AK_INLINE AK_FN(ahead) AK_FN(nothing_ahead)(const void *near) { return (AK_FN(ahead)){{near, near}, {0, 0}}; }

/// Number i is row y of a plane: `elements` of it for each pixel.
AK_INLINE void AK_FN(look_ahead)(AK_FN(ahead) * ahead, int i, const ak_map *m, int n, int block, int y, int elements) {
    const long size = m->dtype == AK_BF16 ? 2 : 4;
    if (!m->data) return;
    ahead->from[i] = (const char *)m->data + (ak_plane(m, n, block) + y * m->row) * size;
    ahead->bytes[i] = elements * size;
}

/// Asks for what belongs to `width` pixels.
AK_INLINE void AK_FN(ask)(const AK_FN(ahead) * ahead, int x, const int width) {
    AK_UNROLL for (int i = 0; i < 2; i++)
        for (long b = x * ahead->bytes[i]; b < (x + width) * ahead->bytes[i]; b += 64)
            __builtin_prefetch(ahead->from[i] + b, 0, 2);
}

// ---------------------------------------------------------------------------------------------------------------- left

// Values that a stretch or a partial sum takes before it joins the totals.
#define STRETCH 256

/// The moments of one block of channels as they are gathered.
typedef struct {
    ak_moments *into; // NULL: none are wanted
    AK_FN(stretch) stretch;
    int count;
} AK_FN(gathering);

AK_INLINE void AK_FN(gather_end)(AK_FN(gathering) * g) {
    if (g->into) AK_FN(stretch_end)(&g->stretch, g->count, g->into);
    g->count = 0;
}

/// Where values go: pixels of 16 channels of a map, or an fp32 line.
typedef struct {
    void *data;
    long at; // the element where the row begins
    bool bf16, stream;
    AK_FN(gathering) * moments; // NULL: none are wanted
} AK_FN(target);

AK_INLINE AK_FN(target) AK_FN(target_of)(const ak_map *m, int n, int block, int y, AK_FN(gathering) * moments) {
    return (AK_FN(target)){
        m->data, ak_plane(m, n, block) + y * m->row, m->dtype == AK_BF16, ak_streams(m),
        moments && moments->into ? moments : NULL};
}

/// Leaves the first `count` of `width` values, pixels x and on of the row.
AK_INLINE void AK_FN(leave)(const AK_FN(target) * to, int x, const ak_vec *v, int count, const int width) {
    const long at = to->at + x * 16;
    AK_FN(gathering) *g = to->moments;
    if (g) {
        if (g->count == 0) g->stretch = AK_FN(stretch_begin)(g->into, v[0]);
        AK_FN(stretch) s = g->stretch;
        AK_UNROLL for (int p = 0; p < width; p++)
            if (p < count) AK_FN(stretch_add)(&s, v[p]);
        g->stretch = s;
        g->count += count;
    }
#define LEAVE(operation) \
    AK_UNROLL for (int p = 0; p < width; p++) \
        if (p < count) operation;
    if (to->bf16) {
        LEAVE(AK_FN(put_lanes)(to->data, at + p * 16, v[p], true))
    } else if (to->stream) {
        LEAVE(ak_stream((float *)to->data + at + p * 16, v[p]))
    } else {
        LEAVE(ak_store((float *)to->data + at + p * 16, v[p]))
    }
#undef LEAVE
}
