/* SPDX-License-Identifier: MIT
 * Matmuls of many tokens by the cooperative matrices of a GPU. */
#include "backends/vulkan/matmul.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/weights.h"

#include <stdio.h>

/* Matrices that a subgroup keeps, down and across; four subgroups, two by two, share a tile: kernels/vulkan/matmul_matrices.comp.
 */
enum { SUBGROUPS = 4, ROWS = 4, GATED_ROWS = 2, TOKENS = 2, LINE = 10 * 8, FEW_TOKENS = 8, STEP = 32 };

static uint64_t shared_bytes(const qv_matrices *m, uint32_t rows, uint32_t gated)
{
    return (uint64_t)2 * (rows * m->height + TOKENS * m->width) * LINE +
           (uint64_t)SUBGROUPS * m->height * m->width * sizeof(float) * (1 + gated);
}

const char *qv_matrices_lacks(const qv_physical *physical)
{
    const qv_matrices *m = &physical->matrices;
    const VkPhysicalDeviceLimits *limits = &physical->properties.limits;
    if (!qv_shader_find("matmul_matrices_F16"))
        return "the compiler of kernels did not know cooperative matrices when this was built";
    if (!m->height)
        return "it has no cooperative matrices of 16-bit floats that it adds up as floats";
    if (!physical->team)
        return "the driver does not tell how large its subgroups are";
    return shared_bytes(m, ROWS, 0) > limits->maxComputeSharedMemorySize ||
                   shared_bytes(m, GATED_ROWS, 1) > limits->maxComputeSharedMemorySize ||
                   SUBGROUPS * physical->team > limits->maxComputeWorkGroupInvocations
               ? "workgroups cannot be large enough"
               : NULL;
}

const char *qv_matrices_refuses(const qp_device *device, const qp_op *op)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W];
    char name[48];
    snprintf(name, sizeof name, "matmul_matrices_%s", qv_format_name(w->format));
    if (op->p.matmul.flags & QP_MATMUL_FLOAT)
        return "float activations are asked for";
    if (!qv_shader_find(name))
        return "16-bit floats do not hold the numbers of this format";
    if (w->ne[0] % STEP)
        return "K is no multiple of 32";
    if (qv_matmul_is_asked_for(device, "matrices"))
        return NULL;
    if (device->physical->lanes)
        return "subgroups are of 8 or 16 only";
    return op->src[QP_MATMUL_X].ne[2] <= FEW_TOKENS ? "there are 8 tokens or fewer" : NULL;
}

/* A row of x: kernels/vulkan/halve_activations.comp. */
static uint64_t halved_row(uint64_t k)
{
    return (2 * k + 15) / 16 * 16 + 16;
}

uint64_t qv_matrices_scratch(const qp_device *device, const qp_op *op)
{
    (void)device;
    const qp_tensor *x = &op->src[QP_MATMUL_X];
    return halved_row((uint64_t)x->ne[0]) * (uint64_t)x->ne[2];
}

qp_status qv_matrices_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qv_physical *physical = plan->device->physical;
    const qv_matrices *m = &physical->matrices;
    struct qv_matmul_params p = qv_matmul_params_of(op);
    uint32_t gated = (uint32_t)qv_matmul_is_gated(op), rows = gated ? GATED_ROWS : ROWS, team = physical->team;
    uint32_t wide = qv_matmul_is_wide(&op->src[QP_MATMUL_W], 1) && (!gated || qv_matmul_is_wide(&op->src[QP_MATMUL_W2], 1));
    struct qv_quantise_params x = {
        .x = p.x, .live = p.live, .k = p.k, .rows = p.rows, .x_row = p.x_row, .dst_row = (uint32_t)halved_row(p.k)};
    qv_constants halve = qv_make_constants(QV_GROUP, 1, (const uint32_t[][2]){{6, QV_GROUP}});
    qp_status status = qv_plan_convert(plan, "halve_activations", &halve, &op->src[QP_MATMUL_X], &x, halved_row(p.k) * p.rows,
                                       (const uint64_t[]){p.rows, 1}, error);
    p.x = x.dst;
    p.x_row = x.dst_row;
    /* the last one exists for formats without blocks only */
    qv_constants c = qv_make_constants(
        SUBGROUPS * team, qv_has_planes(op->src[QP_MATMUL_W].format) ? 7 : 8,
        (const uint32_t[][2]){
            {1, TOKENS}, {2, gated}, {3, rows}, {4, team}, {7, m->height}, {8, m->width}, {9, m->depth}, {11, wide}});
    c.subgroup = team;
    return status ? status
                  : qv_matmul_dispatch(plan, op, "matmul_matrices", c, &p, 2 * rows * m->height, 2 * TOKENS * m->width, error);
}
