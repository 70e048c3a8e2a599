/* SPDX-License-Identifier: MIT
 * backends/null/program.h: a checked list of ops. */
#ifndef QUERN_BACKENDS_NULL_PROGRAM_H
#define QUERN_BACKENDS_NULL_PROGRAM_H

#include "backends/null/queue.h"

struct qp_program {
    qp_device *device;
    qp_range step;
    qn_run *free_runs; /* under the queue's lock, as under_way */
    uint32_t under_way;
};

qp_status qn_program_measure(qp_device *device, const qp_program_desc *desc, qp_program_memory *memory, qp_text *error);
qp_status qn_program_create(qp_device *device, const qp_program_desc *desc, qp_program **out, qp_text *error);
qp_status qn_program_run(qp_program *program, const qp_run *run, qp_text *error); /* in queue.c */
void qn_program_destroy(qp_program *program);

#endif
