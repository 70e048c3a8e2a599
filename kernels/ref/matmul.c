/* SPDX-License-Identifier: MIT
 * kernels/ref/matmul.c: W x with the epilogue. Weights are dequantised exactly, activations never quantised. */
#include "kernels/ref/access.h"

/* scale·(W x) + bias_scale·bias for one row of W and one token */
static double affine(const qk_tensor *w, const qk_tensor *x, const char *x_row, const qk_tensor *bias, double scale,
                     double bias_scale, int64_t m)
{
    double a = scale * qr_dot(w, qr_row(w, m, 0, 0), x, x_row, w->ne[0]);
    return bias->data ? a + bias_scale * (double)qr_f32(bias, bias->data, m) : a;
}

void qr_matmul(const qk_op *op)
{
    const qk_tensor *w = &op->src[QP_MATMUL_W], *w2 = &op->src[QP_MATMUL_W2], *x = &op->src[QP_MATMUL_X];
    const qk_tensor *residual = &op->src[QP_MATMUL_RESIDUAL];
    const qp_matmul_params *p = &op->p.matmul;
    for (int64_t r = 0; r < op->live; r++) {
        const char *from = qr_row(x, 0, r, 0);
        char *to = qr_row(&op->dst, 0, r, 0);
        for (int64_t m = 0; m < op->dst.ne[0]; m++) {
            double y =
                qr_activate(p->act, affine(w, x, from, &op->src[QP_MATMUL_BIAS], (double)p->scale, (double)p->bias_scale, m));
            if (w2->data)
                y *= affine(w2, x, from, &op->src[QP_MATMUL_BIAS2], (double)p->scale2, (double)p->bias_scale2, m);
            if (residual->data)
                y += (double)qr_f32(residual, qr_row(residual, 0, r, 0), m);
            qr_set_f32(&op->dst, to, m, y);
        }
    }
}
