/* SPDX-License-Identifier: MIT
 * tests/kernel/check_attention.c: rows attention, against a softmax in double over exactly dequantised caches. */
#include "tests/kernel/check.h"

enum { Q = 0, K = 1, V = 2, M = 3, L = 4, ACC = 5 };

typedef struct problem {
    const subject *s;
    qk_attention_args args;
    int64_t cells;
    bool quantised_q; /* the kernel may round q to int8 in blocks of 32 */
} problem;

static float *k_row(const problem *p, const char *base, int64_t stride, int64_t cell, int64_t n, float *dst)
{
    qr_dequantise(p->s->format, base + cell * stride, dst, n);
    return dst;
}

static const float *q_row(const problem *p, int64_t h)
{
    return p->args.q + h * p->args.q_stride;
}

/* The score of a cell, and how wrong a float kernel may have it. */
static double score(const problem *p, int64_t h, int64_t cell, double *error)
{
    const qk_attention_args *a = &p->args;
    const float *q = q_row(p, h);
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
    float v[1024];
    *e = (expected){.m = -HUGE_VAL};
    for (int64_t c = a->begin; c < a->end; c++) {
        double error, s = score(p, h, c, &error);
        e->m = s > e->m ? s : e->m;
        e->error = error > e->error || error != error ? error : e->error;
    }
    for (int64_t c = a->begin; c < a->end; c++) {
        double error, weight = exp(score(p, h, c, &error) - e->m);
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
    model(p, h, &e);
    double m = (double)a->m[h], l = (double)a->l[h] * exp(m - e.m);
    double share = 3 * e.error + fabs(e.m) * 0x1p-22 + (double)(p->cells + 64) * 0x1p-24 + 4e-6;
    if (!agrees(a->m[h], e.m, e.error * 2 + fabs(e.m) * 1e-6 + 1e-30))
        return fail("head %lld: maximum %.9g, not %.9g", (long long)h, m, e.m);
    if (!(fabs(l - e.l) <= e.l * share))
        return fail("head %lld: denominator %.9g, not %.9g", (long long)h, l, e.l);
    for (int64_t i = 0; i < a->v_size; i++) {
        double got = (double)a->acc[h * a->v_size + i] / (double)a->l[h], want = e.out[i] / e.l;
        if (!(fabs(got - want) <= 2 * share * e.magnitude[i] / e.l + 1e-36))
            return fail("head %lld value %lld: %.9g, not %.9g (share %.2g)", (long long)h, (long long)i, got, want, share);
    }
    return true;
}

/* The same cells in up to four calls, which must come to the same as one. */
static void call_in_stretches(problem *p)
{
    qk_attention_args args = p->args;
    int64_t end = args.end;
    int stretches = (int)random_between(1, 4);
    for (int i = 0; i < stretches; i++) {
        args.end = i == stretches - 1 ? end : random_between(args.begin, end); /* an empty stretch changes nothing */
        qk_attention_args once = args;
        ((qk_attention_fn)p->s->fn)(&once);
        args.begin = args.end;
    }
}

/* A cache whose cells outside [begin, end) are NaN: nobody may look at them. */
static char *make_cache(problem *p, unsigned slot, int64_t size, int64_t *stride, fill kind)
{
    qp_format format = p->s->format;
    size_t bytes = row_bytes(format, size), element = qk_block_elements(format) == 1 ? qk_block_bytes(format) : 2;
    *stride = (int64_t)bytes + (random_below(2) ? (int64_t)element * random_between(0, 300) : 0);
    char *cache = input_at_end(slot, (size_t)((p->cells - 1) * *stride) + bytes, element);
    for (int64_t c = p->args.begin; c < p->args.end; c++)
        fill_format(format, cache + c * *stride, size, kind, 30000);
    return cache;
}

static void start_state(qk_attention_args *a)
{
    a->m = output(M, (size_t)a->heads * 4, 4);
    a->l = output(L, (size_t)a->heads * 4, 4);
    a->acc = output(ACC, (size_t)(a->heads * a->v_size) * 4, 4);
    for (int64_t h = 0; h < a->heads; h++) {
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

static fill prepare(problem *p, int round)
{
    static const fill kinds[] = {FILL_NORMAL, FILL_NORMAL, FILL_ZERO, FILL_EQUAL, FILL_ALTERNATING, FILL_SPARSE, FILL_DENORMAL};
    static const float softcaps[] = {0, 0, 30, 1};
    qk_attention_args *a = &p->args;
    fill kind = kinds[random_below(sizeof kinds / sizeof kinds[0])];
    a->heads = random_between(1, round % 4 == 0 ? 12 : 4);
    a->k_size = head_size(p, round);
    a->v_size = random_below(2) ? a->k_size : head_size(p, round);
    p->cells = round < 20 ? round + 1 : random_between(1, 300);
    a->begin = random_below(2) ? 0 : random_between(0, p->cells - 1);
    a->end = random_below(2) ? p->cells : random_between(a->begin + 1, p->cells);
    a->scale = random_below(4) ? 1 / sqrtf((float)a->k_size) : 4; /* with 4, nearly one-hot */
    a->softcap = softcaps[random_below(4)];
    a->q_stride = a->k_size + (random_below(2) ? random_between(0, 20) : 0);
    float *q = input_at_end(Q, (size_t)((a->heads - 1) * a->q_stride + a->k_size) * 4, 4);
    for (int64_t h = 0; h < a->heads; h++)
        fill_floats(q + h * a->q_stride, a->k_size, random_below(3) ? FILL_NORMAL : kind, 100);
    a->q = q;
    a->k = make_cache(p, K, a->k_size, &a->k_stride, kind);
    a->v = make_cache(p, V, a->v_size, &a->v_stride, random_below(3) ? FILL_NORMAL : FILL_RANGE);
    start_state(a);
    return kind;
}

static void describe_problem(const problem *p, const char *what, int round)
{
    const qk_attention_args *a = &p->args;
    describe("%s round %d heads=%lld k_size=%lld v_size=%lld cells [%lld, %lld) of %lld scale=%g softcap=%g", what, round,
             (long long)a->heads, (long long)a->k_size, (long long)a->v_size, (long long)a->begin, (long long)a->end,
             (long long)p->cells, (double)a->scale, (double)a->softcap);
}

static bool one_round(problem *p, int round)
{
    fill kind = prepare(p, round);
    describe_problem(p, fill_name(kind), round);
    call_in_stretches(p);
    for (int64_t h = 0; h < p->args.heads; h++)
        if (!compare_head(p, h))
            return false;
    return output_intact(M) && output_intact(L) && output_intact(ACC);
}

/* A NaN in one query shows in its head and in no other; in a key or value it shows in all. */
static bool nan_round(problem *p, int round)
{
    prepare(p, round);
    qk_attention_args *a = &p->args;
    int64_t head = random_between(0, a->heads - 1);
    bool in_key = random_below(2);
    describe_problem(p, in_key ? "NaN in a key" : "NaN in a query", round);
    if (in_key) {
        int64_t cell = random_between(a->begin, a->end - 1);
        memset((char *)(uintptr_t)a->k + cell * a->k_stride, 0xff, row_bytes(p->s->format, a->k_size));
    } else {
        ((float *)(uintptr_t)a->q)[head * a->q_stride + random_between(0, a->k_size - 1)] = NAN;
    }
    call_in_stretches(p);
    for (int64_t h = 0; h < a->heads; h++)
        for (int64_t i = 0; i < a->v_size; i++) {
            float got = a->acc[h * a->v_size + i] / a->l[h];
            bool want_nan = in_key || h == head;
            if (want_nan != (got != got))
                return fail("head %lld value %lld is %g", (long long)h, (long long)i, (double)got);
        }
    return true;
}

/* ---- several rows in one call ---- */

enum { MAX_ROWS = 14 };

/* Ranges such as a causal mask gives, with a window or without, and now and then an empty one. Gives the stretch that they span. */
static void draw_ranges(int64_t rows, int64_t cells, int64_t *begins, int64_t *ends, int64_t *least, int64_t *most)
{
    int64_t window = random_below(2) ? cells : random_between(1, cells), last = random_between(0, cells - 1);
    *least = cells, *most = 0;
    for (int64_t r = 0; r < rows; r++) {
        ends[r] = last - (rows - 1 - r) + 1;
        ends[r] = ends[r] < 1 || !random_below(12) ? 0 : ends[r];
        begins[r] = ends[r] > window ? ends[r] - window : 0;
        *least = begins[r] < *least ? begins[r] : *least;
        *most = ends[r] > *most ? ends[r] : *most;
    }
}

static void prepare_rows(problem *p, int round, int64_t *begins, int64_t *ends)
{
    qk_attention_args *a = &p->args;
    prepare(p, round);
    a->rows = random_between(2, round % 20 == 3 ? MAX_ROWS : 5);
    p->cells = random_between(1, 150);
    draw_ranges(a->rows, p->cells, begins, ends, &a->begin, &a->end);
    a->begins = begins;
    a->ends = ends;
    a->q_row_stride = (a->heads - 1) * a->q_stride + a->k_size + random_between(0, 9);
    size_t floats = (size_t)((a->rows - 1) * a->q_row_stride + (a->heads - 1) * a->q_stride + a->k_size);
    float *q = input_at_end(Q, floats * 4, 4);
    fill_floats(q, (int64_t)floats, FILL_NORMAL, 0);
    a->q = q;
    a->k = make_cache(p, K, a->k_size, &a->k_stride, FILL_NORMAL);
    a->v = make_cache(p, V, a->v_size, &a->v_stride, FILL_NORMAL);
    int64_t heads = a->heads;
    a->heads *= a->rows; /* state for all */
    start_state(a);
    a->heads = heads;
}

/* Each row must come out as alone. A NaN in a key shows in the rows that see that cell and in no other. */
static bool rows_round(problem *p, int round)
{
    int64_t begins[MAX_ROWS], ends[MAX_ROWS], poisoned = -1;
    prepare_rows(p, round, begins, ends);
    qk_attention_args all = p->args;
    if (all.begin < all.end && random_below(2)) {
        poisoned = random_between(all.begin, all.end - 1);
        memset((char *)(uintptr_t)all.k + poisoned * all.k_stride, 0xff, row_bytes(p->s->format, all.k_size));
    }
    ((qk_attention_fn)p->s->fn)(&all);
    for (int64_t r = 0; r < all.rows; r++) {
        p->args = qk_attention_row(&all, r);
        describe_problem(p, "several rows", round);
        for (int64_t h = 0; h < all.heads && begins[r] < ends[r]; h++) {
            if (poisoned >= begins[r] && poisoned < ends[r]) {
                if (p->args.l[h] == p->args.l[h])
                    return fail("row %lld head %lld does not show the NaN in cell %lld", (long long)r, (long long)h, (long long)poisoned);
            } else if (!compare_head(p, h)) {
                return false;
            }
        }
        if (begins[r] >= ends[r] && (p->args.l[0] != 0 || p->args.acc[0] != 0))
            return fail("row %lld sees no cell, but its state changed", (long long)r);
    }
    p->args = (qk_attention_args){0};
    return output_intact(M) && output_intact(L) && output_intact(ACC);
}

static bool check(const subject *s)
{
    problem p = {.s = s, .quantised_q = s->format == QP_FORMAT_Q8_0 || s->format == QP_FORMAT_Q4_0};
    for (int round = 0; round < 200; round++)
        if (!(round % 10 == 9 ? nan_round : round % 5 == 3 ? rows_round : one_round)(&p, round))
            return false;
    return true;
}

static any_fn get(const qk_kernels *k, qp_format format)
{
    return (any_fn)k->attention[format];
}

/* ---- timing ---- */

enum { BENCH_HEADS = 4, BENCH_SIZE = 128, BENCH_CELLS = 4096 };

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
    for (int h = 0; h < BENCH_HEADS; h++) {
        t->args.m[h] = -INFINITY;
        t->args.l[h] = 0;
    }
    t->fn(&t->args);
}

static void bench_it(const subject *s)
{
    static float q[BENCH_HEADS * BENCH_SIZE], m[BENCH_HEADS], l[BENCH_HEADS], acc[BENCH_HEADS * BENCH_SIZE];
    size_t row = row_bytes(s->format, BENCH_SIZE);
    timing t = {.fn = (qk_attention_fn)s->fn, .bytes = row * BENCH_CELLS};
    t.copies = bench_bytes / 2 / t.bytes + 1;
    char *k = malloc(t.bytes * t.copies), *v = malloc(t.bytes * t.copies);
    if (!k || !v) {
        printf("# no memory to time %s\n", s->name);
        exit(0);
    }
    fill_floats(q, BENCH_HEADS * BENCH_SIZE, FILL_NORMAL, 0);
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
    free(k);
    free(v);
}

const family attention_family = {"attention", true, get, check, bench_it};
