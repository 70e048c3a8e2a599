/* SPDX-License-Identifier: MIT
 * backends/cpu/program.h: what a program becomes.
 *
 * Each op turns into one or more nodes: pieces of work that are split into units, which any thread may do. Nodes whose unit r reads
 * and writes row r only are joined into chains (norm, then quantisation), done row by row with nothing to wait for in between.
 * Chains that do not touch what another one writes share a phase. A phase is over when its units are done: the thread that does the
 * last one opens the next. A thread that comes late, because the system gave its processor to somebody else, finds the phase that
 * the others have got to. Which thread does a unit is decided while it runs and never shows in the result.
 */
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
    const qc_node *next; /* in the chain */
    const int32_t *live; /* NULL: all rows */
    int64_t rows;
    int64_t grain; /* units taken at a time, at least */
    int streams;   /* units lie one behind the other in memory and are read once: long runs of them keep the prefetcher going */
    uint64_t work; /* bytes to move, arithmetic counted in as if it were bytes */
    const qk_kernels *kernels;
    qc_node_args u;
};

enum { QC_PHASE_CHAINS = 12 };

/* Units are numbered through: in run after run the numbers go on where they stopped. So a thread that has fallen behind, perhaps
 * into a phase of an earlier run, finds that all units it knows of are taken, whatever the others do meanwhile. */
typedef struct qc_phase {
    uint32_t first, count;                       /* chains */
    int wide;                                    /* worth waking threads for */
    alignas(64) _Atomic int64_t next;            /* unit to be taken */
    _Atomic int64_t done;                        /* units, likewise numbered through */
    _Atomic int64_t bounds[QC_PHASE_CHAINS + 1]; /* first unit of each chain and end of the last, written before the phase begins */
} qc_phase;

struct qp_program {
    qp_device *device;
    qc_node *nodes;
    const qc_node **chains; /* their first nodes, phase by phase */
    qc_phase *phases;
    int wide; /* worth waking threads for */
    uint32_t phase_count, chain_count, node_count;
    char *step, *thread_scratch;
    uint64_t step_bytes, thread_scratch_bytes;
    void *side;        /* tables that nodes point to, a list */
    qc_run *free_runs; /* under the queue's lock, like under_way */
    uint64_t under_way;
};

qp_status qc_program_measure(qp_device *device, const qp_program_desc *desc, qp_program_memory *memory, qp_text *error);
qp_status qc_program_create(qp_device *device, const qp_program_desc *desc, qp_program **out, qp_text *error);
void qc_program_destroy(qp_program *program);

/* From the leader: runs it with all threads and returns when it is done. */
void qc_program_execute(qp_program *program);
/* From a helper (see pool.h). */
void qc_program_help(const void *program, uint64_t base, uint32_t thread);

#endif
