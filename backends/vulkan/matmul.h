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

/* Why a kernel of this name, made for GPUs and many tokens, is not to take the op, unless it is asked for: the device's subgroups are
 * small, or there are QV_FEW_TOKENS or fewer. */
enum { QV_FEW_TOKENS = 8 };
const char *qv_matmul_is_small(const qp_device *device, const qp_op *op, const char *name);

/* Converts x by `shader`, a workgroup to each of so many rows of so many bytes, and makes *p read these. */
qp_status qv_matmul_convert(qv_plan *plan, const qp_op *op, const char *shader, const qv_constants *constants, uint64_t row,
                            uint64_t rows, struct qv_matmul_params *p, qp_text *error);

/* 1 if x (dimension 2), or W in a format without blocks (dimension 1), has rows that begin at multiples of 16 bytes. */
uint32_t qv_matmul_is_wide(const qp_tensor *t, int dimension);

/* ---- matmul_rows.c: a subgroup a few rows, for a few tokens; in floats, and in int8 ---- */

const char *qv_rows_lacks(const qv_physical *physical);
const char *qv_rows_refuses(const qp_device *device, const qp_op *op);
qp_status qv_rows_launch(qv_plan *plan, const qp_op *op, qp_text *error);

/* lanes: of a subgroup, 0 where the device does not tell; team: invocations that go along K together. */
typedef struct qv_rows_shape {
    uint32_t group, lanes, team, rows, tokens;
} qv_rows_shape;

qv_rows_shape qv_rows_shape_of(const qv_physical *physical, int gated, int64_t tokens);

/* The same words for all variants that multiply int8: why one cannot take an op with such weights; asked: by name. */
const char *qv_dot_unfit(const qp_device *device, uint32_t flags, qp_format format, int asked);

/* Bytes of K activations in int8; and of x, of one head or several: a row for each head of each row. */
uint64_t qv_quantised_row(uint64_t k);
uint64_t qv_quantised_bytes(const qp_tensor *x);

/* The dispatch that writes it to the start of the op's scratch memory, unless another op has left it: *to is where. */
qp_status qv_quantise_activations(qv_plan *plan, const qp_tensor *x, const qp_tensor *live, int alone, uint64_t *to, qp_text *error);

const char *qv_dot_lacks(const qv_physical *physical);
const char *qv_dot_refuses(const qp_device *device, const qp_op *op);
uint64_t qv_dot_scratch(const qp_device *device, const qp_op *op);
qp_status qv_dot_launch(qv_plan *plan, const qp_op *op, qp_text *error);

/* ---- matmul_tiles.c: a workgroup a tile, for many tokens ---- */

/* What one invocation multiplies; a tile is 8·rows rows of W times rows·tokens tokens, which 8·rows invocations compute. */
typedef struct qv_tiles_shape {
    uint32_t rows, tokens, buffers;
} qv_tiles_shape;

/* What is multiplied; QV_DOT_TILES: int8. */
typedef enum qv_tiles_kind { QV_FLOAT_TILES = 0, QV_DOT_TILES = 1, QV_HALF_TILES = 2 } qv_tiles_kind;

qv_tiles_shape qv_tiles_shape_of(const qv_physical *physical, int gated, int64_t tokens, qv_tiles_kind kind);

const char *qv_tiles_refuses(const qp_device *device, const qp_op *op);
qp_status qv_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error);

const char *qv_dot_tiles_refuses(const qp_device *device, const qp_op *op);
qp_status qv_dot_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error);

/* The same in 16-bit floats, for devices that multiply two of them in one instruction. */
const char *qv_half_tiles_lacks(const qv_physical *physical);
const char *qv_half_tiles_refuses(const qp_device *device, const qp_op *op);
uint64_t qv_half_tiles_scratch(const qp_device *device, const qp_op *op);
qp_status qv_half_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error);

/* ---- matmul_matrices.c: the same by cooperative matrices, in 16-bit floats ---- */

const char *qv_matrices_lacks(const qv_physical *physical);
const char *qv_matrices_refuses(const qp_device *device, const qp_op *op);
uint64_t qv_matrices_scratch(const qp_device *device, const qp_op *op);
qp_status qv_matrices_launch(qv_plan *plan, const qp_op *op, qp_text *error);

#endif
