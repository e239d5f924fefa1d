// Batch norm and PReLU on values in registers: applied on load, their statistics gathered on store. Included once per
// instruction set, after fusion.h and lanes.inc.h.

// ------------------------------------------------------------------------------------------------------------ forward

/// The coefficients of one block of channels.
typedef struct {
    ak_vec scale, shift, slope;
} AK_FN(norm);

AK_INLINE AK_FN(norm) AK_FN(norm_of)(const ak_activation *a, int block, const ak_reading reading) {
    AK_FN(norm) n = {ak_zero(), ak_zero(), ak_zero()};
    if (reading != AK_AS_STORED) {
        n.scale = ak_load(a->scale + block * 16);
        n.shift = ak_load(a->shift + block * 16);
    }
    if (reading == AK_PRELU) n.slope = ak_load(a->slope + block * 16);
    return n;
}

AK_INLINE ak_vec AK_FN(activated)(ak_vec x, const AK_FN(norm) * n, const ak_reading reading) {
    if (reading == AK_AS_STORED) return x;
    ak_vec z = ak_fma(x, n->scale, n->shift);
    if (reading == AK_PRELU) z = ak_select(z > ak_zero(), z, z * n->slope);
    return z;
}

// ----------------------------------------------------------------------------------------------------------- backward

/// The coefficients of one block of channels.
typedef struct {
    ak_vec scale, shift, slope, a, b, d;
} AK_FN(link);

AK_INLINE AK_FN(link) AK_FN(link_of)(const ak_chain *c, int block, const bool prelu) {
    AK_FN(link) l = {ak_zero(), ak_zero(), ak_zero(), ak_zero(), ak_zero(), ak_zero()};
    if (prelu) {
        l.scale = ak_load(c->scale + block * 16);
        l.shift = ak_load(c->shift + block * 16);
        l.slope = ak_load(c->slope + block * 16);
    }
    l.a = ak_load(c->a + block * 16);
    l.b = ak_load(c->b + block * 16);
    l.d = ak_load(c->d + block * 16);
    return l;
}

/// The gradient below norm and PReLU of the gradient g above them; x is what they were given.
AK_INLINE ak_vec AK_FN(chained)(ak_vec g, ak_vec x, const AK_FN(link) * l, const bool prelu) {
    if (prelu) g = ak_select(ak_fma(x, l->scale, l->shift) > ak_zero(), g, g * l->slope);
    return ak_fma(l->a, g, ak_fma(l->b, x, l->d));
}

// ------------------------------------------------------------------------------------------------- statistics of a map

/// A stretch of values of one block of channels, at most a few hundred: summed in fp32, less a shift of the order of
/// their mean, so that the squares stay of the order of the variance however large the mean is.
typedef struct {
    ak_vec shift, sum, squares;
} AK_FN(stretch);

/// `first`: any value of the stretch, used while nothing is known of the mean.
AK_INLINE AK_FN(stretch) AK_FN(stretch_begin)(const ak_moments *known, ak_vec first) {
    return (AK_FN(stretch)){known->count > 0 ? ak_narrow(known->mean) : first, ak_zero(), ak_zero()};
}

AK_INLINE void AK_FN(stretch_add)(AK_FN(stretch) * s, ak_vec v) {
    const ak_vec d = v - s->shift;
    s->sum += d;
    s->squares = ak_fma(d, d, s->squares);
}

/// Adds a set of values to the moments (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for
/// computing sample variances", 1979).
AK_INLINE void AK_FN(merge_moments)(ak_moments *into, double count, ak_dvec mean, ak_dvec m2) {
    const double total = into->count + count, share = count / total;
    const ak_dvec delta = mean - into->mean;
    into->mean += delta * share;
    into->m2 += m2 + delta * delta * (into->count * share);
    into->count = total;
}

/// Joins a stretch of `count` values to the moments.
AK_NOINLINE void AK_FN(stretch_end)(const AK_FN(stretch) * s, int count, ak_moments *into) {
    if (count == 0) return;
    const ak_dvec sum = ak_widen(s->sum), offset = sum * (1.0 / count);
    AK_FN(merge_moments)(into, count, ak_widen(s->shift) + offset, ak_widen(s->squares) - sum * offset);
}

// ------------------------------------------------------------------------------------------------ sums of a gradient

/// The coefficients of one block of channels.
typedef struct {
    ak_vec mean, scale, shift, slope;
} AK_FN(reducer);

AK_INLINE AK_FN(reducer) AK_FN(reducer_of)(const ak_reduction *r, int block, const bool prelu) {
    AK_FN(reducer) of = {ak_load(r->mean + block * 16), ak_zero(), ak_zero(), ak_zero()};
    if (prelu) {
        of.scale = ak_load(r->scale + block * 16);
        of.shift = ak_load(r->shift + block * 16);
        of.slope = ak_load(r->slope + block * 16);
    }
    return of;
}

/// fp32 sums over at most a few hundred pixels.
typedef struct {
    ak_vec g, gx, slope;
} AK_FN(partial_sums);

AK_INLINE void AK_FN(reduce_lanes)(
    AK_FN(partial_sums) * into, ak_vec g, ak_vec x, const AK_FN(reducer) * r, const bool prelu) {
    if (prelu) {
        const ak_vec z = ak_fma(x, r->scale, r->shift);
        const ak_ivec positive = z > ak_zero();
        into->slope = ak_fma(ak_select(positive, ak_zero(), g), z, into->slope);
        g = ak_select(positive, g, g * r->slope);
    }
    into->g += g;
    into->gx = ak_fma(g, x - r->mean, into->gx);
}

AK_NOINLINE void AK_FN(partial_sums_end)(const AK_FN(partial_sums) * s, ak_sums *into) {
    into->g += ak_widen(s->g);
    into->gx += ak_widen(s->gx);
    into->slope += ak_widen(s->slope);
}
