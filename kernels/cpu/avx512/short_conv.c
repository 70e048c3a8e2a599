/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/short_conv.c */
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/simd/short_conv.h"

void qk_avx512_short_conv(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->short_conv = short_conv;
}
