/* SPDX-License-Identifier: MIT */
#include "core/device.h"

#include <stdlib.h>

quern_status quern_timeline_create(quern_device *device, uint64_t value, quern_timeline **out, quern_error *error)
{
    if (!device || !out)
        return quern_fail(error, QP_ERR_INVALID, "quern_timeline_create: %s is NULL", device ? "out" : "device");
    quern_status status = qi_device_ready(device, error);
    if (status)
        return status;
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    qp_timeline *handle = NULL;
    status = device->backend->timeline_create(device->handle, value, &handle, &text);
    if (!status && !handle)
        status = QP_ERR_INTERNAL;
    if (status)
        return qi_device_result(device, status, words, error);
    quern_timeline *timeline = malloc(sizeof *timeline);
    if (timeline)
        *timeline = (quern_timeline){device, handle};
    if (!timeline || !qi_live_add(device, &device->timelines, handle, timeline)) {
        free(timeline);
        device->backend->timeline_destroy(handle);
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "%s: no host memory to keep a timeline", device->id);
    }
    qi_device_retain(device);
    *out = timeline;
    return QP_OK;
}

quern_status quern_timeline_value(quern_timeline *timeline, uint64_t *value, quern_error *error)
{
    if (!timeline || !value)
        return quern_fail(error, QP_ERR_INVALID, "quern_timeline_value: %s is NULL", timeline ? "value" : "timeline");
    quern_device *device = timeline->device;
    quern_status status = qi_device_ready(device, error);
    if (status)
        return status;
    char words[QI_TEXT] = "";
    uint64_t now = 0;
    status = device->backend->timeline_value(timeline->handle, &now);
    if (!status)
        *value = now;
    return qi_device_result(device, status, words, error);
}

quern_status quern_timeline_signal(quern_timeline *timeline, uint64_t value, quern_error *error)
{
    if (!timeline)
        return quern_fail(error, QP_ERR_INVALID, "quern_timeline_signal: timeline is NULL");
    quern_device *device = timeline->device;
    quern_status status = qi_device_ready(device, error);
    if (status)
        return status;
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    status = device->backend->timeline_signal(timeline->handle, value, &text);
    return qi_device_result(device, status, words, error);
}

quern_status quern_timeline_wait(quern_timeline *timeline, uint64_t value, uint64_t timeout_ns, quern_error *error)
{
    if (!timeline)
        return quern_fail(error, QP_ERR_INVALID, "quern_timeline_wait: timeline is NULL");
    quern_device *device = timeline->device;
    quern_status status = qi_device_ready(device, error);
    if (status)
        return status;
    char words[QI_TEXT] = "";
    qp_text text = {words, sizeof words};
    status = device->backend->timeline_wait(timeline->handle, value, timeout_ns, &text);
    return status == QP_TIMEOUT ? status : qi_device_result(device, status, words, error);
}

qp_timeline *quern_timeline_handle(quern_timeline *timeline)
{
    return timeline ? timeline->handle : NULL;
}

void quern_timeline_destroy(quern_timeline *timeline)
{
    if (!timeline)
        return;
    quern_device *device = timeline->device;
    qi_live_remove(device, &device->timelines, timeline->handle);
    device->backend->timeline_destroy(timeline->handle);
    free(timeline);
    qi_device_release(device);
}
