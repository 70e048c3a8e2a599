/* SPDX-License-Identifier: MIT
 * backends/vulkan/timeline.h: Vulkan's timeline semaphores, one to one. */
#ifndef QUERN_BACKENDS_VULKAN_TIMELINE_H
#define QUERN_BACKENDS_VULKAN_TIMELINE_H

#include "backends/vulkan/symbols.h"

struct qp_timeline {
    qp_device *device;
    VkSemaphore handle;
    /* Under the queue's lock: */
    uint64_t floor;    /* it has reached this */
    uint64_t promised; /* the largest value that it has or that a run is to give it */
    uint64_t *pending; /* values that runs are to give it, growing; some may have been reached */
    uint32_t pending_count, pending_room;
    uint64_t last_use; /* number of the last submission that names it */
    qp_timeline *next; /* in the queue's graveyard */
};

/* Notes that a run is to signal this value; QP_ERR_INVALID when it is not larger than all others. unpromise: the
 * run that promised last was refused. */
qp_status qv_timeline_promise_locked(qp_timeline *timeline, uint64_t value, qp_text *error);
void qv_timeline_unpromise_locked(qp_timeline *timeline);

qp_status qv_timeline_create(qp_device *device, uint64_t value, qp_timeline **out, qp_text *error);
qp_status qv_timeline_value(qp_timeline *timeline, uint64_t *value);
qp_status qv_timeline_signal(qp_timeline *timeline, uint64_t value, qp_text *error);
qp_status qv_timeline_wait(qp_timeline *timeline, uint64_t value, uint64_t timeout_ns, qp_text *error);
void qv_timeline_destroy(qp_timeline *timeline);

/* Frees those in the graveyard that nothing names any more; all: whether or not. */
void qv_graveyard_sweep_locked(qp_device *device, int all);

#endif
