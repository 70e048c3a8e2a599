/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx2/norm.c */
#include "kernels/cpu/avx2/vec.h"
#include "kernels/cpu/simd/norm.h"

void qk_avx2_norm(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->norm = norm;
}
