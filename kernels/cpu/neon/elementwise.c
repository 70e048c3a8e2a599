/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/elementwise.c: functions of one or two rows, and the largest element. */
#include "kernels/cpu/neon/math.h"
#include "kernels/cpu/rows.h"

typedef vf (*element_fn)(vf a, vf b, vf scale, vf offset);

/* y may be a or b; the last vector goes through a copy, so that nothing beyond n is touched. f is a constant wherever this is used. */
QK_INLINE void each(float *y, const float *a, const float *b, int64_t n, const qp_elementwise_params *p, const element_fn f)
{
    vf scale = v_set1(p->scale), offset = v_set1(p->offset);
    int64_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        v_store(y + i, f(v_load(a + i), b ? v_load(b + i) : v_zero(), scale, offset));
    if (i < n)
        v_store_n(y + i, f(v_load_n(a + i, n - i), b ? v_load_n(b + i, n - i) : v_zero(), scale, offset), n - i);
}

#define ELEMENT(name, result)                                         \
    QK_INLINE vf name##_of(vf a, vf b, vf scale, vf offset)           \
    {                                                                 \
        (void)b, (void)scale, (void)offset;                           \
        return result;                                                \
    }                                                                 \
    static void name(float *y, const float *a, const float *b, int64_t n, const qp_elementwise_params *p) \
    {                                                                 \
        each(y, a, b, n, p, name##_of);                               \
    }
#define ACTIVATION(name, act)            \
    ELEMENT(name, v_act(act, a))         \
    ELEMENT(name##_glu, v_mul(v_act(act, a), b))

ELEMENT(add, v_add(a, b))
ELEMENT(mul, v_mul(a, b))
ELEMENT(scale_offset, v_fma(scale, a, offset))
ELEMENT(softcap, v_mul(scale, v_tanh(v_div(a, scale))))
ACTIVATION(none, QP_ACT_NONE)
ACTIVATION(silu, QP_ACT_SILU)
ACTIVATION(gelu, QP_ACT_GELU)
ACTIVATION(gelu_tanh, QP_ACT_GELU_TANH)
ACTIVATION(relu, QP_ACT_RELU)
ACTIVATION(sigmoid, QP_ACT_SIGMOID)
ACTIVATION(gelu_quick, QP_ACT_GELU_QUICK)

static void elementwise(float *y, const float *a, const float *b, int64_t n, const qp_elementwise_params *p)
{
    typedef void (*row_fn)(float *, const float *, const float *, int64_t, const qp_elementwise_params *);
    static const row_fn acts[] = {none, silu, gelu, gelu_tanh, relu, sigmoid, gelu_quick};
    static const row_fn glus[] = {none_glu, silu_glu, gelu_glu, gelu_tanh_glu, relu_glu, sigmoid_glu, gelu_quick_glu};
    switch (p->function) {
    case QP_ELEMENTWISE_ADD: add(y, a, b, n, p); break;
    case QP_ELEMENTWISE_MUL: mul(y, a, b, n, p); break;
    case QP_ELEMENTWISE_SCALE: scale_offset(y, a, b, n, p); break;
    case QP_ELEMENTWISE_SOFTCAP: softcap(y, a, b, n, p); break;
    case QP_ELEMENTWISE_ACT: acts[p->act](y, a, b, n, p); break;
    case QP_ELEMENTWISE_GLU: glus[p->act](y, a, b, n, p); break;
    }
}

/* First the largest (a NaN stays), then where it is. */
static int32_t argmax(const float *x, int64_t n)
{
    float32x4_t most = vdupq_n_f32(-__builtin_inff());
    int64_t i = 0;
    for (; i + 4 <= n; i += 4)
        most = vmaxq_f32(most, vld1q_f32(x + i));
    float largest = vmaxvq_f32(most);
    for (; i < n; i++)
        largest = x[i] > largest || x[i] != x[i] ? x[i] : largest;
    for (i = 0; i < n && largest == largest; i++)
        if (x[i] == largest)
            return (int32_t)i;
    return -1;
}

void qk_neon_elementwise(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->elementwise = elementwise;
    table->argmax = argmax;
}
