/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/attention.c: tiles of 6 queries × 4 registers, dot products of 4 queries × 4 cells. */
#include "kernels/cpu/avx512/vec.h"

enum { V_QUERIES = 6, V_FEW = 4 };
#define V_QUERIES_CASES(X) X(1) X(2) X(3) X(4) X(5) X(6)
#include "kernels/cpu/simd/attention.h"

void qk_avx512_attention(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    V_ATTENTION_ROWS(table)
}
