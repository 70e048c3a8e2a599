/* SPDX-License-Identifier: MIT
 * backends/vulkan/transfer.h: the way into memory that the host cannot see: a ring of staging slots, each with a copy recorded anew
 * for what it holds. Nothing is made before the first use. */
#ifndef QUERN_BACKENDS_VULKAN_TRANSFER_H
#define QUERN_BACKENDS_VULKAN_TRANSFER_H

#include "backends/vulkan/symbols.h"

#include <pthread.h>

enum { QV_STAGING_SLOTS = 4 };
enum { QV_STAGING_BYTES = 8 << 20 };

typedef struct qv_staging {
    qp_buffer *buffer; /* in host_heap, mapped */
    VkCommandPool pool;
    VkCommandBuffer commands;
    uint64_t number; /* of its last submission */
    int busy;
} qv_staging;

typedef struct qv_transfer {
    qv_staging slots[QV_STAGING_SLOTS];
    pthread_mutex_t lock;
    pthread_cond_t freed;
    int ready;
} qv_transfer;

qp_status qv_transfer_init(qp_device *device, qp_text *error);
void qv_transfer_destroy(qp_device *device);

/* A slot whose memory may be written. Pass it to qv_staging_upload or give it back. */
qp_status qv_staging_take(qp_device *device, qv_staging **out, qp_text *error);
void qv_staging_give(qp_device *device, qv_staging *slot);
/* Copies the slot's first bytes to the buffer, and gives the slot back: the device may still be copying. */
qp_status qv_staging_upload(qp_buffer *to, uint64_t offset, uint64_t size, qv_staging *slot, qp_text *error);
/* The same by a kernel, which finds its parameters in the push constants and writes to this buffer. */
qp_status qv_staging_dispatch(qp_buffer *to, VkPipeline pipeline, const void *push, uint32_t push_bytes, const uint32_t groups[2],
                              qv_staging *slot, qp_text *error);

/* The range was checked. Writing returns once data may be reused, reading once it is there. */
qp_status qv_transfer_write(qp_buffer *buffer, uint64_t offset, const void *data, uint64_t size, qp_text *error);
qp_status qv_transfer_read(qp_buffer *buffer, uint64_t offset, void *data, uint64_t size, qp_text *error);

#endif
