/* SPDX-License-Identifier: MIT
 * A libvulkan.so.1 of Vulkan 1.0, which knows nothing of later versions; or, with -DNO_LOADER, a library of that name that is no
 * Vulkan loader. */
#include <string.h>

typedef void (*function)(void);

static int create_instance(const void *info, const void *allocator, void **instance)
{
    (void)info, (void)allocator, (void)instance;
    return -9; /* VK_ERROR_INCOMPATIBLE_DRIVER */
}

#ifdef NO_LOADER
#define vkGetInstanceProcAddr quern_is_no_loader
#endif
__attribute__((visibility("default"))) function vkGetInstanceProcAddr(void *instance, const char *name);
function vkGetInstanceProcAddr(void *instance, const char *name)
{
    (void)instance;
    return !strcmp(name, "vkCreateInstance") ? (function)create_instance : NULL;
}
