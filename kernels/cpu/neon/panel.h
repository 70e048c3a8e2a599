/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/panel.h: panel lines of 16 rows × 4 elements in four registers. Included once with QK_DOTPROD (sdot) and once
 * without: products of bytes are then summed in 16 bits, which pairs of them fit. */
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/panel_formats.h"

/* Four tokens keep half of the 32 registers as sums of a block; with more the compiler spills within it. */
enum { QK_SPLIT = 2, QK_PANELS = 1, QK_TOKENS = 4, QK_IN_PLACE = 4, QK_STRETCH = 16 };

typedef struct qk_raw {
    uint8x16_t l, h;
} qk_raw;

QK_INLINE qk_raw qk_raw_load(const uint8_t *p) { return (qk_raw){vld1q_u8(p), vld1q_u8(p + 16)}; }
QK_INLINE void qk_raw_store(uint8_t *p, qk_raw a)
{
    vst1q_u8(p, a.l);
    vst1q_u8(p + 16, a.h);
}
QK_INLINE qk_raw qk_raw_or(qk_raw a, qk_raw b) { return (qk_raw){vorrq_u8(a.l, b.l), vorrq_u8(a.h, b.h)}; }
QK_INLINE uint8x16_t qk_field(uint8x16_t a, int shift, int mask)
{
    a = shift ? vshlq_u8(a, vdupq_n_s8((int8_t)-shift)) : a;
    return vandq_u8(a, vdupq_n_u8((uint8_t)mask));
}
QK_INLINE qk_raw qk_raw_field(qk_raw a, int shift, int mask)
{
    return (qk_raw){qk_field(a.l, shift, mask), qk_field(a.h, shift, mask)};
}
QK_INLINE qk_raw qk_raw_lookup(const uint8_t *table, qk_raw a)
{
    uint8x16_t entries = vld1q_u8(table);
    return (qk_raw){vqtbl1q_u8(entries, a.l), vqtbl1q_u8(entries, a.h)};
}

QK_INLINE qk_raw qk_raw_load_anywhere(const uint8_t *p) { return qk_raw_load(p); }
QK_INLINE qk_raw qk_raw_points(const uint32_t *points, const uint8_t *low, const uint8_t *high, int shift, int mask)
{
    uint32_t found[8];
    for (int r = 0; r < 8; r++)
        found[r] = points[low[r] | (mask ? (high[r] >> shift & mask) << 8 : 0)];
    return qk_raw_load((const uint8_t *)found);
}

/* How a format's bytes are multiplied: small ones as they are, those of eight bits with their top bit turned, so that they are
 * signed. Without sdot products are summed in 16 bits: all of a block, or those of two lines, or two. */
typedef enum qk_kind { QK_SMALL, QK_PAIRS, QK_SIGNED } qk_kind;
QK_INLINE qk_kind qk_kind_of(const qk_format f) { return f.most <= 15 ? QK_SMALL : f.most <= 63 ? QK_PAIRS : QK_SIGNED; }

/* Signed bytes need no correction. */
QK_INLINE int32_t qk_bias(const qk_format f) { return qk_kind_of(f) == QK_SIGNED ? 0 : f.bias; }

typedef struct qk_line {
    int8x16_t l, h;
} qk_line;

QK_INLINE qk_line qk_line_of(const qk_format f, qk_raw w)
{
    uint8x16_t turn = vdupq_n_u8(qk_kind_of(f) == QK_SIGNED ? 128 : 0);
    return (qk_line){vreinterpretq_s8_u8(veorq_u8(w.l, turn)), vreinterpretq_s8_u8(veorq_u8(w.h, turn))};
}

/* Four activations of a token, again and again. */
QK_INLINE int8x16_t qk_four(const int8_t *x)
{
    int32_t bits;
    memcpy(&bits, x, sizeof bits);
    return vreinterpretq_s8_s32(vdupq_n_s32(bits));
}

#if QK_DOTPROD

QK_INLINE vi qk_dot_start(const qk_format f, int32_t start)
{
    (void)f;
    return vi_set1(start);
}

/* Two lines times eight activations. */
QK_INLINE vi qk_dot_pair(const qk_format f, vi sum, const qk_line line[2], const int8_t *x)
{
    int8x16_t a = qk_four(x), b = qk_four(x + 4);
    (void)f;
    sum = vi_pair(vdotq_s32(sum.l, line[0].l, a), vdotq_s32(sum.h, line[0].h, a));
    return vi_pair(vdotq_s32(sum.l, line[1].l, b), vdotq_s32(sum.h, line[1].h, b));
}

QK_INLINE vf qk_dot_done(const qk_format f, vi sum, int32_t start)
{
    (void)f, (void)start;
    return vi_as_float(sum);
}

#else

/* QK_SMALL adds up in 16 bits, two sums a row, so that the start can only be added at the end. */
QK_INLINE vi qk_dot_start(const qk_format f, int32_t start) { return vi_set1(qk_kind_of(f) == QK_SMALL ? 0 : start); }

/* Elements 0 + 1 and 2 + 3 of four rows: |−128·127·2| and less fits. */
QK_INLINE int16x8_t qk_products(int8x16_t w, int8x16_t x)
{
    return vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x));
}

/* a and b: products of two lines. At most 2·2·63·127 in pairs, 8·2·15·127 of a block of small ones. */
QK_INLINE int32x4_t qk_add_products(const qk_format f, int32x4_t sum, int16x8_t a, int16x8_t b)
{
    switch (qk_kind_of(f)) {
    case QK_SMALL: return vreinterpretq_s32_s16(vaddq_s16(vreinterpretq_s16_s32(sum), vaddq_s16(a, b)));
    case QK_PAIRS: return vpadalq_s16(sum, vaddq_s16(a, b));
    default: return vpadalq_s16(vpadalq_s16(sum, a), b);
    }
}

/* Two lines times eight activations. */
QK_INLINE vi qk_dot_pair(const qk_format f, vi sum, const qk_line line[2], const int8_t *x)
{
    int8x16_t a = qk_four(x), b = qk_four(x + 4);
    return vi_pair(qk_add_products(f, sum.l, qk_products(line[0].l, a), qk_products(line[1].l, b)),
                   qk_add_products(f, sum.h, qk_products(line[0].h, a), qk_products(line[1].h, b)));
}

QK_INLINE vf qk_dot_done(const qk_format f, vi sum, int32_t start)
{
    if (qk_kind_of(f) == QK_SMALL) {
        int32x4_t from = vdupq_n_s32(start);
        sum = vi_pair(vpadalq_s16(from, vreinterpretq_s16_s32(sum.l)), vpadalq_s16(from, vreinterpretq_s16_s32(sum.h)));
    }
    return vi_as_float(sum);
}

#endif

#define QK_IN_PLACE_TILES(X, name) X(name, 1) X(name, 2) X(name, 3) X(name, 4)
#define QK_WIDE_TILES(X, name) QK_IN_PLACE_TILES(X, name)

#include "kernels/cpu/simd/matmul_panel.h"
