/* SPDX-License-Identifier: MIT
 * backends/null/queue.h: submitted runs, in order. There is no thread: whoever moves a timeline also lets the runs go that can. */
#ifndef QUERN_BACKENDS_NULL_QUEUE_H
#define QUERN_BACKENDS_NULL_QUEUE_H

#include <quern/plugin.h>

#include <pthread.h>

/* One submission. Records belong to their program and are used again, so that running allocates nothing unless more runs are in the
 * queue, or a run has more signals, than ever before. */
typedef struct qn_run {
    struct qn_run *next; /* in the queue, or in the program's free list */
    qp_program *program;
    uint32_t wait_count, signal_count, room;
    qp_signal *signals; /* the waits, then the signals */
    int has_step;
    void *step; /* the program's step_bytes */
} qn_run;

typedef struct qn_queue {
    pthread_mutex_t lock; /* of the queue, the timelines and the programs' run records */
    pthread_cond_t moved; /* a timeline moved or a run ended */
    qn_run *first, *last;
} qn_queue;

int qn_queue_init(qn_queue *queue); /* 0: no memory */
void qn_queue_destroy(qn_queue *queue);

/* Starts, and here also ends, every run at the head whose waits are reached. A run whose waits can never be reached fails: waiting
 * for what it would have signalled gives QP_ERR_CANCELLED. */
void qn_queue_advance_locked(qn_queue *queue);

void qn_run_destroy(qn_run *run);

#endif
