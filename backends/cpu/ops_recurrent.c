/* SPDX-License-Identifier: MIT
 * Ops with a state that one run leaves to the next: the short convolution and the gated delta rule. */
#include "backends/cpu/ops.h"
#include "backends/cpu/status.h"

/* A state is written, so that no two of its elements may be one. */
static qp_status need_apart(const qp_tensor *t, const char *name, qp_text *reason)
{
    int64_t end = t->nb[0];
    for (int i = 0; i < 4; i++) {
        if (t->ne[i] > 1 && t->nb[i] < end)
            return qc_fail(reason, QP_ERR_UNSUPPORTED, "%s is written to, but its elements overlap: nb[%d] is %lld", name, i,
                           (long long)t->nb[i]);
        end = t->ne[i] > 1 ? t->nb[i] * (t->ne[i] - 1) + end : end;
    }
    return QP_OK;
}

static qp_status need(const qp_tensor *t, const char *name, int64_t ne0, int64_t ne1, int64_t ne2, qp_text *reason)
{
    qp_status status = qc_need_format(t, name, QP_FORMAT_F32, reason);
    return status ? status : qc_need_shape(t, name, ne0, ne1, ne2, reason);
}

/* ---- SHORT_CONV ---------------------------------------------------------------------------------------------------- */

enum { MIN_WIDTH = 2, MAX_WIDTH = 16 };

static qp_status check_short_conv(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *bias = &op->src[QP_SHORT_CONV_BIAS];
    int64_t channels = op->dst.ne[0], rows = op->dst.ne[2], width = op->src[QP_SHORT_CONV_W].ne[0];
    qp_status status = need(&op->dst, "dst", channels, 1, rows, reason);
    if (!status)
        status = need(&op->src[QP_SHORT_CONV_X], "x", channels, 1, rows, reason);
    if (!status && (width < MIN_WIDTH || width > MAX_WIDTH))
        status = qc_fail(reason, QP_ERR_UNSUPPORTED, "the weights have a width of %lld; %d to %d are served", (long long)width,
                         MIN_WIDTH, MAX_WIDTH);
    if (!status)
        status = need(&op->src[QP_SHORT_CONV_W], "the weights", width, channels, 1, reason);
    if (!status && qc_present(bias))
        status = qc_need_floats(bias, "the bias", channels, reason);
    if (!status)
        status = qc_need_index(&op->src[QP_SHORT_CONV_POSITIONS], "positions", rows, reason);
    if (!status)
        status = need(&op->src[QP_SHORT_CONV_STATE], "the state", channels, width - 1, 1, reason);
    if (!status)
        status = need_apart(&op->src[QP_SHORT_CONV_STATE], "the state", reason);
    if (!status && op->p.short_conv.act > QP_ACT_SOFTPLUS)
        status = qc_fail(reason, QP_ERR_UNSUPPORTED, "activation %u is not known", op->p.short_conv.act);
    if (status)
        return status;
    qc_name_kernel(info, "short_conv", NULL, device->kernels.isa);
    info->operations = 2 * (uint64_t)width * (uint64_t)channels * (uint64_t)rows;
    return QP_OK;
}

static int64_t conv_units(const qc_node *node, int64_t live)
{
    const qc_short_conv_node *u = &node->u.short_conv;
    return live ? (u->args.channels + u->stretch - 1) / u->stretch : 0;
}

static void run_short_conv(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)work;
    const qc_short_conv_node *u = &node->u.short_conv;
    for (int64_t i = begin; i < end; i++) {
        qk_short_conv_args a = u->args;
        int64_t first = i * u->stretch;
        a.x += first;
        a.y += first;
        a.state += first;
        a.w += first * a.w_stride;
        a.bias = a.bias ? a.bias + first : NULL;
        a.channels = a.channels - first < u->stretch ? a.channels - first : u->stretch;
        a.rows = live;
        node->kernels->short_conv(&a);
    }
}

static int64_t floats(int64_t bytes)
{
    return bytes / (int64_t)sizeof(float); /* strides are multiples of 4 */
}

static qp_status launch_short_conv(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)error;
    enum { FEW_ROWS = 8, STRETCH = 256, LONG_STRETCH = 1024 };
    static const qc_kind kind = {run_short_conv, conv_units};
    const qk_tensor *x = &r->src[QP_SHORT_CONV_X], *w = &r->src[QP_SHORT_CONV_W], *state = &r->src[QP_SHORT_CONV_STATE];
    qc_node *node = qc_node_begin(b, &kind, r->dst.ne[2], 0);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    qc_short_conv_node *u = &node->u.short_conv;
    u->args = (qk_short_conv_args){.x = x->data,
                                   .x_stride = floats(x->nb[2]),
                                   .w = w->data,
                                   .w_stride = floats(w->nb[1]),
                                   .bias = r->src[QP_SHORT_CONV_BIAS].data,
                                   .positions = r->src[QP_SHORT_CONV_POSITIONS].data,
                                   .state = state->data,
                                   .state_stride = floats(state->nb[1]),
                                   .y = r->dst.data,
                                   .y_stride = floats(r->dst.nb[2]),
                                   .channels = x->ne[0],
                                   .width = (int)w->ne[0],
                                   .act = op->p.short_conv.act};
    u->stretch = x->ne[2] > FEW_ROWS ? STRETCH : LONG_STRETCH;
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++)
        qc_node_touches_all(b, &r->src[i], i == QP_SHORT_CONV_STATE);
    qc_node_touches_all(b, &r->dst, 1);
    return qc_node_end(b);
}

static const char *const short_conv_sources[] = {"x", "the weights", "the bias", "positions", "the state"};
const qc_op_row qc_short_conv_row = {.kind = QP_OP_SHORT_CONV,
                                     .name = "short_conv",
                                     .sources = short_conv_sources,
                                     .required = 1u << QP_SHORT_CONV_X | 1u << QP_SHORT_CONV_W | 1u << QP_SHORT_CONV_POSITIONS |
                                                 1u << QP_SHORT_CONV_STATE,
                                     .optional = 1u << QP_SHORT_CONV_BIAS,
                                     .check = check_short_conv,
                                     .launch = launch_short_conv};

/* ---- DELTA_RULE ---------------------------------------------------------------------------------------------------- */

static qp_status check_delta_heads(const qp_op *op, qp_text *reason)
{
    const qp_tensor *k = &op->src[QP_DELTA_RULE_K];
    int64_t key_heads = k->ne[1], heads = op->dst.ne[1];
    if (k->ne[0] > QP_DELTA_MAX_K)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "keys have %lld features; at most %d are served", (long long)k->ne[0],
                       QP_DELTA_MAX_K);
    if (heads % key_heads)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "%lld value heads cannot share %lld key heads evenly", (long long)heads,
                       (long long)key_heads);
    if (op->p.delta_rule.flags & ~(uint32_t)QP_DELTA_GROUPED)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "flags 0x%x are not known", op->p.delta_rule.flags);
    return QP_OK;
}

static qp_status check_delta_rule(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *k = &op->src[QP_DELTA_RULE_K], *state = &op->src[QP_DELTA_RULE_STATE];
    int64_t size = k->ne[0], key_heads = k->ne[1], v_size = op->dst.ne[0], heads = op->dst.ne[1], rows = op->dst.ne[2];
    qp_status status = need(&op->dst, "dst", v_size, heads, rows, reason);
    if (!status)
        status = need(k, "k", size, key_heads, rows, reason);
    if (!status)
        status = need(&op->src[QP_DELTA_RULE_Q], "q", size, key_heads, rows, reason);
    if (!status)
        status = need(&op->src[QP_DELTA_RULE_V], "v", v_size, heads, rows, reason);
    if (!status)
        status = need(&op->src[QP_DELTA_RULE_GATE], "g", heads, 1, rows, reason);
    if (!status)
        status = need(&op->src[QP_DELTA_RULE_BETA], "beta", heads, 1, rows, reason);
    if (!status)
        status = qc_need_index(&op->src[QP_DELTA_RULE_POSITIONS], "positions", rows, reason);
    if (!status)
        status = need(state, "the state", v_size, size, heads, reason);
    if (!status)
        status = need_apart(state, "the state", reason);
    if (!status)
        status = check_delta_heads(op, reason);
    if (status)
        return status;
    qc_name_kernel(info, "delta_rule", NULL, device->kernels.isa);
    info->bytes_moved += qc_tensor_bytes(state); /* read and written */
    info->operations = 7 * (uint64_t)(size * v_size) * (uint64_t)(heads * rows);
    return QP_OK;
}

static int64_t delta_units(const qc_node *node, int64_t live)
{
    const qc_delta_rule_node *u = &node->u.delta_rule;
    return live ? u->heads * u->stretches : 0;
}

static float *delta_state(const qc_delta_rule_node *u, int64_t unit)
{
    return (float *)(void *)(u->state + unit / u->stretches * u->state_head) + unit % u->stretches * u->stretch;
}

static void run_delta_rule(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)work;
    const qc_delta_rule_node *u = &node->u.delta_rule;
    for (int64_t i = begin; i < end; i++) {
        int64_t head = i / u->stretches, first = i % u->stretches * u->stretch;
        int64_t key = u->p.flags & QP_DELTA_GROUPED ? head / (u->heads / u->key_heads) : head % u->key_heads;
        qk_delta_args a = {.q = qc_row_at(&u->q, key, 0),
                           .k = qc_row_at(&u->k, key, 0),
                           .v = qc_row_at(&u->v, head, 0) + first,
                           .g = qc_row_at(&u->g, 0, 0) + head,
                           .beta = qc_row_at(&u->beta, 0, 0) + head,
                           .q_stride = floats(u->q.row),
                           .k_stride = floats(u->k.row),
                           .v_stride = floats(u->v.row),
                           .g_stride = floats(u->g.row),
                           .beta_stride = floats(u->beta.row),
                           .positions = u->positions,
                           .state = delta_state(u, i),
                           .state_stride = floats(u->state_row),
                           .y = qc_row_at(&u->dst, head, 0) + first,
                           .y_stride = floats(u->dst.row),
                           .k_size = u->k_size,
                           .v_size = u->v_size - first < u->stretch ? u->v_size - first : u->stretch,
                           .rows = live,
                           .scale = u->p.scale,
                           .ahead = live == 1 && i + 1 < delta_units(node, live) ? delta_state(u, i + 1) : NULL};
        node->kernels->delta_rule(&a);
    }
}

/* Whole heads, so that a state is read in one go; pieces of them where there are too few for the threads. */
static int64_t delta_stretch(const qp_device *device, int64_t v_size, int64_t heads)
{
    enum { LEAST = 32 };
    int64_t stretch = v_size < QK_DELTA_MAX_V ? v_size : QK_DELTA_MAX_V;
    while (stretch >= 2 * LEAST && heads * ((v_size + stretch - 1) / stretch) < 4 * (int64_t)device->threads)
        stretch = (stretch / 2 + 15) / 16 * 16;
    return stretch;
}

static qp_status launch_delta_rule(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)error;
    static const qc_kind kind = {run_delta_rule, delta_units};
    const qk_tensor *k = &r->src[QP_DELTA_RULE_K], *state = &r->src[QP_DELTA_RULE_STATE];
    qc_node *node = qc_node_begin(b, &kind, r->dst.ne[2], 0);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    qc_delta_rule_node *u = &node->u.delta_rule;
    *u = (qc_delta_rule_node){.q = qc_rows_of(&r->src[QP_DELTA_RULE_Q]),
                              .k = qc_rows_of(k),
                              .v = qc_rows_of(&r->src[QP_DELTA_RULE_V]),
                              .g = qc_rows_of(&r->src[QP_DELTA_RULE_GATE]),
                              .beta = qc_rows_of(&r->src[QP_DELTA_RULE_BETA]),
                              .dst = qc_rows_of(&r->dst),
                              .positions = r->src[QP_DELTA_RULE_POSITIONS].data,
                              .state = state->data,
                              .state_row = state->nb[1],
                              .state_head = state->nb[2],
                              .k_size = k->ne[0],
                              .v_size = r->dst.ne[0],
                              .heads = r->dst.ne[1],
                              .key_heads = k->ne[1],
                              .p = op->p.delta_rule};
    u->stretch = delta_stretch(qc_build_get(b)->device, u->v_size, u->heads);
    u->stretches = (u->v_size + u->stretch - 1) / u->stretch;
    node->streams = r->dst.ne[2] == 1;
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++)
        qc_node_touches_all(b, &r->src[i], i == QP_DELTA_RULE_STATE);
    qc_node_touches_all(b, &r->dst, 1);
    return qc_node_end(b);
}

static const char *const delta_rule_sources[] = {"q", "k", "v", "g", "beta", "positions", "the state"};
const qc_op_row qc_delta_rule_row = {.kind = QP_OP_DELTA_RULE,
                                     .name = "delta_rule",
                                     .sources = delta_rule_sources,
                                     .required = (1u << QP_DELTA_RULE_STATE << 1) - 1,
                                     .check = check_delta_rule,
                                     .launch = launch_delta_rule};
