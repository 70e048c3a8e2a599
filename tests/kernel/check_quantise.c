/* SPDX-License-Identifier: MIT
 * tests/kernel/check_quantise.c: the search for scales, and the quantisers with it: to the last bit what the plain version does. */
#include "kernels/common/quantise.h"
#include "tests/kernel/check.h"

enum { IN = 0, WEIGHTS = 1, OUT = 2, MOST = 80 };

/* ---- the two functions of the search ---- */

static void random_candidates(qk_candidates *c)
{
    c->count = 16 * (int)random_between(1, QK_CANDIDATES / 16);
    for (int i = 0; i < QK_CANDIDATES; i++) {
        c->scale[i] = random_below(8) ? random_normal() : 0;
        c->inverse[i] = random_below(8) ? 30 * random_normal() : 0;
        c->offset[i] = random_below(2) ? random_normal() : 0;
    }
}

static void random_steps(qk_steps *s)
{
    memset(s, 0, sizeof *s);
    s->low = -(float)random_below(128);
    s->high = s->low + 1 + (float)random_below(128);
    s->uneven = (int)random_below(2);
    float at = s->low;
    for (int k = 0; k < 15; k++) {
        s->rise[k] = (float)random_between(0, 24);
        s->middle[k] = at + s->rise[k] / 2;
        at += s->rise[k];
    }
}

static bool same_bits(const float *got, const float *want, int count, const char *what)
{
    for (int i = 0; i < count; i++)
        if (qk_bits_from_f32(got[i]) != qk_bits_from_f32(want[i]))
            return fail("%s of candidate %d is %a, not %a", what, i, (double)got[i], (double)want[i]);
    return true;
}

static bool check_search(const subject *s)
{
    const qk_search *search = &s->kernels->search;
    for (int round = 0; round < 500; round++) {
        qk_candidates c;
        qk_steps steps;
        qk_sums want;
        float want_errors[QK_CANDIDATES];
        int n = round < MOST ? round + 1 : (int)random_between(1, 300);
        float *x = input_at_end(IN, (size_t)n * 4, 4), *w = input_at_end(WEIGHTS, (size_t)n * 4, 4);
        describe("n=%d round %d", n, round);
        random_candidates(&c);
        random_steps(&steps);
        fill_floats(x, n, round % 2 ? FILL_NORMAL : (fill)(round / 2 % FILL_COUNT), 2);
        for (int i = 0; i < n; i++)
            w[i] = random_below(4) ? fabsf(random_normal()) : 0;
        qk_sums *sums = output(OUT, sizeof *sums, 4);
        qk_search_plain.sums(&c, &steps, x, w, n, &want);
        search->sums(&c, &steps, x, w, n, sums);
        if (!same_bits(sums->q, want.q, c.count, "sum of q") || !same_bits(sums->qq, want.qq, c.count, "sum of q times q") ||
            !same_bits(sums->qx, want.qx, c.count, "sum of q times x") || !output_intact(OUT))
            return false;
        float *errors = output(OUT, QK_CANDIDATES * sizeof *errors, 4);
        qk_search_plain.errors(&c, &steps, x, w, n, want_errors);
        search->errors(&c, &steps, x, w, n, errors);
        if (!same_bits(errors, want_errors, c.count, "error") || !output_intact(OUT))
            return false;
    }
    return true;
}

static any_fn get_search(const qk_kernels *k, qp_format format)
{
    (void)format;
    return (any_fn)k->search.sums;
}

/* ---- the quantisers ---- */

static void fill_source(float *src, int64_t n, int round)
{
    fill_floats(src, n, (fill)(round % FILL_COUNT), 60000);
    if (round % 5 == 4)
        src[random_below((uint32_t)n)] = round & 1 ? NAN : -INFINITY;
    if (round % 7 == 6) /* any bits at all */
        random_bytes(src, (size_t)n * 4);
}

static bool check_quantise(const subject *s)
{
    qk_encode_fn encode = qk_encoder(s->format);
    int64_t n = qk_block_elements(s->format);
    size_t bytes = qk_block_bytes(s->format);
    for (int round = 0; round < 300; round++) {
        float *src = round & 1 ? input_at_front(IN, (size_t)n * 4) : input_at_end(IN, (size_t)n * 4, 4);
        unsigned char want[256], *dst = output(OUT, bytes, 1);
        describe("round %d fill %s", round, fill_name((fill)(round % FILL_COUNT)));
        fill_source(src, n, round);
        encode(&qk_search_plain, src, want);
        encode(&s->kernels->search, src, dst);
        for (size_t i = 0; i < bytes; i++)
            if (dst[i] != want[i])
                return fail("byte %zu is %02x, not %02x", i, dst[i], want[i]);
        if (!output_intact(OUT))
            return false;
    }
    return true;
}

static any_fn get_quantise(const qk_kernels *k, qp_format format)
{
    return qk_encoder(format) ? (any_fn)k->search.errors : NULL;
}

typedef struct timing {
    const subject *s;
    float floats[4096];
    char blocks[4096 * 2];
} timing;

static void run_quantise(void *ctx, uint64_t i)
{
    timing *t = ctx;
    qk_encode_fn encode = qk_encoder(t->s->format);
    int64_t elements = qk_block_elements(t->s->format);
    (void)i;
    for (int64_t at = 0; at < 4096; at += elements)
        encode(&t->s->kernels->search, t->floats + at, t->blocks + at / elements * qk_block_bytes(t->s->format));
}

static void bench_quantise(const subject *s)
{
    static timing t;
    t.s = s;
    fill_floats(t.floats, 4096, FILL_NORMAL, 0);
    bench(s, "n=4096", run_quantise, &t, 4096 * 1e3, "M weights/s");
}

const family quantise_families[2] = {
    {"search", false, get_search, check_search, NULL},
    {"quantise", true, get_quantise, check_quantise, bench_quantise},
};
