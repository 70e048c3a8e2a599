/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/physical.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- extensions ---- */

typedef struct extensions {
    VkExtensionProperties *list;
    uint32_t count;
} extensions;

static void read_extensions(const qv_loader *loader, VkPhysicalDevice handle, extensions *e)
{
    *e = (extensions){0};
    if (loader->EnumerateDeviceExtensionProperties(handle, NULL, &e->count, NULL) || !e->count)
        return;
    e->list = qv_alloc(e->count * sizeof *e->list);
    if (!e->list || loader->EnumerateDeviceExtensionProperties(handle, NULL, &e->count, e->list) < 0)
        e->count = 0;
}

/* QUERN_VULKAN_HIDE: for tests, names of extensions that the driver shall seem to lack. */
static int has_extension(const extensions *e, const char *name)
{
    const char *hidden = getenv("QUERN_VULKAN_HIDE");
    if (hidden && strstr(hidden, name))
        return 0;
    for (uint32_t i = 0; i < e->count; i++)
        if (!strcmp(e->list[i].extensionName, name))
            return 1;
    return 0;
}

/* ---- properties ---- */

/* The size that kernels with a subgroup a row have: that of the device where it has one only, which need not be asked for (and
 * where some drivers let nobody ask), else 16 or what comes next, because wider ones, where they are not the rule, are put
 * together of two. */
static void choose_team(qv_physical *p, const VkPhysicalDeviceSubgroupSizeControlPropertiesEXT *sizes)
{
    uint32_t least = sizes->minSubgroupSize > 16 ? sizes->minSubgroupSize : 16;
    p->asks_for_team = (sizes->requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT) != 0;
    int known = p->asks_for_team || (sizes->minSubgroupSize == sizes->maxSubgroupSize && sizes->minSubgroupSize == p->subgroup);
    if (known && sizes->maxSubgroupSize <= 128)
        p->team = least < sizes->maxSubgroupSize ? least : sizes->maxSubgroupSize;
}

static void read_properties(const qv_loader *loader, qv_physical *p, const extensions *e)
{
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT host = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT};
    VkPhysicalDevicePCIBusInfoPropertiesEXT pci = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT};
    VkPhysicalDeviceShaderIntegerDotProductPropertiesKHR dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES_KHR};
    VkPhysicalDeviceMaintenance4Properties four = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES};
    VkPhysicalDeviceDriverProperties driver = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
    VkPhysicalDeviceVulkan11Properties eleven = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES,
                                                 .pNext = &driver};
    VkPhysicalDeviceProperties2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &eleven};
    VkPhysicalDeviceSubgroupSizeControlPropertiesEXT sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT};
    void **end = &driver.pNext;
    p->has_size_control = has_extension(e, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    if (p->has_size_control) {
        *end = &sizes;
        end = &sizes.pNext;
    }
    if (has_extension(e, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME)) {
        *end = &host;
        end = &host.pNext;
    }
    p->integer_dot = has_extension(e, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
    if (p->integer_dot) {
        *end = &dot;
        end = &dot.pNext;
    }
    p->has_pci = has_extension(e, VK_EXT_PCI_BUS_INFO_EXTENSION_NAME);
    if (p->has_pci) {
        *end = &pci;
        end = &pci.pNext;
    }
    p->has_maintenance4 = has_extension(e, VK_KHR_MAINTENANCE_4_EXTENSION_NAME);
    if (p->has_maintenance4)
        *end = &four;
    loader->GetPhysicalDeviceProperties2(p->handle, &all);
    p->properties = all.properties;
    memcpy(p->uuid, eleven.deviceUUID, sizeof p->uuid);
    p->subgroup = eleven.subgroupSize;
    p->has_shuffle = eleven.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT &&
                     eleven.subgroupSupportedOperations & VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
    /* where the driver may choose another size for a kernel, or does not tell, subgroups may not be full */
    int fixed = sizes.minSubgroupSize == p->subgroup && sizes.maxSubgroupSize == p->subgroup;
    p->has_ballot = eleven.subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT &&
                    eleven.subgroupSupportedOperations & VK_SUBGROUP_FEATURE_BALLOT_BIT;
    p->lanes = p->has_shuffle && fixed && (p->subgroup == 8 || p->subgroup == 16) ? p->subgroup : 0;
    if (p->has_size_control && p->has_shuffle)
        choose_team(p, &sizes);
    p->dot_is_quick = (int)dot.integerDotProduct4x8BitPackedSignedAccelerated;
    snprintf(p->driver, sizeof p->driver, "%.63s %.63s", driver.driverName, driver.driverInfo);
    p->import_alignment = (uint32_t)host.minImportedHostPointerAlignment;
    const uint32_t address[4] = {pci.pciDomain, pci.pciBus, pci.pciDevice, pci.pciFunction};
    memcpy(p->pci, address, sizeof address);
    p->max_allocation = eleven.maxMemoryAllocationSize;
    if (p->has_maintenance4 && four.maxBufferSize < p->max_allocation)
        p->max_allocation = four.maxBufferSize;
}

/* ---- features: all that any kernel or the host side relies on ---- */

static void refuse(qv_physical *p, int there, const char *what)
{
    if (!there && !p->unusable[0])
        snprintf(p->unusable, sizeof p->unusable, "%.100s, %.60s: the driver lacks %s; a newer driver may have it",
                 p->properties.deviceName, p->driver, what);
}

static void read_features(const qv_loader *loader, qv_physical *p)
{
    VkPhysicalDeviceSubgroupSizeControlFeaturesEXT sizes = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES_EXT};
    VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR dot = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR};
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrices = {.sType =
                                                                 VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR};
    VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR code = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR};
    VkPhysicalDeviceVulkan12Features twelve = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
    void **end = &twelve.pNext;
    if (p->has_size_control) {
        *end = &sizes;
        end = &sizes.pNext;
    }
    if (p->integer_dot) {
        *end = &dot;
        end = &dot.pNext;
    }
    if (p->matrices.height) {
        *end = &matrices;
        end = &matrices.pNext;
    }
    if (p->has_code)
        *end = &code;
    VkPhysicalDeviceVulkan11Features eleven = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &twelve};
    VkPhysicalDeviceFeatures2 all = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &eleven};
    loader->GetPhysicalDeviceFeatures2(p->handle, &all);
    refuse(p, (int)twelve.bufferDeviceAddress, "bufferDeviceAddress (memory by address)");
    refuse(p, (int)twelve.timelineSemaphore, "timelineSemaphore");
    refuse(p, (int)twelve.scalarBlockLayout, "scalarBlockLayout");
    refuse(p, (int)all.features.shaderInt64, "shaderInt64 (64-bit integers)");
    refuse(p, (int)eleven.storageBuffer16BitAccess, "storageBuffer16BitAccess");
    refuse(p, (int)twelve.storageBuffer8BitAccess, "storageBuffer8BitAccess");
    p->float16 = (int)twelve.shaderFloat16;
    p->integer_dot = (int)dot.shaderIntegerDotProduct;
    p->has_code = (int)code.pipelineExecutableInfo;
    if (!matrices.cooperativeMatrix || !p->float16 || !twelve.vulkanMemoryModel) /* glslang asks for the last with matrices */
        p->matrices.height = 0;
    p->has_size_control = sizes.subgroupSizeControl && sizes.computeFullSubgroups;
    if (!p->has_size_control)
        p->team = 0;
}

static void read_queues(const qv_loader *loader, qv_physical *p)
{
    VkQueueFamilyProperties families[32];
    uint32_t count = 32;
    loader->GetPhysicalDeviceQueueFamilyProperties(p->handle, &count, families);
    int best = -1;
    for (uint32_t i = 0; i < count; i++) {
        if (!(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT))
            continue;
        int score =
            families[i].queueFlags & VK_QUEUE_GRAPHICS_BIT ? 1 : 2; /* one for computing alone does not wait for a desktop */
        if (score > best) {
            best = score;
            p->queue_family = i;
        }
    }
    refuse(p, best >= 0, "a queue that computes");
}

/* ---- heaps ---- */

/* The memory type with all of `want` and none of `avoid` in the largest driver heap; UINT32_MAX: none. */
static uint32_t find_type(const VkPhysicalDeviceMemoryProperties *m, uint32_t want, uint32_t avoid)
{
    uint32_t best = UINT32_MAX;
    for (uint32_t i = 0; i < m->memoryTypeCount; i++) {
        uint32_t flags = m->memoryTypes[i].propertyFlags;
        if ((flags & want) != want || flags & avoid)
            continue;
        if (best == UINT32_MAX ||
            m->memoryHeaps[m->memoryTypes[i].heapIndex].size > m->memoryHeaps[m->memoryTypes[best].heapIndex].size)
            best = i;
    }
    return best;
}

static uint32_t first_type(const VkPhysicalDeviceMemoryProperties *m, const uint32_t (*wishes)[2], size_t count)
{
    uint32_t type = UINT32_MAX;
    for (size_t i = 0; i < count && type == UINT32_MAX; i++)
        type = find_type(m, wishes[i][0], wishes[i][1]);
    return type;
}

static uint32_t add_heap(qv_physical *p, uint32_t type, int unified)
{
    uint32_t flags = p->memory.memoryTypes[type].propertyFlags;
    qv_heap *heap = &p->heaps[p->heap_count];
    *heap = (qv_heap){.type = type, .driver_heap = p->memory.memoryTypes[type].heapIndex};
    if (flags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT)
        heap->flags |= QP_HEAP_DEVICE_LOCAL;
    int coherent = flags & VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT && flags & VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    if (coherent)
        heap->flags |= QP_HEAP_HOST_VISIBLE;
    if (coherent && flags & VK_MEMORY_PROPERTY_HOST_CACHED_BIT)
        heap->flags |= QP_HEAP_HOST_CACHED;
    if (unified)
        heap->flags |= QP_HEAP_UNIFIED;
    return p->heap_count++;
}

/* Two heaps at most: one for weights and one for what the host reads and writes. Where the device's memory is the host's
 * (integrated, or a processor) and one type is both, there is one. A discrete card's window of visible memory is part of the first:
 * not listed, so that nothing is counted twice. Visible memory must be coherent: mappings are never flushed. */
static void choose_heaps(qv_physical *p)
{
    enum {
        LOCAL = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
        VISIBLE = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
        CACHED = VISIBLE | VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
        ODD = VK_MEMORY_PROPERTY_PROTECTED_BIT | VK_MEMORY_PROPERTY_LAZILY_ALLOCATED_BIT | 0x40 | 0x80, /* AMD's uncached ones */
    };
    static const uint32_t unified_wishes[][2] = {{LOCAL | CACHED, ODD}, {LOCAL | VISIBLE, ODD}};
    static const uint32_t weight_wishes[][2] = {{LOCAL, ODD | VISIBLE}, {LOCAL, ODD}, {0, ODD}};
    static const uint32_t host_wishes[][2] = {{CACHED, ODD | LOCAL}, {CACHED, ODD}, {VISIBLE, ODD | LOCAL}, {VISIBLE, ODD}};
    uint32_t kind = p->properties.deviceType;
    int shared = kind == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU || kind == VK_PHYSICAL_DEVICE_TYPE_CPU;
    int staged = getenv("QUERN_VULKAN_STAGED") != NULL; /* for tests: weights as on a card that the host cannot see into */
    uint32_t weight = shared && !staged ? first_type(&p->memory, unified_wishes, 2) : UINT32_MAX;
    if (weight == UINT32_MAX)
        weight = first_type(&p->memory, weight_wishes, 3);
    uint32_t host = first_type(&p->memory, host_wishes, 4);
    refuse(p, weight != UINT32_MAX && host != UINT32_MAX, "memory that the host can see");
    if (p->unusable[0])
        return;
    p->weight_heap = p->host_heap = add_heap(p, weight, shared);
    int one = p->heaps[p->weight_heap].flags & QP_HEAP_HOST_CACHED || weight == host;
    if (staged || !one)
        p->host_heap =
            add_heap(p, host, shared || !(p->memory.memoryTypes[host].propertyFlags & VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT));
    if (staged)
        p->heaps[p->weight_heap].flags &= ~(uint32_t)(QP_HEAP_HOST_VISIBLE | QP_HEAP_HOST_CACHED);
}

void qv_physical_read(const qv_loader *loader, VkPhysicalDevice handle, qv_physical *p)
{
    *p = (qv_physical){.handle = handle};
    loader->GetPhysicalDeviceProperties(handle, &p->properties);
    if (p->properties.apiVersion < VK_API_VERSION_1_2) {
        snprintf(p->unusable, sizeof p->unusable, "%.100s: its driver knows Vulkan %u.%u; 1.2 is needed, from a newer driver",
                 p->properties.deviceName, VK_API_VERSION_MAJOR(p->properties.apiVersion),
                 VK_API_VERSION_MINOR(p->properties.apiVersion));
        return;
    }
    extensions e;
    read_extensions(loader, handle, &e);
    read_properties(loader, p, &e);
    p->has_budget = has_extension(&e, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    p->has_code = has_extension(&e, VK_KHR_PIPELINE_EXECUTABLE_PROPERTIES_EXTENSION_NAME);
    p->has_push_descriptor = has_extension(&e, VK_KHR_PUSH_DESCRIPTOR_EXTENSION_NAME);
    if (has_extension(&e, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME))
        p->matrices = qv_matrices_read(loader, handle);
    qv_free(e.list);
    VkPhysicalDeviceMemoryProperties2 memory = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    loader->GetPhysicalDeviceMemoryProperties2(handle, &memory);
    p->memory = memory.memoryProperties;
    read_features(loader, p);
    read_queues(loader, p);
    choose_heaps(p);
}

/* ---- what the host is told ---- */

static uint32_t kind_of(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return QP_DEVICE_GPU_DISCRETE;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return QP_DEVICE_GPU_INTEGRATED;
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return QP_DEVICE_GPU_SOFTWARE;
    default: return QP_DEVICE_OTHER;
    }
}

static void fill_heaps(const qv_loader *loader, const qv_physical *p, qp_device_info *info)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 memory = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                                .pNext = p->has_budget ? &budget : NULL};
    uint64_t total, available;
    qv_memory(&total, &available);
    loader->GetPhysicalDeviceMemoryProperties2(p->handle, &memory);
    for (uint32_t i = 0; i < p->heap_count; i++) {
        const qv_heap *from = &p->heaps[i];
        qp_heap *to = &info->heaps[i];
        uint64_t size = p->memory.memoryHeaps[from->driver_heap].size, granted = budget.heapBudget[from->driver_heap],
                 used = budget.heapUsage[from->driver_heap], now = size;
        if (p->properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU && total) /* what such drivers say is not what there is */
            size = now = total;
        if (p->has_budget && granted)
            now = granted > used ? granted - used : 1; /* 0 would say that nobody knows */
        if (from->flags & QP_HEAP_UNIFIED && total && available < now)
            now = available ? available : 1;
        *to = (qp_heap){.size = size,
                        .budget = now < size ? now : size,
                        .max_allocation = p->max_allocation,
                        .flags = from->flags,
                        .alignment = QV_ALIGNMENT};
    }
}

static void fill_features(const qv_physical *p, char *words, size_t size)
{
    const VkPhysicalDeviceLimits *l = &p->properties.limits;
    snprintf(words, size, "vulkan%u.%u subgroup%u workgroup%u shared%uk%s%s%s%s%s%s%s",
             VK_API_VERSION_MAJOR(p->properties.apiVersion), VK_API_VERSION_MINOR(p->properties.apiVersion), p->subgroup,
             l->maxComputeWorkGroupInvocations, l->maxComputeSharedMemorySize / 1024,
             p->has_size_control ? " subgroup_size_control" : "", p->has_shuffle ? " shuffle" : "", p->float16 ? " float16" : "",
             p->dot_is_quick  ? " integer_dot"
             : p->integer_dot ? " slow_integer_dot"
                              : "",
             p->has_push_descriptor ? " push_descriptor" : "", p->has_budget ? " memory_budget" : "",
             p->import_alignment ? " host_import" : "");
}

void qv_physical_info(const qv_loader *loader, const qv_physical *p, qp_device_info *info)
{
    qp_device_info facts = {.kind = kind_of(p->properties.deviceType),
                            .flags = QP_DEVICE_HAS_UUID | QP_DEVICE_PORTABLE,
                            .heap_count = p->heap_count,
                            .weight_heap = p->weight_heap,
                            .host_heap = p->host_heap};
    snprintf(facts.name, sizeof facts.name, "%.127s", p->properties.deviceName);
    snprintf(facts.driver, sizeof facts.driver, "%.127s", p->driver);
    fill_features(p, facts.features, sizeof facts.features);
    memcpy(facts.uuid, p->uuid, sizeof facts.uuid);
    if (p->has_pci) {
        facts.flags |= QP_DEVICE_HAS_PCI;
        facts.pci_domain = p->pci[0];
        facts.pci_bus = p->pci[1];
        facts.pci_device = p->pci[2];
        facts.pci_function = p->pci[3];
    }
    if (p->import_alignment)
        facts.flags |= QP_DEVICE_CAN_IMPORT;
    fill_heaps(loader, p, &facts);
    facts.struct_size = info->struct_size;
    memcpy(info, &facts, info->struct_size < sizeof facts ? info->struct_size : sizeof facts);
}
