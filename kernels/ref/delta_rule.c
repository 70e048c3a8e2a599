/* SPDX-License-Identifier: MIT
 * kernels/ref/delta_rule.c: the gated delta rule, one row after another as it is defined. A column of the state (the K numbers that
 * belong to one feature of the value) never meets another column, so that it can be kept in doubles from the first row to the last.
 */
#include "kernels/ref/access.h"

#include <math.h>

typedef struct column {
    const qk_op *op;
    int64_t head, key_head, v;
    double s[QP_DELTA_MAX_K];
} column;

static double dot(const column *at, const qk_tensor *x, int64_t r)
{
    const char *row = qr_row(x, at->key_head, r, 0);
    double sum = 0;
    for (int64_t i = 0; i < x->ne[0]; i++)
        sum += at->s[i] * (double)qr_f32(x, row, i);
    return sum;
}

static double number(const column *at, uint32_t source, int64_t r) /* of the head's g or beta */
{
    const qk_tensor *t = &at->op->src[source];
    return (double)qr_f32(t, qr_row(t, 0, r, 0), at->head);
}

static void do_row(column *at, int64_t r)
{
    const qk_op *op = at->op;
    const qk_tensor *k = &op->src[QP_DELTA_RULE_K], *v = &op->src[QP_DELTA_RULE_V];
    int begins = qr_i32(&op->src[QP_DELTA_RULE_POSITIONS], r) == 0;
    double decay = exp(number(at, QP_DELTA_RULE_GATE, r));
    for (int64_t i = 0; i < k->ne[0]; i++)
        at->s[i] = begins ? 0 : at->s[i] * decay;
    double value = (double)qr_f32(v, qr_row(v, at->head, r, 0), at->v);
    double d = number(at, QP_DELTA_RULE_BETA, r) * (value - dot(at, k, r));
    for (int64_t i = 0; i < k->ne[0]; i++)
        at->s[i] += d * (double)qr_f32(k, qr_row(k, at->key_head, r, 0), i);
    double out = (double)op->p.delta_rule.scale * dot(at, &op->src[QP_DELTA_RULE_Q], r);
    qr_set_f32(&op->dst, qr_row(&op->dst, at->head, r, 0), at->v, out);
}

static int64_t key_head_of(const qk_op *op, int64_t head)
{
    int64_t heads = op->src[QP_DELTA_RULE_V].ne[1], key_heads = op->src[QP_DELTA_RULE_K].ne[1];
    return op->p.delta_rule.flags & QP_DELTA_GROUPED ? head / (heads / key_heads) : head % key_heads;
}

void qr_delta_rule(const qk_op *op)
{
    const qk_tensor *state = &op->src[QP_DELTA_RULE_STATE];
    column at = {.op = op};
    for (at.head = 0; at.head < state->ne[2]; at.head++)
        for (at.v = 0; at.v < state->ne[0]; at.v++) {
            at.key_head = key_head_of(op, at.head);
            for (int64_t i = 0; i < state->ne[1]; i++)
                at.s[i] = (double)qr_f32(state, qr_row(state, i, at.head, 0), at.v);
            for (int64_t r = 0; r < op->live; r++)
                do_row(&at, r);
            for (int64_t i = 0; i < state->ne[1] && op->live > 0; i++)
                qr_set_f32(state, qr_row(state, i, at.head, 0), at.v, at.s[i]);
        }
}
