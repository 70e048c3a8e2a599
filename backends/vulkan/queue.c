/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/queue.h"

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/program.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/timeline.h"

#include <string.h>
#include <time.h>

enum { MARKS = 15, SLICE_NS = 100000000 }; /* one place of a qv_marks is for `done` */

qp_status qv_queue_init(qp_device *device, qp_text *error)
{
    qv_queue *queue = &device->queue;
    if (pthread_mutex_init(&queue->lock, NULL))
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for the lock of a queue");
    queue->ready = 1;
    device->vk.GetDeviceQueue(device->handle, device->physical->queue_family, 0, &queue->handle);
    VkResult result = qv_semaphore_create(device, 0, &queue->done);
    return result ? qv_failed(device, result, error, "making the queue's timeline") : QP_OK;
}

void qv_queue_destroy(qp_device *device)
{
    if (!device->queue.ready)
        return;
    qv_graveyard_sweep_locked(device, 1);
    device->vk.DestroySemaphore(device->handle, device->queue.done, NULL);
    pthread_mutex_destroy(&device->queue.lock);
}

/* ---- semaphores ---- */

VkResult qv_semaphore_create(qp_device *device, uint64_t value, VkSemaphore *out)
{
    VkSemaphoreTypeCreateInfo type = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO, .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE, .initialValue = value};
    VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    return device->vk.CreateSemaphore(device->handle, &info, NULL, out);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

qp_status qv_semaphore_wait(qp_device *device, VkSemaphore semaphore, uint64_t value, uint64_t timeout_ns, qp_text *error)
{
    uint64_t start = timeout_ns && timeout_ns != UINT64_MAX ? now_ns() : 0, slice = timeout_ns < SLICE_NS ? timeout_ns : SLICE_NS;
    VkSemaphoreWaitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, .semaphoreCount = 1, .pSemaphores = &semaphore, .pValues = &value};
    for (;;) {
        qp_status status = qv_lost(device, error);
        if (status)
            return status;
        VkResult result = device->vk.WaitSemaphores(device->handle, &info, slice);
        if (result == VK_SUCCESS)
            return QP_OK;
        if (result != VK_TIMEOUT)
            return qv_failed(device, result, error, "waiting for a timeline");
        if (timeout_ns == UINT64_MAX)
            continue;
        uint64_t passed = timeout_ns ? now_ns() - start : 0;
        if (passed >= timeout_ns)
            return QP_TIMEOUT;
        slice = timeout_ns - passed < SLICE_NS ? timeout_ns - passed : SLICE_NS;
    }
}

qp_status qv_queue_wait(qp_device *device, uint64_t number, qp_text *error)
{
    return number ? qv_semaphore_wait(device, device->queue.done, number, UINT64_MAX, error) : QP_OK;
}

int qv_queue_reached(qp_device *device, uint64_t number)
{
    uint64_t now = 0;
    return !number || atomic_load(&device->lost) ||
           (!device->vk.GetSemaphoreCounterValue(device->handle, device->queue.done, &now) && now >= number);
}

void qv_queue_settle(qp_device *device)
{
    pthread_mutex_lock(&device->queue.lock);
    uint64_t number = device->queue.unsettled;
    pthread_mutex_unlock(&device->queue.lock);
    qv_queue_wait(device, number, NULL);
}

/* ---- command buffers ---- */

qp_status qv_commands_create(qp_device *device, VkCommandPool *pool, VkCommandBuffer *out, uint32_t count, qp_text *error)
{
    VkCommandPoolCreateInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                    .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                    .queueFamilyIndex = device->physical->queue_family};
    VkResult result = *pool ? VK_SUCCESS : device->vk.CreateCommandPool(device->handle, &info, NULL, pool);
    VkCommandBufferAllocateInfo allocate = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                            .commandPool = *pool,
                                            .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                            .commandBufferCount = count};
    if (!result && count)
        result = device->vk.AllocateCommandBuffers(device->handle, &allocate, out);
    return result ? qv_failed(device, result, error, "making command buffers") : QP_OK;
}

VkResult qv_commands_begin(qp_device *device, VkCommandBuffer commands)
{
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                     .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT};
    return device->vk.BeginCommandBuffer(commands, &info);
}

void qv_barrier(qp_device *device, VkCommandBuffer commands, VkPipelineStageFlags from, VkAccessFlags written,
                VkPipelineStageFlags to, VkAccessFlags seen)
{
    VkMemoryBarrier memory = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER, .srcAccessMask = written, .dstAccessMask = seen};
    device->vk.CmdPipelineBarrier(commands, from, to, 0, 1, &memory, 0, NULL, 0, NULL);
}

/* ---- submitting ---- */

qp_status qv_queue_submit_locked(qp_device *device, const VkCommandBuffer *commands, uint32_t count, const qv_marks *waits,
                                 qv_marks *signals, uint64_t *number, qp_text *error)
{
    qv_queue *queue = &device->queue;
    VkPipelineStageFlags everything[MARKS];
    for (int i = 0; i < MARKS; i++)
        everything[i] = VK_PIPELINE_STAGE_ALL_COMMANDS_BIT;
    qv_marks own = {0};
    qv_marks *to = signals ? signals : &own;
    to->semaphores[to->count] = queue->done;
    to->values[to->count] = queue->submitted + 1;
    VkTimelineSemaphoreSubmitInfo values = {.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                                            .waitSemaphoreValueCount = waits ? waits->count : 0,
                                            .pWaitSemaphoreValues = waits ? waits->values : NULL,
                                            .signalSemaphoreValueCount = to->count + 1,
                                            .pSignalSemaphoreValues = to->values};
    VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                         .pNext = &values,
                         .waitSemaphoreCount = values.waitSemaphoreValueCount,
                         .pWaitSemaphores = waits ? waits->semaphores : NULL,
                         .pWaitDstStageMask = everything,
                         .commandBufferCount = count,
                         .pCommandBuffers = commands,
                         .signalSemaphoreCount = to->count + 1,
                         .pSignalSemaphores = to->semaphores};
    VkResult result = device->vk.QueueSubmit(queue->handle, 1, &info, VK_NULL_HANDLE);
    if (result)
        return qv_failed(device, result, error, "giving work to the device");
    *number = ++queue->submitted;
    return QP_OK;
}

/* ---- running a program ---- */

static qp_status check_signals(const qp_program *program, const qp_signal *signals, uint32_t count, const char *what,
                               qp_text *error)
{
    if (count && !signals)
        return qv_fail(error, QP_ERR_INVALID, "%u %s are announced, and there are none", count, what);
    for (uint32_t i = 0; i < count; i++)
        if (!signals[i].timeline || signals[i].timeline->device != program->device)
            return qv_fail(error, QP_ERR_INVALID, "%s %u is of no timeline, or of one of another device", what, i);
    return QP_OK;
}

static void take_marks(qv_marks *marks, const qp_signal *signals, uint32_t *at, uint32_t count)
{
    for (marks->count = 0; *at < count && marks->count < MARKS; ++*at, marks->count++) {
        marks->semaphores[marks->count] = signals[*at].timeline->handle;
        marks->values[marks->count] = signals[*at].value;
    }
}

/* Never back: a run that failed before anything was submitted has an old number, and other programs may use the timeline still. */
static void note_use(qp_timeline *timeline, uint64_t number)
{
    if (number > timeline->last_use)
        timeline->last_use = number;
}

/* The waits in front (more than MARKS of them need submissions of their own), one submission for each part of the program, the
 * signals at the end. */
static qp_status submit_run_locked(qp_program *program, const qp_run *run, VkCommandBuffer step, qp_text *error)
{
    qp_device *device = program->device;
    uint32_t wait = 0, signal = 0;
    qv_marks waits, signals;
    qp_status status = QP_OK;
    take_marks(&waits, run->waits, &wait, run->wait_count);
    while (wait < run->wait_count && !status) {
        status = qv_queue_submit_locked(device, NULL, 0, &waits, NULL, &program->last, error);
        take_marks(&waits, run->waits, &wait, run->wait_count);
    }
    for (uint32_t i = 0; i < program->command_count && !status; i++) {
        VkCommandBuffer commands[2] = {step, program->commands[i]};
        int with_step = i == 0 && step, last = i + 1 == program->command_count;
        if (last)
            take_marks(&signals, run->signals, &signal, run->signal_count);
        status = qv_queue_submit_locked(device, with_step ? commands : commands + 1, with_step ? 2 : 1, i == 0 ? &waits : NULL,
                                        last ? &signals : NULL, &program->last, error);
    }
    while (signal < run->signal_count && !status) {
        take_marks(&signals, run->signals, &signal, run->signal_count);
        status = qv_queue_submit_locked(device, NULL, 0, NULL, &signals, &program->last, error);
    }
    for (uint32_t i = 0; i < run->wait_count; i++)
        note_use(run->waits[i].timeline, program->last);
    for (uint32_t i = 0; i < run->signal_count; i++) {
        note_use(run->signals[i].timeline, program->last);
        if (!status)
            run->signals[i].timeline->promised = run->signals[i].value;
    }
    return status;
}

qp_status qv_program_run(qp_program *program, const qp_run *run, qp_text *error)
{
    qp_device *device = program->device;
    qp_status status = qv_lost(device, error);
    if (!status)
        status = check_signals(program, run->waits, run->wait_count, "waits", error);
    if (!status)
        status = check_signals(program, run->signals, run->signal_count, "signals", error);
    if (status)
        return status;
    uint32_t slot = program->next_slot;
    VkCommandBuffer step = NULL;
    if (run->step && program->slots) {
        status = qv_queue_wait(device, program->slot_numbers[slot], error);
        if (status)
            return status;
        memcpy(program->slots->mapped + slot * program->slot_stride, run->step, program->step.size);
        step = program->step_commands[slot];
    }
    pthread_mutex_lock(&device->queue.lock);
    for (uint32_t i = 0; i < run->signal_count && !status; i++)
        if (run->signals[i].value <= run->signals[i].timeline->promised)
            status = qv_fail(error, QP_ERR_INVALID, "a run would signal %llu on a timeline that has, or is to get, %llu",
                             (unsigned long long)run->signals[i].value, (unsigned long long)run->signals[i].timeline->promised);
    if (!status)
        status = submit_run_locked(program, run, step, error);
    pthread_mutex_unlock(&device->queue.lock);
    if (step) { /* a submission that failed half way may have been started */
        program->slot_numbers[slot] = program->last;
        program->next_slot = (slot + 1) % QV_SLOTS;
    }
    return status;
}
