/* SPDX-License-Identifier: MIT */
#include "backends/null/timeline.h"

#include "backends/null/device.h"
#include "backends/null/status.h"

#include <errno.h>
#include <time.h>

qp_status qn_timeline_create(qp_device *device, uint64_t value, qp_timeline **out, qp_text *error)
{
    qp_timeline *timeline = qn_alloc_zeroed(sizeof *timeline);
    if (!timeline)
        return qn_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a timeline");
    *timeline = (qp_timeline){.device = device, .value = value, .failed_from = UINT64_MAX, .owners = 1};
    *out = timeline;
    return QP_OK;
}

qp_status qn_timeline_value(qp_timeline *timeline, uint64_t *value)
{
    qn_queue *queue = &timeline->device->queue;
    pthread_mutex_lock(&queue->lock);
    *value = timeline->value;
    pthread_mutex_unlock(&queue->lock);
    return QP_OK;
}

qp_status qn_timeline_signal(qp_timeline *timeline, uint64_t value, qp_text *error)
{
    qn_queue *queue = &timeline->device->queue;
    pthread_mutex_lock(&queue->lock);
    uint64_t now = timeline->value;
    if (value > now) {
        timeline->value = value;
        qn_queue_advance_locked(queue);
    }
    pthread_mutex_unlock(&queue->lock);
    if (value <= now)
        return qn_fail(error, QP_ERR_INVALID, "a timeline only grows: it is at %llu, %llu was signalled", (unsigned long long)now,
                       (unsigned long long)value);
    return QP_OK;
}

/* The moment timeout_ns from now; far ones are cut to some centuries, which the clock's type can hold. */
static struct timespec deadline(uint64_t timeout_ns)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    uint64_t ns = (uint64_t)at.tv_nsec + timeout_ns % 1000000000;
    at.tv_sec += (time_t)(timeout_ns / 1000000000 + ns / 1000000000);
    at.tv_nsec = (long)(ns % 1000000000);
    return at;
}

qp_status qn_timeline_wait(qp_timeline *timeline, uint64_t value, uint64_t timeout_ns, qp_text *error)
{
    qn_queue *queue = &timeline->device->queue;
    struct timespec until = deadline(timeout_ns);
    int late = timeout_ns == 0;
    pthread_mutex_lock(&queue->lock);
    while (timeline->value < value && timeline->failed_from > value && !late) {
        if (timeout_ns == UINT64_MAX)
            pthread_cond_wait(&queue->moved, &queue->lock);
        else
            late = pthread_cond_timedwait(&queue->moved, &queue->lock, &until) == ETIMEDOUT;
    }
    int reached = timeline->value >= value, failed = timeline->failed_from <= value;
    pthread_mutex_unlock(&queue->lock);
    if (!reached && failed)
        return qn_fail(error, QP_ERR_CANCELLED, "the run that would have signalled %llu waited for a timeline that was destroyed",
                       (unsigned long long)value);
    return reached ? QP_OK : QP_TIMEOUT;
}

void qn_timeline_release_locked(qp_timeline *timeline)
{
    if (--timeline->owners == 0)
        qn_free(timeline);
}

void qn_timeline_destroy(qp_timeline *timeline)
{
    if (!timeline)
        return;
    qn_queue *queue = &timeline->device->queue;
    pthread_mutex_lock(&queue->lock);
    timeline->destroyed = 1;
    qn_timeline_release_locked(timeline);
    qn_queue_advance_locked(queue); /* runs that waited for it can go no further */
    pthread_mutex_unlock(&queue->lock);
}
