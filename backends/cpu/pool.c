/* SPDX-License-Identifier: MIT */
#include "backends/cpu/pool.h"

#include "backends/cpu/status.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static void follow(qc_pool *pool, uint32_t index)
{
    uint32_t seen = 0; /* the leader posts nothing before every thread has been started */
    for (;;) {
        qc_event_wait(&pool->start, seen, pool->idle_spin_ns, QC_FOREVER);
        seen++;
        if (pool->stop)
            return;
        pool->job(pool->job_arg, index);
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
        follow(thread->pool, thread->index);
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

static void stop_followers(qc_pool *pool)
{
    pool->stop = 1;
    qc_event_post(&pool->start);
}

/* The leader starts last, so that if one of the others does not start nothing has run yet. */
qp_status qc_pool_start(qc_pool *pool, uint32_t count, const uint32_t *cpus, void (*lead)(void *), void *arg, qp_text *error)
{
    pool->lead = lead;
    pool->lead_arg = arg;
    pool->count = count;
    pool->threads = qc_alloc(count * sizeof *pool->threads);
    if (!pool->threads)
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for the records of %u threads", count);
    for (uint32_t i = count; i-- > 0;) {
        pool->threads[i].pool = pool;
        pool->threads[i].index = i;
        if (start_thread(&pool->threads[i], cpus[i]) == 0) {
            pool->threads[i].started = 1;
            continue;
        }
        stop_followers(pool);
        for (uint32_t j = i + 1; j < count; j++)
            join_thread(&pool->threads[j]);
        qc_free(pool->threads);
        pool->threads = NULL;
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY,
                       "the system refused to start thread %u of %u; ask for fewer threads or raise the limit on processes (ulimit -u) "
                       "and memory (ulimit -v)", count - i, count);
    }
    return QP_OK;
}

void qc_pool_join(qc_pool *pool)
{
    if (!pool->threads)
        return;
    join_thread(&pool->threads[0]);
    stop_followers(pool);
    for (uint32_t i = 1; i < pool->count; i++)
        join_thread(&pool->threads[i]);
    qc_free(pool->threads);
    pool->threads = NULL;
}

void qc_pool_run(qc_pool *pool, qc_job job, void *arg)
{
    if (pool->count > 1) {
        pool->job = job;
        pool->job_arg = arg;
        qc_event_post(&pool->start);
    }
    job(arg, 0);
}

void qc_pool_barrier(qc_pool *pool)
{
    if (pool->count == 1)
        return;
    /* Read before arriving: the number cannot change until we have arrived. */
    uint32_t seen = atomic_load_explicit(&pool->generation.value, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel) == pool->count - 1) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        qc_event_post(&pool->generation);
    } else {
        qc_event_wait(&pool->generation, seen, pool->barrier_spin_ns, QC_FOREVER);
    }
}
