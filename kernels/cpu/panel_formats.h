/* SPDX-License-Identifier: MIT
 * kernels/cpu/panel_formats.h: the formats that are kept in panels, a line each. A new one is a line here, its blocks in panel.c
 * (take_…) and, if its scales are of a new kind, their bytes in panel.c and their vectors in simd/panel_scales.h. */
#ifndef QUERN_KERNELS_CPU_PANEL_FORMATS_H
#define QUERN_KERNELS_CPU_PANEL_FORMATS_H

#include <quern/plugin.h>

enum { QK_LAYOUT_PANEL = 1, QK_PANEL_ROWS = 16 };

/* How the scales of a unit (the elements of one block of the format, 16 rows of them) lie in its record. b counts blocks of 32 in
 * the unit, r rows; "byte b" is 16 bytes, one a row; d and dmin are 16 binary16 numbers. */
typedef enum qk_scale_kind {
    QK_SCALE_F16,     /* d */
    QK_SCALE_F16_MIN, /* d, then what is added */
    QK_SCALE_E8M0,    /* a byte: 2^(byte − 128), as elements are doubled. From 2^103 on it counts as infinite */
    QK_SCALE_ONE,     /* d, for the whole unit */
    QK_SCALE_K2,      /* bytes 2b + part: scale, minimum << 4; d, dmin */
    QK_SCALE_K3,      /* byte b: low nibbles of both parts; byte 8 + b/2: their upper bits, two each, << 4(b % 2); d. Less 32 */
    QK_SCALE_K4,      /* like K3, but scale and minimum in place of two parts; d, dmin */
    QK_SCALE_K6,      /* bytes 2b + part, signed; d */
    QK_SCALE_X4,      /* byte b/2: low nibbles of two blocks; byte 4 + b/4: upper bits of four; d. Less 32 */
} qk_scale_kind;

/* X(name, FORMAT, bits, most, bias, parts, mins, scales, table). An element is `bits` wide in the panel; looked up in the table, if
 * there is one, it is an unsigned number of at most `most`, from which bias is subtracted. parts: stretches of a block of 32 with
 * scales of their own; mins: whether something is subtracted that depends on the block alone. */
#define QK_PANEL_FORMATS(X)                                                                                                        \
    X(q4_0, Q4_0, 4, 15, 8, 1, 0, QK_SCALE_F16, QK_NO_TABLE)                                                                       \
    X(q4_1, Q4_1, 4, 15, 0, 1, 1, QK_SCALE_F16_MIN, QK_NO_TABLE)                                                                   \
    X(q5_0, Q5_0, 5, 31, 16, 1, 0, QK_SCALE_F16, QK_NO_TABLE)                                                                      \
    X(q5_1, Q5_1, 5, 31, 0, 1, 1, QK_SCALE_F16_MIN, QK_NO_TABLE)                                                                   \
    X(q8_0, Q8_0, 8, 255, 128, 1, 0, QK_SCALE_F16, QK_NO_TABLE)                                                                    \
    X(q2_k, Q2_K, 2, 3, 0, 2, 1, QK_SCALE_K2, QK_NO_TABLE)                                                                         \
    X(q3_k, Q3_K, 3, 7, 4, 2, 0, QK_SCALE_K3, QK_NO_TABLE)                                                                         \
    X(q4_k, Q4_K, 4, 15, 0, 1, 1, QK_SCALE_K4, QK_NO_TABLE)                                                                        \
    X(q5_k, Q5_K, 5, 31, 0, 1, 1, QK_SCALE_K4, QK_NO_TABLE)                                                                        \
    X(q6_k, Q6_K, 6, 63, 32, 2, 0, QK_SCALE_K6, QK_NO_TABLE)                                                                       \
    X(iq4_nl, IQ4_NL, 4, 241, 128, 1, 0, QK_SCALE_F16, QK_UNEVEN_STEPS)                                                            \
    X(iq4_xs, IQ4_XS, 4, 241, 128, 1, 0, QK_SCALE_X4, QK_UNEVEN_STEPS)                                                             \
    X(mxfp4, MXFP4, 4, 24, 12, 1, 0, QK_SCALE_E8M0, QK_E2M1_DOUBLED)                                                               \
    X(tq2_0, TQ2_0, 2, 3, 1, 1, 0, QK_SCALE_ONE, QK_NO_TABLE)

/* What nibbles stand for (see dequantise.c), with the bias added. */
#define QK_NO_TABLE {0}
#define QK_UNEVEN_STEPS {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241}
#define QK_E2M1_DOUBLED {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0}

enum {
#define QK_UNIT(name, number, elements, bytes, quantised) QK_UNIT_##name = elements, QK_UNIT_BYTES_##name = bytes,
    QP_FORMAT_LIST(QK_UNIT)
#undef QK_UNIT
};

/* A line of the list as constants that kernels are made for. */
typedef struct qk_panel_format {
    qp_format format;
    int bits, most, bias, parts, mins;
    qk_scale_kind scales;
    int looked_up;
    uint8_t table[16];
    int unit;        /* elements of a record */
    int quant_bytes; /* of 16 rows × 32 */
    int record;      /* bytes of a unit's scales: what is left of 16 blocks of the format */
} qk_format;

#define QK_PANEL_FORMAT_INIT(name, FORMAT, bits, most, bias, parts, mins, scales, ...)                                             \
    {QP_FORMAT_##FORMAT, bits, most, bias, parts, mins, scales, most >= 1 << bits, __VA_ARGS__, QK_UNIT_##FORMAT, bits * 64,       \
     16 * (QK_UNIT_BYTES_##FORMAT - bits * QK_UNIT_##FORMAT / 8)}

/* static const qk_format q4_0 = …, one for each line. */
#define QK_PANEL_FORMAT_CONSTANT(name, ...) static const qk_format name = QK_PANEL_FORMAT_INIT(name, __VA_ARGS__);

#endif
