/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/matmul_float.c: 2 rows × 4 tokens: 16 registers of sums, 4 of weights, 2 of activations. */
#include "kernels/cpu/neon/vec.h"

enum { V_TILE_ROWS = 2, V_TILE_TOKENS = 4 };
#define V_TILE_CASES(X) X(2) X(3) X(4)
#include "kernels/cpu/simd/matmul_float.h"

void qk_neon_matmul_float(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    V_MATMUL_FLOAT_ROWS(table)
}
