/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/panel_lines.h: elements of a panel as lines of bytes, out of the planes of kernels.h. The file that includes it
 * has defined qk_raw, a vector's part of a line, and
 *   qk_raw_load(), qk_raw_store(), qk_raw_or(); qk_raw_field(): bytes shifted right (left, if negative) and masked
 *   qk_raw_lookup(): bytes below 16 by a table */
#ifndef QUERN_KERNELS_CPU_SIMD_PANEL_LINES_H
#define QUERN_KERNELS_CPU_SIMD_PANEL_LINES_H

#include "kernels/cpu/panel_formats.h"

/* Lines 2·pair and 2·pair + 1 of the block at w, from byte `byte` of the lines on, as unsigned bytes. */
QK_INLINE void qk_unpack(const qk_format f, const uint8_t *w, const int pair, const int byte, qk_raw raw[2])
{
    const int first = f.bits == 3 ? 2 : f.bits == 5 || f.bits == 6 ? 4 : f.bits, upper = f.bits - first;
    const uint8_t *high = w + first * 64 + byte;
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
