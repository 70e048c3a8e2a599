/* SPDX-License-Identifier: MIT
 * tests/kernel/quantise_test.c: how good the quantisers of weights are, and what they make of numbers that are none. Errors on
 * Gaussian values are held against figures that were measured (docs/quantize.md), scales of short blocks against all there are, and
 * whole blocks against those of tests/data/quantised.bin, which an independent reader has read (tools/make_quantised_reference.py).
 */
#include "kernels/common/quantise.h"
#include "kernels/ref/ref.h"
#include "tests/tap.h"

#include <float.h>
#include <math.h>

enum { VALUES = 1 << 16, MOST_BYTES = VALUES * 2 };

/* The error of each format, as a share of the values' root mean square: what ours was measured at, with 1 % of room; what the best
 * of other implementations has on values of the same kind. */
static const struct {
    qp_format format;
    const char *name;
    double ours, other;
} figures[] = {
    {QP_FORMAT_Q4_0, "Q4_0", 0.0817, 0.0862},     {QP_FORMAT_Q4_1, "Q4_1", 0.0697, 0.0783},
    {QP_FORMAT_Q5_0, "Q5_0", 0.0403, 0.0428},     {QP_FORMAT_Q5_1, "Q5_1", 0.0338, 0.0379},
    {QP_FORMAT_Q2_K, "Q2_K", 0.2653, 0.2969},     {QP_FORMAT_Q3_K, "Q3_K", 0.1454, 0.1511},
    {QP_FORMAT_Q4_K, "Q4_K", 0.0705, 0.0714},     {QP_FORMAT_Q5_K, "Q5_K", 0.0346, 0.0362},
    {QP_FORMAT_Q6_K, "Q6_K", 0.0166, 0.0178},     {QP_FORMAT_IQ4_NL, "IQ4_NL", 0.0739, 0.0762},
    {QP_FORMAT_IQ4_XS, "IQ4_XS", 0.0746, 0.0768}, {QP_FORMAT_MXFP4, "MXFP4", 0.1121, 0.1153},
    {QP_FORMAT_TQ1_0, "TQ1_0", 0.4354, 0.8092},   {QP_FORMAT_TQ2_0, "TQ2_0", 0.4354, 0.8092},
};
enum { FORMATS = sizeof figures / sizeof *figures };

static uint64_t state = 20240611;

static double uniform(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 11) * 0x1p-53;
}

static void gaussian(float *x, int n, double scale)
{
    for (int i = 0; i < n; i++)
        x[i] = (float)(scale * sqrt(-2 * log(1 - uniform())) * cos(6.283185307179586 * uniform()));
}

static void quantise(qp_format format, const float *x, void *blocks, int n)
{
    qk_encode_fn encode = qk_encoder(format);
    int elements = (int)qk_block_elements(format);
    for (int i = 0; i < n; i += elements)
        encode(&qk_search_plain, x + i, (char *)blocks + (size_t)(i / elements) * qk_block_bytes(format));
}

static double error(const float *x, const float *y, int n)
{
    double sum = 0, all = 0;
    for (int i = 0; i < n; i++) {
        double rest = (double)x[i] - (double)y[i];
        sum += rest * rest;
        all += (double)x[i] * (double)x[i];
    }
    return sqrt(sum / all);
}

static float x[VALUES], y[VALUES], z[VALUES];
static unsigned char blocks[MOST_BYTES], again[MOST_BYTES];

/* What a reader makes of a quantised model loses next to nothing when it is quantised once more; the more so as its error must be
 * small against the first one. */
static void test_errors(void)
{
    for (int f = 0; f < FORMATS; f++) {
        gaussian(x, VALUES, 1);
        quantise(figures[f].format, x, blocks, VALUES);
        qr_dequantise(figures[f].format, blocks, y, VALUES);
        double first = error(x, y, VALUES);
        ok(first <= figures[f].ours * 1.01 && first < figures[f].other, "%s: error %.4f; %.4f was measured, others have %.4f",
           figures[f].name, first, figures[f].ours, figures[f].other);
        quantise(figures[f].format, y, again, VALUES);
        qr_dequantise(figures[f].format, again, z, VALUES);
        double second = error(y, z, VALUES), both = error(x, z, VALUES);
        ok(second <= first * 0.5 && both <= first * 1.05, "%s of what it reads as: %.5f more, %.4f in all", figures[f].name, second,
           both);
    }
}

/* ---- against every scale there is ---- */

static double weighted_error(const float *v, const float *q, float d, int n)
{
    double sum = 0, rms = 0;
    for (int i = 0; i < n; i++)
        rms += (double)v[i] * (double)v[i] / n;
    rms = sqrt(rms);
    for (int i = 0; i < n; i++) {
        double rest = (double)v[i] - (double)d * (double)q[i];
        sum += (rms + fabs((double)v[i])) * rest * rest;
    }
    return sum;
}

/* Nearest of the steps that a format of one scale has, by trying all. */
static float nearest(const float *steps, int count, float t)
{
    float best = steps[0];
    for (int i = 1; i < count; i++)
        best = fabsf(steps[i] - t) < fabsf(best - t) ? steps[i] : best;
    return best;
}

/* The values that a block's codes stand for, found by reading blocks with d = 1 and one code all over. */
static int steps_of(qp_format format, float *steps)
{
    unsigned char block[64];
    float values[32];
    int count = format == QP_FORMAT_Q5_0 ? 32 : 16;
    for (int code = 0; code < count; code++) {
        memset(block, (code & 15) * 17, sizeof block);
        block[0] = 0x00;
        block[1] = 0x3c; /* 1 as a half */
        if (format == QP_FORMAT_Q5_0)
            memset(block + 2, code & 16 ? 255 : 0, 4);
        if (format == QP_FORMAT_MXFP4)
            block[0] = 127, block[1] = block[2];
        qr_dequantise(format, block, values, 32);
        steps[code] = values[0];
    }
    return count;
}

static double error_of_scale(const float *v, const float *steps, int count, float d)
{
    float q[32];
    for (int i = 0; i < 32; i++)
        q[i] = nearest(steps, count, d == 0 ? 0 : v[i] / d);
    return weighted_error(v, q, d, 32);
}

/* Every third half within a factor of four of what spans the block: no other scale is of use. */
static void test_all_scales(qp_format format, const char *name)
{
    float steps[32];
    int count = steps_of(format, steps), blocks_tried = 12;
    double ours = 0, best = 0;
    for (int b = 0; b < blocks_tried; b++) {
        float v[32], r[32], most = 0, end = 0;
        unsigned char block[64];
        gaussian(v, 32, exp(uniform() * 4 - 6));
        quantise(format, v, block, 32);
        qr_dequantise(format, block, r, 32);
        ours += weighted_error(v, r, 1, 32);
        for (int i = 0; i < 32; i++)
            most = fmaxf(most, fabsf(v[i]));
        for (int i = 0; i < count; i++)
            end = fmaxf(end, fabsf(steps[i]));
        double least = HUGE_VAL;
        if (format == QP_FORMAT_MXFP4) {
            for (int e = -30; e < 10; e++)
                least = fmin(least, error_of_scale(v, steps, count, ldexpf(1, e)));
        } else {
            for (uint16_t h = 1; h < 0x7c00; h = (uint16_t)(h + 3)) {
                float d = qk_f32_from_f16(h);
                if (d > 4 * most / end || d < most / end / 4)
                    continue;
                least = fmin(least, fmin(error_of_scale(v, steps, count, d), error_of_scale(v, steps, count, -d)));
            }
        }
        best += least;
    }
    ok(ours <= best * 1.02, "%s: within 2 %% of the best of all scales (%.4f)", name, ours / best);
}

static int by_size(const void *a, const void *b)
{
    float p = *(const float *)a, q = *(const float *)b;
    return (p < q) - (p > q);
}

/* The best ternary scale is the mean of the k largest magnitudes, for the k that gains most. */
static void test_best_ternary(void)
{
    double worst = 0;
    for (int b = 0; b < 20; b++) {
        float v[256], r[256], size[256];
        unsigned char block[128];
        double sum = 0, gain = 0, all = 0, ours = 0;
        gaussian(v, 256, 0.02);
        quantise(QP_FORMAT_TQ2_0, v, block, 256);
        qr_dequantise(QP_FORMAT_TQ2_0, block, r, 256);
        for (int i = 0; i < 256; i++) {
            size[i] = fabsf(v[i]);
            all += (double)v[i] * (double)v[i];
            ours += ((double)v[i] - (double)r[i]) * ((double)v[i] - (double)r[i]);
        }
        qsort(size, 256, sizeof *size, by_size);
        for (int k = 0; k < 256; k++) {
            sum += (double)size[k];
            gain = fmax(gain, sum * sum / (k + 1));
        }
        worst = fmax(worst, ours / (all - gain));
    }
    ok(worst <= 1.001, "TQ2_0: the best of all scales (%.5f)", worst);
}

/* ---- what is no ordinary weight ---- */

static int is_number(const float *v, int n)
{
    for (int i = 0; i < n; i++)
        if (!isfinite(v[i]))
            return 0;
    return 1;
}

static int reads_as(qp_format format, const float *v, float *r)
{
    unsigned char block[256];
    quantise(format, v, block, 256);
    return !qr_dequantise(format, block, r, 256) && is_number(r, 256);
}

static int largest_is(const float *v, double least, double most)
{
    float largest = 0;
    for (int i = 0; i < 256; i++)
        largest = fabsf(v[i]) > largest ? fabsf(v[i]) : largest;
    return (double)largest >= least && (double)largest <= most;
}

/* One point: v reads as numbers, the largest of them within limits, with at most this error. */
static void expect(int f, const char *what, const float *v, double least, double most, double most_error)
{
    float r[256];
    int good = reads_as(figures[f].format, v, r) && largest_is(r, least, most);
    double e = largest_is(v, 0, 0) ? 0 : error(v, r, 256);
    for (int i = 0; i < 256 && good; i++)
        if (!signbit(v[i]) != !signbit(r[i]) && fabsf(r[i]) > fabsf(v[i]) / 2 + 0.05f)
            good = 0;
    ok(good && e <= most_error, "%s: %s (error %.4f)", figures[f].name, what, e);
}

static void test_extremes(int f)
{
    float v[256] = {0};
    int ternary = figures[f].other > 0.5;
    expect(f, "zeros stay zeros", v, 0, 0, 0);
    gaussian(v, 256, (double)FLT_TRUE_MIN * 1000);
    expect(f, "the smallest floats", v, 0, 1e-30, 1.01);
    gaussian(v, 256, 1e-6);
    expect(f, "scales that are subnormal halves", v, 1e-7, 1e-5, ternary ? 0.5 : 0.4);
    gaussian(v, 256, 1);
    for (int i = 0; i < 256; i++)
        v[i] = copysignf(FLT_MAX, v[i]);
    expect(f, "the largest floats become the largest that it has", v, 60000, (double)FLT_MAX, 1);
    for (int i = 0; i < 256; i++)
        v[i] = -0.5f;
    expect(f, "all equal", v, 0.4, 0.6, 0.01);
    memset(v, 0, sizeof v);
    v[77] = 3;
    expect(f, "one among zeros", v, 2.9, 3.1, 0.1);
}

static void test_not_finite(int f)
{
    static const float evils[] = {NAN, INFINITY, -INFINITY};
    qp_format format = figures[f].format;
    int elements = (int)qk_block_elements(format), wrong = 0;
    for (int e = 0; e < 3; e++) {
        float v[256], r[256];
        unsigned char block[256];
        gaussian(v, 256, 1);
        v[9] = evils[e];
        quantise(format, v, block, 256);
        qr_dequantise(format, block, r, 256);
        for (int i = 0; i < elements; i++)
            wrong += format == QP_FORMAT_MXFP4 ? block[0] != 255 : !isnan(r[i]);
        for (int i = elements; i < 256; i++)
            wrong += !isfinite(r[i]);
    }
    ok(wrong == 0, "%s: a block that is not finite shows it, its neighbours do not", figures[f].name);
}

/* Powers of two change scales and nothing else. */
static void test_powers(int f)
{
    float v[256], r[256], s[256];
    qp_format format = figures[f].format;
    int wrong = 0;
    gaussian(v, 256, 1);
    (void)reads_as(format, v, r);
    for (int e = 0; e <= 8; e++) {
        for (int i = 0; i < 256; i++)
            s[i] = ldexpf(v[i], e);
        (void)reads_as(format, s, s);
        for (int i = 0; i < 256; i++)
            wrong += s[i] != ldexpf(r[i], e);
    }
    ok(wrong == 0, "%s: a power of two more is a power of two more (%d differ)", figures[f].name, wrong);
}

/* ---- blocks that an independent reader has read ---- */

static uint32_t u32(const unsigned char *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* One format of the file: number, bytes, blocks, values. */
static const unsigned char *test_known(const unsigned char *p, int n)
{
    qp_format format = u32(p);
    uint32_t bytes = u32(p + 4);
    const unsigned char *want = p + 8, *values = want + bytes;
    int coded = 0, read = 0;
    if (qk_encoder(format))
        quantise(format, x, blocks, n);
    else
        coded = qr_quantise(format, x, blocks, n) != 0;
    for (uint32_t i = 0; i < bytes; i++)
        coded += blocks[i] != want[i];
    qr_dequantise(format, want, y, n);
    for (int i = 0; i < n; i++) {
        float value;
        memcpy(&value, values + (size_t)i * 4, sizeof value);
        read += value < y[i] || value > y[i];
    }
    ok(coded == 0, "format %u: the same blocks on every machine (%d bytes differ)", format, coded);
    ok(read == 0, "format %u: they read as an independent reader has them (%d values differ)", format, read);
    return values + (size_t)n * 4;
}

static void test_against_reader(void)
{
    static unsigned char data[1 << 17];
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/data/quantised.bin", getenv("QUERN_SOURCE") ? getenv("QUERN_SOURCE") : ".");
    FILE *file = fopen(path, "rb");
    size_t size = file ? fread(data, 1, sizeof data, file) : 0;
    if (file)
        fclose(file);
    if (!ok(size > 12 && !memcmp(data, "QRW1", 4) && u32(data + 4) <= VALUES, "tests/data/quantised.bin can be read"))
        return;
    int n = (int)u32(data + 4);
    memcpy(x, data + 12, (size_t)n * 4);
    const unsigned char *p = data + 12 + (size_t)n * 4;
    for (uint32_t i = 0; i < u32(data + 8); i++)
        p = test_known(p, n);
    ok(p == data + size && u32(data + 8) == FORMATS + 1, "the file ends where it should, with every format in it");
}

int main(void)
{
    test_against_reader();
    test_errors();
    test_all_scales(QP_FORMAT_Q4_0, "Q4_0");
    test_all_scales(QP_FORMAT_Q5_0, "Q5_0");
    test_all_scales(QP_FORMAT_IQ4_NL, "IQ4_NL");
    test_all_scales(QP_FORMAT_MXFP4, "MXFP4");
    test_best_ternary();
    for (int f = 0; f < FORMATS; f++) {
        test_extremes(f);
        test_not_finite(f);
        test_powers(f);
    }
    ok(!qk_encoder(QP_FORMAT_IQ2_S) && !qk_encoder(QP_FORMAT_F32) && !qk_encoder(99), "other formats have no quantiser");
    return tap_done();
}
