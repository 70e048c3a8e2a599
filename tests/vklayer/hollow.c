/* SPDX-License-Identifier: MIT */
#include "hollow.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- semaphores: each is a number in memory of ours ---- */

static uint64_t *number_of(VkSemaphore semaphore)
{
    return (uint64_t *)(uintptr_t)semaphore;
}

static uint64_t read_number(VkSemaphore semaphore)
{
    pthread_mutex_lock(&lock);
    uint64_t value = *number_of(semaphore);
    pthread_mutex_unlock(&lock);
    return value;
}

static void write_number(VkSemaphore semaphore, uint64_t value)
{
    pthread_mutex_lock(&lock);
    *number_of(semaphore) = value;
    pthread_mutex_unlock(&lock);
}

static VKAPI_ATTR VkResult VKAPI_CALL hollow_CreateSemaphore(VkDevice device, const VkSemaphoreCreateInfo *info,
                                                             const VkAllocationCallbacks *a, VkSemaphore *out)
{
    (void)device, (void)a;
    const VkSemaphoreTypeCreateInfo *type = info->pNext;
    uint64_t *number = malloc(sizeof *number);
    if (!number)
        return VK_ERROR_OUT_OF_HOST_MEMORY;
    *number = type && type->sType == VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO ? type->initialValue : 0;
    *out = (VkSemaphore)(uintptr_t)number;
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL hollow_DestroySemaphore(VkDevice device, VkSemaphore semaphore, const VkAllocationCallbacks *a)
{
    (void)device, (void)a;
    free(number_of(semaphore));
}

static VKAPI_ATTR VkResult VKAPI_CALL hollow_GetSemaphoreCounterValue(VkDevice device, VkSemaphore semaphore, uint64_t *value)
{
    (void)device;
    *value = read_number(semaphore);
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL hollow_SignalSemaphore(VkDevice device, const VkSemaphoreSignalInfo *info)
{
    (void)device;
    write_number(info->semaphore, info->value);
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL hollow_WaitSemaphores(VkDevice device, const VkSemaphoreWaitInfo *info, uint64_t timeout)
{
    (void)device;
    for (uint64_t waited = 0;; waited += 1000000) {
        uint32_t reached = 0;
        for (uint32_t i = 0; i < info->semaphoreCount; i++)
            reached += read_number(info->pSemaphores[i]) >= info->pValues[i];
        if (reached == info->semaphoreCount || (reached && info->flags & VK_SEMAPHORE_WAIT_ANY_BIT))
            return VK_SUCCESS;
        if (waited >= timeout)
            return VK_TIMEOUT;
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    }
}

/* ---- submissions ---- */

static VKAPI_ATTR VkResult VKAPI_CALL hollow_QueueSubmit(VkQueue queue, uint32_t n, const VkSubmitInfo *infos, VkFence fence)
{
    (void)queue, (void)fence;
    for (uint32_t i = 0; i < n; i++) {
        const VkTimelineSemaphoreSubmitInfo *line = infos[i].pNext;
        while (line && line->sType != VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO)
            line = line->pNext;
        for (uint32_t s = 0; line && s < line->signalSemaphoreValueCount; s++)
            write_number(infos[i].pSignalSemaphores[s], line->pSignalSemaphoreValues[s]);
    }
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL hollow_DeviceWaitIdle(VkDevice device)
{
    (void)device;
    return VK_SUCCESS;
}

/* Some that nothing else has. */
static VKAPI_ATTR VkDeviceAddress VKAPI_CALL hollow_GetBufferDeviceAddress(VkDevice device, const VkBufferDeviceAddressInfo *info)
{
    static VkDeviceAddress last = 1ull << 40;
    (void)device, (void)info;
    pthread_mutex_lock(&lock);
    VkDeviceAddress address = last += 1ull << 36;
    pthread_mutex_unlock(&lock);
    return address;
}

PFN_vkVoidFunction hollow_function(const char *name)
{
#define ENTRY(function)                                                                                                            \
    {                                                                                                                              \
        "vk" #function, (PFN_vkVoidFunction)hollow_##function                                                                      \
    }
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } table[] = {ENTRY(CreateSemaphore), ENTRY(DestroySemaphore), ENTRY(GetSemaphoreCounterValue),
                 ENTRY(SignalSemaphore), ENTRY(WaitSemaphores),   ENTRY(QueueSubmit),
                 ENTRY(DeviceWaitIdle),  ENTRY(GetBufferDeviceAddress)};
#undef ENTRY
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (!strcmp(table[i].name, name))
            return table[i].function;
    return NULL;
}
