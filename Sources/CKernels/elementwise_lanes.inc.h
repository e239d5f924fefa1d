// What the element-wise kernels share inside one instruction set's copy: lanes as bf16 and as doubles, and the walk
// over the rows of a map. Included by elementwise.inc.h, norm.inc.h and flat.inc.h (see vector.h).

// --------------------------------------------------------------------------------------------------------------- lanes

AK_INLINE ak_vec AK_FN(from_bf16)(ak_hvec v) { return (ak_vec)(__builtin_convertvector(v, ak_uvec) << 16); }

/// Rounds to nearest even; a NaN stays one.
AK_INLINE ak_hvec AK_FN(to_bf16)(ak_vec v) {
    const ak_uvec bits = (ak_uvec)v, high = bits >> 16;
    const ak_uvec rounded = (bits + 0x7fff + (high & 1)) >> 16;
    // Compared as signed numbers: there the sign bit is clear, and sets without an unsigned comparison need no detour.
    const ak_ivec nan = (ak_ivec)(bits & 0x7fffffff) > 0x7f800000;
    return __builtin_convertvector((ak_uvec)ak_select(nan, high | 0x40, rounded), ak_hvec);
}

/// The first `count` lanes at p, the others `fill`.
AK_INLINE ak_vec AK_FN(load_some)(const float *p, int count, float fill) {
    float some[16];
    for (int i = 0; i < 16; i++) some[i] = i < count ? p[i] : fill;
    return ak_load_unaligned(some);
}

AK_INLINE void AK_FN(store_some)(float *p, ak_vec v, int count) {
    float some[16];
    ak_store_unaligned(some, v);
    for (int i = 0; i < count; i++) p[i] = some[i];
}

AK_INLINE double AK_FN(sum_lanes)(ak_dvec v) {
    double total = 0;
    for (int i = 0; i < 16; i++) total += v[i];
    return total;
}

/// Orders the stores that went past the caches before the end of the part.
AK_INLINE void AK_FN(stream_fence)(void) {
#if defined(__x86_64__)
    __builtin_ia32_sfence();
#endif
}

// ---------------------------------------------------------------------------------------------------------------- rows

AK_INLINE ak_walk AK_FN(walk)(const ak_map *map, int part, int parts) {
    const int blocks = ak_blocks(map->c);
    const long count = (long)map->n * blocks * map->h;
    return (ak_walk){ak_begin(count, part, parts), ak_begin(count, part + 1, parts), map->h, blocks};
}

AK_INLINE bool AK_FN(walk_next)(ak_walk *walk, ak_rows *rows) {
    if (walk->next >= walk->last) return false;
    const long plane = walk->next / walk->h;
    const long end = (plane + 1) * walk->h;
    const long stop = end < walk->last ? end : walk->last;
    rows->image = (int)(plane / walk->blocks);
    rows->block = (int)(plane % walk->blocks);
    rows->top = (int)(walk->next - plane * walk->h);
    rows->bottom = rows->top + (int)(stop - walk->next);
    walk->next = stop;
    return true;
}

/// Where the pixel (y, 0) of a block of channels lies.
AK_INLINE void *AK_FN(row_at)(const ak_map *map, ak_rows rows, int y, const bool bf16) {
    const long offset = ak_interior(map, rows.image, rows.block) + y * map->row;
    return (char *)map->data + offset * (bf16 ? 2 : 4);
}

/// Sixteen channels of pixel x of a row.
AK_INLINE ak_vec AK_FN(pixel)(const void *row, long x, const bool bf16) {
    return bf16 ? AK_FN(from_bf16)(ak_load_half((const uint16_t *)row + x * 16))
                : ak_load_unaligned((const float *)row + x * 16);
}

AK_INLINE void AK_FN(put_pixel)(void *row, long x, ak_vec v, const bool bf16) {
    if (bf16) ak_store_half((uint16_t *)row + x * 16, AK_FN(to_bf16)(v));
    else ak_store_unaligned((float *)row + x * 16, v);
}

/// The coefficients of a block of channels, zero in the padding lanes.
AK_INLINE ak_vec AK_FN(channels)(const float *p, int block, int c) {
    const int first = block * 16;
    return first + 16 <= c ? ak_load_unaligned(p + first) : AK_FN(load_some)(p + first, c - first, 0);
}

AK_INLINE void AK_FN(put_channels)(float *p, ak_vec v, int block, int c) {
    const int first = block * 16;
    if (first + 16 <= c) ak_store_unaligned(p + first, v);
    else AK_FN(store_some)(p + first, v, c - first);
}

AK_INLINE void AK_FN(zero_pixels)(void *row, int first, int last, const bool bf16) {
    for (int x = first; x < last; x++) AK_FN(put_pixel)(row, x, ak_zero(), bf16);
}

/// Zeroes everything around the interior that belongs to these rows: the columns left and right of them, the line above
/// the first, the lines below the last.
AK_INLINE void AK_FN(zero_margins)(const ak_map *map, ak_rows rows, const bool bf16) {
    if (map->halo == 0) return;
    const int end = map->cols - 1;
    if (rows.top == 0) AK_FN(zero_pixels)(AK_FN(row_at)(map, rows, -1, bf16), -1, end, bf16);
    for (int y = rows.top; y < rows.bottom; y++) {
        void *line = AK_FN(row_at)(map, rows, y, bf16);
        AK_FN(zero_pixels)(line, -1, 0, bf16);
        AK_FN(zero_pixels)(line, map->w, end, bf16);
    }
    if (rows.bottom < map->h) return;
    for (int y = map->h; y < map->rows - 1; y++) AK_FN(zero_pixels)(AK_FN(row_at)(map, rows, y, bf16), -1, end, bf16);
}
