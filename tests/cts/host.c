/* SPDX-License-Identifier: MIT
 * The host services that plugins under test get: plain ones that count. */
#include "tests/cts/cts.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int cts_verbose;

static atomic_llong blocks, bytes, threads, calls;

typedef struct block {
    void *start;
    size_t size;
} block;

static void host_log(void *ctx, int level, const char *message)
{
    (void)ctx;
    if (cts_verbose || level <= QP_LOG_WARN)
        cts_diag("plugin: %s", message);
}

/* The header lies in front of what the plugin gets, so that free() needs no size. */
static void *host_alloc(void *ctx, size_t size, size_t align)
{
    (void)ctx;
    atomic_fetch_add(&calls, 1);
    if (!align || align & (align - 1))
        return NULL;
    align = align < sizeof(block) ? sizeof(block) : align;
    if (size > SIZE_MAX / 2 - 2 * align)
        return NULL;
    size_t whole = (size + 2 * align - 1) / align * align + align;
    char *start = aligned_alloc(align, whole);
    if (!start)
        return NULL;
    block *header = (block *)(start + align) - 1;
    header->start = start;
    header->size = size;
    atomic_fetch_add(&blocks, 1);
    atomic_fetch_add(&bytes, (long long)size);
    return start + align;
}

static void host_free(void *ctx, void *ptr)
{
    (void)ctx;
    if (!ptr)
        return;
    block *header = (block *)ptr - 1;
    atomic_fetch_sub(&blocks, 1);
    atomic_fetch_sub(&bytes, (long long)header->size);
    free(header->start);
}

static uint32_t host_cpus(void *ctx, qp_cpu *out, uint32_t cap)
{
    (void)ctx;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set))
        return 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &set))
            continue;
        if (n < cap)
            out[n] = (qp_cpu){.os_index = i, .core = n};
        n++;
    }
    return n;
}

struct qp_thread {
    pthread_t id;
    void (*main)(void *);
    void *arg;
};

static void *thread_main(void *arg)
{
    qp_thread *thread = arg;
    thread->main(thread->arg);
    return NULL;
}

static qp_thread *host_thread_start(void *ctx, const char *name, uint32_t os_index, void (*main)(void *), void *arg)
{
    (void)ctx;
    (void)name;
    qp_thread *thread = calloc(1, sizeof *thread);
    if (!thread)
        return NULL;
    thread->main = main;
    thread->arg = arg;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    cpu_set_t set;
    CPU_ZERO(&set);
    if (os_index < CPU_SETSIZE) {
        CPU_SET(os_index, &set);
        pthread_attr_setaffinity_np(&attr, sizeof set, &set);
    }
    int failed = pthread_create(&thread->id, &attr, thread_main, thread);
    pthread_attr_destroy(&attr);
    if (failed) {
        free(thread);
        return NULL;
    }
    atomic_fetch_add(&threads, 1);
    return thread;
}

static void host_thread_join(void *ctx, qp_thread *thread)
{
    (void)ctx;
    pthread_join(thread->id, NULL);
    atomic_fetch_sub(&threads, 1);
    free(thread);
}

static void host_memory(void *ctx, uint64_t *total, uint64_t *available)
{
    (void)ctx;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    *total = (uint64_t)sysconf(_SC_PHYS_PAGES) * page;
    *available = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * page;
}

const qp_host cts_host = {
    .struct_size = sizeof cts_host,
    .abi_minor = QP_ABI_MINOR,
    .log = host_log,
    .alloc = host_alloc,
    .free = host_free,
    .cpus = host_cpus,
    .thread_start = host_thread_start,
    .thread_join = host_thread_join,
    .memory = host_memory,
};

cts_host_counts cts_host_now(void)
{
    return (cts_host_counts){.blocks = atomic_load(&blocks),
                             .bytes = atomic_load(&bytes),
                             .threads = atomic_load(&threads),
                             .calls = atomic_load(&calls)};
}

uint64_t cts_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
