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

/* Whether the user, or a test of this variant, asks for it by name: then it runs also where another is likely to be quicker. */
int qv_matmul_is_asked_for(const qp_device *device, const char *name);

/* 1 if x (dimension 2), or W in a format without blocks (dimension 1), has rows that begin at multiples of 16 bytes. */
uint32_t qv_matmul_is_wide(const qp_tensor *t, int dimension);

/* ---- matmul_rows.c: a subgroup a few rows, for a few tokens; in floats, and in int8 ---- */

const char *qv_rows_lacks(const qv_physical *physical);
const char *qv_rows_refuses(const qp_device *device, const qp_op *op);
qp_status qv_rows_launch(qv_plan *plan, const qp_op *op, qp_text *error);

/* The same words for all variants that multiply int8: why one cannot take an op; asked: by name. */
const char *qv_dot_unfit(const qp_device *device, const qp_op *op, int asked);

/* The dispatch that writes x as int8 into the op's scratch memory, of qv_dot_scratch bytes, and x of *of to be there. */
qp_status qv_quantise_activations(qv_plan *plan, const qp_op *op, struct qv_matmul_params *of, qp_text *error);

const char *qv_dot_lacks(const qv_physical *physical);
const char *qv_dot_refuses(const qp_device *device, const qp_op *op);
uint64_t qv_dot_scratch(const qp_device *device, const qp_op *op);
qp_status qv_dot_launch(qv_plan *plan, const qp_op *op, qp_text *error);

/* ---- matmul_tiles.c: a workgroup a tile, for many tokens ---- */

const char *qv_tiles_refuses(const qp_device *device, const qp_op *op);
qp_status qv_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error);

const char *qv_dot_tiles_refuses(const qp_device *device, const qp_op *op);
qp_status qv_dot_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error);

/* ---- matmul_matrices.c: the same by cooperative matrices, in 16-bit floats ---- */

const char *qv_matrices_lacks(const qv_physical *physical);
const char *qv_matrices_refuses(const qp_device *device, const qp_op *op);
uint64_t qv_matrices_scratch(const qp_device *device, const qp_op *op);
qp_status qv_matrices_launch(qv_plan *plan, const qp_op *op, qp_text *error);

#endif
