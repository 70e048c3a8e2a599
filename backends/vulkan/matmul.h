/* SPDX-License-Identifier: MIT
 * backends/vulkan/matmul.h: what the variants of a matmul share: its parameters, its dispatches; and the variants for GPUs. */
#ifndef QUERN_BACKENDS_VULKAN_MATMUL_H
#define QUERN_BACKENDS_VULKAN_MATMUL_H

#include "backends/vulkan/ops.h"
#include "kernels/vulkan/params.h"

/* Of a checked op with buffers; all but which rows of W a dispatch takes. */
struct qv_matmul_params qv_matmul_params_of(const qp_op *op);

/* Dispatches of `kernel` for the op's format, cut along M as submissions must be. `c` lacks only the layout of W. A workgroup takes
 * so many rows of W and so many tokens: x counts groups of rows and y groups of tokens. */
qp_status qv_matmul_dispatch(qv_plan *plan, const qp_op *op, const char *kernel, qv_constants c, struct qv_matmul_params *p,
                             uint32_t rows, uint32_t tokens, qp_text *error);

static inline int qv_matmul_is_gated(const qp_op *op)
{
    return qv_present(&op->src[QP_MATMUL_W2]);
}

/* ---- matmul_rows.c: a subgroup a few rows, for a few tokens; in floats, and in int8 ---- */

const char *qv_rows_lacks(const qv_physical *physical);
const char *qv_rows_refuses(const qp_device *device, const qp_op *op);
qp_status qv_rows_launch(qv_plan *plan, const qp_op *op, qp_text *error);

const char *qv_dot_lacks(const qv_physical *physical);
const char *qv_dot_refuses(const qp_device *device, const qp_op *op);
uint64_t qv_dot_scratch(const qp_device *device, const qp_op *op);
qp_status qv_dot_launch(qv_plan *plan, const qp_op *op, qp_text *error);

#endif
