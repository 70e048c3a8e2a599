/* SPDX-License-Identifier: MIT */
#include "backends/cpu/device.h"

#include "backends/cpu/buffer.h"
#include "backends/cpu/program.h"
#include "backends/cpu/status.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#endif

/* ---- the processor ------------------------------------------------------------------------------------------------- */

#if defined(__x86_64__) || defined(__i386__)
/* The maker's name for it, which cpuid gives in three parts of 16 letters. */
static int brand(char *dst, size_t size)
{
    unsigned words[12], top = __get_cpuid_max(0x80000000u, NULL);
    if (top < 0x80000004u)
        return -1;
    for (unsigned i = 0; i < 3; i++)
        __get_cpuid(0x80000002u + i, words + 4 * i, words + 4 * i + 1, words + 4 * i + 2, words + 4 * i + 3);
    char text[sizeof words + 1] = "";
    memcpy(text, words, sizeof words);
    const char *start = text + strspn(text, " ");
    snprintf(dst, size, "%s", start);
    for (size_t n = strlen(dst); n && dst[n - 1] == ' '; n--)
        dst[n - 1] = 0;
    return *dst ? 0 : -1;
}
#else
static int brand(char *dst, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];
    int found = -1;
    while (file && found && fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (colon && (!strncmp(line, "model name", 10) || !strncmp(line, "Model", 5))) {
            snprintf(dst, size, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
            found = 0;
        }
    }
    if (file)
        fclose(file);
    return found;
}
#endif

static void device_name(char *dst, size_t size)
{
    if (brand(dst, size) == 0)
        return;
#if defined(__aarch64__)
    snprintf(dst, size, "64-bit ARM processor");
#else
    snprintf(dst, size, "processor of unknown name");
#endif
}

typedef struct processors {
    qp_cpu *cpus; /* may be NULL: count alone is known */
    uint32_t count, cores;
} processors;

/* The processing units of the host's choice, else those that the system lets us run on. */
static processors find_processors(void)
{
    processors p = {0};
    const qp_host *host = qc_host();
    if (host && QP_HAS(host, cpus) && host->cpus) {
        p.count = host->cpus(host->ctx, NULL, 0);
        p.cpus = p.count ? qc_alloc(p.count * sizeof *p.cpus) : NULL;
        uint32_t got = p.cpus ? host->cpus(host->ctx, p.cpus, p.count) : 0;
        p.count = p.cpus && got < p.count ? got : p.count;
        for (uint32_t i = 0; p.cpus && i < p.count; i++)
            p.cores += p.cpus[i].smt == 0;
    }
    if (!p.count) {
        cpu_set_t set;
        p.count = sched_getaffinity(0, sizeof set, &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
    }
    if (!p.cores)
        p.cores = p.count;
    return p;
}

uint32_t qc_device_count(void)
{
    return 1;
}

qp_status qc_device_info(uint32_t index, qp_device_info *info, qp_text *error)
{
    if (index != 0)
        return qc_fail(error, QP_ERR_NOT_FOUND, "the cpu backend has one device, number 0; there is no device %u", index);
    if (!info || info->struct_size < sizeof info->struct_size)
        return qc_fail(error, QP_ERR_INVALID, "device_info needs a qp_device_info whose struct_size is set");
    qp_device_info out = {.kind = QP_DEVICE_CPU, .flags = QP_DEVICE_CAN_IMPORT, .heap_count = 1};
    processors p = find_processors();
    qc_free(p.cpus);
    out.units = p.cores;
    device_name(out.name, sizeof out.name);
    qk_cpu_features features;
    qk_cpu_detect(&features);
    qk_cpu_features_text(&features, out.features, sizeof out.features);
    qp_heap *heap = &out.heaps[0];
    qc_memory_left(&heap->size, &heap->budget);
    if (heap->size && !heap->budget)
        heap->budget = 1; /* nothing is left, where 0 would say that nobody knows */
    heap->max_allocation = heap->size ? heap->size : INT64_MAX / 2;
    heap->flags = QP_HEAP_DEVICE_LOCAL | QP_HEAP_HOST_VISIBLE | QP_HEAP_HOST_CACHED | QP_HEAP_UNIFIED;
    heap->alignment = QC_ALIGNMENT;
    uint32_t size = info->struct_size;
    memcpy(info, &out, size < sizeof out ? size : sizeof out);
    info->struct_size = size;
    return QP_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------------- */

static qp_status choose_kernels(qp_device *device, const char *variant, qp_text *error)
{
    device->reference = variant && !strcmp(variant, "ref");
    if (qk_kernels_init(&device->kernels, device->reference ? NULL : variant) == 0)
        return QP_OK;
    char known[256] = "ref";
    for (unsigned i = 0; qk_kernels_variant(i); i++) {
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, ", %s", qk_kernels_variant(i));
    }
    return qc_fail(error, QP_ERR_NOT_FOUND, "this processor and build have no variant '%s'; there are %s", variant, known);
}

static qp_status choose_threads(qp_device *device, const processors *p, uint32_t asked, qp_text *error)
{
    uint64_t most = 4 * (uint64_t)p->count < QC_MAX_THREADS ? 4 * (uint64_t)p->count : QC_MAX_THREADS;
    if (asked > most)
        return qc_fail(error, QP_ERR_INVALID,
                       "%u threads were asked for; there are %u processing units, and at most %llu threads are served", asked,
                       p->count, (unsigned long long)most);
    uint32_t own = p->cores < QC_MAX_THREADS ? p->cores : QC_MAX_THREADS;
    device->threads = device->reference ? 1 : asked ? asked : own;
    return QP_OK;
}

/* How long to look before sleeping. A thread that looks keeps its processor from others, so where there are as many threads as
 * processors the idle ones soon sleep: the host needs a processor to ask for the next run. */
static void choose_patience(qp_device *device, const processors *p)
{
    int crowded = device->threads > p->count, full = device->threads >= p->count;
    device->pool.phase_spin_ns = crowded ? 2000 : 200000;
    device->pool.idle_spin_ns = crowded ? 0 : full ? 10000 : 100000;
    device->wait_spin_ns = full ? 0 : 20000;
}

static qp_status start(qp_device *device, const processors *p, qp_text *error)
{
    uint32_t *cpus = qc_alloc(device->threads * sizeof *cpus);
    if (!cpus)
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for a list of %u processors", device->threads);
    for (uint32_t i = 0; i < device->threads; i++) /* more threads than processors: the system places them better than we would */
        cpus[i] = p->cpus && device->threads <= p->count ? p->cpus[i].os_index : UINT32_MAX;
    qp_status status = qc_pool_start(&device->pool, device->threads, cpus, qc_queue_lead, device, qc_program_help, error);
    qc_free(cpus);
    return status;
}

qp_status qc_device_open(uint32_t index, const qp_device_options *options, qp_device **out, qp_text *error)
{
    if (index != 0)
        return qc_fail(error, QP_ERR_NOT_FOUND, "the cpu backend has one device, number 0; there is no device %u", index);
    if (!out)
        return qc_fail(error, QP_ERR_INVALID, "device_open needs a place for the device");
    qp_device *device = qc_alloc(sizeof *device);
    if (!device)
        return qc_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for a device");
    const char *variant = options && QP_HAS(options, variant) ? options->variant : NULL;
    uint32_t threads = options && QP_HAS(options, threads) ? options->threads : 0;
    processors p = find_processors();
    qp_status status = choose_kernels(device, variant, error);
    if (!status)
        status = choose_threads(device, &p, threads, error);
    if (!status) {
        choose_patience(device, &p);
        qc_queue_init(&device->queue);
        status = start(device, &p, error);
        if (status)
            qc_queue_destroy(&device->queue);
    }
    qc_free(p.cpus);
    if (status) {
        qc_free(device);
        return status;
    }
    *out = device;
    return QP_OK;
}

void qc_device_close(qp_device *device)
{
    if (!device)
        return;
    qc_queue_stop(&device->queue);
    qc_pool_join(&device->pool);
    qc_queue_destroy(&device->queue);
    qc_free(device);
}
