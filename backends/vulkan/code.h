/* SPDX-License-Identifier: MIT
 * backends/vulkan/code.h: what the driver's compiler makes of kernels, without running them. */
#ifndef QUERN_BACKENDS_VULKAN_CODE_H
#define QUERN_BACKENDS_VULKAN_CODE_H

#include "backends/vulkan/symbols.h"

/* See qp_kernels. Figures and texts come by VK_KHR_pipeline_executable_properties; where the driver lacks it there are none.
 * Thread rule: any. */
qp_status qv_code_compile(qp_device *device, const char *only, uint32_t flags, int (*each)(void *ctx, const qp_kernel_code *code),
                          void *ctx, qp_text *error);

#endif
