/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/convert.c */
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/simd/convert.h"

void qk_neon_convert(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    V_CONVERT_ROWS(table);
}
