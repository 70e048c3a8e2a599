/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/timeline.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/status.h"

#include <string.h>

enum { PENDING = 32 }; /* values of runs under way that there is room for at first */

qp_status qv_timeline_create(qp_device *device, uint64_t value, qp_timeline **out, qp_text *error)
{
    qp_status status = qv_lost(device, error);
    if (status)
        return status;
    qp_timeline *timeline = qv_alloc_zeroed(sizeof *timeline);
    if (!timeline)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a timeline");
    timeline->device = device;
    timeline->promised = timeline->floor = value;
    timeline->pending_room = PENDING;
    timeline->pending = qv_alloc(PENDING * sizeof *timeline->pending);
    VkResult result = timeline->pending ? qv_semaphore_create(device, value, &timeline->handle) : VK_ERROR_OUT_OF_HOST_MEMORY;
    if (result) {
        qv_free(timeline->pending);
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
    if (!result && now == UINT64_MAX) /* what drivers show once the device is lost */
        result = VK_ERROR_DEVICE_LOST;
    if (result)
        return qv_failed(device, result, NULL, "reading a timeline");
    *value = now;
    return QP_OK;
}

/* ---- what runs are to signal ---- */

/* Forgets what has been reached. */
static void prune_locked(qp_timeline *timeline, uint64_t now)
{
    uint32_t reached = 0;
    while (reached < timeline->pending_count && timeline->pending[reached] <= now)
        timeline->floor = timeline->pending[reached++];
    timeline->pending_count -= reached;
    memmove(timeline->pending, timeline->pending + reached, timeline->pending_count * sizeof *timeline->pending);
}

static qp_status make_room_locked(qp_timeline *timeline, qp_text *error)
{
    qp_device *device = timeline->device;
    uint64_t now = 0;
    if (!device->vk.GetSemaphoreCounterValue(device->handle, timeline->handle, &now))
        prune_locked(timeline, now);
    if (timeline->pending_count < timeline->pending_room)
        return QP_OK;
    uint32_t room = 2 * timeline->pending_room;
    uint64_t *pending = qv_alloc(room * sizeof *pending);
    if (!pending)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory to note %u values of a timeline", room);
    memcpy(pending, timeline->pending, timeline->pending_count * sizeof *pending);
    qv_free(timeline->pending);
    timeline->pending = pending;
    timeline->pending_room = room;
    return QP_OK;
}

qp_status qv_timeline_promise_locked(qp_timeline *timeline, uint64_t value, qp_text *error)
{
    if (value <= timeline->promised)
        return qv_fail(error, QP_ERR_INVALID, "a run would signal %llu on a timeline that has, or is to get, %llu",
                       (unsigned long long)value, (unsigned long long)timeline->promised);
    if (timeline->pending_count == timeline->pending_room) {
        qp_status status = make_room_locked(timeline, error);
        if (status)
            return status;
    }
    timeline->pending[timeline->pending_count++] = value;
    timeline->promised = value;
    return QP_OK;
}

/* The last one: runs are refused before any other promises anything. */
void qv_timeline_unpromise_locked(qp_timeline *timeline)
{
    timeline->pending_count--;
    timeline->promised = timeline->pending_count ? timeline->pending[timeline->pending_count - 1] : timeline->floor;
}

/* A value that the host signals lies between what the timeline has and what a run is to give it. */
static qp_status check_signal_locked(qp_timeline *timeline, uint64_t now, uint64_t value, qp_text *error)
{
    prune_locked(timeline, now);
    if (value <= now)
        return qv_fail(error, QP_ERR_INVALID, "a timeline only grows: it is at %llu, %llu was signalled", (unsigned long long)now,
                       (unsigned long long)value);
    if (timeline->pending_count && value >= timeline->pending[0])
        return qv_fail(error, QP_ERR_INVALID, "a run is to signal %llu on this timeline: %llu cannot be signalled before it",
                       (unsigned long long)timeline->pending[0], (unsigned long long)value);
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
    if (!result)
        status = check_signal_locked(timeline, now, value, error);
    if (!result && !status) {
        VkSemaphoreSignalInfo info = {
            .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SIGNAL_INFO, .semaphore = timeline->handle, .value = value};
        result = device->vk.SignalSemaphore(device->handle, &info);
        if (!result) {
            timeline->floor = value;
            timeline->promised = value > timeline->promised ? value : timeline->promised;
        }
    }
    pthread_mutex_unlock(&device->queue.lock);
    return result ? qv_failed(device, result, error, "signalling a timeline") : status;
}

/* ---- waiting, and the end ---- */

qp_status qv_timeline_wait(qp_timeline *timeline, uint64_t value, uint64_t timeout_ns, qp_text *error)
{
    return qv_semaphore_wait(timeline->device, timeline->handle, value, timeout_ns, error);
}

static void release(qp_timeline *timeline)
{
    qp_device *device = timeline->device;
    device->vk.DestroySemaphore(device->handle, timeline->handle, NULL);
    qv_free(timeline->pending);
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
