/* SPDX-License-Identifier: MIT
 * kernels/common/dequantise.c: one function for each format of blocks. Blocks of 256 are cut into sub-blocks with small integer
 * scales of their own; the comment of each function tells where a sub-block's scale and an element's bits are. */
#include "kernels/common/dequantise.h"

#include "kernels/common/grids.h"

#define BYTES(name, number, elements, bytes, quantised) QK_BYTES_##name = bytes,
enum { QP_FORMAT_LIST(BYTES) };
#undef BYTES
#define CHECK(name, lower) _Static_assert(sizeof(qk_block_##lower) == (size_t)QK_BYTES_##name, "struct of " #name);
QK_BLOCK_FORMATS(CHECK)
#undef CHECK

/* A copy of the block: it may lie at an odd address. */
#define BLOCK(lower)                                                                                                               \
    qk_block_##lower b;                                                                                                            \
    memcpy(&b, src, sizeof b)

static uint32_t read_u32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* Element i of 16 bytes of nibbles: the low ones first, then the high ones. */
static int nibble(const uint8_t *qs, int i)
{
    return i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
}

/* Nibble i of a string of them: the low one of a byte before the high one. */
static int nibble_in_turn(const uint8_t *p, int i)
{
    return p[i / 2] >> (i % 2 * 4) & 15;
}

/* Element i of 64 bytes of pairs of bits: each 32 bytes hold 128 elements, their lowest bits the first 32 of these. */
static int pair(const uint8_t *qs, int i)
{
    return qs[i / 128 * 32 + i % 32] >> (i / 32 % 4 * 2) & 3;
}

/* ---- blocks of 32 ---- */

void qk_decode_q4_0(const void *src, float *dst)
{
    BLOCK(q4_0);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 16; i++) {
        dst[i] = d * (float)((b.qs[i] & 15) - 8);
        dst[i + 16] = d * (float)((b.qs[i] >> 4) - 8);
    }
}

void qk_decode_q4_1(const void *src, float *dst)
{
    BLOCK(q4_1);
    float d = qk_f32_from_f16(b.d), m = qk_f32_from_f16(b.m);
    for (int i = 0; i < 32; i++)
        dst[i] = d * (float)nibble(b.qs, i) + m;
}

static int fifth_bit(const uint8_t *qh, int i)
{
    return (qh[i / 8] >> i % 8 & 1) << 4;
}

void qk_decode_q5_0(const void *src, float *dst)
{
    BLOCK(q5_0);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 32; i++)
        dst[i] = d * (float)((nibble(b.qs, i) | fifth_bit(b.qh, i)) - 16);
}

void qk_decode_q5_1(const void *src, float *dst)
{
    BLOCK(q5_1);
    float d = qk_f32_from_f16(b.d), m = qk_f32_from_f16(b.m);
    for (int i = 0; i < 32; i++)
        dst[i] = d * (float)(nibble(b.qs, i) | fifth_bit(b.qh, i)) + m;
}

void qk_decode_q8_0(const void *src, float *dst)
{
    BLOCK(q8_0);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 32; i++)
        dst[i] = d * (float)b.qs[i];
}

/* Sixteen steps that lie closer around zero, where most weights are. */
static const int8_t uneven_steps[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

void qk_decode_iq4_nl(const void *src, float *dst)
{
    BLOCK(iq4_nl);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 32; i++)
        dst[i] = d * (float)uneven_steps[nibble(b.qs, i)];
}

/* OCP Microscaling: a scale of E8M0, elements of E2M1, which are doubled here so that they are integers; the scale is then halved.
 * The scale of 2^-128 is a subnormal float, and code 255 (NaN there) reads as 2^127, as every reader of the format has it. */
void qk_decode_mxfp4(const void *src, float *dst)
{
    static const int8_t doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
    BLOCK(mxfp4);
    float half = qk_f32_from_bits(b.e < 2 ? 0x00200000u << b.e : (uint32_t)(b.e - 1) << 23);
    for (int i = 0; i < 32; i++)
        dst[i] = half * (float)doubled[nibble(b.qs, i)];
}

/* ---- blocks of 256 with scales of scales ---- */

/* Sub-blocks of 16; the low nibble of a sub-block's byte is its scale, the high one its minimum. */
void qk_decode_q2_k(const void *src, float *dst)
{
    BLOCK(q2_k);
    float d = qk_f32_from_f16(b.d), dmin = qk_f32_from_f16(b.dmin);
    for (int i = 0; i < 256; i++) {
        float scale = d * (float)(b.scales[i / 16] & 15), minimum = dmin * (float)(b.scales[i / 16] >> 4);
        dst[i] = scale * (float)pair(b.qs, i) - minimum;
    }
}

/* Sub-blocks of 16. Scales have six bits: four as nibbles of the first eight bytes (the low ones first), two as pairs in the last
 * four. The third bit of element i is bit i/32 of hmask[i % 32]; where it is 0, 4 is subtracted. */
void qk_decode_q3_k(const void *src, float *dst)
{
    BLOCK(q3_k);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 256; i++) {
        int s = i / 16, low = b.scales[s % 8] >> (s / 8 * 4) & 15, high = b.scales[8 + s % 4] >> (s / 4 * 2) & 3;
        int q = pair(b.qs, i) - (b.hmask[i % 32] >> i / 32 & 1 ? 0 : 4);
        dst[i] = d * (float)((low | high << 4) - 32) * (float)q;
    }
}

/* Scale and minimum of sub-block i of 8, six bits each in twelve bytes: those of 0…3 are the low six bits of bytes i and i + 4;
 * those of 4…7 have their low four bits in byte i + 4 and their upper two in the upper two bits of bytes i − 4 and i. */
static void scale_and_minimum(const uint8_t *p, int i, int *scale, int *minimum)
{
    if (i < 4) {
        *scale = p[i] & 63;
        *minimum = p[i + 4] & 63;
    } else {
        *scale = (p[i + 4] & 15) | (p[i - 4] >> 6) << 4;
        *minimum = p[i + 4] >> 4 | (p[i] >> 6) << 4;
    }
}

/* Sub-blocks of 32; two of them share 32 bytes, the first as low nibbles. Where there is qh, bit i of its 32 bytes is the fifth bit
 * of the elements of sub-block i. */
static void decode_q4_k_or_q5_k(float d, float dmin, const uint8_t *scales, const uint8_t *qs, const uint8_t *qh, float *dst)
{
    for (int i = 0; i < 8; i++, dst += 32) {
        int s, m;
        scale_and_minimum(scales, i, &s, &m);
        float scale = d * (float)s, minimum = dmin * (float)m;
        for (int j = 0; j < 32; j++) {
            int q = qs[i / 2 * 32 + j] >> (i % 2 * 4) & 15;
            if (qh)
                q |= (qh[j] >> i & 1) << 4;
            dst[j] = scale * (float)q - minimum;
        }
    }
}

void qk_decode_q4_k(const void *src, float *dst)
{
    BLOCK(q4_k);
    decode_q4_k_or_q5_k(qk_f32_from_f16(b.d), qk_f32_from_f16(b.dmin), b.scales, b.qs, NULL, dst);
}

void qk_decode_q5_k(const void *src, float *dst)
{
    BLOCK(q5_k);
    decode_q4_k_or_q5_k(qk_f32_from_f16(b.d), qk_f32_from_f16(b.dmin), b.scales, b.qs, b.qh, dst);
}

/* Sub-blocks of 16 with whole bytes as scales. 64 bytes of ql hold 128 elements, the first 64 as low nibbles. */
void qk_decode_q6_k(const void *src, float *dst)
{
    BLOCK(q6_k);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 256; i++) {
        int low = b.ql[i / 128 * 64 + i % 64] >> (i / 64 % 2 * 4) & 15;
        dst[i] = d * (float)b.scales[i / 16] * (float)((low | pair(b.qh, i) << 4) - 32);
    }
}

/* Sub-blocks of 32, each laid out like IQ4_NL; scales of six bits, four in scales_l and two in scales_h. */
void qk_decode_iq4_xs(const void *src, float *dst)
{
    BLOCK(iq4_xs);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 8; i++, dst += 32) {
        float scale = d * (float)((nibble_in_turn(b.scales_l, i) | (b.scales_h >> 2 * i & 3) << 4) - 32);
        for (int j = 0; j < 32; j++)
            dst[j] = scale * (float)uneven_steps[nibble(b.qs + i * 16, j)];
    }
}

/* ---- three values ---- */

/* A byte is a fraction of 256 whose first digits to base three are the elements: times 3^n brings digit n to the front. */
static float ternary(uint8_t byte, int digit)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    uint8_t rest = (uint8_t)(byte * power[digit]);
    return (float)((rest * 3 >> 8) - 1);
}

/* Five digits of 32 bytes, five of 16, four of the last four bytes: all first digits, then all second ones, and so on. */
void qk_decode_tq1_0(const void *src, float *dst)
{
    BLOCK(tq1_0);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 160; i++)
        dst[i] = d * ternary(b.qs[i % 32], i / 32);
    for (int i = 0; i < 80; i++)
        dst[160 + i] = d * ternary(b.qs[32 + i % 16], i / 16);
    for (int i = 0; i < 16; i++)
        dst[240 + i] = d * ternary(b.qh[i % 4], i / 4);
}

void qk_decode_tq2_0(const void *src, float *dst)
{
    BLOCK(tq2_0);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 256; i++)
        dst[i] = d * (float)(pair(b.qs, i) - 1);
}

/* ---- points of a grid ---- */

/* Seven signs and the eighth that makes their number even. */
static unsigned even_signs(uint32_t seven)
{
    unsigned signs = seven & 127, parity = signs ^ signs >> 4;
    parity ^= parity >> 2;
    return signs | ((parity ^ parity >> 1) & 1) << 7;
}

static const uint8_t iq2_steps[4] = {8, 25, 43, 0};
static const uint8_t iq3_xxs_steps[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const uint8_t iq3_s_steps[8] = {1, 3, 5, 7, 9, 11, 13, 15};

/* Eight elements of an IQ2 format. */
static void put_eight(float *dst, float scale, uint16_t point, unsigned signs)
{
    for (int i = 0; i < 8; i++) {
        float value = scale * (float)iq2_steps[point >> 2 * i & 3];
        dst[i] = signs >> i & 1 ? -value : value;
    }
}

/* Four elements of an IQ3 format. */
static void put_four(float *dst, float scale, uint16_t point, const uint8_t *steps, unsigned signs)
{
    for (int i = 0; i < 4; i++) {
        float value = scale * (float)steps[point >> 4 * i & 7];
        dst[i] = signs >> i & 1 ? -value : value;
    }
}

/* Sub-blocks of 32 are eight bytes: four points, then four times seven signs and four bits of scale. */
void qk_decode_iq2_xxs(const void *src, float *dst)
{
    BLOCK(iq2_xxs);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 32; i++, dst += 8) {
        const uint8_t *part = b.qs + i / 4 * 8;
        uint32_t rest = read_u32(part + 4);
        float scale = d * (0.5f + (float)(rest >> 28)) * 0.25f;
        put_eight(dst, scale, qk_grid_iq2_xxs[part[i % 4]], even_signs(rest >> i % 4 * 7));
    }
}

/* Nine bits of point and seven signs for eight elements; a nibble of scale for sixteen. */
void qk_decode_iq2_xs(const void *src, float *dst)
{
    BLOCK(iq2_xs);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 32; i++, dst += 8) {
        float scale = d * (0.5f + (float)nibble_in_turn(b.scales, i / 2)) * 0.25f;
        put_eight(dst, scale, qk_grid_iq2_xs[b.qs[i] & 511], even_signs(b.qs[i] >> 9));
    }
}

/* Points of ten bits, the upper two in qh; all eight signs; a nibble of scale for sixteen elements. */
void qk_decode_iq2_s(const void *src, float *dst)
{
    BLOCK(iq2_s);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 32; i++, dst += 8) {
        float scale = d * (0.5f + (float)nibble_in_turn(b.scales, i / 2)) * 0.25f;
        int point = b.qs[i] | (b.qh[i / 4] >> i % 4 * 2 & 3) << 8;
        put_eight(dst, scale, qk_grid_iq2_s[point], b.signs[i]);
    }
}

/* Points of four elements; for each 32 of these, four times seven signs and four bits of scale in four bytes. */
void qk_decode_iq3_xxs(const void *src, float *dst)
{
    BLOCK(iq3_xxs);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 64; i++, dst += 4) {
        uint32_t rest = read_u32(b.signs + i / 8 * 4);
        float scale = d * (0.5f + (float)(rest >> 28)) * 0.5f;
        unsigned signs = even_signs(rest >> i / 2 % 4 * 7) >> i % 2 * 4;
        put_four(dst, scale, qk_grid_iq3_xxs[b.qs[i]], iq3_xxs_steps, signs);
    }
}

/* Points of nine bits, the ninth in qh; all signs; a nibble of scale for 32 elements. */
void qk_decode_iq3_s(const void *src, float *dst)
{
    BLOCK(iq3_s);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 64; i++, dst += 4) {
        float scale = d * (float)(1 + 2 * nibble_in_turn(b.scales, i / 8));
        int point = b.qs[i] | (b.qh[i / 8] >> i % 8 & 1) << 8;
        put_four(dst, scale, qk_grid_iq3_s[point], iq3_s_steps, b.signs[i / 2] >> i % 2 * 4);
    }
}

/* Eight elements of −1, 0 or 1, all moved by an eighth, up or down. */
static void put_moved(float *dst, float scale, int point, int down)
{
    for (int i = 0; i < 8; i++)
        dst[i] = scale * ((float)((qk_grid_iq1_s[point] >> 2 * i & 3) - 1) + (down ? -0.125f : 0.125f));
}

/* Sub-blocks of 32 share 16 bits: the upper three bits of their four points, three bits of scale, the direction. */
void qk_decode_iq1_s(const void *src, float *dst)
{
    BLOCK(iq1_s);
    float d = qk_f32_from_f16(b.d);
    for (int i = 0; i < 32; i++, dst += 8) {
        int shared = b.qh[i / 4];
        put_moved(dst, d * (float)(2 * (shared >> 12 & 7) + 1), b.qs[i] | (shared >> i % 4 * 3 & 7) << 8, shared >> 15);
    }
}

/* The block's scale is in the upper four bits of the four words of scales, whose other bits are four scales of sixteen elements
 * each. A nibble of qh is the upper three bits of a point and its direction. */
void qk_decode_iq1_m(const void *src, float *dst)
{
    BLOCK(iq1_m);
    unsigned bits = 0;
    for (int i = 0; i < 4; i++)
        bits |= (unsigned)(b.scales[i] >> 12) << 4 * i;
    float d = qk_f32_from_f16((uint16_t)bits);
    for (int i = 0; i < 32; i++, dst += 8) {
        int scale = b.scales[i / 8] >> i / 2 % 4 * 3 & 7, high = nibble_in_turn(b.qh, i);
        put_moved(dst, d * (float)(2 * scale + 1), b.qs[i] | (high & 7) << 8, high >> 3);
    }
}
