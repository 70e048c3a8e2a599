/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx2/vec.h: the vector operations that the files in simd/ are written in, for AVX2 with FMA and F16C. */
#ifndef QUERN_KERNELS_CPU_AVX2_VEC_H
#define QUERN_KERNELS_CPU_AVX2_VEC_H

#include "kernels/cpu/simd/unroll.h"

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* clang-format off: a table, one line an operation */

enum { V_LANES = 8 };
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm;  /* all bits of a lane, or none */
typedef __m256d vd; /* V_LANES / 2 doubles */

/* Lanes below n, n < V_LANES. */
QK_INLINE vi v_first_bits(int64_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
QK_INLINE vm v_first(int64_t n)
{
    return _mm256_castsi256_ps(v_first_bits(n));
}

QK_INLINE vf v_zero(void)
{
    return _mm256_setzero_ps();
}
QK_INLINE vf v_set1(float x)
{
    return _mm256_set1_ps(x);
}
QK_INLINE vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
QK_INLINE vf v_load_n(const float *p, int64_t n)
{
    return _mm256_maskload_ps(p, v_first_bits(n));
}
QK_INLINE void v_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}
QK_INLINE void v_store_n(float *p, vf x, int64_t n)
{
    _mm256_maskstore_ps(p, v_first_bits(n), x);
}

QK_INLINE vf v_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}
QK_INLINE vf v_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}
QK_INLINE vf v_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}
QK_INLINE vf v_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}
QK_INLINE vf v_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}
QK_INLINE vf v_fnma(vf a, vf b, vf c)
{
    return _mm256_fnmadd_ps(a, b, c);
} /* c − a·b */
QK_INLINE vf v_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
} /* b when one is NaN */
QK_INLINE vf v_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
} /* b when one is NaN */
QK_INLINE vf v_abs(vf a)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
QK_INLINE vf v_copysign(vf a, vf sign)
{
    vf bit = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(bit, a), _mm256_and_ps(bit, sign));
}
QK_INLINE vf v_round(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* a·2^n for whole n in [−252, 254], in two steps so that subnormal results come out right. */
QK_INLINE vf v_ldexp(vf a, vf n)
{
    vi i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1), bias = _mm256_set1_epi32(127);
    vf first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    vf second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), bias), 23));
    return _mm256_mul_ps(_mm256_mul_ps(a, first), second);
}

QK_INLINE vm v_lt(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
QK_INLINE vm v_equal(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}
QK_INLINE vm v_unordered(vf a, vf b)
{
    return _mm256_cmp_ps(a, b, _CMP_UNORD_Q);
}
QK_INLINE unsigned v_bits(vm m)
{
    return (unsigned)_mm256_movemask_ps(m);
} /* bit i: lane i */
QK_INLINE vf v_select(vm m, vf yes, vf no)
{
    return _mm256_blendv_ps(no, yes, m);
}

QK_INLINE float v_first_lane(vf a)
{
    return _mm256_cvtss_f32(a);
}
QK_INLINE float v_sum(vf a)
{
    __m128 c = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    c = _mm_add_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}

QK_INLINE float v_largest(vf a)
{
    __m128 c = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    c = _mm_max_ps(c, _mm_movehl_ps(c, c));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

/* dst[0…3] = the sums of a, b, c, d. */
QK_INLINE void v_sum_four(float *dst, vf a, vf b, vf c, vf d)
{
    vf all = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(dst, _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1)));
}

/* Rows to columns, V_LANES of each. */
QK_INLINE void v_transpose(vf m[8])
{
    vf a[8];
    QK_UNROLL
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_ps(m[i], m[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(m[i], m[i + 1]);
    }
    QK_UNROLL
    for (int i = 0; i < 8; i += 4) { /* m[i + j]: column 4l + j of rows i … i + 3 in 128-bit lane l */
        m[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
        m[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
        m[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
        m[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
    }
    QK_UNROLL
    for (int j = 0; j < 4; j++) {
        vf low = m[j], high = m[j + 4];
        m[j] = _mm256_permute2f128_ps(low, high, 0x20);
        m[j + 4] = _mm256_permute2f128_ps(low, high, 0x31);
    }
}

/* Even and odd lanes of two vectors that follow each other. */
QK_INLINE vf v_gather_pairs(vf a)
{
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(a), 0xd8));
}
QK_INLINE vf v_even(vf low, vf high)
{
    return v_gather_pairs(_mm256_shuffle_ps(low, high, 0x88));
}
QK_INLINE vf v_odd(vf low, vf high)
{
    return v_gather_pairs(_mm256_shuffle_ps(low, high, 0xdd));
}
/* Pairs of lanes (2i, 2i + 1): the first one twice, the second one twice, swapped; a − b in the first, a + b in the second. */
QK_INLINE vf v_pair_first(vf a)
{
    return _mm256_moveldup_ps(a);
}
QK_INLINE vf v_pair_second(vf a)
{
    return _mm256_movehdup_ps(a);
}
QK_INLINE vf v_pair_swap(vf a)
{
    return _mm256_permute_ps(a, 0xb1);
}
QK_INLINE vf v_addsub(vf a, vf b)
{
    return _mm256_addsub_ps(a, b);
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

/* n < V_LANES 16-bit elements, the others zero. */
QK_INLINE __m128i v_load_16(const void *p, int64_t n)
{
    uint16_t all[8] = {0};
    memcpy(all, p, (size_t)n * 2);
    return _mm_loadu_si128((const __m128i *)(const void *)all);
}
QK_INLINE void v_store_16(void *p, __m128i a, int64_t n)
{
    uint16_t all[8];
    _mm_storeu_si128((__m128i *)(void *)all, a);
    memcpy(p, all, (size_t)n * 2);
}

QK_INLINE vf v_load_f16(const void *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
QK_INLINE vf v_load_f16_n(const void *p, int64_t n)
{
    return _mm256_cvtph_ps(v_load_16(p, n));
}
QK_INLINE void v_store_f16(void *p, vf a)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
QK_INLINE void v_store_f16_n(void *p, vf a, int64_t n)
{
    v_store_16(p, _mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT), n);
}

QK_INLINE vf v_from_bf16(__m128i h)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
QK_INLINE vf v_load_bf16(const void *p)
{
    return v_from_bf16(_mm_loadu_si128((const __m128i *)p));
}
QK_INLINE vf v_load_bf16_n(const void *p, int64_t n)
{
    return v_from_bf16(v_load_16(p, n));
}

/* Rounded to nearest even; NaN keeps its upper bits and becomes quiet. */
QK_INLINE __m128i v_to_bf16(vf a)
{
    vi bits = _mm256_castps_si256(a), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    vi rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    vi quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(64));
    vi all = _mm256_blendv_epi8(rounded, quiet, _mm256_castps_si256(v_unordered(a, a)));
    return _mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}
QK_INLINE void v_store_bf16(void *p, vf a)
{
    _mm_storeu_si128((__m128i *)p, v_to_bf16(a));
}
QK_INLINE void v_store_bf16_n(void *p, vf a, int64_t n)
{
    v_store_16(p, v_to_bf16(a), n);
}

QK_INLINE vf v_load_i8(const void *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
/* Low and high nibbles of V_LANES bytes, less 8. */
QK_INLINE vf v_load_low(const void *p)
{
    vi w = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_and_si256(w, _mm256_set1_epi32(15)), _mm256_set1_epi32(8)));
}
QK_INLINE vf v_load_high(const void *p)
{
    vi w = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_srli_epi32(w, 4), _mm256_set1_epi32(8)));
}

QK_INLINE vi vi_zero(void)
{
    return _mm256_setzero_si256();
}
QK_INLINE vi vi_add(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}
QK_INLINE vi vi_and(vi a, int mask)
{
    return _mm256_and_si256(a, _mm256_set1_epi32(mask));
}
QK_INLINE vi vi_or(vi a, vi b)
{
    return _mm256_or_si256(a, b);
}
QK_INLINE vi vi_srl(vi a, int n)
{
    return _mm256_srl_epi32(a, _mm_cvtsi32_si128(n));
}
QK_INLINE vi vi_sll(vi a, int n)
{
    return _mm256_sll_epi32(a, _mm_cvtsi32_si128(n));
}
/* V_LANES bytes. */
QK_INLINE vi vi_load_u8(const void *p)
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
QK_INLINE vi vi_load_i8(const void *p)
{
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
QK_INLINE vi vi_nearest(vf a)
{
    return _mm256_cvtps_epi32(a);
} /* to even */
QK_INLINE vi vi_truncate(vf a)
{
    return _mm256_cvttps_epi32(a);
}
QK_INLINE vf vi_to_float(vi a)
{
    return _mm256_cvtepi32_ps(a);
}
QK_INLINE int32_t vi_sum(vi a)
{
    __m128i c = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    c = _mm_add_epi32(c, _mm_shuffle_epi32(c, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
}
QK_INLINE void vi_store_i8(void *p, vi a)
{
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(words, words));
}

/* ---- doubles, for sums that must not overflow ---- */

QK_INLINE vd vd_zero(void)
{
    return _mm256_setzero_pd();
}
QK_INLINE vd vd_set1(double x)
{
    return _mm256_set1_pd(x);
}
QK_INLINE vd vd_low(vf a)
{
    return _mm256_cvtps_pd(_mm256_castps256_ps128(a));
}
QK_INLINE vd vd_high(vf a)
{
    return _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
}
QK_INLINE vd vd_add(vd a, vd b)
{
    return _mm256_add_pd(a, b);
}
QK_INLINE vd vd_sub(vd a, vd b)
{
    return _mm256_sub_pd(a, b);
}
QK_INLINE vd vd_mul(vd a, vd b)
{
    return _mm256_mul_pd(a, b);
}
QK_INLINE vd vd_fma(vd a, vd b, vd c)
{
    return _mm256_fmadd_pd(a, b, c);
}
QK_INLINE vf vd_join(vd low, vd high)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high), 1);
}
QK_INLINE double vd_sum(vd a)
{
    __m128d c = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(c, _mm_unpackhi_pd(c, c)));
}

/* clang-format on */

#endif
