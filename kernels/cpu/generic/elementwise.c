/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/elementwise.c: the functions of qp_elementwise_params, and argmax. */
#include "kernels/cpu/generic/math.h"
#include "kernels/cpu/rows.h"

/* One loop an activation, so that the choice is outside it. b NULL: no product. */
#define ACT_LOOP(act)                                                                                                              \
    case act:                                                                                                                      \
        if (b) {                                                                                                                   \
            for (int64_t i = 0; i < n; i++)                                                                                        \
                y[i] = qk_act(act, a[i]) * b[i];                                                                                   \
        } else {                                                                                                                   \
            for (int64_t i = 0; i < n; i++)                                                                                        \
                y[i] = qk_act(act, a[i]);                                                                                          \
        }                                                                                                                          \
        break;

static void activate(float *y, const float *a, const float *b, int64_t n, qp_activation act)
{
    switch (act) {
        ACT_LOOP(QP_ACT_SILU)
        ACT_LOOP(QP_ACT_GELU)
        ACT_LOOP(QP_ACT_GELU_TANH)
        ACT_LOOP(QP_ACT_RELU)
        ACT_LOOP(QP_ACT_SIGMOID)
        ACT_LOOP(QP_ACT_GELU_QUICK)
        ACT_LOOP(QP_ACT_SOFTPLUS)
    default:
        for (int64_t i = 0; i < n; i++)
            y[i] = b ? a[i] * b[i] : a[i];
    }
}

static void swiglu_clamped(float *y, const float *a, const float *b, int64_t n, float alpha, float limit)
{
    for (int64_t i = 0; i < n; i++) {
        float g = a[i] > limit ? limit : a[i], u = b[i] > limit ? limit : b[i] < -limit ? -limit : b[i]; /* NaN stays */
        y[i] = g * qk_sigmoidf(alpha * g) * (u + 1);
    }
}

static void elementwise(float *y, const float *a, const float *b, int64_t n, const qp_elementwise_params *p)
{
    switch (p->function) {
    case QP_ELEMENTWISE_ADD:
        for (int64_t i = 0; i < n; i++)
            y[i] = a[i] + b[i];
        break;
    case QP_ELEMENTWISE_MUL:
        for (int64_t i = 0; i < n; i++)
            y[i] = a[i] * b[i];
        break;
    case QP_ELEMENTWISE_SCALE:
        for (int64_t i = 0; i < n; i++)
            y[i] = p->scale * a[i] + p->offset;
        break;
    case QP_ELEMENTWISE_ACT: activate(y, a, NULL, n, p->act); break;
    case QP_ELEMENTWISE_GLU:
        if (p->act == QP_ACT_SWIGLU_CLAMPED)
            swiglu_clamped(y, a, b, n, p->scale, p->offset);
        else
            activate(y, a, b, n, p->act);
        break;
    case QP_ELEMENTWISE_SOFTCAP:
        for (int64_t i = 0; i < n; i++)
            y[i] = p->scale * qk_tanhf(a[i] / p->scale);
        break;
    default: break;
    }
}

static int32_t argmax(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 0; i < n; i++) {
        if (x[i] != x[i])
            return -1;
        if (x[i] > x[best])
            best = i;
    }
    return n > 0 ? (int32_t)best : -1;
}

void qk_generic_elementwise(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->elementwise = elementwise;
    table->argmax = argmax;
}
