/* SPDX-License-Identifier: MIT */
#include "backends/null/program.h"

#include "backends/null/buffer.h"
#include "backends/null/device.h"
#include "backends/null/ops.h"
#include "backends/null/status.h"

#include <stdio.h>

/* Names the first op that is refused. */
static qp_status check_ops(qp_device *device, const qp_program_desc *desc, int placed, qp_text *error)
{
    char words[256] = "";
    qp_text text = {words, sizeof words};
    if (desc->op_count && (!desc->ops || desc->op_stride < sizeof(qp_op)))
        return qn_fail(error, QP_ERR_INVALID, "%u ops are announced, at %p and %u bytes apart; they take %zu bytes each",
                       desc->op_count, (const void *)desc->ops, desc->op_stride, sizeof(qp_op));
    for (uint32_t i = 0; i < desc->op_count; i++) {
        const qp_op *op = (const qp_op *)(const void *)((const char *)desc->ops + (size_t)i * desc->op_stride);
        qp_status status = qn_op_check(device, op, placed, NULL, &text);
        if (status)
            return qn_fail(error, status, "op %u: %s", i, words);
    }
    return QP_OK;
}

qp_status qn_program_measure(qp_device *device, const qp_program_desc *desc, qp_program_memory *memory, qp_text *error)
{
    qp_status status = check_ops(device, desc, 0, error);
    if (status)
        return status;
    memory->scratch_bytes = 0;
    memory->scratch_alignment = QN_ALIGNMENT;
    memory->host_bytes = sizeof(qp_program) + sizeof(qn_run) + desc->step.size;
    if (QP_HAS(memory, device_bytes))
        memory->device_bytes = 0;
    return QP_OK;
}

qp_status qn_program_create(qp_device *device, const qp_program_desc *desc, qp_program **out, qp_text *error)
{
    qp_status status = check_ops(device, desc, 1, error);
    if (!status && desc->step.buffer)
        status = qn_range_check(device, &desc->step, "the step block", error);
    if (!status && desc->scratch.buffer)
        status = qn_range_check(device, &desc->scratch, "the scratch range", error);
    if (status)
        return status;
    qp_program *program = qn_alloc_zeroed(sizeof *program);
    if (!program)
        return qn_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a program");
    program->device = device;
    if (desc->step.buffer)
        program->step = desc->step;
    *out = program;
    return QP_OK;
}

void qn_program_destroy(qp_program *program)
{
    if (!program)
        return;
    qn_queue *queue = &program->device->queue;
    pthread_mutex_lock(&queue->lock);
    while (program->under_way)
        pthread_cond_wait(&queue->moved, &queue->lock);
    pthread_mutex_unlock(&queue->lock);
    while (program->free_runs) {
        qn_run *run = program->free_runs;
        program->free_runs = run->next;
        qn_run_destroy(run);
    }
    qn_free(program);
}
