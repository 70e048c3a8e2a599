/* SPDX-License-Identifier: MIT
 * engine/block_experts.c: a mixture of experts in place of the MLP (Shazeer et al. 2017, arXiv:1701.06538; Fedus, Zoph & Shazeer
 * 2021, arXiv:2101.03961): a router chooses a few of many small MLPs for each token, whose results are weighed and added up. */
#include "engine/block_ops.h"

static quern_value route(builder *b, uint32_t layer, const qp_expert_route_params *params, quern_value logits, const weight *bias,
                         int64_t used, uint32_t tag)
{
    quern_value dst = quern_graph_temp(b->graph, QP_FORMAT_F32, used, 2, b->rows), sources[] = {logits, bind_weight(b, bias)};
    quern_graph_op(b->graph, QP_OP_EXPERT_ROUTE, params, sizeof *params, dst, sources, 2, b->live, layer_tag(layer, tag));
    return dst;
}

/* Of what {m, …} there is for each row of a stack, that of a part's. */
static quern_value bias_part(builder *b, const weight *bias, const weight_part *part, int64_t m)
{
    quern_value whole = bind_weight(b, bias);
    int64_t rows = part->desc.ne[1], experts = part->desc.ne[2], bytes = sizeof(float);
    if (!whole || rows == m)
        return whole;
    return quern_graph_view(b->graph, whole, (uint64_t)(part->first * bytes), (int64_t[4]){rows, experts, 1, 1},
                            (int64_t[4]){bytes, m * bytes, experts * m * bytes, experts * m * bytes});
}

static quern_value columns_part(builder *b, quern_value x, const weight_part *part, int64_t m, int64_t heads)
{
    int64_t rows = part->desc.ne[1];
    if (rows == m)
        return x;
    return op_columns(b, x, &(row_part){.width = heads * m, .first = part->first, .size = rows, .heads = heads, .step = m});
}

/* {m, used, rows}, or on `sum`, which it is added to, where that is given. */
static quern_value multiply(builder *b, uint32_t layer, const expert_linear *l, const expert_linear *second, quern_value x,
                            quern_value routed, quern_value sum, uint32_t tag)
{
    const expert_hparams *e = &b->hp->experts;
    qp_expert_matmul_params params = {.act = second ? b->hp->activation : QP_ACT_NONE,
                                      .flags = b->matmul_flags | (sum ? QP_EXPERT_SUM : 0),
                                      .alpha = e->clamp_alpha,
                                      .limit = e->clamp_limit};
    int64_t m = l->w->tensor->ne[1], heads = sum ? 1 : e->used;
    quern_value dst = sum ? sum : quern_graph_temp(b->graph, QP_FORMAT_F32, m, e->used, b->rows);
    for (uint32_t i = 0; i < l->w->parts; i++) { /* of a stack in several parts each gives some columns of the results */
        const weight_part *part = &l->w->part[i];
        quern_value to = columns_part(b, dst, part, m, heads);
        quern_value sources[QP_OP_SOURCES] = {[QP_EXPERT_MATMUL_W] = quern_graph_bind(b->graph, &part->place),
                                              [QP_EXPERT_MATMUL_X] = x,
                                              [QP_EXPERT_MATMUL_BIAS] = bias_part(b, l->bias, part, m),
                                              [QP_EXPERT_MATMUL_RESIDUAL] = sum ? to : 0,
                                              [QP_EXPERT_MATMUL_ROUTE] = routed,
                                              [QP_EXPERT_MATMUL_SCALES] = bind_weight(b, l->scales)};
        if (second) {
            sources[QP_EXPERT_MATMUL_W2] = quern_graph_bind(b->graph, &second->w->part[i].place);
            sources[QP_EXPERT_MATMUL_BIAS2] = bias_part(b, second->bias, part, m);
        }
        quern_graph_op(b->graph, QP_OP_EXPERT_MATMUL, &params, sizeof params, to, sources, QP_OP_SOURCES, b->live,
                       layer_tag(layer, tag));
    }
    return dst;
}

/* act(gate) · up of each chosen expert: one op where the matrices lie alike and have no scales. */
static quern_value inner(builder *b, uint32_t layer, const expert_weights *w, quern_value h, quern_value routed)
{
    const qp_tensor *gate = &w->gate.w->part->place, *up = &w->up.w->part->place;
    int alike = gate->format == up->format && gate->layout == up->layout && w->gate.w->parts == w->up.w->parts;
    if (alike && !w->gate.scales && !w->up.scales)
        return multiply(b, layer, &w->gate, &w->up, h, routed, 0, TAG_EXPERT_GATE);
    quern_value a = multiply(b, layer, &w->gate, NULL, h, routed, 0, TAG_EXPERT_GATE);
    quern_value c = multiply(b, layer, &w->up, NULL, h, routed, 0, TAG_EXPERT_UP);
    qp_elementwise_params params = {.function = QP_ELEMENTWISE_GLU, .act = b->hp->activation};
    if (params.act == QP_ACT_SWIGLU_CLAMPED) {
        params.scale = b->hp->experts.clamp_alpha;
        params.offset = b->hp->experts.clamp_limit;
    }
    return op_elementwise(b, &params, a, c, a, layer_tag(layer, TAG_EXPERT_GLU));
}

/* x + sigmoid(shared_gate(h)) · down(…): an expert that every token goes to, with that for its weight. */
static void add_shared(builder *b, uint32_t layer, const expert_weights *w, quern_value h, quern_value x)
{
    const linear *down = &w->shared.down;
    quern_value a = op_gated(b, layer, &w->shared, b->hp->experts.shared, h);
    if (!w->shared_gate.w) {
        op_add_to(b, layer, down, &(norm_weights){0}, a, x, TAG_DOWN);
        return;
    }
    quern_value logit = op_project(b, &w->shared_gate, h, layer_tag(layer, TAG_SHARED_GATE));
    qp_expert_route_params params = {.gate = QP_GATE_SIGMOID, .scale = down->scale * b->hp->residual_scale};
    quern_value routed = route(b, layer, &params, logit, NULL, 1, TAG_SHARED_GATE);
    multiply(b, layer, &(expert_linear){.w = down->w, .bias = down->bias}, NULL, a, routed, x, TAG_DOWN);
}

quern_value block_experts(builder *b, uint32_t layer, quern_value x)
{
    const expert_weights *w = &b->weights->layer[layer].experts;
    const expert_hparams *e = &b->hp->experts;
    const norm_weights *norm = &b->weights->layer[layer].mlp.norm;
    quern_value h = op_norm(b, norm, x, op_new_rows(b, b->hp->embedding), layer_tag(layer, TAG_MLP_NORM));
    quern_value logits = op_project(b, &w->router, h, layer_tag(layer, TAG_ROUTER));
    qp_expert_route_params params = e->route;
    params.scale *= b->hp->residual_scale; /* the sum is linear in the weights */
    quern_value routed = route(b, layer, &params, logits, w->router_bias, e->used, TAG_ROUTE);
    quern_value inside = inner(b, layer, w, h, routed);
    multiply(b, layer, &w->down, NULL, inside, routed, x, TAG_EXPERT_DOWN);
    if (w->shared.up.w)
        add_shared(b, layer, w, h, x);
    return x;
}
