/* SPDX-License-Identifier: MIT
 * Products of experts on GPUs, by the kernels of matmul_rows.c and matmul_tiles.c: where an expert has several tokens, the route is
 * sorted first, so that its weights are read once for as many of them as a kernel takes at a time. */
#include "backends/vulkan/device.h"
#include "backends/vulkan/experts.h"
#include "backends/vulkan/matmul.h"
#include "backends/vulkan/weights.h"

#include <stdio.h>

enum { SORT_GROUP = 256 };

/* How many pairs an expert has if all have as many. */
static uint64_t tokens_of_expert(const qp_op *op)
{
    uint64_t experts = (uint64_t)op->src[QP_EXPERT_MATMUL_W].ne[2];
    return (qv_experts_pairs(op) + experts - 1) / experts;
}

/* ---- the route sorted by expert ---- */

uint32_t qv_experts_tiles(const qp_op *op, uint32_t columns)
{
    uint64_t pairs = qv_experts_pairs(op), most = pairs / columns + (uint64_t)op->src[QP_EXPERT_MATMUL_W].ne[2] + 1;
    return (uint32_t)(pairs < most ? pairs : most);
}

uint64_t qv_experts_list_bytes(const qp_op *op, uint32_t columns)
{
    return 16 * (uint64_t)qv_experts_tiles(op, columns) + (4 * qv_experts_pairs(op) + 15) / 16 * 16;
}

qp_status qv_experts_sort(qv_plan *plan, const qp_op *op, uint32_t columns, uint64_t to, struct qv_expert_matmul_params *p,
                          qp_text *error)
{
    uint32_t slots = qv_experts_tiles(op, columns), group = qv_group_of(plan->device, SORT_GROUP);
    p->tiles = to;
    p->list = to + 16 * (uint64_t)slots;
    struct qv_expert_group_params push = {.route = p->route,
                                          .live = p->live,
                                          .tiles = p->tiles,
                                          .list = p->list,
                                          .experts = p->experts,
                                          .rows = p->rows,
                                          .chosen = p->chosen,
                                          .route_head = p->route_head,
                                          .route_row = p->route_row,
                                          .columns = columns,
                                          .slots = slots};
    qv_constants c = qv_make_constants(group, 1, (const uint32_t[][2]){{6, group}});
    qp_status status = qv_plan_dispatch(plan, "expert_group", &c, &push, sizeof push, (uint64_t)p->experts + 1, 1,
                                        ((uint64_t)p->experts + 1) * p->rows * p->chosen, error);
    qv_plan_wait(plan);
    return status;
}

/* ---- scratch memory: activations in int8, results that are to be added up, the sorted route ---- */

typedef struct room {
    uint64_t partials, list, end; /* from the start of the op's scratch memory */
} room;

static room room_of(const qp_op *op, int dot, uint32_t columns)
{
    const qp_tensor *x = &op->src[QP_EXPERT_MATMUL_X], *w = &op->src[QP_EXPERT_MATMUL_W];
    uint64_t partials = qv_experts_are_summed(op) ? qv_experts_pairs(op) * (uint64_t)w->ne[1] * sizeof(float) : 0;
    room r = {.partials = dot ? qv_quantised_bytes(x) : 0};
    r.list = r.partials + (partials + 15) / 16 * 16;
    r.end = r.list + (columns > 1 ? qv_experts_list_bytes(op, columns) : 0);
    return r;
}

/* ---- the product ---- */

static uint32_t rows_are_wide(const qp_tensor *t)
{
    return qv_matmul_is_wide(t, 1) && qv_matmul_is_wide(t, 2);
}

/* Constants that say how operands lie. */
static void add_constants(qv_constants *c, const qp_op *op, int dot)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *w2 = &op->src[QP_EXPERT_MATMUL_W2];
    uint32_t gated = (uint32_t)qv_experts_are_gated(op), wide_weights = rows_are_wide(w) && (!gated || rows_are_wide(w2));
    const uint32_t pairs[][2] = {{2, gated},
                                 {5, dot || rows_are_wide(&op->src[QP_EXPERT_MATMUL_X])},
                                 {10, w->layout == QV_LAYOUT_PLANES},
                                 {11, wide_weights}};
    for (uint32_t i = 0; i < (qv_has_planes(w->format) ? 3 : 4); i++) { /* the last one exists for formats without blocks only */
        c->ids[c->count] = pairs[i][0];
        c->values[c->count++] = pairs[i][1];
    }
}

static qp_status quantise(qv_plan *plan, const qp_op *op, int alone, struct qv_expert_matmul_params *p, qp_text *error)
{
    const qp_tensor *x = &op->src[QP_EXPERT_MATMUL_X];
    uint32_t line = (uint32_t)qv_quantised_row(p->k);
    p->x_head = x->ne[1] > 1 ? line : 0;
    p->x_row = line * (uint32_t)x->ne[1];
    return qv_quantise_activations(plan, x, &op->live, alone, &p->x, error);
}

/* By a kernel whose constants lack only how operands lie; columns: pairs that it takes at a time, 1 where the route is as it is. */
static qp_status launch(qv_plan *plan, const qp_op *op, const char *kernel, int dot, qv_constants c, uint32_t rows,
                        uint32_t columns, qp_text *error)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W];
    room r = room_of(op, dot, columns);
    uint64_t scratch = r.end > r.partials ? qv_plan_scratch(plan) : 0, pairs = qv_experts_pairs(op);
    uint32_t m = (uint32_t)w->ne[1], groups = columns > 1 ? qv_experts_tiles(op, columns) : (uint32_t)pairs;
    int summed = qv_experts_are_summed(op);
    qv_expert_product p = {.params = qv_experts_params_of(op), .constants = c, .group_rows = rows};
    add_constants(&p.constants, op, dot);
    snprintf(p.name, sizeof p.name, "%s_%s", kernel, qv_format_name(w->format));
    p.work = (uint64_t)p.params.k * (qv_experts_are_gated(op) ? 2 : 1) * pairs / groups;
    if (summed) {
        p.params.dst = scratch + r.partials;
        p.params.dst_head = 4 * m;
        p.params.dst_row = p.params.dst_head * p.params.chosen;
    }
    qp_status status = dot ? quantise(plan, op, r.end == r.partials, &p.params, error) : QP_OK;
    if (!status && columns > 1)
        status = qv_experts_sort(plan, op, columns, scratch + r.list, &p.params, error);
    if (!status)
        status = qv_experts_find_grid(plan, w->format, &p, error);
    if (!status)
        status = qv_experts_dispatch(plan, &p, m, groups, error);
    return status || !summed ? status : qv_experts_add_up(plan, op, scratch + r.partials, error);
}

const char *qv_experts_unfit(const qp_op *op)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W];
    if (w->ne[2] > QV_MOST_EXPERTS)
        return "there are more than 1023 experts";
    uint64_t longest = (uint64_t)(w->ne[1] > w->ne[0] ? w->ne[1] : w->ne[0]); /* of what lies in scratch memory, in floats */
    return qv_experts_pairs(op) > UINT32_MAX / 4 / longest ? "there are too many tokens" : NULL;
}

/* ---- a subgroup a few rows ---- */

/* Pairs beside each other: so many that few places stay empty. Where experts have one token each, or there is one token, sorting is
 * not worth its while. */
static uint32_t columns_of_rows(const qp_op *op)
{
    uint64_t tokens = tokens_of_expert(op);
    return op->src[QP_EXPERT_MATMUL_ROUTE].ne[2] == 1 || tokens <= 1 ? 1 : tokens <= 4 ? 4 : 8;
}

static qp_status launch_rows(qv_plan *plan, const qp_op *op, const char *kernel, int dot, qp_text *error)
{
    uint32_t columns = columns_of_rows(op);
    qv_rows_shape s = qv_rows_shape_of(plan->device->physical, qv_experts_are_gated(op), columns);
    qv_constants c = qv_make_constants(s.group, 4, (const uint32_t[][2]){{1, s.tokens}, {3, s.rows}, {4, s.lanes}, {6, s.group}});
    c.subgroup = s.lanes;
    return launch(plan, op, kernel, dot, c, s.group / s.team * s.rows, columns, error);
}

const char *qv_experts_rows_refuse(const qp_device *device, const qp_op *op)
{
    if (device->physical->lanes && !qv_matmul_is_asked_for(device, "rows"))
        return "subgroups are of 8 or 16 only";
    return qv_experts_unfit(op);
}

uint64_t qv_experts_rows_scratch(const qp_device *device, const qp_op *op)
{
    (void)device;
    return room_of(op, 0, columns_of_rows(op)).end;
}

qp_status qv_experts_rows_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    return launch_rows(plan, op, "expert_matmul_rows", 0, error);
}

const char *qv_experts_dot_refuses(const qp_device *device, const qp_op *op)
{
    const char *why =
        qv_dot_unfit(device, op->p.expert_matmul.flags, op->src[QP_EXPERT_MATMUL_W].format, qv_matmul_is_asked_for(device, "dot"));
    return why ? why : qv_experts_unfit(op);
}

uint64_t qv_experts_dot_scratch(const qp_device *device, const qp_op *op)
{
    (void)device;
    return room_of(op, 1, columns_of_rows(op)).end;
}

qp_status qv_experts_dot_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    return launch_rows(plan, op, "expert_matmul_dot", 1, error);
}

/* ---- a workgroup a tile ---- */

static qv_tiles_shape tiles_of(const qv_physical *physical, const qp_op *op, int dot)
{
    return qv_tiles_shape_of(physical, qv_experts_are_gated(op), (int64_t)tokens_of_expert(op), dot ? QV_DOT_TILES : QV_FLOAT_TILES);
}

static qp_status launch_tiles(qv_plan *plan, const qp_op *op, const char *kernel, int dot, qp_text *error)
{
    qv_tiles_shape s = tiles_of(plan->device->physical, op, dot);
    qv_constants c = qv_make_constants(8 * s.rows, 3, (const uint32_t[][2]){{1, s.tokens}, {3, s.rows}, {4, s.buffers}});
    return launch(plan, op, kernel, dot, c, 8 * s.rows, s.rows * s.tokens, error);
}

static const char *few_tokens(const qp_op *op, int asked)
{
    return asked || tokens_of_expert(op) > QV_FEW_TOKENS ? qv_experts_unfit(op) : "there are 8 tokens to an expert, or fewer";
}

const char *qv_experts_tiles_refuse(const qp_device *device, const qp_op *op)
{
    int asked = qv_matmul_is_asked_for(device, "tiles");
    return device->physical->lanes && !asked ? "subgroups are of 8 or 16 only" : few_tokens(op, asked);
}

uint64_t qv_experts_tiles_scratch(const qp_device *device, const qp_op *op)
{
    qv_tiles_shape s = tiles_of(device->physical, op, 0);
    return room_of(op, 0, s.rows * s.tokens).end;
}

qp_status qv_experts_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    return launch_tiles(plan, op, "expert_matmul_tiles", 0, error);
}

const char *qv_experts_dot_tiles_refuse(const qp_device *device, const qp_op *op)
{
    int asked = qv_matmul_is_asked_for(device, "dot_tiles");
    const char *why = qv_dot_unfit(device, op->p.expert_matmul.flags, op->src[QP_EXPERT_MATMUL_W].format, asked);
    return why ? why : few_tokens(op, asked);
}

uint64_t qv_experts_dot_tiles_scratch(const qp_device *device, const qp_op *op)
{
    qv_tiles_shape s = tiles_of(device->physical, op, 1);
    return room_of(op, 1, s.rows * s.tokens).end;
}

qp_status qv_experts_dot_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    return launch_tiles(plan, op, "expert_matmul_dot_tiles", 1, error);
}
