/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/plan.h"

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/hazards.h"
#include "backends/vulkan/ops.h"
#include "backends/vulkan/status.h"

#include <stdio.h>
#include <string.h>

/* Doubles an array that is full. */
static qp_status grow(void **data, uint64_t used_bytes, uint64_t room_bytes, qp_text *error)
{
    void *larger = qv_alloc(room_bytes);
    if (!larger)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory to write a program down");
    if (used_bytes)
        memcpy(larger, *data, used_bytes);
    qv_free(*data);
    *data = larger;
    return QP_OK;
}

/* The first eight are enough to tell one way to run an op from another. */
static void note_use(qv_uses *uses, const char *shader, const qv_constants *constants)
{
    uint32_t i = 0;
    while (i < uses->count &&
           (strcmp(uses->list[i].shader, shader) != 0 || !qv_constants_same(&uses->list[i].constants, constants)))
        i++;
    if (i < uses->count || i == sizeof uses->list / sizeof *uses->list)
        return;
    snprintf(uses->list[i].shader, sizeof uses->list[i].shader, "%s", shader);
    uses->list[i].constants = *constants;
    uses->count++;
}

qp_status qv_plan_begin(qv_plan *plan, uint32_t op, uint64_t scratch_bytes, qp_text *error)
{
    if (scratch_bytes > plan->scratch.size)
        return qv_fail(error, QP_ERR_INVALID, "it needs %llu bytes of scratch memory; the program has %llu",
                       (unsigned long long)scratch_bytes, (unsigned long long)plan->scratch.size);
    plan->op = op;
    plan->waits = 0;
    plan->scratch_wanted = scratch_bytes;
    plan->scratch_offset += plan->scratch_bytes; /* behind the last one's part */
    plan->scratch_bytes = plan->given_bytes = 0;
    return QP_OK;
}

void qv_plan_end(qv_plan *plan, const qp_op *op)
{
    qv_conversion *c = &plan->converted;
    if (c->bytes && (qv_op_writes(op, &c->x) || (qv_present(&c->live) && qv_op_writes(op, &c->live))))
        c->bytes = 0;
}

qp_status qv_plan_dispatch(qv_plan *plan, const char *shader, const qv_constants *constants, const void *push, size_t push_bytes,
                           uint64_t groups_x, uint64_t groups_y, uint64_t work, qp_text *error)
{
    qv_dispatch d = {.op = plan->op,
                     .push_bytes = (uint32_t)push_bytes,
                     .constant_place = UINT32_MAX,
                     .work = work,
                     .scratch = plan->scratch_offset,
                     .scratch_bytes = plan->given_bytes ? 0 : plan->scratch_bytes,
                     .given = plan->given_offset,
                     .given_bytes = plan->given_bytes,
                     .waits = plan->waits};
    qp_status status = QP_OK;
    if (plan->uses)
        note_use(plan->uses, shader, constants);
    else
        status = qv_pipeline_find(plan->device, shader, constants, &d.pipeline, error);
    if (!status && plan->count == plan->room) {
        uint32_t room = plan->room ? 2 * plan->room : 64;
        void *list = plan->list;
        status = grow(&list, plan->count * sizeof d, room * sizeof d, error);
        if (!status) {
            plan->list = list;
            plan->room = room;
        }
    }
    if (status)
        return status;
    d.groups[0] = groups_x < QV_MAX_GROUPS ? (uint32_t)groups_x : QV_MAX_GROUPS;
    d.groups[1] = groups_y < QV_MAX_GROUPS ? (uint32_t)groups_y : QV_MAX_GROUPS;
    memcpy(d.push, push, push_bytes);
    plan->list[plan->count++] = d;
    plan->waits = 0;
    return QP_OK;
}

qp_status qv_plan_compile(const qv_plan *plan, qp_text *error)
{
    qv_pipeline **list = qv_alloc(plan->count * sizeof *list + 1);
    if (!list)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory to compile kernels");
    for (uint32_t i = 0; i < plan->count; i++)
        list[i] = plan->list[i].pipeline;
    qp_status status = qv_pipelines_compile(plan->device, list, plan->count, error);
    qv_free(list);
    return status;
}

void qv_plan_view(qv_plan *plan, uint32_t binding, const qv_view *view)
{
    qv_dispatch *last = &plan->list[plan->count - 1];
    last->bindings |= 1u << binding;
    last->views[binding] = *view;
}

/* Room for so many bytes more, zeroed; their offset. */
static qp_status add_constants(qv_plan *plan, uint64_t bytes, uint64_t *offset, qp_text *error)
{
    uint64_t padded = (bytes + 15) / 16 * 16;
    if (plan->constant_bytes + padded > plan->constant_room) {
        uint64_t room = 2 * (plan->constant_bytes + padded);
        void *constants = plan->constants;
        qp_status status = grow(&constants, plan->constant_bytes, room, error);
        if (status)
            return status;
        plan->constants = constants;
        plan->constant_room = room;
    }
    *offset = plan->constant_bytes;
    memset(plan->constants + plan->constant_bytes, 0, padded);
    plan->constant_bytes += padded;
    return QP_OK;
}

/* The dispatch added last finds these at `place`. */
static void attach(qv_plan *plan, size_t place, uint64_t offset)
{
    qv_dispatch *last = &plan->list[plan->count - 1];
    last->constant_place = (uint32_t)place;
    last->constant_offset = offset;
}

qp_status qv_plan_constants(qv_plan *plan, size_t place, uint64_t bytes, void **out, qp_text *error)
{
    uint64_t offset;
    qp_status status = add_constants(plan, bytes, &offset, error);
    if (status)
        return status;
    attach(plan, place, offset);
    *out = plan->constants + offset;
    return QP_OK;
}

qp_status qv_plan_shared(qv_plan *plan, size_t place, const void *data, uint64_t bytes, uint64_t *offset, qp_text *error)
{
    qp_status status = QP_OK;
    uint32_t i = 0, room = sizeof plan->shared / sizeof *plan->shared;
    while (i < plan->shared_count && plan->shared[i].data != data)
        i++;
    if (i < plan->shared_count) {
        *offset = plan->shared[i].offset;
    } else {
        status = add_constants(plan, bytes, offset, error);
        if (status)
            return status;
        memcpy(plan->constants + *offset, data, bytes);
        if (i < room) {
            plan->shared[i].data = data;
            plan->shared[i].offset = *offset;
            plan->shared_count++;
        }
    }
    if (place != UINT32_MAX)
        attach(plan, place, *offset);
    return status;
}

/* Where nothing has an address, a plan is only to tell. */
static uint64_t scratch_address(const qv_plan *plan, uint64_t offset)
{
    return (plan->scratch.buffer ? plan->scratch.buffer->address : 0) + plan->scratch.offset + offset;
}

uint64_t qv_plan_scratch(qv_plan *plan)
{
    const qv_conversion *c = &plan->converted;
    if (!plan->scratch_bytes) {
        plan->scratch_bytes = plan->scratch_wanted;
        if (plan->scratch_offset + plan->scratch_bytes > plan->scratch.size)
            plan->scratch_offset = 0;
        if (plan->scratch_offset < c->scratch + c->bytes && c->scratch < plan->scratch_offset + plan->scratch_bytes)
            plan->converted.bytes = 0;
    }
    return scratch_address(plan, plan->scratch_offset);
}

static int is_converted(const qv_plan *plan, const char *shader, const qv_constants *constants, const qp_tensor *x,
                        const struct qv_quantise_params *params)
{
    const qv_conversion *c = &plan->converted;
    struct qv_quantise_params same = *params;
    same.dst = c->params.dst;
    return c->bytes && c->x.buffer == x->buffer && !strcmp(c->shader, shader) &&
           qv_constants_same(&c->constants, constants) && !memcmp(&c->params, &same, sizeof same);
}

/* What follows in this op only reads it. */
static void give_conversion(qv_plan *plan)
{
    plan->given_offset = plan->converted.scratch;
    plan->given_bytes = plan->converted.bytes;
}

qp_status qv_plan_convert(qv_plan *plan, const char *shader, const qv_constants *constants, const qp_tensor *x,
                          const qp_tensor *live, struct qv_quantise_params *params, uint64_t bytes, int alone,
                          const uint64_t groups[2], qp_text *error)
{
    if (alone && is_converted(plan, shader, constants, x, params)) {
        params->dst = plan->converted.params.dst;
        give_conversion(plan);
        return QP_OK;
    }
    params->dst = qv_plan_scratch(plan);
    qp_status status = qv_plan_dispatch(plan, shader, constants, params, sizeof *params, groups[0], groups[1],
                                        (uint64_t)x->ne[0] * (uint64_t)x->ne[1] * (uint64_t)x->ne[2], error);
    qv_plan_wait(plan);
    if (!alone)
        return status;
    plan->converted = (qv_conversion){.bytes = bytes,
                                      .scratch = plan->scratch_offset,
                                      .shader = shader,
                                      .constants = *constants,
                                      .params = *params,
                                      .x = *x,
                                      .live = *live};
    give_conversion(plan);
    return status;
}

void qv_plan_wait(qv_plan *plan)
{
    plan->waits = 1;
}

void qv_plan_free(qv_plan *plan)
{
    qv_free(plan->list);
    qv_free(plan->constants);
}
