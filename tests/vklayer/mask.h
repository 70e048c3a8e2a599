/* SPDX-License-Identifier: MIT
 * tests/vklayer/mask.h: takes abilities away from what a driver says of its devices, for tests of devices that lack one:
 *
 *   QUERN_VK_MASK=WHAT[,WHAT…]
 *     version=MAJOR.MINOR   the newest Vulkan that the device knows
 *     a feature             bufferDeviceAddress, … (FEATURES in mask.c)
 *     an extension          by its whole name, VK_…
 *     compute               no queue computes
 *     visible               the host can see no memory
 *     devices               there is no device at all */
#ifndef TESTS_VKLAYER_MASK_H
#define TESTS_VKLAYER_MASK_H

#include <vulkan/vulkan.h>

/* Reads the environment; a word that is not understood ends the program, as a test with a spelling mistake must not pass. */
void mask_begin(void);
/* Of the instance below us, when it is made. */
void mask_instance(PFN_vkGetInstanceProcAddr next, VkInstance instance);
void mask_properties(VkPhysicalDeviceProperties *properties);
/* NULL: the mask does not change this one. */
PFN_vkVoidFunction mask_function(const char *name);

#endif
