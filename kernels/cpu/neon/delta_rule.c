/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/delta_rule.c */
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/simd/delta_rule.h"

void qk_neon_delta_rule(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->delta_rule = delta_rule;
}
