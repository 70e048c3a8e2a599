/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/queue.h"

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/program.h"
#include "backends/vulkan/selftest.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/timeline.h"

#include <string.h>
#include <time.h>

enum { MARKS = 15 }; /* one place of a qv_marks is for `done` */
enum { AWHILE_NS = 500000, SLICE_NS = 100000000, LONGEST_LOOK_NS = 1000000000 };

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
    qv_buffer_sweep_locked(device, 1);
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

/* A wait on a lost device may say that all went well, and a semaphore of one may show any number: asking for the value tells, by
 * its result or by a number that nobody was to signal. */
static VkResult check_value(qp_device *device, VkSemaphore semaphore, uint64_t value)
{
    uint64_t now = 0;
    VkResult result = device->vk.GetSemaphoreCounterValue(device->handle, semaphore, &now);
    if (result == VK_ERROR_DEVICE_LOST || (!result && (now == UINT64_MAX || now < value)))
        return VK_ERROR_DEVICE_LOST;
    return VK_SUCCESS; /* the wait said so, and the driver had no memory to say it again */
}

/* Two minutes, unless submissions were asked to be longer or shorter. A guess that is far off or a busy machine shall not count. */
static uint64_t patience_ms(const qp_device *device)
{
    enum { SUBMISSIONS = 240, LEAST_MS = 10000 };
    if (device->is_bench) /* on which those who wait give up before */
        return UINT64_C(1000) * qv_test_patience(device->physical) + LEAST_MS;
    uint64_t ms = (uint64_t)device->max_submit_ms * SUBMISSIONS;
    return ms > LEAST_MS ? ms : LEAST_MS;
}

/* Nothing of what the device was given has ended for so long, and nothing of it waits for the host: it will not come back. (Most
 * drivers notice that themselves, after seconds.) */
static int has_hung(qp_device *device)
{
    qv_queue *queue = &device->queue;
    uint64_t done = 0;
    int hung = 0;
    pthread_mutex_lock(&queue->lock);
    uint64_t now = now_ns(); /* not before others' looks */
    if (!device->vk.GetSemaphoreCounterValue(device->handle, queue->done, &done)) {
        uint64_t passed = now - queue->looked_ns;
        queue->still_ns += passed < LONGEST_LOOK_NS ? passed : LONGEST_LOOK_NS; /* the process may have been stopped for hours */
        if (done > queue->seen || done >= queue->submitted || done < queue->gated)
            queue->still_ns = 0;
        queue->seen = done;
        queue->looked_ns = now;
        hung = queue->still_ns >= patience_ms(device) * 1000000;
    }
    pthread_mutex_unlock(&queue->lock);
    return hung;
}

static qp_status give_up(qp_device *device, qp_text *error)
{
    atomic_store(&device->hung, 1);
    atomic_store(&device->lost, 1);
    return qv_fail(error, QP_ERR_DEVICE_LOST, "%s hangs: nothing of what it was given has ended for %llu s",
                   device->physical->properties.deviceName, (unsigned long long)patience_ms(device) / 1000);
}

qp_status qv_semaphore_wait(qp_device *device, VkSemaphore semaphore, uint64_t value, uint64_t timeout_ns, qp_text *error)
{
    uint64_t start = timeout_ns ? now_ns() : 0, slice = timeout_ns < SLICE_NS ? timeout_ns : SLICE_NS;
    VkSemaphoreWaitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, .semaphoreCount = 1, .pSemaphores = &semaphore, .pValues = &value};
    for (;;) {
        qp_status status = qv_lost(device, error);
        if (status)
            return status;
        VkResult result = device->vk.WaitSemaphores(device->handle, &info, slice);
        if (result == VK_SUCCESS)
            result = check_value(device, semaphore, value);
        if (result == VK_SUCCESS) {
            if (timeout_ns && now_ns() - start > AWHILE_NS) /* else it had ended before, who knows when */
                qv_rate_ended(device);
            return QP_OK;
        }
        if (result != VK_TIMEOUT)
            return qv_failed(device, result, error, "waiting for a timeline");
        if (slice && has_hung(device))
            return give_up(device, error);
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
    return !number || (atomic_load(&device->lost) && !atomic_load(&device->hung)) ||
           (!device->vk.GetSemaphoreCounterValue(device->handle, device->queue.done, &now) && now >= number);
}

int qv_queue_drained(qp_device *device, uint64_t number)
{
    enum { TRIES = 1000 };
    qp_status status = QP_OK;
    for (int i = 0; i < TRIES && !atomic_load(&device->hung); i++) {
        status = qv_queue_wait(device, number, NULL);
        if (!status || (status == QP_ERR_DEVICE_LOST && !atomic_load(&device->hung))) /* of a lost device all may be destroyed */
            return 1;
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    }
    if (qv_queue_reached(device, number)) /* after all, or it needs nothing of what the device hangs at */
        return 1;
    if (!atomic_exchange(&device->queue.left_behind, 1))
        qv_log(QP_LOG_WARN, "%s: its work has not ended as far as can be known (status %d): memory is left to it for good",
               device->physical->properties.deviceName, status);
    return 0;
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

qp_status qv_batches_reserve(qv_batches *batches, uint32_t count, qp_text *error)
{
    if (count <= batches->room)
        return QP_OK;
    qv_batch *list = qv_alloc(count * sizeof *list);
    VkSubmitInfo *infos = qv_alloc(count * sizeof *infos);
    if (!list || !infos) {
        qv_free(list);
        qv_free(infos);
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for a run of %u submissions", count);
    }
    qv_batches_free(batches);
    *batches = (qv_batches){list, infos, count};
    return QP_OK;
}

void qv_batches_free(qv_batches *batches)
{
    qv_free(batches->list);
    qv_free(batches->infos);
    *batches = (qv_batches){0};
}

static const VkPipelineStageFlags everything[MARKS] = {
#define ALL VK_PIPELINE_STAGE_ALL_COMMANDS_BIT
    ALL, ALL, ALL, ALL, ALL, ALL, ALL, ALL,
    ALL, ALL, ALL, ALL, ALL, ALL, ALL
#undef ALL
};

/* Adds the queue's own signal, and says it in Vulkan's words. */
static void describe(qv_batch *b, VkSemaphore done, uint64_t number, VkSubmitInfo *info)
{
    b->signals.semaphores[b->signals.count] = done;
    b->signals.values[b->signals.count] = number;
    b->signals.count++;
    b->values = (VkTimelineSemaphoreSubmitInfo){.sType = VK_STRUCTURE_TYPE_TIMELINE_SEMAPHORE_SUBMIT_INFO,
                                                .waitSemaphoreValueCount = b->waits.count,
                                                .pWaitSemaphoreValues = b->waits.values,
                                                .signalSemaphoreValueCount = b->signals.count,
                                                .pSignalSemaphoreValues = b->signals.values};
    *info = (VkSubmitInfo){.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                           .pNext = &b->values,
                           .waitSemaphoreCount = b->waits.count,
                           .pWaitSemaphores = b->waits.semaphores,
                           .pWaitDstStageMask = everything,
                           .commandBufferCount = b->command_count,
                           .pCommandBuffers = b->commands,
                           .signalSemaphoreCount = b->signals.count,
                           .pSignalSemaphores = b->signals.semaphores};
}

qp_status qv_queue_submit_batches_locked(qp_device *device, qv_batches *batches, uint32_t count, uint64_t *number, qp_text *error)
{
    qv_queue *queue = &device->queue;
    for (uint32_t i = 0; i < count; i++)
        describe(&batches->list[i], queue->done, queue->submitted + 1 + i, &batches->infos[i]);
    VkResult result = device->vk.QueueSubmit(queue->handle, count, batches->infos, VK_NULL_HANDLE);
    if (result)
        return qv_failed(device, result, error, "giving work to the device");
    *number = queue->submitted += count;
    queue->looked_ns = now_ns(); /* from here on something has to end */
    queue->still_ns = 0;
    return QP_OK;
}

qp_status qv_queue_submit_locked(qp_device *device, VkCommandBuffer commands, uint64_t *number, qp_text *error)
{
    qv_batch one = {.commands = {commands}, .command_count = 1};
    VkSubmitInfo info;
    return qv_queue_submit_batches_locked(device, &(qv_batches){&one, &info, 1}, 1, number, error);
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

/* The batches of a run: the waits in front (more than MARKS of them need batches of their own), one for each part of the program,
 * the signals at the end. All go to the driver at once, so that a run that is refused has not run in part. */
static qp_status write_batches(qp_program *program, const qp_run *run, VkCommandBuffer step, uint32_t *count, qp_text *error)
{
    uint32_t parts = program->command_count ? program->command_count : 1, wait = 0, signal = 0, n = 0;
    uint32_t in_front = run->wait_count ? (run->wait_count - 1) / MARKS : 0;
    uint32_t behind = run->signal_count ? (run->signal_count - 1) / MARKS : 0;
    qp_status status = qv_batches_reserve(&program->batches, in_front + parts + behind, error);
    if (status)
        return status;
    qv_batch *list = program->batches.list;
    for (uint32_t i = 0; i < in_front + parts + behind; i++)
        list[i].command_count = list[i].waits.count = list[i].signals.count = 0;
    for (; n < in_front; n++)
        take_marks(&list[n].waits, run->waits, &wait, run->wait_count);
    take_marks(&list[n].waits, run->waits, &wait, run->wait_count);
    if (step)
        list[n].commands[list[n].command_count++] = step;
    for (uint32_t i = 0; i < parts; i++, n++)
        if (i < program->command_count)
            list[n].commands[list[n].command_count++] = program->commands[i];
    for (n--; signal < run->signal_count; n++)
        take_marks(&list[n].signals, run->signals, &signal, run->signal_count);
    *count = in_front + parts + behind;
    return QP_OK;
}

static qp_status submit_run_locked(qp_program *program, const qp_run *run, uint32_t batches, qp_text *error)
{
    qp_status status = QP_OK;
    uint32_t promised = 0;
    /* not the first run of a program: some drivers compile kernels in it */
    int idle = program->last && !run->wait_count && qv_queue_reached(program->device, program->device->queue.submitted);
    while (promised < run->signal_count && !status) {
        status = qv_timeline_promise_locked(run->signals[promised].timeline, run->signals[promised].value, error);
        promised += !status;
    }
    if (!status)
        status = qv_queue_submit_batches_locked(program->device, &program->batches, batches, &program->last, error);
    while (promised && status)
        qv_timeline_unpromise_locked(run->signals[--promised].timeline);
    if (!status)
        qv_rate_run_locked(program->device, program->last, program->ns, program->command_count, idle);
    if (run->wait_count && !status)
        program->device->queue.gated = program->last;
    for (uint32_t i = 0; i < run->wait_count && !status; i++)
        run->waits[i].timeline->last_use = program->last;
    for (uint32_t i = 0; i < run->signal_count && !status; i++)
        run->signals[i].timeline->last_use = program->last;
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
    uint32_t slot = program->next_slot, batches = 0;
    VkCommandBuffer step = NULL;
    if (run->step && program->slots) {
        status = qv_queue_wait(device, program->slot_numbers[slot], error);
        if (status)
            return status;
        memcpy(program->slots->mapped + slot * program->slot_stride, run->step, program->step.size);
        step = program->step_commands[slot];
    }
    status = write_batches(program, run, step, &batches, error);
    if (status)
        return status;
    pthread_mutex_lock(&device->queue.lock);
    status = submit_run_locked(program, run, batches, error);
    pthread_mutex_unlock(&device->queue.lock);
    if (!status && step) {
        program->slot_numbers[slot] = program->last;
        program->next_slot = (slot + 1) % QV_SLOTS;
    }
    return status;
}
