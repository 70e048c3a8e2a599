/* SPDX-License-Identifier: MIT
 * backends/cpu/pool.h: the threads that compute, which live as long as the device. Thread 0 is the leader: it runs `lead`, which
 * takes runs from the queue. The others are helpers: they join the run under way when they get to it and leave it when they like.
 * Nobody waits for a helper that the system does not let run; only for work that it has taken.
 *
 * `now` counts phases over all runs. A run's phases are [base, end); outside of them there is nothing to do. */
#ifndef QUERN_BACKENDS_CPU_POOL_H
#define QUERN_BACKENDS_CPU_POOL_H

#include "backends/cpu/wait.h"

#include <pthread.h>
#include <quern/plugin.h>
#include <stdalign.h>

enum { QC_MAX_THREADS = 1024, QC_LINE = 64 };
enum { QC_POLITE_NS = 50000 }; /* within a run a phase seldom takes longer than this to wait for */

typedef struct qc_pool qc_pool;

typedef struct qc_thread {
    alignas(QC_LINE) _Atomic(const void *) job; /* that the helper may be looking at, NULL: none */
    qc_pool *pool;
    uint32_t index;
    qp_thread *host; /* or the next one */
    pthread_t own;
} qc_thread;

/* Helps with the job whose first phase is base until there is nothing to do for a while. */
typedef void (*qc_help_fn)(const void *job, uint64_t base, uint32_t thread);

struct qc_pool {
    uint32_t count;
    uint64_t phase_spin_ns, idle_spin_ns; /* how long to look for more to do within a run, and between runs */
    qc_thread *threads;
    void (*lead)(void *arg);
    void *lead_arg;
    qc_help_fn help;
    _Atomic int stop;
    alignas(QC_LINE) _Atomic uint64_t now;
    alignas(QC_LINE) _Atomic(const void *) job;
    _Atomic uint64_t base, end;
    alignas(QC_LINE) qc_event helpers; /* posted when there is enough to do to wake them */
    alignas(QC_LINE) qc_event leader;
};

/* Starts `count` threads, pinned to cpus[i] (UINT32_MAX: anywhere). */
qp_status qc_pool_start(qc_pool *pool, uint32_t count, const uint32_t *cpus, void (*lead)(void *), void *arg, qc_help_fn help,
                        qp_text *error);
/* Once lead is about to return: ends the helpers and waits for all. */
void qc_pool_join(qc_pool *pool);

/* From the leader: from the next phase on there is `job`, with so many phases. Gives back its first one. */
uint64_t qc_pool_begin(qc_pool *pool, const void *job, uint64_t phases);
/* From the one thread that did the last work of a phase: what it prepared for phase `now` may begin. */
void qc_pool_advance(qc_pool *pool, uint64_t now, int wake_helpers);
/* From the leader: until `now` is no longer the given phase. */
void qc_pool_wait_leader(qc_pool *pool, uint64_t now);
/* From a helper: for spin_ns, of which all but the first polite_ns let other threads have the processor. 1 if the phase is another
 * one. */
int qc_pool_look(qc_pool *pool, uint64_t now, uint64_t spin_ns, uint64_t polite_ns);
/* Returns once no helper looks at the job, which is not under way. */
void qc_pool_forget(qc_pool *pool, const void *job);

#endif
