/* SPDX-License-Identifier: MIT
 * kernels/ref/expert_matmul.c: W x with the matrix of each row's chosen experts. Weights are dequantised exactly, activations never
 * quantised. */
#include "kernels/ref/access.h"

#include <math.h>

/* scale·(W_e x) + bias_e for one row of W_e */
static double affine(const qk_tensor *w, const qk_tensor *bias, const qk_tensor *x, const char *x_row, double scale, int64_t e,
                     int64_t m)
{
    double a = scale * qr_dot(w, qr_row(w, m, e, 0), x, x_row, w->ne[0]);
    return bias->data ? a + (double)qr_f32(bias, qr_row(bias, e, 0, 0), m) : a;
}

static double element(const qk_op *op, int64_t i, int64_t r, int64_t e, int64_t m)
{
    const qk_tensor *x = &op->src[QP_EXPERT_MATMUL_X], *scales = &op->src[QP_EXPERT_MATMUL_SCALES];
    const qk_tensor *w2 = &op->src[QP_EXPERT_MATMUL_W2];
    const qp_expert_matmul_params *p = &op->p.expert_matmul;
    const char *from = qr_row(x, x->ne[1] == 1 ? 0 : i, r, 0);
    double scale = scales->data ? (double)qr_f32(scales, scales->data, e) : 1;
    double a = affine(&op->src[QP_EXPERT_MATMUL_W], &op->src[QP_EXPERT_MATMUL_BIAS], x, from, scale, e, m);
    if (!w2->data)
        return qr_activate(p->act, a);
    double b = affine(w2, &op->src[QP_EXPERT_MATMUL_BIAS2], x, from, 1, e, m);
    return qr_gate(p->act, a, b, (double)p->alpha, (double)p->limit);
}

/* The number of expert i of row r; −1 for one that W has not. */
static int64_t expert(const qk_op *op, int64_t i, int64_t r)
{
    const qk_tensor *route = &op->src[QP_EXPERT_MATMUL_ROUTE];
    float number = qr_f32(route, qr_row(route, 1, r, 0), i);
    return number >= 0 && number < (float)op->src[QP_EXPERT_MATMUL_W].ne[2] ? (int64_t)number : -1;
}

static void each_apart(const qk_op *op, int64_t r)
{
    for (int64_t i = 0; i < op->dst.ne[1]; i++) {
        int64_t e = expert(op, i, r);
        for (int64_t m = 0; m < op->dst.ne[0]; m++)
            qr_set_f32(&op->dst, qr_row(&op->dst, i, r, 0), m, e < 0 ? 0 : element(op, i, r, e, m));
    }
}

static void all_added(const qk_op *op, int64_t r)
{
    const qk_tensor *route = &op->src[QP_EXPERT_MATMUL_ROUTE], *residual = &op->src[QP_EXPERT_MATMUL_RESIDUAL];
    for (int64_t m = 0; m < op->dst.ne[0]; m++) {
        double sum = 0;
        for (int64_t i = 0; i < route->ne[0]; i++) {
            int64_t e = expert(op, i, r);
            if (e >= 0)
                sum += (double)qr_f32(route, qr_row(route, 0, r, 0), i) * element(op, i, r, e, m);
        }
        if (residual->data)
            sum += (double)qr_f32(residual, qr_row(residual, 0, r, 0), m);
        qr_set_f32(&op->dst, qr_row(&op->dst, 0, r, 0), m, sum);
    }
}

void qr_expert_matmul(const qk_op *op)
{
    for (int64_t r = 0; r < op->live; r++)
        if (op->p.expert_matmul.flags & QP_EXPERT_SUM)
            all_added(op, r);
        else
            each_apart(op, r);
}
