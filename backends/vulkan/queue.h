/* SPDX-License-Identifier: MIT
 * backends/vulkan/queue.h: the device's one queue. Every submission gets the next number of one timeline, `done`, so that whoever
 * must know whether something has ended asks for its number. */
#ifndef QUERN_BACKENDS_VULKAN_QUEUE_H
#define QUERN_BACKENDS_VULKAN_QUEUE_H

#include "backends/vulkan/symbols.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct qv_queue {
    VkQueue handle;
    VkSemaphore done;
    uint64_t submitted;          /* the last number given out */
    uint64_t gated;              /* of the last submission that waits for timelines, which the host may take its time to signal */
    uint64_t seen;               /* how far `done` was found to be by those who wait */
    uint64_t looked_ns;          /* when they looked last, and how long nothing had ended then */
    uint64_t still_ns;
    qp_timeline *graveyard;      /* timelines that the host has destroyed and submissions still name */
    qp_buffer *buffer_graveyard; /* and buffers */
    pthread_mutex_t lock;
    int ready;
    atomic_int left_behind; /* something could not be freed, and that was said */
} qv_queue;

/* Semaphores and values that a submission waits for or signals, as Vulkan wants them. */
typedef struct qv_marks {
    uint32_t count;
    VkSemaphore semaphores[16];
    uint64_t values[16];
} qv_marks;

qp_status qv_queue_init(qp_device *device, qp_text *error);
void qv_queue_destroy(qp_device *device);

/* One submission of several that go to the driver together. */
typedef struct qv_batch {
    VkCommandBuffer commands[2];
    uint32_t command_count;
    qv_marks waits, signals; /* signals: one place stays free */
    VkTimelineSemaphoreSubmitInfo values;
} qv_batch;

/* Room for the batches of a run; grows when a run needs more, and stays. */
typedef struct qv_batches {
    qv_batch *list;
    VkSubmitInfo *infos; /* as many */
    uint32_t room;
} qv_batches;
qp_status qv_batches_reserve(qv_batches *batches, uint32_t count, qp_text *error);
void qv_batches_free(qv_batches *batches);

/* Under the lock: submits the first `count` in one call, of which Vulkan promises that it takes all or, unless the device is lost,
 * none. Each gets a number of its own; *number is the last one's. */
qp_status qv_queue_submit_batches_locked(qp_device *device, qv_batches *batches, uint32_t count, uint64_t *number, qp_text *error);

/* The same for one command buffer that waits for nothing but the queue and signals nothing but its number. */
qp_status qv_queue_submit_locked(qp_device *device, VkCommandBuffer commands, uint64_t *number, qp_text *error);

/* Waits for a submission; QP_ERR_DEVICE_LOST when it cannot end. */
qp_status qv_queue_wait(qp_device *device, uint64_t number, qp_text *error);
int qv_queue_reached(qp_device *device, uint64_t number);
/* Waits until memory that this submission uses may be freed, also where the driver is out of memory for a while. 0: it cannot be
 * known, and what the submission uses must be left alone for good. */
int qv_queue_drained(qp_device *device, uint64_t number);

/* Waits in slices, so that a device that is lost meanwhile ends it: QP_OK, QP_TIMEOUT or QP_ERR_DEVICE_LOST. A lost device's
 * semaphores may look as if they had been signalled: that counts as lost. */
qp_status qv_semaphore_wait(qp_device *device, VkSemaphore semaphore, uint64_t value, uint64_t timeout_ns, qp_text *error);

/* A semaphore of type timeline. */
VkResult qv_semaphore_create(qp_device *device, uint64_t value, VkSemaphore *out);

/* A pool of its own for each maker of command buffers: pools are used by one thread at a time. */
qp_status qv_commands_create(qp_device *device, VkCommandPool *pool, VkCommandBuffer *out, uint32_t count, qp_text *error);

/* Begins a command buffer that may be submitted again while it runs. */
VkResult qv_commands_begin(qp_device *device, VkCommandBuffer commands);

/* Where a command buffer begins. Vulkan makes what the host wrote before vkQueueSubmit visible by itself, but not what it writes
 * into a mapping afterwards, while a run waits for a timeline: the first barrier takes in the host's stage for that. */
enum { QV_ALL_BEFORE = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT | VK_PIPELINE_STAGE_HOST_BIT };

/* All that was written before in these stages is seen by all that comes after in those. */
void qv_barrier(qp_device *device, VkCommandBuffer commands, VkPipelineStageFlags from, VkAccessFlags written,
                VkPipelineStageFlags to, VkAccessFlags seen);

qp_status qv_program_run(qp_program *program, const qp_run *run, qp_text *error);

#endif
