/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/hazards.h"

#include "backends/vulkan/ops.h"
#include "kernels/common/ops.h"

static qv_access access_of(const qp_tensor *t)
{
    qv_access a = {.buffer = t->buffer, .begin = t->offset, .end = t->offset + qv_tensor_bytes(t)};
    if (t->layout == QP_LAYOUT_GGUF && t->ne[2] > 1 && t->ne[3] == 1 && t->nb[2] > 0) {
        qp_tensor row = *t;
        row.ne[2] = 1;
        uint64_t width = qv_tensor_bytes(&row);
        if (width <= (uint64_t)t->nb[2]) {
            a.stride = (uint64_t)t->nb[2];
            a.width = width;
        }
    }
    return a;
}

static int meet(const qv_access *a, const qv_access *b)
{
    if (a->buffer != b->buffer || a->begin >= b->end || b->begin >= a->end)
        return 0;
    if (!a->stride || a->stride != b->stride)
        return 1;
    /* both are columns of one matrix, if neither goes around its edge */
    uint64_t origin = a->begin < b->begin ? a->begin : b->begin;
    origin -= origin % a->stride;
    uint64_t x = (a->begin - origin) % a->stride, y = (b->begin - origin) % a->stride;
    if (x + a->width > a->stride || y + b->width > b->stride)
        return 1;
    return x < y + b->width && y < x + a->width;
}

static int meets_any(const qv_access *a, const qv_access *list, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (meet(a, &list[i]))
            return 1;
    return 0;
}

int qv_op_writes(const qp_op *op, const qp_tensor *t)
{
    uint32_t changed = qk_op_written(op->kind);
    qv_access it = access_of(t), dst = access_of(&op->dst);
    int writes = meet(&it, &dst);
    for (int i = 0; i < QP_OP_SOURCES && !writes; i++)
        if (changed >> i & 1 && qv_present(&op->src[i])) {
            qv_access a = access_of(&op->src[i]);
            writes = meet(&it, &a);
        }
    return writes;
}

void qv_hazards_clear(qv_hazards *h)
{
    h->reads = h->writes = 0;
}

static qv_access access_of_range(const qp_range *r)
{
    return (qv_access){.buffer = r->buffer, .begin = r->offset, .end = r->offset + r->size};
}

int qv_hazards_add(qv_hazards *h, const qp_op *op, const qp_range *scratch, const qp_range *given)
{
    qv_access reads[QP_OP_SOURCES + 2], writes[QP_OP_SOURCES + 2];
    uint32_t read_count = 0, write_count = 0, changed = qk_op_written(op->kind);
    writes[write_count++] = access_of(&op->dst);
    if (scratch->buffer)
        writes[write_count++] = access_of_range(scratch);
    if (given->buffer)
        reads[read_count++] = access_of_range(given);
    if (qv_present(&op->live))
        reads[read_count++] = access_of(&op->live);
    for (int i = 0; i < QP_OP_SOURCES; i++) {
        if (!qv_present(&op->src[i]))
            continue;
        qv_access a = access_of(&op->src[i]);
        if (changed >> i & 1)
            writes[write_count++] = a;
        else
            reads[read_count++] = a;
    }
    int barrier = h->reads + read_count > QV_ACCESSES || h->writes + write_count > QV_ACCESSES;
    for (uint32_t i = 0; i < read_count && !barrier; i++)
        barrier = meets_any(&reads[i], h->written, h->writes);
    for (uint32_t i = 0; i < write_count && !barrier; i++)
        barrier = meets_any(&writes[i], h->written, h->writes) || meets_any(&writes[i], h->read, h->reads);
    if (barrier)
        qv_hazards_clear(h);
    for (uint32_t i = 0; i < read_count; i++)
        h->read[h->reads++] = reads[i];
    for (uint32_t i = 0; i < write_count; i++)
        h->written[h->writes++] = writes[i];
    return barrier;
}
