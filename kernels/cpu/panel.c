/* SPDX-License-Identifier: MIT
 * kernels/cpu/panel.c: GGUF blocks to panels and one row back: moving bits, nothing is rounded. A block of any format is first taken
 * apart into elements, four to a word as panels have them, and scales; then its bits go where the panel has them. */
#include "kernels/cpu/kernels.h"

enum { MAX_UNIT = 256, ONES = 0x01010101 };

/* A block of a format, elements and scales each in a byte of its own. */
typedef struct parts {
    uint32_t q[MAX_UNIT / 4]; /* element i is byte i % 4 of word i / 4, unsigned */
    uint16_t d, m;
    uint8_t scale[16], min[16];
    uint16_t point[64]; /* of formats with a grid, in place of q: numbers of points, and a bit for each element's sign */
    uint8_t sign[32];
} parts;

static uint32_t word(const uint8_t *p, int i)
{
    uint32_t w;
    memcpy(&w, p + 4 * i, sizeof w);
    return w;
}

/* `bits` of each byte, from bit `from` on. */
static uint32_t field(uint32_t w, int from, int bits)
{
    return w >> from & (uint32_t)ONES * ((1u << bits) - 1);
}

/* ---- GGUF blocks apart: how they lie is told in kernels/common/dequantise.c ---- */

/* 16 bytes: low nibbles, then high ones. */
static void take_nibbles(uint32_t *q, const uint8_t *qs)
{
    for (int i = 0; i < 4; i++) {
        q[i] = field(word(qs, i), 0, 4);
        q[i + 4] = field(word(qs, i), 4, 4);
    }
}

/* Bit i of four bytes is the fifth bit of element i: times 0x00204081 four bits spread over four bytes. */
static void take_fifth_bits(uint32_t *q, const uint8_t *qh)
{
    for (int i = 0; i < 8; i++)
        q[i] |= field(((uint32_t)qh[i / 2] >> (i % 2 * 4) & 15) * 0x00204081u, 0, 1) << 4;
}

static void take_q4_0(parts *p, const qk_block_q4_0 *b)
{
    p->d = b->d;
    take_nibbles(p->q, b->qs);
}

static void take_q4_1(parts *p, const qk_block_q4_1 *b)
{
    p->d = b->d;
    p->m = b->m;
    take_nibbles(p->q, b->qs);
}

static void take_q5_0(parts *p, const qk_block_q5_0 *b)
{
    p->d = b->d;
    take_nibbles(p->q, b->qs);
    take_fifth_bits(p->q, b->qh);
}

static void take_q5_1(parts *p, const qk_block_q5_1 *b)
{
    p->d = b->d;
    p->m = b->m;
    take_nibbles(p->q, b->qs);
    take_fifth_bits(p->q, b->qh);
}

static void take_q8_0(parts *p, const qk_block_q8_0 *b)
{
    p->d = b->d;
    for (int i = 0; i < 8; i++)
        p->q[i] = word((const uint8_t *)b->qs, i) ^ 0x80808080u;
}

static void take_iq4_nl(parts *p, const qk_block_iq4_nl *b)
{
    p->d = b->d;
    take_nibbles(p->q, b->qs);
}

static void take_mxfp4(parts *p, const qk_block_mxfp4 *b)
{
    p->scale[0] = b->e;
    take_nibbles(p->q, b->qs);
}

/* 64 bytes of pairs of bits. */
static void take_pairs(uint32_t *q, const uint8_t *qs)
{
    for (int i = 0; i < 64; i++)
        q[i] = field(word(qs, i / 32 * 8 + i % 8), i / 8 % 4 * 2, 2);
}

static void take_tq2_0(parts *p, const qk_block_tq2_0 *b)
{
    p->d = b->d;
    take_pairs(p->q, b->qs);
}

static void take_q2_k(parts *p, const qk_block_q2_k *b)
{
    p->d = b->d;
    p->m = b->dmin;
    take_pairs(p->q, b->qs);
    for (int i = 0; i < 16; i++) {
        p->scale[i] = b->scales[i] & 15;
        p->min[i] = b->scales[i] >> 4;
    }
}

static void take_q3_k(parts *p, const qk_block_q3_k *b)
{
    p->d = b->d;
    take_pairs(p->q, b->qs);
    for (int i = 0; i < 64; i++)
        p->q[i] |= field(word(b->hmask, i % 8), i / 8, 1) << 2;
    for (int i = 0; i < 16; i++)
        p->scale[i] = (uint8_t)((b->scales[i % 8] >> (i / 8 * 4) & 15) | (b->scales[8 + i % 4] >> (i / 4 * 2) & 3) << 4);
}

static void take_scales_and_minima(parts *p, const uint8_t *s)
{
    for (int i = 0; i < 4; i++) {
        p->scale[i] = s[i] & 63;
        p->min[i] = s[i + 4] & 63;
        p->scale[i + 4] = (uint8_t)((s[i + 8] & 15) | s[i] >> 6 << 4);
        p->min[i + 4] = (uint8_t)(s[i + 8] >> 4 | s[i + 4] >> 6 << 4);
    }
}

/* Two sub-blocks of 32 share 32 bytes. */
static void take_paired_nibbles(uint32_t *q, const uint8_t *qs)
{
    for (int i = 0; i < 64; i++)
        q[i] = field(word(qs, i / 16 * 8 + i % 8), i / 8 % 2 * 4, 4);
}

static void take_q4_k(parts *p, const qk_block_q4_k *b)
{
    p->d = b->d;
    p->m = b->dmin;
    take_scales_and_minima(p, b->scales);
    take_paired_nibbles(p->q, b->qs);
}

static void take_q5_k(parts *p, const qk_block_q5_k *b)
{
    p->d = b->d;
    p->m = b->dmin;
    take_scales_and_minima(p, b->scales);
    take_paired_nibbles(p->q, b->qs);
    for (int i = 0; i < 64; i++)
        p->q[i] |= field(word(b->qh, i % 8), i / 8, 1) << 4;
}

static void take_q6_k(parts *p, const qk_block_q6_k *b)
{
    p->d = b->d;
    memcpy(p->scale, b->scales, 16);
    take_pairs(p->q, b->qh);
    for (int i = 0; i < 64; i++)
        p->q[i] = p->q[i] << 4 | field(word(b->ql, i / 32 * 16 + i % 16), i / 16 % 2 * 4, 4);
}

static void take_iq4_xs(parts *p, const qk_block_iq4_xs *b)
{
    p->d = b->d;
    for (int i = 0; i < 8; i++) {
        p->scale[i] = (uint8_t)((b->scales_l[i / 2] >> (i % 2 * 4) & 15) | (b->scales_h >> 2 * i & 3) << 4);
        take_nibbles(p->q + 8 * i, b->qs + 16 * i);
    }
}

/* Five digits to base three in a byte: see dequantise.c. */
static uint8_t ternary(uint8_t byte, int digit)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    return (uint8_t)((uint8_t)(byte * power[digit]) * 3 >> 8);
}

static void take_tq1_0(parts *p, const qk_block_tq1_0 *b)
{
    uint8_t q[256];
    p->d = b->d;
    for (int i = 0; i < 160; i++)
        q[i] = ternary(b->qs[i % 32], i / 32);
    for (int i = 0; i < 80; i++)
        q[160 + i] = ternary(b->qs[32 + i % 16], i / 16);
    for (int i = 0; i < 16; i++)
        q[240 + i] = ternary(b->qh[i % 4], i / 4);
    for (int i = 0; i < 64; i++)
        p->q[i] = word(q, i);
}

static uint8_t nibble_in_turn(const uint8_t *p, int i)
{
    return p[i / 2] >> i % 2 * 4 & 15;
}

/* Seven signs and the eighth that makes their number even. */
static uint8_t even_signs(uint32_t seven)
{
    uint32_t parity = (seven & 127) ^ (seven & 127) >> 4;
    parity ^= parity >> 2;
    return (uint8_t)((seven & 127) | ((parity ^ parity >> 1) & 1) << 7);
}

/* The direction is the twelfth bit of a point's number. */
static void take_iq1_s(parts *p, const qk_block_iq1_s *b)
{
    p->d = b->d;
    for (int i = 0; i < 32; i++) {
        int shared = b->qh[i / 4];
        p->point[i] = (uint16_t)(b->qs[i] | (shared >> i % 4 * 3 & 7) << 8 | shared >> 15 << 11);
        p->scale[i / 4] = (uint8_t)(shared >> 12 & 7);
    }
}

static void take_iq1_m(parts *p, const qk_block_iq1_m *b)
{
    p->d = (uint16_t)(b->scales[0] >> 12 | b->scales[1] >> 12 << 4 | b->scales[2] >> 12 << 8 | b->scales[3] >> 12 << 12);
    for (int i = 0; i < 32; i++) {
        p->point[i] = (uint16_t)(b->qs[i] | nibble_in_turn(b->qh, i) << 8);
        p->scale[i / 2] = (uint8_t)(b->scales[i / 8] >> i / 2 % 4 * 3 & 7);
    }
}

static void take_iq2_xxs(parts *p, const qk_block_iq2_xxs *b)
{
    p->d = b->d;
    for (int i = 0; i < 32; i++) {
        uint32_t rest = word(b->qs, i / 4 * 2 + 1);
        p->point[i] = b->qs[i / 4 * 8 + i % 4];
        p->sign[i] = even_signs(rest >> i % 4 * 7);
        p->scale[i / 4] = (uint8_t)(rest >> 28);
    }
}

static void take_iq2_xs(parts *p, const qk_block_iq2_xs *b)
{
    p->d = b->d;
    for (int i = 0; i < 32; i++) {
        p->point[i] = b->qs[i] & 511;
        p->sign[i] = even_signs(b->qs[i] >> 9);
        p->scale[i / 2] = nibble_in_turn(b->scales, i / 2);
    }
}

static void take_iq2_s(parts *p, const qk_block_iq2_s *b)
{
    p->d = b->d;
    for (int i = 0; i < 32; i++) {
        p->point[i] = (uint16_t)(b->qs[i] | (b->qh[i / 4] >> i % 4 * 2 & 3) << 8);
        p->sign[i] = b->signs[i];
        p->scale[i / 2] = nibble_in_turn(b->scales, i / 2);
    }
}

static void take_iq3_xxs(parts *p, const qk_block_iq3_xxs *b)
{
    p->d = b->d;
    for (int i = 0; i < 64; i++) {
        uint32_t rest = word(b->signs, i / 8);
        p->point[i] = b->qs[i];
        p->sign[i / 2] = even_signs(rest >> i / 2 % 4 * 7);
        p->scale[i / 8] = (uint8_t)(rest >> 28);
    }
}

static void take_iq3_s(parts *p, const qk_block_iq3_s *b)
{
    p->d = b->d;
    memcpy(p->sign, b->signs, 32);
    for (int i = 0; i < 64; i++) {
        p->point[i] = (uint16_t)(b->qs[i] | (b->qh[i / 8] >> i % 8 & 1) << 8);
        p->scale[i / 8] = nibble_in_turn(b->scales, i / 8);
    }
}

/* ---- elements ---- */

/* The word of panel row r in line `line` of a plane. */
static uint8_t *line_at(uint8_t *plane, int line, int r)
{
    return plane + (line * QK_PANEL_ROWS + r) * 4;
}

static void put_word(uint8_t *to, uint32_t w)
{
    memcpy(to, &w, sizeof w);
}

/* A plane of `bits`, from bit `from` of the elements on: 8/bits lines share a line of bytes. */
static void put_plane(uint8_t *plane, const uint32_t *q, int r, int from, int bits)
{
    int share = 8 / bits;
    for (int line = 0; line < 8 / share; line++) {
        uint32_t all = 0;
        for (int c = 0; c < share; c++)
            all |= field(q[line * share + c], from, bits) << c * bits;
        put_word(line_at(plane, line, r), all);
    }
}

static void get_plane(const uint8_t *plane, uint32_t *q, int r, int from, int bits)
{
    int share = 8 / bits;
    for (int g = 0; g < 8; g++)
        q[g] |= field(word(plane + (g / share * QK_PANEL_ROWS + r) * 4, 0), g % share * bits, bits) << from;
}

/* Bits of the first plane of elements so wide; the rest is in a second one. */
static inline int first_plane(int bits)
{
    return bits == 3 ? 2 : bits == 5 || bits == 6 ? 4 : bits;
}

static inline void put_elements(uint8_t *block, const uint32_t *q, int r, int bits)
{
    int first = first_plane(bits);
    put_plane(block, q, r, 0, first);
    if (first < bits)
        put_plane(block + first * 64, q, r, first, bits - first);
}

static inline void get_planes(const uint8_t *block, uint32_t *q, int r, int bits)
{
    int first = first_plane(bits);
    memset(q, 0, 8 * sizeof *q);
    get_plane(block, q, r, 0, first);
    if (first < bits)
        get_plane(block + first * 64, q, r, first, bits - first);
}

/* ---- points of a grid: panel_formats.h says how they lie ---- */

/* Points and signs of 32 elements of row r. */
static inline void put_points(const qk_format *f, uint8_t *block, const uint16_t *point, const uint8_t *sign, int r)
{
    int n = 32 / qk_point_elements(f->grid), width = qk_upper_bits(f->grid);
    if (f->grid & 1) {
        uint32_t q[8];
        for (int g = 0; g < 8; g++)
            q[g] = ((uint32_t)sign[g / 2] >> g % 2 * 4 & 15) * 0x00204081u & ONES;
        put_plane(block, q, r, 0, 1);
        block += 64;
    }
    uint8_t *upper = block + n * QK_PANEL_ROWS + r;
    for (int i = 0; i < n * width / 8 || (i == 0 && width); i++)
        upper[i * QK_PANEL_ROWS] = 0;
    for (int p = 0; p < n; p++) {
        block[p * QK_PANEL_ROWS + r] = (uint8_t)point[p];
        if (width)
            upper[p * width / 8 * QK_PANEL_ROWS] |= (uint8_t)(point[p] >> 8 << p * width % 8);
    }
}

/* The codes of 32 elements. */
static inline void get_codes(const qk_format *f, const uint8_t *block, uint32_t *q, int r)
{
    int elements = qk_point_elements(f->grid), n = 32 / elements, width = qk_upper_bits(f->grid);
    const uint32_t *points = qk_points(f->grid);
    memset(q, 0, 8 * sizeof *q);
    if (f->grid & 1) {
        get_plane(block, q, r, 3, 1);
        block += 64;
    }
    for (int p = 0; p < n; p++) {
        int number = block[p * QK_PANEL_ROWS + r];
        if (width)
            number |= (block[(n + p * width / 8) * QK_PANEL_ROWS + r] >> p * width % 8 & ((1 << width) - 1)) << 8;
        if (elements == 4) {
            q[p] |= points[number];
        } else {
            q[2 * p] |= field(points[number], 0, 4);
            q[2 * p + 1] |= field(points[number], 4, 4);
        }
    }
}

static inline void get_elements(const qk_format *f, const uint8_t *block, uint32_t *q, int r)
{
    if (f->grid)
        get_codes(f, block, q, r);
    else
        get_planes(block, q, r, f->bits);
}

/* ---- scales: the records of panel_formats.h, which start as zeros ---- */

static void put_half(uint8_t *record, int offset, int r, uint16_t h)
{
    memcpy(record + offset + 2 * r, &h, sizeof h);
}

static uint16_t get_half(const uint8_t *record, int offset, int r)
{
    uint16_t h;
    memcpy(&h, record + offset + 2 * r, sizeof h);
    return h;
}

/* Two numbers of six bits a block: four bits each in byte b, two each in byte 8 + b/2. */
static void put_sixes(uint8_t *record, int b, int r, uint8_t first, uint8_t second)
{
    record[16 * b + r] = (uint8_t)((first & 15) | second << 4);
    record[16 * (8 + b / 2) + r] |= (uint8_t)((first >> 4 | second >> 4 << 2) << b % 2 * 4);
}

static void get_sixes(const uint8_t *record, int b, int r, uint8_t *first, uint8_t *second)
{
    uint8_t low = record[16 * b + r], high = record[16 * (8 + b / 2) + r] >> b % 2 * 4;
    *first = (uint8_t)((low & 15) | (high & 3) << 4);
    *second = (uint8_t)(low >> 4 | (high >> 2 & 3) << 4);
}

static void put_scales(uint8_t *record, const parts *p, int r, qk_scale_kind kind, int halves)
{
    switch (kind) {
    case QK_SCALE_F16:
    case QK_SCALE_ONE: put_half(record, 0, r, p->d); return;
    case QK_SCALE_F16_MIN:
        put_half(record, 0, r, p->d);
        put_half(record, 32, r, p->m);
        return;
    case QK_SCALE_E8M0: record[r] = p->scale[0]; return;
    case QK_SCALE_K2:
        for (int i = 0; i < 16; i++)
            record[16 * i + r] = (uint8_t)(p->scale[i] | p->min[i] << 4);
        put_half(record, 256, r, p->d);
        put_half(record, 288, r, p->m);
        return;
    case QK_SCALE_K3:
        for (int b = 0; b < 8; b++)
            put_sixes(record, b, r, p->scale[2 * b], p->scale[2 * b + 1]);
        put_half(record, 192, r, p->d);
        return;
    case QK_SCALE_K4:
        for (int b = 0; b < 8; b++)
            put_sixes(record, b, r, p->scale[b], p->min[b]);
        put_half(record, 192, r, p->d);
        put_half(record, 224, r, p->m);
        return;
    case QK_SCALE_K6:
        for (int i = 0; i < 16; i++)
            record[16 * i + r] = p->scale[i];
        put_half(record, 256, r, p->d);
        return;
    case QK_SCALE_X4:
        for (int b = 0; b < 8; b++) {
            record[16 * (b / 2) + r] |= (uint8_t)((p->scale[b] & 15) << b % 2 * 4);
            record[16 * (4 + b / 4) + r] |= (uint8_t)(p->scale[b] >> 4 << b % 4 * 2);
        }
        put_half(record, 96, r, p->d);
        return;
    case QK_SCALE_ODD:
    case QK_SCALE_ODD_4:
    case QK_SCALE_ODD_8:
        for (int i = 0; i < 8 * halves; i++)
            record[16 * (i / 2) + r] |= (uint8_t)(p->scale[i] << i % 2 * 4);
        put_half(record, 64 * halves, r, p->d);
        return;
    }
}

/* The scale of one part of block b of a unit, and what is subtracted. */
static float scale_of(qk_scale_kind kind, int halves, const uint8_t *record, int b, int part, int r, float *min)
{
    uint8_t one, two;
    *min = 0;
    switch (kind) {
    case QK_SCALE_F16:
    case QK_SCALE_ONE: return qk_f32_from_f16(get_half(record, 0, r));
    case QK_SCALE_F16_MIN: *min = -qk_f32_from_f16(get_half(record, 32, r)); return qk_f32_from_f16(get_half(record, 0, r));
    case QK_SCALE_E8M0: return qk_f32_from_bits(record[r] < 2 ? 0x00200000u << record[r] : (uint32_t)(record[r] - 1) << 23);
    case QK_SCALE_K2:
        one = record[16 * (2 * b + part) + r];
        *min = qk_f32_from_f16(get_half(record, 288, r)) * (float)(one >> 4);
        return qk_f32_from_f16(get_half(record, 256, r)) * (float)(one & 15);
    case QK_SCALE_K3:
        get_sixes(record, b, r, &one, &two);
        return qk_f32_from_f16(get_half(record, 192, r)) * (float)((part ? two : one) - 32);
    case QK_SCALE_K4:
        get_sixes(record, b, r, &one, &two);
        *min = qk_f32_from_f16(get_half(record, 224, r)) * (float)two;
        return qk_f32_from_f16(get_half(record, 192, r)) * (float)one;
    case QK_SCALE_K6:
        return qk_f32_from_f16(get_half(record, 256, r)) * (float)(int8_t)record[16 * (2 * b + part) + r];
    case QK_SCALE_X4:
        one = record[16 * (b / 2) + r] >> b % 2 * 4 & 15;
        two = record[16 * (4 + b / 4) + r] >> b % 4 * 2 & 3;
        return qk_f32_from_f16(get_half(record, 96, r)) * (float)((one | two << 4) - 32);
    case QK_SCALE_ODD:
    case QK_SCALE_ODD_4:
    case QK_SCALE_ODD_8:
        part += b * halves;
        one = record[16 * (part / 2) + r] >> part % 2 * 4 & 15;
        return qk_f32_from_f16(get_half(record, 64 * halves, r)) * ((float)(2 * one + 1) * qk_odd_share(kind));
    }
    return 0;
}

/* ---- one format ---- */

/* Rows that are not there are zeros: elements and scales of nothing. */
static inline void put_unit(const qk_format *f, uint8_t *quants, uint8_t *record, int r, const parts *p)
{
    int points = f->grid ? QK_BLOCK / qk_point_elements(f->grid) : 0;
    for (int b = 0; b < f->unit / QK_BLOCK; b++)
        if (f->grid)
            put_points(f, quants + b * f->quant_bytes, p->point + points * b, p->sign + 4 * b, r);
        else
            put_elements(quants + b * f->quant_bytes, p->q + 8 * b, r, f->bits);
    put_scales(record, p, r, f->scales, f->parts);
}

static inline void get_unit(const qk_format *f, const uint8_t *quants, const uint8_t *record, int r, float *dst)
{
    for (int b = 0; b < f->unit / QK_BLOCK; b++) {
        uint32_t q[8];
        get_elements(f, quants + b * f->quant_bytes, q, r);
        for (int part = 0; part < f->parts; part++) {
            float min, scale = scale_of(f->scales, f->parts, record, b, part, r, &min);
            for (int i = part * 16; i < (f->parts == 1 ? 32 : part * 16 + 16); i++) {
                int e = (int)(q[i / 4] >> i % 4 * 8 & 255);
                *dst++ = scale * (float)((f->looked_up ? f->table[e] : e) - f->bias) - min;
            }
        }
    }
}

/* Elements of a row as bytes, looked up. */
static inline void get_bytes(const qk_format *f, const uint8_t *block, int r, uint8_t *to)
{
    uint32_t q[8];
    get_elements(f, block, q, r);
    for (int i = 0; i < QK_BLOCK; i++) {
        int e = (int)(q[i / 4] >> i % 4 * 8 & 255);
        to[i] = (uint8_t)(f->looked_up ? f->table[e] : e);
    }
}

static inline void get_block(const qk_format *f, const uint8_t *panel, int64_t k, int64_t block, qk_panel_block *out)
{
    int64_t blocks = f->unit / QK_BLOCK;
    const uint8_t *record = panel + qk_panel_scales(f->format, k) + (uint64_t)(block / blocks) * (uint64_t)f->record;
    for (int r = 0; r < QK_PANEL_ROWS; r++) {
        get_bytes(f, panel + block * f->quant_bytes, r, out->quants[r]);
        for (int part = 0; part < f->parts; part++)
            out->scale[part][r] = scale_of(f->scales, f->parts, record, (int)(block % blocks), part, r, &out->min[part][r]);
    }
}

/* Where unit `unit` of a row has its elements and its record, counted from the start of the panels. */
typedef struct offsets {
    uint64_t quants, record;
    int r;
} offsets;

static inline offsets unit_at(const qk_format *f, int64_t k, int64_t row, int64_t unit)
{
    uint64_t panel = (uint64_t)row / QK_PANEL_ROWS * qk_panel_bytes(f->format, k), u = (uint64_t)unit;
    return (offsets){panel + u * (uint64_t)(f->unit / QK_BLOCK * f->quant_bytes),
                     panel + qk_panel_scales(f->format, k) + u * (uint64_t)f->record, (int)(row % QK_PANEL_ROWS)};
}

#define DEFINE(name, ...)                                                                                                          \
    static const qk_format name = QK_PANEL_FORMAT_INIT(name, __VA_ARGS__);                                                         \
    static void pack_##name(void *panels, const char *src, int64_t k, int64_t row, int64_t rows)                                   \
    {                                                                                                                              \
        int64_t units = k / name.unit;                                                                                             \
        for (int64_t i = 0; i < units * ((rows + QK_PANEL_ROWS - 1) / QK_PANEL_ROWS * QK_PANEL_ROWS); i++) {                       \
            int64_t first = i / QK_PANEL_ROWS / units * QK_PANEL_ROWS, u = i / QK_PANEL_ROWS % units, r = i % QK_PANEL_ROWS;       \
            offsets at = unit_at(&name, k, row + first + r, u);                                                                    \
            parts p;                                                                                                               \
            if (first + r < rows) {                                                                                                \
                qk_block_##name block;                                                                                             \
                memcpy(&block, src + ((first + r) * units + u) * (int64_t)sizeof block, sizeof block);                             \
                take_##name(&p, &block);                                                                                           \
            } else {                                                                                                               \
                memset(&p, 0, sizeof p);                                                                                           \
            }                                                                                                                      \
            put_unit(&name, (uint8_t *)panels + at.quants, (uint8_t *)panels + at.record, at.r, &p);                               \
        }                                                                                                                          \
    }                                                                                                                              \
    static void row_##name(float *dst, const void *panels, int64_t k, int64_t row)                                                 \
    {                                                                                                                              \
        for (int64_t u = 0; u < k / name.unit; u++, dst += name.unit) {                                                            \
            offsets at = unit_at(&name, k, row, u);                                                                                \
            get_unit(&name, (const uint8_t *)panels + at.quants, (const uint8_t *)panels + at.record, at.r, dst);                  \
        }                                                                                                                          \
    }                                                                                                                              \
    static void block_##name(const uint8_t *panel, int64_t k, int64_t block, qk_panel_block *out)                                  \
    {                                                                                                                              \
        get_block(&name, panel, k, block, out);                                                                                    \
    }
QK_PANEL_FORMATS(DEFINE)

/* Records are put together bit by bit. */
static void clear_records(qp_format format, void *panels, int64_t k, int64_t row, int64_t rows)
{
    uint64_t bytes = qk_panel_bytes(format, k), records = qk_panel_scales(format, k);
    for (int64_t first = 0; first < rows; first += QK_PANEL_ROWS)
        memset((uint8_t *)panels + (uint64_t)(row + first) / QK_PANEL_ROWS * bytes + records, 0, bytes - records);
}

void qk_panel_pack(qp_format format, void *panels, const void *src, int64_t k, int64_t row, int64_t rows)
{
    clear_records(format, panels, k, row, rows);
    switch (format) {
#define PACK(name, FORMAT, ...)                                                                                                    \
    case QP_FORMAT_##FORMAT: pack_##name(panels, src, k, row, rows); break;
        QK_PANEL_FORMATS(PACK)
#undef PACK
    default: break;
    }
}

void qk_panel_row(qp_format format, float *dst, const void *panels, int64_t k, int64_t row)
{
    switch (format) {
#define ROW(name, FORMAT, ...)                                                                                                     \
    case QP_FORMAT_##FORMAT: row_##name(dst, panels, k, row); break;
        QK_PANEL_FORMATS(ROW)
#undef ROW
    default: break;
    }
}

void qk_panel_block_at(qp_format format, const void *panel, int64_t k, int64_t block, qk_panel_block *out)
{
    switch (format) {
#define BLOCK(name, FORMAT, ...)                                                                                                   \
    case QP_FORMAT_##FORMAT: block_##name(panel, k, block, out); break;
        QK_PANEL_FORMATS(BLOCK)
#undef BLOCK
    default: break;
    }
}
