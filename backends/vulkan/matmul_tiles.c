/* SPDX-License-Identifier: MIT
 * Matmuls of many tokens on GPUs: a workgroup a tile of rows × tokens, by way of shared memory. */
#include "backends/vulkan/matmul.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/weights.h"

/* Bytes of shared memory for 32 elements of a row of W and of x, by qv_tiles_kind. */
static const struct line {
    uint32_t w, x;
} lines[] = {{9 * 16, 9 * 16}, {3 * 16, 3 * 16}, {5 * 16, 9 * 16 / 2}};

enum { STEP = 32 };

/* Lines of W and of x and, of a mixture, where each token's is. */
static uint64_t shared_bytes(qv_tiles_shape s, struct line l)
{
    return (uint64_t)s.buffers * s.rows * (8 * l.w + s.tokens * l.x) + 8 * (uint64_t)(s.rows * s.tokens);
}

/* 64 results take 140 to 190 registers. Devices with subgroups of 32 have them for several subgroups; those of 64 alone have 256
 * for one, those of 8 or 16 have 64 or 128. Software has what it likes. */
static int has_many_registers(const qv_physical *physical)
{
    return physical->lanes || (physical->team ? physical->team : physical->subgroup) == 32;
}

/* 64 results an invocation where there are tokens for them, registers, and shared memory for the tile (Vulkan promises 16 KiB),
 * half as many where those of W and W2 are kept side by side. Two tiles, so that one is written while the other is read, where two
 * workgroups still fit in what one may have: a sign of how much a processor has. */
qv_tiles_shape qv_tiles_shape_of(const qv_physical *physical, int gated, int64_t tokens, qv_tiles_kind kind)
{
    uint64_t limit = physical->properties.limits.maxComputeSharedMemorySize;
    struct line line = lines[kind];
    qv_tiles_shape s = {.rows = 16, .tokens = 4, .buffers = 1};
    if (tokens <= 32 || gated || !has_many_registers(physical) || shared_bytes(s, line) > limit ||
        physical->properties.limits.maxComputeWorkGroupInvocations < 8 * s.rows)
        s = (qv_tiles_shape){.rows = 8, .tokens = tokens > 16 ? 4 : 2, .buffers = 1};
    if (4 * shared_bytes(s, line) <= limit)
        s.buffers = 2;
    return s;
}

static qp_status dispatch(qv_plan *plan, const qp_op *op, const char *kernel, qv_tiles_kind kind, struct qv_matmul_params *p,
                          uint32_t wide, qp_text *error)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W], *w2 = &op->src[QP_MATMUL_W2];
    uint32_t gated = (uint32_t)qv_matmul_is_gated(op);
    qv_tiles_shape s = qv_tiles_shape_of(plan->device->physical, (int)gated, op->src[QP_MATMUL_X].ne[2], kind);
    uint32_t wide_weights = qv_matmul_is_wide(w, 1) && (!gated || qv_matmul_is_wide(w2, 1));
    const uint32_t pairs[][2] = {{1, s.tokens}, {2, gated}, {3, s.rows}, {4, s.buffers}, {5, wide}, {11, wide_weights}};
    qv_constants c = qv_make_constants(8 * s.rows, qv_has_planes(w->format) ? 5 : 6, pairs);
    return qv_matmul_dispatch(plan, op, kernel, c, p, 8 * s.rows, s.rows * s.tokens, error);
}

/* ---- floats ---- */

const char *qv_tiles_refuses(const qp_device *device, const qp_op *op)
{
    return qv_matmul_is_small(device, op, "tiles");
}

qp_status qv_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    struct qv_matmul_params p = qv_matmul_params_of(op);
    return dispatch(plan, op, "matmul_tiles", QV_FLOAT_TILES, &p, qv_matmul_is_wide(&op->src[QP_MATMUL_X], 2), error);
}

/* ---- int8 ---- */

const char *qv_dot_tiles_refuses(const qp_device *device, const qp_op *op)
{
    int asked = qv_matmul_is_asked_for(device, "dot_tiles");
    const char *why = qv_dot_unfit(device, op->p.matmul.flags, op->src[QP_MATMUL_W].format, asked);
    return why || asked || op->src[QP_MATMUL_X].ne[2] > QV_FEW_TOKENS ? why : "there are 8 tokens or fewer";
}

qp_status qv_dot_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    struct qv_matmul_params p = qv_matmul_params_of(op);
    p.x_row = (uint32_t)qv_quantised_row(p.k);
    qp_status status = qv_quantise_activations(plan, &op->src[QP_MATMUL_X], &op->live, 1, &p.x, error);
    return status ? status : dispatch(plan, op, "matmul_dot_tiles", QV_DOT_TILES, &p, 1, error);
}

/* ---- 16-bit floats ---- */

const char *qv_half_tiles_lacks(const qv_physical *physical)
{
    return physical->float16 ? NULL : "the driver does not calculate in 16-bit floats";
}

const char *qv_half_tiles_refuses(const qp_device *device, const qp_op *op)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W];
    if (op->p.matmul.flags & QP_MATMUL_FLOAT)
        return "float activations are asked for";
    if (w->format == QP_FORMAT_F32)
        return "16-bit floats do not hold the numbers of this format";
    if (w->ne[0] % STEP)
        return "K is no multiple of 32";
    return qv_matmul_is_small(device, op, "half_tiles");
}

/* Two rows of x: kernels/vulkan/pair_activations.comp. */
static uint64_t paired_row(uint64_t k)
{
    return (9 * k / 2 + 15) / 16 * 16 + 16;
}

uint64_t qv_half_tiles_scratch(const qp_device *device, const qp_op *op)
{
    (void)device;
    const qp_tensor *x = &op->src[QP_MATMUL_X];
    return paired_row((uint64_t)x->ne[0]) * qv_groups((uint64_t)x->ne[2], 2);
}

qp_status qv_half_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    struct qv_matmul_params p = qv_matmul_params_of(op);
    uint32_t wide = qv_matmul_is_wide(&op->src[QP_MATMUL_X], 2);
    qv_constants pair = qv_make_constants(QV_GROUP, 2, (const uint32_t[][2]){{5, wide}, {6, QV_GROUP}});
    qp_status status = qv_matmul_convert(plan, op, "pair_activations", &pair, paired_row(p.k), qv_groups(p.rows, 2), &p, error);
    return status ? status : dispatch(plan, op, "matmul_half_tiles", QV_HALF_TILES, &p, 1, error);
}
