/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/transfer.h"

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/status.h"

#include <string.h>

qp_status qv_transfer_init(qp_device *device, qp_text *error)
{
    qv_transfer *t = &device->transfer;
    if (pthread_mutex_init(&t->lock, NULL))
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a lock");
    if (pthread_cond_init(&t->freed, NULL)) {
        pthread_mutex_destroy(&t->lock);
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a condition");
    }
    t->ready = 1;
    return QP_OK;
}

void qv_transfer_destroy(qp_device *device)
{
    qv_transfer *t = &device->transfer;
    if (!t->ready)
        return;
    for (int i = 0; i < QV_STAGING_SLOTS; i++) {
        qv_buffer_destroy(t->slots[i].buffer);
        device->vk.DestroyCommandPool(device->handle, t->slots[i].pool, NULL);
    }
    pthread_cond_destroy(&t->freed);
    pthread_mutex_destroy(&t->lock);
}

/* ---- slots ---- */

static qp_status make_slot(qp_device *device, qv_staging *slot, qp_text *error)
{
    qp_status status = QP_OK;
    if (!slot->buffer)
        status = qv_buffer_create(device, device->physical->host_heap, QV_STAGING_BYTES, &slot->buffer, error);
    if (!status && !slot->commands)
        status = qv_commands_create(device, &slot->pool, &slot->commands, 1, error);
    return status;
}

static qv_staging *free_slot_locked(qv_transfer *t)
{
    qv_staging *best = NULL; /* the one that was used longest ago */
    for (int i = 0; i < QV_STAGING_SLOTS; i++)
        if (!t->slots[i].busy && (!best || t->slots[i].number < best->number))
            best = &t->slots[i];
    return best;
}

qp_status qv_staging_take(qp_device *device, qv_staging **out, qp_text *error)
{
    qv_transfer *t = &device->transfer;
    qv_staging *slot;
    pthread_mutex_lock(&t->lock);
    while (!(slot = free_slot_locked(t)))
        pthread_cond_wait(&t->freed, &t->lock);
    slot->busy = 1;
    pthread_mutex_unlock(&t->lock);
    qp_status status = make_slot(device, slot, error);
    if (!status)
        status = qv_queue_wait(device, slot->number, error);
    if (status)
        qv_staging_give(device, slot);
    else
        *out = slot;
    return status;
}

void qv_staging_give(qp_device *device, qv_staging *slot)
{
    qv_transfer *t = &device->transfer;
    pthread_mutex_lock(&t->lock);
    slot->busy = 0;
    pthread_cond_signal(&t->freed);
    pthread_mutex_unlock(&t->lock);
}

/* ---- copies ---- */

/* What a slot is to do: a copy to or from a buffer, or a kernel that writes to it. Between full barriers: it is ordered with all
 * that the queue has. */
typedef struct errand {
    qp_buffer *other;
    int upload; /* to the other buffer; else from it, for the host to read */
    VkBufferCopy region;
    VkPipeline pipeline; /* none: a copy */
    const void *push;
    uint32_t push_bytes;
    const uint32_t *groups;
} errand;

static void record_dispatch(qp_device *device, VkCommandBuffer commands, const errand *e)
{
    const qv_functions *vk = &device->vk;
    vk->CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, e->pipeline);
    vk->CmdPushConstants(commands, device->pipelines.layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, e->push_bytes, e->push);
    vk->CmdDispatch(commands, e->groups[0], e->groups[1], 1);
}

static VkResult record(const qv_staging *slot, const errand *e)
{
    qp_device *device = slot->buffer->device;
    VkCommandBuffer commands = slot->commands;
    VkBuffer from = e->upload ? slot->buffer->handle : e->other->handle, to = e->upload ? e->other->handle : slot->buffer->handle;
    VkPipelineStageFlags stage = e->pipeline ? VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT : VK_PIPELINE_STAGE_TRANSFER_BIT;
    VkAccessFlags reads = e->pipeline ? VK_ACCESS_SHADER_READ_BIT : VK_ACCESS_TRANSFER_READ_BIT;
    VkAccessFlags writes = e->pipeline ? VK_ACCESS_SHADER_WRITE_BIT : VK_ACCESS_TRANSFER_WRITE_BIT;
    VkResult result = qv_commands_begin(device, commands);
    if (result)
        return result;
    qv_barrier(device, commands, QV_ALL_BEFORE, VK_ACCESS_MEMORY_WRITE_BIT, stage, reads | writes);
    if (e->pipeline)
        record_dispatch(device, commands, e);
    else
        device->vk.CmdCopyBuffer(commands, from, to, 1, &e->region);
    if (e->upload)
        qv_barrier(device, commands, stage, writes, VK_PIPELINE_STAGE_ALL_COMMANDS_BIT,
                   VK_ACCESS_MEMORY_READ_BIT | VK_ACCESS_MEMORY_WRITE_BIT);
    else
        qv_barrier(device, commands, stage, writes, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    return device->vk.EndCommandBuffer(commands);
}

static qp_status submit(qv_staging *slot, const errand *e, qp_text *error)
{
    qp_device *device = slot->buffer->device;
    VkResult result = record(slot, e);
    if (result)
        return qv_failed(device, result, error, "recording a transfer");
    pthread_mutex_lock(&device->queue.lock);
    qp_status status = qv_queue_submit_locked(device, slot->commands, &slot->number, error);
    if (!status)
        e->other->last_use = slot->number;
    pthread_mutex_unlock(&device->queue.lock);
    return status;
}

qp_status qv_staging_upload(qp_buffer *to, uint64_t offset, uint64_t size, qv_staging *slot, qp_text *error)
{
    qp_status status = submit(slot, &(errand){.other = to, .upload = 1, .region = {.dstOffset = offset, .size = size}}, error);
    qv_staging_give(to->device, slot);
    return status;
}

qp_status qv_staging_dispatch(qp_buffer *to, VkPipeline pipeline, const void *push, uint32_t push_bytes, const uint32_t groups[2],
                              qv_staging *slot, qp_text *error)
{
    errand e = {.other = to, .upload = 1, .pipeline = pipeline, .push = push, .push_bytes = push_bytes, .groups = groups};
    qp_status status = submit(slot, &e, error);
    qv_staging_give(to->device, slot);
    return status;
}

qp_status qv_transfer_write(qp_buffer *buffer, uint64_t offset, const void *data, uint64_t size, qp_text *error)
{
    qp_status status = QP_OK;
    for (uint64_t done = 0, n; done < size && !status; done += n) {
        qv_staging *slot;
        n = size - done < QV_STAGING_BYTES ? size - done : QV_STAGING_BYTES;
        status = qv_staging_take(buffer->device, &slot, error);
        if (status)
            break;
        memcpy(slot->buffer->mapped, (const char *)data + done, n);
        status = qv_staging_upload(buffer, offset + done, n, slot, error);
    }
    return status;
}

qp_status qv_transfer_read(qp_buffer *buffer, uint64_t offset, void *data, uint64_t size, qp_text *error)
{
    qp_device *device = buffer->device;
    qv_staging *slot;
    qp_status status = qv_staging_take(device, &slot, error);
    if (status)
        return status;
    for (uint64_t done = 0, n; done < size && !status; done += n) {
        n = size - done < QV_STAGING_BYTES ? size - done : QV_STAGING_BYTES;
        status = submit(slot, &(errand){.other = buffer, .region = {.srcOffset = offset + done, .size = n}}, error);
        if (!status)
            status = qv_queue_wait(device, slot->number, error);
        if (!status)
            memcpy((char *)data + done, slot->buffer->mapped, n);
    }
    qv_staging_give(device, slot);
    return status;
}
