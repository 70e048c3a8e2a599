/* SPDX-License-Identifier: MIT
 * Ops over rows of floats: norm, elementwise, sample. */
#include "backends/vulkan/device.h"
#include "backends/vulkan/ops.h"
#include "backends/vulkan/status.h"
#include "kernels/vulkan/params.h"

/* ---- norm ---- */

static qp_status check_norm(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *x = &op->src[QP_NORM_X];
    if (op->p.norm.kind > QP_NORM_L2)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "there is no norm of kind %u", op->p.norm.kind);
    qp_status status = qv_need_floats(x, "x", x->ne[0], x->ne[1], x->ne[2], reason);
    if (!status)
        status = qv_need_floats(&op->dst, "dst", x->ne[0], x->ne[1], x->ne[2], reason);
    if (!status)
        status = qv_need_vector(&op->src[QP_NORM_WEIGHT], "the weight", x->ne[0], reason);
    info->operations = 6 * (uint64_t)x->ne[0] * (uint64_t)x->ne[1] * (uint64_t)x->ne[2];
    return status ? status : qv_need_vector(&op->src[QP_NORM_BIAS], "the bias", x->ne[0], reason);
}

static qp_status launch_norm(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *x = &op->src[QP_NORM_X], *dst = &op->dst;
    struct qv_norm_params p = {.x = qv_address(x),
                               .weight = qv_address(&op->src[QP_NORM_WEIGHT]),
                               .bias = qv_address(&op->src[QP_NORM_BIAS]),
                               .dst = qv_address(dst),
                               .live = qv_address(&op->live),
                               .n = (uint32_t)x->ne[0],
                               .heads = (uint32_t)x->ne[1],
                               .rows = (uint32_t)x->ne[2],
                               .x_head = qv_stride(x, 1),
                               .x_row = qv_stride(x, 2),
                               .dst_head = qv_stride(dst, 1),
                               .dst_row = qv_stride(dst, 2),
                               .eps = op->p.norm.eps,
                               .weight_offset = op->p.norm.weight_offset};
    /* long rows: of as many invocations as there are, 16 numbers each; on a processor these would take turns */
    int is_wide = p.n > 8 * QV_GROUP && plan->device->physical->properties.deviceType != VK_PHYSICAL_DEVICE_TYPE_CPU;
    qv_constants c = qv_make_constants(is_wide ? qv_group_of(plan->device, 4 * QV_GROUP) : QV_GROUP, 2,
                                       (const uint32_t[][2]){{1, op->p.norm.kind}, {2, is_wide ? 16 : 8}});
    uint64_t items = (uint64_t)p.heads * p.rows;
    return qv_plan_dispatch(plan, "norm", &c, &p, sizeof p, items, 1, 6 * items * p.n, error);
}

const qv_op_row qv_norm_row = {.kind = QP_OP_NORM,
                               .name = "norm",
                               .sources = {"x", "the weight", "the bias"},
                               .required = 1u << QP_NORM_X,
                               .optional = 1u << QP_NORM_WEIGHT | 1u << QP_NORM_BIAS,
                               .check = check_norm,
                               .variants = QV_VARIANTS(QV_PLAIN(launch_norm))};

/* ---- elementwise ---- */

static qp_status check_elementwise(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *a = &op->src[QP_ELEMENTWISE_A], *b = &op->src[QP_ELEMENTWISE_B];
    uint32_t f = op->p.elementwise.function;
    int two = f == QP_ELEMENTWISE_ADD || f == QP_ELEMENTWISE_MUL || f == QP_ELEMENTWISE_GLU;
    if (f > QP_ELEMENTWISE_SOFTCAP)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "there is no function %u", f);
    int clamped = f == QP_ELEMENTWISE_GLU && op->p.elementwise.act == QP_ACT_SWIGLU_CLAMPED;
    if ((f == QP_ELEMENTWISE_ACT || f == QP_ELEMENTWISE_GLU) && op->p.elementwise.act > QP_ACT_SOFTPLUS && !clamped)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "activation %u is not served here", op->p.elementwise.act);
    qp_status status = qv_need_floats(a, "a", a->ne[0], a->ne[1], a->ne[2], reason);
    if (!status)
        status = qv_need_floats(&op->dst, "dst", a->ne[0], a->ne[1], a->ne[2], reason);
    if (!status && two && !qv_present(b))
        status = qv_fail(reason, QP_ERR_UNSUPPORTED, "b is missing");
    if (!status && qv_present(b))
        status = qv_need_floats(b, "b", a->ne[0], a->ne[1], b->ne[2] == 1 ? 1 : a->ne[2], reason);
    info->operations = (uint64_t)a->ne[0] * (uint64_t)a->ne[1] * (uint64_t)a->ne[2];
    return status;
}

static qp_status launch_elementwise(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *a = &op->src[QP_ELEMENTWISE_A], *b = &op->src[QP_ELEMENTWISE_B], *dst = &op->dst;
    struct qv_elementwise_params p = {.a = qv_address(a),
                                      .b = qv_address(b),
                                      .dst = qv_address(dst),
                                      .live = qv_address(&op->live),
                                      .n = (uint32_t)a->ne[0],
                                      .heads = (uint32_t)a->ne[1],
                                      .rows = (uint32_t)a->ne[2],
                                      .a_head = qv_stride(a, 1),
                                      .a_row = qv_stride(a, 2),
                                      .b_head = qv_stride(b, 1),
                                      .b_row = qv_stride(b, 2),
                                      .dst_head = qv_stride(dst, 1),
                                      .dst_row = qv_stride(dst, 2),
                                      .scale = op->p.elementwise.scale,
                                      .offset = op->p.elementwise.offset};
    uint32_t f = op->p.elementwise.function;
    int with_act = f == QP_ELEMENTWISE_ACT || f == QP_ELEMENTWISE_GLU;
    qv_constants c = qv_make_constants(QV_GROUP, 2, (const uint32_t[][2]){{1, f}, {2, with_act ? op->p.elementwise.act : 0}});
    uint64_t items = (uint64_t)p.heads * p.rows;
    return qv_plan_dispatch(plan, "elementwise", &c, &p, sizeof p, qv_groups(p.n, QV_GROUP), items, items * p.n, error);
}

const qv_op_row qv_elementwise_row = {.kind = QP_OP_ELEMENTWISE,
                                      .name = "elementwise",
                                      .sources = {"a", "b"},
                                      .required = 1u << QP_ELEMENTWISE_A,
                                      .optional = 1u << QP_ELEMENTWISE_B,
                                      .check = check_elementwise,
                                      .variants = QV_VARIANTS(QV_PLAIN(launch_elementwise))};

/* ---- sample ---- */

static qp_status check_sample(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *logits = &op->src[0];
    if (op->p.sample.kind != QP_SAMPLE_GREEDY)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "there is no way of sampling %u", op->p.sample.kind);
    qp_status status = qv_need_floats(logits, "the logits", logits->ne[0], 1, logits->ne[2], reason);
    info->operations = (uint64_t)logits->ne[0] * (uint64_t)logits->ne[2];
    return status ? status : qv_need_numbers(&op->dst, "dst", logits->ne[2], reason);
}

static qp_status launch_sample(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *logits = &op->src[0];
    struct qv_sample_params p = {.logits = qv_address(logits),
                                 .dst = qv_address(&op->dst),
                                 .live = qv_address(&op->live),
                                 .n = (uint32_t)logits->ne[0],
                                 .rows = (uint32_t)logits->ne[2],
                                 .logits_row = qv_stride(logits, 2),
                                 .dst_step = (uint32_t)op->dst.nb[0]};
    qv_constants c = qv_make_constants(qv_group_of(plan->device, 4 * QV_GROUP), 0, NULL);
    return qv_plan_dispatch(plan, "sample", &c, &p, sizeof p, p.rows, 1, (uint64_t)p.n * p.rows, error);
}

const qv_op_row qv_sample_row = {.kind = QP_OP_SAMPLE,
                                 .name = "sample",
                                 .sources = {"the logits"},
                                 .required = 1,
                                 .check = check_sample,
                                 .variants = QV_VARIANTS(QV_PLAIN(launch_sample))};
