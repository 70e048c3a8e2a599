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

/* The same for all sizes but for a few numbers of tokens: each combination is compiled, and tested, for itself. Two rows of W, or
 * one of W and W2 each: activations are read half as often, and small matrices still make many subgroups. */
qv_rows_shape qv_rows_shape_of(const qv_physical *physical, int gated, int64_t tokens)
{
    qv_rows_shape s = {.group = QV_GROUP,
                       .lanes = physical->team,
                       .rows = gated ? 1 : 2,
                       .tokens = tokens > 4   ? 8
                                 : tokens > 1 ? 4
                                              : 1};
    if (physical->team > s.group)
        s.group = physical->team;
    s.team = physical->team ? physical->team : s.group;
    return s;
}

static qp_status dispatch(qv_plan *plan, const qp_op *op, const char *kernel, struct qv_matmul_params *p, uint32_t wide,
                          qp_text *error)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W], *w2 = &op->src[QP_MATMUL_W2];
    qv_rows_shape s = qv_rows_shape_of(plan->device->physical, qv_matmul_is_gated(op), op->src[QP_MATMUL_X].ne[2]);
    uint32_t gated = (uint32_t)qv_matmul_is_gated(op);
    uint32_t wide_weights = qv_matmul_is_wide(w, 1) && (!gated || qv_matmul_is_wide(w2, 1));
    const uint32_t pairs[][2] = {{1, s.tokens}, {2, gated}, {3, s.rows}, {4, s.lanes}, {5, wide}, {6, s.group}, {11, wide_weights}};
    qv_constants c = qv_make_constants(s.group, qv_has_planes(w->format) ? 6 : 7, pairs);
    c.subgroup = s.lanes;
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
    return dispatch(plan, op, "matmul_rows", &p, qv_matmul_is_wide(x, 2), error);
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

const char *qv_dot_unfit(const qp_device *device, uint32_t flags, qp_format format, int asked)
{
    char name[48];
    if (flags & QP_MATMUL_FLOAT)
        return "float activations are asked for";
    if (!qv_shader_find(kernel_name(format, &name)))
        return "it has no kernel for this format";
    return device->physical->dot_is_quick || asked ? NULL : "the dot product of bytes is not accelerated";
}

const char *qv_dot_refuses(const qp_device *device, const qp_op *op)
{
    return qv_dot_unfit(device, op->p.matmul.flags, op->src[QP_MATMUL_W].format, qv_matmul_is_asked_for(device, "dot"));
}

/* A row of activations: kernels/vulkan/activation_blocks.glsl. */
uint64_t qv_quantised_row(uint64_t k)
{
    return (k + k / 32 * 8 + ALIGNED - 1) / ALIGNED * ALIGNED;
}

uint64_t qv_quantised_bytes(const qp_tensor *x)
{
    return qv_quantised_row((uint64_t)x->ne[0]) * (uint64_t)x->ne[1] * (uint64_t)x->ne[2];
}

uint64_t qv_dot_scratch(const qp_device *device, const qp_op *op)
{
    (void)device;
    return qv_quantised_bytes(&op->src[QP_MATMUL_X]);
}

qp_status qv_quantise_activations(qv_plan *plan, const qp_tensor *x, const qp_tensor *live, int alone, uint64_t *to, qp_text *error)
{
    struct qv_quantise_params p = {.x = qv_address(x),
                                   .live = qv_address(live),
                                   .k = (uint32_t)x->ne[0],
                                   .rows = (uint32_t)x->ne[2],
                                   .x_row = qv_stride(x, 2),
                                   .dst_row = (uint32_t)qv_quantised_row((uint64_t)x->ne[0]),
                                   .heads = (uint32_t)x->ne[1],
                                   .x_head = qv_stride(x, 1)};
    uint32_t wide = qv_matmul_is_wide(x, 1) && qv_matmul_is_wide(x, 2);
    qv_constants c = qv_make_constants(QV_GROUP, 1, (const uint32_t[][2]){{5, wide}});
    const uint64_t groups[] = {qv_groups(p.k / 32, QV_GROUP), (uint64_t)p.heads * p.rows};
    qp_status status = qv_plan_convert(plan, "quantise_activations", &c, x, live, &p, qv_quantised_bytes(x), alone, groups, error);
    *to = p.dst;
    return status;
}

qp_status qv_dot_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    struct qv_matmul_params p = qv_matmul_params_of(op);
    p.x_row = (uint32_t)qv_quantised_row(p.k);
    qp_status status = qv_quantise_activations(plan, &op->src[QP_MATMUL_X], &op->live, 1, &p.x, error);
    return status ? status : dispatch(plan, op, "matmul_dot", &p, 1, error);
}
