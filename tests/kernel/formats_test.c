/* SPDX-License-Identifier: MIT
 * tests/kernel/formats_test.c: conversions of the small floats over all their values, and the reference's quantisers against what
 * an independent implementation made of the same floats (tests/data/quantise.bin, tools/make_quantise_reference.py), its readers
 * against what that makes of random blocks (tests/data/dequantise.bin, tools/make_dequantise_reference.py). */
#include "kernels/ref/ref.h"
#include "tests/tap.h"

#include <float.h>
#include <math.h>

/* The value of a binary16 by its definition. */
static double half_value(uint16_t h)
{
    int exponent = h >> 10 & 31, mantissa = h & 1023;
    double sign = h & 0x8000 ? -1 : 1;
    if (exponent == 31)
        return mantissa ? (double)NAN : sign * (double)INFINITY;
    return sign * (exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24));
}

static int same(float a, double b)
{
    return (a != a && b != b) || ((double)a == b && !signbit(a) == !signbit(b));
}

static void test_f16_values(void)
{
    int wrong = 0, back = 0, nan_lost = 0;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = qk_f32_from_f16((uint16_t)h);
        wrong += !same(f, half_value((uint16_t)h));
        uint16_t again = qk_f16_from_f32(f);
        if (f == f)
            back += again != h;
        else
            nan_lost += (again & 0x7c00) != 0x7c00 || (again & 0x3ff) == 0;
    }
    ok(wrong == 0, "all 65536 halves have the value of their definition (%d wrong)", wrong);
    ok(back == 0, "every half comes back from float as it was (%d wrong)", back);
    ok(nan_lost == 0, "NaN halves stay NaN (%d lost)", nan_lost);
}

/* Between any two neighbours: below the middle down, above it up, at it to the even one. */
static void test_f16_rounding(void)
{
    int wrong = 0;
    for (uint16_t h = 0; h < 0x7bff; h++) {
        float low = qk_f32_from_f16(h), high = qk_f32_from_f16((uint16_t)(h + 1)), middle = low + (high - low) / 2;
        uint16_t even = (uint16_t)(h & 1 ? h + 1 : h);
        for (int sign = 0; sign < 2; sign++) {
            float s = sign ? -1 : 1;
            uint16_t bit = (uint16_t)(sign << 15);
            wrong += qk_f16_from_f32(s * middle) != (even | bit);
            wrong += qk_f16_from_f32(s * nextafterf(middle, 0)) != (h | bit);
            wrong += qk_f16_from_f32(s * nextafterf(middle, INFINITY)) != ((h + 1) | bit);
        }
    }
    ok(wrong == 0, "ties to even, others to the nearest half (%d wrong)", wrong);
    ok(qk_f16_from_f32(65519.996f) == 0x7bff && qk_f16_from_f32(65520) == 0x7c00 && qk_f16_from_f32(-65520) == 0xfc00,
       "65520 and beyond become infinity");
    ok(qk_f16_from_f32(INFINITY) == 0x7c00 && qk_f16_from_f32(-FLT_MAX) == 0xfc00, "infinity and the largest float");
    ok(qk_f16_from_f32(0x1p-25f) == 0 && qk_f16_from_f32(0x1.000002p-25f) == 1 && qk_f16_from_f32(-FLT_TRUE_MIN) == 0x8000,
       "below the smallest half");
}

static void test_bf16(void)
{
    int wrong = 0, rounding = 0;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = qk_f32_from_bf16((uint16_t)h);
        uint16_t again = qk_bf16_from_f32(f);
        wrong += qk_bits_from_f32(f) != h << 16 || (f == f ? again != h : !(qk_f32_from_bf16(again) != qk_f32_from_bf16(again)));
        if ((h & 0x7fff) >= 0x7f7f)
            continue;
        uint32_t middle = h << 16 | 0x8000, even = h & 1 ? h + 1 : h;
        rounding += qk_bf16_from_f32(qk_f32_from_bits(middle)) != even;
        rounding += qk_bf16_from_f32(qk_f32_from_bits(middle - 1)) != h;
        rounding += qk_bf16_from_f32(qk_f32_from_bits(middle + 1)) != h + 1;
    }
    ok(wrong == 0, "all 65536 bfloat16 there and back (%d wrong)", wrong);
    ok(rounding == 0, "bfloat16: ties to even, others to the nearest (%d wrong)", rounding);
    ok(qk_bf16_from_f32(FLT_MAX) == 0x7f80 && qk_bf16_from_f32(-INFINITY) == 0xff80, "the largest float rounds to infinity");
    float nan_low = qk_f32_from_bits(0x7f800001); /* a NaN whose upper half alone would be an infinity */
    ok((qk_bf16_from_f32(nan_low) & 0x7f) != 0, "no NaN becomes an infinity");
}

static void test_sizes(void)
{
    int wrong = 0;
    for (qp_format f = 0; f < QP_FORMAT_LIMIT; f++)
        wrong += (qk_block_elements(f) == 0) != (qk_block_bytes(f) == 0);
    ok(wrong == 0 && qk_block_elements(99) == 0, "formats have both elements and bytes or neither");
    ok(sizeof(qk_block_q4_0) == qk_block_bytes(QP_FORMAT_Q4_0) && sizeof(qk_block_q8_0) == qk_block_bytes(QP_FORMAT_Q8_0),
       "block structs have the size of their format");
}

/* ---- the reference's table ---- */

static const char *read_file(const char *name, size_t *size)
{
    static char data[1 << 18];
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/data/%s", getenv("QUERN_SOURCE") ? getenv("QUERN_SOURCE") : ".", name);
    FILE *file = fopen(path, "rb");
    *size = file ? fread(data, 1, sizeof data, file) : 0;
    if (file)
        fclose(file);
    return data;
}

static uint32_t u32(const char *p)
{
    uint32_t value;
    memcpy(&value, p, 4);
    return value;
}

enum { MOST = 4096 };

/* One format of the file at p: number, bytes, blocks, values. */
static const char *test_format(const char *p, const float *x, int64_t n)
{
    static char blocks[MOST * 8];
    static float values[MOST];
    qp_format format = u32(p);
    uint32_t bytes = u32(p + 4), block = qk_block_bytes(format), wrong = 0;
    const char *want = p + 8, *want_values = want + bytes;
    int status = qr_quantise(format, x, blocks, n);
    for (uint32_t i = 0; i < bytes; i++)
        if (blocks[i] != want[i] && wrong++ == 0)
            diag("block %u byte %u: %02x, not %02x", i / block, i % block, blocks[i] & 255, want[i] & 255);
    ok(status == 0 && wrong == 0, "format %u: the same blocks as the independent quantiser (%u of %u bytes differ)", format, wrong,
       bytes);
    wrong = qr_dequantise(format, want, values, n) != 0;
    for (int64_t i = 0; i < n; i++) {
        float value;
        memcpy(&value, want_values + i * 4, 4);
        wrong += value != values[i];
    }
    ok(wrong == 0, "format %u: the same values as the independent dequantiser (%u differ)", format, wrong);
    return want_values + n * 4;
}

static void test_against_reference(void)
{
    static float x[MOST];
    size_t size;
    const char *data = read_file("quantise.bin", &size), *p = data + 12;
    if (!ok(size > 12 && memcmp(data, "QRQ1", 4) == 0 && u32(data + 4) <= MOST, "tests/data/quantise.bin can be read"))
        return;
    uint32_t n = u32(data + 4), formats = u32(data + 8);
    memcpy(x, p, n * 4);
    p += n * 4;
    for (uint32_t i = 0; i < formats; i++)
        p = test_format(p, x, n);
    ok(p == data + size, "the file ends where it should");
}

/* One format of the file at p: number, values, bytes, blocks, values. */
static const char *test_reading(const char *p)
{
    static float values[MOST];
    qp_format format = u32(p);
    uint32_t n = u32(p + 4), bytes = u32(p + 8), wrong = 0;
    const char *want = p + 12 + bytes;
    int status = n <= MOST && bytes == n / qk_block_elements(format) * qk_block_bytes(format) ? 0 : -1;
    status = status ? status : qr_dequantise(format, p + 12, values, n);
    for (uint32_t i = 0; status == 0 && i < n; i++) {
        float value;
        memcpy(&value, want + (size_t)i * 4, 4);
        if (value != values[i] && (value == value || values[i] == values[i]) && wrong++ == 0)
            diag("element %u: %a, not %a", i, (double)values[i], (double)value);
    }
    ok(status == 0 && wrong == 0, "format %u: random blocks read as the independent reader has them (%u differ)", format, wrong);
    return want + (size_t)n * 4;
}

static void test_reading_of_every_format(void)
{
    size_t size;
    const char *data = read_file("dequantise.bin", &size), *p = data + 8;
    if (!ok(size > 8 && memcmp(data, "QRD1", 4) == 0, "tests/data/dequantise.bin can be read"))
        return;
    uint32_t formats = u32(data + 4), all = 0;
    for (uint32_t i = 0; i < formats; i++)
        p = test_reading(p);
    for (qp_format f = 0; f < QP_FORMAT_LIMIT; f++)
        all += qk_block_elements(f) > 1;
    ok(p == data + size && formats == all, "the file ends where it should, with all %u formats of blocks in it", all);
}

static void test_bad_blocks(void)
{
    static const qp_format formats[] = {QP_FORMAT_Q8_0, QP_FORMAT_Q4_0};
    static const float evils[] = {NAN, INFINITY, -INFINITY};
    for (int f = 0; f < 2; f++) {
        int shown = 0, spread = 0;
        for (int e = 0; e < 3; e++) {
            float x[64], y[64];
            char blocks[128];
            for (int i = 0; i < 64; i++)
                x[i] = (float)i - 20;
            x[7] = evils[e];
            qr_quantise(formats[f], x, blocks, 64);
            qr_dequantise(formats[f], blocks, y, 64);
            for (int i = 0; i < 64; i++)
                *(i < 32 ? &shown : &spread) += y[i] != y[i];
        }
        ok(shown == 96 && spread == 0, "format %u: a block that is not finite reads as NaN, its neighbour does not", formats[f]);
    }
    float tiny[32], back[32];
    char block[64];
    for (int i = 0; i < 32; i++)
        tiny[i] = FLT_TRUE_MIN * (float)(i - 16);
    int zero = 1;
    for (int f = 0; f < 2; f++) {
        qr_quantise(formats[f], tiny, block, 32);
        qr_dequantise(formats[f], block, back, 32);
        for (int i = 0; i < 32; i++)
            zero = zero && back[i] == 0;
    }
    ok(zero, "a block of the smallest floats becomes zeros");
    ok(qr_dequantise(63, block, back, 32) == -1 && qr_quantise(QP_FORMAT_IQ1_S, tiny, block, 32) == -1,
       "a format without a conversion is refused");
}

int main(void)
{
    test_f16_values();
    test_f16_rounding();
    test_bf16();
    test_sizes();
    test_against_reference();
    test_reading_of_every_format();
    test_bad_blocks();
    return tap_done();
}
