/* SPDX-License-Identifier: MIT
 * tests/fuzz/fake_device.c: the calls of libquern that the engine makes, without a plugin: memory is real and small, programs do
 * nothing. So a fuzz target reaches all of loading and of making sessions, thousands of times a second. */
#include "fuzz.h"

#include <quern/device.h>
#include <quern/format.h>

#include <string.h>

static const uint64_t HEAP_BYTES = 4u << 20, LARGEST_BUFFER = 1u << 20;

struct quern_buffer {
    unsigned char *bytes;
    uint64_t size;
};
struct quern_timeline {
    uint64_t value;
};
struct quern_program {
    uint64_t step_bytes;
};

const qp_device_info *quern_device_info(const quern_device *device)
{
    static qp_device_info info;
    (void)device;
    info = (qp_device_info){.struct_size = sizeof info, .heap_count = 1};
    info.heaps[0] = (qp_heap){.size = HEAP_BYTES,
                              .budget = HEAP_BYTES,
                              .max_allocation = LARGEST_BUFFER,
                              .alignment = 64,
                              .flags = QP_HEAP_HOST_VISIBLE | QP_HEAP_HOST_CACHED};
    return &info;
}

const char *quern_device_id(const quern_device *device)
{
    (void)device;
    return "fake";
}

quern_status quern_device_refresh(quern_device *device, qp_device_info *info, quern_error *error)
{
    (void)error;
    *info = *quern_device_info(device);
    return QP_OK;
}

quern_status quern_buffer_create(quern_device *device, uint32_t heap, uint64_t size, quern_buffer **out, quern_error *error)
{
    (void)device;
    promise(heap == 0 && size && size <= LARGEST_BUFFER);
    quern_buffer *buffer = malloc(sizeof *buffer);
    unsigned char *bytes = malloc(size);
    if (!buffer || !bytes)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory");
    *buffer = (quern_buffer){bytes, size};
    *out = buffer;
    return QP_OK;
}

void quern_buffer_destroy(quern_buffer *buffer)
{
    if (buffer)
        free(buffer->bytes);
    free(buffer);
}

uint64_t quern_buffer_size(const quern_buffer *buffer)
{
    return buffer->size;
}

quern_status quern_buffer_map(quern_buffer *buffer, void **address, quern_error *error)
{
    (void)error;
    *address = buffer->bytes;
    return QP_OK;
}

quern_status quern_buffer_read(quern_buffer *buffer, uint64_t offset, void *data, uint64_t size, quern_error *error)
{
    (void)error;
    promise(offset <= buffer->size && size <= buffer->size - offset);
    memcpy(data, buffer->bytes + offset, size);
    return QP_OK;
}

qp_range quern_buffer_range(quern_buffer *buffer, uint64_t offset, uint64_t size)
{
    promise(offset <= buffer->size && size <= buffer->size - offset);
    return (qp_range){(qp_buffer *)(void *)buffer, offset, size};
}

quern_status quern_op_query(quern_device *device, const qp_op *op, qp_op_info *info, quern_error *reason)
{
    (void)device, (void)op, (void)info, (void)reason;
    return QP_OK;
}

/* Quantised matrices have a layout of their own, as long as on disk, so that both ways of loading are taken. */
quern_status quern_weight_layout(quern_device *device, const qp_weight_desc *desc, qp_weight_info *info, quern_error *error)
{
    (void)device;
    uint64_t row = 0, rows = (uint64_t)desc->ne[1];
    promise(desc->ne[2] == 1 && desc->ne[3] == 1);
    if (!quern_format_bytes(desc->format, desc->ne[0], &row) || __builtin_mul_overflow(row, rows, &info->bytes))
        return quern_fail(error, QP_ERR_UNSUPPORTED, "too large");
    info->layout = quern_format_get(desc->format)->quantised ? 1 : QP_LAYOUT_GGUF;
    info->alignment = 64;
    info->row_step = info->layout ? 16 : 1;
    return QP_OK;
}

quern_status quern_weight_pack(quern_device *device, const qp_weight_desc *desc, const void *src, uint64_t src_bytes, int64_t row,
                               int64_t rows, quern_buffer *dst, uint64_t offset, quern_error *error)
{
    (void)device, (void)error;
    uint64_t bytes = 0;
    promise(rows > 0 && row % 16 == 0 && (rows % 16 == 0 || row + rows == desc->ne[1]));
    promise(quern_format_bytes(desc->format, desc->ne[0], &bytes) && src_bytes == bytes * (uint64_t)rows);
    promise(offset + bytes * (uint64_t)(row + rows) <= dst->size);
    memcpy(dst->bytes + offset + bytes * (uint64_t)row, src, src_bytes);
    return QP_OK;
}

quern_status quern_program_measure(quern_device *device, const qp_program_desc *desc, qp_program_memory *memory, quern_error *error)
{
    (void)device, (void)error;
    promise(desc->op_count > 0);
    memory->scratch_bytes = 256;
    memory->scratch_alignment = 64;
    return QP_OK;
}

/* Every tensor lies inside its buffer. */
static void check_tensor(const qp_tensor *t)
{
    const quern_buffer *buffer = (const void *)t->buffer;
    uint64_t end = t->offset;
    if (!t->ne[0])
        return;
    promise(buffer && t->ne[1] > 0 && t->ne[2] > 0);
    for (int i = 0; i < 4; i++)
        end +=
            (uint64_t)((i ? t->ne[i] : t->ne[0] / (int64_t)quern_format_get(t->format)->block_elements) - 1) * (uint64_t)t->nb[i];
    promise(end + quern_format_get(t->format)->block_bytes <= buffer->size);
}

quern_status quern_program_create(quern_device *device, const qp_program_desc *desc, quern_program **out, quern_error *error)
{
    (void)device;
    for (uint32_t i = 0; i < desc->op_count; i++) {
        check_tensor(&desc->ops[i].dst);
        check_tensor(&desc->ops[i].live);
        for (uint32_t s = 0; s < QP_OP_SOURCES; s++)
            check_tensor(&desc->ops[i].src[s]);
    }
    quern_program *program = malloc(sizeof *program);
    if (!program)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory");
    program->step_bytes = desc->step.size;
    *out = program;
    return QP_OK;
}

quern_status quern_program_run(quern_program *program, const void *step, quern_timeline *timeline, uint64_t value,
                               quern_error *error)
{
    (void)error;
    volatile unsigned char sum = 0; /* the whole step block can be read */
    for (uint64_t i = 0; i < program->step_bytes; i++)
        sum = (unsigned char)(sum ^ ((const unsigned char *)step)[i]);
    promise(value > timeline->value);
    timeline->value = value;
    return QP_OK;
}

void quern_program_destroy(quern_program *program)
{
    free(program);
}

quern_status quern_timeline_create(quern_device *device, uint64_t value, quern_timeline **out, quern_error *error)
{
    (void)device;
    *out = calloc(1, sizeof **out);
    if (!*out)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory");
    (*out)->value = value;
    return QP_OK;
}

quern_status quern_timeline_wait(quern_timeline *timeline, uint64_t value, uint64_t timeout_ns, quern_error *error)
{
    (void)timeout_ns, (void)error;
    promise(timeline->value >= value);
    return QP_OK;
}

void quern_timeline_destroy(quern_timeline *timeline)
{
    free(timeline);
}
