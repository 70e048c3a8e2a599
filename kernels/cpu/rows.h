/* SPDX-License-Identifier: MIT
 * kernels/cpu/rows.h: who fills the table. Each instruction set has one file an op, and each file ends in one function that puts
 * its kernels over what is in the table. `features` are those that the chosen variant may use, so that a file with two versions
 * of a kernel can choose between them. */
#ifndef QUERN_KERNELS_CPU_ROWS_H
#define QUERN_KERNELS_CPU_ROWS_H

#include "kernels/cpu/kernels.h"

typedef void (*qk_rows_fn)(qk_kernels *table, const qk_cpu_features *features);

#define QK_GENERIC_ROWS(X)                                                                                                         \
    X(generic, delta_rule)                                                                                                         \
    X(generic, short_conv)                                                                                                         \
    X(generic, convert)                                                                                                            \
    X(generic, matmul_float)                                                                                                       \
    X(generic, matmul_panel)                                                                                                       \
    X(generic, attention)                                                                                                          \
    X(generic, norm)                                                                                                               \
    X(generic, rope)                                                                                                               \
    X(generic, elementwise)

#define QK_AVX2_ROWS(X)                                                                                                            \
    X(avx2, delta_rule)                                                                                                            \
    X(avx2, short_conv)                                                                                                            \
    X(avx2, attention)                                                                                                             \
    X(avx2, convert)                                                                                                               \
    X(avx2, elementwise)                                                                                                           \
    X(avx2, matmul_float)                                                                                                          \
    X(avx2, matmul_panel)                                                                                                          \
    X(avx2, matmul_panel_vnni)                                                                                                     \
    X(avx2, norm)                                                                                                                  \
    X(avx2, rope)                                                                                                                  \
    X(avx2, search)

#define QK_AVX512_ROWS(X)                                                                                                          \
    X(avx512, delta_rule)                                                                                                          \
    X(avx512, short_conv)                                                                                                          \
    X(avx512, attention)                                                                                                           \
    X(avx512, convert)                                                                                                             \
    X(avx512, elementwise)                                                                                                         \
    X(avx512, matmul_float)                                                                                                        \
    X(avx512, matmul_panel)                                                                                                        \
    X(avx512, matmul_panel_vnni)                                                                                                   \
    X(avx512, norm)                                                                                                                \
    X(avx512, rope)                                                                                                                \
    X(avx512, search)

#define QK_NEON_ROWS(X)                                                                                                            \
    X(neon, delta_rule)                                                                                                            \
    X(neon, short_conv)                                                                                                            \
    X(neon, attention)                                                                                                             \
    X(neon, convert)                                                                                                               \
    X(neon, elementwise)                                                                                                           \
    X(neon, matmul_float)                                                                                                          \
    X(neon, matmul_panel)                                                                                                          \
    X(neon, matmul_panel_dotprod)                                                                                                  \
    X(neon, norm)                                                                                                                  \
    X(neon, rope)                                                                                                                  \
    X(neon, search)

#define QK_ROWS_DECLARE(isa, op) void qk_##isa##_##op(qk_kernels *table, const qk_cpu_features *features);
QK_GENERIC_ROWS(QK_ROWS_DECLARE)
QK_AVX2_ROWS(QK_ROWS_DECLARE)
QK_AVX512_ROWS(QK_ROWS_DECLARE)
QK_NEON_ROWS(QK_ROWS_DECLARE)
#undef QK_ROWS_DECLARE

#endif
