/* SPDX-License-Identifier: MIT
 * Ops that move and convert: copy, KV append, rows of a table. */
#include "backends/vulkan/ops.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/weights.h"
#include "kernels/common/formats.h"
#include "kernels/vulkan/params.h"

#include <stdio.h>
#include <string.h>

/* Formats that kernels/vulkan/convert.glsl reads and writes. */
static int converts(qp_format format)
{
    return format == QP_FORMAT_F32 || format == QP_FORMAT_F16 || format == QP_FORMAT_BF16 || format == QP_FORMAT_Q8_0 ||
           format == QP_FORMAT_Q4_0;
}

static qp_status check_pair(const qp_tensor *src, const qp_tensor *dst, qp_op_info *info, const char *name, qp_text *reason)
{
    if (src->format != dst->format && (!converts(src->format) || !converts(dst->format)))
        return qv_fail(reason, QP_ERR_UNSUPPORTED,
                       "%s is not converted to %s here: F32, F16, BF16, Q8_0 and Q4_0 are, each to each",
                       qv_format_name(src->format), qv_format_name(dst->format));
    snprintf(info->kernel, sizeof info->kernel, "%s_%s_%s", name, qv_format_name(src->format), qv_format_name(dst->format));
    return QP_OK;
}

/* One dispatch of rows, those of index i3 in the last dimension. */
static qp_status launch_rows(qv_plan *plan, const qp_op *op, const qp_tensor *cells, int64_t i3, qp_text *error)
{
    const qp_tensor *src = &op->src[0], *dst = &op->dst;
    int same = src->format == dst->format;
    uint32_t src_block = qk_block_elements(src->format), dst_block = qk_block_elements(dst->format);
    uint32_t unit = same ? src_block : src_block > dst_block ? src_block : dst_block;
    struct qv_copy_params p = {.src = qv_address(src) + (uint64_t)(i3 * src->nb[3]),
                               .dst = qv_address(dst) + (uint64_t)(i3 * dst->nb[3]),
                               .live = qv_address(&op->live),
                               .cells = cells ? qv_address(cells) : 0,
                               .n = (uint32_t)(src->ne[0] / unit),
                               .heads = (uint32_t)src->ne[1],
                               .rows = (uint32_t)src->ne[2],
                               .dst_rows = (uint32_t)dst->ne[2],
                               .src_block = (uint32_t)src->nb[0],
                               .src_head = qv_stride(src, 1),
                               .src_row = qv_stride(src, 2),
                               .dst_block = (uint32_t)dst->nb[0],
                               .dst_head = qv_stride(dst, 1),
                               .dst_row = qv_stride(dst, 2)};
    qv_constants c = qv_make_constants(
        QV_GROUP, 3, (const uint32_t[][2]){{1, src->format}, {2, dst->format}, {3, same ? qk_block_bytes(src->format) : 0}});
    uint64_t items = (uint64_t)p.heads * p.rows;
    return qv_plan_dispatch(plan, "copy", &c, &p, sizeof p, qv_groups(p.n, QV_GROUP), items, items * p.n * unit, error);
}

/* ---- copy ---- */

static qp_status check_copy(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    if (memcmp(op->src[0].ne, op->dst.ne, sizeof op->dst.ne) != 0)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "source and destination differ in shape");
    if (op->dst.ne[3] > 64)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "it has %lld in the last dimension; 64 are served", (long long)op->dst.ne[3]);
    if (op->p.copy.search && op->dst.format != op->src[0].format && qk_block_elements(op->dst.format) > 1 &&
        op->dst.format != QP_FORMAT_Q8_0)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "there is no search for the scales of %s here: the CPU has one",
                       qv_format_name(op->dst.format));
    return check_pair(&op->src[0], &op->dst, info, "copy", reason);
}

static qp_status launch_copy(qv_plan *plan, const qp_op *op, qp_text *error)
{
    qp_status status = QP_OK;
    for (int64_t i3 = 0; i3 < op->dst.ne[3] && !status; i3++)
        status = launch_rows(plan, op, NULL, i3, error);
    return status;
}

const qv_op_row qv_copy_row = {.kind = QP_OP_COPY,
                               .name = "copy",
                               .sources = {"the source"},
                               .required = 1,
                               .check = check_copy,
                               .variants = QV_VARIANTS(QV_PLAIN(launch_copy))};

/* ---- KV append ---- */

static qp_status check_kv_append(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *x = &op->src[QP_KV_APPEND_X];
    qp_status status = qv_need_floats(x, "x", x->ne[0], x->ne[1], x->ne[2], reason);
    if (!status)
        status = qv_need_shape(&op->dst, "the cache", x->ne[0], x->ne[1], op->dst.ne[2], reason);
    if (!status)
        status = qv_need_numbers(&op->src[QP_KV_APPEND_CELLS], "the cells", x->ne[2], reason);
    return status ? status : check_pair(x, &op->dst, info, "kv_append", reason);
}

static qp_status launch_kv_append(qv_plan *plan, const qp_op *op, qp_text *error)
{
    return launch_rows(plan, op, &op->src[QP_KV_APPEND_CELLS], 0, error);
}

const qv_op_row qv_kv_append_row = {.kind = QP_OP_KV_APPEND,
                                    .name = "kv_append",
                                    .sources = {"x", "the cells"},
                                    .required = 1u << QP_KV_APPEND_X | 1u << QP_KV_APPEND_CELLS,
                                    .check = check_kv_append,
                                    .variants = QV_VARIANTS(QV_PLAIN(launch_kv_append))};

/* ---- rows of a table ---- */

static qp_status check_get_rows(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *table = &op->src[QP_GET_ROWS_TABLE], *dst = &op->dst;
    if (!qv_is_weight_format(table->format))
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "there is no kernel for tables in %s yet", qv_format_name(table->format));
    qp_status status = qv_need_floats(dst, "dst", dst->ne[0], 1, dst->ne[2], reason);
    if (!status)
        status = qv_need_shape(table, "the table", dst->ne[0], table->ne[1], 1, reason);
    snprintf(info->kernel, sizeof info->kernel, "get_rows_%s", qv_format_name(table->format));
    return status ? status : qv_need_numbers(&op->src[QP_GET_ROWS_IDS], "the ids", dst->ne[2], reason);
}

static qp_status launch_get_rows(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *table = &op->src[QP_GET_ROWS_TABLE], *dst = &op->dst;
    int planes = table->layout == QV_LAYOUT_PLANES;
    struct qv_get_rows_params p = {.table = qv_address(table),
                                   .ids = qv_address(&op->src[QP_GET_ROWS_IDS]),
                                   .dst = qv_address(dst),
                                   .live = qv_address(&op->live),
                                   .table_row =
                                       planes ? qv_weight_row(table->format, table->layout, table->ne[0]) : (uint64_t)table->nb[1],
                                   .n = (uint32_t)dst->ne[0],
                                   .rows = (uint32_t)dst->ne[2],
                                   .table_rows = (uint32_t)table->ne[1],
                                   .dst_row = qv_stride(dst, 2),
                                   .scale = op->p.get_rows.scale};
    char name[48];
    snprintf(name, sizeof name, "get_rows_%s", qv_format_name(table->format));
    qv_constants c = qv_make_constants(QV_GROUP, 1, (const uint32_t[][2]){{10, (uint32_t)planes}});
    uint32_t unit = qv_has_planes(table->format) ? 32 : 1;
    qp_status status =
        qv_plan_dispatch(plan, name, &c, &p, sizeof p, qv_groups(p.n / unit, QV_GROUP), p.rows, (uint64_t)p.n * p.rows, error);
    return status ? status : qv_attach_grid(plan, table->format, offsetof(struct qv_get_rows_params, grid), error);
}

const qv_op_row qv_get_rows_row = {.kind = QP_OP_GET_ROWS,
                                   .name = "get_rows",
                                   .sources = {"the table", "the ids"},
                                   .required = 1u << QP_GET_ROWS_TABLE | 1u << QP_GET_ROWS_IDS,
                                   .weights = 1u << QP_GET_ROWS_TABLE,
                                   .check = check_get_rows,
                                   .variants = QV_VARIANTS(QV_PLAIN(launch_get_rows))};
