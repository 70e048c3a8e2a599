/* SPDX-License-Identifier: MIT
 * kernels/ref/short_conv.c: causal convolution of each channel with a few weights, and the rows that the next run will look back
 * on. */
#include "kernels/ref/access.h"

typedef struct channel {
    const qk_op *op;
    int64_t c;
    int64_t begin; /* the row that began the sequence at hand; what lies before it counts as zeros */
} channel;

/* The input at row t; rows before 0 are in the state, the newest last. */
static double input(const channel *at, int64_t t)
{
    const qk_tensor *x = &at->op->src[QP_SHORT_CONV_X], *state = &at->op->src[QP_SHORT_CONV_STATE];
    if (t < at->begin)
        return 0;
    return (double)(t < 0 ? qr_f32(state, qr_row(state, state->ne[1] + t, 0, 0), at->c) : qr_f32(x, qr_row(x, 0, t, 0), at->c));
}

static double convolve(const channel *at, int64_t r)
{
    const qk_tensor *w = &at->op->src[QP_SHORT_CONV_W], *bias = &at->op->src[QP_SHORT_CONV_BIAS];
    double sum = bias->data ? (double)qr_f32(bias, bias->data, at->c) : 0;
    for (int64_t j = 0; j < w->ne[0]; j++)
        sum += (double)qr_f32(w, qr_row(w, at->c, 0, 0), j) * input(at, r - w->ne[0] + 1 + j);
    return sum;
}

static void do_channel(const qk_op *op, int64_t c)
{
    const qk_tensor *state = &op->src[QP_SHORT_CONV_STATE];
    int64_t kept = state->ne[1];
    channel at = {.op = op, .c = c, .begin = -kept};
    for (int64_t r = 0; r < op->live; r++) {
        if (qr_i32(&op->src[QP_SHORT_CONV_POSITIONS], r) == 0)
            at.begin = r;
        qr_set_f32(&op->dst, qr_row(&op->dst, 0, r, 0), c, qr_activate(op->p.short_conv.act, convolve(&at, r)));
    }
    /* oldest first: a row of the state is read before it is written */
    for (int64_t i = 0; i < kept && op->live > 0; i++)
        qr_set_f32(state, qr_row(state, i, 0, 0), c, input(&at, op->live - kept + i));
}

void qr_short_conv(const qk_op *op)
{
    for (int64_t c = 0; c < op->dst.ne[0]; c++)
        do_channel(op, c);
}
