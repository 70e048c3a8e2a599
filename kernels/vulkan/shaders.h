/* SPDX-License-Identifier: MIT
 * kernels/vulkan/shaders.h: the compiled kernels, by name: the kernel's, and for kernels that read weights the format's after
 * a line, such as "norm" or "matmul_Q4_0". */
#ifndef QUERN_KERNELS_VULKAN_SHADERS_H
#define QUERN_KERNELS_VULKAN_SHADERS_H

#include <stddef.h>
#include <stdint.h>

typedef struct qv_shader {
    const char *name;
    const uint32_t *words; /* SPIR-V */
    size_t bytes;
} qv_shader;

/* NULL when there is none of that name. Lives as long as the program. Thread rule: any. */
const qv_shader *qv_shader_find(const char *name);

/* A number that is another one when kernels have been added or changed (but for changes that leave every size as it was). */
uint64_t qv_shaders_mark(void);

#endif
