/* SPDX-License-Identifier: MIT
 * tests/kernel/random.c: random numbers from a printed seed, and inputs that are hard on kernels.
 * The generator is SplitMix64 (Steele, Lea & Flood 2014). */
#include "tests/kernel/check.h"

static uint64_t state;

void random_seed(uint64_t seed)
{
    state = seed;
}

uint64_t random_bits(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

uint32_t random_below(uint32_t limit)
{
    return (uint32_t)((random_bits() >> 32) * limit >> 32);
}

int64_t random_between(int64_t low, int64_t high)
{
    return low + random_below((uint32_t)(high - low + 1));
}

double random_unit(void)
{
    return (double)(random_bits() >> 11) * 0x1p-53;
}

/* Box and Muller 1958. */
float random_normal(void)
{
    double u = 1 - random_unit(), v = random_unit();
    return (float)(sqrt(-2 * log(u)) * cos(6.28318530717958647692 * v));
}

void random_bytes(void *dst, size_t size)
{
    uint8_t *p = dst;
    for (size_t i = 0; i < size; i++)
        p[i] = (uint8_t)random_bits();
}

const char *fill_name(fill kind)
{
    static const char *const names[] = {"normal", "zero", "denormal", "equal", "range", "large", "alternating", "sparse"};
    return names[kind];
}

static float fill_one(fill kind, int64_t i, float common, float limit)
{
    float x;
    switch (kind) {
    case FILL_ZERO: return random_below(2) ? 0.0f : -0.0f;
    case FILL_DENORMAL: return (random_below(2) ? 1.0f : -1.0f) * qk_f32_from_bits(random_below(0x800000));
    case FILL_EQUAL: return common;
    case FILL_RANGE: x = random_normal() * ldexpf(1, (int)random_between(-30, 30)); return fabsf(x) > limit ? limit : x;
    case FILL_LARGE: return random_below(2) ? limit : -limit;
    case FILL_ALTERNATING: return i & 1 ? -common : common;
    case FILL_SPARSE: return random_below(8) ? (random_below(2) ? 0.0f : -0.0f) : random_normal();
    default: return random_normal();
    }
}

void fill_floats(float *dst, int64_t n, fill kind, float limit)
{
    float common = random_normal();
    for (int64_t i = 0; i < n; i++)
        dst[i] = fill_one(kind, i, common, limit);
}

/* A block of a format that nobody here writes: random bytes until their values are finite and below the limit. */
static void random_block(qp_format format, void *dst, float limit)
{
    float values[256];
    int64_t n = qk_block_elements(format);
    for (int fine = 0, tries = 0; !fine; tries++) {
        if (tries < 1000)
            random_bytes(dst, qk_block_bytes(format));
        else
            memset(dst, 0, qk_block_bytes(format));
        fine = qr_dequantise(format, dst, values, n) == 0 || tries >= 1000;
        for (int64_t i = 0; fine && tries < 1000 && i < n; i++)
            fine = fabsf(values[i]) <= (limit > 0 ? limit : 1000);
    }
}

void fill_format(qp_format format, void *dst, int64_t n, fill kind, float limit)
{
    float values[256];
    int64_t step = qk_block_elements(format) > 1 ? qk_block_elements(format) : 256;
    char *to = dst;
    for (int64_t begin = 0; begin < n; begin += step, to += row_bytes(format, step)) {
        int64_t count = n - begin < step ? n - begin : step;
        fill_floats(values, count, kind, limit);
        if (qr_quantise(format, values, to, count))
            random_block(format, to, limit);
    }
}
