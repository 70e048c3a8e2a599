/* SPDX-License-Identifier: MIT
 * tests/kernel/check_matmul.c: rows matmul_float (against sums in double) and matmul_panel (against exact integer sums). */
#include "tests/kernel/check.h"

enum { W = 0, X = 1, Y = 2, SRC = 3, SCRATCH = 4 };

/* One call: everything in it lies in guarded memory. */
typedef struct problem {
    const subject *s;
    qk_matmul_args args;
    double *want, *tolerance; /* [token][MAX_ROWS] */
    int written;              /* rows that must be written; those after args.rows may have any value */
} problem;

enum { MAX_ROWS = 96, MAX_TOKENS = 70 };

static int64_t at(int64_t token, int64_t row)
{
    return token * MAX_ROWS + row;
}

static const int64_t some_ks[] = {32, 64, 96, 128, 160, 256, 288, 352, 512, 768, 1024, 1056, 2048, 4096, 4128};

static void choose_sizes(problem *p, int round, int64_t block)
{
    qk_matmul_args *a = &p->args;
    a->k = round < 30 ? block * (round + 1) : some_ks[random_below(sizeof some_ks / sizeof some_ks[0])];
    a->k = (a->k + block - 1) / block * block;
    a->rows = round % 3 == 0 ? 16 : round % 3 == 1 ? random_between(1, 16) : random_between(1, MAX_ROWS);
    a->tokens = round % 4 == 0 ? 1 : round % 4 == 1 ? random_between(2, 9) : random_between(1, 70);
    if (a->k * a->tokens * a->rows > 500000) { /* the model takes its time too */
        a->tokens = random_between(1, 9);
        a->rows = random_between(1, 24);
    }
}

static void place_output(problem *p, int width)
{
    qk_matmul_args *a = &p->args;
    p->written = width;
    a->y_stride = width + (random_below(2) ? random_between(0, 40) : 0);
    a->y = output(Y, (size_t)((a->tokens - 1) * a->y_stride + width) * 4, 4);
}

static bool compare(const problem *p)
{
    const qk_matmul_args *a = &p->args;
    for (int64_t t = 0; t < a->tokens; t++) {
        const float *y = a->y + t * a->y_stride;
        for (int64_t r = 0; r < a->rows; r++) {
            double want = p->want[at(t, r)], tolerance = p->tolerance[at(t, r)];
            if (!agrees(y[r], want, tolerance))
                return fail("token %lld row %lld: %.9g, not %.9g ± %.3g", (long long)t, (long long)r, (double)y[r], want,
                            tolerance);
        }
        if (t + 1 < a->tokens && !untouched(y + p->written, (size_t)(a->y_stride - p->written) * 4))
            return fail("wrote between the tokens, after token %lld", (long long)t);
    }
    return output_intact(Y) && (!a->scratch || output_intact(SCRATCH));
}

/* "The result of a row does not depend on how rows are cut into strips, nor that of a token on how many there are": some of the
 * rows and tokens again, to the bit. */
static bool compare_parts(const problem *p, int64_t row_step, int64_t row_step_bytes)
{
    const qk_matmul_args *a = &p->args;
    static float again[MAX_ROWS * MAX_TOKENS];
    qk_matmul_args part = *a;
    int64_t row = random_between(0, (a->rows - 1) / row_step) * row_step, token = random_between(0, a->tokens - 1);
    part.w = (const char *)a->w + row / row_step * row_step_bytes;
    part.x = (const char *)a->x + token * a->x_stride;
    part.rows = random_between(1, a->rows - row);
    part.tokens = random_between(1, a->tokens - token);
    part.y = again;
    part.y_stride = MAX_ROWS;
    part.scratch = random_below(2) ? a->scratch : NULL;
    ((qk_matmul_fn)p->s->fn)(&part);
    for (int64_t t = 0; t < part.tokens; t++)
        for (int64_t r = 0; r < part.rows; r++) {
            float one = a->y[(token + t) * a->y_stride + row + r], two = again[t * MAX_ROWS + r];
            if (memcmp(&one, &two, sizeof one) != 0 && !(one != one && two != two))
                return fail("token %lld row %lld alone (%lld rows, %lld tokens): %a, with the others %a", (long long)(token + t),
                            (long long)(row + r), (long long)part.rows, (long long)part.tokens, (double)two, (double)one);
        }
    return true;
}

/* row_step rows lie row_step_bytes apart: the units that a strip is made of. */
static bool call(problem *p, const char *what, int round, int64_t row_step, int64_t row_step_bytes)
{
    const qk_matmul_args *a = &p->args;
    qk_matmul_args args = *a;
    describe("%s round %d k=%lld rows=%lld tokens=%lld y_stride=%lld", what, round, (long long)a->k, (long long)a->rows,
             (long long)a->tokens, (long long)a->y_stride);
    ((qk_matmul_fn)p->s->fn)(&args);
    return compare(p) && compare_parts(p, row_step, row_step_bytes);
}

static bool problem_open(problem *p, const subject *s)
{
    size_t n = MAX_ROWS * MAX_TOKENS;
    *p = (problem){.s = s, .want = calloc(n, sizeof(double)), .tolerance = calloc(n, sizeof(double))};
    return (p->want && p->tolerance) || fail("no memory");
}

static bool problem_close(problem *p, bool result)
{
    free(p->want);
    free(p->tolerance);
    return result;
}

/* ---- float activations ---- */

/* Sums of K floats in an unknown order: K/4 roundings at the worst, as a share of the sum of magnitudes; and what products lose
 * that fall below the smallest float. */
static double float_tolerance(double magnitude, int64_t k)
{
    return magnitude * 0x1p-24 * (16 + (double)k / 4) + (double)k * 0x1p-148;
}

static void float_model(problem *p)
{
    const qk_matmul_args *a = &p->args;
    float *row = malloc((size_t)a->k * sizeof *row);
    for (int64_t r = 0; r < a->rows; r++) {
        qr_dequantise(p->s->format, (const char *)a->w + r * a->w_stride, row, a->k);
        for (int64_t t = 0; t < a->tokens; t++) {
            const float *x = (const float *)((const char *)a->x + t * a->x_stride);
            double sum = 0, magnitude = 0;
            for (int64_t i = 0; i < a->k; i++) {
                double product = (double)row[i] * (double)x[i];
                sum += product;
                magnitude += fabs(product);
            }
            p->want[at(t, r)] = sum;
            p->tolerance[at(t, r)] = float_tolerance(magnitude, a->k);
        }
    }
    free(row);
}

/* Puts a NaN or an infinity into one weight row or one token, which must show there and nowhere else. */
static void spoil(problem *p, char *w, char *x)
{
    qk_matmul_args *a = &p->args;
    static const float evils[] = {NAN, INFINITY, -INFINITY};
    float evil = evils[random_below(3)];
    if (random_below(2) || p->s->format != QP_FORMAT_F32)
        memcpy(x + random_between(0, a->tokens - 1) * a->x_stride + random_between(0, a->k - 1) * 4, &evil, 4);
    else
        memcpy(w + random_between(0, a->rows - 1) * a->w_stride + random_between(0, a->k - 1) * 4, &evil, 4);
}

/* An infinity times zero, or two infinities of different sign, end in NaN or in an infinity as the order of the sum has it. */
static void loosen(problem *p)
{
    for (int i = 0; i < MAX_ROWS * MAX_TOKENS; i++)
        if (isinf(p->want[i]))
            p->want[i] = (double)NAN;
}

static bool compare_spoilt(problem *p)
{
    const qk_matmul_args *a = &p->args;
    loosen(p);
    for (int64_t t = 0; t < a->tokens; t++)
        for (int64_t r = 0; r < a->rows; r++) {
            float *y = a->y + t * a->y_stride + r;
            if (p->want[at(t, r)] != p->want[at(t, r)] && isinf(*y))
                *y = NAN;
        }
    return compare(p);
}

static bool float_round(problem *p, int round)
{
    const subject *s = p->s;
    qk_matmul_args *a = &p->args;
    int64_t block = qk_block_elements(s->format);
    choose_sizes(p, round, block);
    if (block == 1 && round % 5 == 0)
        a->k = random_between(1, 300);
    size_t bytes = row_bytes(s->format, a->k), element = block == 1 ? qk_block_bytes(s->format) : 2;
    fill w_fill = (fill)random_below(FILL_COUNT), x_fill = (fill)random_below(FILL_COUNT);
    a->w_stride = (int64_t)bytes + (random_below(2) ? (int64_t)element * random_between(0, 100) : 0);
    a->x_stride = (a->k + (random_below(2) ? random_between(0, 50) : 0)) * 4;
    char *w = input_at_end(W, (size_t)((a->rows - 1) * a->w_stride) + bytes, element);
    char *x = input_at_end(X, (size_t)((a->tokens - 1) * a->x_stride + a->k * 4), 4);
    for (int64_t r = 0; r < a->rows; r++)
        fill_format(s->format, w + r * a->w_stride, a->k, w_fill, 1000);
    for (int64_t t = 0; t < a->tokens; t++)
        fill_floats((float *)(void *)(x + t * a->x_stride), a->k, x_fill, 1e20f);
    bool spoilt = round % 8 == 7;
    if (spoilt)
        spoil(p, w, x);
    a->w = w;
    a->x = x;
    place_output(p, (int)a->rows);
    float_model(p);
    char what[64];
    snprintf(what, sizeof what, "w %s x %s%s", fill_name(w_fill), fill_name(x_fill), spoilt ? " spoilt" : "");
    if (!spoilt)
        return call(p, what, round, 1, a->w_stride);
    describe("%s round %d k=%lld rows=%lld tokens=%lld", what, round, (long long)a->k, (long long)a->rows, (long long)a->tokens);
    qk_matmul_args args = *a;
    ((qk_matmul_fn)s->fn)(&args);
    return compare_spoilt(p);
}

static bool check_float(const subject *s)
{
    problem p;
    bool right = problem_open(&p, s);
    for (int round = 0; right && round < 240; round++)
        right = float_round(&p, round);
    return problem_close(&p, right);
}

/* ---- int8 activations, panels ---- */

/* Quants of a block. EDGE finds sums of products that do not fit 16 bits. */
static int8_t edge_or_random(int kind, int low, int high)
{
    switch (kind) {
    case 0: return (int8_t)random_between(low, high);
    case 1: return (int8_t)high;
    case 2: return (int8_t)low;
    case 3: return (int8_t)(random_below(2) ? low : high);
    default: return 0;
    }
}

static uint16_t random_scale(int kind)
{
    if (kind == 1)
        return (uint16_t)(random_below(2) << 15); /* ±0 */
    if (kind == 2)
        return (uint16_t)(random_bits() & 0x83ff); /* subnormal */
    if (kind == 3)
        return (uint16_t)(random_below(2) ? 0x7bff : 0xfbff); /* ±65504 */
    return qk_f16_from_f32(random_normal() * 0.05f);
}

/* Where a block has its scales in binary16; −1: it has none, or no second one. */
static void scale_offsets(qp_format format, int offsets[2])
{
    offsets[0] = 0, offsets[1] = -1;
    switch (format) {
    case QP_FORMAT_Q4_1:
    case QP_FORMAT_Q5_1:
    case QP_FORMAT_Q4_K:
    case QP_FORMAT_Q5_K: offsets[1] = 2; break;
    case QP_FORMAT_Q2_K: offsets[0] = 80, offsets[1] = 82; break;
    case QP_FORMAT_Q3_K: offsets[0] = 108; break;
    case QP_FORMAT_Q6_K: offsets[0] = 208; break;
    case QP_FORMAT_TQ2_0: offsets[0] = 64; break;
    case QP_FORMAT_TQ1_0: offsets[0] = 52; break;
    case QP_FORMAT_IQ1_M: /* in four pieces */
    case QP_FORMAT_MXFP4: offsets[0] = -1; break;
    default: break;
    }
}

/* A nibble in the upper bits of each of four words. */
static void put_pieces(char *words, uint16_t d)
{
    for (int i = 0; i < 4; i++)
        words[2 * i + 1] = (char)((words[2 * i + 1] & 15) | (d >> 4 * i & 15) << 4);
}

/* Any bytes are a block: random ones, all bits alike, or a mixture, so that elements and small scales are at their ends. */
static void fill_weight_row(qp_format format, char *row, int64_t k)
{
    int scale_kind = random_below(6) ? 0 : (int)random_below(4), quant_kind = random_below(3) ? 0 : (int)random_below(5);
    size_t bytes = qk_block_bytes(format);
    int offsets[2];
    scale_offsets(format, offsets);
    for (int64_t b = 0; b < k / qk_block_elements(format); b++, row += bytes) {
        random_bytes(row, bytes);
        for (size_t i = 0; i < bytes && quant_kind; i++)
            row[i] = (char)(quant_kind == 1 ? 0 : quant_kind == 2 ? 0xff : quant_kind == 3 ? 0 - random_below(2) : 0x80);
        if (format == QP_FORMAT_IQ1_M)
            put_pieces(row + 48, random_scale(scale_kind));
        else if (offsets[0] < 0)
            row[0] = (char)(scale_kind ? random_between(0, 190) : random_between(110, 125)); /* sums that are floats */
        for (int i = 0; i < 2 && offsets[i] >= 0; i++) {
            uint16_t d = random_scale(scale_kind);
            memcpy(row + offsets[i], &d, 2);
        }
    }
}

static void fill_activation_row(char *row, int64_t k, int kind)
{
    for (int64_t b = 0; b < k / 32; b++) {
        int32_t sum[2] = {0};
        float d = kind == 3 ? ldexpf(1, (int)random_between(-40, 40)) : kind == 4 ? 0.0f : fabsf(random_normal()) * 0.02f;
        for (int i = 0; i < 32; i++) {
            int8_t q = edge_or_random(kind, -127, 127);
            row[b * 32 + i] = (char)q;
            sum[i / 16] += q;
        }
        memcpy(row + qk_act_d(k) + b * 4, &d, 4);
        memcpy(row + qk_act_sum(k) + b * 8, sum, 8);
    }
}

static const qk_format *panel_format(qp_format format)
{
    static const qk_format all[] = {
#define INIT(name, ...) QK_PANEL_FORMAT_INIT(name, __VA_ARGS__),
        QK_PANEL_FORMATS(INIT)
#undef INIT
    };
    const qk_format *f = all;
    while (f->format != format)
        f++;
    return f;
}

/* Largest minimum of each half of the blocks of a row: only for the tolerance, as w = scale·q − minimum may be small where both
 * are large. */
static void minima_of(const problem *p, int64_t r, float *minima)
{
    const qk_matmul_args *a = &p->args;
    const qk_format *f = panel_format(p->s->format);
    const char *panel = (const char *)a->w + (uint64_t)(r / QK_PANEL_ROWS) * qk_panel_bytes(f->format, a->k);
    for (int64_t b = 0; b < a->k / 32 && f->mins; b++) {
        qk_panel_block block;
        qk_panel_block_at(f->format, panel, a->k, b, &block);
        for (int half = 0; half < 2; half++)
            minima[2 * b + half] = fabsf(block.min[f->parts == 2 ? half : 0][r % QK_PANEL_ROWS]);
    }
}

/* Σ over blocks of d_x · Σ w·q, in double, of weights that the reference has dequantised: the order and the roundings are the
 * kernel's own, which are up to 5 for each half of a block. */
static void panel_model(problem *p, const char *src)
{
    const qk_matmul_args *a = &p->args;
    size_t row = row_bytes(p->s->format, a->k);
    float *w = malloc((size_t)a->k * sizeof *w), *minima = calloc((size_t)a->k / 16, sizeof *minima);
    for (int64_t r = 0; r < a->rows; r++) {
        qr_dequantise(p->s->format, src + (size_t)r * row, w, a->k);
        minima_of(p, r, minima);
        for (int64_t t = 0; t < a->tokens; t++) {
            const char *x = (const char *)a->x + t * a->x_stride;
            double sum = 0, magnitude = 0;
            for (int64_t b = 0; b < a->k / 16; b++) {
                float d;
                double part = 0, least = (double)minima[b];
                memcpy(&d, x + qk_act_d(a->k) + b / 2 * 4, 4);
                for (int i = 0; i < 16; i++) {
                    double value = (double)w[b * 16 + i];
                    int8_t q = (int8_t)x[b * 16 + i];
                    part += value * q;
                    magnitude += (fabs(value) + 2 * least) * fabs(q * (double)d);
                }
                sum += part * (double)d;
            }
            p->want[at(t, r)] = sum;
            p->tolerance[at(t, r)] = magnitude * 0x1p-24 * (4 + (double)(a->k / 16) * 2) + (double)a->k * 0x1p-145;
        }
    }
    free(w);
    free(minima);
}

/* d = NaN in one block of one token, or of one weight row: it shows there only. */
static void spoil_panel(problem *p, char *src, char *x)
{
    qk_matmul_args *a = &p->args;
    int64_t b = random_between(0, a->k / 32 - 1), units = a->k / qk_block_elements(p->s->format);
    float nan_value = NAN;
    uint16_t evil = random_below(2) ? 0x7e00 : 0x7c00;
    int offsets[2];
    scale_offsets(p->s->format, offsets);
    if (random_below(2) || offsets[0] < 0)
        memcpy(x + random_between(0, a->tokens - 1) * a->x_stride + (int64_t)qk_act_d(a->k) + b * 4, &nan_value, 4);
    else
        memcpy(src + (random_between(0, a->rows - 1) * units + random_between(0, units - 1)) * qk_block_bytes(p->s->format) +
                   offsets[0], &evil, 2);
}

static bool panel_round(problem *p, int round)
{
    const subject *s = p->s;
    qk_matmul_args *a = &p->args;
    choose_sizes(p, round, qk_block_elements(s->format));
    size_t row = row_bytes(s->format, a->k);
    bool spoilt = round % 8 == 7;
    char *src = input_at_end(SRC, row * (size_t)a->rows, 2);
    for (int64_t r = 0; r < a->rows; r++)
        fill_weight_row(s->format, src + (size_t)r * row, a->k);
    a->x_stride = (int64_t)qk_act_bytes(a->k) + 64 * (random_below(2) ? random_between(0, 3) : 0);
    char *x = input_at_end(X, (size_t)((a->tokens - 1) * a->x_stride) + qk_act_bytes(a->k), 64);
    int x_kind = random_below(2) ? 0 : (int)random_below(5);
    for (int64_t t = 0; t < a->tokens; t++)
        fill_activation_row(x + t * a->x_stride, a->k, x_kind);
    if (spoilt)
        spoil_panel(p, src, x);
    a->x = x;
    int64_t panels = (a->rows + QK_PANEL_ROWS - 1) / QK_PANEL_ROWS, panel_bytes = (int64_t)qk_panel_bytes(s->format, a->k);
    char *w = input_at_end(W, (size_t)(panels * panel_bytes), 64);
    qk_panel_pack(s->format, w, src, a->k, 0, a->rows);
    a->w = w;
    a->w_stride = -1; /* unused */
    a->scratch = random_below(8) ? output(SCRATCH, QK_MATMUL_SCRATCH, 64) : NULL;
    place_output(p, (int)panels * QK_PANEL_ROWS);
    panel_model(p, src);
    if (!spoilt)
        return call(p, x_kind ? "extreme x" : "random x", round, QK_PANEL_ROWS, panel_bytes);
    describe("spoilt round %d k=%lld rows=%lld tokens=%lld", round, (long long)a->k, (long long)a->rows, (long long)a->tokens);
    qk_matmul_args args = *a;
    ((qk_matmul_fn)s->fn)(&args);
    return compare_spoilt(p);
}

static bool check_panel(const subject *s)
{
    problem p;
    bool right = problem_open(&p, s);
    for (int round = 0; right && round < 240; round++)
        right = panel_round(&p, round);
    return problem_close(&p, right);
}

/* ---- timing ---- */

enum { BENCH_K = 4096, BENCH_ROWS = 256, BENCH_TOKENS = 256 };

typedef struct timing {
    qk_matmul_args args;
    qk_matmul_fn fn;
    const char *weights;
    uint64_t strips, strip_bytes;
} timing;

static void run(void *ctx, uint64_t i)
{
    timing *t = ctx;
    t->args.w = t->weights + i % t->strips * t->strip_bytes;
    t->fn(&t->args);
}

/* One panel's random bytes with scales that are small numbers, or rows, again and again. */
static void fill_weights(timing *t, qp_format format, bool panel, char *weights)
{
    uint64_t unit = panel ? qk_panel_bytes(format, BENCH_K) : (uint64_t)t->args.w_stride;
    if (panel) {
        static char rows[QK_PANEL_ROWS * BENCH_K * 4];
        for (uint64_t i = 0; i < QK_PANEL_ROWS; i++)
            fill_format(format, rows + i * row_bytes(format, BENCH_K), BENCH_K, FILL_NORMAL, 1);
        qk_panel_pack(format, weights, rows, BENCH_K, 0, QK_PANEL_ROWS);
    } else {
        fill_format(format, weights, BENCH_K, FILL_NORMAL, 0);
    }
    for (uint64_t s = unit; s < t->strips * t->strip_bytes; s += unit)
        memcpy(weights + s, weights, unit);
}

static void fill_x(char *x, int64_t x_stride, bool panel)
{
    for (int64_t i = 0; i < BENCH_TOKENS; i++)
        if (panel)
            fill_activation_row(x + i * x_stride, BENCH_K, 0);
        else
            fill_floats((float *)(void *)(x + i * x_stride), BENCH_K, FILL_NORMAL, 0);
}

static void bench_tokens(const subject *s, timing *t, int64_t tokens)
{
    char what[64];
    t->args.tokens = tokens;
    snprintf(what, sizeof what, "k=%d rows=%d t=%lld", BENCH_K, BENCH_ROWS, (long long)tokens);
    if (tokens == 1)
        bench(s, what, run, t, (double)t->strip_bytes, "GB/s");
    else
        bench(s, what, run, t, 2.0 * BENCH_ROWS * BENCH_K * (double)tokens, "GOP/s");
}

static void bench_shape(const subject *s, bool panel)
{
    int64_t x_stride = panel ? (int64_t)qk_act_bytes(BENCH_K) : BENCH_K * 4, w_stride = (int64_t)row_bytes(s->format, BENCH_K);
    timing t = {.fn = (qk_matmul_fn)s->fn};
    t.strip_bytes = (panel ? qk_panel_bytes(s->format, BENCH_K) / QK_PANEL_ROWS : (uint64_t)w_stride) * BENCH_ROWS;
    t.strips = bench_bytes / t.strip_bytes + 1;
    char *weights = aligned_alloc(64, t.strips * t.strip_bytes), *x = aligned_alloc(64, (size_t)x_stride * BENCH_TOKENS);
    float *y = malloc(sizeof *y * BENCH_ROWS * BENCH_TOKENS);
    void *scratch = aligned_alloc(64, QK_MATMUL_SCRATCH);
    if (scratch && weights && x && y) {
        t.weights = weights;
        t.args = (qk_matmul_args){
            .w_stride = w_stride, .k = BENCH_K, .rows = BENCH_ROWS, .x = x, .x_stride = x_stride, .y = y, .y_stride = BENCH_ROWS,
            .scratch = scratch};
        fill_weights(&t, s->format, panel, weights);
        fill_x(x, x_stride, panel);
        bench_tokens(s, &t, 1);
        bench_tokens(s, &t, 4);
        bench_tokens(s, &t, 8);
        bench_tokens(s, &t, 16);
        bench_tokens(s, &t, BENCH_TOKENS);
    } else {
        printf("# no memory to time %s\n", s->name);
    }
    free(weights);
    free(x);
    free(y);
    free(scratch);
}

static void bench_float(const subject *s)
{
    bench_shape(s, false);
}

static void bench_panel(const subject *s)
{
    bench_shape(s, true);
}

static any_fn get_float(const qk_kernels *k, qp_format format)
{
    return (any_fn)k->matmul_float[format];
}

static any_fn get_panel(const qk_kernels *k, qp_format format)
{
    return (any_fn)k->matmul_panel[format];
}

const family matmul_families[2] = {
    {"matmul_float", true, get_float, check_float, bench_float},
    {"matmul_panel", true, get_panel, check_panel, bench_panel},
};
