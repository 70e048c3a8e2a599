/* SPDX-License-Identifier: MIT */
#include "backends/cpu/pool.h"

#include "backends/cpu/status.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

/* The job under way, held so that its owner does not free it, or NULL. The thread says what it looks at, then looks whether that
 * is still under way; the owner lets the run end, then looks at what the threads say: one of the two sees the other. */
static const void *enter(qc_pool *pool, qc_thread *thread, uint64_t now, uint64_t *base)
{
    const void *job = atomic_load(&pool->job);
    *base = atomic_load(&pool->base);
    if (now < *base || now >= atomic_load(&pool->end))
        return NULL;
    atomic_store(&thread->job, job);
    if (atomic_load(&pool->now) == now)
        return job;
    atomic_store(&thread->job, NULL);
    return NULL;
}

/* Sleeps until there is much to do; in between short runs go by unnoticed. */
static void rest(qc_pool *pool, uint64_t now)
{
    atomic_fetch_add(&pool->helpers.sleepers, 1);
    uint32_t seen = qc_event_read(&pool->helpers);
    if (atomic_load(&pool->now) == now && !atomic_load(&pool->stop))
        qc_event_sleep(&pool->helpers, seen);
    atomic_fetch_sub(&pool->helpers.sleepers, 1);
}

static void help(qc_pool *pool, qc_thread *thread)
{
    while (!atomic_load(&pool->stop)) {
        uint64_t now = atomic_load(&pool->now), base;
        const void *job = enter(pool, thread, now, &base);
        if (job) {
            pool->help(job, base, thread->index);
            atomic_store(&thread->job, NULL);
        } else if (!qc_pool_look(pool, now, pool->idle_spin_ns, 0)) {
            rest(pool, now);
        }
    }
}

static void thread_main(void *arg)
{
    qc_thread *thread = arg;
    sigset_t all; /* signals are for the host's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    if (thread->index == 0)
        thread->pool->lead(thread->pool->lead_arg);
    else
        help(thread->pool, thread);
}

static void *own_main(void *arg)
{
    thread_main(arg);
    return NULL;
}

/* Without the host's threads: plain ones, bound where the system lets us. */
static int start_own(qc_thread *thread, uint32_t cpu)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes))
        return -1;
    pthread_attr_setstacksize(&attributes, 1u << 20);
    int failed = pthread_create(&thread->own, &attributes, own_main, thread);
    pthread_attr_destroy(&attributes);
#if defined(__linux__)
    if (!failed && cpu < CPU_SETSIZE) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        pthread_setaffinity_np(thread->own, sizeof set, &set); /* a wish: the thread computes the same anywhere */
    }
#else
    (void)cpu;
#endif
    return failed ? -1 : 0;
}

static const qp_host *host_threads(void)
{
    const qp_host *host = qc_host();
    return host && QP_HAS(host, thread_join) && host->thread_start && host->thread_join ? host : NULL;
}

static int start_thread(qc_thread *thread, uint32_t cpu)
{
    const qp_host *host = host_threads();
    if (!host)
        return start_own(thread, cpu);
    char name[16];
    snprintf(name, sizeof name, "quern-cpu-%u", thread->index % 10000);
    thread->host = host->thread_start(host->ctx, name, cpu, thread_main, thread);
    if (!thread->host && cpu != UINT32_MAX)
        thread->host = host->thread_start(host->ctx, name, UINT32_MAX, thread_main, thread);
    return thread->host ? 0 : -1;
}

static void join_thread(qc_thread *thread)
{
    const qp_host *host = host_threads();
    if (thread->host)
        host->thread_join(host->ctx, thread->host);
    else
        pthread_join(thread->own, NULL);
}

static void stop_helpers(qc_pool *pool)
{
    atomic_store(&pool->stop, 1);
    qc_event_post(&pool->helpers);
}

/* The leader starts last, so that if one of the others does not start nothing has run yet. */
qp_status qc_pool_start(qc_pool *pool, uint32_t count, const uint32_t *cpus, void (*lead)(void *), void *arg, qc_help_fn help_with,
                        qp_text *error)
{
    pool->help = help_with;
    pool->lead = lead;
    pool->lead_arg = arg;
    pool->count = count;
    pool->threads = qc_alloc(count * sizeof *pool->threads);
    if (!pool->threads)
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for the records of %u threads", count);
    for (uint32_t i = count; i-- > 0;) {
        pool->threads[i].pool = pool;
        pool->threads[i].index = i;
        if (start_thread(&pool->threads[i], cpus[i]) == 0)
            continue;
        stop_helpers(pool);
        for (uint32_t j = i + 1; j < count; j++)
            join_thread(&pool->threads[j]);
        qc_free(pool->threads);
        pool->threads = NULL;
        return qc_fail(
            error, QP_ERR_OUT_OF_MEMORY,
            "the system refused to start thread %u of %u; ask for fewer threads or raise the limit on processes (ulimit -u) "
            "and memory (ulimit -v)",
            count - i, count);
    }
    return QP_OK;
}

void qc_pool_join(qc_pool *pool)
{
    if (!pool->threads)
        return;
    join_thread(&pool->threads[0]);
    stop_helpers(pool);
    for (uint32_t i = 1; i < pool->count; i++)
        join_thread(&pool->threads[i]);
    qc_free(pool->threads);
    pool->threads = NULL;
}

/* ---- phases -------------------------------------------------------------------------------------------------------- */

/* base and end before job: who sees the new job sees its phases too. They lie beyond `now` until qc_pool_advance. */
uint64_t qc_pool_begin(qc_pool *pool, const void *job, uint64_t phases)
{
    uint64_t base = atomic_load(&pool->now) + 1;
    atomic_store(&pool->base, base);
    atomic_store(&pool->end, base + phases);
    atomic_store(&pool->job, job);
    return base;
}

/* The new phase is stored first, then the sleepers are counted; they count themselves first, then look at the phase. */
void qc_pool_advance(qc_pool *pool, uint64_t now, int wake_helpers)
{
    atomic_store(&pool->now, now);
    if (atomic_load(&pool->leader.sleepers))
        qc_event_post(&pool->leader);
    if (wake_helpers && atomic_load(&pool->helpers.sleepers))
        qc_event_post(&pool->helpers);
}

int qc_pool_look(qc_pool *pool, uint64_t now, uint64_t spin_ns, uint64_t polite_ns)
{
    enum { LOOKS = 64 };
    uint64_t start = 0;
    for (;;) {
        for (int i = 0; i < LOOKS; i++) {
            if (atomic_load_explicit(&pool->now, memory_order_acquire) != now)
                return 1;
            qc_pause();
        }
        uint64_t time = qc_now();
        start = start ? start : time;
        if (time - start >= spin_ns)
            return 0;
        if (time - start >= polite_ns)
            sched_yield(); /* somebody else may have better use for the processor */
    }
}

void qc_pool_wait_leader(qc_pool *pool, uint64_t now)
{
    if (qc_pool_look(pool, now, pool->phase_spin_ns, QC_POLITE_NS))
        return;
    atomic_fetch_add(&pool->leader.sleepers, 1);
    for (;;) {
        uint32_t seen = qc_event_read(&pool->leader);
        if (atomic_load(&pool->now) != now)
            break;
        qc_event_sleep(&pool->leader, seen);
    }
    atomic_fetch_sub(&pool->leader.sleepers, 1);
}

void qc_pool_forget(qc_pool *pool, const void *job)
{
    for (uint32_t i = 1; i < pool->count; i++)
        while (atomic_load(&pool->threads[i].job) == job)
            sched_yield();
}
