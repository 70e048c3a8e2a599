/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/panel.h: panel lines in zmm registers, one register a line: 16 rows × 4 elements. Included once with QK_VNNI
 * (vpdpbusd) and once without: products of bytes are then summed in pairs in 16 bits, which Q8_0 only fits as |w| times ±x. */
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/kernels.h"

/* One panel of twelve tokens: 24 registers of sums. Two panels of six save loads but measured slower, see docs/performance.md. */
enum { QK_SPLIT = 1, QK_PANELS = 1, QK_TOKENS = 12, QK_IN_PLACE = 4 };

/* How a format's bytes are multiplied. */
typedef enum qk_kind { QK_DPBUSD, QK_SIGNED, QK_SMALL } qk_kind;

typedef struct qk_panel_format {
    qp_format format;
    int quant_bytes; /* a block of 16 rows × 32 */
    int32_t bias;    /* of the unsigned elements */
    qk_kind kind;
    int nibbles;
} qk_format;

typedef struct qk_line {
    vi w;
    __mmask64 negative; /* QK_SIGNED: w is |w|, and this its sign */
} qk_line;

QK_INLINE int32_t qk_bias(const qk_format f)
{
    return f.kind == QK_SIGNED ? 0 : f.bias;
}

/* QK_SMALL adds up in 16 bits, so that the start can only be added at the end. */
QK_INLINE vi qk_dot_start(const qk_format f, int32_t start)
{
    return _mm512_set1_epi32(f.kind == QK_SMALL ? 0 : start);
}

QK_INLINE qk_line qk_line_of(const qk_format f, vi w)
{
    qk_line line = {w, 0};
    if (f.kind == QK_SIGNED) {
        w = _mm512_xor_si512(w, _mm512_set1_epi8((char)0x80));
        line.w = _mm512_abs_epi8(w);
        line.negative = _mm512_movepi8_mask(w);
    }
    return line;
}

/* Lines 2·pair and 2·pair + 1 of the block at w. */
QK_INLINE void qk_lines(const qk_format f, const uint8_t *w, int pair, int part, qk_line line[2])
{
    (void)part; /* a line is one vector */
    if (f.nibbles) {
        vi both = _mm512_load_si512(w + pair * 64), low = _mm512_set1_epi8(15);
        line[0] = qk_line_of(f, _mm512_and_si512(both, low));
        line[1] = qk_line_of(f, _mm512_and_si512(_mm512_srli_epi16(both, 4), low));
    } else {
        line[0] = qk_line_of(f, _mm512_load_si512(w + pair * 128));
        line[1] = qk_line_of(f, _mm512_load_si512(w + pair * 128 + 64));
    }
}

/* Four activations of a token, sixteen times. */
QK_INLINE vi qk_four(const int8_t *x)
{
    int32_t bits;
    memcpy(&bits, x, sizeof bits);
    return _mm512_set1_epi32(bits);
}

QK_INLINE vi qk_dot(const qk_format f, vi sum, qk_line line, vi x)
{
#if QK_VNNI
    (void)f;
    return _mm512_dpbusd_epi32(sum, line.w, x);
#else
    if (f.kind == QK_SMALL) /* at most 8·2·15·127, which fits */
        return _mm512_add_epi16(sum, _mm512_maddubs_epi16(line.w, x));
    x = _mm512_mask_sub_epi8(x, line.negative, _mm512_setzero_si512(), x);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(line.w, x), _mm512_set1_epi16(1)));
#endif
}

QK_INLINE vf qk_dot_done(const qk_format f, vi sum, int32_t start)
{
    if (f.kind == QK_SMALL)
        sum = _mm512_add_epi32(_mm512_madd_epi16(sum, _mm512_set1_epi16(1)), _mm512_set1_epi32(start));
    return _mm512_castsi512_ps(sum);
}

#include "kernels/cpu/simd/matmul_panel.h"

#define QK_IN_PLACE_TILES(X, name) X(name, 1) X(name, 2) X(name, 3) X(name, 4)
#define QK_ONE_TILES(X, name)                                                                                                      \
    X(name, 1)                                                                                                                     \
    X(name, 2) X(name, 3) X(name, 4) X(name, 5) X(name, 6) X(name, 7) X(name, 8) X(name, 9) X(name, 10) X(name, 11) X(name, 12)
#define QK_SEVERAL_TILES(X, name)
