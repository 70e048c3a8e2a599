/* SPDX-License-Identifier: MIT
 * kernels/ref/ref.h: the truth. Every op in plain scalar C, sums in double, written to be read against the definition in
 * quern/plugin.h and never tuned. Tests and the self-test compare everything else with it; the CPU plugin runs it as variant "ref".
 *
 * Inputs are taken as valid (backends check before they launch). Quantised weights are dequantised exactly; activations are
 * never quantised here. */
#ifndef QUERN_KERNELS_REF_H
#define QUERN_KERNELS_REF_H

#include "kernels/common/formats.h"
#include "kernels/common/ops.h"

/* n elements, a whole number of blocks. Return 0, or −1 when the format has no such conversion. A block with a NaN or an infinity
 * becomes one whose values are all NaN, so that it shows. Quantisers round as GGUF writers do:
 *   Q8_0  d = max|x|/127, q = x/d rounded half away from zero
 *   Q4_0  d = extreme/−8 (the x furthest from zero, with its sign), q = ⌊x/d + 8.5⌋ in 0…15 */
int qr_dequantise(qp_format format, const void *src, float *dst, int64_t n);
int qr_quantise(qp_format format, const float *src, void *dst, int64_t n);

void qr_get_rows(const qk_op *op);
void qr_norm(const qk_op *op);
void qr_matmul(const qk_op *op);
void qr_rope(const qk_op *op);
void qr_kv_append(const qk_op *op);
void qr_attention(const qk_op *op);
void qr_elementwise(const qk_op *op);
void qr_copy(const qk_op *op);
void qr_sample(const qk_op *op);
void qr_short_conv(const qk_op *op);
void qr_delta_rule(const qk_op *op);
void qr_expert_route(const qk_op *op);
void qr_expert_matmul(const qk_op *op);

/* cos and sin, each times the magnitude, for one pair of features at a position: all of QP_OP_ROPE's scaling. factor is the pair's
 * frequency factor, or 1. Backends may fill their tables with it. */
void qr_rope_angle(const qp_rope_params *p, int64_t pair, double position, double factor, double *cosine, double *sine);

/* Runs the op by its kind; −1 when there is no such kernel. */
int qr_run(const qk_op *op);

/* act(x), in double. */
double qr_activate(qp_activation act, double x);
/* act(a)·b; alpha and limit are for QP_ACT_SWIGLU_CLAMPED alone, which is defined only so. */
double qr_gate(qp_activation act, double a, double b, double alpha, double limit);

#endif
