/* SPDX-License-Identifier: MIT
 * What is true of every op, and the rows. */
#include "backends/vulkan/ops.h"

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/weights.h"
#include "kernels/common/formats.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

static const qv_op_row *const op_rows[] = {&qv_get_rows_row,  &qv_norm_row,         &qv_matmul_row,        &qv_rope_row,
                                           &qv_kv_append_row, &qv_attention_row,    &qv_elementwise_row,   &qv_copy_row,
                                           &qv_sample_row,    &qv_expert_route_row, &qv_expert_matmul_row, &qv_short_conv_row,
                                           &qv_delta_rule_row};

static const qv_op_row *find_row(qp_op_kind kind)
{
    for (size_t i = 0; i < sizeof op_rows / sizeof *op_rows; i++)
        if (op_rows[i]->kind == kind)
            return op_rows[i];
    return NULL;
}

const qv_op_row *qv_op_row_at(uint32_t i)
{
    return i < sizeof op_rows / sizeof *op_rows ? op_rows[i] : NULL;
}

const qp_op *qv_op_at(const qp_program_desc *desc, uint32_t i)
{
    return (const qp_op *)(const void *)((const char *)desc->ops + (size_t)i * desc->op_stride);
}

/* ---- tensors ---- */

const char *qv_format_name(qp_format format)
{
    switch (format) {
#define NAME(name, number, elements, bytes, quantised)                                                                             \
    case number: return #name;
        QP_FORMAT_LIST(NAME)
#undef NAME
    default: return "an unknown format";
    }
}

uint64_t qv_tensor_bytes(const qp_tensor *t)
{
    if (t->layout == QV_LAYOUT_PLANES)
        return qv_weight_row(t->format, t->layout, t->ne[0]) * (uint64_t)t->ne[1] * (uint64_t)t->ne[2] * (uint64_t)t->ne[3];
    uint64_t bytes = qk_block_bytes(t->format);
    for (int i = 0; i < 4; i++)
        bytes += (uint64_t)((i ? t->ne[i] : t->ne[0] / qk_block_elements(t->format)) - 1) * (uint64_t)t->nb[i];
    return bytes;
}

uint64_t qv_address(const qp_tensor *t)
{
    return t->buffer ? t->buffer->address + t->offset : 0;
}

uint32_t qv_stride(const qp_tensor *t, int dimension)
{
    return t->ne[dimension] > 1 ? (uint32_t)t->nb[dimension] : 0;
}

int64_t qv_rows(const qp_op *op)
{
    /* KV_APPEND's dst is the cache, SAMPLE's has its rows in ne[0] */
    return op->kind == QP_OP_KV_APPEND || op->kind == QP_OP_SAMPLE ? op->src[0].ne[2] : op->dst.ne[2];
}

/* Refuses a size that does not fit 63 bits: what qv_tensor_bytes computes is right after this. */
static qp_status check_bytes(const qp_tensor *t, const char *name, qp_text *reason)
{
    int64_t bytes, step;
    int planes = t->layout == QV_LAYOUT_PLANES;
    bytes = planes ? (int64_t)qv_weight_row(t->format, t->layout, t->ne[0]) : (int64_t)qk_block_bytes(t->format);
    int over = bytes <= 0;
    for (int i = planes ? 1 : 0; i < 4 && !over; i++) {
        if (planes)
            over = __builtin_mul_overflow(bytes, t->ne[i], &bytes);
        else
            over = __builtin_mul_overflow((i ? t->ne[i] : t->ne[0] / qk_block_elements(t->format)) - 1, t->nb[i], &step) ||
                   __builtin_add_overflow(bytes, step, &bytes);
    }
    return over ? qv_fail(reason, QP_ERR_UNSUPPORTED, "%s is larger than can be addressed", name) : QP_OK;
}

/* Where a number of this format may start. */
static uint32_t alignment_of(qp_format format)
{
    switch (format) {
    case QP_FORMAT_F32:
    case QP_FORMAT_I32: return 4;
    case QP_FORMAT_F64:
    case QP_FORMAT_I64: return 4;
    case QP_FORMAT_I8:
    case QP_FORMAT_MXFP4: return 1;
    default: return qk_block_bytes(format) % 4 ? 2 : 4; /* blocks of whole words are moved by words */
    }
}

static qp_status check_strides(const qp_tensor *t, const char *name, int is_weight, int is_dst, qp_text *reason)
{
    uint32_t block = qk_block_bytes(t->format), alignment = alignment_of(t->format);
    if (t->nb[0] != block)
        return qv_fail(reason, QP_ERR_UNSUPPORTED,
                       "%s has a stride of %lld bytes along ne[0]; only %u, the size of a block, is served", name,
                       (long long)t->nb[0], block);
    for (int i = 1; i < 4; i++) {
        int used = t->ne[i] > 1;
        if (used && (t->nb[i] < 0 || t->nb[i] % alignment || (!is_weight && t->nb[i] > UINT32_MAX)))
            return qv_fail(reason, QP_ERR_UNSUPPORTED,
                           "%s has a stride nb[%d] of %lld bytes; strides are multiples of %u, not negative and below 4 GiB", name,
                           i, (long long)t->nb[i], alignment);
        if (is_dst && used && t->nb[i] < block)
            return qv_fail(reason, QP_ERR_UNSUPPORTED, "%s is written to, but its elements overlap: nb[%d] is %lld", name, i,
                           (long long)t->nb[i]);
    }
    return QP_OK;
}

static qp_status check_tensor(const qp_tensor *t, const char *name, int is_weight, int is_dst, qp_text *reason)
{
    uint32_t elements = t->format < QP_FORMAT_LIMIT ? qk_block_elements(t->format) : 0;
    if (!elements)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "%s has format number %u, which this version does not know", name, t->format);
    for (int i = 0; i < 4; i++)
        if (t->ne[i] < 1 || t->ne[i] > INT32_MAX)
            return qv_fail(reason, QP_ERR_UNSUPPORTED, "%s has %lld elements in dimension %d; 1 to 2147483647 are served", name,
                           (long long)t->ne[i], i);
    if (t->ne[0] % elements)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "%s has rows of %lld elements, which are not whole %s blocks of %u", name,
                       (long long)t->ne[0], qv_format_name(t->format), elements);
    qp_status status = QP_OK;
    if (t->layout == QV_LAYOUT_PLANES && is_weight && qv_has_planes(t->format))
        ; /* strides are the layout's own */
    else if (t->layout != QP_LAYOUT_GGUF)
        status = qv_fail(reason, QP_ERR_UNSUPPORTED, "%s is %s in layout %u, which this device does not know", name,
                         qv_format_name(t->format), t->layout);
    else
        status = check_strides(t, name, is_weight, is_dst, reason);
    return status ? status : check_bytes(t, name, reason);
}

static qp_status check_place(const qp_device *device, const qp_tensor *t, const char *name, qp_text *reason)
{
    uint32_t alignment = t->layout == QV_LAYOUT_PLANES ? 16 : alignment_of(t->format);
    qp_status status = qv_range_check(device, &(qp_range){t->buffer, t->offset, qv_tensor_bytes(t)}, name, reason);
    if (!status && t->offset % alignment)
        status = qv_fail(reason, QP_ERR_INVALID, "%s starts at offset %llu, which is no multiple of %u", name,
                         (unsigned long long)t->offset, alignment);
    return status;
}

/* ---- pieces of checks ---- */

qp_status qv_need_format(const qp_tensor *t, const char *name, qp_format format, qp_text *reason)
{
    if (t->format == format)
        return QP_OK;
    return qv_fail(reason, QP_ERR_UNSUPPORTED, "%s is %s; only %s is served", name, qv_format_name(t->format),
                   qv_format_name(format));
}

qp_status qv_need_shape(const qp_tensor *t, const char *name, int64_t ne0, int64_t ne1, int64_t ne2, qp_text *reason)
{
    if (t->ne[0] == ne0 && t->ne[1] == ne1 && t->ne[2] == ne2 && t->ne[3] == 1)
        return QP_OK;
    return qv_fail(reason, QP_ERR_UNSUPPORTED, "%s is {%lld, %lld, %lld, %lld}; it should be {%lld, %lld, %lld}", name,
                   (long long)t->ne[0], (long long)t->ne[1], (long long)t->ne[2], (long long)t->ne[3], (long long)ne0,
                   (long long)ne1, (long long)ne2);
}

qp_status qv_need_floats(const qp_tensor *t, const char *name, int64_t ne0, int64_t ne1, int64_t ne2, qp_text *reason)
{
    qp_status status = qv_need_format(t, name, QP_FORMAT_F32, reason);
    return status ? status : qv_need_shape(t, name, ne0, ne1, ne2, reason);
}

qp_status qv_need_vector(const qp_tensor *t, const char *name, int64_t n, qp_text *reason)
{
    return qv_present(t) ? qv_need_floats(t, name, n, 1, 1, reason) : QP_OK;
}

qp_status qv_need_numbers(const qp_tensor *t, const char *name, int64_t n, qp_text *reason)
{
    qp_status status = qv_need_format(t, name, QP_FORMAT_I32, reason);
    return status ? status : qv_need_shape(t, name, n, 1, 1, reason);
}

/* ---- one op ---- */

static qp_status check_source(const qp_device *device, const qv_op_row *row, const qp_op *op, int i, int placed, qp_text *reason)
{
    const qp_tensor *t = &op->src[i];
    uint32_t bit = 1u << i;
    if (!((row->required | row->optional) & bit))
        return qv_present(t) ? qv_fail(reason, QP_ERR_UNSUPPORTED, "%s has no source %d, but one is given", row->name, i) : QP_OK;
    if (!qv_present(t))
        return row->required & bit ? qv_fail(reason, QP_ERR_UNSUPPORTED, "%s is missing (source %d)", row->sources[i], i) : QP_OK;
    qp_status status = check_tensor(t, row->sources[i], (row->weights & bit) != 0, 0, reason);
    return status || !placed ? status : check_place(device, t, row->sources[i], reason);
}

/* Kernels count heads times rows in 32 bits; of a KV cache and of tokens that are picked those of src[0] count. */
static qp_status check_items(const qp_op *op, qp_text *reason)
{
    const qp_tensor *t = op->kind == QP_OP_KV_APPEND || op->kind == QP_OP_SAMPLE ? &op->src[0] : &op->dst;
    if (t->ne[1] <= INT32_MAX / t->ne[2])
        return QP_OK;
    return qv_fail(reason, QP_ERR_UNSUPPORTED, "it has %lld heads in %lld rows; at most %d together are served",
                   (long long)t->ne[1], (long long)t->ne[2], INT32_MAX);
}

static qp_status check_common(const qp_device *device, const qv_op_row *row, const qp_op *op, int placed, qp_text *reason)
{
    qp_status status = QP_OK;
    for (int i = 0; i < QP_OP_SOURCES && !status; i++)
        status = check_source(device, row, op, i, placed, reason);
    if (!status)
        status = qv_present(&op->dst) ? check_tensor(&op->dst, "dst", 0, 1, reason)
                                      : qv_fail(reason, QP_ERR_UNSUPPORTED, "dst is missing");
    if (!status)
        status = check_items(op, reason);
    if (!status && placed)
        status = check_place(device, &op->dst, "dst", reason);
    if (status || !qv_present(&op->live))
        return status;
    status = check_tensor(&op->live, "the live row count", 0, 0, reason);
    if (!status)
        status = qv_need_numbers(&op->live, "the live row count", 1, reason);
    return status || !placed ? status : check_place(device, &op->live, "the live row count", reason);
}

static void describe(const qp_op *op, const qv_variant *variant, qp_op_info *info)
{
    size_t used = strlen(info->kernel);
    snprintf(info->kernel + used, sizeof info->kernel - used, ".%s", variant->name);
    for (char *c = info->kernel; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    info->bytes_moved = qv_tensor_bytes(&op->dst);
    for (int i = 0; i < QP_OP_SOURCES; i++)
        if (qv_present(&op->src[i]))
            info->bytes_moved += qv_tensor_bytes(&op->src[i]);
}

qp_status qv_op_check(const qp_device *device, const qp_op *op, int placed, qp_op_info *info, const qv_variant **variant,
                      qp_text *reason)
{
    if (op->struct_size < sizeof *op)
        return qv_fail(reason, QP_ERR_INVALID, "its struct_size is %u bytes, of at least %zu", op->struct_size, sizeof *op);
    const qv_op_row *row = find_row(op->kind);
    if (!row)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "the Vulkan plugin has no op of kind %u", op->kind);
    if (op->version != 1)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "%s: version %u of the op is not known, only 1", row->name, op->version);
    char words[512] = "";
    qp_text text = {words, sizeof words};
    qp_status status = check_common(device, row, op, placed, &text);
    if (!status)
        status = row->check(device, op, info, &text);
    if (!info->kernel[0])
        snprintf(info->kernel, sizeof info->kernel, "%s", row->name);
    if (!status)
        status = qv_variant_choose(device, row, op, info->kernel, variant, &(qp_text){info->note, sizeof info->note}, &text);
    if (status)
        return qv_fail(reason, status, "%s: %s", row->name, words);
    describe(op, *variant, info);
    if ((*variant)->scratch)
        info->scratch_bytes = ((*variant)->scratch(device, op) + QV_ALIGNMENT - 1) / QV_ALIGNMENT * QV_ALIGNMENT;
    return QP_OK;
}

qp_status qv_op_query(qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    qp_op_info found = {0};
    const qv_variant *variant;
    qp_status status = qv_lost(device, reason);
    if (!status)
        status = qv_op_check(device, op, 0, &found, &variant, reason);
    if (status || !info)
        return status;
    found.struct_size = info->struct_size;
    memcpy(info, &found, info->struct_size < sizeof found ? info->struct_size : sizeof found);
    return QP_OK;
}

qp_status qv_attach_grid(qv_plan *plan, qp_format format, size_t place, qp_text *error)
{
    uint32_t bytes = 0;
    uint64_t offset;
    const void *points = qv_grid_of(format, &bytes);
    return points ? qv_plan_shared(plan, place, points, bytes, &offset, error) : QP_OK;
}

uint32_t qv_rows_at_once(const qp_device *device, uint64_t work_of_row, uint32_t m)
{
    uint64_t limit = qv_rate_limit(device, QP_OP_MATMUL) / (work_of_row ? work_of_row : 1) / QV_GROUP * QV_GROUP;
    uint64_t most =
        QV_MAX_GROUPS / QV_GROUP * QV_GROUP; /* as many workgroups as there may be: kernels do not loop over rows of W */
    limit = limit < most ? limit : most;
    return limit < QV_GROUP ? QV_GROUP : limit < m ? (uint32_t)limit : m;
}

uint32_t qv_group_of(const qp_device *device, uint32_t most)
{
    const VkPhysicalDeviceLimits *limits = &device->physical->properties.limits;
    while (most > limits->maxComputeWorkGroupInvocations || most > limits->maxComputeWorkGroupSize[0])
        most /= 2;
    return most;
}

uint64_t qv_items_at_once(const qp_device *device, qp_op_kind kind, uint64_t work_of_item)
{
    return qv_rate_limit(device, kind) / (work_of_item ? work_of_item : 1);
}

qv_constants qv_make_constants(uint32_t group, uint32_t more, const uint32_t (*pairs)[2])
{
    qv_constants c = {.count = 1, .values = {group}};
    for (uint32_t i = 0; i < more && c.count < QV_CONSTANTS; i++, c.count++) {
        c.ids[c.count] = pairs[i][0];
        c.values[c.count] = pairs[i][1];
    }
    return c;
}
