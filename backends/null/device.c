/* SPDX-License-Identifier: MIT */
#include "backends/null/device.h"

#include "backends/null/status.h"

#include <stdio.h>
#include <string.h>

uint32_t qn_device_count(void)
{
    return 1;
}

/* A host built against an older header has a shorter struct: it gets what it knows. */
qp_status qn_device_info(uint32_t index, qp_device_info *info, qp_text *error)
{
    if (index > 0)
        return qn_fail(error, QP_ERR_INVALID, "there is no null device %u, only number 0", index);
    uint64_t total, available;
    qn_memory(&total, &available);
    qp_device_info facts = {
        .kind = QP_DEVICE_NULL,
        .flags = QP_DEVICE_CAN_IMPORT,
        .name = "null device (checks everything, computes nothing)",
        .heap_count = 1,
        .heaps = {{
            .size = total ? total : INT64_MAX,
            .budget = total && !available ? 1 : available, /* 0 would say that nobody knows */
            .max_allocation = INT64_MAX,
            .flags = QP_HEAP_HOST_VISIBLE | QP_HEAP_HOST_CACHED | QP_HEAP_UNIFIED,
            .alignment = QN_ALIGNMENT,
        }},
    };
    facts.struct_size = info->struct_size;
    memcpy(info, &facts, info->struct_size < sizeof facts ? info->struct_size : sizeof facts);
    return QP_OK;
}

/* Options ask for threads and kernel variants, of which there are none here. */
qp_status qn_device_open(uint32_t index, const qp_device_options *options, qp_device **out, qp_text *error)
{
    (void)options;
    if (index > 0)
        return qn_fail(error, QP_ERR_INVALID, "there is no null device %u, only number 0", index);
    qp_device *device = qn_alloc_zeroed(sizeof *device);
    if (!device)
        return qn_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the null device");
    if (!qn_queue_init(&device->queue)) {
        qn_free(device);
        return qn_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the null device's queue");
    }
    *out = device;
    return QP_OK;
}

void qn_device_close(qp_device *device)
{
    if (!device)
        return;
    qn_queue_destroy(&device->queue);
    qn_free(device);
}
