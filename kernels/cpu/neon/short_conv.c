/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/short_conv.c */
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/simd/short_conv.h"

void qk_neon_short_conv(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->short_conv = short_conv;
}
