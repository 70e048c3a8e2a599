/* SPDX-License-Identifier: MIT
 * backends/vulkan/physical.h: what a driver says of a device, read once; and the heaps that we make of its memory types. */
#ifndef QUERN_BACKENDS_VULKAN_PHYSICAL_H
#define QUERN_BACKENDS_VULKAN_PHYSICAL_H

#include "backends/vulkan/matrices.h"

/* One heap as the host sees it: a memory type, the best of its kind. */
typedef struct qv_heap {
    uint32_t type; /* memory type */
    uint32_t driver_heap;
    uint32_t flags; /* QP_HEAP_* */
} qv_heap;

typedef struct qv_physical {
    VkPhysicalDevice handle;
    VkPhysicalDeviceProperties properties;
    VkPhysicalDeviceMemoryProperties memory;
    uint8_t uuid[VK_UUID_SIZE];
    char driver[128];
    uint64_t max_allocation;
    uint32_t queue_family;
    uint32_t subgroup;         /* invocations of a subgroup */
    uint32_t lanes;            /* the same where it is small and values can be handed around, else 0 */
    uint32_t team;             /* invocations of a subgroup, all of them there where a pipeline requires full ones; 0: not known */
    int asks_for_team;         /* pipelines name that size as well: the device has several */
    int has_ballot;            /* invocations of a subgroup know of each other's conditions */
    int has_shuffle;           /* values go from any invocation of a subgroup to any other */
    uint32_t import_alignment; /* 0: host memory cannot be imported */
    int has_budget, has_pci, has_maintenance4, has_push_descriptor;
    uint32_t pci[4];          /* domain, bus, device, function */
    int has_code;             /* the driver tells what it compiled */
    int has_size_control;     /* a pipeline can require the size of its subgroups */
    int integer_dot, float16; /* kernels may use them */
    int dot_is_quick;         /* four products of bytes are one instruction */
    qv_matrices matrices;     /* of 16-bit floats; kernels may use them */
    char unusable[256];       /* why it cannot be used; "": it can */
    uint32_t heap_count, weight_heap, host_heap;
    qv_heap heaps[QP_MAX_HEAPS];
} qv_physical;

void qv_physical_read(const qv_loader *loader, VkPhysicalDevice handle, qv_physical *out);

/* Facts with the budgets of now; struct_size says how much of it the host knows. */
void qv_physical_info(const qv_loader *loader, const qv_physical *physical, qp_device_info *info);

#endif
