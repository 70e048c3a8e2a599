/* SPDX-License-Identifier: MIT
 * backends/vulkan/cache.h: what is worth keeping between runs: $XDG_CACHE_HOME/quern, or ~/.cache/quern, files of three kinds for
 * each device, driver and version of quern. A file that is missing, of another driver or device, or damaged is as good as none; a
 * folder that cannot be written is no error. Nothing is kept where neither variable is set. */
#ifndef QUERN_BACKENDS_VULKAN_CACHE_H
#define QUERN_BACKENDS_VULKAN_CACHE_H

#include "backends/vulkan/physical.h"

#define QV_CACHE_KERNELS "bin" /* what the driver compiled */
#define QV_CACHE_TESTS "tests" /* which kernels were found right and which wrong */
#define QV_CACHE_RATE "rate"   /* how fast the device was */

/* The bytes that were kept for this device; free them with qv_free. NULL: none. */
void *qv_cache_load(const qv_physical *physical, const char *kind, size_t *size);

/* Keeps them, by writing a new file and giving it the name of the old one. */
void qv_cache_save(const qv_physical *physical, const char *kind, const void *data, size_t size);

/* A number for some bytes, going on from that of others (at first 0). Not for secrets. */
uint64_t qv_hash(uint64_t from, const void *data, size_t size);

#endif
