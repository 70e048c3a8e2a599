/* SPDX-License-Identifier: MIT
 * Ops that move rows and convert them: rows of a table, new cells of the KV cache, copies. */
#include "backends/cpu/ops.h"
#include "backends/cpu/status.h"
#include "kernels/common/quantise.h"

#include <stdio.h>
#include <string.h>

enum { MAX_BLOCK = 256, CHUNK = 1024 }; /* elements of the largest block; converted at a time */

static int can_read(const qp_device *device, qp_format format)
{
    return device->reference ? qc_reference_has(format) : device->kernels.to_f32[format] != NULL;
}

static int can_write(const qp_device *device, qp_format format)
{
    return device->reference ? qc_reference_makes(format) : device->kernels.from_f32[format] != NULL;
}

/* ---- GET_ROWS ------------------------------------------------------------------------------------------------------ */

static qp_status check_get_rows(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *table = &op->src[QP_GET_ROWS_TABLE];
    qp_status status = qc_need_format(&op->dst, "dst", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_shape(&op->dst, "dst", table->ne[0], 1, op->dst.ne[2], reason);
    if (!status)
        status = qc_need_shape(table, "the table", table->ne[0], table->ne[1], 1, reason);
    if (!status)
        status = qc_need_index(&op->src[QP_GET_ROWS_IDS], "ids", op->dst.ne[2], reason);
    if (status)
        return status;
    int panels = table->layout == QK_LAYOUT_PANEL;
    if (panels ? device->reference : !can_read(device, table->format))
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "rows of %s%s cannot be read", qc_format_name(table->format),
                       panels ? " panels" : "");
    qc_name_kernel(info, "get_rows", qc_format_name(table->format), panels ? "generic" : device->kernels.to_f32_isa[table->format]);
    info->bytes_moved =
        (uint64_t)op->dst.ne[2] * (qc_row_bytes(table->format, table->ne[0]) + qc_row_bytes(QP_FORMAT_F32, table->ne[0]));
    return QP_OK;
}

static void run_get_rows(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)live;
    (void)work;
    const qc_get_rows_node *u = &node->u.get_rows;
    for (int64_t r = begin; r < end; r++) {
        int64_t id = u->ids[r];
        float *to = qc_row_at(&u->dst, 0, r);
        if (id < 0 || id >= u->count) {
            memset(to, 0, (size_t)u->n * sizeof *to);
            continue;
        }
        if (u->packed)
            qk_panel_row(u->format, to, u->table, u->n, id);
        else
            node->kernels->to_f32[u->format](to, u->table + id * u->stride, u->n);
        for (int64_t i = 0; i < u->n && u->scale != 1; i++)
            to[i] *= u->scale;
    }
}

static qp_status launch_get_rows(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)error;
    static const qc_kind kind = {run_get_rows, NULL};
    const qk_tensor *table = &r->src[QP_GET_ROWS_TABLE];
    qc_node *node = qc_node_begin(b, &kind, r->dst.ne[2], 1);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    node->u.get_rows = (qc_get_rows_node){.table = table->data,
                                          .stride = table->nb[1],
                                          .count = table->ne[1],
                                          .n = table->ne[0],
                                          .format = table->format,
                                          .packed = table->layout == QK_LAYOUT_PANEL,
                                          .scale = op->p.get_rows.scale,
                                          .ids = r->src[QP_GET_ROWS_IDS].data,
                                          .dst = qc_rows_of(&r->dst)};
    node->grain = qc_row_grain(qc_build_get(b)->device, r->dst.ne[2]);
    qc_node_touches_all(b, table, 0);
    qc_node_reads(b, &r->src[QP_GET_ROWS_IDS]);
    qc_node_writes(b, &r->dst);
    return qc_node_end(b);
}

static const char *const get_rows_sources[] = {"the table", "ids"};
const qc_op_row qc_get_rows_row = {.kind = QP_OP_GET_ROWS,
                                   .name = "get_rows",
                                   .sources = get_rows_sources,
                                   .required = 1u << QP_GET_ROWS_TABLE | 1u << QP_GET_ROWS_IDS,
                                   .packed = 1u << QP_GET_ROWS_TABLE,
                                   .check = check_get_rows,
                                   .launch = launch_get_rows};

/* ---- KV_APPEND ----------------------------------------------------------------------------------------------------- */

static qp_status check_kv_append(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *x = &op->src[QP_KV_APPEND_X];
    qp_status status = qc_need_format(x, "x", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_shape(x, "x", op->dst.ne[0], op->dst.ne[1], x->ne[2], reason);
    if (!status)
        status = qc_need_shape(&op->dst, "the cache", x->ne[0], x->ne[1], op->dst.ne[2], reason);
    if (!status)
        status = qc_need_index(&op->src[QP_KV_APPEND_CELLS], "cells", x->ne[2], reason);
    if (status)
        return status;
    qp_format format = op->dst.format;
    int known = format == QP_FORMAT_F32 || format == QP_FORMAT_F16 || format == QP_FORMAT_BF16 || format == QP_FORMAT_Q8_0;
    if (!known || !can_write(device, format))
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "the cache is %s; f32, f16, bf16 and q8_0 are served", qc_format_name(format));
    qc_name_kernel(info, "kv_append", qc_format_name(format), device->kernels.isa);
    info->bytes_moved = (uint64_t)(x->ne[1] * x->ne[2]) * (qc_row_bytes(QP_FORMAT_F32, x->ne[0]) + qc_row_bytes(format, x->ne[0]));
    return QP_OK;
}

static void run_kv_append(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)live;
    (void)work;
    const qc_kv_append_node *u = &node->u.kv_append;
    for (int64_t r = begin; r < end; r++) {
        int64_t cell = u->slots[r];
        if (cell < 0 || cell >= u->cells)
            continue;
        for (int64_t h = 0; h < u->heads; h++)
            node->kernels->from_f32[u->format](u->cache + h * u->cache_head + cell * u->cache_cell, qc_row_at(&u->x, h, r), u->n);
    }
}

static qp_status launch_kv_append(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)op;
    (void)error;
    static const qc_kind kind = {run_kv_append, NULL};
    const qk_tensor *x = &r->src[QP_KV_APPEND_X];
    qc_node *node = qc_node_begin(b, &kind, x->ne[2], 1);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    node->u.kv_append = (qc_kv_append_node){.x = qc_rows_of(x),
                                            .cache = r->dst.data,
                                            .cache_head = r->dst.nb[1],
                                            .cache_cell = r->dst.nb[2],
                                            .n = x->ne[0],
                                            .heads = x->ne[1],
                                            .cells = r->dst.ne[2],
                                            .format = r->dst.format,
                                            .slots = r->src[QP_KV_APPEND_CELLS].data};
    node->grain = qc_row_grain(qc_build_get(b)->device, x->ne[2]);
    qc_node_reads(b, x);
    qc_node_reads(b, &r->src[QP_KV_APPEND_CELLS]);
    qc_node_touches_all(b, &r->dst, 1);
    return qc_node_end(b);
}

static const char *const kv_append_sources[] = {"x", "cells"};
const qc_op_row qc_kv_append_row = {.kind = QP_OP_KV_APPEND,
                                    .name = "kv_append",
                                    .sources = kv_append_sources,
                                    .required = 1u << QP_KV_APPEND_X | 1u << QP_KV_APPEND_CELLS,
                                    .check = check_kv_append,
                                    .launch = launch_kv_append};

/* ---- COPY ---------------------------------------------------------------------------------------------------------- */

static qp_status check_copy(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *src = &op->src[0], *dst = &op->dst;
    if (memcmp(src->ne, dst->ne, sizeof src->ne))
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "x is %s and dst is %s; a copy keeps the shape", qc_shape_words(src).text,
                       qc_shape_words(dst).text);
    int writes = can_write(device, dst->format) || (op->p.copy.search && qk_encoder(dst->format));
    if (src->format != dst->format && (!can_read(device, src->format) || !writes))
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "there is no conversion from %s to %s%s", qc_format_name(src->format),
                       qc_format_name(dst->format), qk_encoder(dst->format) ? " without a search for scales" : "");
    char formats[48];
    snprintf(formats, sizeof formats, "%s_%s%s", qc_format_name(src->format), qc_format_name(dst->format),
             op->p.copy.search && qk_encoder(dst->format) ? "_search" : "");
    qc_name_kernel(info, "copy", formats, device->kernels.isa);
    return QP_OK;
}

/* count blocks of `bytes` bytes; the strides say how far apart they lie on either side. */
static void move_blocks(char *to, int64_t to_stride, const char *from, int64_t from_stride, int64_t count, int64_t bytes)
{
    if (to_stride == bytes && from_stride == bytes) {
        memmove(to, from, (size_t)(count * bytes));
        return;
    }
    for (int64_t i = 0; i < count; i++)
        memcpy(to + i * to_stride, from + i * from_stride, (size_t)bytes);
}

/* n elements, whole blocks. */
static void write_blocks(const qc_node *node, char *to, const float *from, int64_t n)
{
    const qc_copy_node *u = &node->u.copy;
    if (!u->encode) {
        node->kernels->from_f32[u->to](to, from, n);
        return;
    }
    int64_t elements = qk_block_elements(u->to), bytes = qk_block_bytes(u->to);
    for (int64_t i = 0; i < n; i += elements, to += bytes)
        u->encode(&node->kernels->search, from + i, to);
}

/* Through floats, a chunk of whole blocks of both formats at a time. */
static void convert_row(const qc_node *node, char *to, const char *from)
{
    const qc_copy_node *u = &node->u.copy;
    float floats[CHUNK];
    _Alignas(8) char blocks[CHUNK * 8];
    int64_t from_elements = qk_block_elements(u->from), from_bytes = qk_block_bytes(u->from);
    int64_t to_elements = qk_block_elements(u->to), to_bytes = qk_block_bytes(u->to);
    for (int64_t i = 0; i < u->ne[0]; i += CHUNK) {
        int64_t n = u->ne[0] - i < CHUNK ? u->ne[0] - i : CHUNK;
        const char *source = from + i / from_elements * u->src_nb[0];
        char *target = to + i / to_elements * u->dst_nb[0];
        if (u->src_nb[0] != from_bytes) {
            move_blocks(blocks, from_bytes, source, u->src_nb[0], n / from_elements, from_bytes);
            source = blocks;
        }
        node->kernels->to_f32[u->from](floats, source, n);
        write_blocks(node, u->dst_nb[0] == to_bytes ? target : blocks, floats, n);
        if (u->dst_nb[0] != to_bytes)
            move_blocks(target, u->dst_nb[0], blocks, to_bytes, n / to_elements, to_bytes);
    }
}

static int64_t copy_units(const qc_node *node, int64_t live)
{
    const qc_copy_node *u = &node->u.copy;
    return u->ne[1] * live * u->ne[3];
}

static void run_copy(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)work;
    const qc_copy_node *u = &node->u.copy;
    for (int64_t i = begin; i < end; i++) {
        int64_t i1 = i % u->ne[1], i2 = i / u->ne[1] % live, i3 = i / u->ne[1] / live;
        const char *from = u->src + i1 * u->src_nb[1] + i2 * u->src_nb[2] + i3 * u->src_nb[3];
        char *to = u->dst + i1 * u->dst_nb[1] + i2 * u->dst_nb[2] + i3 * u->dst_nb[3];
        if (u->from == u->to)
            move_blocks(to, u->dst_nb[0], from, u->src_nb[0], u->ne[0] / qk_block_elements(u->from), qk_block_bytes(u->from));
        else
            convert_row(node, to, from);
    }
}

static qp_status launch_copy(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)error;
    enum { GRAIN_ELEMENTS = 16384 };
    static const qc_kind kind = {run_copy, copy_units};
    const qk_tensor *src = &r->src[0];
    qc_node *node = qc_node_begin(b, &kind, r->dst.ne[2], 0);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    qc_copy_node *u = &node->u.copy;
    *u = (qc_copy_node){.src = src->data, .dst = r->dst.data, .from = src->format, .to = r->dst.format};
    u->encode = op->p.copy.search ? qk_encoder(r->dst.format) : NULL;
    memcpy(u->ne, r->dst.ne, sizeof u->ne);
    memcpy(u->src_nb, src->nb, sizeof u->src_nb);
    memcpy(u->dst_nb, r->dst.nb, sizeof u->dst_nb);
    node->grain = r->dst.ne[0] < GRAIN_ELEMENTS ? GRAIN_ELEMENTS / r->dst.ne[0] : 1;
    qc_node_touches_all(b, src, 0);
    qc_node_touches_all(b, &r->dst, 1);
    return qc_node_end(b);
}

static const char *const copy_sources[] = {"x"};
const qc_op_row qc_copy_row = {.kind = QP_OP_COPY,
                               .name = "copy",
                               .sources = copy_sources,
                               .required = 1,
                               .strided = 1 | QC_STRIDED_DST,
                               .check = check_copy,
                               .launch = launch_copy};
