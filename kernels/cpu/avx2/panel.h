/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx2/panel.h: panel lines in ymm registers, two registers a line: 8 rows × 4 elements each. Included once with
 * QK_VNNI (vpdpbusd) and once without: products of bytes are then summed in pairs in 16 bits, which Q8_0 only fits as |w| times
 * ±x. */
#include "kernels/cpu/avx2/vec.h"
#include "kernels/cpu/kernels.h"

enum { QK_SPLIT = 2, QK_PANELS = 1, QK_TOKENS = 3, QK_IN_PLACE = 3 };

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
    vi w, sign; /* QK_SIGNED: w is |sign| */
} qk_line;

QK_INLINE int32_t qk_bias(const qk_format f)
{
    return f.kind == QK_SIGNED ? 0 : f.bias;
}

/* QK_SMALL adds up in 16 bits, so that the start can only be added at the end. */
QK_INLINE vi qk_dot_start(const qk_format f, int32_t start)
{
    return _mm256_set1_epi32(f.kind == QK_SMALL ? 0 : start);
}

QK_INLINE qk_line qk_line_of(const qk_format f, vi w)
{
    qk_line line = {w, w};
    if (f.kind == QK_SIGNED) {
        line.sign = _mm256_xor_si256(w, _mm256_set1_epi8((char)0x80));
        line.w = _mm256_abs_epi8(line.sign);
    }
    return line;
}

/* Half `part` of lines 2·pair and 2·pair + 1 of the block at w. */
QK_INLINE void qk_lines(const qk_format f, const uint8_t *w, int pair, int part, qk_line line[2])
{
    if (f.nibbles) {
        vi both = _mm256_load_si256((const __m256i *)(const void *)(w + pair * 64 + part * 32)), low = _mm256_set1_epi8(15);
        line[0] = qk_line_of(f, _mm256_and_si256(both, low));
        line[1] = qk_line_of(f, _mm256_and_si256(_mm256_srli_epi16(both, 4), low));
    } else {
        line[0] = qk_line_of(f, _mm256_load_si256((const __m256i *)(const void *)(w + pair * 128 + part * 32)));
        line[1] = qk_line_of(f, _mm256_load_si256((const __m256i *)(const void *)(w + pair * 128 + 64 + part * 32)));
    }
}

/* Four activations of a token, eight times. */
QK_INLINE vi qk_four(const int8_t *x)
{
    int32_t bits;
    memcpy(&bits, x, sizeof bits);
    return _mm256_set1_epi32(bits);
}

QK_INLINE vi qk_dot(const qk_format f, vi sum, qk_line line, vi x)
{
#if QK_VNNI
    (void)f;
    return _mm256_dpbusd_avx_epi32(sum, line.w, x);
#else
    if (f.kind == QK_SMALL) /* at most 8·2·15·127, which fits */
        return _mm256_add_epi16(sum, _mm256_maddubs_epi16(line.w, x));
    x = _mm256_sign_epi8(x, line.sign);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(line.w, x), _mm256_set1_epi16(1)));
#endif
}

QK_INLINE vf qk_dot_done(const qk_format f, vi sum, int32_t start)
{
    if (f.kind == QK_SMALL)
        sum = _mm256_add_epi32(_mm256_madd_epi16(sum, _mm256_set1_epi16(1)), _mm256_set1_epi32(start));
    return _mm256_castsi256_ps(sum);
}

#include "kernels/cpu/simd/matmul_panel.h"

#define QK_IN_PLACE_TILES(X, name) X(name, 1) X(name, 2) X(name, 3)
#define QK_ONE_TILES(X, name) QK_IN_PLACE_TILES(X, name)
#define QK_SEVERAL_TILES(X, name)
