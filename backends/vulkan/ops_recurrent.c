/* SPDX-License-Identifier: MIT
 * Ops with a state that one run leaves to the next: the short convolution and the gated delta rule. */
#include "backends/vulkan/ops.h"
#include "backends/vulkan/status.h"
#include "kernels/vulkan/params.h"

#include <string.h>

/* ---- short convolution ---- */

static qp_status check_short_conv(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *x = &op->src[QP_SHORT_CONV_X], *w = &op->src[QP_SHORT_CONV_W];
    int64_t channels = x->ne[0], width = w->ne[0];
    if (op->p.short_conv.act > QP_ACT_SOFTPLUS)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "activation %u is not served here", op->p.short_conv.act);
    if (width < 2 || width > 16)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "the width is %lld: 2 to 16 is due", (long long)width);
    qp_status status = qv_need_floats(x, "x", channels, 1, x->ne[2], reason);
    if (!status)
        status = qv_need_floats(&op->dst, "dst", channels, 1, x->ne[2], reason);
    if (!status)
        status = qv_need_floats(w, "the weights", width, channels, 1, reason);
    if (!status)
        status = qv_need_vector(&op->src[QP_SHORT_CONV_BIAS], "the bias", channels, reason);
    if (!status)
        status = qv_need_numbers(&op->src[QP_SHORT_CONV_POSITIONS], "the positions", x->ne[2], reason);
    info->operations = 2 * (uint64_t)(channels * width) * (uint64_t)x->ne[2];
    return status ? status : qv_need_floats(&op->src[QP_SHORT_CONV_STATE], "the state", channels, width - 1, 1, reason);
}

static qp_status launch_short_conv(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *x = &op->src[QP_SHORT_CONV_X], *w = &op->src[QP_SHORT_CONV_W], *state = &op->src[QP_SHORT_CONV_STATE];
    struct qv_short_conv_params p = {.x = qv_address(x),
                                     .w = qv_address(w),
                                     .bias = qv_address(&op->src[QP_SHORT_CONV_BIAS]),
                                     .positions = qv_address(&op->src[QP_SHORT_CONV_POSITIONS]),
                                     .state = qv_address(state),
                                     .dst = qv_address(&op->dst),
                                     .live = qv_address(&op->live),
                                     .channels = (uint32_t)x->ne[0],
                                     .rows = (uint32_t)x->ne[2],
                                     .width = (uint32_t)w->ne[0],
                                     .act = op->p.short_conv.act,
                                     .x_row = qv_stride(x, 2),
                                     .w_row = qv_stride(w, 1),
                                     .state_row = qv_stride(state, 1),
                                     .dst_row = qv_stride(&op->dst, 2)};
    qv_constants c = qv_make_constants(QV_GROUP, 0, NULL);
    return qv_plan_dispatch(plan, "short_conv", &c, &p, sizeof p, qv_groups(p.channels, QV_GROUP), 1,
                            (uint64_t)p.channels * p.rows * p.width, error);
}

const qv_op_row qv_short_conv_row = {.kind = QP_OP_SHORT_CONV,
                                     .name = "short_conv",
                                     .sources = {"x", "the weights", "the bias", "the positions", "the state"},
                                     .required = 1u << QP_SHORT_CONV_X | 1u << QP_SHORT_CONV_W | 1u << QP_SHORT_CONV_POSITIONS |
                                                 1u << QP_SHORT_CONV_STATE,
                                     .optional = 1u << QP_SHORT_CONV_BIAS,
                                     .check = check_short_conv,
                                     .variants = QV_VARIANTS(QV_PLAIN(launch_short_conv))};

/* ---- gated delta rule ---- */

static qp_status check_delta_rule(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *k = &op->src[QP_DELTA_RULE_K], *v = &op->src[QP_DELTA_RULE_V];
    int64_t rows = k->ne[2], heads = v->ne[1];
    if (op->p.delta_rule.flags & ~(uint32_t)QP_DELTA_GROUPED)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "flags %#x are not known", op->p.delta_rule.flags);
    if (k->ne[0] > QP_DELTA_MAX_K || heads % k->ne[1])
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "keys of %lld features (%d at most) in %lld heads for %lld value heads",
                       (long long)k->ne[0], QP_DELTA_MAX_K, (long long)k->ne[1], (long long)heads);
    qp_status status = qv_need_floats(k, "k", k->ne[0], k->ne[1], rows, reason);
    if (!status)
        status = qv_need_floats(&op->src[QP_DELTA_RULE_Q], "q", k->ne[0], k->ne[1], rows, reason);
    if (!status)
        status = qv_need_floats(v, "v", v->ne[0], heads, rows, reason);
    if (!status)
        status = qv_need_floats(&op->dst, "dst", v->ne[0], heads, rows, reason);
    if (!status)
        status = qv_need_floats(&op->src[QP_DELTA_RULE_GATE], "g", heads, 1, rows, reason);
    if (!status)
        status = qv_need_floats(&op->src[QP_DELTA_RULE_BETA], "beta", heads, 1, rows, reason);
    if (!status)
        status = qv_need_numbers(&op->src[QP_DELTA_RULE_POSITIONS], "the positions", rows, reason);
    info->operations = 8 * (uint64_t)(k->ne[0] * v->ne[0]) * (uint64_t)heads * (uint64_t)rows;
    return status ? status : qv_need_floats(&op->src[QP_DELTA_RULE_STATE], "the state", v->ne[0], k->ne[0], heads, reason);
}

static void fill(const qp_op *op, struct qv_delta_rule_params *p)
{
    const qp_tensor *src = op->src, *k = &src[QP_DELTA_RULE_K], *v = &src[QP_DELTA_RULE_V], *state = &src[QP_DELTA_RULE_STATE];
    *p = (struct qv_delta_rule_params){.q = qv_address(&src[QP_DELTA_RULE_Q]),
                                       .k = qv_address(k),
                                       .v = qv_address(v),
                                       .gate = qv_address(&src[QP_DELTA_RULE_GATE]),
                                       .beta = qv_address(&src[QP_DELTA_RULE_BETA]),
                                       .positions = qv_address(&src[QP_DELTA_RULE_POSITIONS]),
                                       .state = qv_address(state),
                                       .dst = qv_address(&op->dst),
                                       .live = qv_address(&op->live),
                                       .state_head = qv_stride(state, 2),
                                       .k_size = (uint32_t)k->ne[0],
                                       .v_size = (uint32_t)v->ne[0],
                                       .key_heads = (uint32_t)k->ne[1],
                                       .heads = (uint32_t)v->ne[1],
                                       .rows = (uint32_t)k->ne[2],
                                       .grouped = op->p.delta_rule.flags & QP_DELTA_GROUPED,
                                       .q_head = qv_stride(&src[QP_DELTA_RULE_Q], 1),
                                       .q_row = qv_stride(&src[QP_DELTA_RULE_Q], 2),
                                       .k_head = qv_stride(k, 1),
                                       .k_row = qv_stride(k, 2),
                                       .v_head = qv_stride(v, 1),
                                       .v_row = qv_stride(v, 2),
                                       .gate_row = qv_stride(&src[QP_DELTA_RULE_GATE], 2),
                                       .beta_row = qv_stride(&src[QP_DELTA_RULE_BETA], 2),
                                       .dst_head = qv_stride(&op->dst, 1),
                                       .dst_row = qv_stride(&op->dst, 2),
                                       .state_row = qv_stride(state, 1),
                                       .scale = op->p.delta_rule.scale};
}

static qp_status launch_delta_rule(qv_plan *plan, const qp_op *op, qp_text *error)
{
    struct qv_delta_rule_params p;
    uint64_t address = 0;
    void *memory = NULL;
    fill(op, &p);
    qv_constants c = qv_make_constants(QV_GROUP, 0, NULL);
    qp_status status = qv_plan_dispatch(plan, "delta_rule", &c, &address, sizeof address, qv_groups(p.v_size, QV_GROUP), p.heads,
                                        4 * (uint64_t)p.k_size * p.v_size * p.heads * p.rows, error);
    if (!status)
        status = qv_plan_constants(plan, 0, sizeof p, &memory, error);
    if (!status)
        memcpy(memory, &p, sizeof p);
    return status;
}

const qv_op_row qv_delta_rule_row = {.kind = QP_OP_DELTA_RULE,
                                     .name = "delta_rule",
                                     .sources = {"q", "k", "v", "g", "beta", "the positions", "the state"},
                                     .required = 0x7f,
                                     .check = check_delta_rule,
                                     .variants = QV_VARIANTS(QV_PLAIN(launch_delta_rule))};
