/* SPDX-License-Identifier: MIT
 * What is true of every op, and the rows. */
#include "backends/cpu/ops.h"

#include "backends/cpu/status.h"
#include "kernels/ref/ref.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const qc_op_row *const op_rows[] = {&qc_get_rows_row,  &qc_norm_row,        &qc_matmul_row, &qc_rope_row,  &qc_kv_append_row,
                                           &qc_attention_row, &qc_elementwise_row, &qc_copy_row,   &qc_sample_row,
                                           &qc_short_conv_row, &qc_delta_rule_row, &qc_expert_route_row,
                                           &qc_expert_matmul_row};

const qc_op_row *qc_op_find(qp_op_kind kind)
{
    for (size_t i = 0; i < sizeof op_rows / sizeof *op_rows; i++)
        if (op_rows[i]->kind == kind)
            return op_rows[i];
    return NULL;
}

uint64_t qc_row_bytes(qp_format format, int64_t n)
{
    return (uint64_t)n / qk_block_elements(format) * qk_block_bytes(format);
}

uint32_t qc_format_alignment(qp_format format)
{
    switch (format) {
    case QP_FORMAT_F64:
    case QP_FORMAT_I64: /* only ever moved as bytes, or read by kernels/ref, which wants no alignment */
    case QP_FORMAT_F32:
    case QP_FORMAT_I32: return 4;
    case QP_FORMAT_I8:
    case QP_FORMAT_MXFP4: return 1;
    default: return 2; /* the scales of block formats are binary16 */
    }
}

uint64_t qc_tensor_bytes(const qp_tensor *t)
{
    uint64_t bytes;
    if (t->layout == QK_LAYOUT_PANEL) {
        uint64_t panels = ((uint64_t)t->ne[1] + QK_PANEL_ROWS - 1) / QK_PANEL_ROWS;
        int over = t->ne[0] > INT64_MAX / 64 || __builtin_mul_overflow(panels, (uint64_t)t->ne[2], &panels);
        return over || __builtin_mul_overflow(panels, qk_panel_bytes(t->format, t->ne[0]), &bytes) ? UINT64_MAX : bytes;
    }
    bytes = qk_block_bytes(t->format);
    for (int i = 0; i < 4; i++) {
        uint64_t steps = (uint64_t)(i ? t->ne[i] : t->ne[0] / qk_block_elements(t->format)) - 1, span;
        if (__builtin_mul_overflow(steps, (uint64_t)t->nb[i], &span) || __builtin_add_overflow(bytes, span, &bytes))
            return UINT64_MAX;
    }
    return bytes;
}

int64_t qc_op_rows(const qp_op *op)
{
    /* KV_APPEND's dst is the cache, SAMPLE's has its rows in ne[0] */
    return op->kind == QP_OP_KV_APPEND || op->kind == QP_OP_SAMPLE ? op->src[0].ne[2] : op->dst.ne[2];
}

/* ---- one tensor ---------------------------------------------------------------------------------------------------- */

static qp_status check_strides(const qp_tensor *t, const char *name, int strided, int is_dst, qp_text *reason)
{
    uint32_t block = qk_block_bytes(t->format), alignment = qc_format_alignment(t->format);
    if (!strided && t->nb[0] != block)
        return qc_fail(reason, QP_ERR_UNSUPPORTED,
                       "%s has a stride of %lld bytes along ne[0]; only %u, the size of a block, is served", name,
                       (long long)t->nb[0], block);
    for (int i = 0; i < 4; i++) {
        if (t->nb[i] < 0 || t->nb[i] % alignment)
            return qc_fail(reason, QP_ERR_UNSUPPORTED,
                           "%s has a stride nb[%d] of %lld bytes; strides are multiples of %u and not negative", name, i,
                           (long long)t->nb[i], alignment);
        int used = i ? t->ne[i] > 1 : t->ne[0] > qk_block_elements(t->format);
        if (is_dst && used && t->nb[i] < block)
            return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s is written to, but its elements overlap: nb[%d] is %lld", name, i,
                           (long long)t->nb[i]);
    }
    return QP_OK;
}

static qp_status check_tensor(const qp_tensor *t, const char *name, int packed, int strided, int is_dst, qp_text *reason)
{
    uint32_t elements = t->format < QP_FORMAT_LIMIT ? qk_block_elements(t->format) : 0;
    if (!elements)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s has format %u, which this version does not know", name, t->format);
    for (int i = 0; i < 4; i++)
        if (t->ne[i] < 1)
            return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s has %lld elements in dimension %d; there must be at least 1", name,
                           (long long)t->ne[i], i);
    if (t->ne[0] % elements)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s has rows of %lld elements, which are not whole %s blocks of %u", name,
                       (long long)t->ne[0], qc_format_name(t->format), elements);
    if (t->layout == QK_LAYOUT_PANEL && packed) {
        if (!qk_panel_bits(t->format))
            return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s: there are no panels of %s", name, qc_format_name(t->format));
        if (t->ne[3] != 1 || (t->ne[2] != 1 && t->ne[1] % QK_PANEL_ROWS))
            return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s: panels have two dimensions, or three with whole panels of %d rows, not %s",
                           name, QK_PANEL_ROWS, qc_shape_words(t).text);
    } else if (t->layout != QP_LAYOUT_GGUF) {
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s has layout %u, which %s", name, t->layout,
                       t->layout == QK_LAYOUT_PANEL ? "only weights can have" : "is not one of this device's");
    } else {
        qp_status status = check_strides(t, name, strided, is_dst, reason);
        if (status)
            return status;
    }
    if (qc_tensor_bytes(t) > INT64_MAX)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s of shape %s overflows 63 bits of bytes", name, qc_shape_words(t).text);
    return QP_OK;
}

/* ---- pieces of checks ---------------------------------------------------------------------------------------------- */

qp_status qc_need_format(const qp_tensor *t, const char *name, qp_format format, qp_text *reason)
{
    if (t->format == format)
        return QP_OK;
    return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s is %s; only %s is served", name, qc_format_name(t->format),
                   qc_format_name(format));
}

qp_status qc_need_shape(const qp_tensor *t, const char *name, int64_t ne0, int64_t ne1, int64_t ne2, qp_text *reason)
{
    if (t->ne[0] == ne0 && t->ne[1] == ne1 && t->ne[2] == ne2 && t->ne[3] == 1)
        return QP_OK;
    return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s is %s; it should be {%lld, %lld, %lld}", name, qc_shape_words(t).text,
                   (long long)ne0, (long long)ne1, (long long)ne2);
}

qp_status qc_need_index(const qp_tensor *t, const char *name, int64_t n, qp_text *reason)
{
    qp_status status = qc_need_format(t, name, QP_FORMAT_I32, reason);
    return status ? status : qc_need_shape(t, name, n, 1, 1, reason);
}

qp_status qc_need_floats(const qp_tensor *t, const char *name, int64_t n, qp_text *reason)
{
    qp_status status = qc_need_format(t, name, QP_FORMAT_F32, reason);
    return status ? status : qc_need_shape(t, name, n, 1, 1, reason);
}

void qc_name_kernel(qp_op_info *info, const char *op, const char *format, const char *isa)
{
    snprintf(info->kernel, sizeof info->kernel, "%s%s%s.%s", op, format ? "_" : "", format ? format : "", isa);
    for (char *c = info->kernel; *c; c++)
        *c = (char)tolower((unsigned char)*c);
}

int qc_reference_has(qp_format format)
{
    float f = 0;
    return qr_dequantise(format, &f, &f, 0) == 0;
}

int qc_reference_makes(qp_format format)
{
    float f = 0;
    return qr_quantise(format, &f, &f, 0) == 0;
}

int64_t qc_row_grain(const qp_device *device, int64_t rows)
{
    int64_t grain = rows / (8 * (int64_t)device->threads);
    return grain < 1 ? 1 : grain > 16 ? 16 : grain;
}

/* ---- one op -------------------------------------------------------------------------------------------------------- */

static qp_status check_sources(const qc_op_row *row, const qp_op *op, qp_text *reason)
{
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++) {
        int present = qc_present(&op->src[i]), known = (row->required | row->optional) >> i & 1;
        if (!known && present)
            return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s has no source %u, but one is given", row->name, i);
        if (!present && row->required >> i & 1)
            return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s is missing (source %u)", row->sources[i], i);
        if (!present)
            continue;
        qp_status status = check_tensor(&op->src[i], row->sources[i], row->packed >> i & 1, row->strided >> i & 1, 0, reason);
        if (status)
            return status;
    }
    return QP_OK;
}

static qp_status check_common(const qc_op_row *row, const qp_op *op, qp_text *reason)
{
    qp_status status = check_sources(row, op, reason);
    if (!status && !qc_present(&op->dst))
        status = qc_fail(reason, QP_ERR_UNSUPPORTED, "dst is missing");
    if (!status)
        status = check_tensor(&op->dst, "dst", 0, (row->strided & QC_STRIDED_DST) != 0, 1, reason);
    if (!status && qc_present(&op->live)) {
        status = check_tensor(&op->live, "live", 0, 0, 0, reason);
        if (!status)
            status = qc_need_index(&op->live, "live", 1, reason);
    }
    return status;
}

/* What must be moved at least, unless the op knows better. */
static void count_bytes(const qp_op *op, qp_op_info *info)
{
    info->bytes_moved = qc_tensor_bytes(&op->dst);
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++)
        if (qc_present(&op->src[i]))
            info->bytes_moved += qc_tensor_bytes(&op->src[i]);
}

qp_status qc_op_check(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qc_op_row *row = qc_op_find(op->kind);
    if (!row)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "the cpu has no op of kind %u", op->kind);
    if (op->version != 1)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s: version %u of the op is not known, only 1", row->name, op->version);
    qp_status status = check_common(row, op, reason);
    if (status)
        return status;
    count_bytes(op, info);
    status = row->check(device, op, info, reason);
    if (!status && (device->reference || !row->launch))
        qc_name_kernel(info, row->name, NULL, "ref");
    return status;
}

qp_status qc_op_load(qp_op *out, const void *data, size_t size, qp_text *error)
{
    uint32_t known;
    memcpy(&known, data, sizeof known);
    if (known < sizeof(qp_op) || size < sizeof(qp_op))
        return qc_fail(error, QP_ERR_INVALID, "its struct_size is %u bytes, of at least %zu", known, sizeof(qp_op));
    memcpy(out, data, sizeof *out);
    return QP_OK;
}

qp_status qc_op_query(qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    if (!device || !op)
        return qc_fail(reason, QP_ERR_INVALID, "op_query needs a device and an op");
    qp_op copy;
    qp_op_info found = {.struct_size = sizeof found};
    qc_scratch scratch = {0};
    qp_status status = qc_op_load(&copy, op, op->struct_size, reason);
    if (!status)
        status = qc_op_check(device, &copy, &found, reason);
    if (status)
        return status;
    const qc_op_row *row = qc_op_find(copy.kind);
    if (row->measure && !device->reference)
        status = row->measure(device, &copy, &scratch, reason);
    if (status || !info)
        return status;
    found.scratch_bytes = qc_scratch_bytes(&scratch, device->threads);
    uint32_t size = info->struct_size;
    memcpy(info, &found, size < sizeof found ? size : sizeof found);
    info->struct_size = size;
    return QP_OK;
}
