/* SPDX-License-Identifier: MIT */
#include "engine/block_ops.h"

quern_value bind_weight(builder *b, const weight *w)
{
    return w ? quern_graph_bind(b->graph, &w->part->place) : 0;
}

/* Rows of a matrix that lie together on the device, of all or of one part of it, and what of a vector goes with them. */
typedef struct stretch {
    uint32_t part;
    int64_t first, rows, all;
} stretch;

static quern_value bind_stretch(builder *b, const weight *w, const stretch *s)
{
    return w ? quern_graph_bind(b->graph, &w->part[s->part].place) : 0;
}

static quern_value vector_stretch(builder *b, const weight *w, const stretch *s)
{
    quern_value whole = bind_weight(b, w);
    if (!whole || s->rows == s->all)
        return whole;
    return quern_graph_view(b->graph, whole, (uint64_t)s->first * sizeof(float), (int64_t[4]){s->rows, 1, 1, 1}, NULL);
}

static quern_value columns_stretch(builder *b, quern_value x, const stretch *s)
{
    if (!x || s->rows == s->all)
        return x;
    return op_columns(b, x, &(row_part){.width = s->all, .first = s->first, .size = s->rows, .heads = 1});
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
    qp_matmul_params params = {.scale = l->scale, .bias_scale = l->bias_scale, .act = act, .flags = b->matmul_flags};
    if (second) {
        params.scale2 = second->scale;
        params.bias_scale2 = second->bias_scale;
    }
    for (uint32_t i = 0; i < l->w->parts; i++) { /* of a matrix in several parts each gives some columns of the result */
        stretch s = {i, l->w->part[i].first, l->w->part[i].desc.ne[1], l->w->tensor->ne[1]};
        quern_value to = columns_stretch(b, dst, &s), from = residual == dst ? to : columns_stretch(b, residual, &s);
        quern_value sources[6] = {bind_stretch(b, l->w, &s), x, vector_stretch(b, l->bias, &s), from};
        if (second) {
            sources[QP_MATMUL_W2] = bind_stretch(b, second->w, &s);
            sources[QP_MATMUL_BIAS2] = vector_stretch(b, second->bias, &s);
        }
        quern_graph_op(b->graph, QP_OP_MATMUL, &params, sizeof params, to, sources, 6, b->live, tag);
    }
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
    const qp_tensor *gates = &w->gate.w->part->place, *ups = &w->up.w->part->place;
    if (gates->format == ups->format && gates->layout == ups->layout && w->gate.w->parts == w->up.w->parts)
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
