/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/device.h"

#include "backends/vulkan/selftest.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/variant.h"
#include "backends/vulkan/view.h"

#include <string.h>

enum { MAX_DEVICES = 16, DEFAULT_SUBMIT_MS = 500 };

/* The instance lives as long as the plugin does: it takes longer to make than a token. */
static qv_loader loader;
static qv_physical devices[MAX_DEVICES];
static uint32_t device_total;

qp_status qv_devices_find(qp_text *reason)
{
    if (loader.instance)
        return QP_OK;
    qp_status status = qv_loader_open(&loader, reason);
    if (status)
        return status;
    VkPhysicalDevice handles[MAX_DEVICES];
    uint32_t count = MAX_DEVICES;
    VkResult result = loader.EnumeratePhysicalDevices(loader.instance, &count, handles);
    char words[sizeof devices->unusable] = "";
    for (uint32_t i = 0; result >= 0 && i < count; i++) {
        qv_physical *physical = &devices[device_total];
        qv_physical_read(&loader, handles[i], physical);
        if (!physical->unusable[0]) {
            device_total++;
            continue;
        }
        qv_log(QP_LOG_WARN, "%s", physical->unusable);
        if (!words[0])
            memcpy(words, physical->unusable, sizeof words);
    }
    if (device_total)
        return QP_OK;
    qv_loader_close(&loader);
    if (result < 0)
        return qv_fail(reason, QP_ERR_DRIVER, "the Vulkan devices cannot be listed: %s", qv_result_name(result));
    if (words[0])
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "%s", words);
    return qv_fail(reason, QP_ERR_UNSUPPORTED, "the Vulkan drivers that are installed find no device");
}

uint32_t qv_device_count(void)
{
    return device_total;
}

static qp_status check_index(uint32_t index, qp_text *error)
{
    if (index < device_total)
        return QP_OK;
    return qv_fail(error, QP_ERR_INVALID, "there is no Vulkan device %u; they are counted from 0 and there are %u", index,
                   device_total);
}

qp_status qv_device_info(uint32_t index, qp_device_info *info, qp_text *error)
{
    qp_status status = check_index(index, error);
    if (!status)
        qv_physical_info(&loader, &devices[index], info);
    return status;
}

/* ---- opening ---- */

static qp_status create_device(qp_device *device, qp_text *error)
{
    const qv_physical *p = device->physical;
    float priority = 1;
    const char *extensions[12];
    uint32_t count = 0;
    if (p->import_alignment)
        extensions[count++] = VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
    if (p->has_budget)
        extensions[count++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    if (!qv_views_lack(p))
        extensions[count++] = VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME;
    if (p->has_size_control)
        extensions[count++] = VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME;
    if (p->integer_dot)
        extensions[count++] = VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME;
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT,
        .subgroupSizeControl = VK_TRUE,
        .computeFullSubgroups = VK_TRUE};
    VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR, .shaderIntegerDotProduct = VK_TRUE};
    void *more = NULL;
    if (p->has_size_control) {
        sizes.pNext = more;
        more = &sizes;
    }
    if (p->integer_dot) {
        dot.pNext = more;
        more = &dot;
    }
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrices = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR, .pNext = more, .cooperativeMatrix = VK_TRUE};
    if (p->matrices.height) {
        extensions[count++] = VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME;
        more = &matrices;
    }
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR code = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR,
        .pNext = more,
        .pipelineExecutableInfo = VK_TRUE};
    if (device->tells_code) {
        extensions[count++] = VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME;
        more = &code;
    }
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = p->queue_family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkPhysicalDeviceVulkan12Features twelve = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
                                               .pNext = more,
                                               .shaderFloat16 = (VkBool32)p->float16,
                                               .vulkanMemoryModel = p->matrices.height != 0,
                                               .bufferDeviceAddress = VK_TRUE,
                                               .timelineSemaphore = VK_TRUE,
                                               .scalarBlockLayout = VK_TRUE,
                                               .storageBuffer8BitAccess = VK_TRUE};
    VkPhysicalDeviceVulkan11Features eleven = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &twelve, .storageBuffer16BitAccess = VK_TRUE};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = &eleven,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .enabledExtensionCount = count,
                               .ppEnabledExtensionNames = extensions,
                               .pEnabledFeatures = &(VkPhysicalDeviceFeatures){.shaderInt64 = VK_TRUE}};
    VkResult result = device->loader->CreateDevice(p->handle, &info, NULL, &device->handle);
    if (result)
        return qv_failed(NULL, result, error, "opening the device");
    qp_status status = qv_functions_get(device->loader, device->handle, p->import_alignment != 0, !qv_views_lack(p),
                                        device->tells_code, &device->vk, error);
    if (status) { /* nothing else may be called then */
        if (device->vk.DestroyDevice)
            device->vk.DestroyDevice(device->handle, NULL);
        device->handle = NULL;
    }
    return status;
}

static qp_status prepare(qp_device *device, qp_text *error)
{
    qp_status status = create_device(device, error);
    if (!status)
        status = qv_queue_init(device, error);
    if (!status)
        status = qv_transfer_init(device, error);
    if (!status)
        status = qv_pipelines_init(device, error);
    return status;
}

qp_status qv_device_open(uint32_t index, const qp_device_options *options, qp_device **out, qp_text *error)
{
    const char *variant = options && QP_HAS(options, variant) ? options->variant : NULL;
    qp_status status = check_index(index, error);
    if (!status)
        status = qv_variant_find(&devices[index], variant, &variant, error);
    if (status)
        return status;
    qp_device *device = qv_alloc_zeroed(sizeof *device);
    if (!device)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the record of a device");
    device->physical = &devices[index];
    device->loader = &loader;
    device->variant = variant;
    device->max_submit_ms = options && QP_HAS(options, max_submit_ms) ? options->max_submit_ms : 0;
    if (!device->max_submit_ms)
        device->max_submit_ms = DEFAULT_SUBMIT_MS;
    qv_rate_init(device);
    status = prepare(device, error);
    if (status) {
        qv_device_close(device);
        return status;
    }
    qv_selftest_init(device);
    *out = device;
    return QP_OK;
}

qp_status qv_device_open_bench(const qp_device *device, int tells_code, qp_device **out, qp_text *error)
{
    qp_device *bench = qv_alloc_zeroed(sizeof *bench);
    if (!bench)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the record of a device");
    bench->physical = device->physical;
    bench->loader = device->loader;
    bench->max_submit_ms = device->max_submit_ms;
    qv_rate_copy(bench, device);
    bench->is_bench = 1;
    bench->tells_code = tells_code;
    qp_status status = prepare(bench, error);
    if (status)
        qv_device_close(bench);
    else
        *out = bench;
    return status;
}

/* Also for one that was opened only in part. */
void qv_device_close(qp_device *device)
{
    if (!device)
        return;
    qv_selftest_destroy(device);
    if (device->handle && device->vk.DeviceWaitIdle) {
        if (device->queue.done && !qv_queue_drained(device, device->queue.submitted))
            return; /* with all that it has: what the driver may still use stays */
        device->vk.DeviceWaitIdle(device->handle);
        qv_pipelines_destroy(device);
        qv_transfer_destroy(device);
        qv_queue_destroy(device);
        device->vk.DestroyDevice(device->handle, NULL);
    }
    qv_free(device);
}
