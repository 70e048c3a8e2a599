/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/attention.c: tiles of 2 queries × 4 vectors (16 registers of sums), dot products of 2 queries × 4 cells. */
#include "kernels/cpu/neon/vec.h"

enum { V_QUERIES = 2, V_FEW = 2 };
#define V_QUERIES_CASES(X) X(1) X(2)
#include "kernels/cpu/simd/attention.h"

void qk_neon_attention(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    V_ATTENTION_ROWS(table)
}
