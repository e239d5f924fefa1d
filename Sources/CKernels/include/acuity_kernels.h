// Acuity's compute kernels: C behind one surface, compiled once per instruction set and chosen at run time.
//
// Names: ak_<operation>[_<direction>]. Shapes: N images, C channels, H rows, W columns, K output channels.
// Nothing here allocates during a step: workspaces are sized by *_workspace functions (bytes) and passed in,
// aligned to 64 bytes. Nothing here fails at run time: a wrong shape is a programmer's mistake and traps with a message.
#ifndef ACUITY_KERNELS_H
#define ACUITY_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// ---------------------------------------------------------------------------------------------- instruction sets

typedef enum {
    AK_ISA_PORTABLE = 0,
    AK_ISA_AVX2 = 1,        // AVX2 + FMA + F16C
    AK_ISA_AVX512 = 2,      // AVX-512 F, BW, DQ, VL
    AK_ISA_AVX512_BF16 = 3, // the above + AVX512-BF16
} ak_isa;

/// The best set this processor and operating system support.
ak_isa ak_isa_best(void);
/// The set in use. At first use: the environment variable ACUITY_ISA (portable, avx2, avx512, avx512bf16) if it is
/// set and supported, else ak_isa_best().
ak_isa ak_isa_current(void);
/// Selects a set for all later calls (tests). Returns false, changing nothing, when the machine lacks it.
bool ak_isa_select(ak_isa isa);
const char *ak_isa_name(ak_isa isa);

// ---------------------------------------------------------------------------------------------------- thread pool

/// A pool of `threads` participants, the calling thread being the first. Workers spin briefly, then sleep.
/// Work is split in fixed partitions, so that the same number of threads gives the same bits.
typedef struct ak_pool ak_pool;

/// cpus: one processor number per participant to bind to, or NULL to leave binding to the system. The caller is
/// never bound.
ak_pool *ak_pool_create(int threads, const int *cpus);
void ak_pool_destroy(ak_pool *pool);
int ak_pool_threads(const ak_pool *pool);
/// Processors that this process may run on: its affinity mask, as mpirun, Slurm or taskset left it.
int ak_available_processors(void);
/// Calls body(context, part, parts) once for every part in 0..<parts, parts == ak_pool_threads(pool); returns when
/// all have ended. Not re-entrant; one caller at a time (a second caller waits).
void ak_pool_run(ak_pool *pool, void (*body)(void *context, int part, int parts), void *context);

// ------------------------------------------------------------------------------------------------------ feature maps

typedef enum { AK_F32 = 0, AK_BF16 = 1 } ak_dtype;

/// A batch of feature maps in the blocked layout N, C/16, rows, columns, 16.
///
/// Element (n, c, y, x) is at data[n*image + (c/16)*block + (y+halo)*row + (x+halo)*16 + c%16], in elements of dtype.
/// With halo == 1 the physical extent is rows = roundup4(h)+2, cols = roundup4(w)+2: one zero line above and on the
/// left, and zeros to the physical end below and on the right (so that every 4x4 output tile of a 3x3 convolution
/// reads inside the map). With halo == 0 rows = h, cols = w. Channels are padded to a multiple of 16 with zero lanes.
///
/// Invariant: every element outside the h x w interior and every lane >= c is zero. A kernel that writes a map writes
/// ALL of it, halo and padding lanes included (the buffer may have held another map before).
typedef struct {
    void *data;
    ak_dtype dtype;
    int n, c, h, w;
    int halo;       // 0 or 1
    int rows, cols; // physical extents, >= h + 2*halo, w + 2*halo
    long row, block, image; // strides in elements: row = cols*16, block = rows*row, image = ceil(c/16)*block
} ak_map;

/// Fills in extents and strides for the shape; data is stored as given.
ak_map ak_map_make(void *data, ak_dtype dtype, int n, int c, int h, int w, int halo);
/// Bytes that such a map takes.
size_t ak_map_bytes(ak_dtype dtype, int n, int c, int h, int w, int halo);

/// Plain NCHW fp32 to blocked and back (borders of the engine: images, taps, tests).
void ak_map_from_nchw(ak_pool *pool, const float *plain, ak_map y);
void ak_map_to_nchw(ak_pool *pool, ak_map x, float *plain);
/// All bytes of the map to zero.
void ak_map_zero(ak_pool *pool, ak_map x);

// -------------------------------------------------------------------------------------------------------- convolution

/// A convolution without bias. Weights are PyTorch's: (k, c/groups, kh, kw), fp32, contiguous.
/// Maps may have either halo (pad is 0 or 1); what a padded convolution reads is read faster with halo 1.
/// All are fp32. The same instruction set and number of threads give the same bits.
typedef struct {
    int c, k;      // input, output channels
    int kh, kw;
    int stride;    // 1 or 2
    int pad;       // 0 or 1
    int groups;    // 1, c (depthwise, k == c), or a divisor of both
    int h, w;      // input rows, columns
} ak_conv;

int ak_conv_out_h(const ak_conv *conv);
int ak_conv_out_w(const ak_conv *conv);

/// Bytes of the packed weights (both directions) for the instruction set in use, and of the workspace that the three
/// directions share, for a batch of n images on `threads` threads.
size_t ak_conv_packed_bytes(const ak_conv *conv);
size_t ak_conv_workspace_bytes(const ak_conv *conv, int n, int threads);

/// Transforms the weights for forward and backward-data. Called once per weight update.
void ak_conv_pack(ak_pool *pool, const ak_conv *conv, const float *weights, void *packed);
/// y = conv(x)
void ak_conv_forward(ak_pool *pool, const ak_conv *conv, ak_map x, const void *packed, ak_map y, void *workspace);
/// dx = conv^T(dy); with accumulate, dx += (halo stays zero).
void ak_conv_backward_data(
    ak_pool *pool, const ak_conv *conv, ak_map dy, const void *packed, ak_map dx, bool accumulate, void *workspace);
/// dw = sum over images and positions; dw in PyTorch's layout; with accumulate, dw +=.
void ak_conv_backward_weights(
    ak_pool *pool, const ak_conv *conv, ak_map x, ak_map dy, float *dw, bool accumulate, void *workspace);

/// The first convolution reads plain NCHW fp32 images (c <= 4), so that no lane is wasted. Input gradients are not
/// needed. Same weights, same geometry.
size_t ak_stem_workspace_bytes(const ak_conv *conv, int n, int threads);
void ak_stem_forward(ak_pool *pool, const ak_conv *conv, const float *images, int n, const float *weights, ak_map y, void *workspace);
void ak_stem_backward_weights(ak_pool *pool, const ak_conv *conv, const float *images, int n, ak_map dy, float *dw, bool accumulate, void *workspace);

// ------------------------------------------------------------------------------------- batch norm, PReLU, additions

/// Batch statistics over n, h, w: mean[c], variance[c] (biased). Accurate for any mean: short fp32 sums, shifted by the
/// mean of what came before, are merged in double; two runs on the same number of threads give the same bits.
void ak_bn_statistics(ak_pool *pool, ak_map x, float *mean, float *variance, void *workspace);
size_t ak_bn_workspace_bytes(int c, int n, int threads);

/// y = scale[c]*x + shift[c], then PReLU with slope[c] unless slope is NULL, then + residual unless residual.data is
/// NULL (the order is: affine, PReLU, add; the residual is added last). y may be x or the residual. As for all kernels of
/// this part, the maps have one element type; their halos may differ.
void ak_affine(ak_pool *pool, ak_map x, const float *scale, const float *shift, const float *slope, ak_map residual, ak_map y);

/// Backward of y = prelu(bn(x)) (slope NULL: no PReLU), given the upstream gradient dy and the BN input x.
/// Pass 1 (reduce): per channel over n, h, w, with g = dy masked through the PReLU of z = scale*x + shift,
/// xhat = (x - mean)*invstd:
///   dgamma = sum g*xhat, dbeta = sum g, dslope = sum over z<=0 of dy*z (untouched when slope is NULL).
void ak_bn_backward_reduce(
    ak_pool *pool, ak_map x, ak_map dy, const float *mean, const float *invstd, const float *scale, const float *shift,
    const float *slope, float *dgamma, float *dbeta, float *dslope, void *workspace);
/// Pass 2 (apply): dx = a[c]*g + b[c]*x + d[c], g as above; the caller derives a, b, d from dgamma and dbeta
/// (training: a = gamma*invstd, b = -a*invstd*dgamma/M, d = -a*dbeta/M - b*mean; evaluation: b = d = 0).
/// With accumulate, dx +=. dx may be dy.
void ak_bn_backward_apply(
    ak_pool *pool, ak_map x, ak_map dy, const float *scale, const float *shift, const float *slope, const float *a,
    const float *b, const float *d, ak_map dx, bool accumulate);

/// y = a + b; y may be a or b.
void ak_add(ak_pool *pool, ak_map a, ak_map b, ak_map y);
/// Max-pool 1x1 with stride 2: y(n,c,i,j) = x(n,c,2i,2j); backward scatters (dx +=  with accumulate).
void ak_subsample_forward(ak_pool *pool, ak_map x, ak_map y);
void ak_subsample_backward(ak_pool *pool, ak_map dy, ak_map dx, bool accumulate);

/// Inverted dropout. Element (n, c, y, x) has the global index i = (((first_image + n)*C + c)*H + y)*W + x, PyTorch's flat
/// order; it is kept, times 1/(1 - probability), when u >= probability, where u in [0, 1) is the high 24 bits of the
/// first word of Philox 4x32-10 at counter (i mod 2^32, i / 2^32, 0, 0) under `key` (low word first). So the mask depends
/// neither on threads nor on ranks. probability is in [0, 1]; y may be x. Backward is the same call on the gradient.
void ak_dropout(ak_pool *pool, ak_map x, float probability, uint64_t key, uint64_t first_image, ak_map y);

// -------------------------------------------------------------------------------------------------- flat vectors

/// Sum of squares in double, fixed partition.
double ak_sum_squares(ak_pool *pool, const float *x, size_t count);
/// SGD in PyTorch's meaning: g = scale*grad + decay*p; v = momentum*v + g (dampening 0); p -= lr*v.
void ak_sgd(
    ak_pool *pool, float *p, float *v, const float *grad, size_t count, float scale, float lr, float momentum, float decay);
/// y += x
void ak_accumulate(ak_pool *pool, const float *x, float *y, size_t count);
/// x *= factor
void ak_scale(ak_pool *pool, float *x, float factor, size_t count);
/// True when all elements are finite.
bool ak_all_finite(ak_pool *pool, const float *x, size_t count);
/// Flat conversions: to bf16 rounds to nearest even and keeps a NaN one; back is exact.
void ak_bf16_from_f32(ak_pool *pool, const float *x, uint16_t *y, size_t count);
void ak_f32_from_bf16(ak_pool *pool, const uint16_t *x, float *y, size_t count);

/// Row-wise over an n x c matrix with leading dimension ld: maximum (-inf of an empty row; a NaN is passed over); then
/// x = exp(x - m) in place and row sums (exp within 2 units in the last place, exp(-inf) = 0, a NaN stays one).
void ak_row_max(ak_pool *pool, const float *x, int n, int c, long ld, float *maximum);
void ak_row_exp_sum(ak_pool *pool, float *x, int n, int c, long ld, const float *m, float *sum);
/// inverse[i] = 1 / max(|row i|, 1e-12) of an n x d matrix.
void ak_row_inverse_norm(ak_pool *pool, const float *x, int n, int d, long ld, float *inverse);

#ifdef __cplusplus
}
#endif
#endif
