/* SPDX-License-Identifier: MIT
 * Recording a plan into command buffers. */
#include "backends/vulkan/buffer.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/hazards.h"
#include "backends/vulkan/ops.h"
#include "backends/vulkan/plan.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/view.h"

#include <string.h>

/* How long a dispatch takes, at full rows. */
static uint64_t time_of(const qv_plan *plan, const qp_program_desc *desc, const qv_dispatch *d)
{
    return qv_rate_ns(plan->device, qv_op_at(desc, d->op)->kind, d->work);
}

static uint32_t count_parts(const qv_plan *plan, const qp_program_desc *desc, uint64_t *ns)
{
    uint64_t limit = qv_rate_most_ns(plan->device), sum = 0;
    uint32_t parts = 1;
    *ns = 0;
    for (uint32_t i = 0; i < plan->count; i++) {
        uint64_t time = time_of(plan, desc, &plan->list[i]);
        if (sum && sum + time > limit) {
            parts++;
            sum = 0;
        }
        sum += time;
        *ns += time;
    }
    return parts;
}

static uint32_t count_views(const qv_plan *plan)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < plan->count; i++)
        count += (uint32_t)__builtin_popcount(plan->list[i].bindings);
    return count;
}

static qp_status upload_constants(const qv_plan *plan, qv_recording *out, qp_text *error)
{
    qp_device *device = plan->device;
    if (!plan->constant_bytes)
        return QP_OK;
    qp_status status = qv_buffer_create(device, device->physical->weight_heap, plan->constant_bytes, &out->constants, error);
    return status ? status : qv_buffer_write(out->constants, 0, plan->constants, plan->constant_bytes, error);
}

enum { COMPUTE = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, SHADER_ACCESS = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT };

static VkResult record_dispatch(const qv_plan *plan, const qv_dispatch *d, qv_recording *to, VkCommandBuffer commands)
{
    const qv_functions *vk = &plan->device->vk;
    uint32_t push[QV_PUSH_BYTES / 4];
    memcpy(push, d->push, d->push_bytes);
    if (d->constant_place != UINT32_MAX) {
        uint64_t address = to->constants->address + d->constant_offset;
        memcpy((char *)push + d->constant_place, &address, sizeof address);
    }
    vk->CmdBindPipeline(commands, VK_PIPELINE_BIND_POINT_COMPUTE, d->pipeline->handle);
    vk->CmdPushConstants(commands, plan->device->pipelines.layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, d->push_bytes, push);
    VkResult result = VK_SUCCESS;
    if (d->bindings)
        result = qv_views_push(plan->device, commands, d->views, d->bindings, to->views, &to->view_count);
    if (!result)
        vk->CmdDispatch(commands, d->groups[0], d->groups[1], 1);
    return result;
}

static qp_range scratch_range(const qv_plan *plan, uint64_t offset, uint64_t bytes)
{
    return (qp_range){bytes ? plan->scratch.buffer : NULL, plan->scratch.offset + offset, bytes};
}

/* goes_on: it is not the first of its op, and waits for those before only if it says so. What was behind that barrier is no hazard
 * to ops that follow. */
static int begins_after_barrier(const qv_plan *plan, const qv_dispatch *d, int goes_on, const qp_program_desc *desc,
                                qv_hazards *hazards)
{
    qp_range scratch = scratch_range(plan, d->scratch, d->scratch_bytes), given = scratch_range(plan, d->given, d->given_bytes);
    if (goes_on && !d->waits)
        return 0;
    if (goes_on)
        qv_hazards_clear(hazards);
    return qv_hazards_add(hazards, qv_op_at(desc, d->op), &scratch, &given) || goes_on;
}

/* One part, from dispatch `at` on; gives the first dispatch of the next. It begins after all that was submitted before it, and what
 * it leaves can be seen by the host. */
static qp_status record_part(const qv_plan *plan, const qp_program_desc *desc, qv_recording *to, VkCommandBuffer commands,
                             uint32_t *at, qv_hazards *hazards, qp_text *error)
{
    qp_device *device = plan->device;
    uint64_t limit = qv_rate_most_ns(device), sum = 0;
    VkResult result = qv_commands_begin(device, commands);
    if (result)
        return qv_failed(device, result, error, "recording a program");
    qv_hazards_clear(hazards);
    qv_barrier(device, commands, QV_ALL_BEFORE, VK_ACCESS_MEMORY_WRITE_BIT, COMPUTE, SHADER_ACCESS);
    uint32_t op = UINT32_MAX;
    for (; *at < plan->count && !result; ++*at) {
        const qv_dispatch *d = &plan->list[*at];
        uint64_t time = time_of(plan, desc, d);
        if (sum && sum + time > limit)
            break;
        sum += time;
        if (begins_after_barrier(plan, d, d->op == op, desc, hazards))
            qv_barrier(device, commands, COMPUTE, VK_ACCESS_SHADER_WRITE_BIT, COMPUTE, SHADER_ACCESS);
        op = d->op;
        result = record_dispatch(plan, d, to, commands);
    }
    if (result)
        return qv_failed(device, result, error, "recording a program");
    qv_barrier(device, commands, COMPUTE, VK_ACCESS_SHADER_WRITE_BIT, VK_PIPELINE_STAGE_HOST_BIT, VK_ACCESS_HOST_READ_BIT);
    result = device->vk.EndCommandBuffer(commands);
    return result ? qv_failed(device, result, error, "recording a program") : QP_OK;
}

qp_status qv_record(const qv_plan *plan, const qp_program_desc *desc, qv_recording *out, qp_text *error)
{
    qp_status status = upload_constants(plan, out, error);
    uint32_t parts = count_parts(plan, desc, &out->ns), views = count_views(plan), at = 0;
    qv_hazards *hazards = status ? NULL : qv_alloc(sizeof *hazards);
    out->commands = status ? NULL : qv_alloc_zeroed(parts * sizeof *out->commands);
    out->views = status || !views ? NULL : qv_alloc_zeroed(views * sizeof *out->views);
    if (!status && (!hazards || !out->commands || (views && !out->views)))
        status = qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory to record a program");
    if (!status)
        status = qv_commands_create(plan->device, &out->pool, out->commands, parts, error);
    for (uint32_t i = 0; i < parts && !status; i++)
        status = record_part(plan, desc, out, out->commands[i], &at, hazards, error);
    out->count = parts;
    qv_free(hazards);
    return status;
}

void qv_recording_free(qp_device *device, qv_recording *recording)
{
    device->vk.DestroyCommandPool(device->handle, recording->pool, NULL);
    for (uint32_t i = 0; i < recording->view_count; i++)
        device->vk.DestroyBufferView(device->handle, recording->views[i], NULL);
    qv_buffer_destroy(recording->constants);
    qv_free(recording->views);
    qv_free(recording->commands);
}
