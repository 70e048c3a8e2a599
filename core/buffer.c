/* SPDX-License-Identifier: MIT */
#include "core/device.h"

#include <quern/format.h>

#include <stdlib.h>
#include <string.h>

/* ---- making ---- */

static quern_status adopt(quern_device *device, qp_status status, qp_buffer *handle, const quern_buffer *facts, char *words,
                          quern_buffer **out, quern_error *error)
{
    if (!status && !handle)
        status = QP_ERR_INTERNAL;
    if (status)
        return qi_device_result(device, status, words, error);
    quern_buffer *buffer = malloc(sizeof *buffer);
    if (buffer) {
        *buffer = *facts;
        buffer->device = device;
        buffer->handle = handle;
        atomic_init(&buffer->owners, 1);
    }
    if (!buffer || !qi_live_add(device, &device->buffers, handle, buffer)) {
        free(buffer);
        device->backend->buffer_destroy(handle);
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "%s: no host memory to keep a buffer", device->id);
    }
    qi_device_retain(device);
    *out = buffer;
    return QP_OK;
}

quern_status quern_buffer_create(quern_device *device, uint32_t heap, uint64_t size, quern_buffer **out, quern_error *error)
{
    if (!device || !out)
        return quern_fail(error, QP_ERR_INVALID, "quern_buffer_create: %s is NULL", device ? "out" : "device");
    quern_status status = qi_device_ready(device, error);
    if (status)
        return status;
    if (heap >= device->info.heap_count)
        return quern_fail(error, QP_ERR_INVALID, "%s: there is no heap %u, it has %u", device->id, heap, device->info.heap_count);
    if (!size)
        return quern_fail(error, QP_ERR_INVALID, "%s: a buffer of 0 bytes was asked for", device->id);
    const qp_heap *facts = &device->info.heaps[heap];
    if (facts->max_allocation && size > facts->max_allocation)
        return quern_fail(
            error, QP_ERR_OUT_OF_MEMORY,
            "%s: a buffer of %llu bytes was asked for, heap %u takes up to %llu in one: split it, or choose another device",
            device->id, (unsigned long long)size, heap, (unsigned long long)facts->max_allocation);
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    qp_buffer *handle = NULL;
    status = device->backend->buffer_create(device->handle, heap, size, &handle, &text);
    quern_buffer buffer = {.size = size, .heap = heap, .alignment = facts->alignment};
    return adopt(device, status, handle, &buffer, words, out, error);
}

quern_status quern_buffer_import(quern_device *device, void *memory, uint64_t size, quern_buffer **out, quern_error *error)
{
    if (!device || !out || !memory)
        return quern_fail(error, QP_ERR_INVALID, "quern_buffer_import: %s is NULL", !device ? "device" : !out ? "out" : "memory");
    quern_status status = qi_device_ready(device, error);
    if (status)
        return status;
    if (!size)
        return quern_fail(error, QP_ERR_INVALID, "%s: 0 bytes cannot be imported", device->id);
    if (!(device->info.flags & QP_DEVICE_CAN_IMPORT) || !device->backend->buffer_import)
        return quern_fail(error, QP_ERR_UNSUPPORTED, "%s: this device cannot use host memory in place: copy it into a buffer",
                          device->id);
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    qp_buffer *handle = NULL;
    status = device->backend->buffer_import(device->handle, memory, size, &handle, &text);
    /* the caller's memory lies as it lies: what the kernels need of it, the plugin checks */
    quern_buffer buffer = {.size = size, .heap = device->info.host_heap, .alignment = 1};
    return adopt(device, status, handle, &buffer, words, out, error);
}

void quern_buffer_destroy(quern_buffer *buffer)
{
    if (!buffer || !qi_buffer_unshare(buffer))
        return;
    quern_device *device = buffer->device;
    device->backend->buffer_destroy(buffer->handle);
    free(buffer);
    qi_device_release(device);
}

uint64_t quern_buffer_size(const quern_buffer *buffer)
{
    return buffer ? buffer->size : 0;
}

/* ---- access ---- */

quern_status quern_buffer_map(quern_buffer *buffer, void **address, quern_error *error)
{
    if (!buffer || !address)
        return quern_fail(error, QP_ERR_INVALID, "quern_buffer_map: %s is NULL", buffer ? "address" : "buffer");
    quern_device *device = buffer->device;
    quern_status status = qi_device_ready(device, error);
    if (status)
        return status;
    if (!(device->info.heaps[buffer->heap].flags & QP_HEAP_HOST_VISIBLE))
        return quern_fail(error, QP_ERR_UNSUPPORTED, "%s: heap %u cannot be mapped: use quern_buffer_read and quern_buffer_write",
                          device->id, buffer->heap);
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    void *mapped = NULL;
    status = device->backend->buffer_map(buffer->handle, &mapped, &text);
    if (!status && !mapped)
        status = QP_ERR_INTERNAL;
    if (!status)
        *address = mapped;
    return qi_device_result(device, status, words, error);
}

static quern_status check_transfer(quern_buffer *buffer, const char *what, uint64_t offset, const void *data, uint64_t size,
                                   quern_error *error)
{
    if (!buffer || (!data && size))
        return quern_fail(error, QP_ERR_INVALID, "quern_buffer_%s: %s is NULL", what, buffer ? "data" : "buffer");
    if (!qi_inside(offset, size, buffer->size))
        return quern_fail(error, QP_ERR_INVALID, "%s: %s of %llu bytes at offset %llu in a buffer of %llu", buffer->device->id,
                          what, (unsigned long long)size, (unsigned long long)offset, (unsigned long long)buffer->size);
    return qi_device_ready(buffer->device, error);
}

quern_status quern_buffer_write(quern_buffer *buffer, uint64_t offset, const void *data, uint64_t size, quern_error *error)
{
    quern_status status = check_transfer(buffer, "write", offset, data, size, error);
    if (status || !size)
        return status;
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    status = buffer->device->backend->buffer_write(buffer->handle, offset, data, size, &text);
    return qi_device_result(buffer->device, status, words, error);
}

quern_status quern_buffer_read(quern_buffer *buffer, uint64_t offset, void *data, uint64_t size, quern_error *error)
{
    quern_status status = check_transfer(buffer, "read", offset, data, size, error);
    if (status || !size)
        return status;
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    status = buffer->device->backend->buffer_read(buffer->handle, offset, data, size, &text);
    return qi_device_result(buffer->device, status, words, error);
}

/* ---- tensors ---- */

uint32_t qi_tensor_alignment(const quern_buffer *buffer, qp_format format, uint32_t layout)
{
    const quern_format_info *facts = quern_format_get(format);
    if (layout != QP_LAYOUT_GGUF)
        return buffer->alignment;
    uint32_t element = facts && facts->block_elements == 1 ? facts->block_bytes : 1;
    return element < buffer->alignment ? element : buffer->alignment;
}

static int contiguous(qp_tensor *t, uint64_t *bytes)
{
    if (!quern_format_bytes(t->format, t->ne[0], bytes))
        return 0;
    t->nb[0] = quern_format_get(t->format)->block_bytes;
    for (int i = 1; i < 4; i++) {
        if (*bytes > INT64_MAX)
            return 0;
        t->nb[i] = (int64_t)*bytes;
        if (__builtin_mul_overflow(*bytes, (uint64_t)t->ne[i], bytes))
            return 0;
    }
    return *bytes <= INT64_MAX;
}

quern_status quern_buffer_tensor(quern_buffer *buffer, uint64_t offset, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2,
                                 int64_t ne3, qp_tensor *out, quern_error *error)
{
    const quern_format_info *facts = quern_format_get(format);
    uint64_t bytes = 0;
    qp_tensor t = {.buffer = buffer ? buffer->handle : NULL,
                   .offset = offset,
                   .format = format,
                   .layout = QP_LAYOUT_GGUF,
                   .ne = {ne0, ne1, ne2, ne3}};
    if (!out)
        return quern_fail(error, QP_ERR_INVALID, "quern_buffer_tensor: out is NULL");
    if (!facts)
        return quern_fail(error, QP_ERR_INVALID, "no tensor format has the number %u", format);
    for (int i = 0; i < 4; i++)
        if (t.ne[i] < 1)
            return quern_fail(error, QP_ERR_INVALID, "dimension %d of a tensor is %lld, at least 1 is due", i, (long long)t.ne[i]);
    if (ne0 % facts->block_elements)
        return quern_fail(error, QP_ERR_INVALID, "rows of %lld elements are not whole blocks of %s, which hold %u", (long long)ne0,
                          facts->name, facts->block_elements);
    if (!contiguous(&t, &bytes))
        return quern_fail(error, QP_ERR_INVALID, "a %s tensor of %lld x %lld x %lld x %lld is too large to address", facts->name,
                          (long long)ne0, (long long)ne1, (long long)ne2, (long long)ne3);
    if (buffer && !qi_inside(offset, bytes, buffer->size))
        return quern_fail(error, QP_ERR_INVALID, "%s: a tensor of %llu bytes at offset %llu in a buffer of %llu",
                          buffer->device->id, (unsigned long long)bytes, (unsigned long long)offset,
                          (unsigned long long)buffer->size);
    if (buffer && offset % qi_tensor_alignment(buffer, format, QP_LAYOUT_GGUF))
        return quern_fail(error, QP_ERR_INVALID, "%s: a %s tensor at offset %llu, which is not a multiple of %u",
                          buffer->device->id, facts->name, (unsigned long long)offset, facts->block_bytes);
    *out = t;
    return QP_OK;
}

qp_range quern_buffer_range(quern_buffer *buffer, uint64_t offset, uint64_t size)
{
    return (qp_range){buffer ? buffer->handle : NULL, offset, size};
}
