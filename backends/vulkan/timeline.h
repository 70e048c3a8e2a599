/* SPDX-License-Identifier: MIT
 * backends/vulkan/timeline.h: Vulkan's timeline semaphores, one to one. */
#ifndef QUERN_BACKENDS_VULKAN_TIMELINE_H
#define QUERN_BACKENDS_VULKAN_TIMELINE_H

#include "backends/vulkan/symbols.h"

struct qp_timeline {
    qp_device *device;
    VkSemaphore handle;
    uint64_t promised; /* the largest value that it has or that a run is to give it; under the queue's lock */
    uint64_t last_use; /* number of the last submission that names it; under the queue's lock */
    qp_timeline *next; /* in the queue's graveyard */
};

qp_status qv_timeline_create(qp_device *device, uint64_t value, qp_timeline **out, qp_text *error);
qp_status qv_timeline_value(qp_timeline *timeline, uint64_t *value);
qp_status qv_timeline_signal(qp_timeline *timeline, uint64_t value, qp_text *error);
qp_status qv_timeline_wait(qp_timeline *timeline, uint64_t value, uint64_t timeout_ns, qp_text *error);
void qv_timeline_destroy(qp_timeline *timeline);

/* Frees those in the graveyard that nothing names any more; all: whether or not. */
void qv_graveyard_sweep_locked(qp_device *device, int all);

#endif
