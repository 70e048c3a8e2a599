/* SPDX-License-Identifier: MIT */
#include "backends/null/buffer.h"

#include "backends/null/status.h"

#include <string.h>

qp_status qn_range_check(const qp_device *device, const qp_range *range, const char *what, qp_text *error)
{
    const qp_buffer *buffer = range->buffer;
    if (!buffer || buffer->device != device)
        return qn_fail(error, QP_ERR_INVALID, "%s has no buffer, or one of another device", what);
    if (range->offset > buffer->size || range->size > buffer->size - range->offset)
        return qn_fail(error, QP_ERR_INVALID, "%s: %llu bytes at offset %llu do not lie in its buffer of %llu", what,
                       (unsigned long long)range->size, (unsigned long long)range->offset, (unsigned long long)buffer->size);
    return QP_OK;
}

static qp_status wrap(qp_device *device, char *data, uint64_t size, int imported, qp_buffer **out, qp_text *error)
{
    qp_buffer *buffer = qn_alloc_zeroed(sizeof *buffer);
    if (!buffer)
        return qn_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the record of a buffer");
    *buffer = (qp_buffer){device, data, size, imported};
    *out = buffer;
    return QP_OK;
}

qp_status qn_buffer_create(qp_device *device, uint32_t heap, uint64_t size, qp_buffer **out, qp_text *error)
{
    if (heap > 0)
        return qn_fail(error, QP_ERR_INVALID, "the null device has one heap, number 0; there is no heap %u", heap);
    if (!size)
        return qn_fail(error, QP_ERR_INVALID, "a buffer of 0 bytes was asked for");
    uint64_t total, available;
    qn_memory(&total, &available);
    char *data = total && size > available ? NULL : qn_alloc(size);
    if (!data)
        return qn_fail(error, QP_ERR_OUT_OF_MEMORY, "not enough memory: %llu bytes asked of the null device's heap, %llu available",
                       (unsigned long long)size, (unsigned long long)available);
    qp_status status = wrap(device, data, size, 0, out, error);
    if (status)
        qn_free(data);
    return status;
}

qp_status qn_buffer_import(qp_device *device, void *memory, uint64_t size, qp_buffer **out, qp_text *error)
{
    if (!memory || !size)
        return qn_fail(error, QP_ERR_INVALID, "buffer_import needs memory of at least one byte");
    return wrap(device, memory, size, 1, out, error);
}

qp_status qn_buffer_map(qp_buffer *buffer, void **address, qp_text *error)
{
    (void)error;
    *address = buffer->data;
    return QP_OK;
}

void qn_buffer_destroy(qp_buffer *buffer)
{
    if (!buffer)
        return;
    if (!buffer->imported)
        qn_free(buffer->data);
    qn_free(buffer);
}

qp_status qn_buffer_write(qp_buffer *buffer, uint64_t offset, const void *data, uint64_t size, qp_text *error)
{
    qp_range range = {buffer, offset, size};
    qp_status status = qn_range_check(buffer->device, &range, "buffer_write", error);
    if (!status && size)
        memcpy(buffer->data + offset, data, size);
    return status;
}

qp_status qn_buffer_read(qp_buffer *buffer, uint64_t offset, void *data, uint64_t size, qp_text *error)
{
    qp_range range = {buffer, offset, size};
    qp_status status = qn_range_check(buffer->device, &range, "buffer_read", error);
    if (!status && size)
        memcpy(data, buffer->data + offset, size);
    return status;
}
