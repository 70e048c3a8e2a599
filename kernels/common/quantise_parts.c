/* SPDX-License-Identifier: MIT
 * kernels/common/quantise_parts.c: see quantise_parts.h. */
#include "kernels/common/quantise_parts.h"

const qk_steps qk_steps_iq4 = {
    .low = -127,
    .high = 113,
    .uneven = 1,
    .middle = {-115.5f, -93.5f, -74, -57, -42, -28.5f, -16, -4.5f, 7, 19, 31.5f, 45.5f, 61, 79, 101},
    .rise = {23, 21, 18, 16, 14, 13, 12, 11, 12, 12, 13, 15, 16, 20, 24},
};

static double power_of_two(int exponent)
{
    uint64_t bits = (uint64_t)(exponent + 1023) << 52;
    double d;
    memcpy(&d, &bits, sizeof d);
    return d;
}

static int exponent_of(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (int)(bits >> 52 & 2047) - 1023;
}

qk_kind qk_source_read(qk_source *s, const float *src, int n)
{
    uint32_t largest = 0; /* bits of magnitudes are ordered as these are, NaN above infinity */
    for (int i = 0; i < n; i++) {
        uint32_t bits = qk_bits_from_f32(src[i]) & 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    if (largest >= 0x7f800000)
        return QK_NOT_FINITE;
    if (largest == 0)
        return QK_ZEROS;
    int exponent = exponent_of((double)qk_f32_from_bits(largest));
    s->up = power_of_two(exponent);
    s->down = power_of_two(-exponent);
    for (int i = 0; i < n; i++)
        s->x[i] = (float)((double)src[i] * s->down);
    return QK_FINITE;
}

void qk_weigh(qk_source *s, int n, int group)
{
    for (int g = 0; g < n; g += group) {
        const float *x = s->x + g;
        float *w = s->w + g, sum = 0;
        for (int i = 0; i < group; i++)
            sum += x[i] * x[i];
        float rms = __builtin_sqrtf(sum / (float)group);
        for (int i = 0; i < group; i++)
            w[i] = rms + __builtin_fabsf(x[i]);
    }
}

uint16_t qk_half(const qk_source *s, float scale)
{
    double d = (double)scale * s->up;
    d = d > 65504 ? 65504 : d < -65504 ? -65504 : d;
    return qk_f16_from_f32((float)d);
}

uint16_t qk_half_reaching(const qk_source *s, float scale)
{
    uint16_t half = qk_half(s, scale);
    int below = __builtin_fabsf(qk_half_value(s, half)) < __builtin_fabsf(scale);
    return (half & 0x7fff) < 0x0400 && below ? (uint16_t)((half | (scale < 0 ? 0x8000 : 0)) + 1) : half;
}

float qk_half_value(const qk_source *s, uint16_t half)
{
    return (float)((double)qk_f32_from_f16(half) * s->down);
}

/* ---- one scale ---- */

/* The best factor for the quants of each candidate takes (Σwqx)²/Σwq² off the error. */
static int best_scale(const qk_sums *sums, int count)
{
    float gain[QK_CANDIDATES];
    for (int i = 0; i < count; i++)
        gain[i] = sums->qx[i] * sums->qx[i] / (sums->qq[i] > 0 ? sums->qq[i] : 1);
    return qk_most(gain, count);
}

/* The element furthest from zero comes to lie at one end of the steps or the other, somewhat inside or outside. */
float qk_fit_scale(const qk_search *search, const qk_steps *steps, const float *x, const float *w, int n)
{
    enum { SIDE = 16 };
    qk_candidates c;
    qk_sums sums;
    float extreme = 0;
    c.count = 2 * SIDE;
    for (int i = 0; i < n; i++)
        extreme = __builtin_fabsf(x[i]) > __builtin_fabsf(extreme) ? x[i] : extreme;
    if (extreme == 0)
        return 0;
    float unit = steps->uneven ? 15 : steps->low <= -32 ? 2 : 1; /* about a step; two where steps are fine */
    for (int i = 0; i < SIDE; i++) {
        float shift = (0.3f * (float)i - 2.5f) * unit;
        c.offset[i] = c.offset[i + SIDE] = 0;
        c.inverse[i] = (steps->low - shift) / extreme;
        c.inverse[i + SIDE] = (steps->high + shift) / extreme;
    }
    search->sums(&c, steps, x, w, n, &sums);
    int best = best_scale(&sums, c.count);
    return sums.qq[best] > 0 ? sums.qx[best] / sums.qq[best] : 0;
}

/* ---- a scale and an offset ---- */

typedef struct line_search {
    const qk_search *search;
    const qk_steps *steps;
    const float *x, *w;
    int n, any_offset;
    float sum_w, sum_x;
    float scale, offset, gain; /* the best so far */
} line_search;

/* How much the best line for each candidate's quants takes off the error. Without a constant it is a scale alone; a scale below
 * zero is no use. */
static void line_gains(const line_search *s, const qk_sums *sums, int count, float *gain)
{
    float w = s->sum_w, x = s->sum_x, all = s->sum_x * s->sum_x / s->sum_w, no_constant = s->any_offset ? 0.0f : 1.0f;
    for (int i = 0; i < count; i++) {
        float q = sums->q[i], qq = sums->qq[i], qx = sums->qx[i];
        float determinant = w * qq - q * q, slope = w * qx - q * x, constant = qq * x - q * qx;
        int line = determinant > 1e-6f * w * qq && slope > 0;
        float both = line ? all + slope * slope / (w * determinant) : all;
        float alone = qq > 0 && qx > 0 ? qx * qx / qq : 0;
        gain[i] = no_constant * (line ? constant : x) > 0 ? alone : both;
    }
}

/* Least squares for the quants of one candidate. */
static void take_line(line_search *s, const qk_sums *sums, int i)
{
    double q = (double)sums->q[i], qq = (double)sums->qq[i], qx = (double)sums->qx[i], w = (double)s->sum_w, x = (double)s->sum_x;
    double determinant = w * qq - q * q, scale = 0, constant = x / w;
    if (determinant > 1e-6 * w * qq && w * qx > q * x) {
        scale = (w * qx - q * x) / determinant;
        constant = (qq * x - q * qx) / determinant;
    }
    if (constant > 0 && !s->any_offset) {
        constant = 0;
        scale = qq > 0 && qx > 0 ? qx / qq : 0;
    }
    s->scale = (float)scale;
    s->offset = (float)-constant;
}

/* The ends of the range of quants at low and high, each moved inward by `first` steps of the quants and SIDE − 1 times `step` more.
 */
static void try_lines(line_search *s, float low, float high, float first, float step)
{
    enum { SIDE = 8 };
    qk_candidates c;
    qk_sums sums;
    float unit = (high - low) / s->steps->high, gain[SIDE * SIDE];
    c.count = SIDE * SIDE;
    for (int i = 0; i < SIDE * SIDE; i++) {
        float from = low + unit * (first + step * (float)(i % SIDE)), to = high - unit * (first + step * (float)(i / SIDE));
        from = from > 0 && !s->any_offset ? 0 : from;
        c.offset[i] = -from;
        c.inverse[i] = to > from ? s->steps->high / (to - from) : 0;
    }
    s->search->sums(&c, s->steps, s->x, s->w, s->n, &sums);
    line_gains(s, &sums, SIDE * SIDE, gain);
    int best = qk_most(gain, SIDE * SIDE);
    if (gain[best] > s->gain) {
        s->gain = gain[best];
        take_line(s, &sums, best);
    }
}

/* The lowest and the highest element come to lie somewhat inside or outside the range of quants, each by itself. Where nothing
 * follows that would refine it, once more around the best line in steps of a quarter. */
void qk_fit_line(const qk_search *search, const qk_steps *steps, const float *x, const float *w, int n, int any_offset,
                 float *scale, float *offset)
{
    line_search s = {.search = search, .steps = steps, .x = x, .w = w, .n = n, .any_offset = any_offset};
    float low = x[0], high = x[0];
    for (int i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
        s.sum_w += w[i];
        s.sum_x += w[i] * x[i];
    }
    if (!any_offset)
        low = low < 0 ? low : 0;
    try_lines(&s, low, high, -0.5f, 0.25f);
    if (s.scale > 0 && any_offset)
        try_lines(&s, -s.offset, -s.offset + s.scale * steps->high, -0.21875f, 0.0625f);
    *scale = s.scale;
    *offset = s.offset;
}
