/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/norm.c: sums in double: the rows are short next to the matrices, and squares of large values stay finite. */
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/rows.h"

#include <math.h>

QK_INLINE vf load_part(const float *x, int64_t n)
{
    return n >= V_LANES ? v_load(x) : v_load_n(x, n);
}

QK_INLINE void store_part(float *y, vf v, int64_t n)
{
    if (n >= V_LANES)
        v_store(y, v);
    else
        v_store_n(y, v, n);
}

static double sum(const float *x, int64_t n)
{
    vd l = vd_zero(), h = vd_zero();
    for (int64_t i = 0; i < n; i += V_LANES) {
        vf v = load_part(x + i, n - i);
        l = vd_add(l, vd_low(v));
        h = vd_add(h, vd_high(v));
    }
    return vd_sum(vd_add(l, h));
}

/* Σ (x − centre)². What lies beyond n is loaded as 0 and must not count. */
static double squares(const float *x, int64_t n, double centre)
{
    vd l = vd_zero(), h = vd_zero(), c = vd_set1(centre);
    int64_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) {
        vf v = v_load(x + i);
        vd a = vd_sub(vd_low(v), c), b = vd_sub(vd_high(v), c);
        l = vd_fma(a, a, l);
        h = vd_fma(b, b, h);
    }
    double rest = 0;
    for (; i < n; i++)
        rest += ((double)x[i] - centre) * ((double)x[i] - centre);
    return vd_sum(vd_add(l, h)) + rest;
}

static void norm(float *y, const float *x, const float *w, const float *b, int64_t n, const qp_norm_params *p)
{
    double mean = p->kind == QP_NORM_LAYER ? sum(x, n) / (double)n : 0, total = squares(x, n, mean), eps = (double)p->eps, divisor;
    if (p->kind == QP_NORM_L2)
        divisor = sqrt(total) < eps ? eps : sqrt(total); /* in this order a NaN stays one */
    else
        divisor = sqrt(total / (double)n + eps);
    vd centre = vd_set1(mean), scale = vd_set1(1 / divisor);
    vf offset = v_set1(p->weight_offset);
    for (int64_t i = 0; i < n; i += V_LANES) {
        vf v = load_part(x + i, n - i);
        v = vd_join(vd_mul(vd_sub(vd_low(v), centre), scale), vd_mul(vd_sub(vd_high(v), centre), scale));
        if (w)
            v = v_mul(v, v_add(load_part(w + i, n - i), offset));
        if (b)
            v = v_add(v, load_part(b + i, n - i));
        store_part(y + i, v, n - i);
    }
}

void qk_neon_norm(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->norm = norm;
}
