/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/math.h: exp, tanh and the activations in float, free of branches and library calls so that loops over them
 * become vector code. Accuracy: exp 2 units in the last place, the activations about 5e-7 relative. */
#ifndef QUERN_KERNELS_CPU_GENERIC_MATH_H
#define QUERN_KERNELS_CPU_GENERIC_MATH_H

#include "kernels/common/formats.h"
#include "kernels/cpu/polynomials.h"

/* e^x: x = n·ln 2 + r, a polynomial in r, times 2^n in two steps so that subnormal results come out right. NaN stays NaN. */
static inline float qk_expf(float x)
{
    x = x > QK_EXP_HIGH ? QK_EXP_HIGH : x; /* false for NaN, which is kept */
    x = x < QK_EXP_LOW ? QK_EXP_LOW : x;
    float n = (x * QK_LOG2E + QK_ROUND) - QK_ROUND;
    float r = (x - n * QK_LN2_HIGH) - n * QK_LN2_LOW;
    float p = QK_EXP_POLY(r, QK_SCALAR_FMA, QK_SCALAR_CONST);
    /* The bits of n + QK_ROUND hold n in their low end; for NaN anything, p being NaN. */
    uint32_t i = qk_bits_from_f32(n + QK_ROUND) - qk_bits_from_f32(QK_ROUND);
    uint32_t half = (uint32_t)((int32_t)i >> 1);
    return p * qk_f32_from_bits((half + 127) << 23) * qk_f32_from_bits((i - half + 127) << 23);
}

static inline float qk_tanhf(float x)
{
    float a = x < 0 ? -x : x, s = x * x;
    float e = qk_expf(-2 * a);
    float large = (1 - e) / (1 + e);
    large = x < 0 ? -large : large;
    float small = x + x * s * QK_TANH_POLY(s, QK_SCALAR_FMA, QK_SCALAR_CONST);
    return a < QK_TANH_SMALL ? small : large; /* NaN: large */
}

static inline float qk_sigmoidf(float x)
{
    return 1 / (1 + qk_expf(-x));
}

/* The normal distribution function by erfc(z) = t·exp(−z² + P(t)), t = 1/(1 + z/2), z = |x|/√2: the relative error stays small
 * in the lower tail. */
static inline float qk_normal_cdf(float x)
{
    float z = (x < 0 ? -x : x) * QK_SQRT_HALF;
    z = z > 12 ? 12 : z;
    float t = 1 / (1 + 0.5f * z);
    /* exp(−z²) with z² in two parts: the high one has 12 bits, so that its square is exact. */
    float high = qk_f32_from_bits(qk_bits_from_f32(z) & 0xfffff000u);
    float tail =
        0.5f * t * qk_expf(-high * high) * qk_expf((high - z) * (high + z) + QK_ERFC_POLY(t, QK_SCALAR_FMA, QK_SCALAR_CONST));
    return x < 0 ? tail : 1 - tail;
}

/* ln(1 + e^x) = max(x, 0) + ln(1 + t), t = e^−|x|; ln(1 + t) = 2·atanh(z), z = t/(2 + t), so that small t lose nothing. */
static inline float qk_softplusf(float x)
{
    float t = qk_expf(x < 0 ? x : -x), z = t / (2 + t), s = z * z;
    return (x < 0 ? 0 : x) + 2 * z * QK_ATANH_POLY(s, QK_SCALAR_FMA, QK_SCALAR_CONST);
}

static inline float qk_act(qp_activation act, float x)
{
    switch (act) {
    case QP_ACT_SILU: return x * qk_sigmoidf(x);
    case QP_ACT_GELU: return x * qk_normal_cdf(x);
    case QP_ACT_GELU_TANH: return x * qk_sigmoidf(QK_GELU_A * x * (1 + QK_GELU_B * x * x));
    case QP_ACT_RELU: return x < 0 ? 0 : x;
    case QP_ACT_SIGMOID: return qk_sigmoidf(x);
    case QP_ACT_GELU_QUICK: return x * qk_sigmoidf(1.702f * x);
    case QP_ACT_SOFTPLUS: return qk_softplusf(x);
    default: return x;
    }
}

#endif
