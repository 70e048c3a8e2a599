/* SPDX-License-Identifier: MIT
 * Matmuls of many tokens by the cooperative matrices of a GPU. */
#include "backends/vulkan/matmul.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/weights.h"

#include <stdio.h>

/* How a tile of results is cut up: subgroups side by side, matrices of a subgroup. kernels/vulkan/matmul_matrices.comp. */
typedef struct shape {
    uint32_t down, across, rows, tokens;
} shape;

enum { SUBGROUPS = 8, LINE = 9 * 16, PIECE = 32 };

/* With matrices of 16 × 16 these are 128 × 128 and 128 × 64, in 37 and 28 KiB of shared memory. */
static const shape large = {.down = 2, .across = 4, .rows = 4, .tokens = 2},
                   small = {.down = 4, .across = 2, .rows = 2, .tokens = 2};

static uint32_t tall(const qv_matrices *m, shape s)
{
    return s.down * s.rows * m->height;
}

static uint32_t broad(const qv_matrices *m, shape s)
{
    return s.across * s.tokens * m->width;
}

static uint64_t shared_bytes(const qv_matrices *m, shape s, uint32_t gated)
{
    uint64_t lines = (uint64_t)(tall(m, s) + broad(m, s)) * LINE;
    uint64_t results = (uint64_t)SUBGROUPS * m->height * m->width * sizeof(float) * (1 + gated);
    return (lines > results ? lines : results) + (uint64_t)tall(m, s) * (1 + gated) * sizeof(float);
}

static int fits(const qv_physical *physical, shape s)
{
    return shared_bytes(&physical->matrices, s, 1) <= physical->properties.limits.maxComputeSharedMemorySize;
}

/* Half as many rows where the sums of W and W2 are kept side by side; few tokens take tiles that are less broad. */
static shape choose(const qv_physical *physical, const qp_op *op)
{
    uint64_t tokens = (uint64_t)op->src[QP_MATMUL_X].ne[2], half = broad(&physical->matrices, large) / 2;
    shape s = large;
    if (tokens <= half || !fits(physical, large)) {
        s = small;
        s.tokens = 2 * tokens > half ? 2 : 1;
    }
    if (qv_matmul_is_gated(op))
        s.rows /= 2;
    return s;
}

const char *qv_matrices_lacks(const qv_physical *physical)
{
    const qv_matrices *m = &physical->matrices;
    const VkPhysicalDeviceLimits *limits = &physical->properties.limits;
    if (!m->height)
        return "it has no cooperative matrices of 16-bit floats that it adds up as floats";
    if (!physical->team)
        return "the driver does not tell how large its subgroups are";
    return !fits(physical, small) || SUBGROUPS * physical->team > limits->maxComputeWorkGroupInvocations ||
                   SUBGROUPS * physical->team > limits->maxComputeWorkGroupSize[0]
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
    if (w->ne[0] % PIECE)
        return "K is no multiple of 32";
    return qv_matmul_is_small(device, op, "matrices");
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
    uint32_t gated = (uint32_t)qv_matmul_is_gated(op), team = physical->team;
    shape s = choose(physical, op);
    uint32_t wide = qv_matmul_is_wide(&op->src[QP_MATMUL_W], 1) && (!gated || qv_matmul_is_wide(&op->src[QP_MATMUL_W2], 1));
    qv_constants halve = qv_make_constants(QV_GROUP, 1, (const uint32_t[][2]){{6, QV_GROUP}});
    qp_status status = qv_matmul_convert(plan, op, "halve_activations", &halve, halved_row(p.k), p.rows, &p, error);
    const uint32_t pairs[][2] = {{1, s.tokens}, {2, gated},     {3, s.rows},   {4, team},     {5, s.down},
                                 {6, s.across}, {7, m->height}, {8, m->width}, {9, m->depth}, {11, wide}};
    /* the last one exists for formats without blocks only */
    qv_constants c = qv_make_constants(SUBGROUPS * team, qv_has_planes(op->src[QP_MATMUL_W].format) ? 9 : 10, pairs);
    c.subgroup = team;
    return status ? status : qv_matmul_dispatch(plan, op, "matmul_matrices", c, &p, tall(m, s), broad(m, s), error);
}
