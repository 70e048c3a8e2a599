/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/convert.c */
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/simd/convert.h"

void qk_avx512_convert(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    V_CONVERT_ROWS(table);
}
