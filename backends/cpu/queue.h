/* SPDX-License-Identifier: MIT
 * backends/cpu/queue.h: submitted runs, in order. The pool's leader takes them one after another: it waits for the run's
 * timelines, fills the step block, computes with all threads, signals. */
#ifndef QUERN_BACKENDS_CPU_QUEUE_H
#define QUERN_BACKENDS_CPU_QUEUE_H

#include "backends/cpu/wait.h"

#include <pthread.h>
#include <quern/plugin.h>

enum { QC_RUN_SIGNALS = 8 };

/* One submission. Records belong to their program and are used again, so that running allocates nothing, unless more runs are
 * in the queue, or a run has more signals, than ever before. */
typedef struct qc_run {
    struct qc_run *next; /* in the queue, or in the program's free list */
    qp_program *program;
    uint32_t wait_count, signal_count, capacity;
    qp_signal *signals; /* the waits, then the signals */
    int has_step;
    void *step;
    qp_signal few[QC_RUN_SIGNALS];
} qc_run;

typedef struct qc_queue {
    pthread_mutex_t lock; /* of the list, the programs' free lists and their counts of runs under way */
    qc_run *first, *last;
    int stop;
    qc_event submitted;
    qc_event completed; /* posted after every run */
} qc_queue;

void qc_queue_init(qc_queue *queue);
void qc_queue_destroy(qc_queue *queue);
/* The leader's loop; arg is the device. Ends after qc_queue_stop, once the queue is empty. */
void qc_queue_lead(void *arg);
void qc_queue_stop(qc_queue *queue);

qc_run *qc_run_create(qp_program *program, uint64_t step_bytes); /* NULL: no memory */
void qc_run_destroy(qc_run *run);

qp_status qc_program_run(qp_program *program, const qp_run *run, qp_text *error);
void qc_queue_drain(qp_program *program); /* returns when no run of the program is under way */

#endif
