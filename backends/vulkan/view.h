/* SPDX-License-Identifier: MIT
 * backends/vulkan/view.h: memory seen as an array of texels, the one thing here that has descriptors (decision 021). They are pushed
 * into the command buffer, a dispatch at a time: there is no pool and no set to keep. */
#ifndef QUERN_BACKENDS_VULKAN_VIEW_H
#define QUERN_BACKENDS_VULKAN_VIEW_H

#include "backends/vulkan/physical.h"

enum { QV_VIEWS = 4 }; /* bindings 0 to 3 of a kernel */

typedef struct qv_view {
    const qp_buffer *buffer;
    uint64_t offset, bytes; /* a multiple of qv_view_alignment, and whole texels */
    VkFormat format;
} qv_view;

/* What the device lacks for kernels with views, in words; NULL: nothing. They are of use only where loads by address are slow, and
 * what says so is that the device is a processor. */
const char *qv_views_lack(const qv_physical *physical);

uint64_t qv_view_alignment(const qv_physical *physical);

/* Texels that one view may have. */
uint64_t qv_view_texels(const qv_physical *physical);

/* The descriptors of every pipeline's layout. */
VkResult qv_views_layout(const qp_device *device, VkDescriptorSetLayout *out);

/* Makes the views and pushes them. Those that were made are in made[0..*count) also on failure. */
VkResult qv_views_push(const qp_device *device, VkCommandBuffer commands, const qv_view *views, uint32_t bindings,
                       VkBufferView *made, uint32_t *count);

#endif
