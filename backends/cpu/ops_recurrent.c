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
    (void)device;
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
    info->operations = 2 * (uint64_t)width * (uint64_t)channels * (uint64_t)rows;
    return status;
}

static const char *const short_conv_sources[] = {"x", "the weights", "the bias", "positions", "the state"};
const qc_op_row qc_short_conv_row = {.kind = QP_OP_SHORT_CONV,
                                     .name = "short_conv",
                                     .sources = short_conv_sources,
                                     .required = 1u << QP_SHORT_CONV_X | 1u << QP_SHORT_CONV_W | 1u << QP_SHORT_CONV_POSITIONS |
                                                 1u << QP_SHORT_CONV_STATE,
                                     .optional = 1u << QP_SHORT_CONV_BIAS,
                                     .check = check_short_conv};

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
    (void)device;
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
    info->bytes_moved += qc_tensor_bytes(state); /* read and written */
    info->operations = 7 * (uint64_t)(size * v_size) * (uint64_t)(heads * rows);
    return QP_OK;
}

static const char *const delta_rule_sources[] = {"q", "k", "v", "g", "beta", "positions", "the state"};
const qc_op_row qc_delta_rule_row = {.kind = QP_OP_DELTA_RULE,
                                     .name = "delta_rule",
                                     .sources = delta_rule_sources,
                                     .required = (1u << QP_DELTA_RULE_STATE << 1) - 1,
                                     .check = check_delta_rule};
