/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx2/rope.c */
#include "kernels/cpu/avx2/vec.h"
#include "kernels/cpu/simd/rope.h"

void qk_avx2_rope(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->rope = rope;
}
