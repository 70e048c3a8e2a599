/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/status.h"

#include "backends/vulkan/device.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const qp_host *host; /* set by query(), before anything else runs */

qp_status qv_fail(qp_text *error, qp_status status, const char *format, ...)
{
    if (!error || !error->data || !error->size)
        return status;
    va_list args;
    va_start(args, format);
    vsnprintf(error->data, error->size, format, args);
    va_end(args);
    return status;
}

const char *qv_result_name(VkResult result)
{
    switch (result) {
#define NAME(code, words)                                                                                                          \
    case code: return #code ": " words;
        NAME(VK_ERROR_OUT_OF_HOST_MEMORY, "the host's memory is used up")
        NAME(VK_ERROR_OUT_OF_DEVICE_MEMORY, "the device's memory is used up")
        NAME(VK_ERROR_INITIALIZATION_FAILED, "the driver does not start")
        NAME(VK_ERROR_DEVICE_LOST, "the device was reset or is gone")
        NAME(VK_ERROR_MEMORY_MAP_FAILED, "memory cannot be mapped")
        NAME(VK_ERROR_LAYER_NOT_PRESENT, "a layer that the environment asks for is not installed")
        NAME(VK_ERROR_EXTENSION_NOT_PRESENT, "an extension is missing")
        NAME(VK_ERROR_FEATURE_NOT_PRESENT, "a feature is missing")
        NAME(VK_ERROR_INCOMPATIBLE_DRIVER, "there is no driver of this version")
        NAME(VK_ERROR_TOO_MANY_OBJECTS, "there are too many objects of this kind")
        NAME(VK_ERROR_INVALID_EXTERNAL_HANDLE, "the memory cannot be shared")
        NAME(VK_ERROR_UNKNOWN, "the driver gives no reason")
#undef NAME
    default: return "an error that this version does not know";
    }
}

qp_status qv_failed(qp_device *device, VkResult result, qp_text *error, const char *what)
{
    switch (result) {
    case VK_ERROR_DEVICE_LOST:
        if (device)
            atomic_store(&device->lost, 1);
        return qv_fail(error, QP_ERR_DEVICE_LOST, "%s was reset or is gone, which showed while %s",
                       device ? device->physical->properties.deviceName : "it", what);
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_DEVICE_MEMORY: return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "%s: %s", what, qv_result_name(result));
    default: return qv_fail(error, QP_ERR_DRIVER, "%s: %s (%d)", what, qv_result_name(result), result);
    }
}

qp_status qv_lost(const qp_device *device, qp_text *error)
{
    if (!atomic_load_explicit(&device->lost, memory_order_relaxed))
        return QP_OK;
    return qv_fail(error, QP_ERR_DEVICE_LOST, "%s was reset or is gone, which showed earlier",
                   device->physical->properties.deviceName);
}

void qv_set_host(const qp_host *new_host)
{
    host = new_host;
}

/* Memory goes back the way it came, so the host's allocator is used whole or not at all. */
static int host_allocates(void)
{
    return host && QP_HAS(host, alloc) && QP_HAS(host, free) && host->alloc && host->free;
}

void *qv_alloc(uint64_t size)
{
    if (!size || size > SIZE_MAX - 63)
        return NULL;
    size_t rounded = ((size_t)size + 63) / 64 * 64;
    return host_allocates() ? host->alloc(host->ctx, rounded, 64) : aligned_alloc(64, rounded);
}

void *qv_alloc_zeroed(uint64_t size)
{
    void *memory = qv_alloc(size);
    return memory ? memset(memory, 0, (size_t)size) : NULL;
}

void qv_free(void *memory)
{
    if (memory && host_allocates())
        host->free(host->ctx, memory);
    else
        free(memory);
}

void qv_memory(uint64_t *total, uint64_t *available)
{
    *total = *available = 0;
    if (host && QP_HAS(host, memory) && host->memory)
        host->memory(host->ctx, total, available);
}

void qv_log(int level, const char *format, ...)
{
    char line[512];
    if (!host || !QP_HAS(host, log) || !host->log)
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    host->log(host->ctx, level, line);
}
