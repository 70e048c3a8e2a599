/* SPDX-License-Identifier: MIT */
#include "backends/null/ops.h"

#include "backends/null/buffer.h"
#include "backends/null/status.h"
#include "kernels/common/formats.h"

#include <stdio.h>
#include <string.h>

enum { ANY = -1, ANY_FORMAT = QP_FORMAT_LIMIT };

static int present(const qp_tensor *t)
{
    return t->ne[0] > 0;
}

/* ---- one tensor ---- */

static const char *format_name(qp_format format)
{
    switch (format) {
#define NAME(name, number, elements, bytes, quantised)                                                                             \
    case number: return #name;
        QP_FORMAT_LIST(NAME)
#undef NAME
    default: return "an unknown format";
    }
}

/* Is the tensor there, of this format and this shape? ANY matches every size; weights may lie in a layout of the plugin's own,
 * of which this one has none. */
static qp_status want(const qp_tensor *t, const char *what, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2,
                      qp_text *reason)
{
    const int64_t ne[4] = {ne0, ne1, ne2, 1};
    if (!present(t))
        return qn_fail(reason, QP_ERR_INVALID, "%s is missing", what);
    if (t->layout != QP_LAYOUT_GGUF)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "%s has layout %u; this device knows only the one of GGUF", what, t->layout);
    if (format != ANY_FORMAT && t->format != format)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "%s is %s where %s is due", what, format_name(t->format), format_name(format));
    for (int i = 0; i < 4; i++)
        if (ne[i] != ANY && t->ne[i] != ne[i])
            return qn_fail(reason, QP_ERR_INVALID, "%s has %lld in dimension %d where %lld is due", what, (long long)t->ne[i], i,
                           (long long)ne[i]);
    return QP_OK;
}

static qp_status want_if_there(const qp_tensor *t, const char *what, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2,
                               qp_text *reason)
{
    return present(t) ? want(t, what, format, ne0, ne1, ne2, reason) : QP_OK;
}

static qp_status want_like(const qp_tensor *t, const char *what, const qp_tensor *like, qp_text *reason)
{
    return want(t, what, like->format, like->ne[0], like->ne[1], like->ne[2], reason);
}

/* ---- one op ---- */

static qp_status check_get_rows(const qp_op *op, qp_text *reason)
{
    const qp_tensor *dst = &op->dst;
    qp_status status = want(dst, "dst", QP_FORMAT_F32, ANY, 1, ANY, reason);
    if (!status)
        status = want(&op->src[QP_GET_ROWS_TABLE], "the table", ANY_FORMAT, dst->ne[0], ANY, 1, reason);
    return status ? status : want(&op->src[QP_GET_ROWS_IDS], "ids", QP_FORMAT_I32, dst->ne[2], 1, 1, reason);
}

static qp_status check_norm(const qp_op *op, qp_text *reason)
{
    const qp_tensor *x = &op->src[QP_NORM_X];
    if (op->p.norm.kind > QP_NORM_L2)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "there is no norm of kind %u", op->p.norm.kind);
    qp_status status = want(x, "x", QP_FORMAT_F32, ANY, ANY, ANY, reason);
    if (!status)
        status = want_like(&op->dst, "dst", x, reason);
    if (!status)
        status = want_if_there(&op->src[QP_NORM_WEIGHT], "the weight", QP_FORMAT_F32, x->ne[0], 1, 1, reason);
    return status ? status : want_if_there(&op->src[QP_NORM_BIAS], "the bias", QP_FORMAT_F32, x->ne[0], 1, 1, reason);
}

static qp_status check_matmul(const qp_op *op, qp_text *reason)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W], *x = &op->src[QP_MATMUL_X], *w2 = &op->src[QP_MATMUL_W2];
    if (op->p.matmul.act > QP_ACT_SOFTPLUS)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "there is no activation %u", op->p.matmul.act);
    if (present(&op->src[QP_MATMUL_BIAS2]) && !present(w2))
        return qn_fail(reason, QP_ERR_INVALID, "there is a second bias but no second weight");
    qp_status status = want(w, "W", ANY_FORMAT, ANY, ANY, 1, reason);
    if (!status)
        status = want(x, "x", QP_FORMAT_F32, w->ne[0], 1, ANY, reason);
    if (!status)
        status = want(&op->dst, "dst", QP_FORMAT_F32, w->ne[1], 1, x->ne[2], reason);
    if (!status)
        status = want_if_there(&op->src[QP_MATMUL_BIAS], "the bias", QP_FORMAT_F32, w->ne[1], 1, 1, reason);
    if (!status)
        status = want_if_there(&op->src[QP_MATMUL_RESIDUAL], "the residual", QP_FORMAT_F32, w->ne[1], 1, x->ne[2], reason);
    if (!status)
        status = want_if_there(w2, "W2", w->format, w->ne[0], w->ne[1], 1, reason);
    return status ? status : want_if_there(&op->src[QP_MATMUL_BIAS2], "the second bias", QP_FORMAT_F32, w->ne[1], 1, 1, reason);
}

static qp_status check_rope(const qp_op *op, qp_text *reason)
{
    const qp_tensor *x = &op->src[QP_ROPE_X];
    const qp_rope_params *p = &op->p.rope;
    if (p->mode > QP_ROPE_NEOX)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "there is no rope mode %u yet", p->mode);
    if (p->flags & ~(uint32_t)QP_ROPE_EXACT_RAMP)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "rope flags %#x are not known", p->flags);
    qp_status status = want(x, "x", QP_FORMAT_F32, ANY, ANY, ANY, reason);
    if (!status && (!p->n_dims || p->n_dims % 2 || (int64_t)p->n_dims > x->ne[0]))
        status = qn_fail(reason, QP_ERR_INVALID, "n_dims is %u: an even number up to the head size of %lld is due", p->n_dims,
                         (long long)x->ne[0]);
    if (!status)
        status = want_like(&op->dst, "dst", x, reason);
    if (!status)
        status = want(&op->src[QP_ROPE_POSITIONS], "positions", QP_FORMAT_I32, x->ne[2], 1, 1, reason);
    return status ? status : want_if_there(&op->src[QP_ROPE_FACTORS], "the factors", QP_FORMAT_F32, p->n_dims / 2, 1, 1, reason);
}

static int is_cache_format(qp_format format)
{
    return format == QP_FORMAT_F32 || format == QP_FORMAT_F16 || format == QP_FORMAT_BF16 || format == QP_FORMAT_Q8_0;
}

static qp_status want_cache(const qp_tensor *t, const char *what, int64_t size, int64_t heads, int64_t cells, qp_text *reason)
{
    qp_status status = want(t, what, ANY_FORMAT, size, heads, cells, reason);
    if (!status && !is_cache_format(t->format))
        status = qn_fail(reason, QP_ERR_UNSUPPORTED, "%s is %s; F32, F16, BF16 and Q8_0 can be", what, format_name(t->format));
    return status;
}

static qp_status check_kv_append(const qp_op *op, qp_text *reason)
{
    const qp_tensor *x = &op->src[QP_KV_APPEND_X];
    qp_status status = want(x, "x", QP_FORMAT_F32, ANY, ANY, ANY, reason);
    if (!status)
        status = want_cache(&op->dst, "the cache", x->ne[0], x->ne[1], ANY, reason);
    return status ? status : want(&op->src[QP_KV_APPEND_CELLS], "cells", QP_FORMAT_I32, x->ne[2], 1, 1, reason);
}

static qp_status check_attention(const qp_op *op, qp_text *reason)
{
    const qp_tensor *q = &op->src[QP_ATTENTION_Q], *k = &op->src[QP_ATTENTION_K], *v = &op->src[QP_ATTENTION_V];
    qp_status status = want(q, "q", QP_FORMAT_F32, ANY, ANY, ANY, reason);
    if (!status)
        status = want_cache(k, "the K cache", q->ne[0], ANY, ANY, reason);
    if (!status)
        status = want_cache(v, "the V cache", ANY, k->ne[1], k->ne[2], reason);
    if (!status && q->ne[1] % k->ne[1])
        status = qn_fail(reason, QP_ERR_INVALID, "%lld query heads cannot share %lld KV heads evenly", (long long)q->ne[1],
                         (long long)k->ne[1]);
    if (!status)
        status = want(&op->dst, "dst", QP_FORMAT_F32, v->ne[0], q->ne[1], q->ne[2], reason);
    if (!status)
        status = want(&op->src[QP_ATTENTION_POSITIONS], "positions", QP_FORMAT_I32, q->ne[2], 1, 1, reason);
    return status ? status : want_if_there(&op->src[QP_ATTENTION_SINKS], "the sinks", QP_FORMAT_F32, q->ne[1], 1, 1, reason);
}

static qp_status check_elementwise(const qp_op *op, qp_text *reason)
{
    const qp_tensor *a = &op->src[QP_ELEMENTWISE_A], *b = &op->src[QP_ELEMENTWISE_B];
    uint32_t f = op->p.elementwise.function;
    int two = f == QP_ELEMENTWISE_ADD || f == QP_ELEMENTWISE_MUL || f == QP_ELEMENTWISE_GLU;
    if (f > QP_ELEMENTWISE_SOFTCAP)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "there is no elementwise function %u", f);
    if (op->p.elementwise.act > QP_ACT_SOFTPLUS && !(f == QP_ELEMENTWISE_GLU && op->p.elementwise.act == QP_ACT_SWIGLU_CLAMPED))
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "there is no activation %u", op->p.elementwise.act);
    qp_status status = want(a, "a", QP_FORMAT_F32, ANY, ANY, ANY, reason);
    if (!status)
        status = want_like(&op->dst, "dst", a, reason);
    if (!status && (two || present(b)))
        status = want(b, "b", QP_FORMAT_F32, a->ne[0], a->ne[1], b->ne[2] == 1 ? 1 : a->ne[2], reason);
    return status;
}

static qp_status check_copy(const qp_op *op, qp_text *reason)
{
    const qp_tensor *src = &op->src[0], *dst = &op->dst;
    if (!present(src))
        return qn_fail(reason, QP_ERR_INVALID, "the source is missing");
    if (src->layout != QP_LAYOUT_GGUF || dst->layout != QP_LAYOUT_GGUF)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "only tensors in GGUF's layout can be copied");
    if (memcmp(src->ne, dst->ne, sizeof src->ne) != 0)
        return qn_fail(reason, QP_ERR_INVALID, "source and destination differ in shape");
    return QP_OK;
}

static qp_status check_sample(const qp_op *op, qp_text *reason)
{
    const qp_tensor *logits = &op->src[0];
    if (op->p.sample.kind != QP_SAMPLE_GREEDY)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "there is no way of sampling %u", op->p.sample.kind);
    qp_status status = want(logits, "logits", QP_FORMAT_F32, ANY, 1, ANY, reason);
    return status ? status : want(&op->dst, "dst", QP_FORMAT_I32, logits->ne[2], 1, 1, reason);
}

static qp_status check_short_conv(const qp_op *op, qp_text *reason)
{
    const qp_tensor *x = &op->src[QP_SHORT_CONV_X], *w = &op->src[QP_SHORT_CONV_W];
    if (op->p.short_conv.act > QP_ACT_SOFTPLUS)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "there is no activation %u", op->p.short_conv.act);
    qp_status status = want(x, "x", QP_FORMAT_F32, ANY, 1, ANY, reason);
    if (!status)
        status = want_like(&op->dst, "dst", x, reason);
    if (!status)
        status = want(w, "the weights", QP_FORMAT_F32, ANY, x->ne[0], 1, reason);
    if (!status && (w->ne[0] < 2 || w->ne[0] > 16))
        status = qn_fail(reason, QP_ERR_INVALID, "the width is %lld: 2 to 16 is due", (long long)w->ne[0]);
    if (!status)
        status = want_if_there(&op->src[QP_SHORT_CONV_BIAS], "the bias", QP_FORMAT_F32, x->ne[0], 1, 1, reason);
    if (!status)
        status = want(&op->src[QP_SHORT_CONV_POSITIONS], "positions", QP_FORMAT_I32, x->ne[2], 1, 1, reason);
    return status ? status : want(&op->src[QP_SHORT_CONV_STATE], "the state", QP_FORMAT_F32, x->ne[0], w->ne[0] - 1, 1, reason);
}

static qp_status check_delta_rule(const qp_op *op, qp_text *reason)
{
    const qp_tensor *k = &op->src[QP_DELTA_RULE_K], *v = &op->src[QP_DELTA_RULE_V];
    if (op->p.delta_rule.flags & ~(uint32_t)QP_DELTA_GROUPED)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "there are no flags 0x%x", op->p.delta_rule.flags);
    qp_status status = want(k, "k", QP_FORMAT_F32, ANY, ANY, ANY, reason);
    if (!status)
        status = want_like(&op->src[QP_DELTA_RULE_Q], "q", k, reason);
    if (!status)
        status = want(v, "v", QP_FORMAT_F32, ANY, ANY, k->ne[2], reason);
    if (!status && (k->ne[0] > QP_DELTA_MAX_K || v->ne[1] % k->ne[1]))
        status = qn_fail(reason, QP_ERR_INVALID, "keys of %lld features (%d at most) in %lld heads for %lld value heads",
                         (long long)k->ne[0], QP_DELTA_MAX_K, (long long)k->ne[1], (long long)v->ne[1]);
    if (!status)
        status = want_like(&op->dst, "dst", v, reason);
    if (!status)
        status = want(&op->src[QP_DELTA_RULE_GATE], "g", QP_FORMAT_F32, v->ne[1], 1, k->ne[2], reason);
    if (!status)
        status = want(&op->src[QP_DELTA_RULE_BETA], "beta", QP_FORMAT_F32, v->ne[1], 1, k->ne[2], reason);
    if (!status)
        status = want(&op->src[QP_DELTA_RULE_POSITIONS], "positions", QP_FORMAT_I32, k->ne[2], 1, 1, reason);
    return status ? status : want(&op->src[QP_DELTA_RULE_STATE], "the state", QP_FORMAT_F32, v->ne[0], k->ne[0], v->ne[1], reason);
}

static qp_status check_expert_route(const qp_op *op, qp_text *reason)
{
    const qp_tensor *logits = &op->src[QP_EXPERT_ROUTE_LOGITS];
    const qp_expert_route_params *p = &op->p.expert_route;
    int64_t groups = p->groups > 1 ? p->groups : 1, used = groups > 1 ? p->groups_used : 1;
    if (p->gate > QP_GATE_SOFTMAX_CHOSEN || p->flags & ~(uint32_t)QP_EXPERT_NORMALISE)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "there is no gate %u with flags 0x%x", p->gate, p->flags);
    qp_status status = want(logits, "logits", QP_FORMAT_F32, ANY, 1, ANY, reason);
    if (!status)
        status = want(&op->dst, "dst", QP_FORMAT_F32, ANY, 2, logits->ne[2], reason);
    if (!status)
        status = want_if_there(&op->src[QP_EXPERT_ROUTE_BIAS], "the bias", QP_FORMAT_F32, logits->ne[0], 1, 1, reason);
    if (status)
        return status;
    if (logits->ne[0] % groups || used < 1 || used > groups)
        return qn_fail(reason, QP_ERR_INVALID, "%lld experts in %lld groups of which %lld are used", (long long)logits->ne[0],
                       (long long)groups, (long long)used);
    if (op->dst.ne[0] > logits->ne[0] / groups * used)
        return qn_fail(reason, QP_ERR_INVALID, "%lld experts are to be chosen out of %lld", (long long)op->dst.ne[0],
                       (long long)(logits->ne[0] / groups * used));
    return QP_OK;
}

static qp_status check_expert_vectors(const qp_op *op, qp_text *reason)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *w2 = &op->src[QP_EXPERT_MATMUL_W2];
    const qp_tensor *bias2 = &op->src[QP_EXPERT_MATMUL_BIAS2], *scales = &op->src[QP_EXPERT_MATMUL_SCALES];
    if (present(w2) ? present(scales) : present(bias2))
        return qn_fail(reason, QP_ERR_INVALID, "a gated pair has no scales, and without one there is no second bias");
    qp_status status = want_if_there(&op->src[QP_EXPERT_MATMUL_BIAS], "the bias", QP_FORMAT_F32, w->ne[1], w->ne[2], 1, reason);
    if (!status)
        status = want_if_there(bias2, "the second bias", QP_FORMAT_F32, w->ne[1], w->ne[2], 1, reason);
    return status ? status : want_if_there(scales, "the scales", QP_FORMAT_F32, w->ne[2], 1, 1, reason);
}

static qp_status check_expert_matmul(const qp_op *op, qp_text *reason)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *x = &op->src[QP_EXPERT_MATMUL_X], *w2 = &op->src[QP_EXPERT_MATMUL_W2];
    const qp_tensor *route = &op->src[QP_EXPERT_MATMUL_ROUTE], *residual = &op->src[QP_EXPERT_MATMUL_RESIDUAL];
    const qp_expert_matmul_params *p = &op->p.expert_matmul;
    int sum = (p->flags & QP_EXPERT_SUM) != 0;
    if (p->act > QP_ACT_SOFTPLUS && !(p->act == QP_ACT_SWIGLU_CLAMPED && present(w2)))
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "there is no activation %u%s", p->act, present(w2) ? "" : " of one product");
    if (p->flags & ~(uint32_t)(QP_MATMUL_FLOAT | QP_EXPERT_SUM))
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "flags 0x%x are not known", p->flags);
    if (present(residual) && !sum)
        return qn_fail(reason, QP_ERR_INVALID, "there is a residual but no sum that it could be added to");
    qp_status status = want(w, "W", ANY_FORMAT, ANY, ANY, ANY, reason);
    if (!status)
        status = want(route, "the route", QP_FORMAT_F32, ANY, 2, ANY, reason);
    if (!status)
        status = want(x, "x", QP_FORMAT_F32, w->ne[0], x->ne[1] == 1 ? 1 : route->ne[0], route->ne[2], reason);
    if (!status)
        status = want(&op->dst, "dst", QP_FORMAT_F32, w->ne[1], sum ? 1 : route->ne[0], route->ne[2], reason);
    if (!status)
        status = want_if_there(residual, "the residual", QP_FORMAT_F32, w->ne[1], 1, route->ne[2], reason);
    if (!status)
        status = want_if_there(w2, "W2", w->format, w->ne[0], w->ne[1], w->ne[2], reason);
    return status ? status : check_expert_vectors(op, reason);
}

/* One row an op. A real backend has its launch function in the row too: what `check` accepts is what runs. */
static const struct row {
    const char *name;
    qp_status (*check)(const qp_op *op, qp_text *reason);
} rows[QP_OP_LIMIT] = {
    [QP_OP_GET_ROWS] = {"get_rows", check_get_rows},
    [QP_OP_NORM] = {"norm", check_norm},
    [QP_OP_MATMUL] = {"matmul", check_matmul},
    [QP_OP_ROPE] = {"rope", check_rope},
    [QP_OP_KV_APPEND] = {"kv_append", check_kv_append},
    [QP_OP_ATTENTION] = {"attention", check_attention},
    [QP_OP_ELEMENTWISE] = {"elementwise", check_elementwise},
    [QP_OP_COPY] = {"copy", check_copy},
    [QP_OP_SAMPLE] = {"sample", check_sample},
    [QP_OP_SHORT_CONV] = {"short_conv", check_short_conv},
    [QP_OP_DELTA_RULE] = {"delta_rule", check_delta_rule},
    [QP_OP_EXPERT_ROUTE] = {"expert_route", check_expert_route},
    [QP_OP_EXPERT_MATMUL] = {"expert_matmul", check_expert_matmul},
};

/* ---- what all ops share ---- */

/* Bytes from the tensor's start to the end of its last block; refuses what has no end. */
static qp_status measure(const qp_tensor *t, const char *what, uint64_t *bytes, qp_text *reason)
{
    uint32_t elements = qk_block_elements(t->format);
    int64_t end = qk_block_bytes(t->format), step;
    if (!elements)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "%s has format number %u, which no format has", what, t->format);
    for (int i = 0; i < 4; i++)
        if (t->ne[i] < 1 || t->nb[i] < 0)
            return qn_fail(reason, QP_ERR_INVALID, "%s has %lld elements and stride %lld in dimension %d", what,
                           (long long)t->ne[i], (long long)t->nb[i], i);
    if (t->ne[0] % elements)
        return qn_fail(reason, QP_ERR_INVALID, "%s has rows of %lld elements, not whole blocks of %u", what, (long long)t->ne[0],
                       elements);
    for (int i = 0; i < 4; i++)
        if (__builtin_mul_overflow((i ? t->ne[i] : t->ne[0] / elements) - 1, t->nb[i], &step) ||
            __builtin_add_overflow(end, step, &end))
            return qn_fail(reason, QP_ERR_INVALID, "%s is larger than can be addressed", what);
    *bytes = (uint64_t)end;
    return QP_OK;
}

static qp_status check_tensor(const qp_device *device, const qp_tensor *t, const char *what, int placed, qp_op_info *info,
                              qp_text *reason)
{
    uint64_t bytes = 0;
    if (!present(t))
        return t->buffer ? qn_fail(reason, QP_ERR_INVALID, "%s has a buffer but no shape", what) : QP_OK;
    qp_status status = measure(t, what, &bytes, reason);
    if (!status && placed)
        status = qn_range_check(device, &(qp_range){t->buffer, t->offset, bytes}, what, reason);
    if (!status && info)
        info->bytes_moved += bytes;
    return status;
}

static qp_status check_tensors(const qp_device *device, const qp_op *op, int placed, qp_op_info *info, qp_text *reason)
{
    char what[16];
    qp_status status = check_tensor(device, &op->dst, "dst", placed, info, reason);
    if (!status)
        status = check_tensor(device, &op->live, "the live row count", placed, NULL, reason);
    if (!status)
        status = want_if_there(&op->live, "the live row count", QP_FORMAT_I32, 1, 1, 1, reason);
    for (int i = 0; i < QP_OP_SOURCES && !status; i++) {
        snprintf(what, sizeof what, "source %d", i);
        status = check_tensor(device, &op->src[i], what, placed, info, reason);
    }
    return status;
}

qp_status qn_op_check(const qp_device *device, const qp_op *op, int placed, qp_op_info *info, qp_text *reason)
{
    const struct row *row = op->kind < QP_OP_LIMIT ? &rows[op->kind] : NULL;
    if (!row || !row->check)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "there is no op of kind %u here", op->kind);
    if (op->version != 1)
        return qn_fail(reason, QP_ERR_UNSUPPORTED, "%s has version %u; this device knows version 1", row->name, op->version);
    char words[224] = "";
    qp_text text = {words, sizeof words};
    qp_op_info fresh = {0};
    qp_status status = check_tensors(device, op, placed, &fresh, &text);
    if (!status)
        status = row->check(op, &text);
    if (status)
        return qn_fail(reason, status, "%s: %s", row->name, words);
    if (info) {
        fresh.struct_size = info->struct_size;
        snprintf(fresh.kernel, sizeof fresh.kernel, "%s.null", row->name);
        memcpy(info, &fresh, info->struct_size < sizeof fresh ? info->struct_size : sizeof fresh);
    }
    return QP_OK;
}

qp_status qn_op_query(qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    return qn_op_check(device, op, 0, info, reason);
}
