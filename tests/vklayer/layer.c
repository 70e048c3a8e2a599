/* SPDX-License-Identifier: MIT
 * A Vulkan layer that makes a good driver behave like a bad one, for tests of the Vulkan plugin. It is driven by the environment:
 *
 *   QUERN_VK_FAULT=CALL:N:WHAT[,CALL:N:WHAT…]   at the N-th call (from 1; 0: at every one) of CALL, a name from FAULT_CALLS below
 *     WHAT: lost        VK_ERROR_DEVICE_LOST, and from then on from every such call, as drivers do
 *           oom         VK_ERROR_OUT_OF_DEVICE_MEMORY
 *           oom-host    VK_ERROR_OUT_OF_HOST_MEMORY
 *           failed      VK_ERROR_INITIALIZATION_FAILED
 *           hang        waits report VK_TIMEOUT from now on, however long they are, and counters stay one behind
 *           lie         the device is lost, but waits report VK_SUCCESS from now on and semaphores show 2^64 - 1, as some do
 *           slow=MS     the call takes MS milliseconds more
 *           break       shader modules only: every addition of floats becomes a subtraction
 *           break=OP    the same for modules with an instruction of this number only (345: OpGroupNonUniformShuffle)
 *           break-bits  modules without floats and barriers (pack.comp): every bitwise "or" becomes an "and"
 *   QUERN_VK_LIMIT=WHAT[,WHAT…]   the device says that it has no more than this, and refuses more:
 *     allocation=BYTES   maxMemoryAllocationSize (and maxBufferSize)
 *     least              what Vulkan 1.2 promises of any device: workgroups of 128, 16 KiB of shared memory, and so on
 *   QUERN_VK_COUNTS=FILE   appends, when the last device goes, how many objects of each kind were made and how many still
 *                          live, and "Submission made N": how many VkSubmitInfos the queues were given
 *   QUERN_VK_CALLS=FILE    writes then, and when the device begins to hang, how often each call of FAULT_CALLS came
 *   QUERN_VK_MASK=WHAT     what the device is to lack: mask.h
 *
 * Loaded as any layer: VK_LAYER_PATH and VK_INSTANCE_LAYERS=VK_LAYER_QUERN_faults. */
#include "hollow.h"
#include "mask.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define EXPORT __attribute__((visibility("default")))

/* ---- faults ---- */

/* X(call): those that can be told to fail */
#define FAULT_CALLS(X)                                                                                                             \
    X(AllocateMemory)                                                                                                              \
    X(CreateBuffer)                                                                                                                \
    X(MapMemory)                                                                                                                   \
    X(CreateShaderModule)                                                                                                          \
    X(CreateComputePipelines)                                                                                                      \
    X(QueueSubmit)                                                                                                                 \
    X(WaitSemaphores)                                                                                                              \
    X(GetSemaphoreCounterValue)                                                                                                    \
    X(SignalSemaphore)                                                                                                             \
    X(QueueWaitIdle)                                                                                                               \
    X(DeviceWaitIdle)                                                                                                              \
    X(WaitForFences)

typedef enum call {
#define CALL_ENUM(name) CALL_##name,
    FAULT_CALLS(CALL_ENUM)
#undef CALL_ENUM
        CALL_COUNT
} call;

enum { BITS = UINT16_MAX }; /* as the number of an instruction, which it is of none */

typedef enum action { NOTHING, LOST, OOM, OOM_HOST, FAILED, HANG, LIE, SLOW, BREAK } action;

typedef struct fault {
    call at;
    unsigned long nth;
    action what;
    unsigned number; /* of milliseconds, or an instruction */
} fault;

enum { MAX_FAULTS = 16 };
static fault faults[MAX_FAULTS];
static int fault_count, is_lost, is_hung, is_lying;
static unsigned long calls[CALL_COUNT];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT, mask_once = PTHREAD_ONCE_INIT;

static const char *const call_names[] = {
#define CALL_NAME(name) #name,
    FAULT_CALLS(CALL_NAME)
#undef CALL_NAME
};

static int parse_call(const char *text, size_t size, call *out)
{
    if (size > 2 && !memcmp(text, "vk", 2)) {
        text += 2;
        size -= 2;
    }
    for (int i = 0; i < CALL_COUNT; i++)
        if (strlen(call_names[i]) == size && !memcmp(call_names[i], text, size)) {
            *out = (call)i;
            return 1;
        }
    return 0;
}

static action parse_action(const char *text, unsigned *number)
{
    static const struct {
        const char *name;
        action what;
    } table[] = {{"lost", LOST}, {"oom-host", OOM_HOST}, {"oom", OOM},    {"failed", FAILED},
                 {"hang", HANG}, {"lie", LIE},           {"break-bits", BREAK},
                 {"break", BREAK}};
    if (sscanf(text, "slow=%u", number) == 1)
        return SLOW;
    if (sscanf(text, "break=%u", number) == 1)
        return BREAK;
    if (!strncmp(text, "break-bits", strlen("break-bits")))
        *number = BITS;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strncmp(text, table[i].name, strlen(table[i].name)))
            return table[i].what;
    return NOTHING;
}

/* A test with a spelling mistake must not pass: says so and ends the program. */
static void parse(void)
{
    const char *text = getenv("QUERN_VK_FAULT");
    while (text && *text) {
        size_t name = strcspn(text, ":");
        fault f = {0};
        char *end = NULL;
        if (text[name] == ':')
            f.nth = strtoul(text + name + 1, &end, 10);
        if (!end || *end != ':' || !parse_call(text, name, &f.at) || !(f.what = parse_action(end + 1, &f.number)) ||
            fault_count == MAX_FAULTS) {
            fprintf(stderr, "VK_LAYER_QUERN_faults: QUERN_VK_FAULT is not understood at '%s'\n", text);
            _Exit(99);
        }
        faults[fault_count++] = f;
        text += strcspn(text, ",");
        text += *text == ',';
    }
}

static uint64_t most_allocation = UINT64_MAX;
static int least_limits;

static void parse_limits(void)
{
    const char *text = getenv("QUERN_VK_LIMIT");
    while (text && *text) {
        unsigned long long bytes;
        size_t size = strcspn(text, ",");
        if (sscanf(text, "allocation=%llu", &bytes) == 1 && bytes)
            most_allocation = bytes;
        else if (size == 5 && !memcmp(text, "least", 5))
            least_limits = 1;
        else {
            fprintf(stderr, "VK_LAYER_QUERN_faults: QUERN_VK_LIMIT is not understood at '%s'\n", text);
            _Exit(99);
        }
        text += size;
        text += *text == ',';
    }
}

static void sleep_ms(unsigned ms)
{
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    while (nanosleep(&t, &t))
        ;
}

static VkResult result_of(action what)
{
    switch (what) {
    case LOST: return VK_ERROR_DEVICE_LOST;
    case OOM: return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    case OOM_HOST: return VK_ERROR_OUT_OF_HOST_MEMORY;
    case FAILED: return VK_ERROR_INITIALIZATION_FAILED;
    default: return VK_SUCCESS;
    }
}

static void come_to_rest(void);
static void write_calls(void);

/* Counts the call; gives what it is to return instead of being passed on, or VK_SUCCESS. *broken: the module is to be broken, 1 in
 * any case, else if it has an instruction of this number. */
static VkResult strike(call at, int *broken)
{
    VkResult result = VK_SUCCESS;
    unsigned ms = 0;
    pthread_mutex_lock(&lock);
    unsigned long now = ++calls[at];
    int was_lost = is_lost || is_lying, was_hung = is_hung;
    int can_be_lost = at == CALL_QueueSubmit || at == CALL_WaitSemaphores || at == CALL_GetSemaphoreCounterValue ||
                      at == CALL_QueueWaitIdle || at == CALL_DeviceWaitIdle || at == CALL_WaitForFences;
    if (is_lost && can_be_lost)
        result = VK_ERROR_DEVICE_LOST;
    for (int i = 0; i < fault_count; i++) {
        if (faults[i].at != at || (faults[i].nth && faults[i].nth != now))
            continue;
        if (!result)
            result = result_of(faults[i].what);
        is_lost |= faults[i].what == LOST;
        is_hung |= faults[i].what == HANG;
        is_lying |= faults[i].what == LIE;
        ms += faults[i].what == SLOW ? faults[i].number : 0;
        if (broken && faults[i].what == BREAK)
            *broken = faults[i].number ? (int)faults[i].number : 1;
    }
    int newly_lost = (is_lost || is_lying) && !was_lost, newly_hung = is_hung && !was_hung;
    pthread_mutex_unlock(&lock);
    if (newly_hung)
        write_calls();
    if (newly_lost)
        come_to_rest();
    sleep_ms(ms);
    return result;
}

/* ---- what the loader needs ---- */

/* The one instance of a test, and its devices: they share their functions, which is right for one driver. */
static PFN_vkGetInstanceProcAddr next_instance;
static PFN_vkGetDeviceProcAddr next_device;
static VkInstance the_instance;
/* looked up while the instance is made: later the loader's function gives ours again */
static PFN_vkGetPhysicalDeviceProperties next_properties;
static PFN_vkGetPhysicalDeviceProperties2 next_properties2;

/* X(kind): objects whose makers and destroyers are counted */
#define COUNTED(X)                                                                                                                 \
    X(Buffer)                                                                                                                      \
    X(Semaphore)                                                                                                                   \
    X(ShaderModule)                                                                                                                \
    X(PipelineLayout)                                                                                                              \
    X(PipelineCache)                                                                                                               \
    X(CommandPool)                                                                                                                 \
    X(QueryPool)                                                                                                                   \
    X(Fence)
enum {
#define COUNT_ENUM(name) COUNT_##name,
    COUNTED(COUNT_ENUM)
#undef COUNT_ENUM
        COUNT_Pipeline,
    COUNT_Memory,
    COUNT_KINDS
};
static long made[COUNT_KINDS], live[COUNT_KINDS], submissions;

static void count(int kind, long change)
{
    pthread_mutex_lock(&lock);
    made[kind] += change > 0 ? change : 0;
    live[kind] += change;
    pthread_mutex_unlock(&lock);
}

static void write_counts(void)
{
    static const char *const names[] = {
#define COUNT_NAME(name) #name,
        COUNTED(COUNT_NAME)
#undef COUNT_NAME
            "Pipeline",
        "Memory"};
    const char *path = getenv("QUERN_VK_COUNTS");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (!file)
        return;
    for (int i = 0; i < COUNT_KINDS; i++)
        fprintf(file, "%s made %ld live %ld\n", names[i], made[i], live[i]);
    fprintf(file, "Submission made %ld live 0\n", submissions);
    fclose(file);
}

static void write_calls(void)
{
    const char *path = getenv("QUERN_VK_CALLS");
    FILE *file = path ? fopen(path, "w") : NULL;
    for (int i = 0; file && i < CALL_COUNT; i++)
        fprintf(file, "%s %lu\n", call_names[i], calls[i]);
    if (file)
        fclose(file);
}

#define NEXT(device, name) ((PFN_vk##name)(void (*)(void))next_device(device, "vk" #name))
/* a call that the driver may only know by its older name */
static PFN_vkVoidFunction either(VkDevice device, const char *name, const char *older)
{
    PFN_vkVoidFunction f = next_device(device, name);
    return f ? f : next_device(device, older);
}

/* ---- calls that fail ---- */

enum { MAX_DEVICES = 8 };
static VkDevice devices[MAX_DEVICES]; /* those that live */
static int device_count;
static VkDevice the_device; /* one of them, for calls on a queue */

static void keep_device(VkDevice device)
{
    pthread_mutex_lock(&lock);
    if (device_count < MAX_DEVICES)
        devices[device_count++] = device;
    the_device = device;
    pthread_mutex_unlock(&lock);
}

/* Is it the last one? */
static int forget_device(VkDevice device)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < device_count; i++)
        if (devices[i] == device)
            devices[i--] = devices[--device_count];
    the_device = device_count ? devices[0] : VK_NULL_HANDLE;
    int last = !device_count;
    pthread_mutex_unlock(&lock);
    return last;
}

/* A lost device computes nothing more, and its memory may be freed: the real one has to have ended first. */
static void come_to_rest(void)
{
    for (int i = 0; i < device_count; i++)
        NEXT(devices[i], DeviceWaitIdle)(devices[i]);
}

#define COUNTED_CREATE(name)                                                                                                       \
    static VKAPI_ATTR VkResult VKAPI_CALL plain_Create##name(VkDevice device, const Vk##name##CreateInfo *info,                    \
                                                             const VkAllocationCallbacks *a, Vk##name *out)                        \
    {                                                                                                                              \
        VkResult r = NEXT(device, Create##name)(device, info, a, out);                                                             \
        if (r == VK_SUCCESS)                                                                                                       \
            count(COUNT_##name, 1);                                                                                                \
        return r;                                                                                                                  \
    }                                                                                                                              \
    static VKAPI_ATTR void VKAPI_CALL layer_Destroy##name(VkDevice device, Vk##name object, const VkAllocationCallbacks *a)        \
    {                                                                                                                              \
        NEXT(device, Destroy##name)(device, object, a);                                                                            \
        if (object)                                                                                                                \
            count(COUNT_##name, -1);                                                                                               \
    }
COUNTED(COUNTED_CREATE)

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateBuffer(VkDevice device, const VkBufferCreateInfo *info,
                                                         const VkAllocationCallbacks *a, VkBuffer *out)
{
    VkResult r = strike(CALL_CreateBuffer, NULL);
    return r ? r : plain_CreateBuffer(device, info, a, out);
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_AllocateMemory(VkDevice device, const VkMemoryAllocateInfo *info,
                                                           const VkAllocationCallbacks *a, VkDeviceMemory *out)
{
    VkResult r = strike(CALL_AllocateMemory, NULL);
    if (!r && info->allocationSize > most_allocation)
        r = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    VkMemoryAllocateInfo first = *info;
    if (mask_memory_types()) /* the driver's are others, or none at all */
        first.memoryTypeIndex = 0;
    r = r ? r : NEXT(device, AllocateMemory)(device, &first, a, out);
    if (r == VK_SUCCESS)
        count(COUNT_Memory, 1);
    return r;
}

static VKAPI_ATTR void VKAPI_CALL layer_GetBufferMemoryRequirements(VkDevice device, VkBuffer buffer, VkMemoryRequirements *out)
{
    NEXT(device, GetBufferMemoryRequirements)(device, buffer, out);
    if (mask_memory_types())
        out->memoryTypeBits = mask_memory_types();
}

static VKAPI_ATTR void VKAPI_CALL layer_FreeMemory(VkDevice device, VkDeviceMemory memory, const VkAllocationCallbacks *a)
{
    NEXT(device, FreeMemory)(device, memory, a);
    if (memory)
        count(COUNT_Memory, -1);
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_MapMemory(VkDevice device, VkDeviceMemory memory, VkDeviceSize offset,
                                                      VkDeviceSize size, VkMemoryMapFlags flags, void **out)
{
    VkResult r = strike(CALL_MapMemory, NULL);
    return r ? r : NEXT(device, MapMemory)(device, memory, offset, size, flags, out);
}

/* SPIR-V: five words of header, then instructions with their length in the upper half of the first word. */
enum { HEADER = 5, OP_TYPE_FLOAT = 22, OP_FADD = 129, OP_FSUB = 131, OP_OR = 197, OP_AND = 199, OP_BARRIER = 224 };

static int has_code(const uint32_t *code, size_t words, uint32_t number)
{
    for (size_t i = HEADER; i < words && code[i] >> 16; i += code[i] >> 16)
        if ((code[i] & 0xffff) == number)
            return 1;
    return 0;
}

/* Every instruction of one number becomes one of another. */
static void break_code(uint32_t *code, size_t words, uint32_t from, uint32_t to)
{
    for (size_t i = HEADER; i < words;) {
        uint32_t length = code[i] >> 16;
        if ((code[i] & 0xffff) == from)
            code[i] = length << 16 | to;
        if (!length)
            return;
        i += length;
    }
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateShaderModule(VkDevice device, const VkShaderModuleCreateInfo *info,
                                                               const VkAllocationCallbacks *a, VkShaderModule *out)
{
    int broken = 0;
    size_t words = info->codeSize / sizeof *info->pCode;
    VkResult r = strike(CALL_CreateShaderModule, &broken);
    int bits = broken == BITS;
    if (bits)
        broken = !has_code(info->pCode, words, OP_TYPE_FLOAT) && !has_code(info->pCode, words, OP_BARRIER);
    else if (broken > 1)
        broken = has_code(info->pCode, words, (uint32_t)broken);
    if (r || !broken)
        return r ? r : plain_CreateShaderModule(device, info, a, out);
    uint32_t *code = malloc(info->codeSize);
    if (!code)
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    memcpy(code, info->pCode, info->codeSize);
    break_code(code, words, bits ? OP_OR : OP_FADD, bits ? OP_AND : OP_FSUB);
    VkShaderModuleCreateInfo changed = *info;
    changed.pCode = code;
    r = plain_CreateShaderModule(device, &changed, a, out);
    free(code);
    return r;
}

/* The driver would take more than it is said to have: no test may pass that way. */
static void beyond(const char *what, uint32_t asked, uint32_t most)
{
    if (asked <= most)
        return;
    fprintf(stderr, "VK_LAYER_QUERN_faults: %u %s, of %u at most\n", asked, what, most);
    _Exit(98);
}

/* The kernels' size of a workgroup is specialisation constant 0. */
static void check_group(const VkSpecializationInfo *s)
{
    for (uint32_t i = 0; s && i < s->mapEntryCount; i++)
        if (!s->pMapEntries[i].constantID) {
            uint32_t size;
            memcpy(&size, (const char *)s->pData + s->pMapEntries[i].offset, sizeof size);
            beyond("invocations of a workgroup", size, 128);
        }
}

static VKAPI_ATTR void VKAPI_CALL layer_CmdDispatch(VkCommandBuffer commands, uint32_t x, uint32_t y, uint32_t z)
{
    for (uint32_t i = 0; least_limits && i < 3; i++)
        beyond("workgroups", (uint32_t[]){x, y, z}[i], 65535);
    NEXT(the_device, CmdDispatch)(commands, x, y, z);
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateComputePipelines(VkDevice device, VkPipelineCache cache, uint32_t n,
                                                                   const VkComputePipelineCreateInfo *infos,
                                                                   const VkAllocationCallbacks *a, VkPipeline *out)
{
    VkResult r = strike(CALL_CreateComputePipelines, NULL);
    for (uint32_t i = 0; least_limits && i < n; i++)
        check_group(infos[i].stage.pSpecializationInfo);
    r = r ? r : NEXT(device, CreateComputePipelines)(device, cache, n, infos, a, out);
    for (uint32_t i = 0; r == VK_SUCCESS && i < n; i++)
        count(COUNT_Pipeline, 1);
    return r;
}

static VKAPI_ATTR void VKAPI_CALL layer_DestroyPipeline(VkDevice device, VkPipeline pipeline, const VkAllocationCallbacks *a)
{
    NEXT(device, DestroyPipeline)(device, pipeline, a);
    if (pipeline)
        count(COUNT_Pipeline, -1);
}

static int lying(void)
{
    pthread_mutex_lock(&lock);
    int yes = is_lying;
    pthread_mutex_unlock(&lock);
    return yes;
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_QueueSubmit(VkQueue queue, uint32_t n, const VkSubmitInfo *infos, VkFence fence)
{
    VkResult r = strike(CALL_QueueSubmit, NULL);
    if (!r && lying())
        return VK_SUCCESS;
    r = r ? r : NEXT(the_device, QueueSubmit)(queue, n, infos, fence);
    pthread_mutex_lock(&lock);
    submissions += r ? 0 : n;
    pthread_mutex_unlock(&lock);
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_QueueSubmit2(VkQueue queue, uint32_t n, const VkSubmitInfo2 *infos, VkFence fence)
{
    VkResult r = strike(CALL_QueueSubmit, NULL);
    PFN_vkQueueSubmit2 next = (PFN_vkQueueSubmit2)either(the_device, "vkQueueSubmit2", "vkQueueSubmit2KHR");
    return r ? r : next(queue, n, infos, fence);
}

static int hung(uint64_t timeout)
{
    enum { NS = 1000000, LONGEST_MS = 5000 };
    pthread_mutex_lock(&lock);
    int yes = is_hung;
    pthread_mutex_unlock(&lock);
    if (yes)
        sleep_ms(timeout / NS < LONGEST_MS ? (unsigned)(timeout / NS) : LONGEST_MS);
    return yes;
}

/* What this thread's last wait has said to be reached: a device that begins to hang meanwhile does not take it back. */
static _Thread_local VkSemaphore told_semaphore;
static _Thread_local uint64_t told_value;

static VKAPI_ATTR VkResult VKAPI_CALL layer_WaitSemaphores(VkDevice device, const VkSemaphoreWaitInfo *info, uint64_t timeout)
{
    VkResult r = strike(CALL_WaitSemaphores, NULL);
    if (!r && hung(timeout))
        return VK_TIMEOUT;
    if (!r && lying())
        return VK_SUCCESS;
    PFN_vkWaitSemaphores next = (PFN_vkWaitSemaphores)either(device, "vkWaitSemaphores", "vkWaitSemaphoresKHR");
    r = r ? r : next(device, info, timeout);
    if (!r && info->semaphoreCount == 1) {
        told_semaphore = info->pSemaphores[0];
        told_value = info->pValues[0];
    }
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_GetSemaphoreCounterValue(VkDevice device, VkSemaphore semaphore, uint64_t *value)
{
    VkResult r = strike(CALL_GetSemaphoreCounterValue, NULL);
    if (!r && lying()) {
        *value = UINT64_MAX;
        return VK_SUCCESS;
    }
    PFN_vkGetSemaphoreCounterValue next =
        (PFN_vkGetSemaphoreCounterValue)either(device, "vkGetSemaphoreCounterValue", "vkGetSemaphoreCounterValueKHR");
    r = r ? r : next(device, semaphore, value);
    if (!r && hung(0) && *value && (semaphore != told_semaphore || *value > told_value))
        --*value;
    return r;
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_SignalSemaphore(VkDevice device, const VkSemaphoreSignalInfo *info)
{
    VkResult r = strike(CALL_SignalSemaphore, NULL);
    PFN_vkSignalSemaphore next = (PFN_vkSignalSemaphore)either(device, "vkSignalSemaphore", "vkSignalSemaphoreKHR");
    return r ? r : next(device, info);
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_QueueWaitIdle(VkQueue queue)
{
    VkResult r = strike(CALL_QueueWaitIdle, NULL);
    return r ? r : NEXT(the_device, QueueWaitIdle)(queue);
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_DeviceWaitIdle(VkDevice device)
{
    VkResult r = strike(CALL_DeviceWaitIdle, NULL);
    return r ? r : NEXT(device, DeviceWaitIdle)(device);
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_WaitForFences(VkDevice device, uint32_t n, const VkFence *fences, VkBool32 all,
                                                          uint64_t timeout)
{
    VkResult r = strike(CALL_WaitForFences, NULL);
    if (!r && hung(timeout))
        return VK_TIMEOUT;
    return r ? r : NEXT(device, WaitForFences)(device, n, fences, all, timeout);
}

/* ---- instance and device ---- */

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateInstance(const VkInstanceCreateInfo *info, const VkAllocationCallbacks *a,
                                                           VkInstance *out)
{
    pthread_once(&once, parse);
    parse_limits();
    pthread_once(&mask_once, mask_begin);
    VkLayerInstanceCreateInfo *link = (VkLayerInstanceCreateInfo *)(uintptr_t)info->pNext;
    while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO && link->function == VK_LAYER_LINK_INFO))
        link = (VkLayerInstanceCreateInfo *)(uintptr_t)link->pNext;
    if (!link)
        return VK_ERROR_INITIALIZATION_FAILED;
    next_instance = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateInstance create = (PFN_vkCreateInstance)(void (*)(void))next_instance(NULL, "vkCreateInstance");
    VkResult r = create(info, a, out);
    if (r != VK_SUCCESS)
        return r;
    the_instance = *out;
    next_properties = (PFN_vkGetPhysicalDeviceProperties)next_instance(*out, "vkGetPhysicalDeviceProperties");
    next_properties2 = (PFN_vkGetPhysicalDeviceProperties2)next_instance(*out, "vkGetPhysicalDeviceProperties2");
    mask_instance(next_instance, *out);
    return r;
}

static void lower(VkPhysicalDeviceLimits *l)
{
    if (!least_limits)
        return;
    l->maxComputeWorkGroupInvocations = l->maxComputeWorkGroupSize[0] = l->maxComputeWorkGroupSize[1] = 128;
    l->maxComputeWorkGroupSize[2] = 64;
    l->maxComputeSharedMemorySize = 16384;
    l->maxPushConstantsSize = 128;
    l->maxComputeWorkGroupCount[0] = l->maxComputeWorkGroupCount[1] = l->maxComputeWorkGroupCount[2] = 65535;
    l->maxStorageBufferRange = 1u << 27;
    l->maxMemoryAllocationCount = 4096;
}

static VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceProperties(VkPhysicalDevice device, VkPhysicalDeviceProperties *out)
{
    next_properties(device, out);
    mask_properties(out);
    lower(&out->limits);
}

static VKAPI_ATTR void VKAPI_CALL layer_GetPhysicalDeviceProperties2(VkPhysicalDevice device, VkPhysicalDeviceProperties2 *out)
{
    next_properties2(device, out);
    mask_properties2(out);
    lower(&out->properties.limits);
    for (VkBaseOutStructure *s = out->pNext; s; s = s->pNext) {
        uint64_t *size = NULL;
        if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES)
            size = &((VkPhysicalDeviceVulkan11Properties *)(void *)s)->maxMemoryAllocationSize;
        else if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES)
            size = &((VkPhysicalDeviceMaintenance3Properties *)(void *)s)->maxMemoryAllocationSize;
        else if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_PROPERTIES)
            size = &((VkPhysicalDeviceMaintenance4Properties *)(void *)s)->maxBufferSize;
        if (size && *size > most_allocation)
            *size = most_allocation;
    }
}

static VKAPI_ATTR VkResult VKAPI_CALL layer_CreateDevice(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                         const VkAllocationCallbacks *a, VkDevice *out)
{
    VkLayerDeviceCreateInfo *link = (VkLayerDeviceCreateInfo *)(uintptr_t)info->pNext;
    while (link && !(link->sType == VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO && link->function == VK_LAYER_LINK_INFO))
        link = (VkLayerDeviceCreateInfo *)(uintptr_t)link->pNext;
    if (!link)
        return VK_ERROR_INITIALIZATION_FAILED;
    PFN_vkGetInstanceProcAddr get = link->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    next_device = link->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    link->u.pLayerInfo = link->u.pLayerInfo->pNext;
    PFN_vkCreateDevice create = (PFN_vkCreateDevice)(void (*)(void))get(the_instance, "vkCreateDevice");
    VkResult r = create(physical, info, a, out);
    if (r == VK_SUCCESS)
        keep_device(*out);
    return r;
}

static VKAPI_ATTR void VKAPI_CALL layer_DestroyDevice(VkDevice device, const VkAllocationCallbacks *a)
{
    if (!device)
        return;
    if (forget_device(device)) {
        write_counts();
        write_calls();
    }
    NEXT(device, DestroyDevice)(device, a);
}

/* ---- the way in ---- */

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_GetDeviceProcAddr(VkDevice device, const char *name);
static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_GetInstanceProcAddr(VkInstance instance, const char *name);

typedef struct entry {
    const char *name;
    PFN_vkVoidFunction function;
} entry;

#define ENTRY(name)                                                                                                                \
    {                                                                                                                              \
        "vk" #name, (PFN_vkVoidFunction)layer_##name                                                                               \
    }
#define ENTRY_KHR(name)                                                                                                            \
    {                                                                                                                              \
        "vk" #name "KHR", (PFN_vkVoidFunction)layer_##name                                                                         \
    }
#define ENTRY_PLAIN(name)                                                                                                          \
    {                                                                                                                              \
        "vkCreate" #name, (PFN_vkVoidFunction)plain_Create##name                                                                   \
    }
#define ENTRY_DESTROY(name) {"vkDestroy" #name, (PFN_vkVoidFunction)layer_Destroy##name},

static PFN_vkVoidFunction find(const entry *table, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(table[i].name, name))
            return table[i].function;
    return NULL;
}

static PFN_vkVoidFunction device_function(const char *name)
{
    static const entry table[] = {ENTRY(GetDeviceProcAddr),
                                  ENTRY(DestroyDevice),
                                  ENTRY(AllocateMemory),
                                  ENTRY(FreeMemory),
                                  ENTRY(GetBufferMemoryRequirements),
                                  ENTRY(MapMemory),
                                  ENTRY(CreateBuffer),
                                  ENTRY(CreateShaderModule),
                                  ENTRY(CreateComputePipelines),
                                  ENTRY(DestroyPipeline),
                                  ENTRY(CmdDispatch),
                                  ENTRY(QueueSubmit),
                                  ENTRY(QueueSubmit2),
                                  ENTRY_KHR(QueueSubmit2),
                                  ENTRY(WaitSemaphores),
                                  ENTRY_KHR(WaitSemaphores),
                                  ENTRY(GetSemaphoreCounterValue),
                                  ENTRY_KHR(GetSemaphoreCounterValue),
                                  ENTRY(SignalSemaphore),
                                  ENTRY_KHR(SignalSemaphore),
                                  ENTRY(QueueWaitIdle),
                                  ENTRY(DeviceWaitIdle),
                                  ENTRY(WaitForFences),
                                  ENTRY_PLAIN(Semaphore),
                                  ENTRY_PLAIN(PipelineLayout),
                                  ENTRY_PLAIN(PipelineCache),
                                  ENTRY_PLAIN(CommandPool),
                                  ENTRY_PLAIN(QueryPool),
                                  ENTRY_PLAIN(Fence),
                                  COUNTED(ENTRY_DESTROY)};
    PFN_vkVoidFunction hollow = mask_is_hollow() ? hollow_function(name) : NULL;
    if (hollow)
        return hollow;
    return find(table, sizeof table / sizeof *table, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_GetDeviceProcAddr(VkDevice device, const char *name)
{
    PFN_vkVoidFunction ours = device_function(name);
    /* what the driver does not have it does not get from us either */
    return ours && (!next_device || next_device(device, name)) ? ours : next_device(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL layer_GetInstanceProcAddr(VkInstance instance, const char *name)
{
    static const entry table[] = {ENTRY(GetInstanceProcAddr),
                                  ENTRY(CreateInstance),
                                  ENTRY(CreateDevice),
                                  ENTRY(GetPhysicalDeviceProperties),
                                  ENTRY(GetPhysicalDeviceProperties2),
                                  ENTRY_KHR(GetPhysicalDeviceProperties2)};
    PFN_vkVoidFunction ours = find(table, sizeof table / sizeof *table, name);
    if (!ours)
        ours = mask_function(name);
    if (!ours)
        ours = device_function(name);
    return ours ? ours : next_instance ? next_instance(instance, name) : NULL;
}

EXPORT VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *version)
{
    version->loaderLayerInterfaceVersion = 2;
    version->pfnGetInstanceProcAddr = layer_GetInstanceProcAddr;
    version->pfnGetDeviceProcAddr = layer_GetDeviceProcAddr;
    version->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
