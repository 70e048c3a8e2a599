/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/elementwise.c */
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/simd/elementwise.h"

void qk_neon_elementwise(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->elementwise = elementwise;
    table->argmax = argmax;
}
