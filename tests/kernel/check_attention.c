/* SPDX-License-Identifier: MIT
 * tests/kernel/check_attention.c: rows attention, against a softmax in double over exactly dequantised caches. */
#include "tests/kernel/check.h"

enum { Q = 0, K = 1, V = 2, M = 3, L = 4, ACC = 5, MAX_ROWS = 40 };

typedef struct problem {
    const subject *s;
    qk_attention_args args;
    int64_t rows, begins[MAX_ROWS], ends[MAX_ROWS]; /* also for one row */
    int64_t cells;
    bool quantised_q; /* the kernel may round q to int8 in blocks of 32 */
} problem;

static float *k_row(const problem *p, const char *base, int64_t stride, int64_t cell, int64_t n, float *dst)
{
    qr_dequantise(p->s->format, base + cell * stride, dst, n);
    return dst;
}

/* i counts the heads of all rows, as m, l and acc do. */
static float *q_row(const problem *p, int64_t i)
{
    return (float *)(uintptr_t)p->args.q + i / p->args.heads * p->args.q_row_stride + i % p->args.heads * p->args.q_stride;
}

/* The score of a cell, and how wrong a float kernel may have it. */
static double score(const problem *p, int64_t i_head, int64_t cell, double *error)
{
    const qk_attention_args *a = &p->args;
    const float *q = q_row(p, i_head);
    float k[1024];
    double sum = 0, magnitude = 0, steps = 0;
    k_row(p, a->k, a->k_stride, cell, a->k_size, k);
    for (int64_t i = 0; i < a->k_size; i++) {
        sum += (double)q[i] * (double)k[i];
        magnitude += fabs((double)q[i] * (double)k[i]);
    }
    for (int64_t b = 0; p->quantised_q && b < a->k_size / 32; b++) {
        double most = 0, keys = 0;
        for (int i = 0; i < 32; i++) {
            most = fmax(most, fabs((double)q[b * 32 + i]));
            keys += fabs((double)k[b * 32 + i]);
        }
        steps += most / 254 * keys;
    }
    double s = (double)a->scale * sum, cap = (double)a->softcap;
    *error = fabs((double)a->scale) * (magnitude * 0x1p-24 * (8 + (double)a->k_size / 4) + steps) + fabs(s) * 0x1p-22;
    if (cap <= 0)
        return s;
    *error += cap * 0x1p-21;
    return cap * tanh(s / cap);
}

typedef struct expected {
    double m, l, error; /* error of a score */
    double out[1024], magnitude[1024];
} expected;

static void model(const problem *p, int64_t h, expected *e)
{
    const qk_attention_args *a = &p->args;
    static double scores[512]; /* by cell */
    float v[1024];
    *e = (expected){.m = -HUGE_VAL};
    int64_t begin = p->begins[h / a->heads], end = p->ends[h / a->heads];
    for (int64_t c = begin; c < end; c++) {
        double error, s = scores[c] = score(p, h, c, &error);
        e->m = s > e->m ? s : e->m;
        e->error = error > e->error || error != error ? error : e->error;
    }
    for (int64_t c = begin; c < end; c++) {
        double weight = exp(scores[c] - e->m);
        e->l += weight;
        k_row(p, a->v, a->v_stride, c, a->v_size, v);
        for (int64_t i = 0; i < a->v_size; i++) {
            e->out[i] += weight * (double)v[i];
            e->magnitude[i] += weight * fabs((double)v[i]);
        }
    }
}

static bool compare_head(const problem *p, int64_t h)
{
    const qk_attention_args *a = &p->args;
    static expected e;
    if (p->begins[h / a->heads] >= p->ends[h / a->heads]) /* nothing to see: as it was */
        return (a->m[h] == -INFINITY && a->l[h] == 0 && a->acc[h * a->v_size] == 0) || fail("head %lld had no cells", (long long)h);
    model(p, h, &e);
    double m = (double)a->m[h], l = (double)a->l[h] * exp(m - e.m);
    double share = 3 * e.error + fabs(e.m) * 0x1p-22 + (double)(p->cells + 64) * 0x1p-24 + 4e-6;
    if (!agrees(a->m[h], e.m, e.error * 2 + fabs(e.m) * 1e-6 + 1e-30))
        return fail("head %lld: maximum %.9g, not %.9g", (long long)h, m, e.m);
    if (!(fabs(l - e.l) <= e.l * share))
        return fail("head %lld: denominator %.9g, not %.9g", (long long)h, l, e.l);
    double nothing = 65504 * exp(-87) * (double)p->cells + 1e-36; /* weights below e^-87 need not count */
    for (int64_t i = 0; i < a->v_size; i++) {
        double got = (double)a->acc[h * a->v_size + i] / (double)a->l[h], want = e.out[i] / e.l;
        if (!(fabs(got - want) <= 2 * share * e.magnitude[i] / e.l + nothing))
            return fail("head %lld value %lld: %.9g, not %.9g (share %.2g)", (long long)h, (long long)i, got, want, share);
    }
    return true;
}

/* The cells of [from, to) that each row covers; one row by begin and end, several by their arrays. */
static void call_stretch(problem *p, int64_t from, int64_t to)
{
    qk_attention_args args = p->args;
    int64_t begins[MAX_ROWS] = {0}, ends[MAX_ROWS] = {0};
    for (int64_t r = 0; r < p->rows; r++) {
        begins[r] = p->begins[r] > from ? p->begins[r] : from;
        ends[r] = p->ends[r] < to ? p->ends[r] : to;
    }
    args.begin = begins[0];
    args.end = ends[0];
    if (p->rows > 1) {
        args.rows = p->rows;
        args.begins = begins;
        args.ends = ends;
        args.begin = args.end = -1; /* not to be used */
    }
    ((qk_attention_fn)p->s->fn)(&args);
}

/* The same cells in up to four calls, which must come to the same as one. An empty stretch changes nothing. */
static void call_in_stretches(problem *p)
{
    int64_t from = 0;
    for (int left = (int)random_between(1, 4); left > 0; left--) {
        int64_t to = left == 1 ? p->cells : random_between(from, p->cells);
        call_stretch(p, from, to);
        from = to;
    }
}

/* A cache whose cells that no row covers are NaN: nobody may look at them. */
static char *make_cache(problem *p, unsigned slot, int64_t size, int64_t *stride, fill kind)
{
    qp_format format = p->s->format;
    size_t bytes = row_bytes(format, size), element = qk_block_elements(format) == 1 ? qk_block_bytes(format) : 2;
    *stride = (int64_t)bytes + (random_below(2) ? (int64_t)element * random_between(0, 300) : 0);
    char *cache = input_at_end(slot, (size_t)((p->cells - 1) * *stride) + bytes, element);
    for (int64_t c = 0; c < p->cells; c++)
        for (int64_t r = 0; r < p->rows; r++)
            if (c >= p->begins[r] && c < p->ends[r]) {
                fill_format(format, cache + c * *stride, size, kind, 30000);
                break;
            }
    return cache;
}

static void start_state(qk_attention_args *a, int64_t heads)
{
    a->m = output(M, (size_t)heads * 4, 4);
    a->l = output(L, (size_t)heads * 4, 4);
    a->acc = output(ACC, (size_t)(heads * a->v_size) * 4, 4);
    for (int64_t h = 0; h < heads; h++) {
        a->m[h] = -INFINITY;
        a->l[h] = 0;
        memset(a->acc + h * a->v_size, 0, (size_t)a->v_size * 4);
    }
}

static int64_t head_size(const problem *p, int round)
{
    static const int64_t sizes[] = {64, 128, 32, 96, 256, 160, 192, 288, 512};
    if (round % 3 || qk_block_elements(p->s->format) > 1)
        return sizes[random_below(sizeof sizes / sizeof sizes[0])];
    static const int64_t odd[] = {8, 16, 48, 80, 112, 1, 2, 7, 33, 100, 4, 24};
    return odd[random_below(sizeof odd / sizeof odd[0])];
}

/* Which cells each row sees: any stretch for one row; causal, with or without a window, for several, some of them none. */
static void choose_rows(problem *p, int round)
{
    int64_t window = random_below(2) ? p->cells : random_between(1, p->cells), first = random_between(0, p->cells);
    p->rows = round % 3 ? 1 : random_between(2, round % 12 ? 9 : MAX_ROWS);
    for (int64_t r = 0; r < p->rows; r++) {
        p->ends[r] = first + r < p->cells ? first + r : p->cells;
        p->begins[r] = p->ends[r] > window ? p->ends[r] - window : 0;
        if (random_below(20) == 0)
            p->ends[r] = p->begins[r];
    }
    if (p->rows > 1)
        return;
    p->begins[0] = random_below(2) ? 0 : random_between(0, p->cells - 1);
    p->ends[0] = random_below(2) ? p->cells : random_between(p->begins[0] + 1, p->cells);
}

static fill prepare(problem *p, int round)
{
    static const fill kinds[] = {FILL_NORMAL, FILL_NORMAL, FILL_ZERO, FILL_EQUAL, FILL_ALTERNATING, FILL_SPARSE, FILL_DENORMAL};
    static const float softcaps[] = {0, 0, 30, 1};
    qk_attention_args *a = &p->args;
    fill kind = kinds[random_below(sizeof kinds / sizeof kinds[0])];
    a->heads = random_between(1, round % 4 == 0 ? 12 : 4);
    a->k_size = head_size(p, round);
    a->v_size = random_below(2) ? a->k_size : head_size(p, round);
    p->cells = round < 20 ? round + 1 : random_between(1, round % 3 ? 300 : 130);
    choose_rows(p, round);
    a->scale = random_below(4) ? 1 / sqrtf((float)a->k_size) : 4; /* with 4, nearly one-hot */
    a->softcap = softcaps[random_below(4)];
    a->q_stride = a->k_size + (random_below(2) ? random_between(0, 20) : 0);
    a->q_row_stride = a->heads * a->q_stride + (random_below(2) ? random_between(0, 20) : 0);
    a->q = input_at_end(Q, (size_t)((p->rows - 1) * a->q_row_stride + (a->heads - 1) * a->q_stride + a->k_size) * 4, 4);
    for (int64_t h = 0; h < p->rows * a->heads; h++)
        fill_floats(q_row(p, h), a->k_size, random_below(3) ? FILL_NORMAL : kind, 100);
    a->k = make_cache(p, K, a->k_size, &a->k_stride, kind);
    a->v = make_cache(p, V, a->v_size, &a->v_stride, random_below(3) ? FILL_NORMAL : FILL_RANGE);
    start_state(a, p->rows * a->heads);
    return kind;
}

static void describe_problem(const problem *p, const char *what, int round)
{
    const qk_attention_args *a = &p->args;
    describe("%s round %d rows=%lld heads=%lld k_size=%lld v_size=%lld cells [%lld, %lld) and on of %lld scale=%g softcap=%g", what,
             round, (long long)p->rows, (long long)a->heads, (long long)a->k_size, (long long)a->v_size, (long long)p->begins[0],
             (long long)p->ends[0], (long long)p->cells, (double)a->scale, (double)a->softcap);
}

static bool one_round(problem *p, int round)
{
    fill kind = prepare(p, round);
    describe_problem(p, fill_name(kind), round);
    call_in_stretches(p);
    for (int64_t h = 0; h < p->rows * p->args.heads; h++)
        if (!compare_head(p, h))
            return false;
    return output_intact(M) && output_intact(L) && output_intact(ACC);
}

/* A NaN in one query shows in its head and in no other; in a key, in every row that covers the cell and in no other. */
static bool nan_round(problem *p, int round)
{
    prepare(p, round);
    qk_attention_args *a = &p->args;
    int64_t heads = p->rows * a->heads, bad = random_between(0, heads - 1), row = bad / a->heads, cell = -1;
    if (random_below(2) && p->begins[row] < p->ends[row]) {
        cell = random_between(p->begins[row], p->ends[row] - 1);
        memset((char *)(uintptr_t)a->k + cell * a->k_stride, 0xff, row_bytes(p->s->format, a->k_size));
    } else {
        q_row(p, bad)[random_between(0, a->k_size - 1)] = NAN;
    }
    describe_problem(p, cell >= 0 ? "NaN in a key" : "NaN in a query", round);
    call_in_stretches(p);
    for (int64_t h = 0; h < heads; h++) {
        int64_t begin = p->begins[h / a->heads], end = p->ends[h / a->heads];
        bool want = cell >= 0 ? cell >= begin && cell < end : h == bad;
        for (int64_t i = 0; i < a->v_size && begin < end; i++) {
            float got = a->acc[h * a->v_size + i] / a->l[h];
            if (want != (got != got))
                return fail("head %lld value %lld is %g", (long long)h, (long long)i, (double)got);
        }
    }
    return true;
}

static bool check(const subject *s)
{
    problem p = {.s = s, .quantised_q = s->format == QP_FORMAT_Q8_0 || s->format == QP_FORMAT_Q4_0};
    for (int round = 0; round < 240; round++)
        if (!(round % 7 == 6 ? nan_round : one_round)(&p, round))
            return false;
    return true;
}

static any_fn get(const qk_kernels *k, qp_format format)
{
    return (any_fn)k->attention[format];
}

/* ---- timing ---- */

enum { BENCH_HEADS = 4, BENCH_SIZE = 128, BENCH_CELLS = 4096, BENCH_ROWS = 32 };

typedef struct timing {
    qk_attention_args args;
    qk_attention_fn fn;
    const char *k, *v;
    uint64_t copies;
    size_t bytes;
} timing;

static void run(void *ctx, uint64_t i)
{
    timing *t = ctx;
    t->args.k = t->k + i % t->copies * t->bytes;
    t->args.v = t->v + i % t->copies * t->bytes;
    for (int h = 0; h < BENCH_ROWS * BENCH_HEADS; h++) {
        t->args.m[h] = -INFINITY;
        t->args.l[h] = 0;
    }
    t->fn(&t->args);
}

static void bench_it(const subject *s)
{
    enum { HEADS = BENCH_ROWS * BENCH_HEADS };
    static float q[HEADS * BENCH_SIZE], m[HEADS], l[HEADS], acc[HEADS * BENCH_SIZE];
    int64_t begins[BENCH_ROWS] = {0}, ends[BENCH_ROWS];
    size_t row = row_bytes(s->format, BENCH_SIZE);
    timing t = {.fn = (qk_attention_fn)s->fn, .bytes = row * BENCH_CELLS};
    t.copies = bench_bytes / 2 / t.bytes + 1;
    char *k = malloc(t.bytes * t.copies), *v = malloc(t.bytes * t.copies);
    if (!k || !v) {
        printf("# no memory to time %s\n", s->name);
        exit(0);
    }
    fill_floats(q, HEADS * BENCH_SIZE, FILL_NORMAL, 0);
    fill_format(s->format, k, BENCH_SIZE * BENCH_CELLS, FILL_NORMAL, 0);
    fill_format(s->format, v, BENCH_SIZE * BENCH_CELLS, FILL_NORMAL, 0);
    for (uint64_t i = 1; i < t.copies; i++) {
        memcpy(k + i * t.bytes, k, t.bytes);
        memcpy(v + i * t.bytes, v, t.bytes);
    }
    t.k = k;
    t.v = v;
    t.args = (qk_attention_args){.q = q,
                                 .q_stride = BENCH_SIZE,
                                 .q_row_stride = BENCH_HEADS * BENCH_SIZE,
                                 .heads = BENCH_HEADS,
                                 .k_stride = (int64_t)row,
                                 .v_stride = (int64_t)row,
                                 .k_size = BENCH_SIZE,
                                 .v_size = BENCH_SIZE,
                                 .end = BENCH_CELLS,
                                 .scale = 0.088388f,
                                 .m = m,
                                 .l = l,
                                 .acc = acc};
    bench(s, "4 heads, 4096 cells", run, &t, 2.0 * (double)t.bytes, "GB/s");
    for (int r = 0; r < BENCH_ROWS; r++)
        ends[r] = BENCH_CELLS - BENCH_ROWS + r + 1;
    t.args.rows = BENCH_ROWS;
    t.args.begins = begins;
    t.args.ends = ends;
    bench(s, "the same, 32 rows", run, &t, 4.0 * BENCH_SIZE * BENCH_CELLS * HEADS, "GOP/s");
    free(k);
    free(v);
}

const family attention_family = {"attention", true, get, check, bench_it};
