/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/matrices.h"

enum { MOST_SHAPES = 64, STEP = 32 }; /* STEP: elements along K that the kernel takes at a time */

static int is_served(const VkCooperativeMatrixPropertiesKHR *p)
{
    return p->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && p->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
           p->CType == VK_COMPONENT_TYPE_FLOAT32_KHR && p->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
           p->scope == VK_SCOPE_SUBGROUP_KHR && !p->saturatingAccumulation && p->MSize <= 16 && p->NSize <= 16 &&
           p->KSize % 4 == 0 && p->KSize && STEP % p->KSize == 0;
}

/* The largest of those that fit the tiles of the kernel. */
qv_matrices qv_matrices_read(const qv_loader *loader, VkPhysicalDevice device)
{
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR get = (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(void (*)(
        void))loader->GetInstanceProcAddr(loader->instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    VkPhysicalDeviceCooperativeMatrixPropertiesKHR stages = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &stages};
    VkCooperativeMatrixPropertiesKHR list[MOST_SHAPES];
    uint32_t count = MOST_SHAPES;
    qv_matrices best = {0};
    loader->GetPhysicalDeviceProperties2(device, &all);
    if (!get || !(stages.cooperativeMatrixSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT))
        return best;
    for (uint32_t i = 0; i < MOST_SHAPES; i++)
        list[i] = (VkCooperativeMatrixPropertiesKHR){.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    if (get(device, &count, list) < 0)
        return best;
    for (uint32_t i = 0; i < count; i++)
        if (is_served(&list[i]) && list[i].MSize * list[i].NSize * list[i].KSize > best.height * best.width * best.depth)
            best = (qv_matrices){list[i].MSize, list[i].NSize, list[i].KSize};
    return best;
}
