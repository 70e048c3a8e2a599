/* SPDX-License-Identifier: MIT
 * backends/cpu/program.h: what a program becomes.
 *
 * Each op turns into one or more nodes: pieces of work that are split into units, which any thread may do. Nodes whose unit r reads
 * and writes row r only are joined into chains (norm, then quantisation), done row by row without a barrier between. Chains that
 * do not touch what another one writes share a phase; a barrier stands between phases. Which thread does a unit is decided
 * while it runs and never shows in the result. */
#ifndef QUERN_BACKENDS_CPU_PROGRAM_H
#define QUERN_BACKENDS_CPU_PROGRAM_H

#include "backends/cpu/ops_nodes.h"
#include "backends/cpu/queue.h"

#include <stdalign.h>
#include <stdatomic.h>

/* What a thread has to itself while it does a unit. */
typedef struct qc_work {
    uint32_t thread;
    char *scratch; /* qc_scratch.thread_bytes, 64-byte aligned; contents do not outlive the unit */
} qc_work;

typedef struct qc_node qc_node;
typedef struct qc_kind {
    /* Does units [begin, end) at `live` rows. */
    void (*run)(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work);
    int64_t (*units)(const qc_node *node, int64_t live); /* NULL: one for each row */
} qc_kind;

struct qc_node {
    const qc_kind *kind;
    const qc_node *next;    /* in the chain */
    const int32_t *live;    /* NULL: all rows */
    int64_t rows;
    int64_t grain;          /* units taken at a time */
    const qk_kernels *kernels;
    qc_node_args u;
};

/* Counts the units handed out. Each on its own cache line, since all threads write to it. */
typedef struct qc_counter {
    alignas(64) _Atomic int64_t next;
} qc_counter;

typedef struct qc_phase {
    uint32_t first, end; /* chains */
} qc_phase;

struct qp_program {
    qp_device *device;
    qc_node *nodes;
    const qc_node **chains; /* their first nodes, phase by phase */
    qc_counter *counters;   /* one a chain */
    qc_phase *phases;
    uint32_t phase_count, chain_count, node_count;
    char *step, *thread_scratch;
    uint64_t step_bytes, thread_scratch_bytes;
    void *side;             /* tables that nodes point to, a list */
    qc_run *free_runs;      /* under the queue's lock, like under_way */
    uint64_t under_way;
};

qp_status qc_program_measure(qp_device *device, const qp_program_desc *desc, qp_program_memory *memory, qp_text *error);
qp_status qc_program_create(qp_device *device, const qp_program_desc *desc, qp_program **out, qp_text *error);
void qc_program_destroy(qp_program *program);

/* From the leader: runs it with all threads and returns when it is done. */
void qc_program_execute(qp_program *program);

#endif
