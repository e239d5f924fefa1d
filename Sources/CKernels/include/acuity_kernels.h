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

/// NULL where the system refuses threads or memory.
ak_pool *ak_pool_create(int threads);
void ak_pool_destroy(ak_pool *pool);
int ak_pool_threads(const ak_pool *pool);
/// Processors that this process may run on: its affinity mask, as mpirun, Slurm or taskset left it.
int ak_available_processors(void);
/// Names the calling thread.
void ak_name_thread(const char *name);
/// Calls body(context, part, parts) once for every part in 0..<parts, parts == ak_pool_threads(pool); returns when
/// all have ended. Not re-entrant; one caller at a time (a second caller waits).
void ak_pool_run(ak_pool *pool, void (*body)(void *context, int part, int parts), void *context);

// ------------------------------------------------------------------------------------------------------ feature maps

typedef enum { AK_F32 = 0, AK_BF16 = 1 } ak_dtype;

/// A batch of feature maps in the blocked layout N, C/16, rows, columns, 16.
///
/// Element (n, c, y, x) is at data[n*image + (c/16)*block + y*row + x*16 + c%16], in elements of dtype; data is aligned
/// to 64 bytes. Channels are padded to a multiple of 16. There is no border: kernels that pad supply the zeros.
///
/// Invariant: every lane >= c is zero. A kernel that writes a map writes all of it.
typedef struct {
    void *data;
    ak_dtype dtype;
    int n, c, h, w;
    long row, block, image; // strides in elements: row = w*16, block = h*row, image = ceil(c/16)*block
} ak_map;

/// Fills in strides for the shape; data is stored as given.
ak_map ak_map_make(void *data, ak_dtype dtype, int n, int c, int h, int w);
/// Bytes that such a map takes.
size_t ak_map_bytes(ak_dtype dtype, int n, int c, int h, int w);

/// Plain NCHW fp32 to blocked and back (borders of the engine: images, taps, tests).
void ak_map_from_nchw(ak_pool *pool, const float *plain, ak_map y);
void ak_map_to_nchw(ak_pool *pool, ak_map x, float *plain);
/// All bytes of the map to zero.
void ak_map_zero(ak_pool *pool, ak_map x);

// ------------------------------------------------------------------------------------------------------------ fusion
//
// A batch norm, the PReLU after it and their backward are not passes over memory of their own: the kernel that writes a
// map gathers the norm's statistics while it has the values in registers, and the kernels that read the map apply norm
// and PReLU to what they load. Arrays of channels here hold 16*ceil(c/16) floats, zero beyond c, aligned to 64 bytes.

/// What a reader applies to a stored map x: v = prelu(scale[c]*x + shift[c], slope[c]).
/// scale NULL: v = x. slope NULL: no PReLU. prelu(z) = z where z > 0, else slope*z.
/// Zero padding is zero in v: it is not normalised.
typedef struct {
    const float *scale, *shift, *slope;
} ak_activation;

/// A stored map and what its reader applies to it.
typedef struct {
    ak_map map;
    ak_activation activation;
} ak_source;

/// The backward of norm and PReLU, applied by the reader of a stored gradient g of v (above), given the stored x:
/// dx = a[c]*g' + b[c]*x + d[c], where g' = g where scale*x + shift > 0, else slope*g. slope NULL: g' = g.
/// x.data NULL: dx = g.
typedef struct {
    ak_map x;
    const float *scale, *shift, *slope, *a, *b, *d;
} ak_chain;

/// A stored gradient and what its reader applies to it.
typedef struct {
    ak_map map;
    ak_chain chain;
} ak_gradient;

/// Statistics gathered by the kernel that writes a map, before rounding to its element type: one set per thread and
/// block of channels, in memory of ak_moments_bytes. NULL where a kernel takes it: none are wanted.
typedef struct ak_moments ak_moments;
size_t ak_moments_bytes(int c, int threads);
/// Gathers them in a pass of its own.
void ak_moments_of(ak_pool *pool, ak_map x, ak_moments *moments);
/// mean[c] and biased variance[c] (16*ceil(c/16) floats, zero beyond c) of all that was gathered. Accurate for any
/// mean: short fp32 sums, shifted by the mean of what came before, are merged in double; two runs on the same number of
/// threads give the same bits.
void ak_moments_fold(ak_pool *pool, const ak_moments *moments, int c, float *mean, float *variance);

/// The per-channel sums that the backward of norm and PReLU needs, gathered by the kernel that writes the gradient g of
/// v = prelu(scale*x + shift): sum of g', of g'*(x - mean), and of g*(scale*x + shift) where that is not positive.
typedef struct ak_sums ak_sums;
size_t ak_sums_bytes(int c, int threads);
typedef struct {
    ak_map x;                                  // the norm's input, of the gradient's shape
    const float *mean, *scale, *shift, *slope; // slope NULL: no PReLU
    ak_sums *sums;                             // NULL: none are wanted
} ak_reduction;
/// Gathers them in a pass of its own over g.
void ak_sums_of(ak_pool *pool, ak_map g, ak_reduction reduction);
/// dshift = sum g', dscale = invstd * sum g'*(x - mean), dslope (untouched when the reduction has no slope).
void ak_sums_fold(
    ak_pool *pool, const ak_reduction *reduction, const float *invstd, float *dscale, float *dshift, float *dslope);

// -------------------------------------------------------------------------------------------------------- convolution

/// A convolution without bias. Weights are PyTorch's: (k, c/groups, kh, kw), fp32, contiguous.
/// Both maps have the same element type. With bf16 maps the accumulation is fp32; operands are bf16 in the families that
/// have such products, where the instruction set multiplies bf16, else fp32. The same instruction set and number of
/// threads give the same bits.
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

typedef enum { AK_FORWARD = 0, AK_BACKWARD = 1 } ak_direction;

/// Bytes of the weights packed for one direction, for the instruction set in use and maps of the given type.
size_t ak_conv_packed_bytes(const ak_conv *conv, ak_dtype dtype, ak_direction direction);
/// Transforms the weights for one direction.
void ak_conv_pack(
    ak_pool *pool, const ak_conv *conv, ak_dtype dtype, ak_direction direction, const float *weights, void *packed);
/// Bytes of workspace for a batch of up to n images on `threads` threads: for any of the calls below.
size_t ak_conv_workspace_bytes(const ak_conv *conv, ak_dtype dtype, int n, int threads);
/// Does ak_conv_backward apply a chain to the gradient that it reads? If not, the caller applies it (ak_chain_apply).
bool ak_conv_chains(const ak_conv *conv, ak_dtype dtype);

/// y = conv(x); leaves y's moments unless NULL.
void ak_conv_forward(
    ak_pool *pool, const ak_conv *conv, ak_source x, const void *packed, ak_map y, ak_moments *moments,
    void *workspace);

/// Where the two gradients of a convolution go.
typedef struct {
    ak_map dx;              // data NULL: not wanted
    bool accumulate_dx;     // dx += conv^T(dy) in place of dx =
    ak_reduction reduction; // of dx as it is left, for the norm that x is read through
    float *dw;              // PyTorch's layout; NULL: not wanted
    bool accumulate_dw;
} ak_conv_gradients;

/// dx = conv^T(dy) and dw = sum over images and positions of x dy. `packed`: the weights packed for AK_BACKWARD, unused
/// where dx is not wanted. x is not read where dw is not wanted.
void ak_conv_backward(
    ak_pool *pool, const ak_conv *conv, ak_source x, ak_gradient dy, const void *packed, const ak_conv_gradients *to,
    void *workspace);

/// The first convolution reads plain NCHW fp32 images (c <= 4), so that no lane is wasted. Input gradients are not
/// needed. Same weights, same geometry. dy's chain is applied.
size_t ak_stem_workspace_bytes(const ak_conv *conv, int n, int threads);
void ak_stem_forward(
    ak_pool *pool, const ak_conv *conv, const float *images, int n, const float *weights, ak_map y, ak_moments *moments,
    void *workspace);
void ak_stem_backward_weights(
    ak_pool *pool, const ak_conv *conv, const float *images, int n, ak_gradient dy, float *dw, bool accumulate,
    void *workspace);

// ------------------------------------------------------------------------------------- batch norm, PReLU, additions

/// y = x + residual, each through its activation; residual.map.data NULL: y = x. Leaves y's moments unless NULL. y may be
/// one of the stored maps. Here and below the maps' element types may differ.
void ak_merge(ak_pool *pool, ak_source x, ak_source residual, ak_map y, ak_moments *moments);

/// dx = chain(g); with accumulate, dx +=; leaves the reduction of dx unless it has no sums. dx may be g's map.
void ak_chain_apply(ak_pool *pool, ak_gradient g, ak_map dx, bool accumulate, ak_reduction reduction);

/// y = a + b; y may be a or b.
void ak_add(ak_pool *pool, ak_map a, ak_map b, ak_map y);
/// Max-pool 1x1 with stride 2: y(n,c,i,j) = x(n,c,2i,2j); backward scatters (dx +=  with accumulate).
void ak_subsample_forward(ak_pool *pool, ak_source x, ak_map y);
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
/// One step of Adam on flat vectors: see ak_adam.
typedef struct {
    float scale;           // of the gradient
    float rate;            // learning rate / (1 - beta1^t)
    float beta1, rest1;    // rest = 1 - beta, rounded by itself
    float beta2, rest2;
    float root;            // 1 / sqrt(1 - beta2^t)
    float epsilon, decay;
} ak_adam_constants;
/// Adam in PyTorch's meaning, weight decay added to the gradient: g = scale*grad + decay*p; m = beta1*m + rest1*g;
/// s = beta2*s + rest2*g*g; p -= rate * m / (sqrt(s)*root + epsilon).
void ak_adam(
    ak_pool *pool, float *p, float *m, float *s, const float *grad, size_t count, const ak_adam_constants *constants);
/// ak_sgd on rows of (? x columns) matrices: for i in 0..<rows, row targets[i] of p and v with row sources[i] of grad.
/// targets NULL: row i. sources NULL: row i; a negative source stands for a zero gradient. No target comes twice.
void ak_sgd_rows(
    ak_pool *pool, float *p, float *v, const float *grad, const int32_t *targets, const int32_t *sources, size_t rows,
    size_t columns, float scale, float lr, float momentum, float decay);
/// The step of class centres whose cosines were compared, on the calling thread: ak_sgd on rows, with row i of
/// grad - p*(p.grad)*inverse[i]^2 in place of grad, for row targets[i] of p and v (row i where targets is NULL). inverse:
/// 1/|p| of row i; NULL takes grad as it is.
void ak_sgd_centres(
    float *p, float *v, const float *grad, const int32_t *targets, const float *inverse, size_t rows, size_t columns,
    float lr, float momentum, float decay);
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

// ------------------------------------------------------------------------------------ embeddings and class centres
//
// Products of n embeddings with very many class centres, d components each: d a multiple of 64. The centres are read where
// they lie, once for each call, and fetched ahead; the embeddings are packed first.

enum { AK_HEAD_ROWS = 256, AK_HEAD_COMPONENTS = 1024 };

/// Floats of n packed embeddings of d components; 0 where these kernels do not take them: n beyond AK_HEAD_ROWS, d beyond
/// AK_HEAD_COMPONENTS or no multiple of 64.
size_t ak_head_packed_floats(int n, int d);
/// x: n x d. packed: aligned to 64 bytes. On the calling thread.
void ak_head_pack(const float *x, int n, int d, float *packed);
/// z(i, j) = x(i)·w(j) for centres w (c x d); row i of z begins at z + i*ld. inverse[j] = 1 / max(|w(j)|, 1e-12), summed in
/// fp32; NULL: not wanted.
void ak_head_products(
    ak_pool *pool, const float *packed, int n, int d, const float *w, long c, float *z, long ld, float *inverse);
/// dx = g·w (n x d), or dx += with accumulate, for g like z.
void ak_head_input_gradient(
    ak_pool *pool, const float *g, long ld, int n, int d, const float *w, long c, float *dx, bool accumulate);
/// ak_sgd_centres on all threads of the pool with the gradient gT·x (c x d), which never exists as a whole: for j in
/// 0..<c, row targets[j] of p and v (row j where targets is NULL); inverse[j] = 1/|p| of that row, or NULL.
void ak_head_update(
    ak_pool *pool, const float *packed, const float *g, long ld, int n, int d, long c, float *p, float *v,
    const int32_t *targets, const float *inverse, float lr, float momentum, float decay);

// -------------------------------------------------------------------------------------------------------------- draws
//
// On the calling thread. One random word per index, four to a block of Philox 4x32-10: word i % 4 of the block with the
// counter (0, step, low word of i / 4, high word of i / 4).

/// words[i] = the word of index first + i, for i in 0..<count.
void ak_indexed_words(const uint32_t key[2], uint32_t step, uint64_t first, size_t count, uint32_t *words);
/// chosen = every i in 0..<count, rising, for which the word of index first + i is below the threshold; returns how many.
/// chosen has room for count.
size_t ak_indices_below(
    const uint32_t key[2], uint32_t step, uint64_t first, size_t count, uint32_t threshold, int32_t *chosen);

/// values[i] = (float)(deviation * sqrt(-2 log u) * cos(2 pi v)) with u = 1 - a/2^53 and v = b/2^53, where a and b are the
/// upper 53 bits of words 0, 1 and 2, 3 of the block with the counter (i, step, low word of index, high word of index).
/// The same bits with every instruction set, those of log, sqrt and cos in double.
void ak_keyed_normals(
    const uint32_t key[2], uint32_t step, uint64_t index, size_t count, double deviation, float *values);

// --------------------------------------------------------------------------------------------------------------- peak

/// Floating-point operations per second of fused multiply-adds in registers (AK_F32) or of bf16 products with fp32 sums
/// (AK_BF16; 0 where the instruction set in use has none), on all threads of the pool, with the instruction set in use.
/// A multiply-add counts as two. The best of some repetitions, about 50 ms in all.
double ak_peak_flops(ak_pool *pool, ak_dtype dtype);
/// Bytes per second of c = a + 0.5*b over the three thirds of the given memory, aligned to 64 bytes, which is
/// overwritten: two reads and a write past the caches, on all threads of the pool. The best of at least five passes
/// and about 50 ms.
double ak_peak_bandwidth(ak_pool *pool, void *memory, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
