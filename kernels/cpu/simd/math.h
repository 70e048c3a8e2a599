/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/math.h: exp, tanh and the activations over the operations of a vec.h: the same formulas as generic/math.h. */
#ifndef QUERN_KERNELS_CPU_SIMD_MATH_H
#define QUERN_KERNELS_CPU_SIMD_MATH_H

#include "kernels/common/formats.h"
#include "kernels/cpu/polynomials.h"

QK_INLINE vf v_exp(vf x)
{
    x = v_max(v_set1(QK_EXP_LOW), v_min(v_set1(QK_EXP_HIGH), x)); /* NaN stays */
    vf n = v_round(v_mul(x, v_set1(QK_LOG2E)));
    vf r = v_fnma(n, v_set1(QK_LN2_LOW), v_fnma(n, v_set1(QK_LN2_HIGH), x));
    return v_ldexp(QK_EXP_POLY(r, v_fma, v_set1), n);
}

QK_INLINE vf v_tanh(vf x)
{
    vf a = v_abs(x), s = v_mul(x, x), one = v_set1(1);
    vf e = v_exp(v_mul(a, v_set1(-2)));
    vf large = v_copysign(v_div(v_sub(one, e), v_add(one, e)), x);
    vf small = v_fma(v_mul(x, s), QK_TANH_POLY(s, v_fma, v_set1), x);
    return v_select(v_lt(a, v_set1(QK_TANH_SMALL)), small, large);
}

/* x / (1 + e^−s) */
QK_INLINE vf v_gated(vf x, vf s)
{
    return v_div(x, v_add(v_set1(1), v_exp(v_sub(v_zero(), s))));
}

QK_INLINE vf v_normal_cdf(vf x)
{
    vf z = v_min(v_set1(12), v_mul(v_abs(x), v_set1(QK_SQRT_HALF))), one = v_set1(1);
    vf t = v_div(one, v_fma(z, v_set1(0.5f), one));
    vf square = v_mul(z, z), rest = v_fnma(z, z, square); /* square − z² */
    vf tail =
        v_mul(v_mul(v_set1(0.5f), t), v_mul(v_exp(v_sub(v_zero(), square)), v_exp(v_add(rest, QK_ERFC_POLY(t, v_fma, v_set1)))));
    return v_select(v_lt(x, v_zero()), tail, v_sub(one, tail));
}

QK_INLINE vf v_softplus(vf x)
{
    vf t = v_exp(v_sub(v_zero(), v_abs(x))), z = v_div(t, v_add(v_set1(2), t)), s = v_mul(z, z);
    return v_fma(v_add(z, z), QK_ATANH_POLY(s, v_fma, v_set1), v_max(v_zero(), x)); /* NaN stays */
}

QK_INLINE vf v_act(const qp_activation act, vf x)
{
    switch (act) {
    case QP_ACT_SILU: return v_gated(x, x);
    case QP_ACT_GELU: return v_mul(x, v_normal_cdf(x));
    case QP_ACT_GELU_TANH: {
        vf cubic = v_fma(v_mul(v_set1(QK_GELU_B), x), x, v_set1(1));
        return v_gated(x, v_mul(v_mul(v_set1(QK_GELU_A), x), cubic));
    }
    case QP_ACT_RELU: return v_select(v_lt(x, v_zero()), v_zero(), x);
    case QP_ACT_SIGMOID: return v_gated(v_set1(1), x);
    case QP_ACT_GELU_QUICK: return v_gated(x, v_mul(v_set1(1.702f), x));
    case QP_ACT_SOFTPLUS: return v_softplus(x);
    default: return x;
    }
}

QK_INLINE vf v_swiglu_clamped(vf a, vf b, vf alpha, vf limit)
{
    vf g = v_min(limit, a), u = v_max(v_sub(v_zero(), limit), v_min(limit, b)); /* NaN stays */
    return v_mul(v_gated(g, v_mul(alpha, g)), v_add(u, v_set1(1)));
}

#endif
