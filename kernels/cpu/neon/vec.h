/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/vec.h: the vector operations that the files in simd/ are written in, for 64-bit ARM. A vector is a pair of
 * registers: eight lanes let a load of bytes or halves fill a register, and 32 registers are then 16 vectors, as with AVX2. */
#ifndef QUERN_KERNELS_CPU_NEON_VEC_H
#define QUERN_KERNELS_CPU_NEON_VEC_H

#include "kernels/cpu/simd/unroll.h"

#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define V_ISA neon
enum { V_LANES = 8, V_REGISTERS = 16 };
typedef struct vf { float32x4_t l, h; } vf;
typedef struct vi { int32x4_t l, h; } vi;
typedef struct vm { uint32x4_t l, h; } vm;
typedef struct vd { float64x2_t l, h; } vd; /* V_LANES / 2 doubles */

QK_INLINE vf v_pair(float32x4_t l, float32x4_t h) { return (vf){l, h}; }
QK_INLINE vi vi_pair(int32x4_t l, int32x4_t h) { return (vi){l, h}; }

QK_INLINE vm v_first(int64_t n) /* n < V_LANES */
{
    static const uint32_t ends[2 * V_LANES] = {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
    return (vm){vld1q_u32(ends + V_LANES - n), vld1q_u32(ends + V_LANES - n + 4)};
}

QK_INLINE vf v_set1(float x) { return v_pair(vdupq_n_f32(x), vdupq_n_f32(x)); }
QK_INLINE vf v_zero(void) { return v_set1(0); }
QK_INLINE vf v_load(const float *p) { return v_pair(vld1q_f32(p), vld1q_f32(p + 4)); }
QK_INLINE void v_store(float *p, vf x)
{
    vst1q_f32(p, x.l);
    vst1q_f32(p + 4, x.h);
}
QK_INLINE vf v_load_n(const float *p, int64_t n)
{
    float part[V_LANES] = {0};
    memcpy(part, p, (size_t)n * sizeof *p);
    return v_load(part);
}
QK_INLINE void v_store_n(float *p, vf x, int64_t n)
{
    float part[V_LANES];
    v_store(part, x);
    memcpy(p, part, (size_t)n * sizeof *p);
}

QK_INLINE vf v_add(vf a, vf b) { return v_pair(vaddq_f32(a.l, b.l), vaddq_f32(a.h, b.h)); }
QK_INLINE vf v_sub(vf a, vf b) { return v_pair(vsubq_f32(a.l, b.l), vsubq_f32(a.h, b.h)); }
QK_INLINE vf v_mul(vf a, vf b) { return v_pair(vmulq_f32(a.l, b.l), vmulq_f32(a.h, b.h)); }
QK_INLINE vf v_div(vf a, vf b) { return v_pair(vdivq_f32(a.l, b.l), vdivq_f32(a.h, b.h)); }
QK_INLINE vf v_fma(vf a, vf b, vf c) { return v_pair(vfmaq_f32(c.l, a.l, b.l), vfmaq_f32(c.h, a.h, b.h)); }
QK_INLINE vf v_fnma(vf a, vf b, vf c) { return v_pair(vfmsq_f32(c.l, a.l, b.l), vfmsq_f32(c.h, a.h, b.h)); } /* c − a·b */
QK_INLINE vf v_abs(vf a) { return v_pair(vabsq_f32(a.l), vabsq_f32(a.h)); }
QK_INLINE vf v_round(vf a) { return v_pair(vrndnq_f32(a.l), vrndnq_f32(a.h)); }

QK_INLINE vm v_lt(vf a, vf b) { return (vm){vcltq_f32(a.l, b.l), vcltq_f32(a.h, b.h)}; }
QK_INLINE vm v_equal(vf a, vf b) { return (vm){vceqq_f32(a.l, b.l), vceqq_f32(a.h, b.h)}; }
QK_INLINE vm v_unordered(vf a, vf b)
{
    return (vm){vmvnq_u32(vandq_u32(vceqq_f32(a.l, a.l), vceqq_f32(b.l, b.l))),
                vmvnq_u32(vandq_u32(vceqq_f32(a.h, a.h), vceqq_f32(b.h, b.h)))};
}
QK_INLINE unsigned v_bits(vm m) /* bit i: lane i */
{
    static const uint32_t weights[V_LANES] = {1, 2, 4, 8, 16, 32, 64, 128};
    return vaddvq_u32(vorrq_u32(vandq_u32(m.l, vld1q_u32(weights)), vandq_u32(m.h, vld1q_u32(weights + 4))));
}
QK_INLINE vf v_select(vm m, vf yes, vf no) { return v_pair(vbslq_f32(m.l, yes.l, no.l), vbslq_f32(m.h, yes.h, no.h)); }
QK_INLINE vf v_min(vf a, vf b) { return v_select(v_lt(a, b), a, b); } /* b when one is NaN */
QK_INLINE vf v_max(vf a, vf b) { return v_select(v_lt(b, a), a, b); } /* b when one is NaN */
QK_INLINE vf v_copysign(vf a, vf sign)
{
    uint32x4_t mask = vdupq_n_u32(0x80000000u);
    return v_pair(vbslq_f32(mask, sign.l, a.l), vbslq_f32(mask, sign.h, a.h));
}

/* a·2^n, n whole: in two steps, so that subnormal results come out right. */
QK_INLINE float32x4_t v_ldexp_part(float32x4_t a, float32x4_t n)
{
    int32x4_t i = vcvtq_s32_f32(n), half = vshrq_n_s32(i, 1), bias = vdupq_n_s32(127);
    float32x4_t first = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    float32x4_t second = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vsubq_s32(i, half), bias), 23));
    return vmulq_f32(vmulq_f32(a, first), second);
}
QK_INLINE vf v_ldexp(vf a, vf n) { return v_pair(v_ldexp_part(a.l, n.l), v_ldexp_part(a.h, n.h)); }

QK_INLINE float v_sum(vf a) { return vaddvq_f32(vaddq_f32(a.l, a.h)); }
QK_INLINE float v_largest(vf a) { return vmaxvq_f32(vmaxq_f32(a.l, a.h)); }

/* dst[0…3] = the sums of a, b, c, d. */
QK_INLINE void v_sum_four(float *dst, vf a, vf b, vf c, vf d)
{
    float32x4_t ab = vpaddq_f32(vaddq_f32(a.l, a.h), vaddq_f32(b.l, b.h)), cd = vpaddq_f32(vaddq_f32(c.l, c.h), vaddq_f32(d.l, d.h));
    vst1q_f32(dst, vpaddq_f32(ab, cd));
}
QK_INLINE float v_first_lane(vf a) { return vgetq_lane_f32(a.l, 0); }

QK_INLINE void v_transpose_four(float32x4_t m[4])
{
    float64x2_t a = vreinterpretq_f64_f32(vtrn1q_f32(m[0], m[1])), b = vreinterpretq_f64_f32(vtrn2q_f32(m[0], m[1]));
    float64x2_t c = vreinterpretq_f64_f32(vtrn1q_f32(m[2], m[3])), d = vreinterpretq_f64_f32(vtrn2q_f32(m[2], m[3]));
    m[0] = vreinterpretq_f32_f64(vtrn1q_f64(a, c));
    m[1] = vreinterpretq_f32_f64(vtrn1q_f64(b, d));
    m[2] = vreinterpretq_f32_f64(vtrn2q_f64(a, c));
    m[3] = vreinterpretq_f32_f64(vtrn2q_f64(b, d));
}

/* Rows to columns, V_LANES of each: by quarters, those off the diagonal change places. */
QK_INLINE void v_transpose(vf m[8])
{
    float32x4_t a[4], b[4], c[4], d[4];
    QK_UNROLL
    for (int i = 0; i < 4; i++) {
        a[i] = m[i].l, b[i] = m[i].h;
        c[i] = m[i + 4].l, d[i] = m[i + 4].h;
    }
    v_transpose_four(a);
    v_transpose_four(b);
    v_transpose_four(c);
    v_transpose_four(d);
    QK_UNROLL
    for (int i = 0; i < 4; i++) {
        m[i] = v_pair(a[i], c[i]);
        m[i + 4] = v_pair(b[i], d[i]);
    }
}

/* Even and odd lanes of two vectors that follow each other. */
QK_INLINE vf v_even(vf low, vf high) { return v_pair(vuzp1q_f32(low.l, low.h), vuzp1q_f32(high.l, high.h)); }
QK_INLINE vf v_odd(vf low, vf high) { return v_pair(vuzp2q_f32(low.l, low.h), vuzp2q_f32(high.l, high.h)); }
/* Pairs of lanes (2i, 2i + 1): the first one twice, the second one twice, swapped; a − b in the first, a + b in the second. */
QK_INLINE vf v_pair_first(vf a) { return v_pair(vtrn1q_f32(a.l, a.l), vtrn1q_f32(a.h, a.h)); }
QK_INLINE vf v_pair_second(vf a) { return v_pair(vtrn2q_f32(a.l, a.l), vtrn2q_f32(a.h, a.h)); }
QK_INLINE vf v_pair_swap(vf a) { return v_pair(vrev64q_f32(a.l), vrev64q_f32(a.h)); }
QK_INLINE vf v_addsub(vf a, vf b)
{
    uint32x4_t turn = vreinterpretq_u32_u64(vdupq_n_u64(0x80000000u)); /* the sign of even lanes */
    return v_pair(vaddq_f32(a.l, vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(b.l), turn))),
                  vaddq_f32(a.h, vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(b.h), turn))));
}

/* ---- other element types ---- */

QK_INLINE float v_f16(uint16_t h) { return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0); }
QK_INLINE uint16_t v_to_f16(float f) { return vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(f))), 0); }

QK_INLINE vf v_from_f16(uint16x8_t bits)
{
    float16x8_t h = vreinterpretq_f16_u16(bits);
    return v_pair(vcvt_f32_f16(vget_low_f16(h)), vcvt_high_f32_f16(h));
}
QK_INLINE uint16x8_t v_narrow_f16(vf a) { return vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(a.l), a.h)); }
QK_INLINE vf v_from_bf16(uint16x8_t bits)
{
    return v_pair(vreinterpretq_f32_u32(vshll_n_u16(vget_low_u16(bits), 16)), vreinterpretq_f32_u32(vshll_high_n_u16(bits, 16)));
}

/* Rounded to nearest even; NaN keeps its upper bits and becomes quiet. */
QK_INLINE uint32x4_t v_narrow_bf16_part(float32x4_t a)
{
    uint32x4_t bits = vreinterpretq_u32_f32(a), upper = vshrq_n_u32(bits, 16), odd = vandq_u32(upper, vdupq_n_u32(1));
    uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
    return vbslq_u32(vceqq_f32(a, a), rounded, vorrq_u32(upper, vdupq_n_u32(64)));
}
QK_INLINE uint16x8_t v_narrow_bf16(vf a) { return vmovn_high_u32(vmovn_u32(v_narrow_bf16_part(a.l)), v_narrow_bf16_part(a.h)); }

QK_INLINE uint16x8_t v_load_u16_n(const void *p, int64_t n)
{
    uint16_t part[V_LANES] = {0};
    memcpy(part, p, (size_t)n * sizeof *part);
    return vld1q_u16(part);
}
QK_INLINE void v_store_u16_n(void *p, uint16x8_t a, int64_t n)
{
    uint16_t part[V_LANES];
    vst1q_u16(part, a);
    memcpy(p, part, (size_t)n * sizeof *part);
}

QK_INLINE vf v_load_f16(const void *p) { return v_from_f16(vld1q_u16(p)); }
QK_INLINE vf v_load_f16_n(const void *p, int64_t n) { return v_from_f16(v_load_u16_n(p, n)); }
QK_INLINE void v_store_f16(void *p, vf a) { vst1q_u16(p, v_narrow_f16(a)); }
QK_INLINE void v_store_f16_n(void *p, vf a, int64_t n) { v_store_u16_n(p, v_narrow_f16(a), n); }
QK_INLINE vf v_load_bf16(const void *p) { return v_from_bf16(vld1q_u16(p)); }
QK_INLINE vf v_load_bf16_n(const void *p, int64_t n) { return v_from_bf16(v_load_u16_n(p, n)); }
QK_INLINE void v_store_bf16(void *p, vf a) { vst1q_u16(p, v_narrow_bf16(a)); }
QK_INLINE void v_store_bf16_n(void *p, vf a, int64_t n) { v_store_u16_n(p, v_narrow_bf16(a), n); }

QK_INLINE vf v_from_i8(int8x8_t a)
{
    int16x8_t w = vmovl_s8(a);
    return v_pair(vcvtq_f32_s32(vmovl_s16(vget_low_s16(w))), vcvtq_f32_s32(vmovl_high_s16(w)));
}
QK_INLINE vf v_load_i8(const void *p) { return v_from_i8(vld1_s8(p)); }
/* Low and high nibbles of V_LANES bytes, less 8. */
QK_INLINE vf v_load_low(const void *p)
{
    return v_from_i8(vsub_s8(vreinterpret_s8_u8(vand_u8(vld1_u8(p), vdup_n_u8(15))), vdup_n_s8(8)));
}
QK_INLINE vf v_load_high(const void *p) { return v_from_i8(vsub_s8(vreinterpret_s8_u8(vshr_n_u8(vld1_u8(p), 4)), vdup_n_s8(8))); }

QK_INLINE vi vi_zero(void) { return vi_pair(vdupq_n_s32(0), vdupq_n_s32(0)); }
QK_INLINE vi vi_set1(int32_t i) { return vi_pair(vdupq_n_s32(i), vdupq_n_s32(i)); }
QK_INLINE vi vi_add(vi a, vi b) { return vi_pair(vaddq_s32(a.l, b.l), vaddq_s32(a.h, b.h)); }
QK_INLINE vi vi_and(vi a, int mask) { return vi_pair(vandq_s32(a.l, vdupq_n_s32(mask)), vandq_s32(a.h, vdupq_n_s32(mask))); }
QK_INLINE vi vi_or(vi a, vi b) { return vi_pair(vorrq_s32(a.l, b.l), vorrq_s32(a.h, b.h)); }
QK_INLINE vi vi_sll(vi a, int n) { return vi_pair(vshlq_s32(a.l, vdupq_n_s32(n)), vshlq_s32(a.h, vdupq_n_s32(n))); }
QK_INLINE vi vi_srl(vi a, int n) { return vi_sll(a, -n); } /* of numbers that are not negative */
/* V_LANES bytes. */
QK_INLINE vi vi_load_i8(const void *p)
{
    int16x8_t w = vmovl_s8(vld1_s8(p));
    return vi_pair(vmovl_s16(vget_low_s16(w)), vmovl_high_s16(w));
}
QK_INLINE vi vi_load_u8(const void *p)
{
    int16x8_t w = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(p)));
    return vi_pair(vmovl_s16(vget_low_s16(w)), vmovl_high_s16(w));
}
QK_INLINE vi vi_nearest(vf a) { return vi_pair(vcvtnq_s32_f32(a.l), vcvtnq_s32_f32(a.h)); } /* to even */
QK_INLINE vi vi_truncate(vf a) { return vi_pair(vcvtq_s32_f32(a.l), vcvtq_s32_f32(a.h)); }
QK_INLINE vf vi_to_float(vi a) { return v_pair(vcvtq_f32_s32(a.l), vcvtq_f32_s32(a.h)); }
QK_INLINE vf vi_as_float(vi a) { return v_pair(vreinterpretq_f32_s32(a.l), vreinterpretq_f32_s32(a.h)); }
QK_INLINE int32_t vi_sum(vi a) { return vaddvq_s32(vaddq_s32(a.l, a.h)); }
QK_INLINE void vi_store_i8(void *p, vi a) { vst1_s8(p, vmovn_s16(vmovn_high_s32(vmovn_s32(a.l), a.h))); }

/* ---- doubles, for sums that must not overflow ---- */

QK_INLINE vd vd_set1(double x) { return (vd){vdupq_n_f64(x), vdupq_n_f64(x)}; }
QK_INLINE vd vd_zero(void) { return vd_set1(0); }
QK_INLINE vd vd_low(vf a) { return (vd){vcvt_f64_f32(vget_low_f32(a.l)), vcvt_high_f64_f32(a.l)}; }
QK_INLINE vd vd_high(vf a) { return (vd){vcvt_f64_f32(vget_low_f32(a.h)), vcvt_high_f64_f32(a.h)}; }
QK_INLINE vd vd_add(vd a, vd b) { return (vd){vaddq_f64(a.l, b.l), vaddq_f64(a.h, b.h)}; }
QK_INLINE vd vd_sub(vd a, vd b) { return (vd){vsubq_f64(a.l, b.l), vsubq_f64(a.h, b.h)}; }
QK_INLINE vd vd_mul(vd a, vd b) { return (vd){vmulq_f64(a.l, b.l), vmulq_f64(a.h, b.h)}; }
QK_INLINE vd vd_fma(vd a, vd b, vd c) { return (vd){vfmaq_f64(c.l, a.l, b.l), vfmaq_f64(c.h, a.h, b.h)}; }
QK_INLINE vf vd_join(vd low, vd high)
{
    return v_pair(vcvt_high_f32_f64(vcvt_f32_f64(low.l), low.h), vcvt_high_f32_f64(vcvt_f32_f64(high.l), high.h));
}
QK_INLINE double vd_sum(vd a) { return vaddvq_f64(vaddq_f64(a.l, a.h)); }

#endif
