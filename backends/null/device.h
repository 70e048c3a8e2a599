/* SPDX-License-Identifier: MIT
 * backends/null/device.h: the one device, "null". */
#ifndef QUERN_BACKENDS_NULL_DEVICE_H
#define QUERN_BACKENDS_NULL_DEVICE_H

#include "backends/null/queue.h"

enum { QN_ALIGNMENT = 64 };

struct qp_device {
    qn_queue queue;
};

uint32_t qn_device_count(void);
qp_status qn_device_info(uint32_t index, qp_device_info *info, qp_text *error);
qp_status qn_device_open(uint32_t index, const qp_device_options *options, qp_device **out, qp_text *error);
void qn_device_close(qp_device *device);

#endif
