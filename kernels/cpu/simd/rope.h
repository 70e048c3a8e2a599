/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/rope.h: rotation of pairs, over the operations of a vec.h. Pairs side by side are rotated as
 * x·(cos, cos) + swapped x·(−sin, sin); pairs half a head apart have (cos, sin) taken apart first. */
#include "kernels/cpu/rows.h"

static void rope_scalar(float *a, float *b, const float *cos_sin)
{
    float x = *a, y = *b;
    *a = x * cos_sin[0] - y * cos_sin[1];
    *b = x * cos_sin[1] + y * cos_sin[0];
}

static void rope(float *x, const float *cos_sin, int64_t n_dims, uint32_t mode)
{
    int64_t half = n_dims / 2, i = 0;
    if (mode == QP_ROPE_NEOX) {
        for (; i + V_LANES <= half; i += V_LANES) {
            vf a = v_load(x + i), b = v_load(x + half + i), low = v_load(cos_sin + 2 * i), high = v_load(cos_sin + 2 * i + V_LANES);
            vf c = v_even(low, high), s = v_odd(low, high);
            v_store(x + i, v_sub(v_mul(a, c), v_mul(b, s)));
            v_store(x + half + i, v_add(v_mul(a, s), v_mul(b, c)));
        }
        for (; i < half; i++)
            rope_scalar(x + i, x + half + i, cos_sin + 2 * i);
    } else {
        for (; 2 * i + V_LANES <= n_dims; i += V_LANES / 2) {
            vf a = v_load(x + 2 * i), cs = v_load(cos_sin + 2 * i);
            v_store(x + 2 * i, v_addsub(v_mul(a, v_pair_first(cs)), v_mul(v_pair_swap(a), v_pair_second(cs))));
        }
        for (; i < half; i++)
            rope_scalar(x + 2 * i, x + 2 * i + 1, cos_sin + 2 * i);
    }
}
