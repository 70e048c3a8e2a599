/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/rope.c */
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/simd/rope.h"

void qk_neon_rope(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->rope = rope;
}
