/* SPDX-License-Identifier: MIT */
#include "engine/block_ops.h"

quern_value bind_weight(builder *b, const weight *w)
{
    return w ? quern_graph_bind(b->graph, &w->place) : 0;
}

quern_value op_new_rows(builder *b, int64_t n)
{
    return quern_graph_temp(b->graph, QP_FORMAT_F32, n, 1, b->rows);
}

quern_value op_heads(builder *b, quern_value x, int64_t size, int64_t heads)
{
    return quern_graph_view(b->graph, x, 0, (int64_t[4]){size, heads, b->rows, 1}, NULL);
}

quern_value op_norm(builder *b, const norm_weights *weights, quern_value x, quern_value dst, uint32_t tag)
{
    quern_value sources[] = {x, bind_weight(b, weights->w), bind_weight(b, weights->bias)};
    quern_graph_op(b->graph, QP_OP_NORM, &b->hp->norm, sizeof b->hp->norm, dst, sources, 3, b->live, tag);
    return dst;
}

quern_value op_matmul(builder *b, const linear *l, const linear *second, qp_activation act, quern_value x, quern_value residual,
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

quern_value op_project(builder *b, const linear *l, quern_value x, uint32_t tag)
{
    return op_matmul(b, l, NULL, QP_ACT_NONE, x, 0, op_new_rows(b, l->w->tensor->ne[1]), tag);
}

quern_value op_get_rows(builder *b, quern_value table, quern_value ids, float scale, int64_t n, uint32_t tag)
{
    qp_get_rows_params params = {.scale = scale};
    quern_value dst = op_new_rows(b, n), sources[] = {table, ids};
    quern_graph_op(b->graph, QP_OP_GET_ROWS, &params, sizeof params, dst, sources, 2, b->live, tag);
    return dst;
}

quern_value op_elementwise(builder *b, const qp_elementwise_params *params, quern_value x, quern_value y, quern_value dst,
                           uint32_t tag)
{
    quern_value sources[] = {x, y};
    quern_graph_op(b->graph, QP_OP_ELEMENTWISE, params, sizeof *params, dst, sources, 2, b->live, tag);
    return dst;
}

quern_value op_glu(builder *b, qp_activation act, quern_value x, quern_value y, quern_value dst, uint32_t tag)
{
    return op_elementwise(b, &(qp_elementwise_params){.function = QP_ELEMENTWISE_GLU, .act = act}, x, y, dst, tag);
}

quern_value op_gated(builder *b, uint32_t layer, const mlp_weights *w, int64_t n, quern_value h)
{
    qp_activation act = b->hp->activation;
    if (w->gate.w->place.format == w->up.w->place.format && w->gate.w->place.layout == w->up.w->place.layout)
        return op_matmul(b, &w->gate, &w->up, act, h, 0, op_new_rows(b, n), layer_tag(layer, TAG_GATE));
    quern_value gate = op_project(b, &w->gate, h, layer_tag(layer, TAG_GATE));
    quern_value up = op_project(b, &w->up, h, layer_tag(layer, TAG_UP));
    return op_glu(b, act, gate, up, gate, layer_tag(layer, TAG_GLU));
}

quern_value op_columns(builder *b, quern_value x, const row_part *part)
{
    const int64_t bytes = sizeof(float);
    int64_t step = (part->step ? part->step : part->size) * bytes, row = part->width * bytes;
    int64_t ne[4] = {part->size, part->heads, b->rows, 1}, nb[4] = {bytes, step, row, b->rows * row};
    return quern_graph_view(b->graph, x, (uint64_t)(part->first * bytes), ne, nb);
}

quern_value op_add_to(builder *b, uint32_t layer, const linear *l, const norm_weights *post_norm, quern_value h, quern_value x,
                      uint32_t tag)
{
    if (!post_norm->w) {
        linear scaled = *l;
        scaled.scale *= b->hp->residual_scale;
        scaled.bias_scale *= b->hp->residual_scale;
        return op_matmul(b, &scaled, NULL, QP_ACT_NONE, h, x, x, layer_tag(layer, tag));
    }
    quern_value y = op_project(b, l, h, layer_tag(layer, tag));
    op_norm(b, post_norm, y, y, layer_tag(layer, TAG_POST_NORM));
    return op_elementwise(b, &(qp_elementwise_params){.function = QP_ELEMENTWISE_ADD}, x, y, x, layer_tag(layer, TAG_RESIDUAL));
}

/* The selected rows of x; needs b->rows still as x has them. */
static quern_value select_rows(builder *b, quern_value x, int64_t n)
{
    quern_value table = quern_graph_view(b->graph, x, 0, (int64_t[4]){n, b->rows, 1, 1}, NULL);
    builder selected = *b;
    selected.rows = b->selected_rows;
    selected.live = b->selected_live;
    return op_get_rows(&selected, table, b->selected, 1, n, TAG_SELECT);
}

void op_select_last(builder *b, uint32_t layer, quern_value *h, int64_t n, quern_value *x)
{
    if (!b->selected || layer + 1 != b->hp->layers)
        return;
    *h = select_rows(b, *h, n);
    *x = select_rows(b, *x, b->hp->embedding);
    b->rows = b->selected_rows;
    b->live = b->selected_live;
}
