/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/matrices.h"

enum { MOST_SHAPES = 64, STEP = 64, PIECE = 8 }; /* elements along K that the kernel takes at a time, and that it loads at once */

static int is_served(const VkCooperativeMatrixPropertiesKHR *p)
{
    return p->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && p->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
           p->CType == VK_COMPONENT_TYPE_FLOAT32_KHR && p->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
           p->scope == VK_SCOPE_SUBGROUP_KHR && !p->saturatingAccumulation && p->MSize % 8 == 0 && p->MSize <= 16 &&
           p->NSize % 8 == 0 && p->NSize <= 16 && p->KSize % PIECE == 0 && p->KSize && STEP % p->KSize == 0;
}

qv_matrices qv_matrices_best(const VkCooperativeMatrixPropertiesKHR *list, uint32_t count)
{
    qv_matrices best = {0};
    for (uint32_t i = 0; i < count; i++)
        if (is_served(&list[i]) && list[i].MSize * list[i].NSize * list[i].KSize > best.height * best.width * best.depth)
            best = (qv_matrices){list[i].MSize, list[i].NSize, list[i].KSize};
    return best;
}

qv_matrices qv_matrices_read(const qv_loader *loader, VkPhysicalDevice device)
{
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR get = (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(void (*)(
        void))loader->GetInstanceProcAddr(loader->instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    VkPhysicalDeviceCooperativeMatrixPropertiesKHR stages = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &stages};
    VkCooperativeMatrixPropertiesKHR list[MOST_SHAPES];
    uint32_t count = MOST_SHAPES;
    loader->GetPhysicalDeviceProperties2(device, &all);
    if (!get || !(stages.cooperativeMatrixSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT))
        return (qv_matrices){0};
    for (uint32_t i = 0; i < MOST_SHAPES; i++)
        list[i] = (VkCooperativeMatrixPropertiesKHR){.sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR};
    return get(device, &count, list) < 0 ? (qv_matrices){0} : qv_matrices_best(list, count);
}
