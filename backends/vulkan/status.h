/* SPDX-License-Identifier: MIT
 * backends/vulkan/status.h: errors in words, and the host's services with the C library in their place where the host has none. */
#ifndef QUERN_BACKENDS_VULKAN_STATUS_H
#define QUERN_BACKENDS_VULKAN_STATUS_H

#include "backends/vulkan/symbols.h"

/* Writes the words (if there is somewhere to) and gives back `status`. */
__attribute__((format(printf, 3, 4))) qp_status qv_fail(qp_text *error, qp_status status, const char *format, ...);

/* "VK_ERROR_OUT_OF_DEVICE_MEMORY: the device's memory is used up", for any number. */
const char *qv_result_name(VkResult result);

/* The status and words for a call that gave `result` (no success) while doing `what`. A lost device is marked as such. */
qp_status qv_failed(qp_device *device, VkResult result, qp_text *error, const char *what);

/* QP_ERR_DEVICE_LOST with words once the device is lost, else QP_OK. */
qp_status qv_lost(const qp_device *device, qp_text *error);

/* The host's services. Memory is 64-byte aligned; NULL when there is none. */
void qv_set_host(const qp_host *host);
void *qv_alloc(uint64_t size);
void *qv_alloc_zeroed(uint64_t size);
void qv_free(void *memory);
void qv_memory(uint64_t *total, uint64_t *available); /* 0: unknown */
__attribute__((format(printf, 2, 3))) void qv_log(int level, const char *format, ...);

#endif
