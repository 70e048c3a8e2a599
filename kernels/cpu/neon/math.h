/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/math.h: exp, tanh and the activations of generic/math.h on vectors. */
#ifndef QUERN_KERNELS_CPU_NEON_MATH_H
#define QUERN_KERNELS_CPU_NEON_MATH_H

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/polynomials.h"

QK_INLINE vf v_exp(vf x)
{
    x = v_min(v_set1(QK_EXP_HIGH), x); /* in this order a NaN stays one */
    x = v_max(v_set1(QK_EXP_LOW), x);
    vf n = v_round(v_mul(x, v_set1(QK_LOG2E)));
    vf r = v_fnma(n, v_set1(QK_LN2_LOW), v_fnma(n, v_set1(QK_LN2_HIGH), x));
    return v_ldexp(QK_EXP_POLY(r, v_fma, v_set1), n);
}

QK_INLINE vf v_tanh(vf x)
{
    vf one = v_set1(1), a = v_abs(x), s = v_mul(x, x), e = v_exp(v_mul(v_set1(-2), a));
    vf large = v_copysign(v_div(v_sub(one, e), v_add(one, e)), x);
    vf small = v_fma(v_mul(x, s), QK_TANH_POLY(s, v_fma, v_set1), x);
    return v_select(v_lt(a, v_set1(QK_TANH_SMALL)), small, large);
}

QK_INLINE vf v_sigmoid(vf x)
{
    return v_div(v_set1(1), v_add(v_set1(1), v_exp(v_sub(v_zero(), x))));
}

QK_INLINE vf v_high_bits(vf a) /* 12 of the mantissa, so that the square is exact */
{
    uint32x4_t mask = vdupq_n_u32(0xfffff000u);
    return v_pair(vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a.l), mask)),
                  vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a.h), mask)));
}

QK_INLINE vf v_normal_cdf(vf x)
{
    vf one = v_set1(1), z = v_min(v_set1(12), v_mul(v_abs(x), v_set1(QK_SQRT_HALF)));
    vf t = v_div(one, v_fma(v_set1(0.5f), z, one)), high = v_high_bits(z);
    vf rest = v_fma(v_sub(high, z), v_add(high, z), QK_ERFC_POLY(t, v_fma, v_set1));
    vf tail = v_mul(v_mul(v_mul(v_set1(0.5f), t), v_exp(v_sub(v_zero(), v_mul(high, high)))), v_exp(rest));
    return v_select(v_lt(x, v_zero()), tail, v_sub(one, tail));
}

/* act is a constant wherever this is used. */
QK_INLINE vf v_act(const qp_activation act, vf x)
{
    switch (act) {
    case QP_ACT_SILU: return v_mul(x, v_sigmoid(x));
    case QP_ACT_GELU: return v_mul(x, v_normal_cdf(x));
    case QP_ACT_GELU_TANH:
        return v_mul(x, v_sigmoid(v_mul(v_mul(v_set1(QK_GELU_A), x), v_fma(v_mul(v_set1(QK_GELU_B), x), x, v_set1(1)))));
    case QP_ACT_RELU: return v_select(v_lt(x, v_zero()), v_zero(), x);
    case QP_ACT_SIGMOID: return v_sigmoid(x);
    case QP_ACT_GELU_QUICK: return v_mul(x, v_sigmoid(v_mul(v_set1(1.702f), x)));
    default: return x;
    }
}

#endif
