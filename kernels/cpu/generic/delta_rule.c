/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/delta_rule.c: the gated delta rule, row after row. Loops run over the value's features, which never meet, so
 * that they become vector code. */
#include "kernels/cpu/generic/math.h"
#include "kernels/cpu/rows.h"

/* d = Sᵀk, y = Sᵀq; returns k·q. */
static float look(const qk_delta_args *a, const float *k, const float *q, float *d, float *y)
{
    float kq = 0;
    memset(d, 0, (size_t)a->v_size * sizeof *d);
    memset(y, 0, (size_t)a->v_size * sizeof *y);
    for (int64_t i = 0; i < a->k_size; i++) {
        const float *s = a->state + i * a->state_stride;
        float key = k[i], query = q[i];
        kq += key * query;
        for (int64_t c = 0; c < a->v_size; c++) {
            d[c] += s[c] * key;
            y[c] += s[c] * query;
        }
    }
    return kq;
}

static void do_row(const qk_delta_args *a, int64_t r)
{
    float d[QK_DELTA_MAX_V], y[QK_DELTA_MAX_V];
    const float *k = a->k + r * a->k_stride, *q = a->q + r * a->q_stride, *v = a->v + r * a->v_stride;
    float *to = a->y + r * a->y_stride, beta = a->beta[r * a->beta_stride], decay = 1;
    if (a->positions[r] == 0) {
        for (int64_t i = 0; i < a->k_size; i++)
            memset(a->state + i * a->state_stride, 0, (size_t)a->v_size * sizeof *a->state);
    } else {
        decay = qk_expf(a->g[r * a->g_stride]);
    }
    float kq = look(a, k, q, d, y);
    for (int64_t c = 0; c < a->v_size; c++) {
        d[c] = beta * (v[c] - decay * d[c]);
        to[c] = a->scale * (decay * y[c] + kq * d[c]);
    }
    for (int64_t i = 0; i < a->k_size; i++) {
        float *s = a->state + i * a->state_stride, key = k[i];
        for (int64_t c = 0; c < a->v_size; c++)
            s[c] = decay * s[c] + key * d[c];
    }
}

static void delta_rule(const qk_delta_args *a)
{
    for (int64_t r = 0; r < a->rows; r++)
        do_row(a, r);
}

void qk_generic_delta_rule(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->delta_rule = delta_rule;
}
