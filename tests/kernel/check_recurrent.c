/* SPDX-License-Identifier: MIT
 * tests/kernel/check_recurrent.c: rows with a state: the short convolution and the gated delta rule. Results and the state that is
 * left are compared with the reference; what lies between their rows must stay as it was. */
#include "tests/kernel/check.h"

enum { X = 0, W = 1, BIAS = 2, POSITIONS = 3, STATE = 4, Y = 5, Q = 6, K = 7, V = 8, GATE = 9, BETA = 10 };

static float *floats(unsigned slot, int64_t n, fill kind, float limit, int round)
{
    float *x = round & 1 ? input_at_front(slot, (size_t)n * 4) : input_at_end(slot, (size_t)n * 4, 4);
    fill_floats(x, n, kind, limit);
    return x;
}

/* One sequence, that begins in the middle now and then. */
static int32_t *positions(int64_t rows, int round)
{
    int32_t *p = input_at_end(POSITIONS, (size_t)rows * 4, 4);
    int32_t at = round % 3 ? (int32_t)random_between(1, 1000) : 0;
    int64_t restart = round % 4 == 1 ? random_between(0, rows - 1) : -1;
    for (int64_t r = 0; r < rows; r++, at++)
        p[r] = at = r == restart ? 0 : at;
    return p;
}

/* {n, 1, rows}, stride floats between rows. */
static qk_tensor matrix(const void *data, int64_t n, int64_t rows, int64_t stride)
{
    return (qk_tensor){
        .data = (void *)(uintptr_t)data, .ne = {n, 1, rows, 1}, .nb = {4, 4 * stride, 4 * stride, 4 * stride * rows}};
}

static qk_tensor plane(const void *data, int64_t n, int64_t rows, int64_t stride) /* {n, rows} */
{
    qk_tensor t = matrix(data, n, rows, stride);
    t.ne[1] = rows;
    t.ne[2] = 1;
    t.nb[2] = t.nb[3];
    return t;
}

static qk_tensor integers(const int32_t *data, int64_t n)
{
    qk_tensor t = matrix(data, n, 1, n);
    t.format = QP_FORMAT_I32;
    return t;
}

static void *must(void *p)
{
    if (!p)
        exit(2);
    return p;
}

/* A state in an output slot: n numbers of each of `rows` rows, poison in between. */
static float *state_in(const float *from, int64_t n, int64_t rows, int64_t stride)
{
    float *s = output(STATE, (size_t)((rows - 1) * stride + n) * 4, 4);
    for (int64_t r = 0; r < rows; r++)
        memcpy(s + r * stride, from + r * n, (size_t)n * 4);
    return s;
}

/* rows of n that are stride apart against those that are n apart; tolerance may be NULL: share of the largest magnitude. */
static bool compare(const char *what, const float *got, int64_t stride, const float *want, const float *scale, double share,
                    int64_t n, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t i = 0; i < n; i++) {
            float w = want[r * n + i], g = got[r * stride + i];
            if (!agrees(g, (double)w, share * (double)scale[r * n + i] + 1e-36))
                return fail("%s %lld of row %lld: %.9g, not %.9g", what, (long long)i, (long long)r, (double)g, (double)w);
        }
        if (r + 1 < rows && !untouched(got + r * stride + n, (size_t)(stride - n) * 4))
            return fail("%s: wrote after row %lld", what, (long long)r);
    }
    return true;
}

/* ---- short convolution ---- */

typedef void (*conv_fn)(const qk_short_conv_args *args);

typedef struct conv_case {
    int64_t channels, rows, x_gap, y_gap, w_gap, s_gap;
    int width;
    qp_activation act;
    float *x, *w, *bias, *state;
    int32_t *positions;
} conv_case;

static conv_case conv_draw(int round)
{
    static const qp_activation acts[] = {QP_ACT_SILU, QP_ACT_NONE, QP_ACT_SILU, QP_ACT_GELU_TANH};
    fill kind = (fill)random_below(FILL_COUNT);
    conv_case c = {.channels = round < 70 ? round + 1 : random_between(1, 400),
                   .rows = round % 3 ? random_between(1, 20) : 1,
                   .width = round % 2 ? 4 : (int)random_between(2, 16),
                   .act = acts[random_below(4)],
                   .x_gap = random_between(0, 5),
                   .y_gap = random_between(0, 5),
                   .w_gap = random_between(0, 3),
                   .s_gap = random_between(0, 5)};
    c.x = floats(X, (c.rows - 1) * (c.channels + c.x_gap) + c.channels, kind, 1e10f, round);
    c.w = floats(W, (c.channels - 1) * (c.width + c.w_gap) + c.width, FILL_NORMAL, 0, round);
    c.bias = random_below(2) ? floats(BIAS, c.channels, FILL_NORMAL, 0, round) : NULL;
    c.state = must(malloc((size_t)(c.channels * (c.width - 1)) * 4));
    fill_floats(c.state, c.channels * (c.width - 1), kind, 1e10f);
    c.positions = positions(c.rows, round);
    if (round % 10 == 9)
        c.x[random_below((uint32_t)c.channels)] = NAN;
    describe("channels=%lld rows=%lld width=%d act %u bias %d %s", (long long)c.channels, (long long)c.rows, c.width, c.act,
             c.bias != NULL, fill_name(kind));
    return c;
}

/* The reference with these values; sizes: how large the terms of each sum are, for the tolerance. */
static void conv_reference(const conv_case *c, float *state, float *y, int sizes)
{
    int64_t xs = c->channels + c->x_gap, ws = c->width + c->w_gap;
    size_t xn = (size_t)((c->rows - 1) * xs + c->channels), wn = (size_t)((c->channels - 1) * ws + c->width);
    float *x = must(malloc(xn * 4)), *w = must(malloc(wn * 4)), *bias = must(calloc((size_t)c->channels, 4));
    memcpy(x, c->x, xn * 4);
    memcpy(w, c->w, wn * 4);
    if (c->bias)
        memcpy(bias, c->bias, (size_t)c->channels * 4);
    for (size_t i = 0; sizes && i < xn; i++)
        x[i] = fabsf(x[i]);
    for (size_t i = 0; sizes && i < wn; i++)
        w[i] = fabsf(w[i]);
    for (int64_t i = 0; sizes && i < c->channels; i++)
        bias[i] = fabsf(bias[i]);
    for (int64_t i = 0; sizes && i < c->channels * (c->width - 1); i++)
        state[i] = fabsf(state[i]);
    qk_op op = {.kind = QP_OP_SHORT_CONV, .live = c->rows, .dst = matrix(y, c->channels, c->rows, c->channels)};
    op.p.short_conv.act = sizes ? QP_ACT_NONE : c->act;
    op.src[QP_SHORT_CONV_X] = matrix(x, c->channels, c->rows, xs);
    op.src[QP_SHORT_CONV_W] = plane(w, c->width, c->channels, ws);
    op.src[QP_SHORT_CONV_BIAS] = matrix(bias, c->channels, 1, c->channels);
    op.src[QP_SHORT_CONV_POSITIONS] = integers(c->positions, c->rows);
    op.src[QP_SHORT_CONV_STATE] = plane(state, c->channels, c->width - 1, c->channels);
    qr_run(&op);
    free(x), free(w), free(bias);
}

static bool conv_round(const subject *s, int round)
{
    conv_case c = conv_draw(round);
    size_t kept = (size_t)(c.channels * (c.width - 1)) * 4, result = (size_t)(c.channels * c.rows) * 4;
    float *want = must(malloc(result)), *sizes = must(malloc(result)), *left = must(malloc(kept)), *unused = must(malloc(kept));
    memcpy(left, c.state, kept);
    memcpy(unused, c.state, kept);
    conv_reference(&c, left, want, 0);
    conv_reference(&c, unused, sizes, 1);
    float *state = state_in(c.state, c.channels, c.width - 1, c.channels + c.s_gap);
    float *y = output(Y, (size_t)((c.rows - 1) * (c.channels + c.y_gap) + c.channels) * 4, 4);
    ((conv_fn)s->fn)(&(qk_short_conv_args){.x = c.x,
                                           .x_stride = c.channels + c.x_gap,
                                           .w = c.w,
                                           .w_stride = c.width + c.w_gap,
                                           .bias = c.bias,
                                           .positions = c.positions,
                                           .state = state,
                                           .state_stride = c.channels + c.s_gap,
                                           .y = y,
                                           .y_stride = c.channels + c.y_gap,
                                           .channels = c.channels,
                                           .rows = c.rows,
                                           .width = c.width,
                                           .act = c.act});
    bool right = compare("channel", y, c.channels + c.y_gap, want, sizes, 8e-6, c.channels, c.rows) &&
                 compare("state", state, c.channels + c.s_gap, left, left, 0, c.channels, c.width - 1) && output_intact(Y) &&
                 output_intact(STATE);
    free(c.state), free(want), free(sizes), free(left), free(unused);
    return right;
}

static bool check_conv(const subject *s)
{
    for (int round = 0; round < 400; round++)
        if (!conv_round(s, round))
            return false;
    return true;
}

/* ---- delta rule ---- */

typedef void (*delta_fn)(const qk_delta_args *args);

typedef struct delta_case {
    int64_t k_size, v_size, rows, k_gap, v_gap, y_gap, s_gap;
    float scale;
    float *q, *k, *v, *g, *beta, *state;
    int32_t *positions;
} delta_case;

static void unit_rows(float *x, int64_t n, int64_t rows, int64_t stride)
{
    for (int64_t r = 0; r < rows; r++) {
        double sum = 1e-30;
        for (int64_t i = 0; i < n; i++)
            sum += (double)x[r * stride + i] * (double)x[r * stride + i];
        for (int64_t i = 0; i < n; i++)
            x[r * stride + i] = (float)((double)x[r * stride + i] / sqrt(sum));
    }
}

/* plain: queries and keys of length 1 and many rows; else a few rows of any values. */
static delta_case delta_draw(int round, bool plain)
{
    static const int64_t sizes[] = {128, 64, 128, 96, 192, 20, 256, 512};
    fill kind = plain ? FILL_NORMAL : (fill)random_below(FILL_COUNT);
    delta_case c = {.k_size = round % 2 ? sizes[random_below(8)] : random_between(1, 70),
                    .v_size = round % 3 ? sizes[random_below(6)] : random_between(1, 70),
                    .rows = !plain      ? random_between(1, 18)
                            : round % 4 ? random_between(1, 70)
                                        : 1,
                    .k_gap = random_between(0, 5),
                    .v_gap = random_between(0, 5),
                    .y_gap = random_between(0, 5),
                    .s_gap = random_between(0, 5),
                    .scale = 0.09f};
    int64_t keys = (c.rows - 1) * (c.k_size + c.k_gap) + c.k_size;
    c.q = floats(Q, keys, kind, 30, round);
    c.k = floats(K, keys, kind, 1, round);
    c.v = floats(V, (c.rows - 1) * (c.v_size + c.v_gap) + c.v_size, kind, 1e6f, round);
    /* a state grows by |k|² with each row: after many long keys whether a sum overflows on its way is a matter of its order */
    enum { ROWS_OF_LONG_KEYS = 4 };
    if (plain || kind == FILL_RANGE || c.rows > ROWS_OF_LONG_KEYS) {
        unit_rows(c.q, c.k_size, c.rows, c.k_size + c.k_gap);
        unit_rows(c.k, c.k_size, c.rows, c.k_size + c.k_gap);
    }
    c.g = floats(GATE, c.rows, FILL_NORMAL, 0, round);
    c.beta = floats(BETA, c.rows, FILL_NORMAL, 0, round);
    float most = round % 5 ? 0.1f : 60; /* of −g: a state that stays, or is gone at once */
    for (int64_t r = 0; r < c.rows; r++) {
        c.g[r] = -most * (float)random_unit();
        c.beta[r] = (float)random_unit();
    }
    if (round % 7 == 3)
        c.g[random_below((uint32_t)c.rows)] = -INFINITY;
    c.state = must(malloc((size_t)(c.k_size * c.v_size) * 4));
    fill_floats(c.state, c.k_size * c.v_size, plain ? FILL_NORMAL : kind, 1e3f);
    c.positions = positions(c.rows, round);
    if (!plain && round % 10 == 9)
        (round % 20 == 9 ? c.v : c.k)[0] = NAN;
    describe("K=%lld V=%lld rows=%lld decay to %g %s", (long long)c.k_size, (long long)c.v_size, (long long)c.rows, (double)-most,
             fill_name(kind));
    return c;
}

static void all_abs(float *to, const float *from, int64_t n, int sizes, float sign)
{
    for (int64_t i = 0; i < n; i++)
        to[i] = sizes ? sign * fabsf(from[i]) : from[i];
}

/* sizes: with signs chosen so that every term of every sum is positive, which tells how large rounding errors may be. */
static void delta_reference(const delta_case *c, float *state, float *y, int sizes)
{
    int64_t ks = c->k_size + c->k_gap, vs = c->v_size + c->v_gap, keys = (c->rows - 1) * ks + c->k_size;
    int64_t values = (c->rows - 1) * vs + c->v_size;
    float *q = must(malloc((size_t)(2 * keys + values + c->rows) * 4)), *k = q + keys, *v = k + keys, *beta = v + values;
    all_abs(q, c->q, keys, sizes, 1);
    all_abs(k, c->k, keys, sizes, 1);
    all_abs(v, c->v, values, sizes, -1);
    all_abs(beta, c->beta, c->rows, sizes, -1);
    all_abs(state, c->state, c->k_size * c->v_size, sizes, 1);
    qk_op op = {.kind = QP_OP_DELTA_RULE, .live = c->rows, .dst = matrix(y, c->v_size, c->rows, c->v_size)};
    op.p.delta_rule.scale = c->scale;
    op.src[QP_DELTA_RULE_Q] = matrix(q, c->k_size, c->rows, ks);
    op.src[QP_DELTA_RULE_K] = matrix(k, c->k_size, c->rows, ks);
    op.src[QP_DELTA_RULE_V] = matrix(v, c->v_size, c->rows, vs);
    op.src[QP_DELTA_RULE_GATE] = matrix(c->g, 1, c->rows, 1);
    op.src[QP_DELTA_RULE_BETA] = matrix(beta, 1, c->rows, 1);
    op.src[QP_DELTA_RULE_POSITIONS] = integers(c->positions, c->rows);
    op.src[QP_DELTA_RULE_STATE] = plane(state, c->v_size, c->k_size, c->v_size);
    qr_run(&op);
    free(q);
}

static double nmse(const float *got, int64_t stride, const float *want, int64_t n, int64_t rows)
{
    double error = 0, energy = 1e-60;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < n; i++) {
            double d = (double)got[r * stride + i] - (double)want[r * n + i];
            error += d * d;
            energy += (double)want[r * n + i] * (double)want[r * n + i];
        }
    return error / energy;
}

static qk_delta_args delta_args(const delta_case *c, float *state, float *y)
{
    return (qk_delta_args){.q = c->q,
                           .k = c->k,
                           .v = c->v,
                           .g = c->g,
                           .beta = c->beta,
                           .q_stride = c->k_size + c->k_gap,
                           .k_stride = c->k_size + c->k_gap,
                           .v_stride = c->v_size + c->v_gap,
                           .g_stride = 1,
                           .beta_stride = 1,
                           .positions = c->positions,
                           .state = state,
                           .state_stride = c->v_size + c->s_gap,
                           .y = y,
                           .y_stride = c->v_size + c->y_gap,
                           .k_size = c->k_size,
                           .v_size = c->v_size,
                           .rows = c->rows,
                           .scale = c->scale,
                           .ahead = c->rows == 1 ? state : NULL};
}

/* The second half of the features in a call of its own: the same bits. */
static bool same_in_pieces(const subject *s, const delta_case *c, const float *state, const float *y)
{
    if (c->v_size < 2)
        return true;
    int64_t first = random_between(1, c->v_size - 1);
    float *s2 = must(malloc((size_t)(c->k_size * c->v_size) * 4)), *y2 = must(malloc((size_t)(c->rows * c->v_size) * 4));
    memcpy(s2, c->state, (size_t)(c->k_size * c->v_size) * 4);
    qk_delta_args a = delta_args(c, s2 + first, y2 + first);
    a.v += first;
    a.v_size -= first;
    a.state_stride = a.y_stride = c->v_size;
    ((delta_fn)s->fn)(&a);
    bool same = true;
    for (int64_t r = 0; r < c->rows && same; r++)
        same = !memcmp(y2 + r * c->v_size + first, y + r * (c->v_size + c->y_gap) + first, (size_t)a.v_size * 4);
    for (int64_t i = 0; i < c->k_size && same; i++)
        same = !memcmp(s2 + i * c->v_size + first, state + i * (c->v_size + c->s_gap) + first, (size_t)a.v_size * 4);
    free(s2), free(y2);
    return same || fail("features %lld and on alone give other bits", (long long)first);
}

static bool delta_round(const subject *s, int round, bool plain)
{
    delta_case c = delta_draw(round, plain);
    size_t kept = (size_t)(c.k_size * c.v_size) * 4, result = (size_t)(c.v_size * c.rows) * 4;
    float *want = must(malloc(result)), *sizes = must(malloc(result)), *left = must(malloc(kept)), *left_sizes = must(malloc(kept));
    delta_reference(&c, left, want, 0);
    delta_reference(&c, left_sizes, sizes, 1);
    float *state = state_in(c.state, c.v_size, c.k_size, c.v_size + c.s_gap);
    float *y = output(Y, (size_t)((c.rows - 1) * (c.v_size + c.y_gap) + c.v_size) * 4, 4);
    qk_delta_args args = delta_args(&c, state, y);
    ((delta_fn)s->fn)(&args);
    bool right = compare("feature", y, c.v_size + c.y_gap, want, sizes, 3e-5, c.v_size, c.rows) &&
                 compare("state", state, c.v_size + c.s_gap, left, left_sizes, 3e-5, c.v_size, c.k_size) && output_intact(Y) &&
                 output_intact(STATE);
    if (right && plain && c.rows >= 8) { /* one row alone may be a product that nearly cancels */
        double e = nmse(y, c.v_size + c.y_gap, want, c.v_size, c.rows),
               f = nmse(state, c.v_size + c.s_gap, left, c.v_size, c.k_size);
        right = (e < 1e-10 && f < 1e-11) || fail("NMSE %.2e of the result, %.2e of the state", e, f);
    }
    right = right && (!plain || same_in_pieces(s, &c, state, y));
    free(c.state), free(want), free(sizes), free(left), free(left_sizes);
    return right;
}

static bool check_delta(const subject *s)
{
    for (int round = 0; round < 120; round++)
        if (!delta_round(s, round, true) || !delta_round(s, round, false))
            return false;
    return true;
}

/* ---- timing: a layer of a model of about 1B: 16 heads of 128 x 128, 6144 channels ---- */

enum { BENCH_SIZE = 128, BENCH_ROWS = 256, BENCH_CHANNELS = 6144, BENCH_HEADS = 16 };

typedef struct timing {
    const subject *s;
    int64_t rows, states;
    float *x, *w, *state, *y, *g;
    int32_t *positions;
} timing;

static timing timing_new(const subject *s, int64_t width, int64_t rows, uint64_t state)
{
    timing t = {.s = s, .rows = rows, .states = (int64_t)((rows == 1 ? bench_bytes : 1) / (state * 4)) + 1};
    t.x = must(malloc((size_t)(width * rows) * 4));
    t.y = must(malloc((size_t)(width * rows) * 4));
    t.w = must(malloc((size_t)width * 16));
    t.g = must(malloc((size_t)rows * 4));
    t.state = must(malloc((size_t)t.states * state * 4));
    t.positions = must(malloc((size_t)rows * 4));
    fill_floats(t.x, width * rows, FILL_NORMAL, 0);
    fill_floats(t.w, width * 4, FILL_NORMAL, 0);
    fill_floats(t.state, (int64_t)((uint64_t)t.states * state), FILL_NORMAL, 0);
    for (int64_t r = 0; r < rows; r++) {
        t.g[r] = -0.1f;
        t.positions[r] = 1 + (int32_t)r;
    }
    return t;
}

static void timing_free(timing *t)
{
    free(t->x), free(t->y), free(t->w), free(t->g), free(t->state), free(t->positions);
}

static void run_conv(void *ctx, uint64_t i)
{
    const timing *t = ctx;
    (void)i;
    ((conv_fn)t->s->fn)(&(qk_short_conv_args){.x = t->x,
                                              .x_stride = BENCH_CHANNELS,
                                              .w = t->w,
                                              .w_stride = 4,
                                              .positions = t->positions,
                                              .state = t->state,
                                              .state_stride = BENCH_CHANNELS,
                                              .y = t->y,
                                              .y_stride = BENCH_CHANNELS,
                                              .channels = BENCH_CHANNELS,
                                              .rows = t->rows,
                                              .width = 4,
                                              .act = QP_ACT_SILU});
}

static void bench_conv(const subject *s)
{
    for (int64_t rows = 1; rows <= BENCH_ROWS; rows *= BENCH_ROWS) {
        timing t = timing_new(s, BENCH_CHANNELS, rows, 3 * BENCH_CHANNELS);
        bench(s, rows == 1 ? "6144 channels, 1 row" : "6144 channels, 256 rows", run_conv, &t, (double)(BENCH_CHANNELS * rows),
              "G elements/s");
        timing_free(&t);
    }
}

static void run_delta(void *ctx, uint64_t i)
{
    const timing *t = ctx;
    const int64_t width = 3 * BENCH_SIZE * BENCH_HEADS, size = BENCH_SIZE;
    for (int64_t h = 0; h < BENCH_HEADS; h++) {
        uint64_t at = i * BENCH_HEADS + (uint64_t)h;
        float *x = t->x + 3 * size * h, *state = t->state + (int64_t)(at % (uint64_t)t->states) * size * size;
        const float *next = t->state + (int64_t)((at + 1) % (uint64_t)t->states) * size * size;
        ((delta_fn)t->s->fn)(&(qk_delta_args){.q = x,
                                              .k = x + size,
                                              .v = x + 2 * size,
                                              .g = t->g,
                                              .beta = t->g, /* small, so that nothing grows */
                                              .q_stride = width,
                                              .k_stride = width,
                                              .v_stride = width,
                                              .g_stride = 1,
                                              .beta_stride = 0,
                                              .positions = t->positions,
                                              .state = state,
                                              .state_stride = size,
                                              .y = t->y + size * h,
                                              .y_stride = width,
                                              .k_size = size,
                                              .v_size = size,
                                              .rows = t->rows,
                                              .scale = 0.09f,
                                              .ahead = t->rows == 1 ? next : NULL});
    }
}

static void bench_delta(const subject *s)
{
    const int64_t width = 3 * BENCH_SIZE * BENCH_HEADS, state = BENCH_SIZE * BENCH_SIZE;
    for (int64_t rows = 1; rows <= BENCH_ROWS; rows *= BENCH_ROWS) {
        timing t = timing_new(s, width, rows, (uint64_t)state);
        unit_rows(t.x, BENCH_SIZE, width / BENCH_SIZE * rows, BENCH_SIZE);
        if (rows == 1) /* read and written */
            bench(s, "16 heads, 1 row", run_delta, &t, (double)(state * BENCH_HEADS * 8), "GB/s");
        else /* as the definition counts: Sᵀk, the update, Sᵀq */
            bench(s, "16 heads, 256 rows", run_delta, &t, (double)(7 * state * BENCH_HEADS * rows), "GFLOP/s");
        timing_free(&t);
    }
}

static any_fn get_conv(const qk_kernels *k, qp_format format)
{
    (void)format;
    return (any_fn)k->short_conv;
}

static any_fn get_delta(const qk_kernels *k, qp_format format)
{
    (void)format;
    return (any_fn)k->delta_rule;
}

const family short_conv_family = {"short_conv", false, get_conv, check_conv, bench_conv};
const family delta_rule_family = {"delta_rule", false, get_delta, check_delta, bench_delta};
