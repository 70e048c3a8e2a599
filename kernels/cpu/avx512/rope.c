/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/rope.c */
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/simd/rope.h"

void qk_avx512_rope(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->rope = rope;
}
