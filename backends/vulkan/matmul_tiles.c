/* SPDX-License-Identifier: MIT
 * Matmuls of many tokens on GPUs: a workgroup a tile of rows × tokens, by way of shared memory. */
#include "backends/vulkan/matmul.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/weights.h"

enum { FEW_TOKENS = 8, FLOAT_LINE = 9 * 16, DOT_LINE = 3 * 16 };

/* Lines of W and of x and, of a mixture, where each token's is. */
static uint64_t shared_bytes(qv_tiles_shape s, uint32_t line)
{
    return (uint64_t)(8 * s.rows + s.rows * s.tokens) * line * s.buffers + 8 * (uint64_t)(s.rows * s.tokens);
}

/* 64 results an invocation where there are tokens for them and shared memory for the tile (Vulkan promises 16 KiB), half as many
 * where those of W and W2 are kept side by side. Two tiles, so that one is written while the other is read, where two workgroups
 * still fit in what one may have: a sign of how much a processor has. */
qv_tiles_shape qv_tiles_shape_of(const qv_physical *physical, int gated, int64_t tokens, int dot)
{
    uint64_t limit = physical->properties.limits.maxComputeSharedMemorySize;
    uint32_t line = dot ? DOT_LINE : FLOAT_LINE;
    qv_tiles_shape s = {.rows = 16, .tokens = 4, .buffers = 1};
    if (tokens <= 32 || gated || shared_bytes(s, line) > limit ||
        physical->properties.limits.maxComputeWorkGroupInvocations < 8 * s.rows)
        s = (qv_tiles_shape){.rows = 8, .tokens = tokens > 16 ? 4 : 2, .buffers = 1};
    if (4 * shared_bytes(s, line) <= limit)
        s.buffers = 2;
    return s;
}

static qp_status dispatch(qv_plan *plan, const qp_op *op, const char *kernel, int dot, struct qv_matmul_params *p, uint32_t wide,
                          qp_text *error)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W], *w2 = &op->src[QP_MATMUL_W2];
    uint32_t gated = (uint32_t)qv_matmul_is_gated(op);
    qv_tiles_shape s = qv_tiles_shape_of(plan->device->physical, (int)gated, op->src[QP_MATMUL_X].ne[2], dot);
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
    return dispatch(plan, op, "matmul_tiles", 0, &p, qv_matmul_is_wide(&op->src[QP_MATMUL_X], 2), error);
}

/* ---- int8 ---- */

const char *qv_dot_tiles_refuses(const qp_device *device, const qp_op *op)
{
    int asked = qv_matmul_is_asked_for(device, "dot_tiles");
    const char *why = qv_dot_unfit(device, op->p.matmul.flags, op->src[QP_MATMUL_W].format, asked);
    return why || asked || op->src[QP_MATMUL_X].ne[2] > FEW_TOKENS ? why : "there are 8 tokens or fewer";
}

qp_status qv_dot_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    struct qv_matmul_params p = qv_matmul_params_of(op);
    p.x_row = (uint32_t)qv_quantised_row(p.k);
    qp_status status = qv_quantise_activations(plan, &op->src[QP_MATMUL_X], &op->live, &p.x, error);
    return status ? status : dispatch(plan, op, "matmul_dot_tiles", 1, &p, 1, error);
}
