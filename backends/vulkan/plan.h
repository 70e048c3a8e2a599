/* SPDX-License-Identifier: MIT
 * backends/vulkan/plan.h: a program before it is recorded: its dispatches in order, and the constants that they read from memory.
 * Ops write themselves down here; recording puts barriers where ranges meet and cuts where a submission would get too long. */
#ifndef QUERN_BACKENDS_VULKAN_PLAN_H
#define QUERN_BACKENDS_VULKAN_PLAN_H

#include "backends/vulkan/pipeline.h"
#include "backends/vulkan/view.h"
#include "kernels/vulkan/params.h"

enum { QV_PUSH_BYTES = 128, QV_MAX_GROUPS = 65535 }; /* both promised by every driver */

typedef struct qv_dispatch {
    qv_pipeline *pipeline;
    uint32_t op; /* its number in the program */
    uint32_t groups[2];
    uint32_t push_bytes;
    uint32_t push[QV_PUSH_BYTES / 4];
    uint32_t constant_place; /* where in push the address of its constants goes, in bytes; UINT32_MAX: nowhere */
    uint64_t constant_offset;
    uint64_t work;                   /* multiply-adds or so, at full rows */
    uint64_t scratch, scratch_bytes; /* of the program's scratch memory: what it may write */
    uint64_t given, given_bytes;     /* and what it only reads: left there by a dispatch before */
    int waits;                       /* for the dispatches of its own op before it */
    uint32_t bindings;               /* which of these are there, a bit each */
    qv_view views[QV_VIEWS];
} qv_dispatch;

/* The kernels that dispatches use, each once: what a plan is asked for that is to tell and not to run. */
typedef struct qv_uses {
    uint32_t count;
    struct {
        char shader[48];
        qv_constants constants;
    } list[8];
} qv_uses;

/* Activations that were converted for the products of one op lie in scratch memory, for those of the next ones that have the same
 * x. */
typedef struct qv_conversion {
    uint64_t bytes; /* 0: none */
    uint64_t scratch;
    const char *shader;
    qv_constants constants;
    struct qv_quantise_params params;
    qp_tensor x, live;
} qv_conversion;

typedef struct qv_plan {
    qp_device *device;
    qv_uses *uses; /* NULL; else nothing is compiled, and what would be is written here */
    qv_dispatch *list;
    uint32_t count, room;
    uint32_t op; /* the one that is being written down */
    char *constants;
    uint64_t constant_bytes, constant_room;
    struct {
        const void *data;
        uint64_t offset;
    } shared[8]; /* constants that several dispatches read */
    uint32_t shared_count;
    qp_range scratch;                       /* of the program */
    uint64_t scratch_wanted;                /* what the current op may ask for */
    uint64_t scratch_offset, scratch_bytes; /* what it has asked for, from scratch.offset on */
    uint64_t given_offset, given_bytes;
    qv_conversion converted;
    int waits; /* the next dispatch waits */
} qv_plan;

/* The dispatches from now on are of this op, number `op` of the program, which asks for at most so much scratch memory. */
qp_status qv_plan_begin(qv_plan *plan, uint32_t op, uint64_t scratch_bytes, qp_text *error);
/* No more dispatches of the current op, which is this one. */
void qv_plan_end(qv_plan *plan, const qp_op *op);

/* One dispatch of the current op. groups beyond QV_MAX_GROUPS are cut, and kernels loop over rows, tokens and elements, but for
 * rows of W: those who launch products ask for no more of them at once than qv_rows_at_once says. */
qp_status qv_plan_dispatch(qv_plan *plan, const char *shader, const qv_constants *constants, const void *push, size_t push_bytes,
                           uint64_t groups_x, uint64_t groups_y, uint64_t work, qp_text *error);

/* All kernels of the plan, before it is recorded. */
qp_status qv_plan_compile(const qv_plan *plan, qp_text *error);

/* The dispatch added last sees this at the binding. */
void qv_plan_view(qv_plan *plan, uint32_t binding, const qv_view *view);

/* Memory of that many bytes that the dispatch added last finds at the 64-bit address in its push constants at `place`. It may move
 * when the next is asked for. */
qp_status qv_plan_constants(qv_plan *plan, size_t place, uint64_t bytes, void **out, qp_text *error);

/* The same for constants that never change: they are there once for all that ask for the same address, and stay where they are.
 * place UINT32_MAX: only *offset, from the start of all constants, is wanted. */
qp_status qv_plan_shared(qv_plan *plan, size_t place, const void *data, uint64_t bytes, uint64_t *offset, qp_text *error);

/* Scratch memory is what the dispatches of one op hand to each other. An op asks for it by the function `scratch` of its variant,
 * as so many bytes; this is its address, a multiple of QV_ALIGNMENT. What it holds when the op begins is undefined: other ops and
 * other programs use the same memory, and recording puts barriers where they do. To be called before its first dispatch. */
uint64_t qv_plan_scratch(qv_plan *plan);

/* The rows of x in another form, as kernels of products take them: `shader`, whose name lives as long as the plan, makes these bytes
 * of params, and params->dst becomes their address, in scratch memory. The next dispatch waits for them. alone: the op wants no other
 * scratch memory; then ops after it with the same x and the same live rows convert nothing. */
qp_status qv_plan_convert(qv_plan *plan, const char *shader, const qv_constants *constants, const qp_tensor *x,
                          const qp_tensor *live, struct qv_quantise_params *params, uint64_t bytes, int alone,
                          const uint64_t groups[2], qp_text *error);

/* The dispatches of the current op that are added from now on read what those before wrote. Dispatches of one op run beside each
 * other unless this is said. */
void qv_plan_wait(qv_plan *plan);

void qv_plan_free(qv_plan *plan);

/* ---- recording (record.c) ---- */

typedef struct qv_recording {
    VkCommandPool pool;
    VkCommandBuffer *commands; /* in order, one submission each */
    uint32_t count;
    uint64_t ns; /* that they should take together, at full rows */
    qp_buffer *constants;
    VkBufferView *views;
    uint32_t view_count;
} qv_recording;

/* On failure what there is stays in *out, for qv_recording_free. ops are as in the program's description. */
qp_status qv_record(const qv_plan *plan, const qp_program_desc *desc, qv_recording *out, qp_text *error);
void qv_recording_free(qp_device *device, qv_recording *recording);

#endif
