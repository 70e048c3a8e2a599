/* SPDX-License-Identifier: MIT
 * kernels/common/dequantise.h: what the blocks of each format stand for. Plain scalar code that is written once: the reference
 * takes it as the truth, and CPU kernels use it for formats that they have nothing faster for. A new format is a struct in
 * formats.h, a name in this list and a function in dequantise.c. */
#ifndef QUERN_KERNELS_DEQUANTISE_H
#define QUERN_KERNELS_DEQUANTISE_H

#include "kernels/common/formats.h"

/* X(name of the format, its struct), every format of blocks. */
#define QK_BLOCK_FORMATS(X)                                                                                                        \
    X(Q4_0, q4_0)                                                                                                                  \
    X(Q4_1, q4_1)                                                                                                                  \
    X(Q5_0, q5_0)                                                                                                                  \
    X(Q5_1, q5_1)                                                                                                                  \
    X(Q8_0, q8_0)                                                                                                                  \
    X(Q2_K, q2_k)                                                                                                                  \
    X(Q3_K, q3_k)                                                                                                                  \
    X(Q4_K, q4_k)                                                                                                                  \
    X(Q5_K, q5_k)                                                                                                                  \
    X(Q6_K, q6_k)                                                                                                                  \
    X(IQ1_S, iq1_s)                                                                                                                \
    X(IQ1_M, iq1_m)                                                                                                                \
    X(IQ2_XXS, iq2_xxs)                                                                                                            \
    X(IQ2_XS, iq2_xs)                                                                                                              \
    X(IQ2_S, iq2_s)                                                                                                                \
    X(IQ3_XXS, iq3_xxs)                                                                                                            \
    X(IQ3_S, iq3_s)                                                                                                                \
    X(IQ4_NL, iq4_nl)                                                                                                              \
    X(IQ4_XS, iq4_xs)                                                                                                              \
    X(MXFP4, mxfp4)                                                                                                                \
    X(TQ1_0, tq1_0)                                                                                                                \
    X(TQ2_0, tq2_0)

/* One block, at any address, to as many floats as it has elements. Every product of scales and quants is exact in float and
 * only the last step may round, so that the values are the same to the bit however they are computed. */
#define QK_DECLARE_DECODE(name, lower) void qk_decode_##lower(const void *block, float *dst);
QK_BLOCK_FORMATS(QK_DECLARE_DECODE)
#undef QK_DECLARE_DECODE

#endif
