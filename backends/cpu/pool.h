/* SPDX-License-Identifier: MIT
 * backends/cpu/pool.h: the threads that compute. They live as long as the device. Thread 0 is the leader: it runs `lead`, which
 * takes work from the queue and calls qc_pool_run; the others wait for it. */
#ifndef QUERN_BACKENDS_CPU_POOL_H
#define QUERN_BACKENDS_CPU_POOL_H

#include "backends/cpu/wait.h"

#include <pthread.h>
#include <quern/plugin.h>
#include <stdalign.h>

enum { QC_MAX_THREADS = 1024, QC_LINE = 64 };

typedef struct qc_pool qc_pool;

typedef struct qc_thread {
    qc_pool *pool;
    uint32_t index;
    int started;
    qp_thread *host; /* or the next one */
    pthread_t own;
} qc_thread;

/* Work that every thread of the pool does at the same time; thread counts from 0. */
typedef void (*qc_job)(void *arg, uint32_t thread);

struct qc_pool {
    uint32_t count;
    uint64_t barrier_spin_ns, idle_spin_ns;
    qc_thread *threads;
    void (*lead)(void *arg);
    void *lead_arg;
    qc_job job; /* written by the leader before `start` is posted */
    void *job_arg;
    int stop;
    alignas(QC_LINE) qc_event start;
    alignas(QC_LINE) _Atomic uint32_t arrived;
    alignas(QC_LINE) qc_event generation; /* of the barrier */
};

/* Starts `count` threads, pinned to cpus[i] (UINT32_MAX: anywhere). */
qp_status qc_pool_start(qc_pool *pool, uint32_t count, const uint32_t *cpus, void (*lead)(void *), void *arg, qp_text *error);
/* Once lead is about to return: ends the others and waits for all. */
void qc_pool_join(qc_pool *pool);

/* From the leader only. `job` must end in a barrier, after which no thread but the leader touches arg. */
void qc_pool_run(qc_pool *pool, qc_job job, void *arg);

/* Returns once every thread of the pool has come here; what they wrote before is seen by all after. */
void qc_pool_barrier(qc_pool *pool);

#endif
