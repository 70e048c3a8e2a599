/* SPDX-License-Identifier: MIT
 * backends/vulkan/experts.h: what the variants of a product of experts share: its parameters, its dispatches; and the variants for
 * GPUs. */
#ifndef QUERN_BACKENDS_VULKAN_EXPERTS_H
#define QUERN_BACKENDS_VULKAN_EXPERTS_H

#include "backends/vulkan/ops.h"
#include "kernels/vulkan/params.h"

/* What one launch is made of. */
typedef struct qv_expert_product {
    char name[48];
    qv_constants constants;
    struct qv_expert_matmul_params params;
    uint64_t grid;       /* where points of grids lie, from the start of all constants: qv_experts_find_grid */
    uint64_t work;       /* of one row of W and one item */
    uint32_t group_rows; /* of W, that a workgroup takes */
    uint32_t groups;     /* of workgroups beside each other; 0: as many as items */
} qv_expert_product;

/* Of a checked op with buffers. */
struct qv_expert_matmul_params qv_experts_params_of(const qp_op *op);

qp_status qv_experts_find_grid(qv_plan *plan, qp_format format, qv_expert_product *p, qp_text *error);

/* Dispatches for all rows of W and so many items (qv_expert_matmul_push), cut as submissions must be: along M and, where the fewest
 * rows of W are still too many for all items, along those. */
qp_status qv_experts_dispatch(qv_plan *plan, qv_expert_product *p, uint32_t m, uint32_t items, qp_text *error);

/* After all others: adds up what they left at `partials`, {M, chosen, rows} floats. */
qp_status qv_experts_add_up(qv_plan *plan, const qp_op *op, uint64_t partials, qp_text *error);

static inline int qv_experts_are_gated(const qp_op *op)
{
    return qv_present(&op->src[QP_EXPERT_MATMUL_W2]);
}

static inline int qv_experts_are_summed(const qp_op *op)
{
    return (op->p.expert_matmul.flags & QP_EXPERT_SUM) != 0;
}

/* Pairs of a token and one of its experts. */
static inline uint64_t qv_experts_pairs(const qp_op *op)
{
    const qp_tensor *route = &op->src[QP_EXPERT_MATMUL_ROUTE];
    return (uint64_t)route->ne[0] * (uint64_t)route->ne[2];
}

/* ---- the route sorted by expert, for variants that take several tokens of one (kernels/vulkan/expert_group.comp) ---- */

enum { QV_MOST_EXPERTS = 1023 }; /* of that kernel */

/* Tiles of so many pairs at most: how many there may be. */
uint32_t qv_experts_tiles(const qp_op *op, uint32_t columns);

/* Bytes of scratch memory for it, whole units of 16. */
uint64_t qv_experts_list_bytes(const qp_op *op, uint32_t columns);

/* The dispatch that sorts into scratch memory at `to`; the product finds it there. */
qp_status qv_experts_sort(qv_plan *plan, const qp_op *op, uint32_t columns, uint64_t to, struct qv_expert_matmul_params *p,
                          qp_text *error);

/* Why no kernel takes the op that sorts, or keeps results in scratch memory; NULL: they do. */
const char *qv_experts_unfit(const qp_op *op);

/* ---- ops_experts_texels.c ---- */

const char *qv_experts_texels_refuse(const qp_device *device, const qp_op *op);
uint64_t qv_experts_texels_scratch(const qp_device *device, const qp_op *op);
qp_status qv_experts_texels_launch(qv_plan *plan, const qp_op *op, qp_text *error);

/* ---- experts_grouped.c: as matmul_rows.c and matmul_tiles.c ---- */

const char *qv_experts_rows_refuse(const qp_device *device, const qp_op *op);
uint64_t qv_experts_rows_scratch(const qp_device *device, const qp_op *op);
qp_status qv_experts_rows_launch(qv_plan *plan, const qp_op *op, qp_text *error);

const char *qv_experts_dot_refuses(const qp_device *device, const qp_op *op);
uint64_t qv_experts_dot_scratch(const qp_device *device, const qp_op *op);
qp_status qv_experts_dot_launch(qv_plan *plan, const qp_op *op, qp_text *error);

const char *qv_experts_tiles_refuse(const qp_device *device, const qp_op *op);
uint64_t qv_experts_tiles_scratch(const qp_device *device, const qp_op *op);
qp_status qv_experts_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error);

const char *qv_experts_dot_tiles_refuse(const qp_device *device, const qp_op *op);
uint64_t qv_experts_dot_tiles_scratch(const qp_device *device, const qp_op *op);
qp_status qv_experts_dot_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error);

#endif
