/* SPDX-License-Identifier: MIT
 * backends/vulkan/rate.h: how much a device computes in a second, by which submissions are cut. At first a low guess by the kind of
 * device; once a device, driver and version of quern a measurement, which is kept on disk. Runs that show less lower it for
 * programs that are made later. */
#ifndef QUERN_BACKENDS_VULKAN_RATE_H
#define QUERN_BACKENDS_VULKAN_RATE_H

#include "backends/vulkan/symbols.h"

#include <stdatomic.h>

/* Products of matrices are far quicker than all else on many devices. */
typedef struct qv_speeds {
    uint64_t products, others; /* multiply-adds a second */
} qv_speeds;

typedef struct qv_rate {
    _Atomic uint64_t products, others; /* as qv_speeds; ops are asked about from any thread while they change */
    int is_measured;                   /* or known not to be measurable */
    atomic_int is_measuring;
    _Atomic uint32_t seen; /* thousandths of that which the slowest run showed; 1000: nothing */
    /* Under the queue's lock: of the last run that began on an idle queue. */
    uint64_t run_number, run_start, run_ns, run_parts;
} qv_rate;

/* The guess, or what is known from before. */
void qv_rate_init(qp_device *device);
void qv_rate_copy(qp_device *to, const qp_device *from); /* for a device that measures nothing itself */

/* Before a program is measured or made: measures the device if nobody has, and takes in what runs have shown. Failing to measure is
 * no error: the guess stays. With QUERN_VULKAN_SELF_TEST=off nothing is measured, with =always it is not read from disk. Thread
 * rule: device. */
void qv_rate_learn(qp_device *device);

/* Multiply-adds of ops of this kind that one submission may hold, at least 1; and how long some take, in nanoseconds. */
uint64_t qv_rate_limit(const qp_device *device, qp_op_kind kind);
uint64_t qv_rate_ns(const qp_device *device, qp_op_kind kind, uint64_t work);
/* What a submission may take. */
uint64_t qv_rate_most_ns(const qp_device *device);

/* A run of so many submissions was submitted, which should take so long at full rows; it ends with this number. idle: nothing was
 * under way. */
void qv_rate_run_locked(qp_device *device, uint64_t number, uint64_t ns, uint32_t parts, int idle);
/* Somebody who had to wait sees now that something has ended: perhaps it. */
void qv_rate_ended(qp_device *device);

#endif
