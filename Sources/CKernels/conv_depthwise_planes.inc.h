// Depthwise convolutions of any geometry (the global KxK one above all), a plane at a time: the input lies in scratch
// with its padding, so that no tap needs a check. Included by conv_depthwise.inc.h.

/// The output pixel whose taps begin at x.
AK_INLINE ak_vec AK_FN(window)(const float *x, long row, const float *w, int kh, int kw) {
    ak_vec sum[4] = {ak_zero(), ak_zero(), ak_zero(), ak_zero()};
    for (int a = 0; a < kh; a++, x += row, w += kw * 16) {
        int b = 0;
        for (; b + 4 <= kw; b += 4)
            AK_UNROLL for (int i = 0; i < 4; i++)
                sum[i] = ak_fma(ak_load(x + (b + i) * 16), ak_load(w + (b + i) * 16), sum[i]);
        AK_UNROLL for (int i = 0; i < 3; i++)
            if (b + i < kw) sum[i] = ak_fma(ak_load(x + (b + i) * 16), ak_load(w + (b + i) * 16), sum[i]);
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/// Brings a plane of the input into scratch, whose padding is zero already.
AK_INLINE void AK_FN(bring_plane)(const ak_depthwise_job *job, int n, int block, float *plane) {
    const ak_conv *conv = job->conv;
    const long row = ak_depthwise_padded_row(conv);
    for (int y = 0; y < conv->h; y++)
        AK_FN(source_row)(&job->x, n, block, y, plane + (y + conv->pad) * row + conv->pad * 16);
}

AK_NOINLINE void AK_FN(plane_forward)(
    const ak_depthwise_job *job, int n, int block, float *plane, AK_FN(gathering) * moments) {
    const ak_conv *conv = job->conv;
    const long row = ak_depthwise_padded_row(conv);
    const float *w = job->weights + (long)block * conv->kh * conv->kw * 16;
    AK_FN(bring_plane)(job, n, block, plane);
    for (int y = 0; y < job->y.h; y++) {
        const AK_FN(target) to = AK_FN(target_of)(&job->y, n, block, y, moments);
        for (int x = 0; x < job->y.w; x++) {
            const ak_vec v = AK_FN(window)(plane + y * conv->stride * row + x * conv->stride * 16, row, w, conv->kh,
                conv->kw);
            AK_FN(leave)(&to, x, &v, 1, 1);
        }
        if (moments->count >= STRETCH) AK_FN(gather_end)(moments);
    }
}

/// What one pixel g of dy gives: to the window of dx where that is wanted, and to the taps' sums where those are. The
/// taps are in reverse order.
AK_INLINE void AK_FN(spread)(
    ak_vec g, const float *x, float *dx, long row, const float *w, float *sums, int kh, int kw, const bool to_dx,
    const bool to_dw) {
    int tap = kh * kw - 1;
    for (int a = 0; a < kh; a++)
        for (int b = 0; b < kw; b++, tap--) {
            const long at = a * row + b * 16;
            if (to_dx) ak_store(dx + at, ak_fma(g, ak_load(w + tap * 16), ak_load(dx + at)));
            if (to_dw) ak_store(sums + tap * 16, ak_fma(g, ak_load(x + at), ak_load(sums + tap * 16)));
        }
}

/// scratch: a padded plane of x, one of dx, and a line of dy.
AK_NOINLINE void AK_FN(plane_backward)(
    const ak_depthwise_job *job, int n, int block, float *scratch, float *sums, AK_FN(reducing) * reducing) {
    const ak_conv *conv = job->conv;
    const long row = ak_depthwise_padded_row(conv), size = ak_depthwise_padded_plane(conv);
    float *plane = scratch, *dx = plane + size, *line = dx + size;
    const bool to_dx = job->to->dx.data, to_dw = job->to->dw;
    const float *w = to_dx ? job->weights + (long)block * conv->kh * conv->kw * 16 : NULL;
    if (to_dw) AK_FN(bring_plane)(job, n, block, plane);
    if (to_dx) memset(dx, 0, (size_t)size * sizeof(float));
    for (int y = 0; y < job->dy.map.h; y++) {
        AK_FN(gradient_row)(&job->dy, n, block, y, line);
        for (int x = 0; x < job->dy.map.w; x++) {
            const long at = y * conv->stride * row + x * conv->stride * 16;
            const ak_vec g = ak_load(line + x * 16);
            if (to_dx && to_dw)
                AK_FN(spread)(g, plane + at, dx + at, row, w, sums, conv->kh, conv->kw, true, true);
            else if (to_dx) AK_FN(spread)(g, plane + at, dx + at, row, w, sums, conv->kh, conv->kw, true, false);
            else AK_FN(spread)(g, plane + at, dx + at, row, w, sums, conv->kh, conv->kw, false, true);
        }
    }
    if (!to_dx) return;
    for (int y = 0; y < conv->h; y++)
        AK_FN(leave_gradient)(job->to, dx + (y + conv->pad) * row + conv->pad * 16, n, block, y, reducing);
}
