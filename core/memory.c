/* SPDX-License-Identifier: MIT */
#include <quern/topology.h>

#include "core/cgroup.h"
#include "core/sysfile.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* v1 writes "no limit" as the largest multiple of the page size; nothing real comes near this. */
#define UNLIMITED (UINT64_C(1) << 60)

typedef struct query {
    const char *sysroot;
    quern_memory_info *out;
    uint64_t left; /* what the limit in *out leaves */
} query;

/* Keeps the limit that leaves the least room: an outer group that others have filled can be tighter than a smaller inner one. */
static void consider(query *q, uint64_t limit, uint64_t used, const char *source)
{
    if (limit >= UNLIMITED)
        return;
    uint64_t left = limit > used ? limit - used : 0;
    quern_memory_info *out = q->out;
    if (out->limit_source[0] && (left > q->left || (left == q->left && limit >= out->limit)))
        return;
    q->left = left;
    out->limit = limit;
    out->used = used;
    snprintf(out->limit_source, sizeof out->limit_source, "%.159s", source);
}

static int read_limit(const char *sysroot, const char *folder, const char *name, char path[PATH_MAX], uint64_t *limit)
{
    char text[64], *end;
    snprintf(path, PATH_MAX, "%s/%s", folder, name);
    if (!qi_sys_read(sysroot, path, text, sizeof text))
        return 0;
    *limit = strtoull(text, &end, 10);
    return end != text; /* "max" is no limit */
}

static uint64_t field(const char *sysroot, const char *folder, const char *file, const char *key)
{
    char path[PATH_MAX];
    uint64_t value = 0;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    qi_sys_field(sysroot, path, key, &value);
    return value;
}

/* What a group holds that cannot simply be dropped: its file cache gives way to allocations. */
static uint64_t group_used(const char *sysroot, int version, const char *folder)
{
    char path[PATH_MAX];
    uint64_t current = 0;
    if (!read_limit(sysroot, folder, version == 2 ? "memory.current" : "memory.usage_in_bytes", path, &current))
        return 0;
    uint64_t cache = field(sysroot, folder, "memory.stat", version == 2 ? "inactive_file" : "total_inactive_file") +
                     field(sysroot, folder, "memory.stat", version == 2 ? "active_file" : "total_active_file");
    return current > cache ? current - cache : 0;
}

static void visit_memory(void *ctx, int version, const char *folder)
{
    static const char *const v2[] = {"memory.max", "memory.high", NULL}; /* above "high" the kernel throttles to a crawl */
    static const char *const v1[] = {"memory.limit_in_bytes", NULL};
    query *q = ctx;
    char path[PATH_MAX];
    uint64_t limit;
    for (const char *const *name = version == 2 ? v2 : v1; *name; name++)
        if (read_limit(q->sysroot, folder, *name, path, &limit))
            consider(q, limit, group_used(q->sysroot, version, folder), path);
    /* v1 also tells the least limit of ancestors that a container cannot see */
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    if (version == 1 && qi_sys_field(q->sysroot, path, "hierarchical_memory_limit", &limit))
        consider(q, limit, group_used(q->sysroot, version, folder), path);
}

/* RLIMIT_AS counts address space, of which the process has mapped some already. */
static void address_space(query *q)
{
    uint64_t limit;
    char text[64];
    if (!qi_sys_field(q->sysroot, "/proc/self/limits", "Max address space", &limit))
        return; /* "unlimited" is no number */
    unsigned long long pages = 0;
    if (qi_sys_read(q->sysroot, "/proc/self/statm", text, sizeof text))
        pages = strtoull(text, NULL, 10);
    consider(q, limit, (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE), "RLIMIT_AS (ulimit -v)");
}

quern_status quern_memory_query(const char *sysroot, quern_memory_info *out, quern_error *error)
{
    if (!out)
        return quern_fail(error, QP_ERR_INVALID, "quern_memory_query: out is NULL");
    quern_memory_info info = {0};
    const char *meminfo = "/proc/meminfo";
    uint64_t total, available, cached = 0;
    if (!qi_sys_field(sysroot, meminfo, "MemTotal:", &total))
        return quern_fail(error, QP_ERR_IO, "%s%s cannot be read or has no MemTotal: is /proc mounted?", sysroot ? sysroot : "",
                          meminfo);
    if (!qi_sys_field(sysroot, meminfo, "MemAvailable:", &available)) { /* kernels before 3.14 */
        if (!qi_sys_field(sysroot, meminfo, "MemFree:", &available))
            available = 0;
        qi_sys_field(sysroot, meminfo, "Cached:", &cached);
        available += cached;
    }
    info.total = total * 1024;
    info.available = available * 1024;
    query q = {sysroot, &info, UINT64_MAX};
    qi_cgroup_walk(sysroot, "memory", visit_memory, &q);
    address_space(&q);
    if (q.left < info.available)
        info.available = q.left;
    *out = info;
    return QP_OK;
}
