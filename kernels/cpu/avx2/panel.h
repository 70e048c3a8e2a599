/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx2/panel.h: panel lines in ymm registers, two registers a line: 8 rows × 4 elements each. Included once with
 * QK_VNNI (vpdpbusd) and once without: products of bytes are then summed in pairs in 16 bits. */
#include "kernels/cpu/avx2/vec.h"
#include "kernels/cpu/panel_formats.h"

#include <string.h>

enum { QK_SPLIT = 2, QK_PANELS = 1, QK_TOKENS = 3, QK_IN_PLACE = 3, QK_STRETCH = 16 };

typedef __m256i qk_raw;
typedef uint16_t qk_sixteens __attribute__((vector_size(32)));

QK_INLINE qk_raw qk_raw_load(const uint8_t *p) { return _mm256_load_si256((const __m256i *)(const void *)p); }
QK_INLINE void qk_raw_store(uint8_t *p, qk_raw a) { _mm256_store_si256((__m256i *)(void *)p, a); }
QK_INLINE qk_raw qk_raw_or(qk_raw a, qk_raw b) { return _mm256_or_si256(a, b); }
QK_INLINE qk_raw qk_raw_field(qk_raw a, int shift, int mask)
{
    a = shift < 0 ? (qk_raw)((qk_sixteens)a << -shift) : (qk_raw)((qk_sixteens)a >> shift);
    return _mm256_and_si256(a, _mm256_set1_epi8((char)mask));
}
QK_INLINE qk_raw qk_raw_lookup(const uint8_t *table, qk_raw a)
{
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)table)), a);
}

QK_INLINE qk_raw qk_raw_load_anywhere(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
QK_INLINE qk_raw qk_raw_points(const uint32_t *points, const uint8_t *low, const uint8_t *high, int shift, int mask)
{
    __m256i n = vi_load_u8(low);
    if (mask)
        n = _mm256_or_si256(n, vi_sll(vi_and(vi_srl(vi_load_u8(high), shift), mask), 8));
    return _mm256_i32gather_epi32((const int *)(const void *)points, n, 4);
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
    vi w, sign; /* QK_SIGNED: w is |sign| */
} qk_line;

QK_INLINE qk_line qk_line_of(const qk_format f, qk_raw w)
{
    qk_line line = {w, w};
    if (qk_kind_of(f) == QK_SIGNED) {
        line.sign = _mm256_xor_si256(w, _mm256_set1_epi8((char)0x80));
        line.w = _mm256_abs_epi8(line.sign);
    }
    return line;
}

/* QK_SMALL adds up in 16 bits, so that the start can only be added at the end. */
QK_INLINE vi qk_dot_start(const qk_format f, int32_t start) { return _mm256_set1_epi32(qk_kind_of(f) == QK_SMALL ? 0 : start); }

/* Four activations of a token, eight times. */
QK_INLINE vi qk_four(const int8_t *x)
{
    int32_t bits;
    memcpy(&bits, x, sizeof bits);
    return _mm256_set1_epi32(bits);
}

QK_INLINE vi qk_wider(vi products) { return _mm256_madd_epi16(products, _mm256_set1_epi16(1)); }

/* Two lines times eight activations. */
QK_INLINE vi qk_dot_pair(const qk_format f, vi sum, const qk_line line[2], const int8_t *x)
{
    vi a = qk_four(x), b = qk_four(x + 4);
#if QK_VNNI
    (void)f;
    return _mm256_dpbusd_avx_epi32(_mm256_dpbusd_avx_epi32(sum, line[0].w, a), line[1].w, b);
#else
    if (qk_kind_of(f) == QK_SIGNED)
        a = _mm256_sign_epi8(a, line[0].sign), b = _mm256_sign_epi8(b, line[1].sign);
    a = _mm256_maddubs_epi16(line[0].w, a);
    b = _mm256_maddubs_epi16(line[1].w, b);
    switch (qk_kind_of(f)) {
    case QK_SMALL: return _mm256_add_epi16(sum, _mm256_add_epi16(a, b)); /* at most 8·2·15·127, which fits */
    case QK_PAIRS: return _mm256_add_epi32(sum, qk_wider(_mm256_add_epi16(a, b))); /* 2·2·63·127 */
    default: return _mm256_add_epi32(sum, _mm256_add_epi32(qk_wider(a), qk_wider(b)));
    }
#endif
}

QK_INLINE vf qk_dot_done(const qk_format f, vi sum, int32_t start)
{
    if (qk_kind_of(f) == QK_SMALL)
        sum = _mm256_add_epi32(qk_wider(sum), _mm256_set1_epi32(start));
    return _mm256_castsi256_ps(sum);
}

#define QK_IN_PLACE_TILES(X, name) X(name, 1) X(name, 2) X(name, 3)
#define QK_WIDE_TILES(X, name) QK_IN_PLACE_TILES(X, name)

#include "kernels/cpu/simd/matmul_panel.h"
