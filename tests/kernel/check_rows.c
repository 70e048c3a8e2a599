/* SPDX-License-Identifier: MIT
 * tests/kernel/check_rows.c: rows that work on one row of floats: norm, rope, elementwise, argmax. */
#include "tests/kernel/check.h"

enum { X = 0, Y = 1, A = 2, B = 3, WEIGHT = 4, BIAS = 5 };

static float *random_row(unsigned slot, int64_t n, fill kind, float limit, int round)
{
    float *x = round & 1 ? input_at_front(slot, (size_t)n * 4) : input_at_end(slot, (size_t)n * 4, 4);
    fill_floats(x, n, kind, limit);
    return x;
}

static int64_t row_length(int round)
{
    static const int64_t some[] = {64, 128, 288, 4096, 8192, 1000, 2048};
    return round < 70 ? round + 1 : round % 2 ? some[random_below(7)] : random_between(1, 1000);
}

/* A kernel result that may lie over its input, and where to find it. */
static float *place(const float *x, int64_t n, bool in_place)
{
    float *y = output(Y, (size_t)n * 4, 4);
    if (in_place)
        memcpy(y, x, (size_t)n * 4);
    return y;
}

/* ---- norm ---- */

typedef void (*norm_fn)(float *y, const float *x, const float *w, const float *b, int64_t n, const qp_norm_params *p);

typedef struct norm_model {
    double mean, divisor, mean_error;
} norm_model;

static norm_model norm_expect(const float *x, int64_t n, const qp_norm_params *p)
{
    norm_model m = {0};
    double sum = 0, magnitude = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        sum += (double)x[i];
        magnitude += fabs((double)x[i]);
    }
    if (p->kind == QP_NORM_LAYER) {
        m.mean = sum / (double)n;
        m.mean_error = magnitude / (double)n * 0x1p-22;
    }
    for (int64_t i = 0; i < n; i++)
        squares += ((double)x[i] - m.mean) * ((double)x[i] - m.mean);
    if (p->kind == QP_NORM_L2)
        m.divisor = sqrt(squares) < (double)p->eps ? (double)p->eps : sqrt(squares);
    else
        m.divisor = sqrt(squares / (double)n + (double)p->eps);
    return m;
}

static bool norm_compare(const float *y, const float *x, const float *w, const float *b, int64_t n, const qp_norm_params *p)
{
    norm_model m = norm_expect(x, n, p);
    for (int64_t i = 0; i < n; i++) {
        double scale = w ? (double)w[i] + (double)p->weight_offset : 1, add = b ? (double)b[i] : 0;
        double plain = ((double)x[i] - m.mean) / m.divisor;
        /* the weight plus its offset is a float; so is each product */
        double error = (fabs(plain) * 4e-6 + m.mean_error / m.divisor) * (fabs(scale) + fabs((double)p->weight_offset) * 0.1);
        if (!agrees(y[i], plain * scale + add, error + fabs(add) * 0x1p-23 + 1e-37))
            return fail("element %lld: %.9g, not %.9g", (long long)i, (double)y[i], plain * scale + add);
    }
    return output_intact(Y);
}

static bool norm_round(const subject *s, int round)
{
    static const float epsilons[] = {1e-5f, 1e-6f, 1e-12f, 0.1f};
    int64_t n = row_length(round);
    fill kind = (fill)random_below(FILL_COUNT);
    qp_norm_params p = {.kind = random_below(3), .eps = epsilons[random_below(4)], .weight_offset = random_below(2) ? 1 : 0};
    float *x = random_row(X, n, kind, 1e15f, round);
    float *w = random_below(3) ? random_row(WEIGHT, n, FILL_NORMAL, 0, round) : NULL;
    float *b = random_below(3) ? random_row(BIAS, n, FILL_NORMAL, 0, round) : NULL;
    if (round % 10 == 9)
        x[random_below((uint32_t)n)] = NAN;
    bool in_place = random_below(2);
    float *y = place(x, n, in_place);
    describe("kind %u n=%lld %s eps=%g weight %d bias %d in place %d", p.kind, (long long)n, fill_name(kind), (double)p.eps,
             w != NULL, b != NULL, in_place);
    ((norm_fn)s->fn)(y, in_place ? y : x, w, b, n, &p);
    return norm_compare(y, x, w, b, n, &p);
}

static bool check_norm(const subject *s)
{
    for (int round = 0; round < 500; round++)
        if (!norm_round(s, round))
            return false;
    return true;
}

/* ---- rope ---- */

typedef void (*rope_fn)(float *x, const float *cos_sin, int64_t n_dims, uint32_t mode);

static bool rope_compare(const float *y, const float *x, const float *cos_sin, int64_t n, uint32_t mode)
{
    for (int64_t i = 0; i < n / 2; i++) {
        int64_t first = mode == QP_ROPE_NEOX ? i : 2 * i, second = mode == QP_ROPE_NEOX ? i + n / 2 : 2 * i + 1;
        double a = (double)x[first], b = (double)x[second], c = (double)cos_sin[2 * i], v = (double)cos_sin[2 * i + 1];
        if (!agrees(y[first], a * c - b * v, (fabs(a * c) + fabs(b * v)) * 0x1p-22 + 1e-44))
            return fail("first of pair %lld: %.9g, not %.9g", (long long)i, (double)y[first], a * c - b * v);
        if (!agrees(y[second], a * v + b * c, (fabs(a * v) + fabs(b * c)) * 0x1p-22 + 1e-44))
            return fail("second of pair %lld: %.9g, not %.9g", (long long)i, (double)y[second], a * v + b * c);
    }
    return output_intact(Y);
}

static bool check_rope(const subject *s)
{
    static const int64_t sizes[] = {64, 128, 256, 80, 96};
    for (int round = 0; round < 300; round++) {
        int64_t n = round < 140 ? 2 * (round / 2 + 1) : sizes[random_below(5)];
        uint32_t mode = round & 1 ? QP_ROPE_NEOX : QP_ROPE_NORMAL;
        fill kind = (fill)random_below(FILL_COUNT);
        float *x = random_row(X, n, kind, 1e30f, round), *cos_sin = random_row(A, n, FILL_NORMAL, 0, round);
        if (round % 10 == 9)
            x[random_below((uint32_t)n)] = NAN;
        float *y = place(x, n, true);
        describe("mode %u n_dims=%lld %s", mode, (long long)n, fill_name(kind));
        ((rope_fn)s->fn)(y, cos_sin, n, mode);
        if (!rope_compare(y, x, cos_sin, n, mode))
            return false;
    }
    return true;
}

/* ---- elementwise ---- */

typedef void (*elementwise_fn)(float *y, const float *a, const float *b, int64_t n, const qp_elementwise_params *p);

static const char *const functions[] = {"add", "mul", "scale", "act", "glu", "softcap"};

/* How far a float kernel may be off: exact operations within their rounding, those with exp, tanh and erf within a few units of the
 * input's size (x·(1 + erf x) cancels for negative x). */
static double element_error(const qp_elementwise_params *p, double a, double b, double want)
{
    double act = 1e-6 * fabs(a) + 4e-6 * fabs(qr_activate(p->act, a));
    if (p->act == QP_ACT_SWIGLU_CLAMPED) /* b + 1 cancels near -1 */
        return fabs(want) * 4e-6 + (fabs(fmin(a, (double)p->offset)) + 1) * 1e-6;
    switch (p->function) {
    case QP_ELEMENTWISE_ADD: return fabs(want) * 0x1p-24;
    case QP_ELEMENTWISE_MUL: return fabs(want) * 0x1p-24 + 0x1p-149;
    case QP_ELEMENTWISE_SCALE: return (fabs(want) + fabs((double)p->scale * a)) * 0x1p-23 + 0x1p-148;
    case QP_ELEMENTWISE_ACT:
        return p->act == QP_ACT_NONE || p->act == QP_ACT_RELU ? 0 : act + 4e-7 * (p->act == QP_ACT_SIGMOID) + 1e-37;
    case QP_ELEMENTWISE_GLU:
        return act * fabs(b) + 1e-37 * fabs(b) + (p->act == QP_ACT_SIGMOID) * 4e-7 * fabs(b) + fabs(want) * 1e-6;
    default: return fabs(want) * 4e-6 + fmin(fabs(a), fabs((double)p->scale)) * 1e-6 + 1e-37;
    }
}

static bool element_compare(const float *y, const float *a, const float *b, int64_t n, const qp_elementwise_params *p)
{
    float want[8192];
    qk_op op = {.kind = QP_OP_ELEMENTWISE, .live = 1};
    qk_tensor row = {.format = QP_FORMAT_F32, .ne = {n, 1, 1, 1}, .nb = {4, n * 4, n * 4, n * 4}};
    op.dst = op.src[0] = op.src[1] = row;
    op.dst.data = want;
    op.src[0].data = (void *)(uintptr_t)a;
    op.src[1].data = (void *)(uintptr_t)b;
    op.p.elementwise = *p;
    qr_elementwise(&op);
    for (int64_t i = 0; i < n; i++) {
        double bi = b ? (double)b[i] : 0;
        if (isinf(a[i]) || isinf(bi))
            continue; /* limits of activations at infinity: not promised */
        if (!agrees(y[i], (double)want[i], element_error(p, (double)a[i], bi, (double)want[i])))
            return fail("element %lld: f(%.9g, %.9g) = %.9g, not %.9g", (long long)i, (double)a[i], bi, (double)y[i],
                        (double)want[i]);
    }
    return output_intact(Y);
}

/* Where activations bend: a sweep through −120 … 120. */
static void sweep(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)(random_unit() * 240 - 120) * (random_below(2) ? 0.05f : 1);
}

static bool element_round(const subject *s, int round, uint32_t function, qp_activation act)
{
    int64_t n = row_length(round);
    fill kind = (fill)random_below(FILL_COUNT);
    bool needs_b = function == QP_ELEMENTWISE_ADD || function == QP_ELEMENTWISE_MUL || function == QP_ELEMENTWISE_GLU;
    qp_elementwise_params p = {.function = function, .act = act, .scale = random_normal() + 0.1f, .offset = random_normal()};
    if (act == QP_ACT_SWIGLU_CLAMPED)
        p.offset = fabsf(p.offset) * 5; /* the limit */
    if (function == QP_ELEMENTWISE_SOFTCAP)
        p.scale = fabsf(p.scale) * 30 + 0.01f;
    float *a = random_row(A, n, kind, 1e15f, round), *b = needs_b ? random_row(B, n, FILL_NORMAL, 0, round) : NULL;
    if (random_below(2))
        sweep(a, n);
    if (round % 10 == 9)
        a[random_below((uint32_t)n)] = NAN;
    uint32_t where = random_below(needs_b ? 3 : 2); /* y apart, over a, over b */
    float *y = place(where == 2 ? b : a, n, where != 0);
    static const char *const places[] = {"apart", "over a", "over b"};
    describe("%s act %u n=%lld %s y %s", functions[function], act, (long long)n, fill_name(kind), places[where]);
    ((elementwise_fn)s->fn)(y, where == 1 ? y : a, where == 2 ? y : b, n, &p);
    return element_compare(y, a, b, n, &p);
}

static bool check_elementwise(const subject *s)
{
    for (uint32_t function = QP_ELEMENTWISE_ADD; function <= QP_ELEMENTWISE_SOFTCAP; function++) {
        bool acts = function == QP_ELEMENTWISE_ACT || function == QP_ELEMENTWISE_GLU;
        for (qp_activation act = QP_ACT_NONE; act <= (acts ? QP_ACT_SOFTPLUS : QP_ACT_NONE); act++)
            for (int round = 0; round < 100; round++)
                if (!element_round(s, round, function, act))
                    return false;
        for (int round = 0; round < 100 && function == QP_ELEMENTWISE_GLU; round++)
            if (!element_round(s, round, function, QP_ACT_SWIGLU_CLAMPED))
                return false;
    }
    return true;
}

/* ---- argmax ---- */

typedef int32_t (*argmax_fn)(const float *x, int64_t n);

static int32_t argmax_expect(const float *x, int64_t n)
{
    int32_t best = 0;
    for (int64_t i = 0; i < n; i++) {
        if (x[i] != x[i])
            return -1;
        if (x[i] > x[best])
            best = (int32_t)i;
    }
    return best;
}

static bool check_argmax(const subject *s)
{
    for (int round = 0; round < 600; round++) {
        int64_t n = row_length(round);
        fill kind = (fill)(round % FILL_COUNT);
        float *x = random_row(X, n, kind, FLT_MAX, round);
        if (round % 5 == 1) /* few values: many ties */
            for (int64_t i = 0; i < n; i++)
                x[i] = (float)random_between(-2, 2);
        if (round % 7 == 2)
            for (int64_t i = 0; i < n; i++)
                x[i] = random_below(50) ? -INFINITY : random_below(2) ? INFINITY : -FLT_MAX;
        if (round % 6 == 3)
            x[random_below((uint32_t)n)] = random_below(2) ? NAN : -NAN;
        describe("n=%lld round %d %s", (long long)n, round, fill_name(kind));
        int32_t want = argmax_expect(x, n), got = ((argmax_fn)s->fn)(x, n);
        if (got != want)
            return fail("%d, not %d", got, want);
    }
    return true;
}

/* ---- rows and timing ---- */

enum { BENCH_N = 4096 };
static float bench_x[BENCH_N], bench_y[BENCH_N], bench_w[BENCH_N];

typedef struct timing {
    const subject *s;
    qp_norm_params norm;
    qp_elementwise_params element;
    uint32_t mode;
} timing;

static void run_norm(void *ctx, uint64_t i)
{
    const timing *t = ctx;
    (void)i;
    ((norm_fn)t->s->fn)(bench_y, bench_x, bench_w, NULL, BENCH_N, &t->norm);
}

static void run_rope(void *ctx, uint64_t i)
{
    const timing *t = ctx;
    ((rope_fn)t->s->fn)(bench_y + i % 32 * 128, bench_w, 128, t->mode);
}

static void run_element(void *ctx, uint64_t i)
{
    const timing *t = ctx;
    (void)i;
    ((elementwise_fn)t->s->fn)(bench_y, bench_x, bench_w, BENCH_N, &t->element);
}

static void run_argmax(void *ctx, uint64_t i)
{
    (void)i;
    bench_y[0] += (float)((argmax_fn)((const timing *)ctx)->s->fn)(bench_x, BENCH_N);
}

static void fill_bench(void)
{
    fill_floats(bench_x, BENCH_N, FILL_NORMAL, 0);
    for (int i = 0; i < BENCH_N; i++)
        bench_w[i] = i & 1 ? 0.6f : 0.8f; /* cosines and sines that leave lengths as they are */
}

static void bench_norm(const subject *s)
{
    timing t = {.s = s, .norm = {.kind = QP_NORM_RMS, .eps = 1e-5f}};
    fill_bench();
    bench(s, "rms n=4096", run_norm, &t, BENCH_N, "G elements/s");
}

static void bench_rope(const subject *s)
{
    timing t = {.s = s};
    for (t.mode = QP_ROPE_NORMAL; t.mode <= QP_ROPE_NEOX; t.mode++) {
        fill_bench();
        memcpy(bench_y, bench_x, sizeof bench_y);
        bench(s, t.mode == QP_ROPE_NEOX ? "neox 128" : "normal 128", run_rope, &t, 128, "G elements/s");
    }
}

static void bench_elementwise(const subject *s)
{
    timing t = {.s = s};
    fill_bench();
    t.element = (qp_elementwise_params){.function = QP_ELEMENTWISE_ADD};
    bench(s, "add n=4096", run_element, &t, BENCH_N, "G elements/s");
    t.element = (qp_elementwise_params){.function = QP_ELEMENTWISE_GLU, .act = QP_ACT_SILU};
    bench(s, "silu glu n=4096", run_element, &t, BENCH_N, "G elements/s");
}

static void bench_argmax(const subject *s)
{
    timing t = {.s = s};
    fill_bench();
    bench(s, "n=4096", run_argmax, &t, BENCH_N, "G elements/s");
}

static any_fn get_norm(const qk_kernels *k, qp_format format)
{
    (void)format;
    return (any_fn)k->norm;
}

static any_fn get_rope(const qk_kernels *k, qp_format format)
{
    (void)format;
    return (any_fn)k->rope;
}

static any_fn get_elementwise(const qk_kernels *k, qp_format format)
{
    (void)format;
    return (any_fn)k->elementwise;
}

static any_fn get_argmax(const qk_kernels *k, qp_format format)
{
    (void)format;
    return (any_fn)k->argmax;
}

const family norm_family = {"norm", false, get_norm, check_norm, bench_norm};
const family rope_family = {"rope", false, get_rope, check_rope, bench_rope};
const family elementwise_family = {"elementwise", false, get_elementwise, check_elementwise, bench_elementwise};
const family argmax_family = {"argmax", false, get_argmax, check_argmax, bench_argmax};
