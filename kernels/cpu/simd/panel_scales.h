/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/panel_scales.h: a block's scales as vectors of rows, out of the records of panel_formats.h. Products of two
 * scales are exact: 11 bits times at most 8. */
#ifndef QUERN_KERNELS_CPU_SIMD_PANEL_SCALES_H
#define QUERN_KERNELS_CPU_SIMD_PANEL_SCALES_H

#include "kernels/cpu/panel_formats.h"

typedef struct qk_scales {
    vf d, m; /* m: what is subtracted, of formats with minima */
} qk_scales;

QK_INLINE vf qk_halves(const uint8_t *record, int offset, int row) { return v_load_f16(record + offset + 2 * row); }

/* `mask` of a number of each row after a shift. */
QK_INLINE vi qk_bits(vi a, int shift, int mask) { return vi_and(vi_srl(a, shift), mask); }

/* Six bits: four of `low` and two of `high`. */
QK_INLINE vi qk_six(vi low, int low_shift, vi high, int high_shift)
{
    return vi_or(qk_bits(low, low_shift, 15), vi_sll(qk_bits(high, high_shift, 3), 4));
}

/* Part `part` of block b of the unit, V_LANES rows from `row` on. */
QK_INLINE qk_scales qk_scales_at(const qk_format f, const uint8_t *record, int b, int part, int row)
{
    const uint8_t *bytes = record + row;
    qk_scales s = {v_zero(), v_zero()};
    vi one, two;
    switch (f.scales) {
    case QK_SCALE_F16:
    case QK_SCALE_ONE: s.d = qk_halves(record, 0, row); break;
    case QK_SCALE_F16_MIN:
        s.d = qk_halves(record, 0, row);
        s.m = v_sub(v_zero(), qk_halves(record, 32, row));
        break;
    case QK_SCALE_E8M0: s.d = v_ldexp(v_set1(1), v_sub(vi_to_float(vi_load_u8(bytes)), v_set1(128))); break;
    case QK_SCALE_K2:
        one = vi_load_u8(bytes + 16 * (2 * b + part));
        s.d = v_mul(qk_halves(record, 256, row), vi_to_float(vi_and(one, 15)));
        s.m = v_mul(qk_halves(record, 288, row), vi_to_float(vi_srl(one, 4)));
        break;
    case QK_SCALE_K3:
        one = vi_load_u8(bytes + 16 * b), two = vi_load_u8(bytes + 16 * (8 + b / 2));
        one = qk_six(one, 4 * part, two, b % 2 * 4 + 2 * part);
        s.d = v_mul(qk_halves(record, 192, row), v_sub(vi_to_float(one), v_set1(32)));
        break;
    case QK_SCALE_K4:
        one = vi_load_u8(bytes + 16 * b), two = vi_load_u8(bytes + 16 * (8 + b / 2));
        s.d = v_mul(qk_halves(record, 192, row), vi_to_float(qk_six(one, 0, two, b % 2 * 4)));
        s.m = v_mul(qk_halves(record, 224, row), vi_to_float(qk_six(one, 4, two, b % 2 * 4 + 2)));
        break;
    case QK_SCALE_K6:
        s.d = v_mul(qk_halves(record, 256, row), vi_to_float(vi_load_i8(bytes + 16 * (2 * b + part))));
        break;
    case QK_SCALE_X4:
        one = vi_load_u8(bytes + 16 * (b / 2)), two = vi_load_u8(bytes + 16 * (4 + b / 4));
        s.d = v_mul(qk_halves(record, 96, row), v_sub(vi_to_float(qk_six(one, b % 2 * 4, two, b % 4 * 2)), v_set1(32)));
        break;
    case QK_SCALE_ODD:
    case QK_SCALE_ODD_4:
    case QK_SCALE_ODD_8:
        one = qk_bits(vi_load_u8(bytes + 16 * (b * f.parts / 2)), (f.parts == 2 ? part : b % 2) * 4, 15);
        two = vi_sll(one, 1);
        s.d = v_mul(qk_halves(record, 64 * f.parts, row),
                    v_mul(v_add(vi_to_float(two), v_set1(1)), v_set1(qk_odd_share(f.scales))));
        break;
    }
    return s;
}

#endif
