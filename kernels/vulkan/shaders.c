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

/* FNV-1a (Fowler, Noll & Vo) over names and sizes. */
uint64_t qv_shaders_mark(void)
{
    uint64_t mark = 0xcbf29ce484222325u;
    for (size_t i = 0; i < sizeof shaders / sizeof *shaders; i++) {
        for (const char *c = shaders[i].name; *c; c++)
            mark = (mark ^ (uint8_t)*c) * 0x100000001b3u;
        mark = (mark ^ shaders[i].bytes) * 0x100000001b3u;
    }
    return mark;
}
