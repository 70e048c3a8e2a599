/* SPDX-License-Identifier: MIT
 * kernels/cpu/rows.h: who fills the table. Each instruction set has one file an op, and each file ends in one function that puts
 * its kernels over what is in the table. `features` are those that the chosen variant may use, so that a file with two versions
 * of a kernel can choose between them. */
#ifndef QUERN_KERNELS_CPU_ROWS_H
#define QUERN_KERNELS_CPU_ROWS_H

#include "kernels/cpu/kernels.h"

typedef void (*qk_rows_fn)(qk_kernels *table, const qk_cpu_features *features);

#define QK_ISA_ROWS(X, isa) \
    X(isa, convert)         \
    X(isa, matmul_float)    \
    X(isa, matmul_panel)    \
    X(isa, attention)       \
    X(isa, norm)            \
    X(isa, rope)            \
    X(isa, elementwise)

#define QK_ROWS_DECLARE(isa, op) void qk_##isa##_##op(qk_kernels *table, const qk_cpu_features *features);
QK_ISA_ROWS(QK_ROWS_DECLARE, generic)
QK_ISA_ROWS(QK_ROWS_DECLARE, avx2)
QK_ISA_ROWS(QK_ROWS_DECLARE, avx512)
#undef QK_ROWS_DECLARE

#endif
