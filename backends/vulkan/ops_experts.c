/* SPDX-License-Identifier: MIT
 * Mixtures of experts: the route and the matrices of those chosen. */
#include "backends/vulkan/device.h"
#include "backends/vulkan/experts.h"
#include "backends/vulkan/matmul.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/texels.h"
#include "backends/vulkan/weights.h"

#include <stdio.h>
#include <string.h>

enum { MAX_GROUPS = 256 }; /* of expert_route.comp */

/* ---- route ---- */

static qp_status check_route(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *logits = &op->src[QP_EXPERT_ROUTE_LOGITS];
    const qp_expert_route_params *p = &op->p.expert_route;
    int64_t groups = p->groups > 1 ? p->groups : 1, used = groups > 1 ? p->groups_used : 1;
    if (p->gate > QP_GATE_SOFTMAX_CHOSEN || p->flags & ~(uint32_t)QP_EXPERT_NORMALISE)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "there is no gate %u with flags %#x", p->gate, p->flags);
    if (groups > MAX_GROUPS)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "%lld groups; up to %d are served", (long long)groups, MAX_GROUPS);
    qp_status status = qv_need_floats(logits, "the logits", logits->ne[0], 1, logits->ne[2], reason);
    if (!status)
        status = qv_need_floats(&op->dst, "dst", op->dst.ne[0], 2, logits->ne[2], reason);
    if (!status)
        status = qv_need_vector(&op->src[QP_EXPERT_ROUTE_BIAS], "the bias", logits->ne[0], reason);
    if (!status && (logits->ne[0] % groups || used < 1 || used > groups))
        status = qv_fail(reason, QP_ERR_UNSUPPORTED, "%lld experts in %lld groups of which %lld are used", (long long)logits->ne[0],
                         (long long)groups, (long long)used);
    if (!status && op->dst.ne[0] > logits->ne[0] / groups * used)
        status = qv_fail(reason, QP_ERR_UNSUPPORTED, "%lld experts are to be chosen out of %lld", (long long)op->dst.ne[0],
                         (long long)(logits->ne[0] / groups * used));
    info->operations = (uint64_t)(logits->ne[0] * logits->ne[2]) * 8;
    return status;
}

static qp_status launch_route(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *logits = &op->src[QP_EXPERT_ROUTE_LOGITS];
    const qp_expert_route_params *from = &op->p.expert_route;
    struct qv_expert_route_params p = {.logits = qv_address(logits),
                                       .bias = qv_address(&op->src[QP_EXPERT_ROUTE_BIAS]),
                                       .dst = qv_address(&op->dst),
                                       .live = qv_address(&op->live),
                                       .experts = (uint32_t)logits->ne[0],
                                       .rows = (uint32_t)logits->ne[2],
                                       .chosen = (uint32_t)op->dst.ne[0],
                                       .groups = from->groups > 1 ? from->groups : 1,
                                       .groups_used = from->groups_used,
                                       .logits_row = qv_stride(logits, 2),
                                       .dst_head = qv_stride(&op->dst, 1),
                                       .dst_row = qv_stride(&op->dst, 2),
                                       .scale = from->scale};
    qv_constants c =
        qv_make_constants(QV_GROUP, 2, (const uint32_t[][2]){{1, from->gate}, {2, (from->flags & QP_EXPERT_NORMALISE) != 0}});
    return qv_plan_dispatch(plan, "expert_route", &c, &p, sizeof p, p.rows, 1, (uint64_t)p.rows * p.experts * (p.chosen + 2),
                            error);
}

const qv_op_row qv_expert_route_row = {.kind = QP_OP_EXPERT_ROUTE,
                                       .name = "expert_route",
                                       .sources = {"the logits", "the bias"},
                                       .required = 1u << QP_EXPERT_ROUTE_LOGITS,
                                       .optional = 1u << QP_EXPERT_ROUTE_BIAS,
                                       .check = check_route,
                                       .variants = QV_VARIANTS(QV_PLAIN(launch_route))};

/* ---- matmul ---- */

static qp_status check_vectors(const qp_op *op, qp_text *reason)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *bias = &op->src[QP_EXPERT_MATMUL_BIAS];
    const qp_tensor *bias2 = &op->src[QP_EXPERT_MATMUL_BIAS2], *scales = &op->src[QP_EXPERT_MATMUL_SCALES];
    int gated = qv_experts_are_gated(op);
    qp_status status = QP_OK;
    if (gated ? qv_present(scales) : qv_present(bias2))
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "a gated pair has no scales, and without one there is no second bias");
    if (qv_present(bias))
        status = qv_need_floats(bias, "the bias", w->ne[1], w->ne[2], 1, reason);
    if (!status && qv_present(bias2))
        status = qv_need_floats(bias2, "the second bias", w->ne[1], w->ne[2], 1, reason);
    return status ? status : qv_need_vector(scales, "the scales", w->ne[2], reason);
}

static qp_status check_weights(const qp_op *op, qp_text *reason)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *w2 = &op->src[QP_EXPERT_MATMUL_W2];
    if (!qv_is_weight_format(w->format))
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "there is no kernel for weights in %s yet", qv_format_name(w->format));
    qp_status status = qv_need_shape(w, "W", w->ne[0], w->ne[1], w->ne[2], reason);
    if (status || !qv_present(w2))
        return status;
    if (w2->format != w->format || w2->layout != w->layout)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "W2 is not like W in format and layout");
    return qv_need_shape(w2, "W2", w->ne[0], w->ne[1], w->ne[2], reason);
}

static qp_status check_params(const qp_op *op, qp_text *reason)
{
    const qp_expert_matmul_params *p = &op->p.expert_matmul;
    int gated = qv_experts_are_gated(op);
    if (p->act > QP_ACT_SOFTPLUS && !(p->act == QP_ACT_SWIGLU_CLAMPED && gated))
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "activation %u is not served here", p->act);
    if (p->flags & ~(uint32_t)(QP_MATMUL_FLOAT | QP_EXPERT_SUM))
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "flags %#x are not known", p->flags);
    if (qv_present(&op->src[QP_EXPERT_MATMUL_RESIDUAL]) && !(p->flags & QP_EXPERT_SUM))
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "there is a residual but no sum that it could be added to");
    return QP_OK;
}

static qp_status check_matmul(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *x = &op->src[QP_EXPERT_MATMUL_X], *route = &op->src[QP_EXPERT_MATMUL_ROUTE];
    const qp_tensor *residual = &op->src[QP_EXPERT_MATMUL_RESIDUAL];
    int sum = (op->p.expert_matmul.flags & QP_EXPERT_SUM) != 0;
    qp_status status = check_params(op, reason);
    if (!status)
        status = check_weights(op, reason);
    if (!status)
        status = qv_need_floats(route, "the route", route->ne[0], 2, route->ne[2], reason);
    if (!status)
        status = qv_need_floats(x, "x", w->ne[0], x->ne[1] == 1 ? 1 : route->ne[0], route->ne[2], reason);
    if (!status)
        status = qv_need_floats(&op->dst, "dst", w->ne[1], sum ? 1 : route->ne[0], route->ne[2], reason);
    if (!status && qv_present(residual))
        status = qv_need_floats(residual, "the residual", w->ne[1], 1, route->ne[2], reason);
    info->operations = 2 * (uint64_t)w->ne[0] * (uint64_t)w->ne[1] * (uint64_t)route->ne[0] * (uint64_t)route->ne[2];
    snprintf(info->kernel, sizeof info->kernel, "expert_matmul_%s", qv_format_name(w->format));
    return status ? status : check_vectors(op, reason);
}

static void weight_steps(const qp_tensor *w, uint64_t *row, uint64_t *expert)
{
    int planes = w->layout == QV_LAYOUT_PLANES;
    *row = planes ? qv_weight_row(w->format, w->layout, w->ne[0]) : (uint64_t)w->nb[1];
    *expert = planes ? *row * (uint64_t)w->ne[1] : (uint64_t)w->nb[2];
}

struct qv_expert_matmul_params qv_experts_params_of(const qp_op *op)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *x = &op->src[QP_EXPERT_MATMUL_X], *route = &op->src[QP_EXPERT_MATMUL_ROUTE];
    struct qv_expert_matmul_params p =
        (struct qv_expert_matmul_params){.w = qv_address(w),
                                         .x = qv_address(x),
                                         .bias = qv_address(&op->src[QP_EXPERT_MATMUL_BIAS]),
                                         .residual = qv_address(&op->src[QP_EXPERT_MATMUL_RESIDUAL]),
                                         .w2 = qv_address(&op->src[QP_EXPERT_MATMUL_W2]),
                                         .bias2 = qv_address(&op->src[QP_EXPERT_MATMUL_BIAS2]),
                                         .route = qv_address(route),
                                         .scales = qv_address(&op->src[QP_EXPERT_MATMUL_SCALES]),
                                         .dst = qv_address(&op->dst),
                                         .live = qv_address(&op->live),
                                         .bias_expert = qv_stride(&op->src[QP_EXPERT_MATMUL_BIAS], 1),
                                         .bias2_expert = qv_stride(&op->src[QP_EXPERT_MATMUL_BIAS2], 1),
                                         .k = (uint32_t)w->ne[0],
                                         .rows = (uint32_t)route->ne[2],
                                         .chosen = (uint32_t)route->ne[0],
                                         .experts = (uint32_t)w->ne[2],
                                         .x_head = qv_stride(x, 1),
                                         .x_row = qv_stride(x, 2),
                                         .residual_row = qv_stride(&op->src[QP_EXPERT_MATMUL_RESIDUAL], 2),
                                         .route_head = qv_stride(route, 1),
                                         .route_row = qv_stride(route, 2),
                                         .dst_head = qv_stride(&op->dst, 1),
                                         .dst_row = qv_stride(&op->dst, 2),
                                         .act = op->p.expert_matmul.act,
                                         .alpha = op->p.expert_matmul.alpha,
                                         .limit = op->p.expert_matmul.limit};
    weight_steps(w, &p.w_row, &p.w_expert);
    if (qv_experts_are_gated(op))
        weight_steps(&op->src[QP_EXPERT_MATMUL_W2], &p.w2_row, &p.w2_expert);
    return p;
}

static qp_status dispatch_piece(qv_plan *plan, qv_expert_product *p, struct qv_expert_matmul_push push, qp_text *error)
{
    void *memory = NULL;
    uint32_t count = push.m - push.first, items = push.end_item - push.first_item;
    qp_status status = qv_plan_dispatch(plan, p->name, &p->constants, &push, sizeof push, qv_groups(count, p->group_rows),
                                        p->groups ? p->groups : items, p->work * count * items, error);
    if (!status)
        status = qv_plan_constants(plan, offsetof(struct qv_expert_matmul_push, params), sizeof p->params, &memory, error);
    if (status)
        return status;
    p->params.grid = p->grid - plan->list[plan->count - 1].constant_offset;
    memcpy(memory, &p->params, sizeof p->params);
    return QP_OK;
}

qp_status qv_experts_dispatch(qv_plan *plan, qv_expert_product *p, uint32_t m, uint32_t items, qp_text *error)
{
    uint32_t step = qv_rows_at_once(plan->device, p->work * items, m);
    uint64_t fit = qv_items_at_once(plan->device, QP_OP_EXPERT_MATMUL, p->work * step);
    uint32_t item_step = fit < 1 ? 1 : fit < items ? (uint32_t)fit : items;
    qp_status status = QP_OK;
    for (uint32_t first = 0; first < m && !status; first += step) {
        struct qv_expert_matmul_push push = {.first = first, .m = m - first < step ? m : first + step};
        for (uint32_t at = 0; at < items && !status; at += item_step) {
            push.first_item = at;
            push.end_item = items - at < item_step ? items : at + item_step;
            status = dispatch_piece(plan, p, push, error);
        }
    }
    return status;
}

qp_status qv_experts_find_grid(qv_plan *plan, qp_format format, qv_expert_product *p, qp_text *error)
{
    uint32_t bytes = 0;
    const void *points = qv_grid_of(format, &bytes);
    return points ? qv_plan_shared(plan, UINT32_MAX, points, bytes, &p->grid, error) : QP_OK;
}

qp_status qv_experts_add_up(qv_plan *plan, const qp_op *op, uint64_t partials, qp_text *error)
{
    uint32_t m = (uint32_t)op->src[QP_EXPERT_MATMUL_W].ne[1];
    qv_expert_product add = {.name = "expert_sum", .params = qv_experts_params_of(op), .group_rows = QV_GROUP};
    add.params.all = m;
    add.params.partials = partials;
    add.work = add.params.chosen;
    add.constants = qv_make_constants(QV_GROUP, 0, NULL);
    qv_plan_wait(plan);
    return qv_experts_dispatch(plan, &add, m, add.params.rows, error);
}

static qp_status launch_plain(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W];
    qv_expert_product p = {.group_rows = QV_GROUP, .params = qv_experts_params_of(op)};
    uint32_t sum = (uint32_t)qv_experts_are_summed(op), gated = (uint32_t)qv_experts_are_gated(op);
    snprintf(p.name, sizeof p.name, "expert_matmul_%s", qv_format_name(w->format));
    p.constants = qv_make_constants(QV_GROUP, 3, (const uint32_t[][2]){{1, sum}, {2, gated}, {10, w->layout == QV_LAYOUT_PLANES}});
    p.work = (uint64_t)p.params.k * (sum ? p.params.chosen : 1) * (gated ? 2 : 1);
    qp_status status = qv_experts_find_grid(plan, w->format, &p, error);
    return status ? status : qv_experts_dispatch(plan, &p, (uint32_t)w->ne[1], p.params.rows * (sum ? 1 : p.params.chosen), error);
}

/* ---- many tokens, small subgroups ---- */

enum { LANES_ROWS = 4, LANES_TOKENS = 8 }; /* as in expert_matmul_lanes.comp: of W and of x that a subgroup takes */

static const char *lanes_lacks(const qv_physical *physical)
{
    return physical->lanes && physical->has_ballot ? NULL : "subgroups are not always of 8 or of 16, or have no ballots";
}

static const char *lanes_refuses(const qp_device *device, const qp_op *op)
{
    (void)device;
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *x = &op->src[QP_EXPERT_MATMUL_X];
    if (op->src[QP_EXPERT_MATMUL_ROUTE].ne[2] < LANES_TOKENS)
        return "there are fewer than 8 tokens";
    if (w->ne[0] % 32)
        return "K is no multiple of 32";
    return (x->offset | qv_stride(x, 1) | qv_stride(x, 2)) % 8 ? "x does not lie at multiples of 8 bytes" : NULL;
}

static uint64_t lanes_scratch(const qp_device *device, const qp_op *op)
{
    (void)device;
    const qp_tensor *route = &op->src[QP_EXPERT_MATMUL_ROUTE];
    uint64_t items = (uint64_t)(route->ne[0] * route->ne[2]);
    return qv_experts_are_summed(op) ? items * (uint64_t)op->src[QP_EXPERT_MATMUL_W].ne[1] * sizeof(float) : 0;
}

static qp_status launch_lanes(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W];
    uint32_t sum = (uint32_t)qv_experts_are_summed(op), gated = (uint32_t)qv_experts_are_gated(op), m = (uint32_t)w->ne[1];
    qv_expert_product p = {.group_rows = QV_GROUP * LANES_ROWS, .params = qv_experts_params_of(op)};
    p.groups = p.params.experts + 1;
    p.params.all = m;
    p.params.partials = sum ? qv_plan_scratch(plan) : 0;
    snprintf(p.name, sizeof p.name, "expert_matmul_lanes_%s", qv_format_name(w->format));
    p.constants = qv_make_constants(
        QV_GROUP, 4,
        (const uint32_t[][2]){{1, sum}, {2, gated}, {4, plan->device->physical->lanes}, {10, w->layout == QV_LAYOUT_PLANES}});
    p.work = (uint64_t)p.params.k * (gated ? 2 : 1);
    qp_status status = qv_experts_find_grid(plan, w->format, &p, error);
    if (!status)
        status = qv_experts_dispatch(plan, &p, m, p.params.rows * p.params.chosen, error);
    return status || !sum ? status : qv_experts_add_up(plan, op, p.params.partials, error);
}

const qv_op_row qv_expert_matmul_row = {
    .kind = QP_OP_EXPERT_MATMUL,
    .name = "expert_matmul",
    .sources = {"W", "x", "the bias", "the residual", "W2", "the second bias", "the route", "the scales"},
    .required = 1u << QP_EXPERT_MATMUL_W | 1u << QP_EXPERT_MATMUL_X | 1u << QP_EXPERT_MATMUL_ROUTE,
    .optional = 1u << QP_EXPERT_MATMUL_BIAS | 1u << QP_EXPERT_MATMUL_RESIDUAL | 1u << QP_EXPERT_MATMUL_W2 |
                1u << QP_EXPERT_MATMUL_BIAS2 | 1u << QP_EXPERT_MATMUL_SCALES,
    .weights = 1u << QP_EXPERT_MATMUL_W | 1u << QP_EXPERT_MATMUL_W2,
    .check = check_matmul,
    .variants = QV_VARIANTS(
        {.name = "texels",
         .lacks = qv_texels_lack,
         .refuses = qv_experts_texels_refuse,
         .launch = qv_experts_texels_launch,
         .scratch = qv_experts_texels_scratch},
        {.name = "lanes", .lacks = lanes_lacks, .refuses = lanes_refuses, .launch = launch_lanes, .scratch = lanes_scratch},
        {.name = "dot_tiles",
         .lacks = qv_dot_lacks,
         .refuses = qv_experts_dot_tiles_refuse,
         .launch = qv_experts_dot_tiles_launch,
         .scratch = qv_experts_dot_tiles_scratch},
        {.name = "dot",
         .lacks = qv_dot_lacks,
         .refuses = qv_experts_dot_refuses,
         .launch = qv_experts_dot_launch,
         .scratch = qv_experts_dot_scratch},
        {.name = "tiles",
         .refuses = qv_experts_tiles_refuse,
         .launch = qv_experts_tiles_launch,
         .scratch = qv_experts_tiles_scratch},
        {.name = "rows",
         .lacks = qv_rows_lacks,
         .refuses = qv_experts_rows_refuse,
         .launch = qv_experts_rows_launch,
         .scratch = qv_experts_rows_scratch},
        QV_PLAIN(launch_plain))};
