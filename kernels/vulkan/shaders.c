/* SPDX-License-Identifier: MIT */
#include "kernels/vulkan/shaders.h"

#include "kernels/vulkan/list.h"

#include <string.h>

static const qv_shader shaders[] = {
#define ROW(name) {#name, qv_spirv_##name, sizeof qv_spirv_##name},
    QV_SHADERS(ROW)
#undef ROW
};

const qv_shader *qv_shader_find(const char *name)
{
    for (size_t i = 0; i < sizeof shaders / sizeof *shaders; i++)
        if (!strcmp(shaders[i].name, name))
            return &shaders[i];
    return NULL;
}
