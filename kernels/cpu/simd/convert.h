/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/convert.h: formats to floats and back, and the int8 activations, over the operations of a vec.h. Bit for bit
 * what the scalar code in generic/convert.c does. Q4_0 is written by that code alone: it is not a format of caches. */
#include "kernels/cpu/generic/convert.h"
#include "kernels/cpu/rows.h"

#define V_TO_F32(name, load, bytes)                                                                                                \
    static void name##_to_f32(float *dst, const void *src, int64_t n)                                                              \
    {                                                                                                                              \
        const char *p = src;                                                                                                       \
        int64_t i = 0;                                                                                                             \
        for (; i + V_LANES <= n; i += V_LANES)                                                                                     \
            v_store(dst + i, load(p + i * bytes));                                                                                 \
        if (i < n)                                                                                                                 \
            v_store_n(dst + i, load##_n(p + i * bytes, n - i), n - i);                                                             \
    }
V_TO_F32(f16, v_load_f16, 2)
V_TO_F32(bf16, v_load_bf16, 2)

#define V_FROM_F32(name, store, bytes)                                                                                             \
    static void name##_from_f32(void *dst, const float *src, int64_t n)                                                            \
    {                                                                                                                              \
        char *p = dst;                                                                                                             \
        int64_t i = 0;                                                                                                             \
        for (; i + V_LANES <= n; i += V_LANES)                                                                                     \
            store(p + i * bytes, v_load(src + i));                                                                                 \
        if (i < n)                                                                                                                 \
            store##_n(p + i * bytes, v_load_n(src + i, n - i), n - i);                                                             \
    }
V_FROM_F32(f16, v_store_f16, 2)
V_FROM_F32(bf16, v_store_bf16, 2)

static void q8_0_to_f32(float *dst, const void *src, int64_t n)
{
    const qk_block_q8_0 *b = src;
    for (; n >= QK_BLOCK; n -= QK_BLOCK, b++, dst += QK_BLOCK) {
        vf d = v_set1(v_f16(b->d));
        QK_UNROLL
        for (int i = 0; i < QK_BLOCK; i += V_LANES)
            v_store(dst + i, v_mul(d, v_load_i8(b->qs + i)));
    }
}

static void q4_0_to_f32(float *dst, const void *src, int64_t n)
{
    const qk_block_q4_0 *b = src;
    for (; n >= QK_BLOCK; n -= QK_BLOCK, b++, dst += QK_BLOCK) {
        vf d = v_set1(v_f16(b->d));
        QK_UNROLL
        for (int i = 0; i < QK_BLOCK / 2; i += V_LANES) {
            v_store(dst + i, v_mul(d, v_load_low(b->qs + i)));
            v_store(dst + i + QK_BLOCK / 2, v_mul(d, v_load_high(b->qs + i)));
        }
    }
}

/* The largest magnitude of a block; NaN when it holds a NaN or an infinity. */
QK_INLINE float v_block_range(const float *x)
{
    vf largest = v_zero(), probe = v_zero();
    QK_UNROLL
    for (int i = 0; i < QK_BLOCK; i += V_LANES) {
        vf a = v_load(x + i);
        largest = v_max(largest, v_abs(a));
        probe = v_add(probe, v_sub(a, a));
    }
    return v_bits(v_unordered(probe, probe)) ? qk_f32_from_bits(0x7fc00000u) : v_largest(largest);
}

/* Halves away from zero. */
QK_INLINE vi v_round_away(vf x)
{
    vi whole = vi_truncate(x);
    vf rest = v_sub(x, vi_to_float(whole)), one = v_copysign(v_set1(1), x);
    vf step = v_select(v_lt(v_abs(rest), v_set1(0.5f)), v_zero(), one);
    return vi_add(whole, vi_truncate(step));
}

static void q8_0_from_f32(void *dst, const float *src, int64_t n)
{
    qk_block_q8_0 *b = dst;
    for (; n >= QK_BLOCK; n -= QK_BLOCK, b++, src += QK_BLOCK) {
        float d = v_block_range(src) / 127, inverse = 1 / d;
        int finite = d == d;
        b->d = finite ? v_to_f16(d) : 0x7e00;
        if (!finite || d == 0 || inverse - inverse != 0) {
            memset(b->qs, 0, sizeof b->qs);
            continue;
        }
        QK_UNROLL
        for (int i = 0; i < QK_BLOCK; i += V_LANES)
            vi_store_i8(b->qs + i, v_round_away(v_mul(v_load(src + i), v_set1(inverse))));
    }
}

static void quantise_activations(void *dst, const float *x, int64_t k)
{
    int8_t *q = dst;
    float *d = (float *)(void *)((char *)dst + qk_act_d(k));
    int32_t *sum = (int32_t *)(void *)((char *)dst + qk_act_sum(k));
    for (int64_t b = 0; b < k / QK_BLOCK; b++, q += QK_BLOCK, x += QK_BLOCK) {
        float range = v_block_range(x);
        if (!(range >= 0x1p-119f)) { /* see generic/convert.c */
            memset(q, 0, QK_BLOCK);
            d[b] = range == range ? 0 : range;
            sum[2 * b] = sum[2 * b + 1] = 0;
            continue;
        }
        QK_UNROLL
        for (int half = 0; half < 2; half++) {
            vi total = vi_zero();
            QK_UNROLL
            for (int i = half * 16; i < half * 16 + 16; i += V_LANES) {
                vi whole = vi_nearest(v_mul(v_load(x + i), v_set1(127 / range)));
                total = vi_add(total, whole);
                vi_store_i8(q + i, whole);
            }
            sum[2 * b + half] = vi_sum(total);
        }
        d[b] = range / 127;
    }
}

#define V_CONVERT_ROWS(table)                                                                                                      \
    do {                                                                                                                           \
        (table)->to_f32[QP_FORMAT_F16] = f16_to_f32;                                                                               \
        (table)->to_f32[QP_FORMAT_BF16] = bf16_to_f32;                                                                             \
        (table)->to_f32[QP_FORMAT_Q8_0] = q8_0_to_f32;                                                                             \
        (table)->to_f32[QP_FORMAT_Q4_0] = q4_0_to_f32;                                                                             \
        (table)->from_f32[QP_FORMAT_F16] = f16_from_f32;                                                                           \
        (table)->from_f32[QP_FORMAT_BF16] = bf16_from_f32;                                                                         \
        (table)->from_f32[QP_FORMAT_Q8_0] = q8_0_from_f32;                                                                         \
        (table)->quantise_activations = quantise_activations;                                                                      \
    } while (0)
