/* SPDX-License-Identifier: MIT
 * kernels/cpu/polynomials.h: coefficients shared by the scalar and the vector forms of exp, tanh, atanh and erfc. Fitted for the
 * least largest error by iteratively reweighted least squares at 400 Chebyshev points: exp 3.3e-9, tanh 5e-9 and atanh 4.5e-9
 * relative, erfc 5.4e-8 in the exponent, all before rounding to float. FMA(a, b, c) is a·b + c in the caller's type; constants go
 * through K(c). */
#ifndef QUERN_KERNELS_CPU_POLYNOMIALS_H
#define QUERN_KERNELS_CPU_POLYNOMIALS_H

#define QK_SCALAR_FMA(a, b, c) ((a) * (b) + (c))
#define QK_SCALAR_CONST(c) (c)

#define QK_EXP_HIGH 89.0f /* past these e^x is infinite, or rounds to zero */
#define QK_EXP_LOW (-104.0f)
#define QK_LOG2E 1.44269504f
#define QK_ROUND 12582912.0f        /* 1.5·2^23: adding it rounds to an integer */
#define QK_LN2_HIGH 0.693359375f    /* 10 bits, so that n times it is exact */
#define QK_LN2_LOW (-2.12194440e-4f)
#define QK_SQRT_HALF 0.707106781f
#define QK_TANH_SMALL 0.625f
#define QK_GELU_A 1.59576912f /* 2·sqrt(2/π) */
#define QK_GELU_B 0.044715f

/* clang-format off */
/* e^r, |r| <= 0.35 */
#define QK_EXP_POLY(r, FMA, K)                                                                                        \
    FMA(FMA(FMA(FMA(FMA(FMA(K(1.38131354e-3f), r, K(8.36941972e-3f)), r, K(4.1668456e-2f)), r, K(0.166665152f)), r,   \
        K(0.49999994f)), r, K(1.0f)), r, K(1.0f))
/* (tanh x − x)/x³ in s = x², s <= 0.4 */
#define QK_TANH_POLY(s, FMA, K)                                                                                       \
    FMA(FMA(FMA(FMA(K(-5.64828143e-3f), s, K(2.05897912e-2f)), s, K(-5.3725116e-2f)), s, K(0.133312747f)), s,         \
        K(-0.333332747f))
/* ln(erfc(z)/t) + z², t = 1/(1 + z/2) in [1/7, 1] */
#define QK_ERFC_POLY(t, FMA, K)                                                                                       \
    FMA(FMA(FMA(FMA(FMA(FMA(FMA(FMA(FMA(K(0.15395692f), t, K(-0.730174303f)), t, K(1.27333093f)), t,                  \
        K(-0.852090001f)), t, K(4.91500013e-2f)), t, K(-6.77632764e-2f)), t, K(5.81550486e-2f)), t,                   \
        K(0.381703496f)), t, K(0.999207377f)), t, K(-1.26547623f))
/* atanh(z)/z in s = z², s <= 1/9 */
#define QK_ATANH_POLY(s, FMA, K)                                                                                      \
    FMA(FMA(FMA(FMA(K(0.140059948f), s, K(0.140009016f)), s, K(0.200107634f)), s, K(0.333332092f)), s, K(1.0f))
/* clang-format on */

#endif
