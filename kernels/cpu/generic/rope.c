/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/rope.c: rotates the pairs of one head. */
#include "kernels/cpu/rows.h"

static void rotate(float *a, float *b, const float *cos_sin)
{
    float x = *a, y = *b;
    *a = x * cos_sin[0] - y * cos_sin[1];
    *b = x * cos_sin[1] + y * cos_sin[0];
}

static void rope(float *x, const float *cos_sin, int64_t n_dims, uint32_t mode)
{
    int64_t half = n_dims / 2;
    if (mode == QP_ROPE_NEOX) {
        for (int64_t i = 0; i < half; i++)
            rotate(x + i, x + half + i, cos_sin + 2 * i);
    } else {
        for (int64_t i = 0; i < half; i++)
            rotate(x + 2 * i, x + 2 * i + 1, cos_sin + 2 * i);
    }
}

void qk_generic_rope(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->rope = rope;
}
