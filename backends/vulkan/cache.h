/* SPDX-License-Identifier: MIT
 * backends/vulkan/cache.h: what the driver compiled, kept on disk: $XDG_CACHE_HOME/quern, or ~/.cache/quern, one file for each
 * device, driver and version of quern. A file that is missing, of another driver or damaged is as good as none; a folder that
 * cannot be written is no error. Nothing is kept where neither variable is set. */
#ifndef QUERN_BACKENDS_VULKAN_CACHE_H
#define QUERN_BACKENDS_VULKAN_CACHE_H

#include "backends/vulkan/physical.h"

/* The bytes that were kept for this device, for vkCreatePipelineCache; free them with qv_free. NULL: none. */
void *qv_cache_load(const qv_physical *physical, size_t *size);

/* Keeps them, by writing a new file and giving it the name of the old one. */
void qv_cache_save(const qv_physical *physical, const void *data, size_t size);

#endif
