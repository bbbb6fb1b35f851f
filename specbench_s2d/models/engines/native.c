/* One pass of a Llama-family model on a CPU in float32, as one call: layers, final norm and head.
 *
 * Shapes (names as in models/base.py): T new positions, S cached ones, D width, H query heads, K key-value heads,
 * C head width, F feed-forward width, V vocabulary. All widths are multiples of LANES.
 *
 * Matrices are packed as panels of PANEL outputs, (panels, in, PANEL), so that a product over one row reads its weights
 * in memory order, and one over several rows reads them once. Keys are stored as such panels too, (K, S / PANEL, C,
 * PANEL), and values as (K, S, C padded to PANEL): scores and attention outputs are then the same kind of product.
 *
 * Every output is summed by one thread, over its inputs in ascending order, for every T and every number of threads, so
 * the logits of a position do not depend on the width of its pass. An attention is summed in shares of CHUNK cached
 * positions, which are added up in ascending order too.
 */
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

#define LANES 16
#define STRIPS 4
#define PANEL (LANES * STRIPS)
#define ROWS 6          /* most rows of one tile */
#define BARRIER_SPINS 2000 /* about 50 microseconds before a waiting thread yields its core */
#define IDLE_SPINS 8000    /* about 200 microseconds, the time between two passes of a decoder */
#define PREFETCH_ROWS 32 /* rows of a panel, 8 KiB: beyond the page at which the processor stops fetching ahead */
#define TO_L2 2           /* into the second cache: the first can wait for few lines, and its own reads would queue */
#define DEPTH 64          /* inputs of a panel, 16 KiB, that all tiles of a group read before the next ones */
#define GROUP_TILES 11    /* up to 66 rows read the weights once */
#define CHUNK 128         /* cached positions whose share of an attention is computed at once */
#define PARTS 65536       /* floats of such shares that threads leave for each other, 256 KiB */
#if defined(__AVX512F__)
#define TILE_STRIPS 4 /* 6 rows x 4 strips of accumulators fill 24 of 32 registers */
#else
#define TILE_STRIPS 1 /* a strip is two of 16 registers, or four of 32 */
#endif

typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ilanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

typedef struct {
  const float *attention_norm, *qkv, *qkv_bias, *q_norm, *k_norm, *out, *mlp_norm, *gate_up, *down;
  float *keys, *values;
} Layer;

typedef struct {
  int64_t width, heads, kv_heads, head_width, inner, capacity, ids;
  float eps, scale;
  const float *embedding, *cos, *sin, *norm, *head; /* embedding: NULL where it is tied to the head */
  const float *fc, *fc_bias; /* of a draft head: (2 D, D) panels over the embedding and a state; NULL in a model */
  const float *embedding_norm, *state_norm; /* of one whose queries, keys and values are read of both, (T, 2 D), normed */
} Model;

typedef struct {
  const int64_t *ids;     /* (T,), or NULL where the input is hidden states */
  const float *hidden_in; /* (T, D); beside ids, the states that a draft head reads with them */
  const uint8_t *mask;    /* (T, seen) over the last `seen` positions, or NULL: causal */
  int64_t rows, start, seen, from_layer, to_layer;
  float *hidden_out; /* (hidden_rows, D), of the last positions, or NULL */
  float *logits;     /* (logit_rows, outputs), of the last positions, or NULL */
  int64_t hidden_rows, logit_rows, threads;
  const float *head;         /* the panels of the logits: the model's head, or some of its rows */
  int64_t outputs, kept;     /* columns of the logits; those that are not padding */
  const int64_t *kept_ids;   /* (kept,): the id of each of them, where `best` is wanted; NULL: its number */
  float *best;               /* (2, logit_rows): log-probability and id of the likeliest, or NULL */
  float *scratch;
  int64_t final;             /* the hidden states are as after the final norm */
  int64_t chain;             /* tokens that a draft head drafts one after another, in as many passes; 0: one pass */
  int64_t *drafted;          /* (chain,): their ids */
} Pass;

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static _Atomic int64_t arrived, barriers; /* of `barrier` */

/* Wait until all threads have arrived. Spins for a while, then yields: on a shared machine, the thread that is waited
 * for may need this core. */
static void barrier(int64_t threads) {
  if (threads < 2) return;
  int64_t here = atomic_load(&barriers);
  if (atomic_fetch_add(&arrived, 1) + 1 == threads) {
    atomic_store(&arrived, 0);
    atomic_store(&barriers, here + 1);
    return;
  }
  for (int64_t spins = 0; atomic_load(&barriers) == here; spins++)
    spins < BARRIER_SPINS ? relax() : (void)sched_yield();
}

static inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
/* Listed, it is one load; `(lanes){0} + x` adds, and spreads the sum in a unit that would multiply meanwhile. */
static inline lanes all(float x) { return (lanes){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

static inline float sum_lanes(lanes v) {
  float total = 0;
  for (int i = 0; i < LANES; i++) total += v[i];
  return total;
}

/* e^x to about 1e-7: 2^n times a polynomial on |r| <= ln(2)/2. */
static inline lanes exp_lanes(lanes x) {
  lanes low = all(-87.0f), high = all(88.0f), magic = all(12582912.0f); /* 1.5 * 2^23 rounds to a whole number */
  ilanes under = x < low, over = x > high;
  x = (lanes)(((ilanes)low & under) | ((ilanes)high & over) | ((ilanes)x & ~(under | over)));
  lanes whole = x * all(1.44269504f) + magic;
  lanes n = whole - magic;
  lanes r = x - n * all(0.693359375f) + n * all(2.12194440e-4f);
  lanes p = all(1.9875691500e-4f);
  p = p * r + all(1.3981999507e-3f);
  p = p * r + all(8.3334519073e-3f);
  p = p * r + all(4.1665795894e-2f);
  p = p * r + all(1.6666665459e-1f);
  p = p * r + all(5.0000001201e-1f);
  p = p * r * r + r + all(1.0f);
  ilanes scale = ((ilanes)whole - (ilanes)magic + 127) << 23;
  return p * (lanes)scale;
}

/* acc[m][s] = sum over i of x[m][i] * w[i][s], for `m_count` rows and `s_count` strips of one panel; added to what it
 * holds where `more`. Each step asks for `lines` cache lines at `ahead`, which then moves by `ahead_stride`. */
static inline __attribute__((always_inline)) void tile(
    const int m_count, const int s_count, const int lines, const float *x, int64_t x_stride, const float *w,
    int64_t w_stride, int64_t in, int more, const float *ahead, int64_t ahead_stride, lanes acc[ROWS][STRIPS]) {
  lanes a[ROWS][STRIPS];
#pragma GCC unroll 6
  for (int m = 0; m < m_count; m++)
#pragma GCC unroll 4
    for (int s = 0; s < s_count; s++) a[m][s] = more ? acc[m][s] : all(0);
  for (int64_t i = 0; i < in; i++) {
    lanes row[STRIPS];
#pragma GCC unroll 4
    for (int l = 0; l < lines; l++) __builtin_prefetch(ahead + i * ahead_stride + l * LANES, 0, TO_L2);
#pragma GCC unroll 4
    for (int s = 0; s < s_count; s++) row[s] = ((const lanes *)(w + i * w_stride))[s];
#pragma GCC unroll 6
    for (int m = 0; m < m_count; m++) {
      lanes b = all(x[m * x_stride + i]);
#pragma GCC unroll 4
      for (int s = 0; s < s_count; s++) a[m][s] += row[s] * b;
    }
  }
#pragma GCC unroll 6
  for (int m = 0; m < m_count; m++)
#pragma GCC unroll 4
    for (int s = 0; s < s_count; s++) acc[m][s] = a[m][s];
}

#define TILE(M, S, L) tile(M, S, L, x, x_stride, w, w_stride, in, more, ahead, ahead_stride, acc)
#define CASE(M, S) case M: if (half) TILE(M, S, (S + 1) / 2); else TILE(M, S, S); return
#define TILES(S) switch (rows) { CASE(1, S); CASE(2, S); CASE(3, S); CASE(4, S); CASE(5, S); CASE(6, S); }

/* The product of `rows` rows (1 to ROWS) with `strips` strips (1 to STRIPS) of a panel; `half`: each step asks for half
 * as many lines as it reads. */
static void product_part(int64_t rows, int64_t strips, const float *x, int64_t x_stride, const float *w,
                         int64_t w_stride, int64_t in, int more, int half, const float *ahead, int64_t ahead_stride,
                         lanes acc[ROWS][STRIPS]) {
  if (strips == STRIPS && (rows == 1 || TILE_STRIPS == STRIPS)) TILES(STRIPS)
  if (strips == 2 && (rows == 1 || TILE_STRIPS == STRIPS)) TILES(2)
  if (strips == 1) TILES(1)
  for (int64_t s = 0; s < strips; s++) { /* there are too few registers for all strips at once */
    lanes one[ROWS][STRIPS];
    for (int64_t m = 0; more && m < rows; m++) one[m][0] = acc[m][s];
    product_part(rows, 1, x, x_stride, w + s * LANES, w_stride, in, more, half, ahead + s * LANES, ahead_stride, one);
    for (int64_t m = 0; m < rows; m++) acc[m][s] = one[m][0];
  }
}

static void product(int64_t rows, int64_t strips, const float *x, int64_t x_stride, const float *w, int64_t w_stride,
                    int64_t in, lanes acc[ROWS][STRIPS]) {
  product_part(rows, strips, x, x_stride, w, w_stride, in, 0, 0, w + PREFETCH_ROWS * w_stride, w_stride, acc);
}

/* Products of `tiles` tiles of `step` rows, the last one smaller, with the same strips of a panel. All tiles read DEPTH
 * inputs before the next ones, so that weights come from memory once, and each asks for its part of the next ones, so
 * that memory has work all the time. Sums go on where they stood: the result is that of `product` to the last bit. */
static void products(int64_t tiles, int64_t step, int64_t rows, int64_t strips, const float *x, int64_t in,
                     const float *panel, lanes acc[GROUP_TILES][ROWS][STRIPS]) {
  if (tiles == 1) {
    product(rows, strips, x, in, panel, PANEL, in, acc[0]);
    return;
  }
  int half = strips == STRIPS;
  int64_t stride = half ? PANEL / 2 : PANEL;
  for (int64_t i = 0; i < in; i += DEPTH)
    for (int64_t j = 0; j < tiles; j++) {
      const float *ahead = panel + (i + DEPTH) * PANEL + (half ? j * DEPTH * PANEL / tiles : 0);
      product_part(least(step, rows - j * step), strips, x + j * step * in + i, in, panel + i * PANEL, PANEL,
                   least(DEPTH, in - i), i > 0, half, ahead, stride, acc[j]);
    }
}

/* Rows of one tile, so that all tiles are of about the same size. */
static inline int64_t tile_rows(int64_t rows) {
  int64_t tiles = (rows + ROWS - 1) / ROWS;
  return tiles ? (rows + tiles - 1) / tiles : 1;
}

typedef enum { STORE, ADD, GATE } Then;

/* Store a row's products with `strips` strips from strip `strip` on in its row of y. */
static inline void finish(const lanes *sums, int64_t strip, int64_t strips, const float *bias, float *row, int64_t out,
                          Then then) {
  if (then == GATE) {
    int64_t first = strip / STRIPS * PANEL / 2;
    lanes *at = (lanes *)(row + first);
    for (int64_t s = 0; s < least(STRIPS / 2, (out / 2 - first) / LANES); s++)
      at[s] = sums[s] / (all(1.0f) + exp_lanes(-sums[s])) * sums[s + STRIPS / 2];
    return;
  }
  lanes *at = (lanes *)(row + strip * LANES);
  for (int64_t s = 0; s < strips; s++) {
    lanes value = sums[s];
    if (bias) value += ((const lanes *)(bias + strip * LANES))[s];
    if (then == ADD) value += at[s];
    at[s] = value;
  }
}

/* y (T, out) = x (T, in) times packed w, for this thread's share of the strips. ADD: added to y. GATE: a panel holds
 * PANEL/2 gates and as many ups, and y (T, out / 2) is silu(gate) * up. */
static void multiply(const float *x, int64_t rows, int64_t in, const float *w, const float *bias, float *y, int64_t out,
                     Then then, int64_t thread, int64_t threads) {
  int64_t unit = then == GATE ? STRIPS : 2; /* panels of gates are full; the last of the others may not be */
  int64_t strips_all = up(out, then == GATE ? PANEL : LANES) / LANES, units = up(strips_all, unit) / unit;
  int64_t first = units * thread / threads * unit, last = least(units * (thread + 1) / threads * unit, strips_all);
  int64_t step = tile_rows(rows), y_stride = then == GATE ? out / 2 : out;
  for (int64_t strip = first; strip < last;) {
    int64_t within = strip % STRIPS, strips = least(STRIPS - within, last - strip);
    const float *panel = w + (strip / STRIPS) * PANEL * in + within * LANES;
    for (int64_t t = 0; t < rows; t += step * GROUP_TILES) {
      int64_t count = least(step * GROUP_TILES, rows - t);
      lanes acc[GROUP_TILES][ROWS][STRIPS];
      products((count + step - 1) / step, step, count, strips, x + t * in, in, panel, acc);
      for (int64_t m = 0; m < count; m++)
        finish(acc[m / step][m % step], strip, strips, bias, y + (t + m) * y_stride, out, then);
    }
    strip += strips;
  }
}

/* RMSNorm: x / sqrt(mean(x^2) + eps) * weight, row by row; without a weight, a copy. */
static void normalise(const float *x, int64_t rows, int64_t stride, int64_t width, const float *weight, float eps,
                      float *y, int64_t y_stride) {
  for (int64_t t = 0; t < rows; t++) {
    const lanes *from = (const lanes *)(x + t * stride), *w = (const lanes *)weight;
    lanes *to = (lanes *)(y + t * y_stride), squares = all(0);
    if (!weight) {
      for (int64_t s = 0; s < width / LANES; s++) to[s] = from[s];
      continue;
    }
    for (int64_t s = 0; s < width / LANES; s++) squares += from[s] * from[s];
    float factor = 1.0f / sqrtf(sum_lanes(squares) / (float)width + eps);
    for (int64_t s = 0; s < width / LANES; s++) to[s] = from[s] * factor * w[s];
  }
}

/* x * cos + swap of halves(x) * signed sin. */
static void rotate(const float *restrict x, const float *cos, const float *sin, int64_t width, float *restrict y) {
  int64_t half = width / 2;
  for (int64_t c = 0; c < half; c++) {
    y[c] = x[c] * cos[c] + x[c + half] * sin[c];
    y[c + half] = x[c + half] * cos[c + half] + x[c] * sin[c + half];
  }
}

/* The position of row t in its sequence: the number of positions that it sees, less one. */
static int64_t position(const Pass *pass, int64_t t) {
  if (!pass->mask) return pass->start + t;
  int64_t sees = pass->start + pass->rows - pass->seen; /* what lies before the mask */
  for (int64_t s = 0; s < pass->seen; s++) sees += pass->mask[t * pass->seen + s] != 0;
  return sees - 1;
}

/* Write the rotated queries of row t to (K, T * H / K, C), and its keys and values to the cache. */
static void rotate_and_store(const Model *model, const Layer *layer, const Pass *pass, int64_t t, float *qkv,
                             float *queries) {
  int64_t C = model->head_width, H = model->heads, K = model->kv_heads, group = H / K, padded = up(C, PANEL);
  int64_t slot = pass->start + t, at = position(pass, t);
  const float *cos = model->cos + at * C, *sin = model->sin + at * C;
  for (int64_t h = 0; h < H; h++) {
    float *head = qkv + h * C;
    if (layer->q_norm) normalise(head, 1, C, C, layer->q_norm, model->eps, head, C);
    rotate(head, cos, sin, C, queries + ((h / group * pass->rows + t) * group + h % group) * C);
  }
  for (int64_t k = 0; k < K; k++) {
    float *head = qkv + (H + k) * C;
    if (layer->k_norm) normalise(head, 1, C, C, layer->k_norm, model->eps, head, C);
    float *keys = layer->keys + (k * model->capacity + slot / PANEL * PANEL) * C + slot % PANEL, turned[C];
    rotate(head, cos, sin, C, turned);
    for (int64_t c = 0; c < C; c++) keys[c * PANEL] = turned[c];
    memcpy(layer->values + (k * model->capacity + slot) * padded, qkv + (H + K + k) * C, C * sizeof(float));
  }
}

/* Turn the scores of row t with the `padded` positions from `begin` on into attention weights before normalisation, 0
 * where masked. `facts`: the largest score and the sum of the weights, which is 0 where the row sees none of them. */
static void exponentiate(const Pass *pass, int64_t t, int64_t begin, int64_t padded, float *scores, float scale,
                         float *facts) {
  int64_t length = pass->start + pass->rows, masked = length - pass->seen;
  int64_t visible = (pass->mask ? length : pass->start + t + 1) - begin;
  for (int64_t s = visible > 0 ? visible : 0; s < padded; s++) scores[s] = -INFINITY;
  for (int64_t s = masked > begin ? masked - begin : 0; pass->mask && s < least(padded, visible); s++)
    if (!pass->mask[t * pass->seen + begin + s - masked]) scores[s] = -INFINITY;
  lanes *at = (lanes *)scores, largest = all(-INFINITY), total = all(0);
  for (int64_t s = 0; s < padded / LANES; s++) {
    ilanes more = at[s] > largest;
    largest = (lanes)(((ilanes)at[s] & more) | ((ilanes)largest & ~more));
  }
  float best = -INFINITY;
  for (int i = 0; i < LANES; i++) best = largest[i] > best ? largest[i] : best;
  for (int64_t s = 0; s < padded / LANES; s++) {
    ilanes hidden = at[s] == all(-INFINITY);
    at[s] = (lanes)((ilanes)exp_lanes((at[s] - all(best)) * scale) & ~hidden);
    total += at[s];
  }
  facts[0] = best;
  facts[1] = sum_lanes(total);
}

static inline int64_t share_floats(const Model *model) { return model->head_width + LANES; }

/* The share of one chunk of positions in the attention of up to ROWS queries of one key-value head, (row = position *
 * group + head of the group): for each, C sums of weighted values, the largest score and the sum of the weights. */
static void attend(const Model *model, const Layer *layer, const Pass *pass, int64_t k, int64_t first, int64_t rows,
                   int64_t chunk, const float *queries, float *shares, float *scores) {
  int64_t C = model->head_width, group = model->heads / model->kv_heads, wide = up(C, PANEL), begin = chunk * CHUNK;
  int64_t length = pass->mask ? pass->start + pass->rows : pass->start + (first + rows - 1) / group + 1;
  int64_t count = least(CHUNK, length - begin), padded = up(count, PANEL), stride = share_floats(model);
  const float *q = queries + (k * pass->rows * group + first) * C;
  const float *keys = layer->keys + (k * model->capacity + begin) * C;
  const float *values = layer->values + (k * model->capacity + begin) * wide;
  lanes acc[ROWS][STRIPS];
  if (count <= 0) { /* all see less than this chunk */
    for (int64_t m = 0; m < rows; m++) shares[m * stride + C + 1] = 0;
    return;
  }
  for (int64_t s = 0; s < padded; s += PANEL) {
    product(rows, STRIPS, q, C, keys + s * C, PANEL, C, acc);
    for (int64_t m = 0; m < rows; m++) memcpy(scores + m * CHUNK + s, acc[m], PANEL * sizeof(float));
  }
  for (int64_t m = 0; m < rows; m++)
    exponentiate(pass, (first + m) / group, begin, padded, scores + m * CHUNK, model->scale, shares + m * stride + C);
  for (int64_t c = 0; c < C; c += PANEL) {
    product(rows, STRIPS, scores, CHUNK, values + c, wide, count, acc);
    for (int64_t m = 0; m < rows; m++)
      memcpy(shares + m * stride + c, acc[m], least(PANEL, C - c) * sizeof(float));
  }
}

/* The attention of one query from its shares, which are `stride` floats apart. */
static void combine(const Model *model, const float *shares, int64_t chunks, int64_t stride, float *mixed) {
  int64_t C = model->head_width;
  float best = -INFINITY, total = 0;
  lanes *to = (lanes *)mixed;
  for (int64_t i = 0; i < chunks; i++) {
    const float *facts = shares + i * stride + C;
    if (facts[1] > 0 && facts[0] > best) best = facts[0];
  }
  for (int64_t s = 0; s < C / LANES; s++) to[s] = all(0);
  for (int64_t i = 0; i < chunks; i++) {
    const float *share = shares + i * stride;
    if (!(share[C + 1] > 0)) continue;
    float weight = exp_lanes(all((share[C] - best) * model->scale))[0];
    total += weight * share[C + 1];
    for (int64_t s = 0; s < C / LANES; s++) to[s] += all(weight) * ((const lanes *)share)[s];
  }
  for (int64_t s = 0; s < C / LANES; s++) to[s] /= all(total);
}

static inline float *place(const Model *model, float *mixed, int64_t k, int64_t row) {
  int64_t group = model->heads / model->kv_heads;
  return mixed + (row / group * model->heads + k * group + row % group) * model->head_width;
}

/* Attention of all rows to (T, H * C): `shared`, or this thread's `own`. Of few rows, the threads split the positions,
 * and each adds up all shares; of many, they split the rows. Either way the sums are the same. Returns where it is. */
static const float *attend_all(const Model *model, const Layer *layer, const Pass *pass, const float *queries,
                               float *parts, float *shared, float *own, float *scores, int64_t thread,
                               int64_t threads) {
  int64_t K = model->kv_heads, rows = pass->rows * (model->heads / K), each = share_floats(model);
  int64_t chunks = up(pass->start + pass->rows, CHUNK) / CHUNK, tiles = (rows + ROWS - 1) / ROWS, blocks = 1;
  if (K * chunks * rows * each <= PARTS) {
    while (K * chunks * blocks % threads && blocks < tiles) blocks++; /* the same number for every thread */
    int64_t units = K * chunks * blocks;
    for (int64_t unit = units * thread / threads; unit < units * (thread + 1) / threads; unit++) {
      int64_t head = unit / blocks / chunks, chunk = unit / blocks % chunks, block = unit % blocks;
      int64_t last = rows * (block + 1) / blocks, step = tile_rows(last - rows * block / blocks);
      for (int64_t row = rows * block / blocks; row < last; row += step)
        attend(model, layer, pass, head, row, least(step, last - row), chunk, queries,
               parts + ((head * chunks + chunk) * rows + row) * each, scores);
    }
    barrier(threads);
    for (int64_t i = 0; i < K * rows; i++)
      combine(model, parts + (i / rows * chunks * rows + i % rows) * each, chunks, rows * each,
              place(model, own, i / rows, i % rows));
    return own;
  }
  blocks = tiles;
  while (K * blocks % threads && blocks < rows) blocks++;
  for (int64_t unit = K * blocks * thread / threads; unit < K * blocks * (thread + 1) / threads; unit++) {
    int64_t head = unit / blocks, first = rows * (unit % blocks) / blocks, last = rows * (unit % blocks + 1) / blocks;
    float *shares = scores + ROWS * CHUNK;
    for (int64_t chunk = 0; chunk < chunks; chunk++)
      attend(model, layer, pass, head, first, last - first, chunk, queries, shares + chunk * ROWS * each, scores);
    for (int64_t row = first; row < last; row++)
      combine(model, shares + (row - first) * each, chunks, ROWS * each, place(model, shared, head, row));
  }
  barrier(threads);
  return shared;
}

/* Ask for large pages for `bytes` from `start` on, before they are first written: at the end of a small page, every
 * 4 KiB, the processor stops fetching ahead. Returns 0 where the system accepts. */
int want_large_pages(void *start, size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  return madvise(start, bytes, MADV_HUGEPAGE);
#else
  (void)start, (void)bytes;
  return -1;
#endif
}

/* Floats of a thread's own for a pass of `rows` positions up to `length`: inputs of a product, scores, and shares. */
static int64_t own_floats(const Model *model, int64_t rows, int64_t length) {
  int64_t C = model->head_width, inputs = model->width * (model->fc || model->state_norm ? 2 : 1);
  int64_t widest = inputs > model->heads * C ? inputs : model->heads * C;
  return rows * widest + ROWS * CHUNK + up(length, CHUNK) / CHUNK * ROWS * share_floats(model);
}

/* Floats that all threads share, but for the hidden states. */
static int64_t shared_floats(const Model *model, int64_t rows) {
  int64_t heads = model->heads + 2 * model->kv_heads, C = model->head_width;
  return rows * (heads * C + 2 * model->heads * C + model->inner) + PARTS;
}

/* Floats of scratch for a pass of `rows` positions up to `length`. */
int64_t scratch_floats(const Model *model, int64_t rows, int64_t length, int64_t threads) {
  return rows * model->width + shared_floats(model, rows) + threads * own_floats(model, rows, length);
}

/* Copy the embedding of an id. */
static void embed(const Model *model, int64_t id, float *to) {
  int64_t D = model->width;
  const float *column = model->head + id / PANEL * PANEL * D + id % PANEL;
  if (model->embedding) memcpy(to, model->embedding + id * D, D * sizeof(float));
  for (int64_t d = 0; d < D && !model->embedding; d++) to[d] = column[d * PANEL];
}

/* What queries, keys and values of a layer are read of, to `to`: the normed hidden states, or in a draft head's layer
 * the normed embeddings and states. Returns its width. */
static int64_t attention_inputs(const Model *model, const Layer *layer, const Pass *pass, const float *hidden,
                                float *to) {
  int64_t T = pass->rows, D = model->width;
  if (!model->state_norm) {
    normalise(hidden, T, D, D, layer->attention_norm, model->eps, to, D);
    return D;
  }
  for (int64_t t = 0; t < T; t++) {
    embed(model, pass->ids[t], to + t * 2 * D);
    normalise(to + t * 2 * D, 1, D, D, model->embedding_norm, model->eps, to + t * 2 * D, D);
  }
  normalise(hidden, T, D, D, model->state_norm, model->eps, to + D, 2 * D);
  return 2 * D;
}

static void run_layer(const Model *model, const Layer *layer, const Pass *pass, float *hidden, float *shared,
                      float *own, int64_t thread, int64_t threads) {
  int64_t T = pass->rows, D = model->width, H = model->heads, K = model->kv_heads, C = model->head_width;
  int64_t A = (H + 2 * K) * C, F = model->inner;
  float *qkv = shared, *queries = qkv + T * A, *mixed = queries + T * H * C, *gated = mixed + T * H * C;
  float *parts = gated + T * F, *scores = own + T * (D > H * C ? D : H * C);
  int64_t inputs = attention_inputs(model, layer, pass, hidden, own);
  multiply(own, T, inputs, layer->qkv, layer->qkv_bias, qkv, A, STORE, thread, threads);
  barrier(threads);
  for (int64_t t = thread; t < T; t += threads) rotate_and_store(model, layer, pass, t, qkv + t * A, queries);
  barrier(threads);
  const float *attended = attend_all(model, layer, pass, queries, parts, mixed, own, scores, thread, threads);
  multiply(attended, T, H * C, layer->out, NULL, hidden, D, ADD, thread, threads);
  barrier(threads);
  normalise(hidden, T, D, D, layer->mlp_norm, model->eps, own, D);
  multiply(own, T, D, layer->gate_up, NULL, gated, 2 * F, GATE, thread, threads);
  barrier(threads);
  multiply(gated, T, F, layer->down, NULL, hidden, D, ADD, thread, threads);
  barrier(threads);
}

/* Final norm and the pass's head over the last `logit_rows` rows, `hidden`, for this thread's share. */
static void run_head(const Model *model, const Pass *pass, const float *hidden, float *own, int64_t thread,
                     int64_t threads) {
  normalise(hidden, pass->logit_rows, model->width, model->width, pass->final ? NULL : model->norm, model->eps, own,
            model->width);
  multiply(own, pass->logit_rows, model->width, pass->head, NULL, pass->logits, pass->outputs, STORE, thread, threads);
}

/* The largest of `count` logits, the first of equal ones, and its log-probability; not-a-number where a logit is. */
static int64_t likeliest(const float *logits, int64_t count, float *logprob) {
  float top = -INFINITY, total = 0;
  lanes tops = all(top), sums = all(0);
  int64_t whole = count / LANES * LANES, best = 0;
  for (int64_t i = 0; i < whole; i += LANES) {
    lanes here = *(const lanes *)(logits + i);
    ilanes more = here > tops;
    tops = (lanes)(((ilanes)here & more) | ((ilanes)tops & ~more));
  }
  for (int i = 0; i < LANES; i++) top = tops[i] > top ? tops[i] : top;
  for (int64_t i = whole; i < count; i++) top = logits[i] > top ? logits[i] : top;
  while (best < count - 1 && logits[best] != top) best++;
  for (int64_t i = 0; i < whole; i += LANES) sums += exp_lanes(*(const lanes *)(logits + i) - all(top));
  total = sum_lanes(sums);
  for (int64_t i = whole; i < count; i++) total += expf(logits[i] - top);
  *logprob = -logf(total);
  return best;
}

typedef void (*Work)(const Model *, const Layer *, const Pass *, int64_t thread, int64_t threads);

/* The hidden states that enter the first layer: embeddings, given states, or a draft head's product of both. */
static void read_inputs(const Model *model, const Pass *pass, float *hidden, float *own, int64_t thread,
                        int64_t threads) {
  int64_t T = pass->rows, D = model->width;
  if (model->fc && pass->ids) { /* each thread gathers all rows: they are few, and a product wants them all */
    for (int64_t t = 0; t < T; t++) {
      embed(model, pass->ids[t], own + t * 2 * D);
      memcpy(own + (t * 2 + 1) * D, pass->hidden_in + t * D, D * sizeof(float));
    }
    multiply(own, T, 2 * D, model->fc, model->fc_bias, hidden, D, STORE, thread, threads);
    return;
  }
  for (int64_t t = thread; t < T; t += threads)
    if (pass->hidden_in) memcpy(hidden + t * D, pass->hidden_in + t * D, D * sizeof(float));
    else embed(model, pass->ids[t], hidden + t * D);
}

/* The pass, as run by each thread. */
static void pass_of_thread(const Model *model, const Layer *layers, const Pass *pass, int64_t thread, int64_t threads) {
  int64_t T = pass->rows, D = model->width;
  float *hidden = pass->scratch, *shared = hidden + T * D;
  float *own = shared + shared_floats(model, T) + thread * own_floats(model, T, pass->start + T);
  read_inputs(model, pass, hidden, own, thread, threads);
  barrier(threads);
  for (int64_t l = pass->from_layer; l < pass->to_layer; l++)
    run_layer(model, layers + l, pass, hidden, shared, own, thread, threads);
  if (pass->logits) run_head(model, pass, hidden + (T - pass->logit_rows) * D, own, thread, threads);
  if (pass->best) barrier(threads);
  for (int64_t r = thread; pass->best && r < pass->logit_rows; r += threads) {
    int64_t found = likeliest(pass->logits + r * pass->outputs, pass->kept, pass->best + r);
    pass->best[pass->logit_rows + r] = (float)(pass->kept_ids ? pass->kept_ids[found] : found);
  }
  if (pass->hidden_out && !thread)
    memcpy(pass->hidden_out, hidden + (T - pass->hidden_rows) * D, pass->hidden_rows * D * sizeof(float));
}

/* A draft head's chain: after the pass, each next one reads the likeliest token of the one before and the state predicted
 * there. `hidden_out` is (chain, D) and `best` (chain, 2); the logits are those of the last token. */
static void chain_of_thread(const Model *model, const Layer *layers, const Pass *pass, int64_t thread, int64_t threads) {
  Pass step = *pass;
  for (int64_t k = 0; k < pass->chain; k++) {
    step.hidden_out = pass->hidden_out + k * model->width, step.best = pass->best + 2 * k;
    pass_of_thread(model, layers, &step, thread, threads);
    barrier(threads);
    if (!thread) pass->drafted[k] = (int64_t)step.best[1];
    barrier(threads);
    step.ids = pass->drafted + k, step.hidden_in = step.hidden_out;
    step.start += step.rows, step.rows = 1;
  }
}

/* The thread pool: workers wait for a pass, first spinning, then asleep. It runs one pass at a time; where two Python
 * threads start one at once, the second runs without the pool. */
static struct {
  pthread_mutex_t busy, lock;
  pthread_cond_t wake;
  int64_t workers, asleep, threads;
  _Atomic int64_t generation;
  Work work;
  const Model *model;
  const Layer *layers;
  const Pass *pass;
} pool = {.busy = PTHREAD_MUTEX_INITIALIZER, .lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void *worker(void *argument) {
  int64_t thread = (intptr_t)argument, seen = 0;
  for (;;) {
    for (int64_t spins = 0; spins < IDLE_SPINS && atomic_load(&pool.generation) == seen; spins++) relax();
    pthread_mutex_lock(&pool.lock);
    pool.asleep++;
    while (atomic_load(&pool.generation) == seen) pthread_cond_wait(&pool.wake, &pool.lock);
    pool.asleep--;
    seen = atomic_load(&pool.generation);
    Work work = pool.work; /* copied under the lock, for the next pass does not wait for workers without a part here */
    const Model *model = pool.model;
    const Layer *layers = pool.layers;
    const Pass *pass = pool.pass;
    int64_t threads = pool.threads;
    pthread_mutex_unlock(&pool.lock);
    if (thread >= threads) continue;
    work(model, layers, pass, thread, threads);
    barrier(threads);
  }
  return NULL;
}

static void reset_pool(void) { /* a forked child has none of its parent's threads */
  pthread_mutex_init(&pool.busy, NULL);
  pthread_mutex_init(&pool.lock, NULL);
  pthread_cond_init(&pool.wake, NULL);
  pool.workers = pool.asleep = 0;
  atomic_store(&pool.generation, 0);
  atomic_store(&arrived, 0);
}

/* Start workers for `threads` threads; returns how many threads there are, as the system may refuse some. */
static int64_t grow_pool(int64_t threads) {
  static int registered = 0;
  if (!registered) registered = !pthread_atfork(NULL, NULL, reset_pool);
  while (pool.workers < threads - 1) {
    pthread_t id;
    if (pthread_create(&id, NULL, worker, (void *)(intptr_t)(pool.workers + 1))) break;
    pthread_detach(id);
    pool.workers++;
  }
  return least(threads, pool.workers + 1);
}

static void run_on_pool(Work work, const Model *model, const Layer *layers, const Pass *pass) {
  if (pass->threads < 2 || pthread_mutex_trylock(&pool.busy)) {
    work(model, layers, pass, 0, 1);
    return;
  }
  int64_t threads = grow_pool(pass->threads);
  pthread_mutex_lock(&pool.lock);
  pool.work = work, pool.model = model, pool.layers = layers, pool.pass = pass, pool.threads = threads;
  atomic_fetch_add(&pool.generation, 1);
  if (pool.asleep) pthread_cond_broadcast(&pool.wake);
  pthread_mutex_unlock(&pool.lock);
  work(model, layers, pass, 0, threads);
  barrier(threads);
  pthread_mutex_unlock(&pool.busy);
}

/* Run a pass. Returns 0, or without running anything 1 for an id out of range, 2 for a mask row that sees nothing. */
int run_pass(const Model *model, const Layer *layers, const Pass *pass) {
  for (int64_t t = 0; t < pass->rows; t++) {
    if (pass->ids && (pass->ids[t] < 0 || pass->ids[t] >= model->ids)) return 1;
    if (position(pass, t) < 0) return 2;
  }
  run_on_pool(pass->chain ? chain_of_thread : pass_of_thread, model, layers, pass);
  return 0;
}

#define STREAMS 4 /* places that a thread reads from in turn: the processor fetches ahead of each */

/* Sum this thread's share of the rows of `hidden_in`, (rows, PANEL), into `scratch`. */
static void stream_of_thread(const Model *model, const Layer *layers, const Pass *pass, int64_t thread, int64_t threads) {
  (void)model, (void)layers;
  int64_t first = pass->rows * thread / threads, last = pass->rows * (thread + 1) / threads;
  int64_t each = (last - first) / STREAMS;
  const float *from = pass->hidden_in + first * PANEL;
  lanes sums[STRIPS] = {{0}};
  for (int64_t i = 0; i < each; i++)
    for (int64_t k = 0; k < STREAMS; k++)
      for (int s = 0; s < STRIPS; s++) sums[s] += ((const lanes *)(from + (k * each + i) * PANEL))[s];
  for (int64_t i = each * STREAMS; i < last - first; i++)
    for (int s = 0; s < STRIPS; s++) sums[s] += ((const lanes *)(from + i * PANEL))[s];
  for (int s = 0; s < STRIPS; s++) pass->scratch[thread * STRIPS + s] = sum_lanes(sums[s]);
}

/* Read rows of PANEL floats once, `passes` times over, with the threads of a pass: as fast as weights can be read. The
 * sums, STRIPS for each thread, keep the compiler from leaving the reads out. */
void stream(const float *rows, int64_t count, int64_t threads, int64_t passes, float *sums) {
  Pass pass = {.hidden_in = rows, .rows = count, .threads = threads, .scratch = sums};
  for (int64_t i = 0; i < passes; i++) run_on_pool(stream_of_thread, NULL, NULL, &pass);
}
