/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/buffer.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/selftest.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/view.h"

#include <stdio.h>
#include <string.h>

enum { LARGE = 64 << 20 }; /* a buffer that may need what a bench for tests takes of the device */

qp_status qv_range_check(const qp_device *device, const qp_range *range, const char *what, qp_text *error)
{
    const qp_buffer *buffer = range->buffer;
    if (!buffer || buffer->device != device)
        return qv_fail(error, QP_ERR_INVALID, "%s has no buffer, or one of another device", what);
    if (range->offset > buffer->size || range->size > buffer->size - range->offset)
        return qv_fail(error, QP_ERR_INVALID, "%s: %llu bytes at offset %llu do not lie in its buffer of %llu", what,
                       (unsigned long long)range->size, (unsigned long long)range->offset, (unsigned long long)buffer->size);
    return QP_OK;
}

/* The buffer object, without memory. */
static qp_status create_handle(qp_buffer *buffer, int imported, qp_text *error)
{
    qp_device *device = buffer->device;
    VkExternalMemoryBufferCreateInfo external = {.sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO,
                                                 .handleTypes = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT};
    VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                               .pNext = imported ? &external : NULL,
                               .size = buffer->size,
                               .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                        VK_BUFFER_USAGE_TRANSFER_DST_BIT | VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT};
    if (!qv_views_lack(device->physical))
        info.usage |= VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT;
    VkResult result = device->vk.CreateBuffer(device->handle, &info, NULL, &buffer->handle);
    return result ? qv_failed(device, result, error, "making a buffer") : QP_OK;
}

/* Memory of this type, bound; mapped where the host can see it. */
static qp_status bind_memory(qp_buffer *buffer, uint32_t type, uint64_t size, const void *next, int map, qp_text *error)
{
    qp_device *device = buffer->device;
    VkMemoryAllocateFlagsInfo flags = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_FLAGS_INFO, .pNext = next, .flags = VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT};
    VkMemoryAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO, .pNext = &flags, .allocationSize = size, .memoryTypeIndex = type};
    VkResult result = device->vk.AllocateMemory(device->handle, &info, NULL, &buffer->memory);
    if (!result)
        result = device->vk.BindBufferMemory(device->handle, buffer->handle, buffer->memory, 0);
    void *mapped = NULL;
    if (!result && map)
        result = device->vk.MapMemory(device->handle, buffer->memory, 0, VK_WHOLE_SIZE, 0, &mapped);
    if (result) {
        char words[96];
        snprintf(words, sizeof words, "%llu bytes were asked of device memory", (unsigned long long)size);
        return qv_failed(device, result, error, words);
    }
    buffer->mapped = mapped;
    buffer->address = device->vk.GetBufferDeviceAddress(
        device->handle,
        &(VkBufferDeviceAddressInfo){.sType = VK_STRUCTURE_TYPE_BUFFER_DEVICE_ADDRESS_INFO, .buffer = buffer->handle});
    return QP_OK;
}

static qp_status check_size(const qp_device *device, uint32_t heap, uint64_t size, qp_text *error)
{
    const qv_physical *p = device->physical;
    if (heap >= p->heap_count)
        return qv_fail(error, QP_ERR_INVALID, "there is no heap %u; they are counted from 0 and there are %u", heap, p->heap_count);
    if (!size)
        return qv_fail(error, QP_ERR_INVALID, "a buffer of 0 bytes was asked for");
    if (size > p->max_allocation)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "%llu bytes were asked for; a single buffer of this device has %llu at most",
                       (unsigned long long)size, (unsigned long long)p->max_allocation);
    uint64_t total, available;
    qv_memory(&total, &available);
    if (p->heaps[heap].flags & QP_HEAP_UNIFIED && total && size > available)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "not enough memory: %llu bytes asked of heap %u, %llu available",
                       (unsigned long long)size, heap, (unsigned long long)available);
    return QP_OK;
}

/* The heap's memory type, or where buffers may not be of it one that is its like: drivers list several for that. UINT32_MAX: none.
 */
static uint32_t type_for(const qv_physical *p, uint32_t wanted, uint32_t allowed)
{
    const VkMemoryType *types = p->memory.memoryTypes;
    if (allowed >> wanted & 1)
        return wanted;
    for (uint32_t i = 0; i < p->memory.memoryTypeCount; i++)
        if (allowed >> i & 1 && types[i].heapIndex == types[wanted].heapIndex &&
            types[i].propertyFlags == types[wanted].propertyFlags)
            return i;
    return UINT32_MAX;
}

qp_status qv_buffer_create(qp_device *device, uint32_t heap, uint64_t size, qp_buffer **out, qp_text *error)
{
    qp_status status = qv_lost(device, error);
    if (!status)
        status = check_size(device, heap, size, error);
    if (status)
        return status;
    if (size >= LARGE)
        qv_selftest_rest(device);
    pthread_mutex_lock(&device->queue.lock);
    qv_buffer_sweep_locked(device, 0);
    pthread_mutex_unlock(&device->queue.lock);
    qp_buffer *buffer = qv_alloc_zeroed(sizeof *buffer);
    if (!buffer)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the record of a buffer");
    *buffer = (qp_buffer){.device = device, .size = size};
    status = create_handle(buffer, 0, error);
    if (!status) {
        const qv_heap *from = &device->physical->heaps[heap];
        VkMemoryRequirements needs;
        device->vk.GetBufferMemoryRequirements(device->handle, buffer->handle, &needs);
        uint32_t type = type_for(device->physical, from->type, needs.memoryTypeBits);
        if (type == UINT32_MAX)
            status = qv_fail(error, QP_ERR_DRIVER, "the driver takes no buffers in heap %u", heap);
        else
            status = bind_memory(buffer, type, needs.size, NULL, (from->flags & QP_HEAP_HOST_VISIBLE) != 0, error);
    }
    if (status)
        qv_buffer_destroy(buffer);
    else
        *out = buffer;
    return status;
}

/* A memory type that the driver gives host memory, coherent because nothing here flushes. UINT32_MAX: none. */
static uint32_t import_type(const qp_device *device, VkBuffer handle, void *memory)
{
    VkMemoryHostPointerPropertiesEXT properties = {.sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    VkMemoryRequirements needs;
    if (device->vk.GetMemoryHostPointerPropertiesEXT(device->handle, VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT, memory,
                                                     &properties))
        return UINT32_MAX;
    device->vk.GetBufferMemoryRequirements(device->handle, handle, &needs);
    for (uint32_t i = 0; i < device->physical->memory.memoryTypeCount; i++)
        if (properties.memoryTypeBits >> i & needs.memoryTypeBits >> i & 1 &&
            device->physical->memory.memoryTypes[i].propertyFlags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
            return i;
    return UINT32_MAX;
}

qp_status qv_buffer_import(qp_device *device, void *memory, uint64_t size, qp_buffer **out, qp_text *error)
{
    uint64_t alignment = device->physical->import_alignment;
    qp_status status = qv_lost(device, error);
    if (status)
        return status;
    if (!alignment)
        return qv_fail(error, QP_ERR_UNSUPPORTED, "this driver cannot use host memory (it lacks VK_EXT_external_memory_host)");
    if (!memory || !size)
        return qv_fail(error, QP_ERR_INVALID, "buffer_import needs memory of at least one byte");
    if ((uintptr_t)memory % alignment || size % alignment)
        return qv_fail(error, QP_ERR_UNSUPPORTED, "this driver takes host memory in whole pages of %llu bytes only",
                       (unsigned long long)alignment);
    qp_buffer *buffer = qv_alloc_zeroed(sizeof *buffer);
    if (!buffer)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the record of a buffer");
    *buffer = (qp_buffer){.device = device, .size = size};
    status = create_handle(buffer, 1, error);
    uint32_t type = status ? UINT32_MAX : import_type(device, buffer->handle, memory);
    VkImportMemoryHostPointerInfoEXT import = {.sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
                                               .handleType = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT,
                                               .pHostPointer = memory};
    if (!status && type == UINT32_MAX)
        status = qv_fail(error, QP_ERR_UNSUPPORTED, "the driver does not take this host memory");
    if (!status)
        status = bind_memory(buffer, type, size, &import, 0, error);
    if (status) {
        qv_buffer_destroy(buffer);
        return status;
    }
    buffer->mapped = memory;
    *out = buffer;
    return QP_OK;
}

qp_status qv_buffer_map(qp_buffer *buffer, void **address, qp_text *error)
{
    qp_status status = qv_lost(buffer->device, error);
    if (status)
        return status;
    if (!buffer->mapped)
        return qv_fail(error, QP_ERR_UNSUPPORTED, "the host cannot see this buffer's heap; use buffer_write and buffer_read");
    *address = buffer->mapped;
    return QP_OK;
}

static void release(qp_buffer *buffer)
{
    qp_device *device = buffer->device;
    device->vk.DestroyBuffer(device->handle, buffer->handle, NULL);
    device->vk.FreeMemory(device->handle, buffer->memory, NULL);
    qv_free(buffer);
}

void qv_buffer_sweep_locked(qp_device *device, int all)
{
    qp_buffer **link = &device->queue.buffer_graveyard;
    while (*link) {
        qp_buffer *buffer = *link;
        if (all || qv_queue_reached(device, buffer->last_use)) {
            *link = buffer->next;
            release(buffer);
        } else {
            link = &buffer->next;
        }
    }
}

/* An upload may be under way, or stand behind a run that waits for whoever calls this: then it is freed later. */
void qv_buffer_destroy(qp_buffer *buffer)
{
    if (!buffer)
        return;
    qp_device *device = buffer->device;
    pthread_mutex_lock(&device->queue.lock);
    buffer->next = device->queue.buffer_graveyard;
    device->queue.buffer_graveyard = buffer;
    qv_buffer_sweep_locked(device, 0);
    pthread_mutex_unlock(&device->queue.lock);
}

qp_status qv_buffer_write(qp_buffer *buffer, uint64_t offset, const void *data, uint64_t size, qp_text *error)
{
    qp_range range = {buffer, offset, size};
    qp_status status = qv_lost(buffer->device, error);
    if (!status)
        status = qv_range_check(buffer->device, &range, "buffer_write", error);
    if (status || !size)
        return status;
    if (!buffer->mapped)
        return qv_transfer_write(buffer, offset, data, size, error);
    memcpy(buffer->mapped + offset, data, size);
    return QP_OK;
}

qp_status qv_buffer_read(qp_buffer *buffer, uint64_t offset, void *data, uint64_t size, qp_text *error)
{
    qp_range range = {buffer, offset, size};
    qp_status status = qv_lost(buffer->device, error);
    if (!status)
        status = qv_range_check(buffer->device, &range, "buffer_read", error);
    if (status || !size)
        return status;
    if (!buffer->mapped)
        return qv_transfer_read(buffer, offset, data, size, error);
    memcpy(data, buffer->mapped + offset, size);
    return QP_OK;
}
