/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/pipeline.h"

#include "backends/vulkan/cache.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/view.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PUSH_BYTES = 128 };

qp_status qv_pipelines_init(qp_device *device, qp_text *error)
{
    qv_pipelines *p = &device->pipelines;
    VkPushConstantRange range = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = PUSH_BYTES};
    VkPipelineLayoutCreateInfo layout = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO, .pushConstantRangeCount = 1, .pPushConstantRanges = &range};
    if (pthread_mutex_init(&p->lock, NULL))
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a lock");
    p->ready = 1;
    VkPipelineCacheCreateInfo cache = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    void *kept = qv_cache_load(device->physical, QV_CACHE_KERNELS, &cache.initialDataSize);
    cache.pInitialData = kept;
    VkResult result = qv_views_lack(device->physical) ? VK_SUCCESS : qv_views_layout(device, &p->views);
    layout.setLayoutCount = p->views != VK_NULL_HANDLE;
    layout.pSetLayouts = &p->views;
    if (!result)
        result = device->vk.CreatePipelineLayout(device->handle, &layout, NULL, &p->layout);
    if (!result)
        result = device->vk.CreatePipelineCache(device->handle, &cache, NULL, &p->cache);
    qv_free(kept);
    return result ? qv_failed(device, result, error, "making the pipelines' layout") : QP_OK;
}

static void keep_cache(qp_device *device)
{
    size_t size = 0;
    void *data = NULL;
    if (!device->pipelines.compiled || device->is_bench || atomic_load(&device->lost))
        return;
    if (!device->vk.GetPipelineCacheData(device->handle, device->pipelines.cache, &size, NULL) && size)
        data = qv_alloc(size);
    if (data && !device->vk.GetPipelineCacheData(device->handle, device->pipelines.cache, &size, data))
        qv_cache_save(device->physical, QV_CACHE_KERNELS, data, size);
    qv_free(data);
}

void qv_pipelines_destroy(qp_device *device)
{
    qv_pipelines *p = &device->pipelines;
    keep_cache(device);
    while (p->first) {
        qv_pipeline *pipeline = p->first;
        p->first = pipeline->next;
        device->vk.DestroyPipeline(device->handle, pipeline->handle, NULL);
        qv_free(pipeline);
    }
    device->vk.DestroyPipelineCache(device->handle, p->cache, NULL);
    device->vk.DestroyPipelineLayout(device->handle, p->layout, NULL);
    device->vk.DestroyDescriptorSetLayout(device->handle, p->views, NULL);
    if (p->ready)
        pthread_mutex_destroy(&p->lock);
}

qp_status qv_pipeline_make(qp_device *device, const qv_shader *shader, const qv_constants *c, VkPipelineCreateFlags flags,
                           VkPipelineCache cache, VkPipeline *out, qp_text *error)
{
    VkShaderModule module = VK_NULL_HANDLE;
    VkShaderModuleCreateInfo code = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO, .codeSize = shader->bytes, .pCode = shader->words};
    VkSpecializationMapEntry entries[QV_CONSTANTS];
    for (uint32_t i = 0; i < c->count; i++)
        entries[i] = (VkSpecializationMapEntry){.constantID = c->ids[i], .offset = i * 4, .size = 4};
    VkSpecializationInfo constants = {
        .mapEntryCount = c->count, .pMapEntries = entries, .dataSize = c->count * 4, .pData = c->values};
    VkPipelineShaderStageCreateFlags full_flag = c->subgroup ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT_EXT : 0;
    VkResult result = device->vk.CreateShaderModule(device->handle, &code, NULL, &module);
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfoEXT full = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO_EXT,
        .requiredSubgroupSize = c->subgroup};
    VkComputePipelineCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
                                        .flags = flags,
                                        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                                                  .pNext = c->subgroup && device->physical->asks_for_team ? &full : NULL,
                                                  .flags = full_flag,
                                                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                                                  .module = module,
                                                  .pName = "main",
                                                  .pSpecializationInfo = &constants},
                                        .layout = device->pipelines.layout};
    if (!result)
        result = device->vk.CreateComputePipelines(device->handle, cache, 1, &info, NULL, out);
    device->vk.DestroyShaderModule(device->handle, module, NULL);
    if (!result)
        return QP_OK;
    char words[96];
    snprintf(words, sizeof words, "compiling the kernel %.60s", shader->name);
    return qv_failed(device, result, error, words);
}

static qp_status compile(qp_device *device, qv_pipeline *pipeline, qp_text *error)
{
    return qv_pipeline_make(device, pipeline->shader, &pipeline->constants, 0, device->pipelines.cache, &pipeline->handle, error);
}

int qv_constants_same(const qv_constants *a, const qv_constants *b)
{
    size_t used = a->count * sizeof a->ids[0];
    return a->subgroup == b->subgroup && a->count == b->count && !memcmp(a->ids, b->ids, used) &&
           !memcmp(a->values, b->values, used);
}

uint64_t qv_constants_hash(uint64_t from, const qv_constants *c)
{
    uint64_t sum = qv_hash(from, &c->subgroup, sizeof c->subgroup);
    sum = qv_hash(sum, c->ids, c->count * sizeof c->ids[0]);
    return qv_hash(sum, c->values, c->count * sizeof c->values[0]);
}

static int is_same(const qv_pipeline *pipeline, const char *shader, const qv_constants *constants)
{
    return !strcmp(pipeline->shader->name, shader) && qv_constants_same(&pipeline->constants, constants);
}

static qp_status find_locked(qp_device *device, const char *shader, const qv_constants *constants, qv_pipeline **out,
                             qp_text *error)
{
    for (*out = device->pipelines.first; *out; *out = (*out)->next)
        if (is_same(*out, shader, constants))
            return QP_OK;
    const qv_shader *code = qv_shader_find(shader);
    if (!code)
        return qv_fail(error, QP_ERR_INTERNAL, "there is no kernel %s", shader);
    qv_pipeline *pipeline = qv_alloc_zeroed(sizeof *pipeline);
    if (!pipeline)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the record of a pipeline");
    pipeline->shader = code;
    pipeline->constants = *constants;
    pipeline->next = device->pipelines.first;
    device->pipelines.first = pipeline;
    *out = pipeline;
    return QP_OK;
}

qp_status qv_pipeline_find(qp_device *device, const char *shader, const qv_constants *constants, qv_pipeline **out, qp_text *error)
{
    pthread_mutex_lock(&device->pipelines.lock);
    qp_status status = find_locked(device, shader, constants, out, error);
    pthread_mutex_unlock(&device->pipelines.lock);
    return status;
}

/* ---- compiling several ---- */

enum { COMPILERS = 8 };

typedef struct work {
    qp_device *device;
    qv_pipeline **list;
    uint32_t count;
    atomic_uint next;
    atomic_int failed;
    pthread_mutex_t lock; /* of what the first that failed says */
    qp_status status;
    char words[256];
} work;

static void *compile_some(void *data)
{
    work *w = data;
    for (uint32_t i; (i = atomic_fetch_add(&w->next, 1)) < w->count && !atomic_load(&w->failed);) {
        char words[sizeof w->words] = "";
        qp_status status = compile(w->device, w->list[i], &(qp_text){words, sizeof words});
        if (!status)
            continue;
        pthread_mutex_lock(&w->lock);
        if (!atomic_exchange(&w->failed, 1)) {
            w->status = status;
            memcpy(w->words, words, sizeof words);
        }
        pthread_mutex_unlock(&w->lock);
    }
    return NULL;
}

/* A thread that cannot be had is done without. */
static void compile_beside(work *w)
{
    pthread_t threads[COMPILERS - 1];
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t most = processors > COMPILERS ? COMPILERS : processors > 1 ? (uint32_t)processors : 1, started = 0;
    while (started + 1 < most && started + 1 < w->count && !pthread_create(&threads[started], NULL, compile_some, w))
        started++;
    compile_some(w);
    while (started)
        pthread_join(threads[--started], NULL);
}

static uint32_t list_missing(qv_pipeline *const *list, uint32_t count, qv_pipeline **missing)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t seen = 0;
        while (seen < found && missing[seen] != list[i])
            seen++;
        if (!list[i]->handle && seen == found)
            missing[found++] = list[i];
    }
    return found;
}

qp_status qv_pipelines_compile(qp_device *device, qv_pipeline *const *list, uint32_t count, qp_text *error)
{
    work w = {.device = device, .lock = PTHREAD_MUTEX_INITIALIZER};
    w.list = qv_alloc(count * sizeof *list + 1);
    if (!w.list)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory to compile kernels");
    pthread_mutex_lock(&device->pipelines.lock);
    w.count = list_missing(list, count, w.list);
    if (w.count) {
        compile_beside(&w);
        device->pipelines.compiled = 1;
    }
    pthread_mutex_unlock(&device->pipelines.lock);
    qv_free(w.list);
    return w.status ? qv_fail(error, w.status, "%s", w.words) : QP_OK;
}

qp_status qv_pipeline_get(qp_device *device, const char *shader, const qv_constants *constants, VkPipeline *out, qp_text *error)
{
    qv_pipeline *pipeline;
    qp_status status = qv_pipeline_find(device, shader, constants, &pipeline, error);
    if (!status)
        status = qv_pipelines_compile(device, &pipeline, 1, error);
    if (!status)
        *out = pipeline->handle;
    return status;
}
