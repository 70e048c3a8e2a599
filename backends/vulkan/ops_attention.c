/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/ops.h"
#include "backends/vulkan/status.h"
#include "kernels/common/formats.h"
#include "kernels/vulkan/params.h"

#include <stdio.h>

enum { MAX_SIZE = 1024 }; /* features of a value: QV_GROUP invocations keep 16 each */

static int is_cache_format(qp_format format)
{
    return format == QP_FORMAT_F32 || format == QP_FORMAT_F16 || format == QP_FORMAT_BF16 || format == QP_FORMAT_Q8_0 ||
           format == QP_FORMAT_Q4_0;
}

static qp_status check_caches(const qp_tensor *k, const qp_tensor *v, qp_text *reason)
{
    if (!is_cache_format(k->format))
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "the K cache is %s; F32, F16, BF16, Q8_0 and Q4_0 are served",
                       qv_format_name(k->format));
    if (v->format != k->format)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "the K cache is %s and the V cache %s; only caches of one format are served",
                       qv_format_name(k->format), qv_format_name(v->format));
    if (v->ne[0] > MAX_SIZE)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "values have %lld features; up to %d are served", (long long)v->ne[0], MAX_SIZE);
    return qv_need_shape(v, "the V cache", v->ne[0], k->ne[1], k->ne[2], reason);
}

static qp_status check_attention(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *q = &op->src[QP_ATTENTION_Q], *k = &op->src[QP_ATTENTION_K], *v = &op->src[QP_ATTENTION_V];
    qp_status status = qv_need_floats(q, "q", q->ne[0], q->ne[1], q->ne[2], reason);
    if (!status)
        status = qv_need_shape(k, "the K cache", q->ne[0], k->ne[1], k->ne[2], reason);
    if (!status)
        status = check_caches(k, v, reason);
    if (!status && q->ne[1] % k->ne[1])
        status = qv_fail(reason, QP_ERR_UNSUPPORTED, "%lld query heads cannot share %lld KV heads evenly", (long long)q->ne[1],
                         (long long)k->ne[1]);
    if (!status)
        status = qv_need_floats(&op->dst, "dst", v->ne[0], q->ne[1], q->ne[2], reason);
    if (!status)
        status = qv_need_numbers(&op->src[QP_ATTENTION_POSITIONS], "the positions", q->ne[2], reason);
    info->operations = 2 * (uint64_t)(k->ne[0] + v->ne[0]) * (uint64_t)k->ne[2] * (uint64_t)q->ne[1] * (uint64_t)q->ne[2];
    snprintf(info->kernel, sizeof info->kernel, "attention_%s", qv_format_name(k->format));
    return status ? status : qv_need_vector(&op->src[QP_ATTENTION_SINKS], "the sinks", q->ne[1], reason);
}

static qp_status launch_attention(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *q = &op->src[QP_ATTENTION_Q], *k = &op->src[QP_ATTENTION_K], *v = &op->src[QP_ATTENTION_V], *dst = &op->dst;
    struct qv_attention_params p = {.q = qv_address(q),
                                    .k = qv_address(k),
                                    .v = qv_address(v),
                                    .positions = qv_address(&op->src[QP_ATTENTION_POSITIONS]),
                                    .sinks = qv_address(&op->src[QP_ATTENTION_SINKS]),
                                    .dst = qv_address(dst),
                                    .live = qv_address(&op->live),
                                    .k_size = (uint32_t)k->ne[0],
                                    .v_size = (uint32_t)v->ne[0],
                                    .heads = (uint32_t)q->ne[1],
                                    .group = (uint32_t)(q->ne[1] / k->ne[1]),
                                    .cells = (uint32_t)k->ne[2],
                                    .rows = (uint32_t)q->ne[2],
                                    .q_head = qv_stride(q, 1),
                                    .q_row = qv_stride(q, 2),
                                    .k_head = qv_stride(k, 1),
                                    .k_cell = qv_stride(k, 2),
                                    .v_head = qv_stride(v, 1),
                                    .v_cell = qv_stride(v, 2),
                                    .dst_head = qv_stride(dst, 1),
                                    .dst_row = qv_stride(dst, 2),
                                    .scale = op->p.attention.scale,
                                    .softcap = op->p.attention.softcap,
                                    .window = op->p.attention.window};
    qv_constants c = qv_make_constants(
        QV_GROUP, 3,
        (const uint32_t[][2]){{1, k->format}, {2, qk_block_bytes(k->format)}, {3, (uint32_t)qv_groups(p.v_size, QV_GROUP)}});
    uint64_t items = (uint64_t)p.heads * p.rows;
    return qv_plan_dispatch(plan, "attention", &c, &p, sizeof p, items, 1, items * p.cells * (p.k_size + p.v_size) / 2, error);
}

const qv_op_row qv_attention_row = {.kind = QP_OP_ATTENTION,
                                    .name = "attention",
                                    .sources = {"q", "the K cache", "the V cache", "the positions", "the sinks"},
                                    .required = 1u << QP_ATTENTION_Q | 1u << QP_ATTENTION_K | 1u << QP_ATTENTION_V |
                                                1u << QP_ATTENTION_POSITIONS,
                                    .optional = 1u << QP_ATTENTION_SINKS,
                                    .check = check_attention,
                                    .variants = QV_VARIANTS(QV_PLAIN(launch_attention))};
