/* SPDX-License-Identifier: MIT */
#include "backends/null/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const qp_host *host; /* set by query(), before anything else runs */

qp_status qn_fail(qp_text *error, qp_status status, const char *format, ...)
{
    if (!error || !error->data || !error->size)
        return status;
    va_list args;
    va_start(args, format);
    vsnprintf(error->data, error->size, format, args);
    va_end(args);
    return status;
}

void qn_set_host(const qp_host *new_host)
{
    host = new_host;
}

/* Memory goes back the way it came, so the host's allocator is used whole or not at all. */
static int host_allocates(void)
{
    return host && QP_HAS(host, alloc) && QP_HAS(host, free) && host->alloc && host->free;
}

void *qn_alloc(uint64_t size)
{
    if (!size || size > SIZE_MAX - 63)
        return NULL;
    size_t rounded = ((size_t)size + 63) / 64 * 64;
    return host_allocates() ? host->alloc(host->ctx, rounded, 64) : aligned_alloc(64, rounded);
}

void *qn_alloc_zeroed(uint64_t size)
{
    void *memory = qn_alloc(size);
    return memory ? memset(memory, 0, (size_t)size) : NULL;
}

void qn_free(void *memory)
{
    if (memory && host_allocates())
        host->free(host->ctx, memory);
    else
        free(memory);
}

void qn_memory(uint64_t *total, uint64_t *available)
{
    *total = *available = 0;
    if (host && QP_HAS(host, memory) && host->memory)
        host->memory(host->ctx, total, available);
}
