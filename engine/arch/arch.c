/* SPDX-License-Identifier: MIT */
#include "engine/arch/arch.h"

#include <stdio.h>
#include <string.h>

static const arch *const table[] = {
#define ARCH_ROW(name) &arch_##name,
    ARCH_LIST(ARCH_ROW)
#undef ARCH_ROW
};

enum { ARCHITECTURES = sizeof table / sizeof *table };

const arch *arch_find(const char *name)
{
    for (size_t i = 0; i < ARCHITECTURES; i++)
        if (!strcmp(table[i]->name, name))
            return table[i];
    return NULL;
}

const char *quern_architecture_at(uint32_t index)
{
    return index < ARCHITECTURES ? table[index]->name : NULL;
}

const char *arch_names(char *dst, size_t size)
{
    size_t used = 0;
    dst[0] = '\0';
    for (size_t i = 0; i < ARCHITECTURES && used < size; i++)
        used += (size_t)snprintf(dst + used, size - used, "%s%s", i ? ", " : "", table[i]->name);
    return dst;
}
