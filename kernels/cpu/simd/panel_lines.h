/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/panel_lines.h: elements of a panel as lines of bytes, out of the planes of kernels.h. The file that includes it
 * has defined qk_raw, a vector's part of a line, and
 *   qk_raw_load(), qk_raw_store(), qk_raw_or(); qk_raw_field(): bytes shifted right (left, if negative) and masked
 *   qk_raw_lookup(): bytes below 16 by a table
 *   qk_raw_load_anywhere(); qk_raw_points(): for each row, the point whose number is `low` and above it, where there is a mask,
 *   bits of `high` after a shift */
#ifndef QUERN_KERNELS_CPU_SIMD_PANEL_LINES_H
#define QUERN_KERNELS_CPU_SIMD_PANEL_LINES_H

#include "kernels/cpu/panel_formats.h"

/* The codes of two lines of a block of points. */
QK_INLINE void qk_unpack_points(const qk_format f, const uint8_t *w, const int pair, const int byte, qk_raw raw[2])
{
    const int elements = f.grid >> 16, width = qk_upper_bits(f.grid), mask = (1 << width) - 1, signs = f.grid & 1;
    const uint32_t *points = qk_points(f.grid);
    const uint8_t *low = w + 64 * signs + byte / 4, *high = low + 512 / elements;
    QK_UNROLL
    for (int i = 0; i < 2; i++) {
        const int p = elements == 8 ? pair : 2 * pair + i;
        if (elements == 4 || i == 0)
            raw[i] = qk_raw_points(points, low + 16 * p, high + p * width / 8 * 16, p * width % 8, mask);
    }
    if (elements == 8) {
        raw[1] = qk_raw_field(raw[0], 4, 15);
        raw[0] = qk_raw_field(raw[0], 0, 15);
    }
    QK_UNROLL
    for (int i = 0; i < 2; i++) {
        if (signs)
            raw[i] = qk_raw_or(raw[i], qk_raw_field(qk_raw_load_anywhere(w + byte), 2 * pair + i - 3, 8));
        raw[i] = qk_raw_lookup(f.table, raw[i]);
    }
}

/* Lines 2·pair and 2·pair + 1 of the block at w, from byte `byte` of the lines on, as unsigned bytes. */
QK_INLINE void qk_unpack(const qk_format f, const uint8_t *w, const int pair, const int byte, qk_raw raw[2])
{
    const int first = f.bits == 3 ? 2 : f.bits == 5 || f.bits == 6 ? 4 : f.bits, upper = f.bits - first;
    const uint8_t *high = w + first * 64 + byte;
    if (f.grid) {
        qk_unpack_points(f, w, pair, byte, raw);
        return;
    }
    w += byte;
    QK_UNROLL
    for (int i = 0; i < 2; i++) {
        const int g = 2 * pair + i;
        if (first == 8)
            raw[i] = qk_raw_load(w + g * 64);
        else if (first == 4)
            raw[i] = qk_raw_field(qk_raw_load(w + g / 2 * 64), g % 2 * 4, 15);
        else
            raw[i] = qk_raw_field(qk_raw_load(w + g / 4 * 64), g % 4 * 2, 3);
        if (upper == 2)
            raw[i] = qk_raw_or(raw[i], qk_raw_field(qk_raw_load(high + g / 4 * 64), g % 4 * 2 - first, 3 << first));
        if (upper == 1)
            raw[i] = qk_raw_or(raw[i], qk_raw_field(qk_raw_load(high), g - first, 1 << first));
        if (f.looked_up)
            raw[i] = qk_raw_lookup(f.table, raw[i]);
    }
}

#endif
