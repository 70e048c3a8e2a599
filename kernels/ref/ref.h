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

/* n elements, a whole number of blocks. Return 0, or −1 when the format has no such conversion. */
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

/* Runs the op by its kind; −1 when there is no such kernel. */
int qr_run(const qk_op *op);

/* act(x), in double. */
double qr_activate(qp_activation act, double x);

#endif
