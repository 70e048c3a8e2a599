/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/timeline.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/status.h"

qp_status qv_timeline_create(qp_device *device, uint64_t value, qp_timeline **out, qp_text *error)
{
    qp_status status = qv_lost(device, error);
    if (status)
        return status;
    qp_timeline *timeline = qv_alloc_zeroed(sizeof *timeline);
    if (!timeline)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a timeline");
    timeline->device = device;
    timeline->promised = value;
    VkResult result = qv_semaphore_create(device, value, &timeline->handle);
    if (result) {
        qv_free(timeline);
        return qv_failed(device, result, error, "making a timeline");
    }
    *out = timeline;
    return QP_OK;
}

qp_status qv_timeline_value(qp_timeline *timeline, uint64_t *value)
{
    qp_device *device = timeline->device;
    qp_status status = qv_lost(device, NULL);
    if (status)
        return status;
    uint64_t now;
    VkResult result = device->vk.GetSemaphoreCounterValue(device->handle, timeline->handle, &now);
    if (result)
        return qv_failed(device, result, NULL, "reading a timeline");
    *value = now;
    return QP_OK;
}

qp_status qv_timeline_signal(qp_timeline *timeline, uint64_t value, qp_text *error)
{
    qp_device *device = timeline->device;
    qp_status status = qv_lost(device, error);
    if (status)
        return status;
    uint64_t now = 0;
    pthread_mutex_lock(&device->queue.lock);
    VkResult result = device->vk.GetSemaphoreCounterValue(device->handle, timeline->handle, &now);
    int grows = value > now && !result;
    if (grows) {
        VkSemaphoreSignalInfo info = {
            .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO, .semaphore = timeline->handle, .value = value};
        result = device->vk.SignalSemaphore(device->handle, &info);
        if (!result && value > timeline->promised)
            timeline->promised = value;
    }
    pthread_mutex_unlock(&device->queue.lock);
    if (result)
        return qv_failed(device, result, error, "signalling a timeline");
    return grows ? QP_OK
                 : qv_fail(error, QP_ERR_INVALID, "a timeline only grows: it is at %llu, %llu was signalled",
                           (unsigned long long)now, (unsigned long long)value);
}

qp_status qv_timeline_wait(qp_timeline *timeline, uint64_t value, uint64_t timeout_ns, qp_text *error)
{
    return qv_semaphore_wait(timeline->device, timeline->handle, value, timeout_ns, error);
}

static void release(qp_timeline *timeline)
{
    qp_device *device = timeline->device;
    device->vk.DestroySemaphore(device->handle, timeline->handle, NULL);
    qv_free(timeline);
}

void qv_graveyard_sweep_locked(qp_device *device, int all)
{
    qp_timeline **link = &device->queue.graveyard;
    while (*link) {
        qp_timeline *timeline = *link;
        if (all || qv_queue_reached(device, timeline->last_use)) {
            *link = timeline->next;
            release(timeline);
        } else {
            link = &timeline->next;
        }
    }
}

/* A submission that is under way may name it: then it is freed later. */
void qv_timeline_destroy(qp_timeline *timeline)
{
    if (!timeline)
        return;
    qp_device *device = timeline->device;
    pthread_mutex_lock(&device->queue.lock);
    timeline->next = device->queue.graveyard;
    device->queue.graveyard = timeline;
    qv_graveyard_sweep_locked(device, 0);
    pthread_mutex_unlock(&device->queue.lock);
}
