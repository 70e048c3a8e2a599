/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/delta_rule.c */
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/simd/delta_rule.h"

void qk_avx512_delta_rule(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->delta_rule = delta_rule;
}
