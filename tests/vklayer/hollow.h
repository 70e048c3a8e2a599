/* SPDX-License-Identifier: MIT
 * tests/vklayer/hollow.h: stands in for what a driver cannot do that only compiles (QUERN_VK_MASK=hollow): timeline semaphores,
 * submissions, which end at once and compute nothing, and addresses of memory. */
#ifndef TESTS_VKLAYER_HOLLOW_H
#define TESTS_VKLAYER_HOLLOW_H

#include <vulkan/vulkan.h>

/* NULL: this one stays the driver's. */
PFN_vkVoidFunction hollow_function(const char *name);

#endif
