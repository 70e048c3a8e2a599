/* SPDX-License-Identifier: MIT */
#include "core/check.h"

#include "core/op.h"

#include <quern/format.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- structs of the caller's ---- */

quern_status qi_check_size(const quern_device *device, const char *what, uint32_t struct_size, size_t known, quern_error *error)
{
    if (struct_size >= known)
        return QP_OK;
    return quern_fail(error, QP_ERR_INVALID, "%s: %s: struct_size is %u where at least %zu is due: was it set?", device->id, what,
                      struct_size, known);
}

void qi_hand_out(void *to, const void *fresh, size_t size)
{
    uint32_t known;
    memcpy(&known, to, sizeof known);
    memcpy(to, fresh, known < size ? known : size);
    memcpy(to, &known, sizeof known);
}

/* ---- one tensor ---- */

typedef struct place {
    quern_device *device;
    const char *at;   /* the op */
    const char *role; /* "dst", "src 0", "live" */
} place;

static quern_status check_shape(const place *p, const qp_tensor *t, quern_error *error)
{
    const quern_format_info *facts = quern_format_get(t->format);
    if (!facts)
        return quern_fail(error, QP_ERR_INVALID, "%s: %s: %s has format number %u, which no format has", p->device->id, p->at,
                          p->role, t->format);
    for (int i = 0; i < 4; i++) {
        if (t->ne[i] < 1)
            return quern_fail(error, QP_ERR_INVALID, "%s: %s: %s has dimension %d of %lld, at least 1 is due", p->device->id, p->at,
                              p->role, i, (long long)t->ne[i]);
        if (t->nb[i] < 0)
            return quern_fail(error, QP_ERR_INVALID, "%s: %s: %s has the negative stride %lld", p->device->id, p->at, p->role,
                              (long long)t->nb[i]);
    }
    if (t->ne[0] % facts->block_elements)
        return quern_fail(error, QP_ERR_INVALID, "%s: %s: %s has rows of %lld elements, not whole blocks of %s, which hold %u",
                          p->device->id, p->at, p->role, (long long)t->ne[0], facts->name, facts->block_elements);
    return QP_OK;
}

/* Bytes from the first to the end of the last block. 0: more than can be addressed. */
static int extent(const qp_tensor *t, uint64_t *bytes)
{
    const quern_format_info *facts = quern_format_get(t->format);
    uint64_t end = facts->block_bytes, step;
    for (int i = 0; i < 4; i++) {
        uint64_t count = (uint64_t)(i ? t->ne[i] : t->ne[0] / facts->block_elements);
        if (__builtin_mul_overflow(count - 1, (uint64_t)t->nb[i], &step) || __builtin_add_overflow(end, step, &end))
            return 0;
    }
    *bytes = end;
    return 1;
}

static quern_status check_place(const place *p, const qp_tensor *t, const quern_buffer *buffer, quern_error *error)
{
    uint64_t bytes = 1; /* only the plugin knows how long a layout of its own is */
    if (t->layout == QP_LAYOUT_GGUF && !extent(t, &bytes))
        return quern_fail(error, QP_ERR_INVALID, "%s: %s: %s is larger than can be addressed", p->device->id, p->at, p->role);
    if (!qi_inside(t->offset, bytes, buffer->size))
        return quern_fail(error, QP_ERR_INVALID, "%s: %s: %s takes %llu bytes at offset %llu of a buffer of %llu", p->device->id,
                          p->at, p->role, (unsigned long long)bytes, (unsigned long long)t->offset,
                          (unsigned long long)buffer->size);
    uint32_t alignment = qi_tensor_alignment(buffer, t->format, t->layout);
    if (t->offset % alignment)
        return quern_fail(error, QP_ERR_INVALID, "%s: %s: %s is at offset %llu, which is not a multiple of %u", p->device->id,
                          p->at, p->role, (unsigned long long)t->offset, alignment);
    return QP_OK;
}

static quern_status check_tensor(const place *p, const qp_tensor *t, int placed, quern_error *error)
{
    if (!t->buffer && (placed || !t->ne[0])) {
        if (t->ne[0])
            return quern_fail(error, QP_ERR_INVALID, "%s: %s: %s has a shape but no buffer", p->device->id, p->at, p->role);
        return QP_OK; /* not there */
    }
    quern_status status = check_shape(p, t, error);
    if (status || !t->buffer)
        return status;
    quern_buffer *buffer = qi_buffer_share(p->device, t->buffer);
    if (!buffer)
        return quern_fail(error, QP_ERR_INVALID, "%s: %s: %s lies in a buffer that is not, or no longer, one of this device's",
                          p->device->id, p->at, p->role);
    status = check_place(p, t, buffer, error);
    quern_buffer_destroy(buffer); /* this share of it */
    return status;
}

/* ---- ops ---- */

quern_status qi_check_op(quern_device *device, const qp_op *op, int placed, const char *at, quern_error *error)
{
    char role[16];
    place p = {device, at, "dst"};
    quern_status status = qi_check_size(device, at, op->struct_size, QI_KNOWN(*op, p), error);
    if (status)
        return status;
    if (op->kind == QP_OP_NONE)
        return quern_fail(error, QP_ERR_INVALID, "%s: %s has no kind", device->id, at);
    if (!op->dst.ne[0] || (placed && !op->dst.buffer))
        return quern_fail(error, QP_ERR_INVALID, "%s: %s has no dst", device->id, at);
    status = check_tensor(&p, &op->dst, placed, error);
    p.role = "live";
    if (!status)
        status = check_tensor(&p, &op->live, placed, error);
    if (!status && op->live.ne[0] && (op->live.format != QP_FORMAT_I32 || op->live.ne[0] != 1))
        status = quern_fail(error, QP_ERR_INVALID, "%s: %s: the live row count is not one I32", device->id, at);
    p.role = role;
    for (int i = 0; i < QP_OP_SOURCES && !status; i++) {
        snprintf(role, sizeof role, "src %d", i);
        status = check_tensor(&p, &op->src[i], placed, error);
    }
    return status;
}

/* ---- programs ---- */

static const qp_op *op_at(const qp_program_desc *desc, uint32_t index)
{
    return (const qp_op *)(const void *)((const char *)desc->ops + (size_t)index * desc->op_stride);
}

/* placed: a range that has a size needs its buffer by now. */
static quern_status check_range(quern_device *device, const qp_range *range, int placed, const char *role, quern_error *error)
{
    if (!range->buffer)
        return placed && range->size ? quern_fail(error, QP_ERR_INVALID, "%s: the %s has %llu bytes but no buffer", device->id,
                                                  role, (unsigned long long)range->size)
                                     : QP_OK;
    quern_buffer *buffer = qi_buffer_share(device, range->buffer);
    if (!buffer)
        return quern_fail(error, QP_ERR_INVALID, "%s: the %s lies in a buffer that is not, or no longer, one of this device's",
                          device->id, role);
    quern_status status = QP_OK;
    if (!qi_inside(range->offset, range->size, buffer->size))
        status =
            quern_fail(error, QP_ERR_INVALID, "%s: the %s takes %llu bytes at offset %llu of a buffer of %llu", device->id, role,
                       (unsigned long long)range->size, (unsigned long long)range->offset, (unsigned long long)buffer->size);
    else if (range->offset % buffer->alignment)
        status = quern_fail(error, QP_ERR_INVALID, "%s: the %s is at offset %llu, which is not a multiple of %u", device->id, role,
                            (unsigned long long)range->offset, buffer->alignment);
    quern_buffer_destroy(buffer); /* this share of it */
    return status;
}

static int keeps(const quern_program *keep, const qp_buffer *handle)
{
    for (uint32_t i = keep->buffer_count; i-- > 0;) /* the last ones are the likeliest */
        if (keep->buffers[i]->handle == handle)
            return 1;
    return 0;
}

static quern_status keep_buffer(quern_device *device, const qp_buffer *handle, quern_program *keep, quern_error *error)
{
    if (!handle || keeps(keep, handle))
        return QP_OK;
    quern_buffer **list = realloc(keep->buffers, (keep->buffer_count + 1) * sizeof *list);
    if (!list)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "%s: no host memory to keep a program", device->id);
    keep->buffers = list;
    quern_buffer *buffer = qi_buffer_share(device, handle);
    if (!buffer)
        return quern_fail(error, QP_ERR_INVALID, "%s: a buffer was destroyed while a program was made of it", device->id);
    list[keep->buffer_count++] = buffer;
    return QP_OK;
}

static quern_status keep_op(quern_device *device, const qp_op *op, quern_program *keep, quern_error *error)
{
    quern_status status = keep_buffer(device, op->dst.buffer, keep, error);
    if (!status)
        status = keep_buffer(device, op->live.buffer, keep, error);
    for (int i = 0; i < QP_OP_SOURCES && !status; i++)
        status = keep_buffer(device, op->src[i].buffer, keep, error);
    return status;
}

static quern_status check_desc(quern_device *device, const qp_program_desc *desc, int placed, quern_error *error)
{
    quern_status status = qi_check_size(device, "the program description", desc->struct_size, QI_KNOWN(*desc, transient), error);
    if (status)
        return status;
    if (!desc->ops || !desc->op_count)
        return quern_fail(error, QP_ERR_INVALID, "%s: a program of no ops was asked for", device->id);
    if (desc->op_stride < sizeof(qp_op) || desc->op_stride % _Alignof(qp_op))
        return quern_fail(error, QP_ERR_INVALID, "%s: op_stride is %u, sizeof(qp_op) is %zu", device->id, desc->op_stride,
                          sizeof(qp_op));
    status = check_range(device, &desc->step, placed, "step block", error);
    if (!status)
        status = check_range(device, &desc->scratch, placed, "scratch range", error);
    return status ? status : check_range(device, &desc->transient, placed, "transient range", error);
}

quern_status qi_check_program(quern_device *device, const qp_program_desc *desc, quern_program *keep, quern_error *error)
{
    char at[48];
    quern_status status = check_desc(device, desc, keep != NULL, error);
    for (uint32_t i = 0; i < desc->op_count && !status; i++) {
        const qp_op *op = op_at(desc, i);
        snprintf(at, sizeof at, "op %u (%s)", i, quern_op_name(op->kind));
        status = qi_check_op(device, op, keep != NULL, at, error);
        if (!status && keep)
            status = keep_op(device, op, keep, error);
    }
    if (!status && keep)
        status = keep_buffer(device, desc->step.buffer, keep, error);
    if (!status && keep)
        status = keep_buffer(device, desc->scratch.buffer, keep, error);
    return !status && keep ? keep_buffer(device, desc->transient.buffer, keep, error) : status;
}

/* ---- weights ---- */

quern_status qi_check_weight(quern_device *device, const qp_weight_desc *desc, uint64_t *row_bytes, int64_t *rows,
                             quern_error *error)
{
    quern_status status = qi_check_size(device, "the weight description", desc->struct_size, QI_KNOWN(*desc, ne), error);
    if (status)
        return status;
    if (!quern_format_get(desc->format))
        return quern_fail(error, QP_ERR_INVALID, "%s: a weight has format number %u, which no format has", device->id,
                          desc->format);
    uint64_t bytes = 0;
    int64_t count = 1;
    int fits = 1;
    for (int i = 0; i < 4; i++) {
        if (desc->ne[i] < 1)
            return quern_fail(error, QP_ERR_INVALID, "%s: a weight has dimension %d of %lld, at least 1 is due", device->id, i,
                              (long long)desc->ne[i]);
        if (i)
            fits = fits && !__builtin_mul_overflow(count, desc->ne[i], &count);
    }
    if (!quern_format_bytes(desc->format, desc->ne[0], row_bytes))
        return quern_fail(error, QP_ERR_INVALID, "%s: a weight has rows of %lld elements, not whole blocks of %s", device->id,
                          (long long)desc->ne[0], quern_format_get(desc->format)->name);
    if (!fits || __builtin_mul_overflow(*row_bytes, (uint64_t)count, &bytes) || bytes > INT64_MAX)
        return quern_fail(error, QP_ERR_INVALID, "%s: a weight is larger than can be addressed", device->id);
    *rows = count;
    return QP_OK;
}
