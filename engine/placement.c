/* SPDX-License-Identifier: MIT */
#include "engine/placement.h"

#include <stdio.h>
#include <stdlib.h>

enum { LEAST_ALIGNMENT = 64 }; /* a cache line: no two tensors share one */

void placement_init(placement *p, const qp_device_info *info, uint32_t heap)
{
    const qp_heap *h = &info->heaps[heap];
    *p = (placement){.heap = heap,
                     .max_block = h->max_allocation ? h->max_allocation : UINT64_MAX / 2,
                     .alignment = h->alignment > LEAST_ALIGNMENT ? h->alignment : LEAST_ALIGNMENT};
}

static quern_status new_block(placement *p, quern_error *error)
{
    if (p->count == p->capacity) {
        uint32_t capacity = p->capacity ? 2 * p->capacity : 8;
        uint64_t *sizes = realloc(p->sizes, capacity * sizeof *sizes);
        if (!sizes)
            return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for the memory plan");
        p->sizes = sizes;
        p->capacity = capacity;
    }
    p->sizes[p->count++] = 0;
    return QP_OK;
}

quern_status placement_add(placement *p, uint64_t bytes, uint64_t alignment, const char *what, place *out, quern_error *error)
{
    if (alignment < p->alignment)
        alignment = p->alignment;
    if (bytes > p->max_block)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "%s needs %s in one piece, and the largest allocation of this device is %s",
                          what, bytes_words(bytes).text, bytes_words(p->max_block).text);
    if (p->count) {
        uint64_t end = p->sizes[p->count - 1], offset = (end + alignment - 1) / alignment * alignment;
        if (offset >= end && offset <= p->max_block && bytes <= p->max_block - offset) {
            p->sizes[p->count - 1] = offset + bytes;
            *out = (place){p->count - 1, offset};
            return QP_OK;
        }
    }
    quern_status status = new_block(p, error);
    if (status != QP_OK)
        return status;
    p->sizes[p->count - 1] = bytes;
    *out = (place){p->count - 1, 0};
    return QP_OK;
}

uint64_t placement_bytes(const placement *p)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < p->count; i++)
        if (__builtin_add_overflow(sum, p->sizes[i], &sum))
            return UINT64_MAX;
    return sum;
}

quern_status placement_allocate(placement *p, quern_device *device, quern_error *error)
{
    p->buffers = calloc(p->count ? p->count : 1, sizeof *p->buffers);
    if (!p->buffers)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for %u buffers", p->count);
    for (uint32_t i = 0; i < p->count; i++) {
        quern_status status = quern_buffer_create(device, p->heap, p->sizes[i] ? p->sizes[i] : 1, &p->buffers[i], error);
        if (status != QP_OK)
            return status;
    }
    return QP_OK;
}

void placement_bind(const placement *p, place at, uint64_t bytes, qp_tensor *t)
{
    qp_range range = quern_buffer_range(p->buffers[at.block], at.offset, bytes);
    t->buffer = range.buffer;
    t->offset = range.offset;
}

void placement_free(placement *p)
{
    for (uint32_t i = 0; p->buffers && i < p->count; i++)
        quern_buffer_destroy(p->buffers[i]);
    free(p->buffers);
    free(p->sizes);
    *p = (placement){0};
}

quern_status heap_available(quern_device *device, uint32_t heap, uint64_t *bytes, quern_error *error)
{
    qp_device_info info = {.struct_size = sizeof info};
    quern_status status = quern_device_refresh(device, &info, error);
    if (status != QP_OK)
        return status;
    const qp_heap *h = &info.heaps[heap];
    *bytes = h->budget ? h->budget : h->size ? h->size : UINT64_MAX;
    return QP_OK;
}

bytes_text bytes_words(uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    uint32_t unit = 0;
    for (; value >= 1024 && unit < 4; unit++)
        value /= 1024;
    bytes_text out;
    snprintf(out.text, sizeof out.text, unit ? "%.2f %s" : "%.0f %s", value, units[unit]);
    return out;
}
