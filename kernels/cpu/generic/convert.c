/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/convert.c: formats to floats and back, and the int8 activations. */
#include "kernels/cpu/generic/convert.h"
#include "kernels/cpu/rows.h"

void qk_generic_to_f32_F32(float *dst, const void *src, int64_t n)
{
    memmove(dst, src, (size_t)n * sizeof *dst);
}

static void f32_from_f32(void *dst, const float *src, int64_t n)
{
    memmove(dst, src, (size_t)n * sizeof *src);
}

void qk_generic_to_f32_F16(float *dst, const void *src, int64_t n)
{
    const uint16_t *h = src;
    for (int64_t i = 0; i < n; i++)
        dst[i] = qk_f32_from_f16(h[i]);
}

static void f16_from_f32(void *dst, const float *src, int64_t n)
{
    uint16_t *h = dst;
    for (int64_t i = 0; i < n; i++)
        h[i] = qk_f16_from_f32(src[i]);
}

void qk_generic_to_f32_BF16(float *dst, const void *src, int64_t n)
{
    const uint16_t *h = src;
    for (int64_t i = 0; i < n; i++)
        dst[i] = qk_f32_from_bf16(h[i]);
}

static void bf16_from_f32(void *dst, const float *src, int64_t n)
{
    uint16_t *h = dst;
    for (int64_t i = 0; i < n; i++)
        h[i] = qk_bf16_from_f32(src[i]);
}

/* The table's functions are not told their format: one thin function for each format of blocks. */
#define FROM_BLOCKS(name, lower)                                                                                                   \
    void qk_generic_to_f32_##name(float *dst, const void *src, int64_t n)                                                          \
    {                                                                                                                              \
        int64_t elements = qk_block_elements(QP_FORMAT_##name);                                                                    \
        const char *block = src;                                                                                                   \
        for (; n >= elements; n -= elements, dst += elements, block += sizeof(qk_block_##lower))                                   \
            qk_decode_##lower(block, dst);                                                                                         \
    }
QK_BLOCK_FORMATS(FROM_BLOCKS)

/* Largest magnitude of a block; *finite is 0 when there is a NaN or an infinity in it. */
static float block_range(const float *x, int *finite)
{
    float max = 0, probe = 0;
    for (int i = 0; i < QK_BLOCK; i++) {
        float a = x[i] < 0 ? -x[i] : x[i];
        max = a > max ? a : max;
        probe += x[i] * 0;
    }
    *finite = probe == 0; /* inf·0 and NaN·0 are NaN */
    return max;
}

/* To the nearest integer, halves away from zero, as the format's definition has it. |x| is small. */
static int round_away(float x)
{
    int whole = (int)x;
    float rest = x - (float)whole;
    return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

/* 1/d, or 0 where that is not a number to work with: the block is then all zeros in binary16 anyway. */
static float inverse_of(float d)
{
    float inverse = 1 / d;
    return d == 0 || inverse - inverse != 0 ? 0 : inverse;
}

static void q8_0_from_f32(void *dst, const float *src, int64_t n)
{
    qk_block_q8_0 *b = dst;
    for (; n >= QK_BLOCK; n -= QK_BLOCK, b++, src += QK_BLOCK) {
        int finite;
        float d = block_range(src, &finite) / 127, inverse = inverse_of(d);
        b->d = finite ? qk_f16_from_f32(d) : 0x7e00;
        for (int i = 0; i < QK_BLOCK; i++)
            b->qs[i] = (int8_t)(finite ? round_away(src[i] * inverse) : 0);
    }
}

/* x/d + 8.5 with one rounding, cut to 0…15. */
static unsigned q4_0_quant(float x, float inverse)
{
    float shifted = (float)((double)x * (double)inverse + 8.5);
    return shifted >= 15 ? 15u : shifted <= 0 ? 0u : (unsigned)shifted;
}

/* The element of the largest magnitude, the first of equals, becomes −8 exactly. */
static void q4_0_from_f32(void *dst, const float *src, int64_t n)
{
    qk_block_q4_0 *b = dst;
    for (; n >= QK_BLOCK; n -= QK_BLOCK, b++, src += QK_BLOCK) {
        int finite;
        float max = block_range(src, &finite), d = max / -8;
        for (int i = 0; i < QK_BLOCK; i++) {
            if (src[i] == max || src[i] == -max) {
                d = src[i] / -8;
                break;
            }
        }
        float inverse = inverse_of(d);
        b->d = finite ? qk_f16_from_f32(d) : 0x7e00;
        for (int i = 0; i < QK_BLOCK / 2; i++)
            b->qs[i] = (uint8_t)(finite ? q4_0_quant(src[i], inverse) | q4_0_quant(src[i + QK_BLOCK / 2], inverse) << 4 : 0);
    }
}

/* Adding 1.5·2^23 rounds to nearest even; the low byte of the sum's bits is then the integer. Blocks whose largest magnitude is
 * under 2^-119 count as zeros, so that neither the scale nor its inverse leaves the normal numbers. */
static void quantise_activations(void *dst, const float *x, int64_t k)
{
    int8_t *q = dst;
    float *d = (float *)((char *)dst + qk_act_d(k));
    int32_t *sum = (int32_t *)((char *)dst + qk_act_sum(k));
    for (int64_t b = 0; b < k / QK_BLOCK; b++, q += QK_BLOCK, x += QK_BLOCK) {
        int finite, total[2] = {0};
        float max = block_range(x, &finite), inverse = finite && max >= 0x1p-119f ? 127 / max : 0;
        for (int i = 0; i < QK_BLOCK; i++) {
            float value = inverse == 0 ? 0 : x[i] * inverse;
            q[i] = (int8_t)(uint8_t)qk_bits_from_f32(value + 12582912.0f);
            total[i / 16] += q[i];
        }
        d[b] = !finite ? qk_f32_from_bits(0x7fc00000u) : inverse == 0 ? 0 : max / 127;
        memcpy(sum + 2 * b, total, sizeof total);
    }
}

void qk_generic_convert(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
#define ROW(name) table->to_f32[QP_FORMAT_##name] = qk_generic_to_f32_##name;
#define BLOCK_ROW(name, lower) ROW(name)
    QK_GENERIC_FLOATS(ROW)
    QK_BLOCK_FORMATS(BLOCK_ROW)
#undef BLOCK_ROW
#undef ROW
    table->from_f32[QP_FORMAT_F32] = f32_from_f32;
    table->from_f32[QP_FORMAT_F16] = f16_from_f32;
    table->from_f32[QP_FORMAT_BF16] = bf16_from_f32;
    table->from_f32[QP_FORMAT_Q8_0] = q8_0_from_f32;
    table->from_f32[QP_FORMAT_Q4_0] = q4_0_from_f32;
    table->quantise_activations = quantise_activations;
    table->search = qk_search_plain;
}
