/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/rope.c: four pairs at a time; loads that part even from odd elements do the rest. */
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/rows.h"

typedef struct pairs {
    float32x4_t first, second;
} pairs;

QK_INLINE pairs turn(float32x4_t x, float32x4_t y, float32x4x2_t by)
{
    return (pairs){vfmsq_f32(vmulq_f32(x, by.val[0]), y, by.val[1]), vfmaq_f32(vmulq_f32(x, by.val[1]), y, by.val[0])};
}

static void turn_one(float *a, float *b, const float *cos_sin)
{
    float x = *a, y = *b;
    *a = x * cos_sin[0] - y * cos_sin[1];
    *b = x * cos_sin[1] + y * cos_sin[0];
}

static void rope(float *x, const float *cos_sin, int64_t n_dims, uint32_t mode)
{
    int64_t half = n_dims / 2, i = 0;
    if (mode == QP_ROPE_NEOX) {
        for (; i + 4 <= half; i += 4) {
            pairs p = turn(vld1q_f32(x + i), vld1q_f32(x + half + i), vld2q_f32(cos_sin + 2 * i));
            vst1q_f32(x + i, p.first);
            vst1q_f32(x + half + i, p.second);
        }
        for (; i < half; i++)
            turn_one(x + i, x + half + i, cos_sin + 2 * i);
        return;
    }
    for (; i + 4 <= half; i += 4) {
        float32x4x2_t in = vld2q_f32(x + 2 * i);
        pairs p = turn(in.val[0], in.val[1], vld2q_f32(cos_sin + 2 * i));
        vst2q_f32(x + 2 * i, ((float32x4x2_t){{p.first, p.second}}));
    }
    for (; i < half; i++)
        turn_one(x + 2 * i, x + 2 * i + 1, cos_sin + 2 * i);
}

void qk_neon_rope(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->rope = rope;
}
