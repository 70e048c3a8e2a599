/* SPDX-License-Identifier: MIT
 * backends/vulkan/symbols.h: the Vulkan loader, opened at run time, and the functions that we call. One list each for the instance
 * and a device; a new function is a word in one of them. */
#ifndef QUERN_BACKENDS_VULKAN_SYMBOLS_H
#define QUERN_BACKENDS_VULKAN_SYMBOLS_H

#define VK_NO_PROTOTYPES
#include <quern/plugin.h>
#include <vulkan/vulkan_core.h>

/* clang-format off */
#define QV_INSTANCE_FUNCTIONS(X)                                                                                \
    X(DestroyInstance) X(EnumeratePhysicalDevices) X(GetPhysicalDeviceProperties2)                              \
    X(GetPhysicalDeviceProperties) X(GetPhysicalDeviceFeatures2) X(GetPhysicalDeviceMemoryProperties2)          \
    X(GetPhysicalDeviceQueueFamilyProperties) X(EnumerateDeviceExtensionProperties) X(CreateDevice)             \
    X(GetDeviceProcAddr)

#define QV_DEVICE_FUNCTIONS(X)                                                                                  \
    X(DestroyDevice) X(GetDeviceQueue) X(DeviceWaitIdle) X(QueueSubmit)                                         \
    X(CreateBuffer) X(DestroyBuffer) X(GetBufferMemoryRequirements) X(GetBufferDeviceAddress)                   \
    X(CreateBufferView) X(DestroyBufferView) X(CreateDescriptorSetLayout) X(DestroyDescriptorSetLayout)         \
    X(BindBufferMemory) X(AllocateMemory) X(FreeMemory) X(MapMemory)                                            \
    X(CreateSemaphore) X(DestroySemaphore) X(GetSemaphoreCounterValue) X(WaitSemaphores) X(SignalSemaphore)     \
    X(CreateShaderModule) X(DestroyShaderModule) X(CreatePipelineLayout) X(DestroyPipelineLayout)               \
    X(CreateComputePipelines) X(DestroyPipeline) X(CreatePipelineCache) X(DestroyPipelineCache)                 \
    X(GetPipelineCacheData)                                                                                     \
    X(CreateCommandPool) X(DestroyCommandPool) X(AllocateCommandBuffers)                                        \
    X(BeginCommandBuffer) X(EndCommandBuffer)                                                                   \
    X(CmdBindPipeline) X(CmdPushConstants) X(CmdDispatch) X(CmdPipelineBarrier) X(CmdCopyBuffer)
/* clang-format on */

typedef struct qv_loader {
    void *library;
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
    VkInstance instance;
    uint32_t version; /* of the instance: what the loader supports */
#define QV_MEMBER(name) PFN_vk##name name;
    QV_INSTANCE_FUNCTIONS(QV_MEMBER)
} qv_loader;

typedef struct qv_functions {
    QV_DEVICE_FUNCTIONS(QV_MEMBER)
    PFN_vkGetMemoryHostPointerPropertiesEXT GetMemoryHostPointerPropertiesEXT; /* NULL without the extension */
    PFN_vkCmdPushDescriptorSetKHR CmdPushDescriptorSetKHR;                     /* the same */
    /* the same; those of pipelines are there for devices that were opened to look at code */
    PFN_vkGetPipelineExecutablePropertiesKHR GetPipelineExecutablePropertiesKHR;
    PFN_vkGetPipelineExecutableStatisticsKHR GetPipelineExecutableStatisticsKHR;
    PFN_vkGetPipelineExecutableInternalRepresentationsKHR GetPipelineExecutableInternalRepresentationsKHR;
#undef QV_MEMBER
} qv_functions;

/* Opens libvulkan.so.1 and makes an instance. On failure nothing is left behind, and the words say what to install. */
qp_status qv_loader_open(qv_loader *loader, qp_text *error);
void qv_loader_close(qv_loader *loader);

/* QP_ERR_DRIVER when the driver lacks a function that its version promises, or one of an extension that the device was made with. */
qp_status qv_functions_get(const qv_loader *loader, VkDevice device, int host_import, int push_descriptor, int pipeline_code,
                           qv_functions *out, qp_text *error);

#endif
