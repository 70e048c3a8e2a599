/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/program.h"

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/ops.h"
#include "backends/vulkan/selftest.h"
#include "backends/vulkan/status.h"

#include <stdio.h>
#include <string.h>

static qp_status check_list(const qp_program_desc *desc, qp_text *error)
{
    if (desc->op_count && (!desc->ops || desc->op_stride < sizeof(qp_op)))
        return qv_fail(error, QP_ERR_INVALID, "%u ops are announced, at %p and %u bytes apart; they take %zu bytes each",
                       desc->op_count, (const void *)desc->ops, desc->op_stride, sizeof(qp_op));
    return QP_OK;
}

/* Ops take their scratch memory one behind the other, so that some of them may run together, and from the start again where the end
 * is reached. */
enum { SCRATCH_AHEAD = 1 << 20 };

typedef struct scratch_need {
    uint64_t all, largest;
} scratch_need;

static void add_scratch(scratch_need *need, uint64_t bytes)
{
    need->all = bytes > UINT64_MAX - need->all ? UINT64_MAX : need->all + bytes;
    need->largest = bytes > need->largest ? bytes : need->largest;
}

static uint64_t scratch_of(const scratch_need *need)
{
    uint64_t most = need->largest > SCRATCH_AHEAD ? need->largest : SCRATCH_AHEAD;
    return need->all < most ? need->all : most;
}

/* Names the first op that is refused. plan: NULL to check only, without buffers; need: NULL not to add up. */
static qp_status each_op(qp_device *device, const qp_program_desc *desc, qv_plan *plan, scratch_need *need, qp_text *error)
{
    char words[320] = "";
    qp_text text = {words, sizeof words};
    qp_status status = check_list(desc, error);
    for (uint32_t i = 0; i < desc->op_count && !status; i++) {
        const qp_op *op = qv_op_at(desc, i);
        qp_op_info info = {.struct_size = sizeof info};
        const qv_variant *variant;
        status = qv_op_check(device, op, plan != NULL, &info, &variant, &text);
        if (!status && plan)
            status = qv_plan_begin(plan, i, info.scratch_bytes, &text);
        if (!status && plan)
            status = variant->launch(plan, op, &text);
        if (!status && plan)
            qv_plan_end(plan, op);
        if (!status && need)
            add_scratch(need, info.scratch_bytes);
        if (status)
            return qv_fail(error, status, "op %u: %s", i, words);
    }
    return status;
}

qp_status qv_program_measure(qp_device *device, const qp_program_desc *desc, qp_program_memory *memory, qp_text *error)
{
    scratch_need need = {0};
    qp_status status = qv_lost(device, error);
    if (!status)
        qv_rate_learn(device); /* here, so that the program is planned with the speeds that it was measured with */
    if (!status)
        status = each_op(device, desc, NULL, &need, error);
    if (status)
        return status;
    uint64_t stride = (desc->step.size + QV_ALIGNMENT - 1) / QV_ALIGNMENT * QV_ALIGNMENT;
    memory->scratch_bytes = scratch_of(&need);
    memory->scratch_alignment = QV_ALIGNMENT;
    memory->host_bytes = sizeof(qp_program) + desc->op_count * sizeof(qv_dispatch) + QV_SLOTS * stride;
    if (QP_HAS(memory, device_bytes))
        memory->device_bytes = (uint64_t)desc->op_count * 512; /* recorded commands and rope tables */
    return QP_OK;
}

/* ---- step blocks ---- */

static qp_status record_step(qp_program *program, uint32_t slot, qp_text *error)
{
    qp_device *device = program->device;
    VkCommandBuffer commands = program->step_commands[slot];
    VkBufferCopy region = {.srcOffset = slot * program->slot_stride, .dstOffset = program->step.offset, .size = program->step.size};
    VkResult result = qv_commands_begin(device, commands);
    if (result)
        return qv_failed(device, result, error, "recording the copy of a step block");
    qv_barrier(device, commands, QV_ALL_BEFORE, VK_ACCESS_MEMORY_WRITE_BIT, VK_PIPELINE_STAGE_TRANSFER_BIT,
               VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT);
    device->vk.CmdCopyBuffer(commands, program->slots->handle, program->step.buffer->handle, 1, &region);
    qv_barrier(device, commands, VK_PIPELINE_STAGE_TRANSFER_BIT, VK_ACCESS_TRANSFER_WRITE_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT,
               VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT);
    result = device->vk.EndCommandBuffer(commands);
    return result ? qv_failed(device, result, error, "recording the copy of a step block") : QP_OK;
}

static qp_status make_slots(qp_program *program, const qp_range *step, qp_text *error)
{
    qp_device *device = program->device;
    if (!step->buffer || !step->size)
        return QP_OK;
    program->step = *step;
    program->slot_stride = (step->size + QV_ALIGNMENT - 1) / QV_ALIGNMENT * QV_ALIGNMENT;
    qp_status status =
        qv_buffer_create(device, device->physical->host_heap, QV_SLOTS * program->slot_stride, &program->slots, error);
    if (!status)
        status = qv_commands_create(device, &program->step_pool, program->step_commands, QV_SLOTS, error);
    for (uint32_t i = 0; i < QV_SLOTS && !status; i++)
        status = record_step(program, i, error);
    return status;
}

/* ---- making ---- */

static qp_status fill(qp_program *program, const qp_program_desc *desc, qp_text *error)
{
    qv_plan plan = {.device = program->device};
    if (QP_HAS(desc, scratch) && desc->scratch.buffer)
        plan.scratch = desc->scratch;
    qp_status status = each_op(program->device, desc, &plan, NULL, error);
    if (!status)
        status = qv_plan_compile(&plan, error);
    if (!status)
        status = qv_record(&plan, desc, &program->recording, error);
    qv_plan_free(&plan);
    program->commands = program->recording.commands;
    program->command_count = program->recording.count;
    program->ns = program->recording.ns;
    if (!status)
        status = qv_batches_reserve(&program->batches, program->command_count, error); /* so that a run asks for no memory */
    return status ? status : make_slots(program, &desc->step, error);
}

qp_status qv_program_create(qp_device *device, const qp_program_desc *desc, qp_program **out, qp_text *error)
{
    qp_status status = qv_lost(device, error);
    if (!status && desc->step.buffer)
        status = qv_range_check(device, &desc->step, "the step block", error);
    if (!status && QP_HAS(desc, scratch) && desc->scratch.buffer)
        status = qv_range_check(device, &desc->scratch, "the scratch range", error);
    if (!status && QP_HAS(desc, scratch) && desc->scratch.offset % QV_ALIGNMENT)
        status = qv_fail(error, QP_ERR_INVALID, "the scratch range starts at offset %llu, which is no multiple of %d",
                         (unsigned long long)desc->scratch.offset, QV_ALIGNMENT);
    if (status)
        return status;
    qp_program *program = qv_alloc_zeroed(sizeof *program);
    if (!program)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a program");
    program->device = device;
    if (!device->rate.is_measured)
        qv_rate_learn(device);
    status = fill(program, desc, error);
    qv_selftest_rest(device);
    if (status)
        qv_program_destroy(program);
    else
        *out = program;
    return status;
}

void qv_program_destroy(qp_program *program)
{
    if (!program)
        return;
    qp_device *device = program->device;
    if (qv_queue_drained(device, program->last)) {
        qv_recording_free(device, &program->recording);
        device->vk.DestroyCommandPool(device->handle, program->step_pool, NULL);
        qv_buffer_destroy(program->slots);
    }
    qv_batches_free(&program->batches);
    qv_free(program);
}
