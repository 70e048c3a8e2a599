/* SPDX-License-Identifier: MIT
 * backends/null/timeline.h: a number that only grows, guarded by the lock of the device's queue. */
#ifndef QUERN_BACKENDS_NULL_TIMELINE_H
#define QUERN_BACKENDS_NULL_TIMELINE_H

#include <quern/plugin.h>

struct qp_timeline {
    qp_device *device;
    uint64_t value;
    uint64_t failed_from; /* a run that would have signalled this value failed; UINT64_MAX: none */
    uint32_t owners;      /* the host and each queued run that names it */
    int destroyed;        /* by the host: only queued runs hold it */
};

void qn_timeline_release_locked(qp_timeline *timeline);

qp_status qn_timeline_create(qp_device *device, uint64_t value, qp_timeline **out, qp_text *error);
qp_status qn_timeline_value(qp_timeline *timeline, uint64_t *value);
qp_status qn_timeline_signal(qp_timeline *timeline, uint64_t value, qp_text *error);
qp_status qn_timeline_wait(qp_timeline *timeline, uint64_t value, uint64_t timeout_ns, qp_text *error);
void qn_timeline_destroy(qp_timeline *timeline);

#endif
