/* SPDX-License-Identifier: MIT
 * Where and how each op of a model would run: the session's own programs, asked of the device op by op. */
#include "engine/options.h"
#include "engine/session.h"

#include <stdlib.h>

typedef struct explainer {
    quern_model *model;
    program_memory memory;
    quern_explain_fn each;
    void *ctx;
} explainer;

static void explain_op(const explainer *e, const program *p, uint32_t phase, uint32_t index, const qp_op *op)
{
    quern_error why = {0};
    qp_op_info info = {.struct_size = sizeof info};
    const qp_tensor *subject = &op->src[op->kind == QP_OP_ATTENTION ? QP_ATTENTION_K : 0];
    if (op->kind == QP_OP_KV_APPEND)
        subject = &op->dst;
    quern_explained_op told = {.struct_size = sizeof told, .phase = phase, .rows = p->rows, .index = index};
    told.status = quern_op_query(e->model->device, op, &info, &why);
    told.op = quern_op_name(op->kind);
    told.part = tag_words(op->tag, &told.layer);
    told.format = subject->format;
    told.layout = subject->layout;
    memcpy(told.ne, subject->ne, sizeof told.ne);
    told.kernel = told.status == QP_OK ? info.kernel : "";
    told.words = told.status == QP_OK ? info.note : why.text;
    if (told.status == QP_OK) {
        told.bytes_moved = info.bytes_moved;
        told.operations = info.operations;
        told.scratch_bytes = info.scratch_bytes;
    }
    e->each(e->ctx, &told);
}

static quern_status explain_program(const explainer *e, uint32_t phase, uint32_t rows, uint32_t flags, quern_error *error)
{
    program p;
    quern_graph *graph = NULL;
    const qp_op *ops;
    program_init(&p, rows, e->model->weights.embedding->parts, flags);
    quern_status status = program_list_ops(&p, e->model, &e->memory, &graph, &ops, error);
    for (uint32_t i = 0; status == QP_OK && i < p.op_count; i++)
        explain_op(e, &p, phase, i, &ops[i]);
    quern_graph_destroy(graph);
    return status;
}

static quern_status explain_session(explainer *e, const quern_session_options *options, quern_error *error)
{
    kv_cache kv;
    recurrent_state state = {0};
    uint64_t bytes, state_bytes;
    session_wishes wishes;
    quern_status status = session_wishes_read(&wishes, options, error);
    if (status != QP_OK)
        return status;
    uint32_t context = wishes.context ? wishes.context : model_default_context(e->model);
    status = kv_cache_init(&kv, &e->model->hp, wishes.k, wishes.v, error);
    if (status == QP_OK)
        status = kv_cache_shape(&kv, &e->model->hp, context, &bytes, error);
    if (status == QP_OK)
        status = recurrent_init(&state, &e->model->hp, &state_bytes, error);
    e->memory =
        (program_memory){.cells = context, .k_cache = kv.k, .v_cache = kv.v, .conv_state = state.conv, .rule_state = state.rule};
    if (status == QP_OK)
        status = explain_program(e, QUERN_PHASE_DECODE, 1, options->flags, error);
    if (status == QP_OK && wishes.chunk > 1)
        status = explain_program(e, QUERN_PHASE_PREFILL, wishes.chunk < context ? wishes.chunk : context, options->flags, error);
    kv_cache_free(&kv);
    recurrent_free(&state);
    return status;
}

quern_status quern_explain(quern_device *device, const quern_gguf *gguf, const quern_session_options *options,
                           quern_explain_fn each, void *ctx, quern_error *error)
{
    if (!device || !gguf || !each)
        return quern_fail(error, QP_ERR_INVALID, "quern_explain: device, gguf and each must not be NULL");
    quern_session_options known;
    options_copy(&known, sizeof known, options);
    quern_model *model = calloc(1, sizeof *model);
    if (!model)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory for a model");
    model->device = device;
    model->gguf = gguf;
    explainer e = {.model = model, .each = each, .ctx = ctx};
    quern_status status = model_prepare(model, 1, error);
    if (status == QP_OK)
        status = explain_session(&e, &known, error);
    quern_model_destroy(model);
    return status;
}
