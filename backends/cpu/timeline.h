/* SPDX-License-Identifier: MIT
 * backends/cpu/timeline.h: a number that only grows, which host threads and the queue wait for and signal. */
#ifndef QUERN_BACKENDS_CPU_TIMELINE_H
#define QUERN_BACKENDS_CPU_TIMELINE_H

#include "backends/cpu/wait.h"

#include <quern/plugin.h>

/* A submitted run holds a reference, so that a timeline may be destroyed while a run that names it is still in the queue. */
void qc_timeline_hold(qp_timeline *timeline);
void qc_timeline_release(qp_timeline *timeline);

/* As timeline_wait; for the queue: a wait that can no longer be fulfilled, since the host has destroyed the timeline, fails. */
qp_status qc_timeline_await(qp_timeline *timeline, uint64_t value, qp_text *error);
/* The end of a run: the value is reached, or it will not be since the run failed with these words. */
void qc_timeline_reach(qp_timeline *timeline, uint64_t value);
void qc_timeline_fail(qp_timeline *timeline, uint64_t value, qp_status status, const char *words);

qp_status qc_timeline_create(qp_device *device, uint64_t value, qp_timeline **out, qp_text *error);
qp_status qc_timeline_value(qp_timeline *timeline, uint64_t *value);
qp_status qc_timeline_signal(qp_timeline *timeline, uint64_t value, qp_text *error);
qp_status qc_timeline_wait(qp_timeline *timeline, uint64_t value, uint64_t timeout_ns, qp_text *error);
void qc_timeline_destroy(qp_timeline *timeline);

#endif
