/* SPDX-License-Identifier: MIT
 * engine/block_delta.c: a layer of the gated delta rule, in place of attention (Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464).
 */
#include "engine/block_ops.h"

#include <math.h>

static quern_value convolve(builder *b, uint32_t layer, quern_value x)
{
    const delta_weights *w = &b->weights->layer[layer].delta;
    qp_short_conv_params params = {.act = QP_ACT_SILU};
    quern_value dst = op_new_rows(b, delta_channels(&b->hp->layer[layer].delta));
    quern_value sources[] = {x, bind_weight(b, w->conv), bind_weight(b, w->conv_bias), b->positions,
                             quern_graph_bind(b->graph, &b->conv_state[layer])};
    quern_graph_op(b->graph, QP_OP_SHORT_CONV, &params, sizeof params, dst, sources, 5, b->live, layer_tag(layer, TAG_CONV));
    return dst;
}

/* Queries and keys of length 1, in place: they lie one behind the other. */
static void normalise(builder *b, uint32_t layer, quern_value all)
{
    const delta_hparams *d = &b->hp->layer[layer].delta;
    qp_norm_params params = {.kind = QP_NORM_L2, .eps = b->hp->norm.eps};
    quern_value x =
        op_columns(b, all, &(row_part){.width = delta_channels(d), .size = d->key_size, .heads = 2 * (int64_t)d->key_heads});
    quern_graph_op(b->graph, QP_OP_NORM, &params, sizeof params, x, &x, 1, b->live, layer_tag(layer, TAG_QK_NORM));
}

/* How much each value head keeps of its state, as a logarithm: a · softplus(alpha(h) + dt), a < 0. */
static quern_value decay(builder *b, uint32_t layer, quern_value h)
{
    const delta_weights *w = &b->weights->layer[layer].delta;
    int64_t n = b->hp->layer[layer].delta.value_heads;
    quern_value g = op_matmul(b, &w->alpha, NULL, QP_ACT_SOFTPLUS, h, 0, op_new_rows(b, n), layer_tag(layer, TAG_DECAY));
    return op_elementwise(b, &(qp_elementwise_params){.function = QP_ELEMENTWISE_MUL}, g, bind_weight(b, w->a), g,
                          layer_tag(layer, TAG_DECAY));
}

static quern_value update(builder *b, uint32_t layer, quern_value all, quern_value g, quern_value beta)
{
    const delta_hparams *d = &b->hp->layer[layer].delta;
    int64_t keys = (int64_t)d->key_size * d->key_heads, values = (int64_t)d->value_size * d->value_heads;
    row_part part = {.width = delta_channels(d), .size = d->key_size, .heads = d->key_heads};
    quern_value q = op_columns(b, all, &part);
    part.first = keys;
    quern_value k = op_columns(b, all, &part);
    quern_value v =
        op_columns(b, all, &(row_part){.width = part.width, .first = 2 * keys, .size = d->value_size, .heads = d->value_heads});
    qp_delta_rule_params params = {.scale = (float)(1 / sqrt(d->key_size)), .flags = b->hp->delta_flags};
    quern_value sources[] = {q, k, v, g, beta, b->positions, quern_graph_bind(b->graph, &b->rule_state[layer])};
    quern_value dst = op_new_rows(b, values);
    quern_graph_op(b->graph, QP_OP_DELTA_RULE, &params, sizeof params, op_heads(b, dst, d->value_size, d->value_heads), sources, 7,
                   b->live, layer_tag(layer, TAG_DELTA_RULE));
    return dst;
}

quern_value block_delta(builder *b, uint32_t layer, quern_value x)
{
    const delta_weights *w = &b->weights->layer[layer].delta;
    const delta_hparams *d = &b->hp->layer[layer].delta;
    int64_t values = (int64_t)d->value_size * d->value_heads;
    quern_value h = op_norm(b, &w->norm, x, op_new_rows(b, b->hp->embedding), layer_tag(layer, TAG_ATTENTION_NORM));
    quern_value all = convolve(b, layer, op_project(b, &w->qkv, h, layer_tag(layer, TAG_QKV)));
    quern_value gate = op_project(b, &w->gate, h, layer_tag(layer, TAG_OUTPUT_GATE));
    quern_value g = decay(b, layer, h);
    quern_value beta =
        op_matmul(b, &w->beta, NULL, QP_ACT_SIGMOID, h, 0, op_new_rows(b, d->value_heads), layer_tag(layer, TAG_BETA));
    normalise(b, layer, all);
    quern_value o = update(b, layer, all, g, beta), heads = op_heads(b, o, d->value_size, d->value_heads);
    op_norm(b, &w->head_norm, heads, heads, layer_tag(layer, TAG_HEAD_NORM));
    op_glu(b, QP_ACT_SILU, gate, o, o, layer_tag(layer, TAG_OUTPUT_GATE));
    op_select_last(b, layer, &o, values, &x);
    return op_add_to(b, layer, &w->output, &(norm_weights){0}, o, x, TAG_ATTENTION_OUTPUT);
}
