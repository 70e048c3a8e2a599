/* SPDX-License-Identifier: MIT */
#include "mask.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* X(struct, its type, feature) */
#define FEATURES(X)                                                                                                                \
    X(VkPhysicalDeviceVulkan12Features, VULKAN_1_2_FEATURES, bufferDeviceAddress)                                                  \
    X(VkPhysicalDeviceVulkan12Features, VULKAN_1_2_FEATURES, timelineSemaphore)                                                    \
    X(VkPhysicalDeviceVulkan12Features, VULKAN_1_2_FEATURES, scalarBlockLayout)                                                    \
    X(VkPhysicalDeviceVulkan12Features, VULKAN_1_2_FEATURES, storageBuffer8BitAccess)                                              \
    X(VkPhysicalDeviceVulkan12Features, VULKAN_1_2_FEATURES, shaderFloat16)                                                        \
    X(VkPhysicalDeviceVulkan12Features, VULKAN_1_2_FEATURES, shaderInt8)                                                           \
    X(VkPhysicalDeviceVulkan12Features, VULKAN_1_2_FEATURES, subgroupBroadcastDynamicId)                                           \
    X(VkPhysicalDeviceVulkan11Features, VULKAN_1_1_FEATURES, storageBuffer16BitAccess)

enum { MOST = 16 };
static const char *words[MOST]; /* of the mask; in the copy below */
static int word_count, hides_devices, hides_compute, hides_visible, hides_int64, is_hollow, has_type;
static uint32_t version, subgroup[3]; /* subgroup: as a rule, least, most; 0: the driver's */
static VkPhysicalDeviceType device_type;
static char copy[1024];

/* X(function): those that are changed here */
#define CHANGED(X)                                                                                                                 \
    X(EnumeratePhysicalDevices)                                                                                                    \
    X(GetPhysicalDeviceFeatures2)                                                                                                  \
    X(GetPhysicalDeviceQueueFamilyProperties)                                                                                      \
    X(GetPhysicalDeviceMemoryProperties2)                                                                                          \
    X(EnumerateDeviceExtensionProperties)
#define MEMBER(name) static PFN_vk##name next_##name;
CHANGED(MEMBER)
#undef MEMBER

static int hides(const char *word)
{
    for (int i = 0; i < word_count; i++)
        if (!strcmp(words[i], word))
            return 1;
    return 0;
}

static int is_feature(const char *word)
{
#define IS(type, id, name) || !strcmp(word, #name)
    return !strcmp(word, "shaderInt64") FEATURES(IS);
#undef IS
}

static const struct {
    const char *word;
    VkPhysicalDeviceType type;
} types[] = {{"type=discrete", VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU},
             {"type=integrated", VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU},
             {"type=virtual", VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU},
             {"type=cpu", VK_PHYSICAL_DEVICE_TYPE_CPU}};

/* Heaps and types in the order in which drivers of such devices list them. */
enum {
    LOCAL = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT,
    VISIBLE = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
    CACHED = VISIBLE | VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
};
#define GIB(n) ((VkDeviceSize)(n) << 30)
static const struct {
    const char *word;
    VkPhysicalDeviceMemoryProperties memory;
} heap_kinds[] = {
    {"heaps=card",
     {4, {{LOCAL, 0}, {VISIBLE, 1}, {LOCAL | VISIBLE, 2}, {CACHED, 1}}, 3, {{GIB(16), 1}, {GIB(32), 0}, {GIB(1) / 4, 1}}}},
    {"heaps=bar", {4, {{LOCAL, 0}, {VISIBLE, 1}, {LOCAL | VISIBLE, 0}, {CACHED, 1}}, 2, {{GIB(16), 1}, {GIB(32), 0}}}},
    {"heaps=integrated", {2, {{LOCAL | CACHED, 0}, {LOCAL | VISIBLE, 0}}, 1, {{GIB(12), 1}}}},
    {"heaps=apu", {4, {{LOCAL, 1}, {VISIBLE, 0}, {LOCAL | VISIBLE, 1}, {CACHED, 0}}, 2, {{GIB(5), 0}, {GIB(10), 1}}}},
    {"heaps=none", {0}},
};
static const VkPhysicalDeviceMemoryProperties *memory; /* NULL: the driver's */

static int understood_value(const char *word)
{
    for (size_t i = 0; i < sizeof heap_kinds / sizeof *heap_kinds; i++)
        if (!strcmp(word, heap_kinds[i].word))
            return (memory = &heap_kinds[i].memory) != NULL;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(word, types[i].word)) {
            device_type = types[i].type;
            return has_type = 1;
        }
    int n = sscanf(word, "subgroup=%u-%u-%u", &subgroup[0], &subgroup[1], &subgroup[2]);
    if (n == 1)
        subgroup[1] = subgroup[2] = subgroup[0];
    return n == 1 || n == 3;
}

static int understood(const char *word)
{
    unsigned major, minor;
    if (sscanf(word, "version=%u.%u", &major, &minor) == 2)
        version = VK_MAKE_API_VERSION(0, major, minor, 0);
    else if (!is_feature(word) && strncmp(word, "VK_", 3) && strcmp(word, "compute") && strcmp(word, "visible") &&
             strcmp(word, "devices") && strcmp(word, "hollow") && !understood_value(word))
        return 0;
    return 1;
}

void mask_begin(void)
{
    const char *text = getenv("QUERN_VK_MASK");
    snprintf(copy, sizeof copy, "%s", text ? text : "");
    for (char *word = strtok(copy, ","); word; word = strtok(NULL, ",")) {
        if (word_count == MOST || !understood(word)) {
            fprintf(stderr, "VK_LAYER_QUERN_faults: QUERN_VK_MASK is not understood at '%s'\n", word);
            _Exit(99);
        }
        words[word_count++] = word;
    }
    hides_devices = hides("devices");
    hides_compute = hides("compute");
    hides_visible = hides("visible");
    hides_int64 = hides("shaderInt64");
    is_hollow = hides("hollow");
}

/* At once: later the loader gives the first layer's functions in place of the next one's. */
void mask_instance(PFN_vkGetInstanceProcAddr next, VkInstance instance)
{
#define GET(name) next_##name = (PFN_vk##name)next(instance, "vk" #name);
    CHANGED(GET)
#undef GET
}

/* ---- what is changed ---- */

static VKAPI_ATTR VkResult VKAPI_CALL mask_EnumeratePhysicalDevices(VkInstance instance, uint32_t *count, VkPhysicalDevice *devices)
{
    if (!hides_devices)
        return next_EnumeratePhysicalDevices(instance, count, devices);
    *count = 0;
    return VK_SUCCESS;
}

void mask_properties(VkPhysicalDeviceProperties *properties)
{
    if (version && version < properties->apiVersion)
        properties->apiVersion = version;
    if (has_type)
        properties->deviceType = device_type;
}

void mask_properties2(VkPhysicalDeviceProperties2 *properties)
{
    mask_properties(&properties->properties);
    for (VkBaseOutStructure *s = properties->pNext; subgroup[0] && s; s = s->pNext) {
        VkPhysicalDeviceSubgroupSizeControlProperties *sizes = (VkPhysicalDeviceSubgroupSizeControlProperties *)(void *)s;
        if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES)
            ((VkPhysicalDeviceVulkan11Properties *)(void *)s)->subgroupSize = subgroup[0];
        if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES) {
            sizes->minSubgroupSize = subgroup[1];
            sizes->maxSubgroupSize = subgroup[2];
        }
    }
}

uint32_t mask_memory_types(void)
{
    return memory ? (1u << memory->memoryTypeCount) - 1 : 0;
}

int mask_is_hollow(void)
{
    return is_hollow;
}

static VKAPI_ATTR void VKAPI_CALL mask_GetPhysicalDeviceFeatures2(VkPhysicalDevice device, VkPhysicalDeviceFeatures2 *out)
{
    next_GetPhysicalDeviceFeatures2(device, out);
    if (hides_int64)
        out->features.shaderInt64 = VK_FALSE;
    for (VkBaseOutStructure *next = out->pNext; next; next = next->pNext) {
#define HIDE(type, id, name)                                                                                                       \
    if (next->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_##id && hides(#name))                                                     \
        ((type *)(void *)next)->name = VK_FALSE;
        FEATURES(HIDE)
#undef HIDE
    }
}

static VKAPI_ATTR void VKAPI_CALL mask_GetPhysicalDeviceQueueFamilyProperties(VkPhysicalDevice device, uint32_t *count,
                                                                              VkQueueFamilyProperties *out)
{
    next_GetPhysicalDeviceQueueFamilyProperties(device, count, out);
    for (uint32_t i = 0; out && hides_compute && i < *count; i++)
        out[i].queueFlags &= ~(VkQueueFlags)VK_QUEUE_COMPUTE_BIT;
}

static VKAPI_ATTR void VKAPI_CALL mask_GetPhysicalDeviceMemoryProperties2(VkPhysicalDevice device,
                                                                          VkPhysicalDeviceMemoryProperties2 *out)
{
    next_GetPhysicalDeviceMemoryProperties2(device, out);
    for (VkBaseOutStructure *s = out->pNext; memory && s; s = s->pNext)
        if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT) {
            VkPhysicalDeviceMemoryBudgetPropertiesEXT *budget = (VkPhysicalDeviceMemoryBudgetPropertiesEXT *)(void *)s;
            for (uint32_t i = 0; i < VK_MAX_MEMORY_HEAPS; i++) {
                budget->heapBudget[i] = i < memory->memoryHeapCount ? memory->memoryHeaps[i].size : 0;
                budget->heapUsage[i] = 0;
            }
        }
    if (memory)
        out->memoryProperties = *memory;
    for (uint32_t i = 0; hides_visible && i < out->memoryProperties.memoryTypeCount; i++)
        out->memoryProperties.memoryTypes[i].propertyFlags &= ~(VkMemoryPropertyFlags)VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT;
}

/* The list stays as long as it is. */
static VKAPI_ATTR VkResult VKAPI_CALL mask_EnumerateDeviceExtensionProperties(VkPhysicalDevice device, const char *layer,
                                                                              uint32_t *count, VkExtensionProperties *out)
{
    VkResult r = next_EnumerateDeviceExtensionProperties(device, layer, count, out);
    for (uint32_t i = 0; out && i < *count; i++)
        if (hides(out[i].extensionName))
            snprintf(out[i].extensionName, sizeof out[i].extensionName, "VK_QUERN_hidden");
    return r;
}

PFN_vkVoidFunction mask_function(const char *name)
{
#define ENTRY(function) {"vk" #function, (PFN_vkVoidFunction)mask_##function},
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } table[] = {CHANGED(ENTRY)};
#undef ENTRY
    for (size_t i = 0; word_count && i < sizeof table / sizeof *table; i++)
        if (!strcmp(table[i].name, name))
            return table[i].function;
    return NULL;
}
