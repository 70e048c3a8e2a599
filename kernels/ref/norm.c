/* SPDX-License-Identifier: MIT
 * kernels/ref/norm.c: RMS, layer and L2 norm. */
#include "kernels/ref/access.h"

#include <math.h>

static double mean(const qk_tensor *x, const char *row)
{
    double sum = 0;
    for (int64_t i = 0; i < x->ne[0]; i++)
        sum += (double)qr_f32(x, row, i);
    return sum / (double)x->ne[0];
}

/* Σ (x − centre)² */
static double squares(const qk_tensor *x, const char *row, double centre)
{
    double sum = 0;
    for (int64_t i = 0; i < x->ne[0]; i++) {
        double d = (double)qr_f32(x, row, i) - centre;
        sum += d * d;
    }
    return sum;
}

static void norm_row(const qk_op *op, const char *from, char *to)
{
    const qk_tensor *x = &op->src[QP_NORM_X], *w = &op->src[QP_NORM_WEIGHT], *b = &op->src[QP_NORM_BIAS];
    const qp_norm_params *p = &op->p.norm;
    double n = (double)x->ne[0], eps = (double)p->eps, centre = 0, divisor;
    if (p->kind == QP_NORM_LAYER)
        centre = mean(x, from);
    double sum = squares(x, from, centre);
    if (p->kind == QP_NORM_L2) {
        double length = sqrt(sum);
        divisor = length < eps ? eps : length; /* in this order a NaN stays one */
    } else {
        divisor = sqrt(sum / n + eps);
    }
    for (int64_t i = 0; i < x->ne[0]; i++) {
        double y = ((double)qr_f32(x, from, i) - centre) / divisor;
        if (w->data)
            y *= (double)qr_f32(w, w->data, i) + (double)p->weight_offset;
        if (b->data)
            y += (double)qr_f32(b, b->data, i);
        qr_set_f32(&op->dst, to, i, y);
    }
}

void qr_norm(const qk_op *op)
{
    const qk_tensor *x = &op->src[QP_NORM_X];
    for (int64_t i3 = 0; i3 < x->ne[3]; i3++)
        for (int64_t r = 0; r < op->live; r++)
            for (int64_t h = 0; h < x->ne[1]; h++)
                norm_row(op, qr_row(x, h, r, i3), qr_row(&op->dst, h, r, i3));
}
