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
    QK_SCALE_ODD,     /* byte b·parts/2: nibbles of two blocks, or of both parts: the scale is (2·nibble + 1)·d */
    QK_SCALE_ODD_4,   /* the same, a quarter of it */
    QK_SCALE_ODD_8,   /* the same, an eighth of it */
} qk_scale_kind;

/* Formats whose elements are points of a grid, the same for all blocks. X(NAME, elements of a point, bits of its number, signs). A
 * block of 16 rows × 32 has, where there are signs, a plane of single bits; then the lower eight bits of each point's number: byte
 * [p][r] of points p = 0…3 or 7; then their upper bits, 1, 2 or 4 to a point (qk_upper_bits), point 0 lowest, byte r of each eight.
 * Looked up, a point is the codes of its elements: of four, a byte each; of eight, element i in the low and i + 4 in the high
 * nibble of byte i. A sign is bit 3 of a code. IQ1's points are there twice: up by an eighth, then down, with bit 2 of the codes set. */
#define QK_GRIDS(X)                                                                                                                \
    X(IQ1, iq1, 8, 12, 0)                                                                                                          \
    X(IQ2_XXS, iq2_xxs, 8, 8, 1)                                                                                                   \
    X(IQ2_XS, iq2_xs, 8, 9, 1)                                                                                                     \
    X(IQ2_S, iq2_s, 8, 10, 1)                                                                                                      \
    X(IQ3_XXS, iq3_xxs, 4, 8, 1)                                                                                                   \
    X(IQ3_S, iq3_s, 4, 9, 1)

enum { QK_GRID_NONE };
enum {
#define QK_GRID(NAME, name, elements, bits, signs)                                                                                 \
    QK_GRID_##NAME = elements << 16 | bits << 8 | signs,                                                                           \
    QK_GRID_BYTES_##NAME = 64 * signs + 512 / elements + (bits == 8 ? 0 : bits == 12 ? 32 : 16),
    QK_GRIDS(QK_GRID)
#undef QK_GRID
    QK_GRID_BYTES_NONE = 0
};
#define QK_GRID(NAME, name, elements, bits, signs) extern const uint32_t qk_points_##name[1 << bits];
QK_GRIDS(QK_GRID)
#undef QK_GRID

static inline int qk_point_elements(int grid) { return grid >> 16; }
static inline int qk_point_bits(int grid) { return grid >> 8 & 255; }
static inline int qk_upper_bits(int grid)
{
    return qk_point_bits(grid) == 8 ? 0 : qk_point_elements(grid) == 4 ? 1 : qk_point_bits(grid) == 12 ? 4 : 2;
}
static inline const uint32_t *qk_points(int grid)
{
    switch (grid) {
#define QK_GRID(NAME, name, elements, bits, signs)                                                                                 \
    case QK_GRID_##NAME: return qk_points_##name;
        QK_GRIDS(QK_GRID)
#undef QK_GRID
    default: return 0;
    }
}

/* X(name, FORMAT, bits, most, bias, parts, mins, scales, grid, table). An element is `bits` wide in the panel, or a code of a
 * grid's point; looked up in the table, if there is one, it is an unsigned number of at most `most`, from which bias is subtracted. parts:
 * stretches of a block of 32 with scales of their own; mins: whether something is subtracted that depends on the block alone. */
#define QK_PANEL_FORMATS(X)                                                                                                        \
    X(q4_0, Q4_0, 4, 15, 8, 1, 0, QK_SCALE_F16, NONE, QK_NO_TABLE)                                                                 \
    X(q4_1, Q4_1, 4, 15, 0, 1, 1, QK_SCALE_F16_MIN, NONE, QK_NO_TABLE)                                                             \
    X(q5_0, Q5_0, 5, 31, 16, 1, 0, QK_SCALE_F16, NONE, QK_NO_TABLE)                                                                \
    X(q5_1, Q5_1, 5, 31, 0, 1, 1, QK_SCALE_F16_MIN, NONE, QK_NO_TABLE)                                                             \
    X(q8_0, Q8_0, 8, 255, 128, 1, 0, QK_SCALE_F16, NONE, QK_NO_TABLE)                                                              \
    X(q2_k, Q2_K, 2, 3, 0, 2, 1, QK_SCALE_K2, NONE, QK_NO_TABLE)                                                                   \
    X(q3_k, Q3_K, 3, 7, 4, 2, 0, QK_SCALE_K3, NONE, QK_NO_TABLE)                                                                   \
    X(q4_k, Q4_K, 4, 15, 0, 1, 1, QK_SCALE_K4, NONE, QK_NO_TABLE)                                                                  \
    X(q5_k, Q5_K, 5, 31, 0, 1, 1, QK_SCALE_K4, NONE, QK_NO_TABLE)                                                                  \
    X(q6_k, Q6_K, 6, 63, 32, 2, 0, QK_SCALE_K6, NONE, QK_NO_TABLE)                                                                 \
    X(iq4_nl, IQ4_NL, 4, 241, 128, 1, 0, QK_SCALE_F16, NONE, QK_UNEVEN_STEPS)                                                      \
    X(iq4_xs, IQ4_XS, 4, 241, 128, 1, 0, QK_SCALE_X4, NONE, QK_UNEVEN_STEPS)                                                       \
    X(mxfp4, MXFP4, 4, 24, 12, 1, 0, QK_SCALE_E8M0, NONE, QK_E2M1_DOUBLED)                                                         \
    X(tq2_0, TQ2_0, 2, 3, 1, 1, 0, QK_SCALE_ONE, NONE, QK_NO_TABLE)                                                                \
    X(tq1_0, TQ1_0, 2, 3, 1, 1, 0, QK_SCALE_ONE, NONE, QK_NO_TABLE)                                                                \
    X(iq1_s, IQ1_S, 4, 18, 9, 1, 0, QK_SCALE_ODD_8, IQ1, QK_MOVED_STEPS)                                                           \
    X(iq1_m, IQ1_M, 4, 18, 9, 2, 0, QK_SCALE_ODD_8, IQ1, QK_MOVED_STEPS)                                                           \
    X(iq2_xxs, IQ2_XXS, 4, 171, 128, 1, 0, QK_SCALE_ODD_8, IQ2_XXS, QK_IQ2_STEPS)                                                  \
    X(iq2_xs, IQ2_XS, 4, 171, 128, 2, 0, QK_SCALE_ODD_8, IQ2_XS, QK_IQ2_STEPS)                                                     \
    X(iq2_s, IQ2_S, 4, 171, 128, 2, 0, QK_SCALE_ODD_8, IQ2_S, QK_IQ2_STEPS)                                                        \
    X(iq3_xxs, IQ3_XXS, 4, 190, 128, 1, 0, QK_SCALE_ODD_4, IQ3_XXS, QK_IQ3_XXS_STEPS)                                              \
    X(iq3_s, IQ3_S, 4, 30, 15, 1, 0, QK_SCALE_ODD, IQ3_S, QK_IQ3_S_STEPS)

/* What nibbles stand for (see dequantise.c), with the bias added. */
#define QK_NO_TABLE {0}
#define QK_UNEVEN_STEPS {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241}
#define QK_MOVED_STEPS {2, 10, 18, 0, 0, 8, 16}
#define QK_IQ2_STEPS {136, 153, 171, 128, 0, 0, 0, 0, 120, 103, 85, 128}
#define QK_IQ3_XXS_STEPS {132, 140, 148, 156, 164, 172, 180, 190, 124, 116, 108, 100, 92, 84, 76, 66}
#define QK_IQ3_S_STEPS {16, 18, 20, 22, 24, 26, 28, 30, 14, 12, 10, 8, 6, 4, 2, 0}
#define QK_E2M1_DOUBLED {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0}

enum {
#define QK_UNIT(name, number, elements, bytes, quantised) QK_UNIT_##name = elements,
    QP_FORMAT_LIST(QK_UNIT)
#undef QK_UNIT
};

/* A line of the list as constants that kernels are made for. */
typedef struct qk_panel_format {
    qp_format format;
    int bits, most, bias, parts, mins;
    qk_scale_kind scales;
    int grid, looked_up;
    uint8_t table[16];
    int unit;        /* elements of a record */
    int quant_bytes; /* of 16 rows × 32 */
    int record;      /* bytes of a unit's scales */
} qk_format;

#define QK_RECORD_BYTES(kind, parts)                                                                                               \
    ((kind) == QK_SCALE_F16 || (kind) == QK_SCALE_ONE ? 32                                                                         \
     : (kind) == QK_SCALE_F16_MIN                     ? 64                                                                         \
     : (kind) == QK_SCALE_E8M0                        ? 16                                                                         \
     : (kind) == QK_SCALE_K2                          ? 320                                                                        \
     : (kind) == QK_SCALE_K3                          ? 224                                                                        \
     : (kind) == QK_SCALE_K4                          ? 256                                                                        \
     : (kind) == QK_SCALE_K6                          ? 288                                                                        \
     : (kind) == QK_SCALE_X4                          ? 128                                                                        \
                                                      : 32 + 64 * (parts))

#define QK_PANEL_FORMAT_INIT(name, FORMAT, bits, most, bias, parts, mins, scales, grid, ...)                                       \
    {QP_FORMAT_##FORMAT, bits, most, bias, parts, mins, scales, QK_GRID_##grid, most >= 1 << bits, __VA_ARGS__, QK_UNIT_##FORMAT,  \
     QK_QUANT_BYTES(bits, grid), QK_RECORD_BYTES(scales, parts)}
#define QK_QUANT_BYTES(bits, grid) (QK_GRID_##grid ? (int)QK_GRID_BYTES_##grid : bits * 64)

static inline float qk_odd_share(qk_scale_kind kind) { return kind == QK_SCALE_ODD ? 1 : kind == QK_SCALE_ODD_4 ? 0.25f : 0.125f; }

/* static const qk_format q4_0 = …, one for each line. */
#define QK_PANEL_FORMAT_CONSTANT(name, ...) static const qk_format name = QK_PANEL_FORMAT_INIT(name, __VA_ARGS__);

#endif
