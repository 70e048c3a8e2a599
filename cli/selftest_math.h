/* SPDX-License-Identifier: MIT
 * cli/selftest_math.h: simple code in double precision that tells what an op should give, and the small number formats. Written
 * from the words of quern/plugin.h, apart from the kernels, so that the two can disagree. */
#ifndef CLI_SELFTEST_MATH_H
#define CLI_SELFTEST_MATH_H

#include <quern/plugin.h>

/* A pseudo-random number in [low, high); the state is any number but 0. */
double st_random(uint64_t *state, double low, double high);

/* Rounds count values to a format (whole blocks) and back: bytes gets the GGUF bytes, values what these mean. F32, F16, BF16,
 * Q8_0 and Q4_0. */
void st_encode(qp_format format, double *values, int64_t count, void *bytes);
/* The values of GGUF bytes. */
void st_decode(qp_format format, const void *bytes, int64_t count, double *values);

double st_activation(qp_activation act, double x);

/* y[i] of one norm over n values; weight and bias may be NULL. */
void st_norm(const qp_norm_params *p, const double *x, const double *weight, const double *bias, int n, double *y);
/* One head of head_size features at position pos; factors may be NULL. */
void st_rope(const qp_rope_params *p, const double *x, int head_size, int32_t pos, const double *factors, double *y);

#endif
