/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/matmul_float.c: 4 rows × 6 tokens: 24 registers of sums, 4 of weights, 1 of activations. */
#include "kernels/cpu/avx512/vec.h"

enum { V_TILE_ROWS = 4, V_TILE_TOKENS = 6 };
#define V_TILE_CASES(X) X(2) X(3) X(4) X(5) X(6)
#include "kernels/cpu/simd/matmul_float.h"

void qk_avx512_matmul_float(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    V_MATMUL_FLOAT_ROWS(table)
}
