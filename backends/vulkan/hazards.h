/* SPDX-License-Identifier: MIT
 * backends/vulkan/hazards.h: which ops may run beside each other: those whose tensors' bytes do not meet. */
#ifndef QUERN_BACKENDS_VULKAN_HAZARDS_H
#define QUERN_BACKENDS_VULKAN_HAZARDS_H

#include "backends/vulkan/symbols.h"

/* The bytes of a tensor: [begin, end), of which, where stride is not 0, each stretch of `stride` bytes has `width` used ones. That
 * tells columns of one wide matrix apart. */
typedef struct qv_access {
    const qp_buffer *buffer;
    uint64_t begin, end, stride, width;
} qv_access;

enum { QV_ACCESSES = 96 };

/* What has been read and written since the last barrier. */
typedef struct qv_hazards {
    uint32_t reads, writes;
    qv_access read[QV_ACCESSES], written[QV_ACCESSES];
} qv_hazards;

/* After a barrier. */
void qv_hazards_clear(qv_hazards *hazards);

/* Adds the op, which writes its scratch memory and reads what is given (buffer NULL: there is none); 1 if a barrier must come before
 * it, which clears the rest. */
int qv_hazards_add(qv_hazards *hazards, const qp_op *op, const qp_range *scratch, const qp_range *given);

/* Does the op write bytes of the tensor? */
int qv_op_writes(const qp_op *op, const qp_tensor *t);

#endif
