/* SPDX-License-Identifier: MIT */
#include "core/op.h"

#include <quern/device.h>

typedef struct op_facts {
    const char *name;
    uint32_t in_place, written; /* sets of sources */
} op_facts;

static const op_facts facts[QP_OP_LIMIT] = {[QP_OP_NONE] = {"none", 0, 0},
#define FACTS(NAME, name, number, in_place, written) [number] = {#name, in_place, written},
                                            QP_OP_LIST(FACTS)
#undef FACTS
};

static const op_facts *find(qp_op_kind kind)
{
    return kind < QP_OP_LIMIT && facts[kind].name ? &facts[kind] : NULL;
}

const char *quern_op_name(qp_op_kind kind)
{
    const op_facts *f = find(kind);
    return f ? f->name : "unknown";
}

int qi_op_in_place(qp_op_kind kind, uint32_t source)
{
    const op_facts *f = find(kind);
    return !f || (f->in_place >> source & 1);
}

int qi_op_writes(qp_op_kind kind, uint32_t source)
{
    const op_facts *f = find(kind);
    return f && (f->written >> source & 1);
}
