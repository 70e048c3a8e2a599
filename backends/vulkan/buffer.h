/* SPDX-License-Identifier: MIT
 * backends/vulkan/buffer.h: a stretch of device memory with an address. The host makes few and large ones, so each has an
 * allocation of its own. */
#ifndef QUERN_BACKENDS_VULKAN_BUFFER_H
#define QUERN_BACKENDS_VULKAN_BUFFER_H

#include "backends/vulkan/symbols.h"

struct qp_buffer {
    qp_device *device;
    VkBuffer handle;
    VkDeviceMemory memory;
    uint64_t size;
    VkDeviceAddress address;
    char *mapped;      /* NULL where the host cannot see it */
    uint64_t last_use; /* number of the last transfer that names it; under the queue's lock */
    qp_buffer *next;   /* in the queue's graveyard */
};

/* Frees those in the graveyard that no transfer names any more; all: whether or not. */
void qv_buffer_sweep_locked(qp_device *device, int all);

/* Is the range inside its buffer, and the buffer this device's? QP_ERR_INVALID with words about `what`. */
qp_status qv_range_check(const qp_device *device, const qp_range *range, const char *what, qp_text *error);

qp_status qv_buffer_create(qp_device *device, uint32_t heap, uint64_t size, qp_buffer **out, qp_text *error);
qp_status qv_buffer_import(qp_device *device, void *memory, uint64_t size, qp_buffer **out, qp_text *error);
qp_status qv_buffer_map(qp_buffer *buffer, void **address, qp_text *error);
void qv_buffer_destroy(qp_buffer *buffer);
qp_status qv_buffer_write(qp_buffer *buffer, uint64_t offset, const void *data, uint64_t size, qp_text *error);
qp_status qv_buffer_read(qp_buffer *buffer, uint64_t offset, void *data, uint64_t size, qp_text *error);

#endif
