/* SPDX-License-Identifier: MIT */
#include "backends/cpu/status.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysinfo.h>

static const qp_host *the_host; /* set once by query(), before anything else runs */

qp_status qc_fail(qp_text *error, qp_status status, const char *format, ...)
{
    if (!error || !error->data || !error->size)
        return status;
    va_list args;
    va_start(args, format);
    vsnprintf(error->data, error->size, format, args);
    va_end(args);
    return status;
}

qc_words qc_bytes_words(uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    qc_words words;
    if (bytes < 1024) {
        snprintf(words.text, sizeof words.text, "%llu bytes", (unsigned long long)bytes);
        return words;
    }
    double value = (double)bytes / 1024;
    unsigned unit = 0;
    for (; value >= 1024 && unit < 5; unit++)
        value /= 1024;
    snprintf(words.text, sizeof words.text, "%.2f %s", value, units[unit]);
    return words;
}

const char *qc_format_name(qp_format format)
{
    switch (format) {
#define QC_CASE(name, number, elements, bytes, quantised)                                                                          \
    case number: return #name;
        QP_FORMAT_LIST(QC_CASE)
#undef QC_CASE
    default: return "?";
    }
}

qc_words qc_shape_words(const qp_tensor *t)
{
    qc_words words;
    int n = snprintf(words.text, sizeof words.text, "%s {%lld, %lld, %lld", qc_format_name(t->format), (long long)t->ne[0],
                     (long long)t->ne[1], (long long)t->ne[2]);
    if (n > 0 && (size_t)n < sizeof words.text)
        snprintf(words.text + n, sizeof words.text - (size_t)n, t->ne[3] == 1 ? "}" : ", %lld}", (long long)t->ne[3]);
    for (char *c = words.text; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return words;
}

void qc_set_host(const qp_host *host)
{
    the_host = host;
}

const qp_host *qc_host(void)
{
    return the_host;
}

static const qp_host *host_allocator(void)
{
    return the_host && QP_HAS(the_host, free) && the_host->alloc && the_host->free ? the_host : NULL;
}

void *qc_alloc(size_t size)
{
    if (size > SIZE_MAX - 64)
        return NULL;
    size_t rounded = (size ? size + 63 : 64) / 64 * 64;
    const qp_host *host = host_allocator();
    void *memory = host ? host->alloc(host->ctx, rounded, 64) : aligned_alloc(64, rounded);
    if (memory)
        memset(memory, 0, rounded);
    return memory;
}

void qc_free(void *memory)
{
    const qp_host *host = host_allocator();
    if (memory && host)
        host->free(host->ctx, memory);
    else
        free(memory);
}

/* MemAvailable counts what the page cache would give back, which sysinfo does not know. 0 when it cannot be read. */
static uint64_t meminfo_available(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    if (!file)
        return 0;
    char line[256];
    unsigned long long kib = 0;
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
            break;
    fclose(file);
    return (uint64_t)kib * 1024;
}

void qc_memory(uint64_t *total, uint64_t *available)
{
    *total = *available = 0;
    if (the_host && QP_HAS(the_host, memory) && the_host->memory) {
        the_host->memory(the_host->ctx, total, available);
        return;
    }
    struct sysinfo info;
    if (sysinfo(&info) == 0) {
        *total = (uint64_t)info.totalram * info.mem_unit;
        *available = ((uint64_t)info.freeram + info.bufferram) * info.mem_unit;
    }
    uint64_t better = meminfo_available();
    if (better)
        *available = better;
}
