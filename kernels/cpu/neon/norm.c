/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/norm.c */
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/simd/norm.h"

void qk_neon_norm(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->norm = norm;
}
