/* SPDX-License-Identifier: MIT */
#include "backends/cpu/timeline.h"

#include "backends/cpu/device.h"
#include "backends/cpu/status.h"

#include <pthread.h>
#include <stdio.h>

struct qp_timeline {
    qp_device *device;
    qc_event changed; /* posted after every change of what follows */
    _Atomic uint64_t value;
    _Atomic uint32_t references;
    _Atomic int destroyed; /* by the host; runs may still hold it */
    _Atomic int failed;
    pthread_mutex_t lock;            /* of the failure */
    uint64_t failed_from, failed_to; /* values that failed runs would have signalled lie in (from, to] */
    qp_status status;
    char words[256];
};

qp_status qc_timeline_create(qp_device *device, uint64_t value, qp_timeline **out, qp_text *error)
{
    if (!device || !out)
        return qc_fail(error, QP_ERR_INVALID, "timeline_create needs a device and a place for the timeline");
    qp_timeline *timeline = qc_alloc(sizeof *timeline);
    if (!timeline)
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for a timeline");
    timeline->device = device;
    pthread_mutex_init(&timeline->lock, NULL);
    atomic_store(&timeline->value, value);
    atomic_store(&timeline->references, 1);
    *out = timeline;
    return QP_OK;
}

void qc_timeline_hold(qp_timeline *timeline)
{
    atomic_fetch_add_explicit(&timeline->references, 1, memory_order_relaxed);
}

void qc_timeline_release(qp_timeline *timeline)
{
    if (atomic_fetch_sub_explicit(&timeline->references, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&timeline->lock);
    qc_free(timeline);
}

void qc_timeline_destroy(qp_timeline *timeline)
{
    if (!timeline)
        return;
    atomic_store(&timeline->destroyed, 1);
    qc_event_post(&timeline->changed);
    qc_timeline_release(timeline);
}

qp_status qc_timeline_value(qp_timeline *timeline, uint64_t *value)
{
    if (!timeline || !value)
        return QP_ERR_INVALID;
    *value = atomic_load_explicit(&timeline->value, memory_order_acquire);
    return QP_OK;
}

/* The value only grows: of several signals the largest counts. 1 if it grew. */
static int raise_value(qp_timeline *timeline, uint64_t value)
{
    uint64_t now = atomic_load_explicit(&timeline->value, memory_order_relaxed);
    while (now < value)
        if (atomic_compare_exchange_weak_explicit(&timeline->value, &now, value, memory_order_acq_rel, memory_order_relaxed))
            return 1;
    return 0;
}

void qc_timeline_reach(qp_timeline *timeline, uint64_t value)
{
    if (raise_value(timeline, value))
        qc_event_post(&timeline->changed);
}

qp_status qc_timeline_signal(qp_timeline *timeline, uint64_t value, qp_text *error)
{
    if (!timeline)
        return qc_fail(error, QP_ERR_INVALID, "timeline_signal needs a timeline");
    qc_timeline_hold(timeline); /* who waits for this value may destroy the timeline before we are out of here */
    int grew = raise_value(timeline, value);
    uint64_t now = atomic_load(&timeline->value);
    if (grew)
        qc_event_post(&timeline->changed);
    qc_timeline_release(timeline);
    if (!grew)
        return qc_fail(error, QP_ERR_INVALID, "a timeline only grows: it stands at %llu, so it cannot be signalled %llu",
                       (unsigned long long)now, (unsigned long long)value);
    return QP_OK;
}

void qc_timeline_fail(qp_timeline *timeline, uint64_t value, qp_status status, const char *words)
{
    pthread_mutex_lock(&timeline->lock);
    uint64_t now = atomic_load(&timeline->value);
    if (!timeline->status) {
        timeline->status = status;
        timeline->failed_from = now;
        snprintf(timeline->words, sizeof timeline->words, "%s", words);
    }
    if (value > timeline->failed_to)
        timeline->failed_to = value;
    pthread_mutex_unlock(&timeline->lock);
    atomic_store(&timeline->failed, 1);
    qc_event_post(&timeline->changed);
}

/* The error of the run that would have signalled `value`, QP_OK if none failed. */
static qp_status failure(qp_timeline *timeline, uint64_t value, qp_text *error)
{
    if (!atomic_load(&timeline->failed))
        return QP_OK;
    qp_status status = QP_OK;
    pthread_mutex_lock(&timeline->lock);
    if (value > timeline->failed_from && value <= timeline->failed_to)
        status = qc_fail(error, timeline->status, "%s", timeline->words);
    pthread_mutex_unlock(&timeline->lock);
    return status;
}

/* QP_TIMEOUT: not yet. */
static qp_status look(qp_timeline *timeline, uint64_t value, qp_text *error)
{
    qp_status status = failure(timeline, value, error);
    if (status)
        return status;
    return atomic_load_explicit(&timeline->value, memory_order_acquire) >= value ? QP_OK : QP_TIMEOUT;
}

qp_status qc_timeline_wait(qp_timeline *timeline, uint64_t value, uint64_t timeout_ns, qp_text *error)
{
    if (!timeline)
        return qc_fail(error, QP_ERR_INVALID, "timeline_wait needs a timeline");
    uint64_t start = timeout_ns && timeout_ns != QC_FOREVER ? qc_now() : 0, gone = 0;
    for (;;) {
        uint32_t seen = qc_event_read(&timeline->changed);
        qp_status status = look(timeline, value, error);
        if (status != QP_TIMEOUT)
            return status;
        if (timeout_ns && timeout_ns != QC_FOREVER)
            gone = qc_now() - start;
        if (gone >= timeout_ns)
            return QP_TIMEOUT;
        qc_event_wait(&timeline->changed, seen, timeline->device->wait_spin_ns,
                      timeout_ns == QC_FOREVER ? QC_FOREVER : timeout_ns - gone);
    }
}

qp_status qc_timeline_await(qp_timeline *timeline, uint64_t value, qp_text *error)
{
    for (;;) {
        uint32_t seen = qc_event_read(&timeline->changed);
        qp_status status = look(timeline, value, error);
        if (status != QP_TIMEOUT)
            return status;
        if (atomic_load(&timeline->destroyed))
            return qc_fail(error, QP_ERR_CANCELLED,
                           "the timeline that the run waits for was destroyed at %llu, before it reached %llu",
                           (unsigned long long)atomic_load(&timeline->value), (unsigned long long)value);
        qc_event_wait(&timeline->changed, seen, timeline->device->wait_spin_ns, QC_FOREVER);
    }
}
