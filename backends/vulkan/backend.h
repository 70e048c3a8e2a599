/* SPDX-License-Identifier: MIT
 * backends/vulkan/backend.h: what plugins/vulkan takes from here.
 *
 * Vulkan 1.2 with memory by address and timeline semaphores; no descriptors, no linked loader. Files as in backends/null, and
 *   symbols   the loader, opened at run time   physical  what a driver says of a device; heaps    transfer  the staging ring
 *   pipeline  compiled kernels                 plan      a program's dispatches                   record    their command buffers
 *   hazards   where barriers go                ops_*     the rows of ops.c */
#ifndef QUERN_BACKENDS_VULKAN_BACKEND_H
#define QUERN_BACKENDS_VULKAN_BACKEND_H

#include <quern/plugin.h>

/* The backend table, or NULL with the reason: no loader, no driver, no device that will do. host (may be NULL) is kept. */
const qp_backend *qv_backend(const qp_host *host, qp_text *reason);

#endif
