/* SPDX-License-Identifier: MIT */
#include "engine/program.h"

#include <string.h>

void program_init(program *p, uint32_t rows, uint32_t parts, uint32_t session_flags)
{
    const uint64_t size = sizeof(int32_t);
    *p = (program){
        .rows = rows, .select = !(session_flags & QUERN_SESSION_ALL_LOGITS), .floats = (session_flags & QUERN_SESSION_FLOAT) != 0};
    p->layout = (step_layout){.live = 0,
                              .selected_live = size,
                              .selected = 2 * size,
                              .tokens = 4 * size,
                              .positions = (4 + (uint64_t)parts * rows) * size,
                              .bytes = (4 + (1 + (uint64_t)parts) * rows) * size};
}

/* Of temporaries: the heap's, at least a cache line. */
static uint64_t tensor_alignment(const quern_model *model)
{
    const qp_device_info *info = quern_device_info(model->device);
    uint32_t alignment = info->heaps[info->weight_heap].alignment;
    return alignment > 64 ? alignment : 64;
}

/* ---- the graph ---- */

static qp_tensor tensor_at(const region *memory, uint64_t offset, qp_format format, int64_t n, int64_t rows)
{
    int64_t size = 4; /* of F32 and I32, the only formats here */
    qp_tensor t = {.format = format, .ne = {n, 1, rows, 1}, .nb = {size, n * size, n * size, n * rows * size}};
    if (memory->buffer) {
        qp_range range = quern_buffer_range(memory->buffer, memory->offset, memory->bytes);
        t.buffer = range.buffer;
        t.offset = range.offset + offset;
    }
    return t;
}

static quern_value bind_ids(quern_graph *graph, const region *memory, uint64_t offset, int64_t n)
{
    qp_tensor t = tensor_at(memory, offset, QP_FORMAT_I32, n, 1);
    return quern_graph_bind(graph, &t);
}

/* One set for the whole context of a session: a cached key never has to be turned again. */
static const weight *rope_factors(const quern_model *model, const program_memory *memory)
{
    const model_weights *w = &model->weights;
    int beyond = memory->cells > model->hp.rope[0].original_context;
    return beyond && w->long_rope_factors ? w->long_rope_factors : w->rope_factors;
}

static void write_graph(const program *p, quern_model *model, const program_memory *memory, quern_graph *graph)
{
    builder b = {.graph = graph,
                 .hp = &model->hp,
                 .weights = &model->weights,
                 .k_cache = memory->k_cache,
                 .v_cache = memory->v_cache,
                 .conv_state = memory->conv_state,
                 .rule_state = memory->rule_state,
                 .rows = p->rows,
                 .matmul_flags = p->floats ? QP_MATMUL_FLOAT : 0};
    const step_layout *layout = &p->layout;
    uint32_t results = p->select ? 1 : p->rows;
    for (uint32_t i = 0; i < model->weights.embedding->parts; i++)
        b.tokens[i] = bind_ids(graph, &memory->step, layout->tokens + (uint64_t)i * p->rows * sizeof(int32_t), p->rows);
    b.positions = bind_ids(graph, &memory->step, layout->positions, p->rows);
    if (p->rows > 1)
        b.live = bind_ids(graph, &memory->step, layout->live, 1);
    if (p->select && p->rows > 1) {
        b.selected = bind_ids(graph, &memory->step, layout->selected, 1);
        b.selected_rows = 1;
        b.selected_live = bind_ids(graph, &memory->step, layout->selected_live, 1);
    }
    b.rope_factors = bind_weight(&b, rope_factors(model, memory));
    qp_tensor logits = tensor_at(&memory->logits, 0, QP_FORMAT_F32, model->hp.vocabulary, results);
    b.logits = quern_graph_bind(graph, &logits);
    b.sampled = bind_ids(graph, &memory->sampled, 0, results);
    model->arch->build(&b);
}

quern_status program_list_ops(program *p, quern_model *model, const program_memory *memory, quern_graph **graph, const qp_op **ops,
                              quern_error *error)
{
    uint64_t arena_bytes = 0;
    quern_status status = quern_graph_create(graph, error);
    if (status != QP_OK)
        return status;
    write_graph(p, model, memory, *graph);
    status = quern_graph_plan(*graph, tensor_alignment(model), &arena_bytes, error);
    if (status != QP_OK)
        return status;
    p->arena_bytes = arena_bytes;
    return quern_graph_ops(*graph, memory->arena.buffer, memory->arena.offset, ops, &p->op_count, error);
}

/* Nothing at all while it is not allocated. */
static qp_range range_of(const region *memory, uint64_t bytes)
{
    return memory->buffer ? quern_buffer_range(memory->buffer, memory->offset, bytes) : (qp_range){0};
}

static qp_program_desc describe(const program *p, const program_memory *memory, const qp_op *ops)
{
    return (qp_program_desc){.struct_size = sizeof(qp_program_desc),
                             .op_stride = sizeof(qp_op),
                             .ops = ops,
                             .op_count = p->op_count,
                             .step = range_of(&memory->step, p->layout.bytes),
                             .scratch = range_of(&memory->scratch, memory->scratch.bytes),
                             .transient = range_of(&memory->arena, p->arena_bytes)};
}

quern_status program_measure(program *p, quern_model *model, const program_memory *memory, quern_error *error)
{
    quern_graph *graph = NULL;
    const qp_op *ops;
    quern_status status = program_list_ops(p, model, memory, &graph, &ops, error);
    if (status == QP_OK) {
        qp_program_desc desc = describe(p, memory, ops);
        qp_program_memory need = {.struct_size = sizeof need};
        status = quern_program_measure(model->device, &desc, &need, error);
        p->scratch_bytes = need.scratch_bytes;
        p->scratch_alignment = need.scratch_alignment;
        p->device_bytes = need.device_bytes;
    }
    quern_graph_destroy(graph);
    return status;
}

/* Of quantised weights, the only ones where a device has the choice: it has made it if the same kernel runs when it is told. */
static int computes_in_floats(quern_device *device, const qp_op *op)
{
    qp_op told = *op;
    qp_op_info free_choice = {.struct_size = sizeof free_choice}, floats = {.struct_size = sizeof floats};
    told.p.matmul.flags |= QP_MATMUL_FLOAT;
    return quern_op_query(device, op, &free_choice, NULL) == QP_OK && quern_op_query(device, &told, &floats, NULL) == QP_OK &&
           !strcmp(free_choice.kernel, floats.kernel);
}

/* By the first such product: kernels for the formats of one model are alike. */
static int takes_floats(const program *p, quern_model *model, const qp_op *ops)
{
    for (uint32_t i = 0; i < p->op_count; i++) {
        qp_format format = ops[i].src[QP_MATMUL_W].format;
        if (ops[i].kind == QP_OP_MATMUL && format != QP_FORMAT_F32 && format != QP_FORMAT_F16 && format != QP_FORMAT_BF16)
            return p->floats || computes_in_floats(model->device, &ops[i]);
    }
    return 0;
}

quern_status program_make(program *p, quern_model *model, const program_memory *memory, quern_error *error)
{
    quern_graph *graph = NULL;
    const qp_op *ops;
    quern_status status = program_list_ops(p, model, memory, &graph, &ops, error);
    if (status == QP_OK) {
        qp_program_desc desc = describe(p, memory, ops);
        p->floats_anyway = takes_floats(p, model, ops); /* before: devices may keep open what answers, until a program is made */
        status = quern_program_create(model->device, &desc, &p->made, error);
    }
    quern_graph_destroy(graph);
    return status;
}

void program_destroy(program *p)
{
    if (!p->made)
        return;
    quern_program_destroy(p->made);
    p->made = NULL;
}
