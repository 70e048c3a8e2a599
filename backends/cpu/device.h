/* SPDX-License-Identifier: MIT
 * backends/cpu/device.h: the one device, "cpu". */
#ifndef QUERN_BACKENDS_CPU_DEVICE_H
#define QUERN_BACKENDS_CPU_DEVICE_H

#include "backends/cpu/pool.h"
#include "backends/cpu/queue.h"
#include "kernels/cpu/kernels.h"

enum { QC_ALIGNMENT = 64 };

struct qp_device {
    qk_kernels kernels;
    int reference; /* variant "ref": every op by kernels/ref, one thread */
    uint32_t threads;
    uint64_t wait_spin_ns; /* how long a host thread looks at a timeline before it sleeps */
    qc_pool pool;
    qc_queue queue;
};

uint32_t qc_device_count(void);
qp_status qc_device_info(uint32_t index, qp_device_info *info, qp_text *error);
qp_status qc_device_open(uint32_t index, const qp_device_options *options, qp_device **out, qp_text *error);
void qc_device_close(qp_device *device);

#endif
