/* SPDX-License-Identifier: MIT
 * kernels/common/quantise.h: floats to blocks of each format, for weights: scales are looked for that lose least, which takes a
 * hundred times as long as rounding (what caches and activations need is rounding; it is not here).
 *
 * The method, for a group of elements that share a scale: a grid of scales, some of which cut the largest elements off, is judged
 * by least squares (each with the factor that is best for the quants it gives), the best one is made finer. Formats whose scales
 * are quants themselves then judge neighbours of those by the error that the reader will see, and fit the block's own scale to
 * all of it, in turns, while it gets better. Elements weigh the more in these errors the larger they are (quantise_parts.h).
 *
 * Results depend on the block alone, and not on the processor. A block that is not finite becomes one that reads as NaN (MXFP4,
 * which has none, gets the scale that stands for NaN in its definition); elements too large for the scales become the largest
 * there is, and too small ones zeros. */
#ifndef QUERN_KERNELS_QUANTISE_H
#define QUERN_KERNELS_QUANTISE_H

#include "kernels/common/search.h"

/* X(name of the format, its struct) */
#define QK_SEARCHED_FORMATS(X)                                                                                                     \
    X(Q4_0, q4_0)                                                                                                                  \
    X(Q4_1, q4_1)                                                                                                                  \
    X(Q5_0, q5_0)                                                                                                                  \
    X(Q5_1, q5_1)                                                                                                                  \
    X(Q2_K, q2_k)                                                                                                                  \
    X(Q3_K, q3_k)                                                                                                                  \
    X(Q4_K, q4_k)                                                                                                                  \
    X(Q5_K, q5_k)                                                                                                                  \
    X(Q6_K, q6_k)                                                                                                                  \
    X(IQ4_NL, iq4_nl)                                                                                                              \
    X(IQ4_XS, iq4_xs)                                                                                                              \
    X(MXFP4, mxfp4)                                                                                                                \
    X(TQ1_0, tq1_0)                                                                                                                \
    X(TQ2_0, tq2_0)

/* One block at any address. */
typedef void (*qk_encode_fn)(const qk_search *search, const float *src, void *block);
#define QK_DECLARE_ENCODE(name, lower) void qk_encode_##lower(const qk_search *search, const float *src, void *block);
QK_SEARCHED_FORMATS(QK_DECLARE_ENCODE)
#undef QK_DECLARE_ENCODE

/* NULL for a format that is not searched for. */
qk_encode_fn qk_encoder(qp_format format);

#endif
