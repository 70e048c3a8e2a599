/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/panel.h: panel lines in zmm registers, one register a line: 16 rows × 4 elements. Included once with QK_VNNI
 * (vpdpbusd) and once without: products of bytes are then summed in pairs in 16 bits. */
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/panel_formats.h"

#include <string.h>

/* Two panels of six tokens: 24 registers of sums. */
enum { QK_SPLIT = 1, QK_PANELS = 2, QK_TOKENS = 6, QK_IN_PLACE = 4, QK_STRETCH = 16 };

typedef __m512i qk_raw;
typedef uint16_t qk_sixteens __attribute__((vector_size(64)));

QK_INLINE qk_raw qk_raw_load(const uint8_t *p) { return _mm512_load_si512(p); }
QK_INLINE void qk_raw_store(uint8_t *p, qk_raw a) { _mm512_store_si512(p, a); }
QK_INLINE qk_raw qk_raw_or(qk_raw a, qk_raw b) { return _mm512_or_si512(a, b); }
QK_INLINE qk_raw qk_raw_field(qk_raw a, int shift, int mask)
{
    a = shift < 0 ? (qk_raw)((qk_sixteens)a << -shift) : (qk_raw)((qk_sixteens)a >> shift);
    return _mm512_and_si512(a, _mm512_set1_epi8((char)mask));
}
QK_INLINE qk_raw qk_raw_lookup(const uint8_t *table, qk_raw a)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(const void *)table)), a);
}

QK_INLINE qk_raw qk_raw_load_anywhere(const uint8_t *p) { return _mm512_loadu_si512(p); }
QK_INLINE qk_raw qk_raw_points(const uint32_t *points, const uint8_t *low, const uint8_t *high, int shift, int mask)
{
    __m512i n = vi_load_u8(low);
    if (mask)
        n = _mm512_or_si512(n, vi_sll(vi_and(vi_srl(vi_load_u8(high), shift), mask), 8));
    return _mm512_i32gather_epi32(n, points, 4);
}

/* How a format's bytes are multiplied: by vpdpbusd; or summed in pairs in 16 bits, all of a block, or those of two lines; or, where
 * they have eight bits, as |w| times ±x. */
typedef enum qk_kind { QK_DPBUSD, QK_SMALL, QK_PAIRS, QK_SIGNED } qk_kind;
QK_INLINE qk_kind qk_kind_of(const qk_format f)
{
    return QK_VNNI ? QK_DPBUSD : f.most <= 15 ? QK_SMALL : f.most <= 63 ? QK_PAIRS : QK_SIGNED;
}
QK_INLINE int32_t qk_bias(const qk_format f) { return qk_kind_of(f) == QK_SIGNED ? 0 : f.bias; }

typedef struct qk_line {
    vi w;
    __mmask64 negative; /* QK_SIGNED: w is |w|, and this its sign */
} qk_line;

QK_INLINE qk_line qk_line_of(const qk_format f, qk_raw w)
{
    qk_line line = {w, 0};
    if (qk_kind_of(f) == QK_SIGNED) {
        w = _mm512_xor_si512(w, _mm512_set1_epi8((char)0x80));
        line.w = _mm512_abs_epi8(w);
        line.negative = _mm512_movepi8_mask(w);
    }
    return line;
}

/* QK_SMALL adds up in 16 bits, so that the start can only be added at the end. */
QK_INLINE vi qk_dot_start(const qk_format f, int32_t start) { return _mm512_set1_epi32(qk_kind_of(f) == QK_SMALL ? 0 : start); }

QK_INLINE vi qk_wider(vi products) { return _mm512_madd_epi16(products, _mm512_set1_epi16(1)); }

#if QK_VNNI

/* A line times four activations of a token, which are an operand in memory: compilers load them first, and fewer instructions
 * count for more here than fewer loads. */
typedef struct qk_fours {
    int8_t x[4];
} qk_fours;
QK_INLINE vi qk_dot_four(vi sum, vi w, const int8_t *x)
{
    __asm__("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(w), "m"(*(const qk_fours *)(const void *)x));
    return sum;
}

#else

/* Four activations of a token, sixteen times. */
QK_INLINE vi qk_four(const int8_t *x)
{
    int32_t bits;
    memcpy(&bits, x, sizeof bits);
    return _mm512_set1_epi32(bits);
}

#endif

/* Two lines times eight activations. */
QK_INLINE vi qk_dot_pair(const qk_format f, vi sum, const qk_line line[2], const int8_t *x)
{
#if QK_VNNI
    (void)f;
    return qk_dot_four(qk_dot_four(sum, line[0].w, x), line[1].w, x + 4);
#else
    vi a = qk_four(x), b = qk_four(x + 4), zero = _mm512_setzero_si512();
    if (qk_kind_of(f) == QK_SIGNED) {
        a = _mm512_mask_sub_epi8(a, line[0].negative, zero, a);
        b = _mm512_mask_sub_epi8(b, line[1].negative, zero, b);
    }
    a = _mm512_maddubs_epi16(line[0].w, a);
    b = _mm512_maddubs_epi16(line[1].w, b);
    switch (qk_kind_of(f)) {
    case QK_SMALL: return _mm512_add_epi16(sum, _mm512_add_epi16(a, b)); /* at most 8·2·15·127, which fits */
    case QK_PAIRS: return _mm512_add_epi32(sum, qk_wider(_mm512_add_epi16(a, b))); /* 2·2·63·127 */
    default: return _mm512_add_epi32(sum, _mm512_add_epi32(qk_wider(a), qk_wider(b)));
    }
#endif
}

QK_INLINE vf qk_dot_done(const qk_format f, vi sum, int32_t start)
{
    if (qk_kind_of(f) == QK_SMALL)
        sum = _mm512_add_epi32(qk_wider(sum), _mm512_set1_epi32(start));
    return _mm512_castsi512_ps(sum);
}

#define QK_IN_PLACE_TILES(X, name) X(name, 1) X(name, 2) X(name, 3) X(name, 4)
#define QK_WIDE_TILES(X, name) X(name, 1) X(name, 2) X(name, 3) X(name, 4) X(name, 5) X(name, 6)

#include "kernels/cpu/simd/matmul_panel.h"
