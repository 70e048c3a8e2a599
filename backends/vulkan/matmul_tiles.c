/* SPDX-License-Identifier: MIT
 * Matmuls of many tokens on GPUs: a workgroup a tile of rows × tokens, by way of shared memory. */
#include "backends/vulkan/matmul.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/weights.h"

/* What one invocation multiplies; a tile is 8·rows rows of W times rows·tokens tokens, which 8·rows invocations compute. */
typedef struct shape {
    uint32_t rows, tokens, buffers;
} shape;

enum { FEW_TOKENS = 8, FLOAT_LINE = 9 * 16, DOT_LINE = 3 * 16 };

static uint64_t shared_bytes(shape s, uint32_t line)
{
    return (uint64_t)(8 * s.rows + s.rows * s.tokens) * line * s.buffers;
}

/* 64 results an invocation where there are tokens for them and shared memory for the tile (Vulkan promises 16 KiB), half as many
 * where those of W and W2 are kept side by side. Two tiles, so that one is written while the other is read, where two workgroups
 * still fit in what one may have: a sign of how much a processor has. */
static shape choose(const qv_physical *physical, const qp_op *op, uint32_t line)
{
    uint64_t limit = physical->properties.limits.maxComputeSharedMemorySize;
    int64_t tokens = op->src[QP_MATMUL_X].ne[2];
    shape s = {.rows = 16, .tokens = 4, .buffers = 1};
    if (tokens <= 32 || qv_matmul_is_gated(op) || shared_bytes(s, line) > limit ||
        physical->properties.limits.maxComputeWorkGroupInvocations < 8 * s.rows)
        s = (shape){.rows = 8, .tokens = tokens > 16 ? 4 : 2, .buffers = 1};
    if (4 * shared_bytes(s, line) <= limit)
        s.buffers = 2;
    return s;
}

static qp_status dispatch(qv_plan *plan, const qp_op *op, const char *kernel, uint32_t line, struct qv_matmul_params *p,
                          uint32_t wide, qp_text *error)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W], *w2 = &op->src[QP_MATMUL_W2];
    shape s = choose(plan->device->physical, op, line);
    uint32_t gated = (uint32_t)qv_matmul_is_gated(op);
    uint32_t wide_weights = qv_matmul_is_wide(w, 1) && (!gated || qv_matmul_is_wide(w2, 1));
    const uint32_t pairs[][2] = {{1, s.tokens}, {2, gated}, {3, s.rows}, {4, s.buffers}, {5, wide}, {11, wide_weights}};
    qv_constants c = qv_make_constants(8 * s.rows, qv_has_planes(w->format) ? 5 : 6, pairs);
    return qv_matmul_dispatch(plan, op, kernel, c, p, 8 * s.rows, s.rows * s.tokens, error);
}

/* ---- floats ---- */

const char *qv_tiles_refuses(const qp_device *device, const qp_op *op)
{
    if (qv_matmul_is_asked_for(device, "tiles"))
        return NULL;
    if (device->physical->lanes)
        return "subgroups are of 8 or 16 only";
    return op->src[QP_MATMUL_X].ne[2] <= FEW_TOKENS ? "there are 8 tokens or fewer" : NULL;
}

qp_status qv_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    struct qv_matmul_params p = qv_matmul_params_of(op);
    return dispatch(plan, op, "matmul_tiles", FLOAT_LINE, &p, qv_matmul_is_wide(&op->src[QP_MATMUL_X], 2), error);
}

/* ---- int8 ---- */

const char *qv_dot_tiles_refuses(const qp_device *device, const qp_op *op)
{
    int asked = qv_matmul_is_asked_for(device, "dot_tiles");
    const char *why = qv_dot_unfit(device, op, asked);
    return why || asked || op->src[QP_MATMUL_X].ne[2] > FEW_TOKENS ? why : "there are 8 tokens or fewer";
}

qp_status qv_dot_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    struct qv_matmul_params p = qv_matmul_params_of(op);
    qp_status status = qv_quantise_activations(plan, op, &p, error);
    return status ? status : dispatch(plan, op, "matmul_dot_tiles", DOT_LINE, &p, 1, error);
}
