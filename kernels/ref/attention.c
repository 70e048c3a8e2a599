/* SPDX-License-Identifier: MIT
 * kernels/ref/attention.c: causal attention with grouped heads, window, soft cap and sinks. Two passes over the scores: first the
 * maximum and the denominator, then the weighted values in pieces, so that no memory is needed beyond the stack. */
#include "kernels/ref/access.h"

#include <math.h>

typedef struct head {
    const qk_op *op;
    const char *q;
    int64_t kv;         /* KV head */
    int64_t begin, end; /* cells */
    double max, sum;
} head;

static double score(const head *h, int64_t cell)
{
    const qk_tensor *q = &h->op->src[QP_ATTENTION_Q], *k = &h->op->src[QP_ATTENTION_K];
    double cap = (double)h->op->p.attention.softcap;
    double s = (double)h->op->p.attention.scale * qr_dot(k, qr_row(k, h->kv, cell, 0), q, h->q, q->ne[0]);
    return cap > 0 ? cap * tanh(s / cap) : s;
}

/* exp(s − max), where −inf weighs nothing even if there is nothing else. */
static double weight_of(double s, double max)
{
    return s == -HUGE_VAL ? 0 : exp(s - max);
}

/* The maximum score and Σ exp(s − max); a sink counts as a score without a value. */
static void softmax(head *h, const float *sink)
{
    h->max = sink ? (double)*sink : -HUGE_VAL;
    h->sum = sink ? 1 : 0;
    for (int64_t c = h->begin; c < h->end; c++) {
        double s = score(h, c);
        if (s > h->max) {
            h->sum = h->sum * weight_of(h->max, s) + 1;
            h->max = s;
        } else {
            h->sum += weight_of(s, h->max);
        }
    }
}

static void weighted_values(const head *h, char *to)
{
    const qk_tensor *v = &h->op->src[QP_ATTENTION_V], *dst = &h->op->dst;
    for (int64_t begin = 0; begin < v->ne[0]; begin += QR_MAX_BLOCK) {
        int64_t count = v->ne[0] - begin < QR_MAX_BLOCK ? v->ne[0] - begin : QR_MAX_BLOCK;
        double values[QR_MAX_BLOCK], acc[QR_MAX_BLOCK] = {0};
        for (int64_t c = h->begin; c < h->end; c++) {
            double weight = weight_of(score(h, c), h->max);
            qr_load(v, qr_row(v, h->kv, c, 0), begin, count, values);
            for (int64_t i = 0; i < count; i++)
                acc[i] += weight * values[i];
        }
        for (int64_t i = 0; i < count; i++)
            qr_set_f32(dst, to, begin + i, acc[i] / h->sum);
    }
}

static void attend(const qk_op *op, int64_t r, int64_t head_index)
{
    const qk_tensor *q = &op->src[QP_ATTENTION_Q], *k = &op->src[QP_ATTENTION_K], *sinks = &op->src[QP_ATTENTION_SINKS];
    int64_t position = qr_i32(&op->src[QP_ATTENTION_POSITIONS], r), window = op->p.attention.window;
    char *to = qr_row(&op->dst, head_index, r, 0);
    if (position < 0) {
        for (int64_t i = 0; i < op->dst.ne[0]; i++)
            qr_set_f32(&op->dst, to, i, 0);
        return;
    }
    if (position >= k->ne[2])
        position = k->ne[2] - 1;
    head h = {.op = op, .q = qr_row(q, head_index, r, 0), .kv = head_index / (q->ne[1] / k->ne[1]), .end = position + 1};
    if (window > 0 && position - window + 1 > 0)
        h.begin = position - window + 1;
    float sink = sinks->data ? qr_f32(sinks, sinks->data, head_index) : 0;
    softmax(&h, sinks->data ? &sink : NULL);
    weighted_values(&h, to);
}

void qr_attention(const qk_op *op)
{
    for (int64_t r = 0; r < op->live; r++)
        for (int64_t h = 0; h < op->src[QP_ATTENTION_Q].ne[1]; h++)
            attend(op, r, h);
}
