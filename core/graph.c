/* SPDX-License-Identifier: MIT
 * Sizes, offsets and lifetimes only: what an op means is the plugin's business (op_query), except which source may share the
 * destination's memory, which decides whether a graph is well-formed at all. */
#include <quern/format.h>
#include <quern/graph.h>

#include "core/arena.h"
#include "core/op.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct value {
    qp_tensor tensor; /* temporaries: offset counts from the start of their root until plan() */
    uint32_t root;    /* index of the value whose memory this is; its own for bound values and temporaries */
    uint64_t span;    /* bytes from its first to past its last */
    int temp;
    uint32_t first, last; /* ops, of a temporary's root */
    uint32_t last_write;  /* newest op + 1 that wrote to this root, 0: none yet. The start of a chain through op_node.previous */
    uint64_t place;       /* of a temporary's root, from plan() */
} value;

typedef struct op_node {
    qp_op op; /* kind, tag, parameters; tensors are filled in by quern_graph_ops */
    quern_value dst, live, src[QP_OP_SOURCES];
    uint32_t previous_write; /* op + 1 that wrote to the same root before, 0: none */
} op_node;

struct quern_graph {
    value *values; /* [0] is "none" */
    op_node *ops;
    qp_op *resolved;
    uint32_t value_count, value_room, op_count, op_room;
    uint64_t alignment, arena_bytes;
    int planned;
    quern_error error; /* the first one; status QP_OK: none */
};

/* ---- tensors ------------------------------------------------------------------------------------------------------ */

/* The bytes from a tensor's first to past its last; false with the reason when it is no tensor. */
static int tensor_span(const qp_tensor *t, uint64_t *span, const char **reason)
{
    const quern_format_info *format = quern_format_get(t->format);
    *reason = "no format has that number";
    if (!format)
        return 0;
    *reason = "a dimension is smaller than 1";
    for (int i = 0; i < 4; i++)
        if (t->ne[i] < 1)
            return 0;
    *reason = "a stride is negative or not whole blocks";
    for (int i = 0; i < 4; i++)
        if (t->nb[i] < 0)
            return 0;
    if (t->nb[0] % format->block_bytes)
        return 0;
    *reason = "a row is not a whole number of blocks";
    if (t->ne[0] % format->block_elements)
        return 0;
    *reason = "its size overflows 64 bits";
    int64_t end = format->block_bytes;
    for (int i = 0; i < 4; i++) {
        int64_t steps = i ? t->ne[i] - 1 : t->ne[0] / format->block_elements - 1, step;
        if (__builtin_mul_overflow(steps, t->nb[i], &step) || __builtin_add_overflow(end, step, &end))
            return 0;
    }
    *span = (uint64_t)end;
    uint64_t past;
    return !__builtin_add_overflow(t->offset, *span, &past) && past <= INT64_MAX;
}

/* Contiguous strides for t's shape and format; false when they overflow. */
static int contiguous(qp_tensor *t)
{
    const quern_format_info *format = quern_format_get(t->format);
    if (!format)
        return 1; /* tensor_span tells */
    t->nb[0] = format->block_bytes;
    int64_t n = t->ne[0] / format->block_elements;
    for (int i = 1; i < 4; i++) {
        if (__builtin_mul_overflow(n, t->nb[i - 1], &t->nb[i]))
            return 0;
        n = t->ne[i];
    }
    return 1;
}

static int same_place(const qp_tensor *a, const qp_tensor *b)
{
    return a->offset == b->offset && a->format == b->format && !memcmp(a->ne, b->ne, sizeof a->ne) &&
           !memcmp(a->nb, b->nb, sizeof a->nb);
}

/* Bytes that one row (one index of dimension 2) of t spans, when its rows lie apart from each other; else 0. */
static uint64_t row_span(const qp_tensor *t)
{
    qp_tensor row = *t;
    row.ne[2] = 1;
    const char *reason;
    uint64_t span;
    return t->ne[3] == 1 && tensor_span(&row, &span, &reason) && span <= (uint64_t)t->nb[2] ? span : 0;
}

/* Do two tensors of one buffer share a byte? Exact for contiguous tensors and for column ranges of a matrix (the queries and the
 * keys in one projection's result); two tensors woven together in another way count as sharing. */
static int share_bytes(const value *a, const value *b)
{
    const qp_tensor *s = &a->tensor, *t = &b->tensor;
    if (s->offset >= t->offset + b->span || t->offset >= s->offset + a->span)
        return 0;
    uint64_t s_row = row_span(s), t_row = row_span(t), step = (uint64_t)s->nb[2];
    if (s->nb[2] != t->nb[2] || !s_row || !t_row)
        return 1;
    uint64_t distance = (t->offset % step + step - s->offset % step) % step; /* from a's column to b's, around the row */
    return distance < s_row || step - distance < t_row;
}

static int values_share(const quern_graph *graph, quern_value a, quern_value b)
{
    const value *x = &graph->values[a], *y = &graph->values[b];
    if (x->root == y->root)
        return share_bytes(x, y);
    return !x->temp && !y->temp && x->tensor.buffer && x->tensor.buffer == y->tensor.buffer && share_bytes(x, y);
}

/* ---- building ----------------------------------------------------------------------------------------------------- */

quern_status quern_graph_create(quern_graph **out, quern_error *error)
{
    if (!out)
        return quern_fail(error, QP_ERR_INVALID, "quern_graph_create: out is NULL");
    quern_graph *graph = calloc(1, sizeof *graph);
    value *values = calloc(64, sizeof *values);
    if (!graph || !values) {
        free(graph);
        free(values);
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory for a graph");
    }
    graph->values = values;
    graph->value_count = 1;
    graph->value_room = 64;
    *out = graph;
    return QP_OK;
}

void quern_graph_destroy(quern_graph *graph)
{
    if (!graph)
        return;
    free(graph->values);
    free(graph->ops);
    free(graph->resolved);
    free(graph);
}

/* Room for one more item in *array. */
static int grow(void *array, uint32_t count, uint32_t *room, size_t item)
{
    if (count < *room)
        return 1;
    uint32_t wanted = *room ? *room * 2 : 64;
    void *bigger = wanted > *room ? realloc(*(void **)array, wanted * item) : NULL;
    if (!bigger)
        return 0;
    *(void **)array = bigger;
    *room = wanted;
    return 1;
}

/* Keeps the first error: later ones follow from it. */
#define KEEP(graph, ...) ((void)((graph)->error.status == QP_OK && quern_fail(&(graph)->error, __VA_ARGS__)))

static quern_value add_value(quern_graph *graph, const value *v, const char *what)
{
    const char *reason;
    value copy = *v;
    const int64_t *ne = v->tensor.ne;
    if (!tensor_span(&v->tensor, &copy.span, &reason)) {
        KEEP(graph, QP_ERR_INVALID, "graph: value %u, a %s of format %u and shape {%lld, %lld, %lld, %lld}: %s", graph->value_count,
             what, v->tensor.format, (long long)ne[0], (long long)ne[1], (long long)ne[2], (long long)ne[3], reason);
        return 0;
    }
    if (graph->value_count == UINT32_MAX || !grow(&graph->values, graph->value_count, &graph->value_room, sizeof *graph->values)) {
        KEEP(graph, QP_ERR_OUT_OF_MEMORY, "graph: no memory for value %u", graph->value_count);
        return 0;
    }
    if (!copy.root)
        copy.root = graph->value_count;
    graph->planned = 0;
    graph->values[graph->value_count] = copy;
    return graph->value_count++;
}

quern_value quern_graph_bind(quern_graph *graph, const qp_tensor *tensor)
{
    if (!tensor) {
        KEEP(graph, QP_ERR_INVALID, "graph: value %u: bind of no tensor", graph->value_count);
        return 0;
    }
    value v = {.tensor = *tensor};
    if (tensor->layout != QP_LAYOUT_GGUF) {
        /* Packed by the plugin: only it knows the true extent, which is at least this. Strides mean nothing there. */
        if (!contiguous(&v.tensor))
            v.tensor.ne[0] = 0; /* reported by add_value */
        memcpy(v.tensor.nb, tensor->nb, sizeof v.tensor.nb);
    }
    return add_value(graph, &v, "bound tensor");
}

quern_value quern_graph_temp(quern_graph *graph, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2)
{
    value v = {.temp = 1, .tensor = {.format = format, .ne = {ne0, ne1, ne2, 1}}};
    if (ne0 > 0 && ne1 > 0 && ne2 > 0 && !contiguous(&v.tensor)) {
        KEEP(graph, QP_ERR_INVALID,
             "graph: value %u, a temporary of format %u and shape {%lld, %lld, %lld}: its size overflows 64 bits",
             graph->value_count, format, (long long)ne0, (long long)ne1, (long long)ne2);
        return 0;
    }
    return add_value(graph, &v, "temporary");
}

quern_value quern_graph_view(quern_graph *graph, quern_value base, uint64_t offset, const int64_t ne[4], const int64_t nb[4])
{
    if (!base || base >= graph->value_count || !ne) {
        KEEP(graph, QP_ERR_INVALID, "graph: value %u: a view of value %u, which does not exist", graph->value_count, base);
        return 0;
    }
    const value *b = &graph->values[base];
    value v = {.temp = b->temp, .root = b->root, .tensor = b->tensor};
    memcpy(v.tensor.ne, ne, sizeof v.tensor.ne);
    int valid = !__builtin_add_overflow(b->tensor.offset, offset, &v.tensor.offset);
    if (nb) {
        for (int i = 0; i < 4; i++)
            if (nb[i])
                v.tensor.nb[i] = nb[i];
    } else {
        valid = valid && contiguous(&v.tensor);
    }
    uint64_t span = 0;
    const char *reason = "its size overflows 64 bits";
    valid = valid && tensor_span(&v.tensor, &span, &reason);
    if (valid && (b->tensor.layout != QP_LAYOUT_GGUF)) {
        reason = "the base is packed by the plugin and has no rows to point into";
        valid = 0;
    } else if (valid && (offset > b->span || span > b->span - offset)) {
        reason = "it ends past its base";
        valid = 0;
    }
    if (!valid) {
        KEEP(graph, QP_ERR_INVALID, "graph: value %u, a view of value %u at byte %llu of shape {%lld, %lld, %lld, %lld}: %s",
             graph->value_count, base, (unsigned long long)offset, (long long)ne[0], (long long)ne[1], (long long)ne[2],
             (long long)ne[3], reason);
        return 0;
    }
    return add_value(graph, &v, "view");
}

/* ---- ops ---------------------------------------------------------------------------------------------------------- */

/* Has an op written bytes that `id` sees? Bound values hold what the caller put there. */
static int is_written(const quern_graph *graph, quern_value id)
{
    const value *v = &graph->values[id];
    if (!v->temp)
        return 1;
    for (uint32_t op = graph->values[v->root].last_write; op; op = graph->ops[op - 1].previous_write)
        if (values_share(graph, graph->ops[op - 1].dst, id))
            return 1;
    return 0;
}

static int check_source(quern_graph *graph, const op_node *node, uint32_t slot, quern_value id)
{
    char name[32];
    if (slot < QP_OP_SOURCES)
        snprintf(name, sizeof name, "source %u", slot);
    else
        snprintf(name, sizeof name, "the live row count");
    const char *kind = quern_op_name(node->op.kind);
    if (id >= graph->value_count) {
        KEEP(graph, QP_ERR_INVALID, "graph: op %u (%s): %s is value %u, which does not exist", graph->op_count, kind, name, id);
        return 0;
    }
    if (!is_written(graph, id)) {
        KEEP(graph, QP_ERR_INVALID, "graph: op %u (%s): %s is value %u, a temporary that no op before it writes", graph->op_count,
             kind, name, id);
        return 0;
    }
    const qp_tensor *dst = &graph->values[node->dst].tensor;
    if (values_share(graph, node->dst, id) &&
        !(slot < QP_OP_SOURCES && qi_op_in_place(node->op.kind, slot) && same_place(dst, &graph->values[id].tensor))) {
        KEEP(graph, QP_ERR_INVALID, "graph: op %u (%s): its result, value %u, overlaps %s, value %u%s", graph->op_count, kind,
             node->dst, name, id,
             slot < QP_OP_SOURCES && qi_op_in_place(node->op.kind, slot) ? " (only the very same value may be written in place)"
                                                                         : " (this op cannot write it in place)");
        return 0;
    }
    return 1;
}

/* A source that the op changes too has its memory to itself. (check_source has compared it with dst.) */
static int check_state(quern_graph *graph, const op_node *node, uint32_t slot)
{
    if (!qi_op_writes(node->op.kind, slot))
        return 1;
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++)
        if (i != slot && node->src[i] && node->src[i] < graph->value_count && values_share(graph, node->src[slot], node->src[i])) {
            KEEP(graph, QP_ERR_INVALID,
                 "graph: op %u (%s): source %u, value %u, is written by the op and overlaps source %u, value %u", graph->op_count,
                 quern_op_name(node->op.kind), slot, node->src[slot], i, node->src[i]);
            return 0;
        }
    return 1;
}

static int check_op(quern_graph *graph, const op_node *node)
{
    if (!node->dst || node->dst >= graph->value_count) {
        KEEP(graph, QP_ERR_INVALID, "graph: op %u (%s): its result is value %u, which does not exist", graph->op_count,
             quern_op_name(node->op.kind), node->dst);
        return 0;
    }
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++)
        if (node->src[i] && (!check_source(graph, node, i, node->src[i]) || !check_state(graph, node, i)))
            return 0;
    if (!node->live)
        return 1;
    const qp_tensor *live = &graph->values[node->live < graph->value_count ? node->live : 0].tensor;
    if (node->live < graph->value_count && live->format != QP_FORMAT_I32) {
        KEEP(graph, QP_ERR_INVALID, "graph: op %u (%s): the live row count, value %u, is not I32", graph->op_count,
             quern_op_name(node->op.kind), node->live);
        return 0;
    }
    return check_source(graph, node, QP_OP_SOURCES, node->live);
}

void quern_graph_op(quern_graph *graph, qp_op_kind kind, const void *params, size_t params_size, quern_value dst,
                    const quern_value *sources, uint32_t source_count, quern_value live, uint32_t tag)
{
    if (graph->error.status != QP_OK)
        return;
    op_node node = {.op = {.struct_size = sizeof(qp_op), .kind = kind, .version = 1, .tag = tag}, .dst = dst, .live = live};
    if (source_count > QP_OP_SOURCES || (source_count && !sources) || params_size > sizeof node.op.p || kind == QP_OP_NONE) {
        KEEP(graph, QP_ERR_INVALID,
             "graph: op %u (%s): %u sources and %zu bytes of parameters; at most %d and %zu fit, and it needs a kind",
             graph->op_count, quern_op_name(kind), source_count, params_size, QP_OP_SOURCES, sizeof node.op.p);
        return;
    }
    if (params)
        memcpy(&node.op.p, params, params_size);
    if (source_count)
        memcpy(node.src, sources, source_count * sizeof *sources);
    if (!check_op(graph, &node))
        return;
    if (graph->op_count == UINT32_MAX - 1 || !grow(&graph->ops, graph->op_count, &graph->op_room, sizeof *graph->ops)) {
        KEEP(graph, QP_ERR_OUT_OF_MEMORY, "graph: no memory for op %u", graph->op_count);
        return;
    }
    uint32_t now = graph->op_count++;
    value *root = &graph->values[graph->values[dst].root];
    if (!root->last_write)
        root->first = now;
    root->last = now;
    node.previous_write = root->last_write;
    root->last_write = now + 1;
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++)
        graph->values[graph->values[node.src[i]].root].last = now;
    graph->values[graph->values[live].root].last = now;
    graph->ops[now] = node;
    graph->planned = 0;
}

/* ---- placing and resolving ---------------------------------------------------------------------------------------- */

quern_status quern_graph_plan(quern_graph *graph, uint64_t alignment, uint64_t *arena_bytes, quern_error *error)
{
    if (graph->error.status != QP_OK) {
        if (error)
            *error = graph->error;
        return graph->error.status;
    }
    if (!alignment || alignment & (alignment - 1) || alignment > 1u << 30)
        return quern_fail(error, QP_ERR_INVALID, "graph: an alignment of %llu is not a power of two up to 2^30",
                          (unsigned long long)alignment);
    arena_block *blocks = calloc(graph->value_count, sizeof *blocks);
    if (!blocks)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "graph: no memory to place %u values", graph->value_count);
    for (uint32_t i = 1; i < graph->value_count; i++) {
        const value *v = &graph->values[i];
        if (v->temp && v->root == i && v->last_write)
            blocks[i] = (arena_block){.size = v->span, .first = v->first, .last = v->last};
    }
    uint64_t total = 0;
    graph->planned = 0;
    int failed = arena_place(blocks, graph->value_count, alignment, &total);
    if (!failed && total <= INT64_MAX) {
        for (uint32_t i = 1; i < graph->value_count; i++)
            graph->values[i].place = blocks[i].offset;
        graph->alignment = alignment;
        graph->arena_bytes = total;
        graph->planned = 1;
        if (arena_bytes)
            *arena_bytes = total;
    }
    free(blocks);
    if (!graph->planned)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY,
                          "graph: %u values cannot be placed: their sizes overflow, or there is no memory for the work",
                          graph->value_count);
    return QP_OK;
}

static qp_tensor resolve(const quern_graph *graph, quern_value id, const qp_range *arena)
{
    qp_tensor t = graph->values[id].tensor;
    if (id && graph->values[id].temp && graph->planned) {
        t.buffer = arena->buffer;
        t.offset += arena->offset + graph->values[graph->values[id].root].place;
    }
    return t;
}

quern_status quern_graph_tensor(const quern_graph *graph, quern_value id, qp_tensor *out, quern_error *error)
{
    if (!id || id >= graph->value_count)
        return quern_fail(error, QP_ERR_NOT_FOUND, "graph: value %u does not exist", id);
    const qp_range none = {0};
    *out = resolve(graph, id, &none);
    return QP_OK;
}

quern_status quern_graph_ops(quern_graph *graph, quern_buffer *arena, uint64_t arena_offset, const qp_op **ops, uint32_t *count,
                             quern_error *error)
{
    if (!graph->planned)
        return quern_fail(error, QP_ERR_INVALID, "graph: quern_graph_plan has not succeeded since the last change");
    qp_range range = {.offset = arena_offset};
    if (arena) {
        range = quern_buffer_range(arena, arena_offset, graph->arena_bytes);
        uint64_t size = quern_buffer_size(arena);
        if (arena_offset > size || graph->arena_bytes > size - arena_offset || arena_offset & (graph->alignment - 1))
            return quern_fail(error, QP_ERR_INVALID,
                              "graph: the arena needs %llu bytes at a multiple of %llu; the buffer has %llu and the offset is %llu",
                              (unsigned long long)graph->arena_bytes, (unsigned long long)graph->alignment,
                              (unsigned long long)size, (unsigned long long)arena_offset);
    }
    qp_op *resolved = realloc(graph->resolved, (graph->op_count + (size_t)1) * sizeof *resolved);
    if (!resolved)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "graph: no memory for %u ops", graph->op_count);
    graph->resolved = resolved;
    for (uint32_t i = 0; i < graph->op_count; i++) {
        const op_node *node = &graph->ops[i];
        resolved[i] = node->op;
        resolved[i].dst = resolve(graph, node->dst, &range);
        resolved[i].live = resolve(graph, node->live, &range);
        for (uint32_t s = 0; s < QP_OP_SOURCES; s++)
            resolved[i].src[s] = resolve(graph, node->src[s], &range);
    }
    *ops = resolved;
    *count = graph->op_count;
    return QP_OK;
}
