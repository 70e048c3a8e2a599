/* SPDX-License-Identifier: MIT */
#include "cli/selftest_math.h"

#include <math.h>
#include <string.h>

static const double pi = 3.14159265358979323846;

double st_random(uint64_t *state, double low, double high)
{
    /* xorshift64* (Vigna 2016, arXiv:1402.6246) */
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return low + (high - low) * (double)((*state * 0x2545f4914f6cdd1dull) >> 11) * 0x1p-53;
}

/* A binary float with exponent_bits and mantissa_bits from a double, to nearest even. Finite and not near overflow: inputs here
 * are. */
static uint32_t pack_float(double x, int exponent_bits, int mantissa_bits)
{
    int exponent, bias = (1 << (exponent_bits - 1)) - 1;
    uint32_t sign = signbit(x) ? 1u << (exponent_bits + mantissa_bits) : 0;
    double magnitude = fabs(x);
    if (magnitude == 0)
        return sign;
    frexp(magnitude, &exponent);
    exponent--; /* magnitude = 1.m · 2^exponent */
    if (exponent < 1 - bias)
        exponent = 1 - bias; /* subnormal */
    double scaled = nearbyint(ldexp(magnitude, mantissa_bits - exponent));
    uint32_t bits = (uint32_t)scaled; /* the implicit one carries into the exponent below */
    return sign | (bits + ((uint32_t)(exponent + bias - 1) << mantissa_bits));
}

static double unpack_float(uint32_t bits, int exponent_bits, int mantissa_bits)
{
    int exponent = (int)(bits >> mantissa_bits & ((1u << exponent_bits) - 1)), bias = (1 << (exponent_bits - 1)) - 1;
    double mantissa = (double)(bits & ((1u << mantissa_bits) - 1));
    double magnitude = exponent ? ldexp(mantissa + ldexp(1, mantissa_bits), exponent - bias - mantissa_bits)
                                : ldexp(mantissa, 1 - bias - mantissa_bits);
    return bits >> (exponent_bits + mantissa_bits) & 1 ? -magnitude : magnitude;
}

static void encode_block(qp_format format, const double *x, unsigned char *out)
{
    double largest = 0;
    for (int i = 0; i < 32; i++)
        if (fabs(x[i]) > fabs(largest))
            largest = x[i];
    double step = format == QP_FORMAT_Q8_0 ? fabs(largest) / 127 : largest / -8;
    uint16_t d = (uint16_t)pack_float(step, 5, 10);
    double inverse = step != 0 ? 1 / step : 0;
    memcpy(out, &d, 2);
    if (format == QP_FORMAT_Q8_0) {
        for (int i = 0; i < 32; i++)
            out[2 + i] = (unsigned char)(int8_t)lrint(x[i] * inverse);
        return;
    }
    for (int i = 0; i < 16; i++) {
        long low = lrint(x[i] * inverse) + 8, high = lrint(x[i + 16] * inverse) + 8;
        out[2 + i] = (unsigned char)((low > 15 ? 15 : low) | (high > 15 ? 15 : high) << 4);
    }
}

static void decode_block(qp_format format, const unsigned char *in, double *x)
{
    uint16_t d;
    memcpy(&d, in, 2);
    double step = unpack_float(d, 5, 10);
    for (int i = 0; i < 32; i++) {
        if (format == QP_FORMAT_Q8_0)
            x[i] = step * (double)(int8_t)in[2 + i];
        else
            x[i] = step * (double)((i < 16 ? in[2 + i] & 15 : in[2 + i - 16] >> 4) - 8);
    }
}

void st_encode(qp_format format, double *values, int64_t count, void *bytes)
{
    unsigned char *out = bytes;
    for (int64_t i = 0; i < count; i++) {
        float f = (float)values[i];
        uint16_t half;
        switch (format) {
        case QP_FORMAT_F32: memcpy(out + 4 * i, &f, 4); break;
        case QP_FORMAT_F16:
        case QP_FORMAT_BF16:
            half = (uint16_t)(format == QP_FORMAT_F16 ? pack_float(values[i], 5, 10) : pack_float(values[i], 8, 7));
            memcpy(out + 2 * i, &half, 2);
            break;
        default:
            if (i % 32 == 0)
                encode_block(format, values + i, out + i / 32 * (format == QP_FORMAT_Q8_0 ? 34 : 18));
            break;
        }
    }
    st_decode(format, bytes, count, values);
}

void st_decode(qp_format format, const void *bytes, int64_t count, double *values)
{
    const unsigned char *in = bytes;
    for (int64_t i = 0; i < count; i++) {
        float f;
        uint16_t half;
        switch (format) {
        case QP_FORMAT_F32:
            memcpy(&f, in + 4 * i, 4);
            values[i] = (double)f;
            break;
        case QP_FORMAT_F16:
        case QP_FORMAT_BF16:
            memcpy(&half, in + 2 * i, 2);
            values[i] = format == QP_FORMAT_F16 ? unpack_float(half, 5, 10) : unpack_float(half, 8, 7);
            break;
        default:
            if (i % 32 == 0)
                decode_block(format, in + i / 32 * (format == QP_FORMAT_Q8_0 ? 34 : 18), values + i);
            break;
        }
    }
}

double st_activation(qp_activation act, double x)
{
    switch (act) {
    case QP_ACT_SILU: return x / (1 + exp(-x));
    case QP_ACT_GELU: return x * 0.5 * (1 + erf(x / sqrt(2)));
    case QP_ACT_GELU_TANH: return 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x * x * x)));
    case QP_ACT_RELU: return x > 0 ? x : 0;
    case QP_ACT_SIGMOID: return 1 / (1 + exp(-x));
    case QP_ACT_GELU_QUICK: return x / (1 + exp(-1.702 * x));
    case QP_ACT_SOFTPLUS: return log1p(exp(-fabs(x))) + (x > 0 ? x : 0);
    default: return x;
    }
}

void st_norm(const qp_norm_params *p, const double *x, const double *weight, const double *bias, int n, double *y)
{
    double mean = 0, squares = 0;
    for (int i = 0; i < n; i++)
        mean += x[i] / n;
    if (p->kind != QP_NORM_LAYER)
        mean = 0;
    for (int i = 0; i < n; i++)
        squares += (x[i] - mean) * (x[i] - mean);
    double eps = (double)p->eps;
    double divisor = p->kind == QP_NORM_L2 ? fmax(sqrt(squares), eps) : sqrt(squares / n + eps);
    for (int i = 0; i < n; i++)
        y[i] = (x[i] - mean) / divisor * (weight ? weight[i] + (double)p->weight_offset : 1) + (bias ? bias[i] : 0);
}

/* Where YaRN changes from extrapolation to interpolation: the pair whose wave turns `turns` times in the original context. */
static double yarn_pair(const qp_rope_params *p, double turns)
{
    return p->n_dims * log((double)p->original_context / (turns * 2 * pi)) / (2 * log((double)p->freq_base));
}

void st_rope(const qp_rope_params *p, const double *x, int head_size, int32_t pos, const double *factors, double *y)
{
    int half = (int)p->n_dims / 2;
    double size = (double)p->attn_factor;
    double low = 0, high = 0;
    if (p->ext_factor != 0) {
        size *= 1 + 0.1 * log(1 / (double)p->freq_scale);
        int exact = (p->flags & QP_ROPE_EXACT_RAMP) != 0;
        low = yarn_pair(p, (double)p->beta_fast);
        high = yarn_pair(p, (double)p->beta_slow);
        low = fmax(0, exact ? low : floor(low));
        high = fmin(p->n_dims - 1, exact ? high : ceil(high));
    }
    memcpy(y, x, (size_t)head_size * sizeof *y);
    for (int i = 0; i < half; i++) {
        double theta = pos * pow((double)p->freq_base, -2.0 * i / p->n_dims) / (factors ? factors[i] : 1);
        double angle = (double)p->freq_scale * theta;
        if (p->ext_factor != 0) {
            double ramp = 1 - fmin(1, fmax(0, (i - low) / fmax(0.001, high - low)));
            double mix = ramp * (double)p->ext_factor;
            angle = angle * (1 - mix) + theta * mix;
        }
        int a = p->mode == QP_ROPE_NEOX ? i : 2 * i, b = p->mode == QP_ROPE_NEOX ? i + half : 2 * i + 1;
        y[a] = size * (x[a] * cos(angle) - x[b] * sin(angle));
        y[b] = size * (x[a] * sin(angle) + x[b] * cos(angle));
    }
}
