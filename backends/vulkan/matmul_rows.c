/* SPDX-License-Identifier: MIT
 * Matmuls of a few tokens on GPUs: a subgroup goes along K for a few rows. The shapes are by what is known of GPUs: enough
 * subgroups to hide latencies, few enough registers that several fit a processor. */
#include "backends/vulkan/matmul.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/weights.h"

#include <stdio.h>
#include <string.h>

enum { ALIGNED = 16 };

int qv_matmul_is_asked_for(const qp_device *device, const char *name)
{
    return (device->variant && !strcmp(device->variant, name)) || (device->only && !strcmp(device->only->name, name));
}

uint32_t qv_matmul_is_wide(const qp_tensor *t, int dimension)
{
    return (t->offset | qv_stride(t, dimension)) % ALIGNED == 0;
}

typedef struct shape {
    uint32_t group, team, rows, tokens;
} shape;

/* The same for all sizes but for a few numbers of tokens: each combination is compiled, and tested, for itself. Two rows of W, or
 * one of W and W2 each: activations are read half as often, and small matrices still make many subgroups. */
static shape choose(const qv_physical *physical, const qp_op *op)
{
    int64_t tokens = op->src[QP_MATMUL_X].ne[2];
    shape s = {.group = QV_GROUP, .rows = qv_matmul_is_gated(op) ? 1 : 2, .tokens = tokens > 4 ? 8 : tokens > 1 ? 4 : 1};
    if (physical->team > s.group)
        s.group = physical->team;
    s.team = physical->team ? physical->team : s.group;
    return s;
}

static qp_status dispatch(qv_plan *plan, const qp_op *op, const char *kernel, shape s, struct qv_matmul_params *p, uint32_t wide,
                          qp_text *error)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W], *w2 = &op->src[QP_MATMUL_W2];
    uint32_t gated = (uint32_t)qv_matmul_is_gated(op), lanes = plan->device->physical->team;
    uint32_t wide_weights = qv_matmul_is_wide(w, 1) && (!gated || qv_matmul_is_wide(w2, 1));
    const uint32_t pairs[][2] = {{1, s.tokens}, {2, gated}, {3, s.rows}, {4, lanes}, {5, wide}, {6, s.group}, {11, wide_weights}};
    qv_constants c = qv_make_constants(s.group, qv_has_planes(w->format) ? 6 : 7, pairs);
    c.subgroup = lanes;
    return qv_matmul_dispatch(plan, op, kernel, c, p, s.group / s.team * s.rows, s.tokens, error);
}

/* ---- floats ---- */

const char *qv_rows_lacks(const qv_physical *physical)
{
    return physical->has_shuffle ? NULL : "subgroups cannot hand values to any of theirs";
}

const char *qv_rows_refuses(const qp_device *device, const qp_op *op)
{
    (void)op;
    return device->physical->lanes && !qv_matmul_is_asked_for(device, "rows") ? "subgroups are of 8 or 16 only" : NULL;
}

qp_status qv_rows_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *x = &op->src[QP_MATMUL_X];
    struct qv_matmul_params p = qv_matmul_params_of(op);
    shape s = choose(plan->device->physical, op);
    return dispatch(plan, op, "matmul_rows", s, &p, qv_matmul_is_wide(x, 2), error);
}

/* ---- int8 ---- */

const char *qv_dot_lacks(const qv_physical *physical)
{
    return physical->integer_dot && physical->has_shuffle ? NULL : "the driver has no integer dot product";
}

static const char *kernel_name(qp_format format, char (*out)[48])
{
    snprintf(*out, sizeof *out, "matmul_dot_%s", qv_format_name(format));
    return *out;
}

const char *qv_dot_unfit(const qp_device *device, const qp_op *op, int asked)
{
    char name[48];
    if (op->p.matmul.flags & QP_MATMUL_FLOAT)
        return "float activations are asked for";
    if (!qv_shader_find(kernel_name(op->src[QP_MATMUL_W].format, &name)))
        return "it has no kernel for this format";
    return device->physical->dot_is_quick || asked ? NULL : "the dot product of bytes is not accelerated";
}

const char *qv_dot_refuses(const qp_device *device, const qp_op *op)
{
    return qv_dot_unfit(device, op, qv_matmul_is_asked_for(device, "dot"));
}

/* A row of activations: kernels/vulkan/activation_blocks.glsl. */
static uint64_t quantised_row(uint64_t k)
{
    return (k + k / 32 * 8 + ALIGNED - 1) / ALIGNED * ALIGNED;
}

uint64_t qv_dot_scratch(const qp_device *device, const qp_op *op)
{
    (void)device;
    const qp_tensor *x = &op->src[QP_MATMUL_X];
    return quantised_row((uint64_t)x->ne[0]) * (uint64_t)x->ne[2];
}

qp_status qv_quantise_activations(qv_plan *plan, const qp_op *op, struct qv_matmul_params *of, qp_text *error)
{
    uint64_t row = quantised_row(of->k);
    const qp_tensor *x = &op->src[QP_MATMUL_X];
    struct qv_quantise_params p = {
        .x = of->x, .live = of->live, .k = of->k, .rows = of->rows, .x_row = of->x_row, .dst_row = (uint32_t)row};
    qv_constants c = qv_make_constants(QV_GROUP, 1, (const uint32_t[][2]){{5, qv_matmul_is_wide(x, 2)}});
    const uint64_t groups[] = {qv_groups(of->k / 32, QV_GROUP), of->rows};
    qp_status status = qv_plan_convert(plan, "quantise_activations", &c, x, &p, row * of->rows, groups, error);
    of->x = p.dst;
    of->x_row = (uint32_t)row;
    return status;
}

qp_status qv_dot_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    struct qv_matmul_params p = qv_matmul_params_of(op);
    qp_status status = qv_quantise_activations(plan, op, &p, error);
    return status ? status : dispatch(plan, op, "matmul_dot", choose(plan->device->physical, op), &p, 1, error);
}
