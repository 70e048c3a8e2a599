/* SPDX-License-Identifier: MIT
 * kernels/ref/elementwise.c: activations, and functions of one or two tensors element by element. */
#include "kernels/ref/access.h"

#include <math.h>

double qr_activate(qp_activation act, double x)
{
    switch (act) {
    case QP_ACT_SILU: return x / (1 + exp(-x));
    case QP_ACT_GELU: return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
    case QP_ACT_GELU_TANH: return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x))); /* sqrt(2/pi) */
    case QP_ACT_RELU: return x < 0 ? 0 : x;
    case QP_ACT_SIGMOID: return 1 / (1 + exp(-x));
    case QP_ACT_GELU_QUICK: return x / (1 + exp(-1.702 * x));
    case QP_ACT_SOFTPLUS: return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); /* neither overflows */
    default: return x;
    }
}

double qr_gate(qp_activation act, double a, double b, double alpha, double limit)
{
    if (act != QP_ACT_SWIGLU_CLAMPED)
        return qr_activate(act, a) * b;
    double g = a > limit ? limit : a, u = b > limit ? limit : b < -limit ? -limit : b; /* so that a NaN stays one */
    return g / (1 + exp(-alpha * g)) * (u + 1);
}

static double evaluate(const qp_elementwise_params *p, double a, double b)
{
    double scale = (double)p->scale;
    switch (p->function) {
    case QP_ELEMENTWISE_ADD: return a + b;
    case QP_ELEMENTWISE_MUL: return a * b;
    case QP_ELEMENTWISE_SCALE: return scale * a + (double)p->offset;
    case QP_ELEMENTWISE_ACT: return qr_activate(p->act, a);
    case QP_ELEMENTWISE_GLU: return qr_gate(p->act, a, b, scale, (double)p->offset);
    case QP_ELEMENTWISE_SOFTCAP: return scale * tanh(a / scale);
    default: return a;
    }
}

void qr_elementwise(const qk_op *op)
{
    const qk_tensor *a = &op->src[QP_ELEMENTWISE_A], *b = &op->src[QP_ELEMENTWISE_B], *dst = &op->dst;
    for (int64_t i3 = 0; i3 < dst->ne[3]; i3++)
        for (int64_t r = 0; r < op->live; r++)
            for (int64_t h = 0; h < dst->ne[1]; h++) {
                const char *a_row = qr_row(a, h, r, i3);
                const char *b_row = b->data ? qr_row(b, h, b->ne[2] == 1 ? 0 : r, b->ne[3] == 1 ? 0 : i3) : NULL;
                char *to = qr_row(dst, h, r, i3);
                for (int64_t i = 0; i < dst->ne[0]; i++)
                    qr_set_f32(dst, to, i,
                               evaluate(&op->p.elementwise, (double)qr_f32(a, a_row, i), b_row ? (double)qr_f32(b, b_row, i) : 0));
            }
}
