/* SPDX-License-Identifier: MIT
 * tests/kernel/check_activations.c: row quantise_activations, against what its comment promises. */
#include "tests/kernel/check.h"

typedef void (*quantise_fn)(void *dst, const float *x, int64_t k);

enum { IN = 0, OUT = 1 };

static bool check_block(const float *x, const int8_t *q, float d, const int32_t sum[2])
{
    float most = 0;
    bool finite = true;
    int32_t want_sum[2] = {0};
    for (int i = 0; i < QK_BLOCK; i++) {
        finite = finite && isfinite(x[i]);
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
        want_sum[i / 16] += q[i];
    }
    if (!finite)
        return d != d || fail("d is %a for a block that is not finite", (double)d);
    if (most < 0x1p-119f)
        most = 0;
    double want_d = (double)most / 127;
    if (!agrees(d, want_d, want_d * 0x1p-22 + 0x1p-149))
        return fail("d is %a, not %a", (double)d, want_d);
    for (int half = 0; half < 2; half++)
        if (sum[half] != want_sum[half])
            return fail("sum %d is %d, quants sum to %d", half, sum[half], want_sum[half]);
    for (int i = 0; i < QK_BLOCK; i++) {
        /* half a step, and a little for the rounding of 1/d */
        double slack = want_d * (0.5 + 1e-4) + 0x1p-119 * (most == 0);
        if (q[i] < -127 || fabs((double)d * q[i] - (double)x[i]) > slack)
            return fail("%a became %d · %a", (double)x[i], q[i], (double)d);
    }
    return true;
}

static bool check_row(const subject *s, const float *x, int64_t k)
{
    char *dst = output(OUT, qk_act_bytes(k), 64);
    ((quantise_fn)s->fn)(dst, x, k);
    for (int64_t b = 0; b < k / QK_BLOCK; b++) {
        float d;
        int32_t sum[2];
        memcpy(&d, dst + qk_act_d(k) + b * 4, sizeof d);
        memcpy(sum, dst + qk_act_sum(k) + b * 8, sizeof sum);
        if (!check_block(x + b * QK_BLOCK, (const int8_t *)dst + b * QK_BLOCK, d, sum))
            return fail("block %lld", (long long)b);
    }
    return output_intact(OUT);
}

/* "Rounded to nearest even": with a largest of 127 the step is 1 and the halves are ties. */
static bool check_ties(const subject *s)
{
    describe("ties");
    float *x = input_at_end(IN, QK_BLOCK * 4, 4);
    char *dst = output(OUT, qk_act_bytes(QK_BLOCK), 64);
    x[0] = 127;
    for (int i = 1; i < QK_BLOCK; i++)
        x[i] = (float)(i - 16) + 0.5f;
    ((quantise_fn)s->fn)(dst, x, QK_BLOCK);
    for (int i = 0; i < QK_BLOCK; i++)
        if ((int8_t)dst[i] != (int)nearbyintf(x[i]))
            return fail("%g became %d", (double)x[i], (int8_t)dst[i]);
    return true;
}

static bool check(const subject *s)
{
    for (int round = 0; round < 400; round++) {
        int64_t k = QK_BLOCK * (round < 80 ? round + 1 : random_between(1, 150));
        float *x = round & 1 ? input_at_front(IN, (size_t)k * 4) : input_at_end(IN, (size_t)k * 4, 4);
        fill_floats(x, k, (fill)(round % FILL_COUNT), round % 3 ? 1e30f : FLT_MAX);
        if (round % 5 == 4)
            x[random_below((uint32_t)k)] = round & 1 ? NAN : -INFINITY;
        if (round % 11 == 10)
            random_bytes(x, (size_t)k * 4);
        describe("k=%lld round %d fill %s", (long long)k, round, fill_name((fill)(round % FILL_COUNT)));
        if (!check_row(s, x, k))
            return false;
    }
    return check_ties(s);
}

static any_fn get(const qk_kernels *k, qp_format format)
{
    (void)format;
    return (any_fn)k->quantise_activations;
}

enum { BENCH_K = 4096 };
static float bench_x[BENCH_K];
static _Alignas(64) char bench_dst[BENCH_K * 2];

static void run(void *ctx, uint64_t i)
{
    (void)i;
    ((quantise_fn)((const subject *)ctx)->fn)(bench_dst, bench_x, BENCH_K);
}

static void bench_it(const subject *s)
{
    subject copy = *s;
    fill_floats(bench_x, BENCH_K, FILL_NORMAL, 0);
    bench(s, "k=4096", run, &copy, BENCH_K, "G elements/s");
}

const family activation_family = {"quantise_activations", false, get, check, bench_it};
