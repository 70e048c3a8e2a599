/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx2/attention.c: tiles of 3 queries × 4 registers, dot products of 2 queries × 4 cells. */
#include "kernels/cpu/avx2/vec.h"

enum { V_QUERIES = 3, V_FEW = 2 };
#define V_QUERIES_CASES(X) X(1) X(2) X(3)
#include "kernels/cpu/simd/attention.h"

void qk_avx2_attention(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    V_ATTENTION_ROWS(table)
}
