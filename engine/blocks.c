/* SPDX-License-Identifier: MIT */
#include "engine/blocks.h"

#include <math.h>

static uint32_t layer_tag(uint32_t layer, uint32_t tag)
{
    return (layer + 1) * TAG_LAYER + tag;
}

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

quern_value bind_weight(builder *b, const weight *w)
{
    return w ? quern_graph_bind(b->graph, &w->place) : 0;
}

static quern_value new_rows(builder *b, int64_t n)
{
    return quern_graph_temp(b->graph, QP_FORMAT_F32, n, 1, b->rows);
}

/* {size·heads, 1, rows} seen as {size, heads, rows}, and back. */
static quern_value as_heads(builder *b, quern_value x, int64_t size, int64_t heads)
{
    return quern_graph_view(b->graph, x, 0, (int64_t[4]){size, heads, b->rows, 1}, NULL);
}

/* ---- ops ---- */

static quern_value norm(builder *b, const norm_weights *weights, quern_value x, quern_value dst, uint32_t tag)
{
    quern_value sources[] = {x, bind_weight(b, weights->w), bind_weight(b, weights->bias)};
    quern_graph_op(b->graph, QP_OP_NORM, &b->hp->norm, sizeof b->hp->norm, dst, sources, 3, b->live, tag);
    return dst;
}

/* dst = act(linear(x)) + residual; with a second linear act(linear(x)) · second(x). */
static quern_value matmul(builder *b, const linear *l, const linear *second, qp_activation act, quern_value x, quern_value residual,
                          quern_value dst, uint32_t tag)
{
    qp_matmul_params params = {.scale = l->scale, .bias_scale = l->bias_scale, .act = act};
    quern_value sources[6] = {bind_weight(b, l->w), x, bind_weight(b, l->bias), residual};
    if (second) {
        params.scale2 = second->scale;
        params.bias_scale2 = second->bias_scale;
        sources[QP_MATMUL_W2] = bind_weight(b, second->w);
        sources[QP_MATMUL_BIAS2] = bind_weight(b, second->bias);
    }
    quern_graph_op(b->graph, QP_OP_MATMUL, &params, sizeof params, dst, sources, 6, b->live, tag);
    return dst;
}

static quern_value project(builder *b, const linear *l, quern_value x, uint32_t tag)
{
    return matmul(b, l, NULL, QP_ACT_NONE, x, 0, new_rows(b, l->w->tensor->ne[1]), tag);
}

static quern_value get_rows(builder *b, quern_value table, quern_value ids, float scale, int64_t n, uint32_t tag)
{
    qp_get_rows_params params = {.scale = scale};
    quern_value dst = new_rows(b, n), sources[] = {table, ids};
    quern_graph_op(b->graph, QP_OP_GET_ROWS, &params, sizeof params, dst, sources, 2, b->live, tag);
    return dst;
}

static void elementwise(builder *b, uint32_t function, float scale, quern_value x, quern_value y, quern_value dst, uint32_t tag)
{
    qp_elementwise_params params = {.function = function, .act = b->hp->activation, .scale = scale};
    quern_value sources[] = {x, y};
    quern_graph_op(b->graph, QP_OP_ELEMENTWISE, &params, sizeof params, dst, sources, 2, b->live, tag);
}

/* The features [first, first + size·heads) of rows that are `width` wide, seen as heads. */
static quern_value columns(builder *b, quern_value x, int64_t width, int64_t first, int64_t size, int64_t heads)
{
    const int64_t bytes = sizeof(float);
    int64_t ne[4] = {size, heads, b->rows, 1}, nb[4] = {bytes, size * bytes, width * bytes, b->rows * width * bytes};
    return quern_graph_view(b->graph, x, (uint64_t)(first * bytes), ne, nb);
}

/* x + linear(h), or with a norm before the sum: the end of a block. Overwrites x. */
static quern_value add_to(builder *b, uint32_t layer, const linear *l, const norm_weights *post_norm, quern_value h, quern_value x,
                          uint32_t tag)
{
    if (!post_norm->w) {
        linear scaled = *l;
        scaled.scale *= b->hp->residual_scale;
        scaled.bias_scale *= b->hp->residual_scale;
        return matmul(b, &scaled, NULL, QP_ACT_NONE, h, x, x, layer_tag(layer, tag));
    }
    quern_value y = project(b, l, h, layer_tag(layer, tag));
    norm(b, post_norm, y, y, layer_tag(layer, TAG_POST_NORM));
    elementwise(b, QP_ELEMENTWISE_ADD, 0, x, y, x, layer_tag(layer, TAG_RESIDUAL));
    return x;
}

/* ---- blocks ---- */

quern_value block_embedding(builder *b)
{
    return get_rows(b, bind_weight(b, b->weights->embedding), b->tokens, b->hp->embedding_scale, b->hp->embedding, TAG_EMBEDDING);
}

/* Norm over each head where the model has one, then positions, in place. */
static void turn(builder *b, uint32_t layer, const norm_weights *weights, quern_value x)
{
    uint32_t rope = b->hp->layer[layer].rope;
    if (weights->w)
        norm(b, weights, x, x, layer_tag(layer, TAG_QK_NORM));
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
    quern_value dst = new_rows(b, (int64_t)l->heads * l->head_v);
    quern_value sources[] = {q, k_cache, v_cache, b->positions};
    quern_graph_op(b->graph, QP_OP_ATTENTION, &params, sizeof params, as_heads(b, dst, l->head_v, l->heads), sources, 4, b->live,
                   layer_tag(layer, TAG_ATTENTION));
    return dst;
}

/* The selected rows of x; needs b->rows still as x has them. */
static quern_value select_rows(builder *b, quern_value x, int64_t n)
{
    quern_value table = quern_graph_view(b->graph, x, 0, (int64_t[4]){n, b->rows, 1, 1}, NULL);
    builder selected = *b;
    selected.rows = b->selected_rows;
    selected.live = b->selected_live;
    return get_rows(&selected, table, b->selected, 1, n, TAG_SELECT);
}

/* Q, K and V of h, as heads: three products, or one and its columns. */
static void project_heads(builder *b, uint32_t layer, quern_value h, quern_value *q, quern_value *k, quern_value *v)
{
    const attention_weights *w = &b->weights->layer[layer].attention;
    const layer_hparams *l = &b->hp->layer[layer];
    if (!w->qkv.w) {
        *q = as_heads(b, project(b, &w->q, h, layer_tag(layer, TAG_Q)), l->head_k, l->heads);
        *k = as_heads(b, project(b, &w->k, h, layer_tag(layer, TAG_K)), l->head_k, l->kv_heads);
        *v = as_heads(b, project(b, &w->v, h, layer_tag(layer, TAG_V)), l->head_v, l->kv_heads);
        return;
    }
    int64_t qs = (int64_t)l->heads * l->head_k, ks = (int64_t)l->kv_heads * l->head_k, width = w->qkv.w->tensor->ne[1];
    quern_value all = project(b, &w->qkv, h, layer_tag(layer, TAG_QKV));
    *q = columns(b, all, width, 0, l->head_k, l->heads);
    *k = columns(b, all, width, qs, l->head_k, l->kv_heads);
    *v = columns(b, all, width, qs + ks, l->head_v, l->kv_heads);
}

quern_value block_attention(builder *b, uint32_t layer, quern_value x)
{
    const attention_weights *w = &b->weights->layer[layer].attention;
    const layer_hparams *l = &b->hp->layer[layer];
    quern_value h = norm(b, &w->norm, x, new_rows(b, b->hp->embedding), layer_tag(layer, TAG_ATTENTION_NORM));
    quern_value q, k, v;
    project_heads(b, layer, h, &q, &k, &v);
    turn(b, layer, &w->q_norm, q);
    turn(b, layer, &w->k_norm, k);
    quern_value k_cache = quern_graph_bind(b->graph, &b->k_cache[layer]), v_cache = quern_graph_bind(b->graph, &b->v_cache[layer]);
    append(b, layer, k, k_cache);
    append(b, layer, v, v_cache);
    quern_value attended = attend(b, layer, q, k_cache, v_cache);
    if (b->selected && layer + 1 == b->hp->layers) {
        attended = select_rows(b, attended, (int64_t)l->heads * l->head_v);
        x = select_rows(b, x, b->hp->embedding);
        b->rows = b->selected_rows;
        b->live = b->selected_live;
    }
    return add_to(b, layer, &w->output, &w->post_norm, attended, x, TAG_ATTENTION_OUTPUT);
}

/* One op where both matrices lie alike, else two products and an elementwise op. */
static quern_value gated(builder *b, uint32_t layer, const mlp_weights *w, quern_value h)
{
    if (w->gate.w->place.format == w->up.w->place.format && w->gate.w->place.layout == w->up.w->place.layout)
        return matmul(b, &w->gate, &w->up, b->hp->activation, h, 0, new_rows(b, b->hp->layer[layer].feed_forward),
                      layer_tag(layer, TAG_GATE));
    quern_value gate = project(b, &w->gate, h, layer_tag(layer, TAG_GATE)), up = project(b, &w->up, h, layer_tag(layer, TAG_UP));
    elementwise(b, QP_ELEMENTWISE_GLU, 0, gate, up, gate, layer_tag(layer, TAG_GLU));
    return gate;
}

/* Gate and up are the two halves of one product. */
static quern_value gated_fused(builder *b, uint32_t layer, const mlp_weights *w, quern_value h)
{
    int64_t n = b->hp->layer[layer].feed_forward;
    quern_value both = project(b, &w->up, h, layer_tag(layer, TAG_UP)), dst = new_rows(b, n);
    elementwise(b, QP_ELEMENTWISE_GLU, 0, columns(b, both, 2 * n, 0, n, 1), columns(b, both, 2 * n, n, n, 1), dst,
                layer_tag(layer, TAG_GLU));
    return dst;
}

static quern_value inner(builder *b, uint32_t layer, const mlp_weights *w, quern_value h)
{
    switch (b->hp->mlp) {
    case MLP_FUSED: return gated_fused(b, layer, w, h);
    case MLP_UNGATED:
        return matmul(b, &w->up, NULL, b->hp->activation, h, 0, new_rows(b, b->hp->layer[layer].feed_forward),
                      layer_tag(layer, TAG_UP));
    default: return gated(b, layer, w, h);
    }
}

quern_value block_mlp(builder *b, uint32_t layer, quern_value x)
{
    const mlp_weights *w = &b->weights->layer[layer].mlp;
    quern_value h = norm(b, &w->norm, x, new_rows(b, b->hp->embedding), layer_tag(layer, TAG_MLP_NORM));
    return add_to(b, layer, &w->down, &w->post_norm, inner(b, layer, w, h), x, TAG_DOWN);
}

void block_logits(builder *b, quern_value x)
{
    quern_value h = norm(b, &b->weights->norm, x, new_rows(b, b->hp->embedding), TAG_OUTPUT_NORM);
    linear output = b->weights->output;
    output.scale *= b->hp->logit_scale;
    output.bias_scale *= b->hp->logit_scale;
    matmul(b, &output, NULL, QP_ACT_NONE, h, 0, b->logits, TAG_OUTPUT);
    if (b->hp->logit_softcap != 0)
        elementwise(b, QP_ELEMENTWISE_SOFTCAP, b->hp->logit_softcap, b->logits, 0, b->logits, TAG_SOFTCAP);
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
