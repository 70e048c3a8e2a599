/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/vec.h: the vector operations that the files in simd/ are written in, for AVX-512 F, BW, DQ, VL. */
#ifndef QUERN_KERNELS_CPU_AVX512_VEC_H
#define QUERN_KERNELS_CPU_AVX512_VEC_H

#include "kernels/cpu/simd/unroll.h"

#include <immintrin.h>
#include <stdint.h>

/* clang-format off: a table, one line an operation */

enum { V_LANES = 16 };
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;
typedef __m512d vd; /* V_LANES / 2 doubles */

QK_INLINE vm v_first(int64_t n)
{
    return (vm)((1u << n) - 1);
} /* n < V_LANES */

QK_INLINE vf v_zero(void)
{
    return _mm512_setzero_ps();
}
QK_INLINE vf v_set1(float x)
{
    return _mm512_set1_ps(x);
}
QK_INLINE vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
QK_INLINE vf v_load_n(const float *p, int64_t n)
{
    return _mm512_maskz_loadu_ps(v_first(n), p);
}
QK_INLINE void v_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}
QK_INLINE void v_store_n(float *p, vf x, int64_t n)
{
    _mm512_mask_storeu_ps(p, v_first(n), x);
}

QK_INLINE vf v_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}
QK_INLINE vf v_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}
QK_INLINE vf v_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}
QK_INLINE vf v_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}
QK_INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}
QK_INLINE vf v_fnma(vf a, vf b, vf c)
{
    return _mm512_fnmadd_ps(a, b, c);
} /* c − a·b */
QK_INLINE vf v_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
} /* b when one is NaN */
QK_INLINE vf v_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
} /* b when one is NaN */
QK_INLINE vf v_abs(vf a)
{
    return _mm512_abs_ps(a);
}
QK_INLINE vf v_copysign(vf a, vf sign)
{
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(a), _mm512_castps_si512(sign),
                                                         _mm512_set1_epi32((int)0x80000000u),
                                                         0xd8)); /* bit of the mask: sign, else a */
}
QK_INLINE vf v_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
QK_INLINE vf v_ldexp(vf a, vf n)
{
    return _mm512_scalef_ps(a, n);
} /* a·2^n, n whole */

QK_INLINE vm v_lt(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
QK_INLINE vm v_equal(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
QK_INLINE vm v_unordered(vf a, vf b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_UNORD_Q);
}
QK_INLINE unsigned v_bits(vm m)
{
    return m;
} /* bit i: lane i */
QK_INLINE vf v_select(vm m, vf yes, vf no)
{
    return _mm512_mask_blend_ps(m, no, yes);
}

QK_INLINE float v_sum(vf a)
{
    __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

QK_INLINE float v_largest(vf a)
{
    __m256 b = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

/* dst[0…3] = the sums of a, b, c, d. */
QK_INLINE void v_sum_four(float *dst, vf a, vf b, vf c, vf d)
{
    vf ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    vf cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    vf all = _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
    _mm_storeu_ps(dst, _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
}
QK_INLINE float v_first_lane(vf a)
{
    return _mm512_cvtss_f32(a);
}

/* Rows to columns, V_LANES of each. */
QK_INLINE void v_transpose(vf m[16])
{
    vf a[16];
    QK_UNROLL
    for (int i = 0; i < 16; i += 2) {
        a[i] = _mm512_unpacklo_ps(m[i], m[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(m[i], m[i + 1]);
    }
    QK_UNROLL
    for (int i = 0; i < 16; i += 4) { /* m[i + j]: column 4l + j of rows i … i + 3 in 128-bit lane l */
        m[i] = _mm512_shuffle_ps(a[i], a[i + 2], 0x44);
        m[i + 1] = _mm512_shuffle_ps(a[i], a[i + 2], 0xee);
        m[i + 2] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        m[i + 3] = _mm512_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    QK_UNROLL
    for (int j = 0; j < 4; j++) {
        a[j] = _mm512_shuffle_f32x4(m[j], m[j + 4], 0x88); /* lanes 0, 2 of both: columns j, 8 + j */
        a[j + 4] = _mm512_shuffle_f32x4(m[j], m[j + 4], 0xdd);
        a[j + 8] = _mm512_shuffle_f32x4(m[j + 8], m[j + 12], 0x88);
        a[j + 12] = _mm512_shuffle_f32x4(m[j + 8], m[j + 12], 0xdd);
    }
    QK_UNROLL
    for (int j = 0; j < 4; j++) {
        m[j] = _mm512_shuffle_f32x4(a[j], a[j + 8], 0x88);
        m[j + 8] = _mm512_shuffle_f32x4(a[j], a[j + 8], 0xdd);
        m[j + 4] = _mm512_shuffle_f32x4(a[j + 4], a[j + 12], 0x88);
        m[j + 12] = _mm512_shuffle_f32x4(a[j + 4], a[j + 12], 0xdd);
    }
}

/* Even and odd lanes of two vectors that follow each other. */
QK_INLINE vf v_even(vf low, vf high)
{
    return _mm512_permutex2var_ps(low, _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0), high);
}
QK_INLINE vf v_odd(vf low, vf high)
{
    return _mm512_permutex2var_ps(low, _mm512_set_epi32(31, 29, 27, 25, 23, 21, 19, 17, 15, 13, 11, 9, 7, 5, 3, 1), high);
}
/* Pairs of lanes (2i, 2i + 1): the first one twice, the second one twice, swapped; a − b in the first, a + b in the second. */
QK_INLINE vf v_pair_first(vf a)
{
    return _mm512_moveldup_ps(a);
}
QK_INLINE vf v_pair_second(vf a)
{
    return _mm512_movehdup_ps(a);
}
QK_INLINE vf v_pair_swap(vf a)
{
    return _mm512_permute_ps(a, 0xb1);
}
QK_INLINE vf v_addsub(vf a, vf b)
{
    return _mm512_mask_sub_ps(_mm512_add_ps(a, b), 0x5555, a, b);
}

/* ---- other element types ---- */

QK_INLINE float v_f16(uint16_t h)
{
    return _cvtsh_ss(h);
}
QK_INLINE uint16_t v_to_f16(float f)
{
    return (uint16_t)_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT);
}

QK_INLINE vf v_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
QK_INLINE vf v_load_f16_n(const void *p, int64_t n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v_first(n), p));
}
QK_INLINE void v_store_f16(void *p, vf a)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
QK_INLINE void v_store_f16_n(void *p, vf a, int64_t n)
{
    _mm256_mask_storeu_epi16(p, v_first(n), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
QK_INLINE vf v_from_bf16(__m256i h)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
QK_INLINE vf v_load_bf16(const void *p)
{
    return v_from_bf16(_mm256_loadu_si256((const __m256i *)p));
}
QK_INLINE vf v_load_bf16_n(const void *p, int64_t n)
{
    return v_from_bf16(_mm256_maskz_loadu_epi16(v_first(n), p));
}

/* Rounded to nearest even; NaN keeps its upper bits and becomes quiet. */
QK_INLINE __m256i v_to_bf16(vf a)
{
    vi bits = _mm512_castps_si512(a), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    vi rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    vi quiet = _mm512_or_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(64));
    return _mm512_cvtepi32_epi16(_mm512_mask_blend_epi32(v_unordered(a, a), rounded, quiet));
}
QK_INLINE void v_store_bf16(void *p, vf a)
{
    _mm256_storeu_si256((__m256i *)p, v_to_bf16(a));
}
QK_INLINE void v_store_bf16_n(void *p, vf a, int64_t n)
{
    _mm256_mask_storeu_epi16(p, v_first(n), v_to_bf16(a));
}

QK_INLINE vf v_load_i8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
/* Low and high nibbles of V_LANES bytes, less 8. */
QK_INLINE vf v_load_low(const void *p)
{
    vi w = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_and_si512(w, _mm512_set1_epi32(15)), _mm512_set1_epi32(8)));
}
QK_INLINE vf v_load_high(const void *p)
{
    vi w = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_srli_epi32(w, 4), _mm512_set1_epi32(8)));
}

QK_INLINE vi vi_zero(void)
{
    return _mm512_setzero_si512();
}
QK_INLINE vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}
QK_INLINE vi vi_and(vi a, int mask)
{
    return _mm512_and_si512(a, _mm512_set1_epi32(mask));
}
QK_INLINE vi vi_or(vi a, vi b)
{
    return _mm512_or_si512(a, b);
}
QK_INLINE vi vi_srl(vi a, int n)
{
    return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n));
}
QK_INLINE vi vi_sll(vi a, int n)
{
    return _mm512_sll_epi32(a, _mm_cvtsi32_si128(n));
}
/* V_LANES bytes. */
QK_INLINE vi vi_load_u8(const void *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
QK_INLINE vi vi_load_i8(const void *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}
QK_INLINE vi vi_nearest(vf a)
{
    return _mm512_cvtps_epi32(a);
} /* to even */
QK_INLINE vi vi_truncate(vf a)
{
    return _mm512_cvttps_epi32(a);
}
QK_INLINE vf vi_to_float(vi a)
{
    return _mm512_cvtepi32_ps(a);
}
QK_INLINE int32_t vi_sum(vi a)
{
    return _mm512_reduce_add_epi32(a);
}
QK_INLINE void vi_store_i8(void *p, vi a)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a));
}

/* ---- doubles, for sums that must not overflow ---- */

QK_INLINE vd vd_zero(void)
{
    return _mm512_setzero_pd();
}
QK_INLINE vd vd_set1(double x)
{
    return _mm512_set1_pd(x);
}
QK_INLINE vd vd_low(vf a)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(a));
}
QK_INLINE vd vd_high(vf a)
{
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
}
QK_INLINE vd vd_add(vd a, vd b)
{
    return _mm512_add_pd(a, b);
}
QK_INLINE vd vd_sub(vd a, vd b)
{
    return _mm512_sub_pd(a, b);
}
QK_INLINE vd vd_mul(vd a, vd b)
{
    return _mm512_mul_pd(a, b);
}
QK_INLINE vd vd_fma(vd a, vd b, vd c)
{
    return _mm512_fmadd_pd(a, b, c);
}
QK_INLINE vf vd_join(vd low, vd high)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
QK_INLINE double vd_sum(vd a)
{
    __m256d b = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
    __m128d c = _mm_add_pd(_mm256_castpd256_pd128(b), _mm256_extractf128_pd(b, 1));
    return _mm_cvtsd_f64(_mm_add_sd(c, _mm_unpackhi_pd(c, c)));
}

/* clang-format on */

#endif
