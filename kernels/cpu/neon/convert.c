/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/convert.c: formats to floats and back, and the int8 activations. */
#include "kernels/cpu/neon/convert.h"
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/rows.h"

void qk_neon_to_f32_F16(float *dst, const void *src, int64_t n)
{
    const uint16_t *h = src;
    int64_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        v_store(dst + i, v_load_f16(h + i));
    if (i < n)
        v_store_n(dst + i, v_load_f16_n(h + i, n - i), n - i);
}

static void f16_from_f32(void *dst, const float *src, int64_t n)
{
    uint16_t *h = dst;
    int64_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        v_store_f16(h + i, v_load(src + i));
    if (i < n)
        v_store_f16_n(h + i, v_load_n(src + i, n - i), n - i);
}

void qk_neon_to_f32_BF16(float *dst, const void *src, int64_t n)
{
    const uint16_t *h = src;
    int64_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        v_store(dst + i, v_load_bf16(h + i));
    if (i < n)
        v_store_n(dst + i, v_load_bf16_n(h + i, n - i), n - i);
}

static void bf16_from_f32(void *dst, const float *src, int64_t n)
{
    uint16_t *h = dst;
    int64_t i = 0;
    for (; i + V_LANES <= n; i += V_LANES)
        v_store_bf16(h + i, v_load(src + i));
    if (i < n)
        v_store_bf16_n(h + i, v_load_n(src + i, n - i), n - i);
}

void qk_neon_to_f32_Q8_0(float *dst, const void *src, int64_t n)
{
    const qk_block_q8_0 *b = src;
    for (; n >= QK_BLOCK; n -= QK_BLOCK, b++, dst += QK_BLOCK) {
        vf d = v_set1(qk_f32_from_f16(b->d));
        for (int i = 0; i < QK_BLOCK; i += V_LANES)
            v_store(dst + i, v_mul(d, v_load_i8(b->qs + i)));
    }
}

void qk_neon_to_f32_Q4_0(float *dst, const void *src, int64_t n)
{
    const qk_block_q4_0 *b = src;
    for (; n >= QK_BLOCK; n -= QK_BLOCK, b++, dst += QK_BLOCK) {
        vf d = v_set1(qk_f32_from_f16(b->d));
        for (int i = 0; i < QK_BLOCK / 2; i += V_LANES) {
            v_store(dst + i, v_mul(d, v_load_low(b->qs + i)));
            v_store(dst + i + QK_BLOCK / 2, v_mul(d, v_load_high(b->qs + i)));
        }
    }
}

enum { BLOCK_VECTORS = QK_BLOCK / V_LANES };

typedef struct block {
    vf x[BLOCK_VECTORS];
    float most; /* NaN or infinite when one of them is */
} block;

/* vmaxvq keeps a NaN. */
QK_INLINE block load_block(const float *x)
{
    block b;
    float32x4_t most = vdupq_n_f32(0);
    QK_UNROLL
    for (int i = 0; i < BLOCK_VECTORS; i++) {
        b.x[i] = v_load(x + i * V_LANES);
        vf a = v_abs(b.x[i]);
        most = vmaxq_f32(most, vmaxq_f32(a.l, a.h));
    }
    b.most = vmaxvq_f32(most);
    return b;
}

QK_INLINE int is_finite(float x)
{
    return x - x == 0;
}

/* Rounded half away from zero, as the format's definition has it. A block that is not finite gets d = NaN and quants of 0; so does
 * a NaN or an infinity times 0 by its conversion. */
static void q8_0_from_f32(void *dst, const float *src, int64_t n)
{
    qk_block_q8_0 *b = dst;
    for (; n >= QK_BLOCK; n -= QK_BLOCK, b++, src += QK_BLOCK) {
        block x = load_block(src);
        int finite = is_finite(x.most);
        float d = x.most / 127, inverse = 1 / d;
        if (!finite || d == 0 || !is_finite(inverse))
            inverse = 0;
        b->d = finite ? qk_f16_from_f32(d) : 0x7e00;
        for (int i = 0; i < BLOCK_VECTORS; i++) {
            vf q = v_mul(x.x[i], v_set1(inverse));
            vi away = {vcvtaq_s32_f32(q.l), vcvtaq_s32_f32(q.h)};
            vi_store_i8(b->qs + i * V_LANES, away);
        }
    }
}

/* Rounded to nearest even. Blocks whose largest magnitude is under 2^-119 count as zeros. */
static void quantise_activations(void *dst, const float *x, int64_t k)
{
    int8_t *q = dst;
    float *d = (float *)((char *)dst + qk_act_d(k));
    int32_t *sum = (int32_t *)((char *)dst + qk_act_sum(k));
    for (int64_t b = 0; b < k / QK_BLOCK; b++, q += QK_BLOCK, x += QK_BLOCK) {
        block from = load_block(x);
        int finite = is_finite(from.most), zero = from.most < 0x1p-119f;
        vf inverse = v_set1(finite && !zero ? 127 / from.most : 0);
        vi total = vi_zero();
        QK_UNROLL
        for (int i = 0; i < BLOCK_VECTORS; i++) {
            vi whole = vi_nearest(v_mul(from.x[i], inverse));
            total = vi_add(total, whole);
            vi_store_i8(q + i * V_LANES, whole);
        }
        d[b] = !finite ? qk_f32_from_bits(0x7fc00000u) : zero ? 0 : from.most / 127;
        sum[b] = vi_sum(total);
    }
}

void qk_neon_convert(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
#define ROW(name) table->to_f32[QP_FORMAT_##name] = qk_neon_to_f32_##name;
    QK_NEON_FORMATS(ROW)
#undef ROW
    table->from_f32[QP_FORMAT_F16] = f16_from_f32;
    table->from_f32[QP_FORMAT_BF16] = bf16_from_f32;
    table->from_f32[QP_FORMAT_Q8_0] = q8_0_from_f32;
    table->quantise_activations = quantise_activations;
}
