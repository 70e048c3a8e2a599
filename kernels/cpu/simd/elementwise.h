/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/elementwise.h: the functions of qp_elementwise_params, and argmax, over the operations of a vec.h. */
#include "kernels/cpu/rows.h"
#include "kernels/cpu/simd/math.h"

/* y[i] = expression of a and b, which are vectors of the inputs there. two: is there a b? */
#define V_LOOP(two, expression)                                                                                                    \
    do {                                                                                                                           \
        int64_t i = 0;                                                                                                             \
        for (; i + V_LANES <= n; i += V_LANES) {                                                                                   \
            vf a = v_load(x + i), b = two ? v_load(z + i) : v_zero();                                                              \
            (void)b;                                                                                                               \
            v_store(y + i, expression);                                                                                            \
        }                                                                                                                          \
        if (i < n) {                                                                                                               \
            vf a = v_load_n(x + i, n - i), b = two ? v_load_n(z + i, n - i) : v_zero();                                            \
            (void)b;                                                                                                               \
            v_store_n(y + i, expression, n - i);                                                                                   \
        }                                                                                                                          \
    } while (0)

#define V_ACT_CASE(act)                                                                                                            \
    case act:                                                                                                                      \
        if (z)                                                                                                                     \
            V_LOOP(1, v_mul(v_act(act, a), b));                                                                                    \
        else                                                                                                                       \
            V_LOOP(0, v_act(act, a));                                                                                              \
        break;

static void activate(float *y, const float *x, const float *z, int64_t n, qp_activation act)
{
    switch (act) {
        V_ACT_CASE(QP_ACT_SILU)
        V_ACT_CASE(QP_ACT_GELU)
        V_ACT_CASE(QP_ACT_GELU_TANH)
        V_ACT_CASE(QP_ACT_RELU)
        V_ACT_CASE(QP_ACT_SIGMOID)
        V_ACT_CASE(QP_ACT_GELU_QUICK)
        V_ACT_CASE(QP_ACT_SOFTPLUS)
    default:
        if (z)
            V_LOOP(1, v_mul(a, b));
        else
            V_LOOP(0, a);
    }
}

static void elementwise(float *y, const float *x, const float *z, int64_t n, const qp_elementwise_params *p)
{
    switch (p->function) {
    case QP_ELEMENTWISE_ADD: V_LOOP(1, v_add(a, b)); break;
    case QP_ELEMENTWISE_MUL: V_LOOP(1, v_mul(a, b)); break;
    case QP_ELEMENTWISE_SCALE: V_LOOP(0, v_add(v_mul(a, v_set1(p->scale)), v_set1(p->offset))); break;
    case QP_ELEMENTWISE_ACT: activate(y, x, NULL, n, p->act); break;
    case QP_ELEMENTWISE_GLU:
        if (p->act == QP_ACT_SWIGLU_CLAMPED)
            V_LOOP(1, v_swiglu_clamped(a, b, v_set1(p->scale), v_set1(p->offset)));
        else
            activate(y, x, z, n, p->act);
        break;
    case QP_ELEMENTWISE_SOFTCAP: V_LOOP(0, v_mul(v_tanh(v_div(a, v_set1(p->scale))), v_set1(p->scale))); break;
    default: break;
    }
}

/* First the largest value of all, then the first place where it stands. */
static int32_t argmax(const float *x, int64_t n)
{
    if (n < 1)
        return -1;
    float best = x[0];
    vf largest = v_set1(best), probe = v_zero();
    int64_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) {
        vf a = v_load(x + i);
        largest = v_max(a, largest);
        probe = v_select(v_unordered(a, a), a, probe);
    }
    best = v_largest(largest);
    int nan = v_bits(v_unordered(probe, probe)) != 0;
    for (; i < n; i++) {
        nan |= x[i] != x[i];
        best = x[i] > best ? x[i] : best;
    }
    if (nan || best != best)
        return -1;
    for (i = 0; i + V_LANES <= n; i += V_LANES) {
        unsigned where = v_bits(v_equal(v_load(x + i), v_set1(best)));
        if (where)
            return (int32_t)(i + __builtin_ctz(where));
    }
    while (x[i] != best)
        i++;
    return (int32_t)i;
}
