/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/view.h"

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/device.h"

const char *qv_views_lack(const qv_physical *physical)
{
    if (physical->properties.deviceType != VK_PHYSICAL_DEVICE_TYPE_CPU)
        return "it is for processors that pose as GPUs";
    return physical->has_push_descriptor ? NULL : "the driver lacks VK_KHR_push_descriptor";
}

uint64_t qv_view_alignment(const qv_physical *physical)
{
    uint64_t alignment = physical->properties.limits.minTexelBufferOffsetAlignment;
    return alignment > 16 ? alignment : 16;
}

uint64_t qv_view_texels(const qv_physical *physical)
{
    return physical->properties.limits.maxTexelBufferElements;
}

VkResult qv_views_layout(const qp_device *device, VkDescriptorSetLayout *out)
{
    VkDescriptorSetLayoutBinding bindings[QV_VIEWS];
    for (uint32_t i = 0; i < QV_VIEWS; i++)
        bindings[i] = (VkDescriptorSetLayoutBinding){.binding = i,
                                                     .descriptorType = VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER,
                                                     .descriptorCount = 1,
                                                     .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT};
    VkDescriptorSetLayoutCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
                                            .flags = VK_DESCRIPTOR_SET_LAYOUT_CREATE_PUSH_DESCRIPTOR_BIT_KHR,
                                            .bindingCount = QV_VIEWS,
                                            .pBindings = bindings};
    return device->vk.CreateDescriptorSetLayout(device->handle, &info, NULL, out);
}

VkResult qv_views_push(const qp_device *device, VkCommandBuffer commands, const qv_view *views, uint32_t bindings,
                       VkBufferView *made, uint32_t *count)
{
    VkWriteDescriptorSet writes[QV_VIEWS];
    uint32_t used = 0;
    for (uint32_t i = 0; i < QV_VIEWS; i++) {
        if (!(bindings >> i & 1))
            continue;
        VkBufferViewCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO,
                                       .buffer = views[i].buffer->handle,
                                       .format = views[i].format,
                                       .offset = views[i].offset,
                                       .range = views[i].bytes};
        VkBufferView *view = &made[*count];
        VkResult result = device->vk.CreateBufferView(device->handle, &info, NULL, view);
        if (result)
            return result;
        ++*count;
        writes[used++] = (VkWriteDescriptorSet){.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                                .dstBinding = i,
                                                .descriptorCount = 1,
                                                .descriptorType = VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER,
                                                .pTexelBufferView = view};
    }
    device->vk.CmdPushDescriptorSetKHR(commands, VK_PIPELINE_BIND_POINT_COMPUTE, device->pipelines.layout, 0, used, writes);
    return VK_SUCCESS;
}
