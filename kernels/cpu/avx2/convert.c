/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx2/convert.c */
#include "kernels/cpu/avx2/vec.h"
#include "kernels/cpu/simd/convert.h"

void qk_avx2_convert(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    V_CONVERT_ROWS(table);
}
