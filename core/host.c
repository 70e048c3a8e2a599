/* SPDX-License-Identifier: MIT */
#include "core/host.h"
#include "core/topology.h"

#include <quern/log.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct qp_thread {
    pthread_t thread;
    qi_host *host;
    uint32_t os_index;
    char name[16]; /* as long as Linux lets it be */
    void (*main)(void *arg);
    void *arg;
};

static quern_topology *share_topology(qi_host *host)
{
    pthread_mutex_lock(&host->lock);
    if (!host->topology && host->for_probe)
        qi_topology_load(NULL, 0, &host->topology, NULL);
    quern_topology *topology = host->topology ? qi_topology_retain(host->topology) : NULL;
    pthread_mutex_unlock(&host->lock);
    return topology;
}

static void host_log(void *ctx, int level, const char *message)
{
    qi_host *host = ctx;
    quern_log_level to = level <= QP_LOG_ERROR ? QUERN_LOG_ERROR : level >= QP_LOG_DEBUG ? QUERN_LOG_DEBUG : (quern_log_level)level;
    quern_log(to, "%s: %s", host->plugin, message ? message : "");
}

static void *host_alloc(void *ctx, size_t size, size_t align)
{
    (void)ctx;
    void *memory = NULL;
    if (align & (align - 1))
        return NULL;
    if (align < sizeof(void *))
        align = sizeof(void *);
    return posix_memalign(&memory, align, size ? size : 1) ? NULL : memory;
}

static void host_free(void *ctx, void *memory)
{
    (void)ctx;
    free(memory);
}

/* A CPU quota makes more threads than it allows wait for each other, so the list ends there. */
static uint32_t usable(const quern_topology *t)
{
    uint32_t count = 0, quota = quern_topology_cpu_quota(t);
    while (quern_topology_cpu(t, count))
        count++;
    return quota && quota < count ? quota : count;
}

static uint32_t host_cpus(void *ctx, qp_cpu *out, uint32_t cap)
{
    quern_topology *t = share_topology(ctx);
    uint32_t count = t ? usable(t) : 0;
    for (uint32_t i = 0; out && i < count && i < cap; i++)
        out[i] = *quern_topology_cpu(t, i);
    quern_topology_free(t);
    return count;
}

static void bind_self(const qp_thread *thread)
{
    if (thread->os_index == UINT32_MAX)
        return;
    quern_topology *t = share_topology(thread->host);
    if (!t || !qi_topology_bind(t, thread->os_index))
        quern_log(QUERN_LOG_DEBUG, "%s: thread %s runs unbound: %s", thread->host->plugin, thread->name,
                  t && !qi_topology_is_here(t) ? "the topology in use is another machine's"
                                               : "its processing unit cannot be bound to");
    quern_topology_free(t);
}

static void *thread_main(void *arg)
{
    qp_thread *thread = arg;
    if (thread->name[0])
        pthread_setname_np(pthread_self(), thread->name);
    bind_self(thread);
    thread->main(thread->arg);
    return NULL;
}

/* Signals are the application's: its own threads take them, not a plugin's. */
static int start_quietly(qp_thread *thread)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int failed = pthread_create(&thread->thread, NULL, thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return failed;
}

static qp_thread *host_thread_start(void *ctx, const char *name, uint32_t os_index, void (*run)(void *arg), void *arg)
{
    qp_thread *thread = run ? calloc(1, sizeof *thread) : NULL;
    if (!thread)
        return NULL;
    thread->host = ctx;
    thread->os_index = os_index;
    thread->main = run;
    thread->arg = arg;
    for (size_t i = 0; name && name[i] && i < sizeof thread->name - 1; i++)
        thread->name[i] = name[i];
    int failed = start_quietly(thread);
    if (failed) {
        quern_log(QUERN_LOG_INFO, "%s: thread %s could not be started: %s", thread->host->plugin, thread->name, strerror(failed));
        free(thread);
        return NULL;
    }
    return thread;
}

static void host_thread_join(void *ctx, qp_thread *thread)
{
    (void)ctx;
    if (!thread)
        return;
    pthread_join(thread->thread, NULL);
    free(thread);
}

static void host_memory(void *ctx, uint64_t *total, uint64_t *available)
{
    (void)ctx;
    quern_memory_info info = {0};
    quern_memory_query(NULL, &info, NULL);
    if (total)
        *total = info.total;
    if (available)
        *available = info.available;
}

void qi_host_init(qi_host *host, const char *plugin)
{
    *host = (qi_host){.api = {.struct_size = sizeof host->api,
                              .abi_minor = QP_ABI_MINOR,
                              .ctx = host,
                              .log = host_log,
                              .alloc = host_alloc,
                              .free = host_free,
                              .cpus = host_cpus,
                              .thread_start = host_thread_start,
                              .thread_join = host_thread_join,
                              .memory = host_memory}};
    size_t length = strnlen(plugin, sizeof host->plugin - 1);
    memcpy(host->plugin, plugin, length);
    pthread_mutex_init(&host->lock, NULL);
}

void qi_host_set_topology(qi_host *host, const quern_topology *topology)
{
    quern_topology *fresh = topology ? qi_topology_retain(topology) : NULL;
    pthread_mutex_lock(&host->lock);
    quern_topology *old = host->topology;
    host->topology = fresh;
    pthread_mutex_unlock(&host->lock);
    quern_topology_free(old);
}
