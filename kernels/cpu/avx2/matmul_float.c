/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx2/matmul_float.c: 2 rows × 5 tokens: 10 registers of sums, 2 of weights, 1 of activations. */
#include "kernels/cpu/avx2/vec.h"

enum { V_TILE_ROWS = 2, V_TILE_TOKENS = 5 };
#define V_TILE_CASES(X) X(2) X(3) X(4) X(5)
#include "kernels/cpu/simd/matmul_float.h"

void qk_avx2_matmul_float(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    V_MATMUL_FLOAT_ROWS(table)
}
