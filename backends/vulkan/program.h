/* SPDX-License-Identifier: MIT
 * backends/vulkan/program.h: a checked list of ops, recorded once. */
#ifndef QUERN_BACKENDS_VULKAN_PROGRAM_H
#define QUERN_BACKENDS_VULKAN_PROGRAM_H

#include "backends/vulkan/plan.h"
#include "backends/vulkan/queue.h"

enum { QV_SLOTS = QP_RUNS_QUEUED }; /* step blocks that can be under way */

struct qp_program {
    qp_device *device;
    qv_recording recording;
    VkCommandBuffer *commands; /* the recording's */
    uint32_t command_count;
    qp_range step;
    qp_buffer *slots; /* QV_SLOTS step blocks, mapped; NULL: the program has none */
    uint64_t slot_stride;
    VkCommandPool step_pool;
    VkCommandBuffer step_commands[QV_SLOTS]; /* each copies its slot to the step block */
    uint64_t slot_numbers[QV_SLOTS];         /* of the last submission that reads it */
    uint32_t next_slot;
    uint64_t ns;        /* that a run should take, at full rows */
    uint64_t last;      /* number of the last submission */
    qv_batches batches; /* room for those of a run */
};

qp_status qv_program_measure(qp_device *device, const qp_program_desc *desc, qp_program_memory *memory, qp_text *error);
qp_status qv_program_create(qp_device *device, const qp_program_desc *desc, qp_program **out, qp_text *error);
void qv_program_destroy(qp_program *program); /* qv_program_run is in queue.c */

#endif
