/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/norm.h: sums in double like generic/norm.c, over the operations of a vec.h. */
#include "kernels/cpu/rows.h"

#include <math.h>

/* Σ (x − shift), or Σ (x − shift)². */
QK_INLINE double v_moment(const float *x, int64_t n, double shift, const int squared)
{
    vd low = vd_zero(), high = vd_zero(), s = vd_set1(shift);
    int64_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES) {
        vf v = v_load(x + i);
        vd a = vd_sub(vd_low(v), s), b = vd_sub(vd_high(v), s);
        low = squared ? vd_fma(a, a, low) : vd_add(low, a);
        high = squared ? vd_fma(b, b, high) : vd_add(high, b);
    }
    double sum = vd_sum(vd_add(low, high));
    for (; i < n; i++) {
        double d = (double)x[i] - shift;
        sum += squared ? d * d : d;
    }
    return sum;
}

QK_INLINE vf v_norm_part(vf x, vf w, vf b, const int weights, const int bias, vd mean, vd scale, vf offset)
{
    vf y = vd_join(vd_mul(vd_sub(vd_low(x), mean), scale), vd_mul(vd_sub(vd_high(x), mean), scale));
    if (weights)
        y = v_mul(y, v_add(w, offset));
    return bias ? v_add(y, b) : y;
}

static void norm(float *y, const float *x, const float *w, const float *b, int64_t n, const qp_norm_params *p)
{
    double mean = p->kind == QP_NORM_LAYER ? v_moment(x, n, 0, 0) / (double)n : 0, squares = v_moment(x, n, mean, 1);
    double scale;
    if (p->kind == QP_NORM_L2) {
        double length = sqrt(squares);
        scale = 1 / (length < (double)p->eps ? (double)p->eps : length); /* keeps NaN */
    } else {
        scale = 1 / sqrt(squares / (double)n + (double)p->eps);
    }
    vd m = vd_set1(mean), s = vd_set1(scale);
    vf offset = v_set1(p->weight_offset);
    int64_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        v_store(y + i, v_norm_part(v_load(x + i), w ? v_load(w + i) : v_zero(), b ? v_load(b + i) : v_zero(), w != NULL, b != NULL,
                                   m, s, offset));
    if (i < n) {
        int64_t rest = n - i;
        vf weights = w ? v_load_n(w + i, rest) : v_zero(), bias = b ? v_load_n(b + i, rest) : v_zero();
        v_store_n(y + i, v_norm_part(v_load_n(x + i, rest), weights, bias, w != NULL, b != NULL, m, s, offset), rest);
    }
}
