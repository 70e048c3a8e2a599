/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/panel.h: panel lines of 16 rows × 4 elements in four registers. Included once with QK_DOTPROD (sdot) and once
 * without: products of bytes are then summed in 16 bits, which pairs of them fit. */
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/neon/vec.h"

/* Four tokens keep half of the 32 registers as sums of a block; with more the compiler spills within it. */
enum { QK_SPLIT = 2, QK_PANELS = 1, QK_TOKENS = 4, QK_IN_PLACE = 4 };

/* How a format's bytes are multiplied: as signed bytes, or as small unsigned ones whose sums over a block fit 16 bits. */
typedef enum qk_kind { QK_SIGNED, QK_SMALL } qk_kind;

typedef struct qk_panel_format {
    qp_format format;
    int quant_bytes; /* a block of 16 rows × 32 */
    int32_t bias;    /* of the unsigned elements */
    qk_kind kind;
    int nibbles;
} qk_format;

typedef struct qk_line {
    int8x16_t l, h;
} qk_line;

/* Signed bytes need no correction. */
QK_INLINE int32_t qk_bias(const qk_format f) { return f.kind == QK_SIGNED ? 0 : f.bias; }

/* Lines 2·pair and 2·pair + 1 of the block at w, rows 8·part … 8·part + 7. */
QK_INLINE void qk_lines(const qk_format f, const uint8_t *w, int pair, int part, qk_line line[2])
{
    if (f.nibbles) {
        const uint8_t *from = w + pair * 64 + part * 32;
        uint8x16_t l = vld1q_u8(from), h = vld1q_u8(from + 16), low = vdupq_n_u8(15);
        line[0] = (qk_line){vreinterpretq_s8_u8(vandq_u8(l, low)), vreinterpretq_s8_u8(vandq_u8(h, low))};
        line[1] = (qk_line){vreinterpretq_s8_u8(vshrq_n_u8(l, 4)), vreinterpretq_s8_u8(vshrq_n_u8(h, 4))};
        return;
    }
    QK_UNROLL
    for (int g = 0; g < 2; g++) { /* q + 128 with its top bit turned is q */
        const uint8_t *from = w + (2 * pair + g) * 64 + part * 32;
        uint8x16_t turn = vdupq_n_u8(128);
        line[g] = (qk_line){vreinterpretq_s8_u8(veorq_u8(vld1q_u8(from), turn)), vreinterpretq_s8_u8(veorq_u8(vld1q_u8(from + 16), turn))};
    }
}

/* Four activations of a token, again and again. */
QK_INLINE vi qk_four(const int8_t *x)
{
    int32_t bits;
    memcpy(&bits, x, sizeof bits);
    return vi_set1(bits);
}

#if QK_DOTPROD

QK_INLINE vi qk_dot_start(const qk_format f, int32_t start)
{
    (void)f;
    return vi_set1(start);
}

QK_INLINE vi qk_dot(const qk_format f, vi sum, qk_line line, vi x)
{
    (void)f;
    return vi_pair(vdotq_s32(sum.l, line.l, vreinterpretq_s8_s32(x.l)), vdotq_s32(sum.h, line.h, vreinterpretq_s8_s32(x.l)));
}

QK_INLINE vf qk_dot_done(const qk_format f, vi sum, int32_t start)
{
    (void)f, (void)start;
    return vi_as_float(sum);
}

#else

/* QK_SMALL adds up in 16 bits, two sums a row, so that the start can only be added at the end. */
QK_INLINE vi qk_dot_start(const qk_format f, int32_t start) { return vi_set1(f.kind == QK_SMALL ? 0 : start); }

/* Elements 0 + 1 and 2 + 3 of four rows: |−128·127·2| and less fits. */
QK_INLINE int16x8_t qk_products(int8x16_t w, int8x16_t x)
{
    return vpaddq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)), vmull_high_s8(w, x));
}

QK_INLINE vi qk_dot(const qk_format f, vi sum, qk_line line, vi x)
{
    int16x8_t l = qk_products(line.l, vreinterpretq_s8_s32(x.l)), h = qk_products(line.h, vreinterpretq_s8_s32(x.l));
    if (f.kind == QK_SMALL) /* at most 8·2·15·127, which fits */
        return vi_pair(vreinterpretq_s32_s16(vaddq_s16(vreinterpretq_s16_s32(sum.l), l)),
                       vreinterpretq_s32_s16(vaddq_s16(vreinterpretq_s16_s32(sum.h), h)));
    return vi_pair(vpadalq_s16(sum.l, l), vpadalq_s16(sum.h, h));
}

QK_INLINE vf qk_dot_done(const qk_format f, vi sum, int32_t start)
{
    if (f.kind == QK_SMALL) {
        int32x4_t from = vdupq_n_s32(start);
        sum = vi_pair(vpadalq_s16(from, vreinterpretq_s16_s32(sum.l)), vpadalq_s16(from, vreinterpretq_s16_s32(sum.h)));
    }
    return vi_as_float(sum);
}

#endif

#include "kernels/cpu/simd/matmul_panel.h"

#define QK_IN_PLACE_TILES(X, name) X(name, 1) X(name, 2) X(name, 3) X(name, 4)
#define QK_ONE_TILES(X, name) X(name, 1) X(name, 2) X(name, 3) X(name, 4)
#define QK_SEVERAL_TILES(X, name)
