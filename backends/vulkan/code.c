/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/code.h"

#include "backends/vulkan/cache.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/selftest.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/weights.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MOST_FIGURES = 48, MOST_LISTINGS = 12, MOST_KERNELS = 4096 };

typedef struct job {
    qp_device *device, *bench;
    uint32_t flags;
    int (*each)(void *ctx, const qp_kernel_code *code);
    void *ctx;
    uint64_t *seen; /* modules with their constants, as numbers */
    uint32_t seen_count;
    qp_status status; /* what ended it, and its words */
    char words[192];
    qp_kernel_figure figures[MOST_FIGURES];
    qp_kernel_listing listings[MOST_LISTINGS];
    VkPipelineExecutableInternalRepresentationKHR raw[MOST_LISTINGS];
} job;

/* ---- what the driver tells ---- */

static double figure_of(const VkPipelineExecutableStatisticKHR *s)
{
    switch (s->format) {
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_BOOL32_KHR: return (double)s->value.b32;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR: return (double)s->value.i64;
    case VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_UINT64_KHR: return (double)s->value.u64;
    default: return s->value.f64;
    }
}

static void read_figures(job *j, const VkPipelineExecutableInfoKHR *which, qp_kernel_code *code)
{
    VkPipelineExecutableStatisticKHR list[MOST_FIGURES];
    uint32_t count = MOST_FIGURES;
    for (uint32_t i = 0; i < MOST_FIGURES; i++)
        list[i] = (VkPipelineExecutableStatisticKHR){.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR};
    if (j->bench->vk.GetPipelineExecutableStatisticsKHR(j->bench->handle, which, &count, list) < 0)
        return;
    for (uint32_t i = 0; i < count; i++) {
        snprintf(j->figures[i].name, sizeof j->figures[i].name, "%.63s", list[i].name);
        j->figures[i].value = figure_of(&list[i]);
    }
    code->figures = j->figures;
    code->figure_count = count;
}

/* Twice: for the sizes, and for the texts. */
static void read_listings(job *j, const VkPipelineExecutableInfoKHR *which, qp_kernel_code *code)
{
    uint32_t count = MOST_LISTINGS;
    for (uint32_t i = 0; i < MOST_LISTINGS; i++)
        j->raw[i] = (VkPipelineExecutableInternalRepresentationKHR){
            .sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR};
    if (j->bench->vk.GetPipelineExecutableInternalRepresentationsKHR(j->bench->handle, which, &count, j->raw) < 0)
        return;
    for (uint32_t i = 0; i < count; i++)
        j->raw[i].pData = j->raw[i].isText && j->raw[i].dataSize ? qv_alloc_zeroed(j->raw[i].dataSize + 1) : NULL;
    if (j->bench->vk.GetPipelineExecutableInternalRepresentationsKHR(j->bench->handle, which, &count, j->raw) < 0)
        return;
    for (uint32_t i = 0; i < count; i++)
        if (j->raw[i].pData)
            j->listings[code->listing_count++] = (qp_kernel_listing){j->raw[i].name, j->raw[i].pData};
    code->listings = j->listings;
}

static void free_listings(job *j)
{
    for (uint32_t i = 0; i < MOST_LISTINGS; i++) {
        qv_free(j->raw[i].pData);
        j->raw[i].pData = NULL;
    }
}

static void read_code(job *j, VkPipeline pipeline, qp_kernel_code *code)
{
    VkPipelineInfoKHR info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_INFO_KHR, .pipeline = pipeline};
    VkPipelineExecutablePropertiesKHR properties = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_PROPERTIES_KHR};
    VkPipelineExecutableInfoKHR which = {.sType = VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR, .pipeline = pipeline};
    uint32_t count = 1;
    if (!j->bench->tells_code ||
        j->bench->vk.GetPipelineExecutablePropertiesKHR(j->bench->handle, &info, &count, &properties) < 0 || !count)
        return;
    code->subgroup = properties.subgroupSize;
    read_figures(j, &which, code);
    if (j->flags & QP_CODE_TEXTS)
        read_listings(j, &which, code);
}

/* ---- one module with its constants ---- */

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* "matmul_dot_Q4_K 0=64 1=1": constants by number. */
static void name_module(const char *shader, const qv_constants *c, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "%s", shader);
    for (uint32_t i = 0; i < c->count && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, " %u=%u", c->ids[i], c->values[i]);
}

static int is_new(job *j, const char *shader, const qv_constants *c)
{
    uint64_t sum = qv_constants_hash(qv_hash(0, shader, strlen(shader) + 1), c);
    for (uint32_t i = 0; i < j->seen_count; i++)
        if (j->seen[i] == sum)
            return 0;
    if (j->seen_count < MOST_KERNELS)
        j->seen[j->seen_count++] = sum;
    return 1;
}

/* 1: no more of them. */
static int compile_one(job *j, const char *name, const char *shader, const qv_constants *c)
{
    qp_kernel_code code = {.struct_size = sizeof code, .result = QP_KERNEL_RIGHT, .subgroup = c->subgroup};
    const qv_shader *module = qv_shader_find(shader);
    VkPipelineCreateFlags flags = 0;
    VkPipeline pipeline = VK_NULL_HANDLE;
    qp_text words = {code.words, sizeof code.words};
    snprintf(code.kernel, sizeof code.kernel, "%.63s", name);
    name_module(shader, c, code.module, sizeof code.module);
    if (j->bench->tells_code)
        flags = VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR |
                (j->flags & QP_CODE_TEXTS ? VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR : 0);
    uint64_t start = now_ns();
    qp_status status = module ? qv_pipeline_make(j->bench, module, c, flags, VK_NULL_HANDLE, &pipeline, &words)
                              : qv_fail(&words, QP_ERR_INTERNAL, "there is no such module");
    code.time_ns = now_ns() - start;
    if (status == QP_ERR_OUT_OF_MEMORY || status == QP_ERR_DEVICE_LOST) { /* of which the kernel is not guilty */
        snprintf(j->words, sizeof j->words, "%s", code.words);
        j->status = status;
        return 1;
    }
    if (status)
        code.result = QP_KERNEL_WRONG;
    else
        read_code(j, pipeline, &code);
    int stop = j->each(j->ctx, &code);
    free_listings(j);
    j->bench->vk.DestroyPipeline(j->bench->handle, pipeline, NULL);
    return stop;
}

static int visit(void *ctx, const qv_kernel *k)
{
    job *j = ctx;
    qv_uses uses;
    char name[64];
    int stop = 0;
    if (k->is_packing) {
        qv_constants packer = qv_packer(k->packs);
        return is_new(j, "pack", &packer) ? compile_one(j, k->name, "pack", &packer) : 0;
    }
    if (!k->op || (j->flags & QP_CODE_TAKEN && !k->is_best) || qv_selftest_uses(j->device, k->variant, k->op, &uses))
        return 0;
    qv_selftest_name(k->name, k->variant, name);
    for (uint32_t i = 0; i < uses.count && !stop; i++)
        if (is_new(j, uses.list[i].shader, &uses.list[i].constants))
            stop = compile_one(j, name, uses.list[i].shader, &uses.list[i].constants);
    return stop;
}

qp_status qv_code_compile(qp_device *device, const char *only, uint32_t flags, int (*each)(void *ctx, const qp_kernel_code *code),
                          void *ctx, qp_text *error)
{
    qp_status status = qv_lost(device, error);
    if (status)
        return status;
    job *j = qv_alloc_zeroed(sizeof *j);
    if (!j)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory to compile kernels");
    j->device = device;
    j->flags = flags;
    j->each = each;
    j->ctx = ctx;
    j->seen = qv_alloc(MOST_KERNELS * sizeof *j->seen);
    if (!j->seen)
        status = qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory to compile kernels");
    if (!status)
        status = qv_device_open_bench(device, device->physical->has_code, &j->bench, error);
    if (!status && qv_each_kernel(device, only, visit, j))
        status = j->status ? qv_fail(error, j->status, "%s", j->words) : qv_fail(error, QP_ERR_CANCELLED, "stopped");
    qv_device_close(j->bench);
    qv_free(j->seen);
    qv_free(j);
    return status;
}
