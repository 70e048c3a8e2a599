/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/symbols.h"

#include "backends/vulkan/status.h"

#include <dlfcn.h>
#include <string.h>

static qp_status open_library(qv_loader *loader, qp_text *error)
{
    static const char *const names[] = {"libvulkan.so.1", "libvulkan.so"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !loader->library; i++)
        loader->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!loader->library) {
        const char *words = dlerror();
        return qv_fail(error, QP_ERR_UNSUPPORTED,
                       "no Vulkan loader is installed (%s); on Debian and Ubuntu it is in the package libvulkan1",
                       words ? words : "libvulkan.so.1 is not found");
    }
    void *symbol = dlsym(loader->library, "vkGetInstanceProcAddr");
    memcpy(&loader->GetInstanceProcAddr, &symbol, sizeof symbol); /* a pointer to data cannot be cast to one to a function */
    if (!symbol)
        return qv_fail(error, QP_ERR_DRIVER, "libvulkan.so.1 has no vkGetInstanceProcAddr: it is no Vulkan loader");
    return QP_OK;
}

static qp_status create_instance(qv_loader *loader, qp_text *error)
{
    PFN_vkEnumerateInstanceVersion version =
        (PFN_vkEnumerateInstanceVersion)loader->GetInstanceProcAddr(NULL, "vkEnumerateInstanceVersion");
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)loader->GetInstanceProcAddr(NULL, "vkCreateInstance");
    loader->version = VK_API_VERSION_1_0;
    if (version)
        version(&loader->version);
    if (!create || loader->version < VK_API_VERSION_1_2)
        return qv_fail(error, QP_ERR_UNSUPPORTED,
                       "the Vulkan loader is of version %u.%u; 1.2 is needed: install a newer libvulkan1",
                       VK_API_VERSION_MAJOR(loader->version), VK_API_VERSION_MINOR(loader->version));
    VkApplicationInfo application = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                                     .pApplicationName = "quern",
                                     .pEngineName = "quern",
                                     .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO, .pApplicationInfo = &application};
    VkResult result = create(&info, NULL, &loader->instance);
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
        return qv_fail(
            error, QP_ERR_UNSUPPORTED,
            "the Vulkan loader finds no driver; install the graphics card's (for AMD, Intel and the processor itself the "
            "package mesa-vulkan-drivers)");
    if (result)
        return qv_fail(error, QP_ERR_DRIVER, "no Vulkan instance can be made: %s%s", qv_result_name(result),
                       result == VK_ERROR_OUT_OF_HOST_MEMORY /* what the loader makes of a file that is no JSON */
                           ? ", or a driver's description (in /etc/vulkan/icd.d, or named by VK_DRIVER_FILES) cannot be read"
                           : "");
    return QP_OK;
}

qp_status qv_loader_open(qv_loader *loader, qp_text *error)
{
    *loader = (qv_loader){0};
    qp_status status = open_library(loader, error);
    if (!status)
        status = create_instance(loader, error);
    if (!status) {
        int missing = 0;
#define GET(name) missing += !(loader->name = (PFN_vk##name)loader->GetInstanceProcAddr(loader->instance, "vk" #name));
        QV_INSTANCE_FUNCTIONS(GET)
#undef GET
        if (missing)
            status = qv_fail(error, QP_ERR_DRIVER, "the Vulkan loader lacks %d functions of version 1.2", missing);
    }
    if (status)
        qv_loader_close(loader);
    return status;
}

void qv_loader_close(qv_loader *loader)
{
    if (loader->instance && loader->DestroyInstance)
        loader->DestroyInstance(loader->instance, NULL);
    if (loader->library)
        dlclose(loader->library);
    *loader = (qv_loader){0};
}

qp_status qv_functions_get(const qv_loader *loader, VkDevice device, int host_import, int push_descriptor, int pipeline_code,
                           qv_functions *out, qp_text *error)
{
#define GET(name)                                                                                                                  \
    out->name = (PFN_vk##name)loader->GetDeviceProcAddr(device, "vk" #name);                                                       \
    if (!out->name && !missing)                                                                                                    \
        missing = "vk" #name;
    const char *missing = NULL;
    QV_DEVICE_FUNCTIONS(GET)
    if (host_import) {
        GET(GetMemoryHostPointerPropertiesEXT)
    }
    if (push_descriptor) {
        GET(CmdPushDescriptorSetKHR)
    }
    if (pipeline_code) {
        GET(GetPipelineExecutablePropertiesKHR)
        GET(GetPipelineExecutableStatisticsKHR)
        GET(GetPipelineExecutableInternalRepresentationsKHR)
    }
#undef GET
    return missing ? qv_fail(error, QP_ERR_DRIVER, "the driver lacks %s", missing) : QP_OK;
}
