/* SPDX-License-Identifier: MIT
 * kernels/common/formats.h: block layouts of the GGUF formats, and scalar conversions of the small float types.
 * Sizes come from QP_FORMAT_LIST; the structs here are checked against it. All fields are little endian. */
#ifndef QUERN_KERNELS_FORMATS_H
#define QUERN_KERNELS_FORMATS_H

#include <quern/plugin.h>
#include <string.h>

enum { QK_BLOCK = 32 }; /* elements of the small blocks, and of a block of int8 activations */

typedef struct qk_block_q4_0 { uint16_t d; uint8_t qs[16]; } qk_block_q4_0; /* w = d·(q − 8); element i low nibble of qs[i], i + 16 high */
typedef struct qk_block_q8_0 { uint16_t d; int8_t qs[32]; } qk_block_q8_0;  /* w = d·q */

static inline float qk_f32_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t qk_bits_from_f32(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

/* IEEE binary16, subnormals, infinities and NaN included. */
static inline float qk_f32_from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
    if (exponent == 31)
        return qk_f32_from_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) {
        float f = (float)mantissa * 0x1p-24f;
        return sign ? -f : f;
    }
    return qk_f32_from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

/* Round to nearest even, overflow to infinity, NaN stays NaN. */
static inline uint16_t qk_f16_from_f32(float f)
{
    uint32_t bits = qk_bits_from_f32(f), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00);
    if (magnitude >= 0x477ff000) /* 65520 and more round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* subnormal: let the float adder round at 2^-24 */
        float scaled = qk_f32_from_bits(magnitude) + 0.5f;
        return (uint16_t)(sign | (qk_bits_from_f32(scaled) - 0x3f000000));
    }
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - 0x38000000) >> 13);
}

static inline float qk_f32_from_bf16(uint16_t h)
{
    return qk_f32_from_bits((uint32_t)h << 16);
}

static inline uint16_t qk_bf16_from_f32(float f)
{
    uint32_t bits = qk_bits_from_f32(f);
    if ((bits & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(bits >> 16 | 64);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* Elements and bytes of a block; 0 for a number that no format has. */
static inline uint32_t qk_block_elements(qp_format format)
{
    switch (format) {
#define QK_CASE(name, number, elements, bytes, quantised) case number: return elements;
        QP_FORMAT_LIST(QK_CASE)
#undef QK_CASE
    default: return 0;
    }
}

static inline uint32_t qk_block_bytes(qp_format format)
{
    switch (format) {
#define QK_CASE(name, number, elements, bytes, quantised) case number: return bytes;
        QP_FORMAT_LIST(QK_CASE)
#undef QK_CASE
    default: return 0;
    }
}

#endif
