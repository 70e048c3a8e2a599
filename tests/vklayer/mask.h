/* SPDX-License-Identifier: MIT
 * tests/vklayer/mask.h: takes abilities away from what a driver says of its devices, for tests of devices that lack one:
 *
 *   QUERN_VK_MASK=WHAT[,WHAT…]
 *     version=MAJOR.MINOR   the newest Vulkan that the device knows
 *     a feature             bufferDeviceAddress, … (FEATURES in mask.c)
 *     an extension          by its whole name, VK_…
 *     compute               no queue computes
 *     visible               the host can see no memory
 *     devices               there is no device at all
 *     type=KIND             discrete, integrated, virtual or cpu: what it is said to be
 *     subgroup=N[-MIN-MAX]  the size of its subgroups, and between which kernels may choose
 *     heaps=KIND            other memory than the driver's: card (a window of 256 MiB), bar (all of it visible), integrated
 *                           (one heap for all), apu (two heaps, of a driver that hides that they are one), none
 *     hollow                nothing runs: submissions end at once, semaphores and addresses are the layer's. For drivers that
 *                           compile for a device that is not there */
#ifndef TESTS_VKLAYER_MASK_H
#define TESTS_VKLAYER_MASK_H

#include <vulkan/vulkan.h>

/* Reads the environment; a word that is not understood ends the program, as a test with a spelling mistake must not pass. */
void mask_begin(void);
/* Of the instance below us, when it is made. */
void mask_instance(PFN_vkGetInstanceProcAddr next, VkInstance instance);
void mask_properties(VkPhysicalDeviceProperties *properties);
void mask_properties2(VkPhysicalDeviceProperties2 *properties);
/* The memory types that the mask invents, a bit each; 0: they are the driver's. */
uint32_t mask_memory_types(void);
int mask_is_hollow(void);
/* NULL: the mask does not change this one. */
PFN_vkVoidFunction mask_function(const char *name);

#endif
