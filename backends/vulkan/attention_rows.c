/* SPDX-License-Identifier: MIT
 * Attention of few queries to a KV head on GPUs: attention_rows.comp. Teams are as large as a cell's row has pieces of eight
 * features, and tiles as many queries as registers are likely to hold beside the loads that are under way. */
#include "backends/vulkan/attention.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/matmul.h"

enum {
    PIECE = 8, /* as in attention_rows.comp */
    LEAST_TEAM = 8,
    MOST_TEAM = 32,
    MOST_SUBGROUPS = 4,
    MOST_QUERIES = 8,
    MOST_FEATURES = 64, /* of all queries of a tile, to an invocation */
    MOST_SLICE = 512,
    SPARE_FEATURES = 16, /* of such, that leave room for twice as many loads under way */
    FEW = 32,            /* queries to a KV head: of more, other kernels read less from memory */
};

typedef struct shape {
    uint32_t lanes, team, subgroups;
    uint32_t k_pieces, v_pieces; /* to an invocation */
    qv_attention_kernel kernel;
} shape;

static uint32_t team_of(uint64_t features, uint32_t lanes)
{
    uint32_t team = LEAST_TEAM;
    while (team * PIECE < features && 2 * team <= lanes && 2 * team <= MOST_TEAM)
        team *= 2;
    return team;
}

/* Of subgroups of so many invocations, of which a device may have less to a workgroup. */
static shape choose(const qp_device *device, const qp_op *op)
{
    uint64_t k_size = (uint64_t)op->src[QP_ATTENTION_K].ne[0], v_size = (uint64_t)op->src[QP_ATTENTION_V].ne[0];
    uint64_t slice = v_size < MOST_SLICE ? v_size : MOST_SLICE;
    shape s = {.lanes = device->physical->team};
    s.team = team_of(k_size > slice ? k_size : slice, s.lanes);
    s.subgroups = qv_group_of(device, MOST_SUBGROUPS * s.lanes) / s.lanes;
    s.k_pieces = (uint32_t)qv_groups(k_size, s.team * PIECE);
    s.v_pieces = (uint32_t)qv_groups(slice, s.team * PIECE);
    uint32_t features = PIECE * (s.k_pieces > s.v_pieces ? s.k_pieces : s.v_pieces), queries = MOST_QUERIES;
    while (queries > 1 && queries * features > MOST_FEATURES)
        queries /= 2;
    uint32_t whole = s.team * PIECE * s.v_pieces;
    s.kernel = (qv_attention_kernel){"attention_rows", queries, whole, whole, 1};
    return s;
}

const char *qv_attention_rows_lacks(const qv_physical *physical)
{
    if (!physical->has_shuffle)
        return "subgroups cannot hand values to any of theirs";
    return physical->team >= LEAST_TEAM ? NULL : "the driver does not tell the size of its subgroups";
}

const char *qv_attention_rows_refuses(const qp_device *device, const qp_op *op)
{
    const qp_tensor *q = &op->src[QP_ATTENTION_Q], *k = &op->src[QP_ATTENTION_K];
    shape s = choose(device, op);
    if (s.subgroups == 0)
        return "a subgroup is larger than a workgroup may be";
    if (PIECE * s.k_pieces > 2 * MOST_FEATURES)
        return "its keys are longer than registers hold";
    if (qv_matmul_is_asked_for(device, "rows"))
        return NULL;
    if (device->physical->lanes)
        return "subgroups are of 8 or 16 only";
    return q->ne[2] * (q->ne[1] / k->ne[1]) > FEW ? "more than 32 queries share a KV head" : NULL;
}

uint64_t qv_attention_rows_scratch(const qp_device *device, const qp_op *op)
{
    shape s = choose(device, op);
    return qv_attention_scratch(device, op, &s.kernel);
}

qp_status qv_attention_rows_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *q = &op->src[QP_ATTENTION_Q], *k = &op->src[QP_ATTENTION_K], *v = &op->src[QP_ATTENTION_V];
    shape s = choose(plan->device, op);
    qv_attention_cut c = qv_attention_cut_up(plan->device, op, &s.kernel);
    uint32_t features = PIECE * (s.k_pieces > s.v_pieces ? s.k_pieces : s.v_pieces), queries = c.rows * c.heads;
    uint32_t wide = qv_attention_is_wide(k, 16, PIECE) | qv_attention_is_wide(v, 16, PIECE) << 1;
    if (qv_attention_is_wide(q, 16, 4))
        wide |= 4;
    qv_constants constants = qv_make_constants(s.subgroups * s.lanes, 11,
                                               (const uint32_t[][2]){{1, k->format},
                                                                     {2, v->format},
                                                                     {3, queries},
                                                                     {4, s.lanes},
                                                                     {5, s.team},
                                                                     {6, s.k_pieces},
                                                                     {7, s.v_pieces},
                                                                     {8, s.subgroups},
                                                                     {9, wide},
                                                                     {10, c.rows > 1},
                                                                     {11, queries * features > SPARE_FEATURES ? 2 : 4}});
    constants.subgroup = s.lanes;
    return qv_attention_launch(plan, op, &s.kernel, &c, &constants, error);
}
