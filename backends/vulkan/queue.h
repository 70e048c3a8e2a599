/* SPDX-License-Identifier: MIT
 * backends/vulkan/queue.h: the device's one queue. Every submission gets the next number of one timeline, `done`, so that whoever
 * must know whether something has ended asks for its number. */
#ifndef QUERN_BACKENDS_VULKAN_QUEUE_H
#define QUERN_BACKENDS_VULKAN_QUEUE_H

#include "backends/vulkan/symbols.h"

#include <pthread.h>

typedef struct qv_queue {
    VkQueue handle;
    VkSemaphore done;
    uint64_t submitted;     /* the last number given out */
    uint64_t unsettled;     /* of the last upload through the staging ring */
    qp_timeline *graveyard; /* timelines that the host has destroyed and submissions still name */
    pthread_mutex_t lock;
    int ready;
} qv_queue;

/* Semaphores and values that a submission waits for or signals, as Vulkan wants them. */
typedef struct qv_marks {
    uint32_t count;
    VkSemaphore semaphores[16];
    uint64_t values[16];
} qv_marks;

qp_status qv_queue_init(qp_device *device, qp_text *error);
void qv_queue_destroy(qp_device *device);

/* Under the lock: submits, and tells the number. signals has room for one more. */
qp_status qv_queue_submit_locked(qp_device *device, const VkCommandBuffer *commands, uint32_t count, const qv_marks *waits,
                                 qv_marks *signals, uint64_t *number, qp_text *error);

/* Waits for a submission; QP_ERR_DEVICE_LOST when it cannot end. */
qp_status qv_queue_wait(qp_device *device, uint64_t number, qp_text *error);
int qv_queue_reached(qp_device *device, uint64_t number);
void qv_queue_settle(qp_device *device); /* waits for uploads that buffer_write and weight_pack left under way */

/* Waits in slices, so that a device that is lost meanwhile ends it: QP_OK, QP_TIMEOUT or QP_ERR_DEVICE_LOST. */
qp_status qv_semaphore_wait(qp_device *device, VkSemaphore semaphore, uint64_t value, uint64_t timeout_ns, qp_text *error);

/* A semaphore of type timeline. */
VkResult qv_semaphore_create(qp_device *device, uint64_t value, VkSemaphore *out);

/* A pool of its own for each maker of command buffers: pools are used by one thread at a time. */
qp_status qv_commands_create(qp_device *device, VkCommandPool *pool, VkCommandBuffer *out, uint32_t count, qp_text *error);

/* Begins a command buffer that may be submitted again while it runs. */
VkResult qv_commands_begin(qp_device *device, VkCommandBuffer commands);

/* All that was written before in these stages is seen by all that comes after in those. */
void qv_barrier(qp_device *device, VkCommandBuffer commands, VkPipelineStageFlags from, VkAccessFlags written,
                VkPipelineStageFlags to, VkAccessFlags seen);

qp_status qv_program_run(qp_program *program, const qp_run *run, qp_text *error);

#endif
