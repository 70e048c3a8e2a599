/* SPDX-License-Identifier: MIT
 * Products of experts whose weights and activations are fetched as texels: ops_matmul_texels.c, by expert. */
#include "backends/vulkan/device.h"
#include "backends/vulkan/experts.h"
#include "backends/vulkan/texels.h"
#include "backends/vulkan/weights.h"

#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(struct qv_expert_texels_params) <= QV_PUSH_BYTES, "parameters of experts by texels fit the push constants");

/* From one expert to the next. */
static uint64_t expert_step(const qp_tensor *w)
{
    return w->layout == QV_LAYOUT_PLANES || w->ne[2] == 1 ? qv_texels_row_step(w) * (uint64_t)w->ne[1] : (uint64_t)w->nb[2];
}

static uint64_t experts_of_view(const qv_physical *physical, const qp_tensor *w)
{
    return qv_texels_most_bytes(physical, w) / expert_step(w);
}

static const char *weights_unfit(const qv_physical *physical, const qp_tensor *w)
{
    if (w->layout != QV_LAYOUT_PLANES && qv_has_planes(w->format))
        return "W is not packed";
    if (!qv_texels_begin_rows(w) || (w->layout != QV_LAYOUT_PLANES && expert_step(w) % QV_TEXEL))
        return "W has rows that do not start at multiples of 16 bytes";
    return experts_of_view(physical, w) ? NULL : "the matrix of one expert is larger than a view can be";
}

/* One token's experts as they are; else the route is sorted, and tiles are of several tokens if an expert is likely to have them.
 */
static uint32_t columns_of(const qp_op *op)
{
    return qv_experts_pairs(op) > (uint64_t)op->src[QP_EXPERT_MATMUL_W].ne[2] ? QV_TEXEL_TOKENS : 1;
}

static int is_sorted(const qp_op *op)
{
    return op->src[QP_EXPERT_MATMUL_ROUTE].ne[2] > 1;
}

static uint32_t groups_of(const qp_op *op)
{
    return is_sorted(op) ? qv_experts_tiles(op, columns_of(op)) : (uint32_t)qv_experts_pairs(op);
}

const char *qv_experts_texels_refuse(const qp_device *device, const qp_op *op)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *w2 = &op->src[QP_EXPERT_MATMUL_W2], *x = &op->src[QP_EXPERT_MATMUL_X];
    const char *why = qv_experts_unfit(op);
    if (why)
        return why;
    if (w->ne[0] % 32)
        return "K is no multiple of 32";
    why = weights_unfit(device->physical, w);
    if (!why && qv_present(w2))
        why = weights_unfit(device->physical, w2);
    if (why)
        return why;
    if ((x->offset | qv_stride(x, 1) | qv_stride(x, 2)) % QV_TEXEL)
        return "x has rows that do not start at multiples of 16 bytes";
    if (groups_of(op) > QV_MAX_GROUPS)
        return "there are more tokens than workgroups for them";
    return qv_texels_hold(device->physical, x) ? NULL : "x is longer than a view can be";
}

static uint64_t partial_bytes(const qp_op *op)
{
    uint64_t bytes = qv_experts_pairs(op) * (uint64_t)op->src[QP_EXPERT_MATMUL_W].ne[1] * sizeof(float);
    return qv_experts_are_summed(op) ? (bytes + 15) / 16 * 16 : 0;
}

uint64_t qv_experts_texels_scratch(const qp_device *device, const qp_op *op)
{
    (void)device;
    return partial_bytes(op) + (is_sorted(op) ? qv_experts_list_bytes(op, columns_of(op)) : 0);
}

/* ---- launch ---- */

typedef struct product {
    const qp_op *op;
    const qp_tensor *w, *x;
    struct qv_expert_texels_params push;
    struct qv_expert_matmul_params rare;
    uint64_t grid, work; /* from the start of all constants; of a row of W and a group */
    uint32_t groups;
} product;

/* Rows of W from push.first on, of some experts and groups. */
static qp_status dispatch(qv_plan *plan, product *p, uint32_t groups, qp_text *error)
{
    uint32_t lanes = plan->device->physical->lanes;
    uint64_t row = qv_texels_row_step(p->w), expert = expert_step(p->w);
    uint64_t offset = p->w->offset + p->push.first_expert * expert + p->push.first * row;
    uint64_t bytes = (p->push.end_expert - p->push.first_expert - 1) * expert + (p->push.m - 1) * row + qv_texels_row_bytes(p->w);
    qv_constants c = qv_make_constants(
        lanes, 3, (const uint32_t[][2]){{1, is_sorted(p->op) ? columns_of(p->op) : 1}, {3, QV_TEXEL_ROWS}, {4, lanes}});
    char name[48];
    void *memory = NULL;
    snprintf(name, sizeof name, "expert_matmul_texels_%s", qv_format_name(p->w->format));
    p->push.w = qv_texels_into_view(plan, offset);
    qp_status status = qv_plan_dispatch(plan, name, &c, &p->push, sizeof p->push, qv_groups(p->push.m, QV_TEXEL_ROWS), groups,
                                        p->work * p->push.m * groups, error);
    if (status)
        return status;
    qv_texels_see(plan, p->w, offset, bytes, p->x);
    status = qv_plan_constants(plan, offsetof(struct qv_expert_texels_params, rare), sizeof p->rare, &memory, error);
    if (status)
        return status;
    p->rare.grid = p->grid - plan->list[plan->count - 1].constant_offset;
    memcpy(memory, &p->rare, sizeof p->rare);
    return QP_OK;
}

/* Cut by what views hold, along M and, where the fewest rows are still too many, along groups. */
static qp_status dispatch_pieces(qv_plan *plan, product *p, qp_text *error)
{
    uint32_t m = (uint32_t)p->w->ne[1], experts = p->push.experts;
    uint64_t fit = experts_of_view(plan->device->physical, p->w);
    uint32_t most = fit < experts ? (uint32_t)fit : experts, step = qv_rows_at_once(plan->device, p->work * p->groups, m);
    fit = qv_items_at_once(plan->device, QP_OP_EXPERT_MATMUL, p->work * step);
    uint32_t group_step = fit < 1 ? 1 : fit < p->groups ? (uint32_t)fit : p->groups;
    qp_status status = QP_OK;
    for (uint32_t e = 0; e < experts && !status; e += most) {
        p->push.first_expert = e;
        p->push.end_expert = experts - e < most ? experts : e + most;
        for (uint32_t first = 0; first < m && !status; first += step) {
            p->push.first = first;
            p->push.m = m - first < step ? m - first : step;
            for (uint32_t at = 0; at < p->groups && !status; at += group_step) {
                p->push.first_group = at;
                status = dispatch(plan, p, p->groups - at < group_step ? p->groups - at : group_step, error);
            }
        }
    }
    return status;
}

/* One matrix of each expert; the second multiplies what the first left. */
static qp_status launch_half(qv_plan *plan, product *p, int second, qp_text *error)
{
    qv_expert_product grid = {0};
    p->w = &p->op->src[second ? QP_EXPERT_MATMUL_W2 : QP_EXPERT_MATMUL_W];
    if (second) {
        p->rare.bias = p->rare.bias2;
        p->rare.bias_expert = p->rare.bias2_expert;
    }
    p->push.part = second ? 2 : qv_experts_are_gated(p->op) ? 1 : 0;
    p->push.has = (p->rare.bias ? QV_HAS_BIAS : 0) | (p->rare.scales ? QV_HAS_SCALES : 0);
    p->push.w_row = (uint32_t)qv_texels_row_step(p->w);
    p->push.w_expert = (uint32_t)expert_step(p->w);
    qp_status status = qv_experts_find_grid(plan, p->w->format, &grid, error);
    p->grid = grid.grid;
    return status ? status : dispatch_pieces(plan, p, error);
}

qp_status qv_experts_texels_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    product p = {.op = op, .x = &op->src[QP_EXPERT_MATMUL_X], .rare = qv_experts_params_of(op), .groups = groups_of(op)};
    struct qv_expert_matmul_params *from = &p.rare;
    uint64_t scratch = qv_experts_texels_scratch(plan->device, op) ? qv_plan_scratch(plan) : 0;
    uint32_t m = (uint32_t)op->src[QP_EXPERT_MATMUL_W].ne[1];
    int summed = qv_experts_are_summed(op);
    qp_status status = QP_OK;
    if (is_sorted(op))
        status = qv_experts_sort(plan, op, columns_of(op), scratch + partial_bytes(op), from, error);
    p.work = (uint64_t)from->k * qv_experts_pairs(op) / p.groups;
    p.push = (struct qv_expert_texels_params){.tiles = from->tiles,
                                              .list = is_sorted(op) ? from->list : from->route + from->route_head,
                                              .dst = summed ? scratch : from->dst,
                                              .live = from->live,
                                              .k = from->k,
                                              .x = qv_texels_into_view(plan, p.x->offset) / QV_TEXEL,
                                              .x_head = from->x_head / QV_TEXEL,
                                              .x_row = from->x_row / QV_TEXEL,
                                              .chosen = from->chosen,
                                              .experts = from->experts,
                                              .dst_head = summed ? 4 * m : from->dst_head,
                                              .dst_row = summed ? 4 * m * from->chosen : from->dst_row,
                                              .act = from->act};
    if (!status)
        status = launch_half(plan, &p, 0, error);
    if (!status && qv_experts_are_gated(op)) {
        qv_plan_wait(plan);
        status = launch_half(plan, &p, 1, error);
    }
    return status || !summed ? status : qv_experts_add_up(plan, op, scratch, error);
}
