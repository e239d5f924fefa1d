// 3x3 convolution with stride 2 on its phases: tiling, plans, dispatch. The work is in conv_polyphase.inc.h.
#include "conv_polyphase.h"

#include "fusion.h"

#define AK_KERNELS "conv_polyphase.inc.h"
#include "each_isa.h"

// ------------------------------------------------------------------------------------------------------------- tiling

/// Whether the tiles of a class have a row, or a column, less.
static bool class_less(int class, bool columns) { return columns ? class == 0 || class == 3 : class >= 2; }

/// Points that a tile of a class needs.
static int class_points(int side, int class) {
    const int rows = side - class_less(class, false), columns = side - class_less(class, true);
    return (2 * rows + 1) * (2 * columns + 1);
}

ak_polyphase_tiling ak_polyphase_tiling_make(int side, int n, int h, int w) {
    ak_polyphase_tiling t = {.side = side};
    const int down = (h + side - 1) / side, across = (w + side - 1) / side;
    t.down[1] = ak_min(down, side * down - h);
    t.across[1] = ak_min(across, side * across - w);
    t.down[0] = down - t.down[1];
    t.across[0] = across - t.across[1];
    t.begin[0] = 0;
    for (int class = 0; class < 4; class++)
        t.begin[class + 1] = t.begin[class]
            + (long)n * t.down[class_less(class, false)] * t.across[class_less(class, true)];
    return t;
}

long ak_polyphase_tiling_points(const ak_polyphase_tiling *t) {
    long points = 0;
    for (int class = 0; class < 4; class++)
        points += (t->begin[class + 1] - t->begin[class]) * class_points(t->side, class);
    return points;
}

long ak_polyphase_begin(const ak_polyphase_tiling *t, int part, int parts) {
    long wanted = ak_begin(ak_polyphase_tiling_points(t), part, parts);
    for (int class = 0; class < 4; class++) {
        const long tiles = t->begin[class + 1] - t->begin[class], points = class_points(t->side, class);
        if (wanted < tiles * points) return t->begin[class] + wanted / points;
        wanted -= tiles * points;
    }
    return t->begin[4];
}

static ak_polyphase_tile tile_at(const ak_polyphase_tiling *t, long index) {
    int class = 0;
    while (index >= t->begin[class + 1]) class++;
    const bool less_rows = class_less(class, false), less_columns = class_less(class, true);
    const int side = t->side, down = t->down[less_rows], across = t->across[less_columns];
    const long image = (long)down * across;
    index -= t->begin[class];
    const int row = (int)(index % image) / across, column = (int)(index % image) % across;
    return (ak_polyphase_tile){
        .n = (int)(index / image), .rows = side - less_rows, .cols = side - less_columns,
        .y = less_rows ? side * t->down[0] + (side - 1) * row : side * row,
        .x = less_columns ? side * t->across[0] + (side - 1) * column : side * column};
}

void ak_polyphase_panel_make(
    ak_polyphase_panel *panel, const ak_polyphase_tiling *tiling, long first, int count, int together) {
    const int side = tiling->side, points = 2 * side + 1, weights = side + 2;
    panel->side = side;
    panel->count = count;
    for (int t = 0; t < count; t++) panel->tile[t] = tile_at(tiling, first + t);
    int class[5];
    for (int i = 0; i < 5; i++) {
        const long begin = tiling->begin[i] - first;
        class[i] = begin < 0 ? 0 : begin > count ? count : (int)begin;
    }
    int position = 0;
    for (int matrix = 0; matrix < weights * weights; matrix++) {
        panel->start[matrix] = position;
        // The points of a row or column of weights: 0..<side of the first, one of each other.
        const int row = matrix / weights, column = matrix % weights, last = side - 1;
        for (int i = row ? row + last : 0; i <= row + last; i++)
            for (int j = column ? column + last : 0; j <= column + last; j++) {
                const bool last_row = !ak_polyphase_needs(side, last, i);
                const bool last_column = !ak_polyphase_needs(side, last, j);
                const int begin = last_column ? class[1] : 0;
                const int end = last_row ? class[2] : last_column ? class[3] : count;
                panel->at[i * points + j] = (position - begin / together) * 16L * together;
                if (begin < end) position += (end + together - 1) / together - begin / together;
            }
    }
    panel->start[weights * weights] = position;
}

// -------------------------------------------------------------------------------------------------------------- plans

/// Tiles of a panel where there are many channels.
enum { MANY_TILES = 72 };

/// Few channels do not repay the transforms, and maps that are no sum of fours and threes waste points.
bool ak_polyphase_takes(const ak_conv *conv) {
    if (conv->kh != 3 || conv->kw != 3 || conv->stride != 2 || conv->pad != 1 || conv->groups != 1) return false;
    if (conv->c < 16 || conv->k < 16) return false;
    const int h = ak_conv_out_h(conv), w = ak_conv_out_w(conv);
    const ak_polyphase_tiling tiling = ak_polyphase_tiling_make(AK_POLYPHASE_SIDE, 1, h, w);
    return (double)ak_polyphase_tiling_points(&tiling) < 0.75 * 9 * h * w;
}

static long weight_floats(const ak_conv *conv) {
    return AK_POLYPHASE_MATRICES * ak_polyphase_matrix_stride(conv->c, conv->k);
}

/// Channels on both sides.
static int channels(const ak_conv *conv) { return (ak_blocks(conv->c) + ak_blocks(conv->k)) * 16; }

ak_polyphase_plan ak_polyphase_plan_make(
    const ak_polyphase_tiling *tiling, ak_split split, int tiles, int together, long floats, void *workspace) {
    ak_polyphase_plan plan = {.tiling = *tiling, .together = together, .split = split, .workspace = workspace};
    const int points = 2 * tiling->side + 1;
    // A thread of small tiles has more than its share of them.
    const long share = tiling->begin[4] / split.positions * 5 / 4 + 1;
    plan.tiles = (int)(tiles < share ? tiles : share);
    // Odd, so that the blocks of a position fall into different cache sets.
    plan.positions = (points * points * ((plan.tiles + together - 1) / together)) | 1;
    plan.thread_floats = plan.positions * floats;
    return plan;
}

static ak_polyphase_tiling tiling_of(const ak_conv *conv, int n) {
    return ak_polyphase_tiling_make(AK_POLYPHASE_SIDE, n, ak_conv_out_h(conv), ak_conv_out_w(conv));
}

/// The plan of y or of dx. Few channels: as many tiles as fill the widest register tile at every point. Many: enough to
/// pay for reading the weights once more.
static ak_polyphase_plan plan_of(
    const ak_conv *conv, ak_direction direction, int n, int threads, void *workspace) {
    enum { UNIT = 4 * AK_POLYPHASE_GRID }; // points
    const ak_polyphase_tiling tiling = tiling_of(conv, n);
    const int pairs = (ak_blocks(direction == AK_FORWARD ? conv->k : conv->c) + 1) / 2;
    const ak_split split = ak_split_make(threads, (ak_polyphase_tiling_points(&tiling) + UNIT - 1) / UNIT, pairs);
    const int tiles = channels(conv) <= 640 ? 14 : MANY_TILES;
    return ak_polyphase_plan_make(&tiling, split, tiles, 1, channels(conv), workspace);
}

/// Splitting positions costs a partial gradient each; splitting output blocks transforms the inputs again.
ak_split ak_polyphase_gradient_split(
    const ak_conv *conv, const ak_polyphase_tiling *tiling, double cycles, int threads) {
    enum { LIMIT = 16 << 20 }; // floats of all partial gradients
    const int matrices = (tiling->side + 2) * (tiling->side + 2), pairs = (ak_blocks(conv->k) + 1) / 2;
    const int most = ak_max(1, (int)(LIMIT / (matrices * ak_polyphase_matrix_stride(conv->c, conv->k))));
    // Vector operations, of a pair of output blocks where there are such.
    const double products = (double)ak_polyphase_tiling_points(tiling) * ak_blocks(conv->c) * 16 * cycles;
    const double sums = matrices * ak_blocks(conv->c) * 32.0;
    const double inputs = 500.0 * (double)tiling->begin[4] * ak_blocks(conv->c);
    ak_split best = {1, 1};
    double least = 1e300;
    for (int a = ak_min(threads, most); a >= 1; a--) {
        if (a > 1 && tiling->begin[4] / a < 8) continue;
        const int b = ak_min(threads / a, pairs);
        const double blocks = (pairs + b - 1) / b;
        const double cost = (products * blocks + inputs) / a + sums * pairs * (1.5 * a + 3) / (a * b);
        if (cost < least) least = cost, best = (ak_split){a, b};
    }
    return best;
}

/// The plan of the weights' gradient. Each round reads and writes the sums of all matrices once more, so it takes more
/// tiles.
static ak_polyphase_plan gradient_plan_of(const ak_conv *conv, int n, int threads, void *workspace) {
    const ak_polyphase_tiling tiling = tiling_of(conv, n);
    const ak_split split = ak_polyphase_gradient_split(conv, &tiling, 2, threads);
    const int tiles = channels(conv) <= 320 ? 28 : MANY_TILES;
    return ak_polyphase_plan_make(&tiling, split, tiles, 1, channels(conv), workspace);
}

size_t ak_polyphase_packed_bytes(const ak_conv *conv, ak_dtype dtype, ak_direction direction) {
    (void)dtype;
    (void)direction;
    return (size_t)weight_floats(conv) * sizeof(float);
}

size_t ak_polyphase_workspace_bytes(const ak_conv *conv, ak_dtype dtype, int n, int threads) {
    (void)dtype;
    const ak_polyphase_plan gradient = gradient_plan_of(conv, n, threads, NULL);
    long floats = threads * gradient.thread_floats + gradient.split.positions * weight_floats(conv);
    for (int direction = AK_FORWARD; direction <= AK_BACKWARD; direction++) {
        const long needed = threads * plan_of(conv, (ak_direction)direction, n, threads, NULL).thread_floats;
        if (needed > floats) floats = needed;
    }
    return sizeof(float) * (size_t)floats;
}

// ----------------------------------------------------------------------------------------------------------- dispatch

void ak_polyphase_pack(
    ak_pool *pool, const ak_conv *conv, ak_dtype dtype, ak_direction direction, const float *weights, void *packed) {
    (void)dtype;
    ak_polyphase_pack_job job = {conv, direction, weights, packed};
    ak_pool_run(pool, AK_DISPATCH(ak_polyphase_pack_part), &job);
}

void ak_polyphase_forward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const void *packed, const ak_map *y, ak_moments *moments,
    void *workspace) {
    ak_polyphase_job job = {
        .direction = AK_FORWARD, .in = x->map, .activation = x->activation, .out = *y, .weights = packed,
        .moments = moments, .plan = plan_of(conv, AK_FORWARD, y->n, ak_pool_threads(pool), workspace)};
    ak_pool_run(pool, AK_DISPATCH(ak_polyphase_part), &job);
}

void ak_polyphase_backward(
    ak_pool *pool, const ak_conv *conv, const ak_source *x, const ak_gradient *dy, const void *packed,
    const ak_conv_gradients *to, void *workspace) {
    const int n = dy->map.n, threads = ak_pool_threads(pool);
    if (to->dx.data) {
        ak_polyphase_job job = {
            .direction = AK_BACKWARD, .in = dy->map, .out = to->dx, .weights = packed,
            .accumulate = to->accumulate_dx, .reduction = to->reduction,
            .plan = plan_of(conv, AK_BACKWARD, n, threads, workspace)};
        ak_pool_run(pool, AK_DISPATCH(ak_polyphase_part), &job);
    }
    if (!to->dw) return;
    ak_polyphase_gradient_job job = {
        .x = *x, .dy = dy->map, .plan = gradient_plan_of(conv, n, threads, workspace), .dw = to->dw,
        .accumulate = to->accumulate_dw};
    job.partial = job.plan.workspace + threads * job.plan.thread_floats;
    ak_pool_run(pool, AK_DISPATCH(ak_polyphase_gradient_part), &job);
    ak_pool_run(pool, AK_DISPATCH(ak_polyphase_gradient_sum_part), &job);
}
