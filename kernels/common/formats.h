/* SPDX-License-Identifier: MIT
 * kernels/common/formats.h: block layouts of the GGUF formats, and scalar conversions of the small float types.
 * Sizes come from QP_FORMAT_LIST; the structs here are checked against it. All fields are little endian. */
#ifndef QUERN_KERNELS_FORMATS_H
#define QUERN_KERNELS_FORMATS_H

#include <quern/plugin.h>
#include <string.h>

enum { QK_BLOCK = 32 }; /* elements of the small blocks, and of a block of int8 activations */

/* Blocks of 32. In those of nibbles, element i is the low nibble of qs[i] and element i + 16 the high one; fifth bits are bit i of qh. */
typedef struct qk_block_q4_0 { uint16_t d; uint8_t qs[16]; } qk_block_q4_0; /* w = d·(q − 8) */
typedef struct qk_block_q4_1 { uint16_t d, m; uint8_t qs[16]; } qk_block_q4_1; /* w = d·q + m */
typedef struct qk_block_q5_0 { uint16_t d; uint8_t qh[4], qs[16]; } qk_block_q5_0; /* w = d·(q − 16) */
typedef struct qk_block_q5_1 { uint16_t d, m; uint8_t qh[4], qs[16]; } qk_block_q5_1; /* w = d·q + m */
typedef struct qk_block_q8_0 { uint16_t d; int8_t qs[32]; } qk_block_q8_0; /* w = d·q */
typedef struct qk_block_iq4_nl { uint16_t d; uint8_t qs[16]; } qk_block_iq4_nl; /* w = d·table[q] */
typedef struct qk_block_mxfp4 { uint8_t e, qs[16]; } qk_block_mxfp4; /* w = 2^(e − 127)·E2M1[q] */

/* Blocks of 256. How elements and scales lie in them is told where they are read, in dequantise.c. */
typedef struct qk_block_q2_k { uint8_t scales[16], qs[64]; uint16_t d, dmin; } qk_block_q2_k;
typedef struct qk_block_q3_k { uint8_t hmask[32], qs[64], scales[12]; uint16_t d; } qk_block_q3_k;
typedef struct qk_block_q4_k { uint16_t d, dmin; uint8_t scales[12], qs[128]; } qk_block_q4_k;
typedef struct qk_block_q5_k { uint16_t d, dmin; uint8_t scales[12], qh[32], qs[128]; } qk_block_q5_k;
typedef struct qk_block_q6_k { uint8_t ql[128], qh[64]; int8_t scales[16]; uint16_t d; } qk_block_q6_k;
typedef struct qk_block_iq4_xs { uint16_t d, scales_h; uint8_t scales_l[4], qs[128]; } qk_block_iq4_xs;
typedef struct qk_block_tq1_0 { uint8_t qs[48], qh[4]; uint16_t d; } qk_block_tq1_0;
typedef struct qk_block_tq2_0 { uint8_t qs[64]; uint16_t d; } qk_block_tq2_0;
typedef struct qk_block_iq1_s { uint16_t d; uint8_t qs[32]; uint16_t qh[8]; } qk_block_iq1_s;
typedef struct qk_block_iq1_m { uint8_t qs[32], qh[16]; uint16_t scales[4]; } qk_block_iq1_m;
typedef struct qk_block_iq2_xxs { uint16_t d; uint8_t qs[64]; } qk_block_iq2_xxs;
typedef struct qk_block_iq2_xs { uint16_t d, qs[32]; uint8_t scales[8]; } qk_block_iq2_xs;
typedef struct qk_block_iq2_s { uint16_t d; uint8_t qs[32], signs[32], qh[8], scales[8]; } qk_block_iq2_s;
typedef struct qk_block_iq3_xxs { uint16_t d; uint8_t qs[64], signs[32]; } qk_block_iq3_xxs;
typedef struct qk_block_iq3_s { uint16_t d; uint8_t qs[64], qh[8], signs[32], scales[4]; } qk_block_iq3_s;

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
