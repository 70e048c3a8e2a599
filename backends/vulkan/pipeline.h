/* SPDX-License-Identifier: MIT
 * backends/vulkan/pipeline.h: a kernel with its constants, compiled by the driver once a device. */
#ifndef QUERN_BACKENDS_VULKAN_PIPELINE_H
#define QUERN_BACKENDS_VULKAN_PIPELINE_H

#include "backends/vulkan/symbols.h"

#include "kernels/vulkan/shaders.h"

#include <pthread.h>

enum { QV_CONSTANTS = 12 };

/* Specialisation constants: those that are not named keep the kernel's default. */
typedef struct qv_constants {
    uint32_t subgroup; /* 0, or the size that its subgroups must have, all of them full: qv_physical.team */
    uint32_t count;
    uint32_t ids[QV_CONSTANTS];
    uint32_t values[QV_CONSTANTS];
} qv_constants;

int qv_constants_same(const qv_constants *a, const qv_constants *b);
uint64_t qv_constants_hash(uint64_t from, const qv_constants *constants); /* as qv_hash (cache.h) */

typedef struct qv_pipeline {
    struct qv_pipeline *next;
    const qv_shader *shader;
    qv_constants constants;
    VkPipeline handle; /* NULL: not compiled yet */
} qv_pipeline;

typedef struct qv_pipelines {
    VkPipelineLayout layout;     /* 128 bytes of push constants and, where kernels use them, views */
    VkDescriptorSetLayout views; /* NULL where no kernel uses them */
    VkPipelineCache cache;
    pthread_mutex_t lock;
    int ready;          /* the lock is there */
    qv_pipeline *first; /* under the lock */
    int compiled;       /* something that the cache on disk did not have, perhaps */
} qv_pipelines;

qp_status qv_pipelines_init(qp_device *device, qp_text *error);
void qv_pipelines_destroy(qp_device *device);

/* The record of a pipeline, compiled or not; it lives as long as the device. Thread rule: any. */
qp_status qv_pipeline_find(qp_device *device, const char *shader, const qv_constants *constants, qv_pipeline **out, qp_text *error);

/* Compiles those that are not, beside each other where there are several: drivers take from milliseconds to seconds for one. The
 * list may name one twice. Thread rule: any. */
qp_status qv_pipelines_compile(qp_device *device, qv_pipeline *const *list, uint32_t count, qp_text *error);

/* One that nobody keeps: the caller destroys it. Thread rule: any. */
qp_status qv_pipeline_make(qp_device *device, const qv_shader *shader, const qv_constants *constants, VkPipelineCreateFlags flags,
                           VkPipelineCache cache, VkPipeline *out, qp_text *error);

/* The pipeline, compiled now if it was not. Thread rule: any. */
qp_status qv_pipeline_get(qp_device *device, const char *shader, const qv_constants *constants, VkPipeline *out, qp_text *error);

#endif
