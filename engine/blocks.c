/* SPDX-License-Identifier: MIT */
#include "engine/block_ops.h"

#include <math.h>

const char *tag_words(uint32_t tag, int32_t *layer)
{
    static const char *const words[TAG_LAYER] = {
#define TAG_WORDS(NAME, text) [TAG_##NAME] = (text),
        TAG_LIST(TAG_WORDS)
#undef TAG_WORDS
    };
    *layer = (int32_t)(tag / TAG_LAYER) - 1;
    const char *found = words[tag % TAG_LAYER];
    return found ? found : "";
}

/* ---- blocks ---- */

quern_value block_embedding(builder *b)
{
    const weight *table = b->weights->embedding;
    float scale = b->hp->embedding_scale;
    quern_value x = op_get_rows(b, bind_weight(b, table), b->tokens[0], scale, b->hp->embedding, TAG_EMBEDDING);
    for (uint32_t i = 1; i < table->parts; i++) { /* a token is in one part, and the others give zeros for it */
        quern_value rows = quern_graph_bind(b->graph, &table->part[i].place);
        quern_value y = op_get_rows(b, rows, b->tokens[i], scale, b->hp->embedding, TAG_EMBEDDING);
        op_elementwise(b, &(qp_elementwise_params){.function = QP_ELEMENTWISE_ADD}, x, y, x, TAG_EMBEDDING);
    }
    return x;
}

/* Norm over each head where the model has one, then positions, in place. */
static void turn(builder *b, uint32_t layer, const norm_weights *weights, quern_value x)
{
    uint32_t rope = b->hp->layer[layer].rope;
    if (weights->w)
        op_norm(b, weights, x, x, layer_tag(layer, TAG_QK_NORM));
    if (rope == HPARAMS_NO_ROPE)
        return;
    quern_value sources[] = {x, b->positions, rope == 0 ? b->rope_factors : 0};
    quern_graph_op(b->graph, QP_OP_ROPE, &b->hp->rope[rope], sizeof b->hp->rope[rope], x, sources, 3, b->live,
                   layer_tag(layer, TAG_ROPE));
}

static void append(builder *b, uint32_t layer, quern_value x, quern_value cache)
{
    /* the cell of a token is its position */
    quern_value sources[] = {x, b->positions};
    quern_graph_op(b->graph, QP_OP_KV_APPEND, NULL, 0, cache, sources, 2, b->live, layer_tag(layer, TAG_KV_APPEND));
}

static quern_value attend(builder *b, uint32_t layer, quern_value q, quern_value k_cache, quern_value v_cache)
{
    const layer_hparams *l = &b->hp->layer[layer];
    float scale = b->hp->attention_scale;
    qp_attention_params params = {
        .scale = scale != 0 ? scale : (float)(1 / sqrt(l->head_k)), .softcap = b->hp->attention_softcap, .window = l->window};
    quern_value dst = op_new_rows(b, (int64_t)l->heads * l->head_v);
    quern_value sources[] = {q, k_cache, v_cache, b->positions, bind_weight(b, b->weights->layer[layer].attention.sinks)};
    quern_graph_op(b->graph, QP_OP_ATTENTION, &params, sizeof params, op_heads(b, dst, l->head_v, l->heads), sources, 5, b->live,
                   layer_tag(layer, TAG_ATTENTION));
    return dst;
}

/* Q, K and V of h, as heads: three products, or one and its columns. *gate: where the model has one. */
static void project_heads(builder *b, uint32_t layer, quern_value h, quern_value *q, quern_value *k, quern_value *v,
                          quern_value *gate)
{
    const attention_weights *w = &b->weights->layer[layer].attention;
    const layer_hparams *l = &b->hp->layer[layer];
    if (b->hp->attention_gate) {
        row_part part = {.width = 2 * (int64_t)l->heads * l->head_k, .size = l->head_k, .heads = l->heads, .step = 2 * l->head_k};
        quern_value both = op_project(b, &w->q, h, layer_tag(layer, TAG_Q));
        *q = op_columns(b, both, &part);
        part.first = l->head_k;
        *gate = op_columns(b, both, &part);
        *k = op_heads(b, op_project(b, &w->k, h, layer_tag(layer, TAG_K)), l->head_k, l->kv_heads);
        *v = op_heads(b, op_project(b, &w->v, h, layer_tag(layer, TAG_V)), l->head_v, l->kv_heads);
        return;
    }
    if (!w->qkv.w) {
        *q = op_heads(b, op_project(b, &w->q, h, layer_tag(layer, TAG_Q)), l->head_k, l->heads);
        *k = op_heads(b, op_project(b, &w->k, h, layer_tag(layer, TAG_K)), l->head_k, l->kv_heads);
        *v = op_heads(b, op_project(b, &w->v, h, layer_tag(layer, TAG_V)), l->head_v, l->kv_heads);
        return;
    }
    int64_t qs = (int64_t)l->heads * l->head_k, ks = (int64_t)l->kv_heads * l->head_k, width = w->qkv.w->tensor->ne[1];
    quern_value all = op_project(b, &w->qkv, h, layer_tag(layer, TAG_QKV));
    *q = op_columns(b, all, &(row_part){.width = width, .size = l->head_k, .heads = l->heads});
    *k = op_columns(b, all, &(row_part){.width = width, .first = qs, .size = l->head_k, .heads = l->kv_heads});
    *v = op_columns(b, all, &(row_part){.width = width, .first = qs + ks, .size = l->head_v, .heads = l->kv_heads});
}

quern_value block_attention(builder *b, uint32_t layer, quern_value x)
{
    const attention_weights *w = &b->weights->layer[layer].attention;
    const layer_hparams *l = &b->hp->layer[layer];
    quern_value h = op_norm(b, &w->norm, x, op_new_rows(b, b->hp->embedding), layer_tag(layer, TAG_ATTENTION_NORM));
    quern_value q, k, v, gate = 0;
    project_heads(b, layer, h, &q, &k, &v, &gate);
    turn(b, layer, &w->q_norm, q);
    turn(b, layer, &w->k_norm, k);
    quern_value k_cache = quern_graph_bind(b->graph, &b->k_cache[layer]), v_cache = quern_graph_bind(b->graph, &b->v_cache[layer]);
    append(b, layer, k, k_cache);
    append(b, layer, v, v_cache);
    quern_value attended = attend(b, layer, q, k_cache, v_cache);
    if (gate) {
        quern_value heads = op_heads(b, attended, l->head_v, l->heads);
        op_glu(b, QP_ACT_SIGMOID, gate, heads, heads, layer_tag(layer, TAG_OUTPUT_GATE));
    }
    op_select_last(b, layer, &attended, (int64_t)l->heads * l->head_v, &x);
    return op_add_to(b, layer, &w->output, &w->post_norm, attended, x, TAG_ATTENTION_OUTPUT);
}

/* Gate and up are the two halves of one product. */
static quern_value gated_fused(builder *b, uint32_t layer, const mlp_weights *w, quern_value h)
{
    int64_t n = b->hp->layer[layer].feed_forward;
    quern_value both = op_project(b, &w->up, h, layer_tag(layer, TAG_UP));
    quern_value gate = op_columns(b, both, &(row_part){.width = 2 * n, .size = n, .heads = 1});
    quern_value up = op_columns(b, both, &(row_part){.width = 2 * n, .first = n, .size = n, .heads = 1});
    return op_glu(b, b->hp->activation, gate, up, op_new_rows(b, n), layer_tag(layer, TAG_GLU));
}

static quern_value inner(builder *b, uint32_t layer, const mlp_weights *w, quern_value h)
{
    switch (b->hp->mlp) {
    case MLP_FUSED: return gated_fused(b, layer, w, h);
    case MLP_UNGATED:
        return op_matmul(b, &w->up, NULL, b->hp->activation, h, 0, op_new_rows(b, b->hp->layer[layer].feed_forward),
                         layer_tag(layer, TAG_UP));
    default: return op_gated(b, layer, w, b->hp->layer[layer].feed_forward, h);
    }
}

quern_value block_mlp(builder *b, uint32_t layer, quern_value x)
{
    const mlp_weights *w = &b->weights->layer[layer].mlp;
    if (b->hp->layer[layer].experts)
        return block_experts(b, layer, x);
    quern_value h = op_norm(b, &w->norm, x, op_new_rows(b, b->hp->embedding), layer_tag(layer, TAG_MLP_NORM));
    return op_add_to(b, layer, &w->down, &w->post_norm, inner(b, layer, w, h), x, TAG_DOWN);
}

void block_logits(builder *b, quern_value x)
{
    quern_value h = op_norm(b, &b->weights->norm, x, op_new_rows(b, b->hp->embedding), TAG_OUTPUT_NORM);
    linear output = b->weights->output;
    output.scale *= b->hp->logit_scale;
    output.bias_scale *= b->hp->logit_scale;
    op_matmul(b, &output, NULL, QP_ACT_NONE, h, 0, b->logits, TAG_OUTPUT);
    if (b->hp->logit_softcap != 0)
        op_elementwise(b, &(qp_elementwise_params){.function = QP_ELEMENTWISE_SOFTCAP, .scale = b->hp->logit_softcap}, b->logits, 0,
                       b->logits, TAG_SOFTCAP);
    qp_sample_params params = {.kind = QP_SAMPLE_GREEDY};
    quern_graph_op(b->graph, QP_OP_SAMPLE, &params, sizeof params, b->sampled, &b->logits, 1, b->live, TAG_SAMPLE);
}

void block_dense(builder *b)
{
    quern_value x = block_embedding(b);
    for (uint32_t i = 0; i < b->hp->layers; i++) {
        x = block_attention(b, i, x);
        x = block_mlp(b, i, x);
    }
    block_logits(b, x);
}
