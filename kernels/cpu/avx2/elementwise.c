/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx2/elementwise.c */
#include "kernels/cpu/avx2/vec.h"
#include "kernels/cpu/simd/elementwise.h"

void qk_avx2_elementwise(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->elementwise = elementwise;
    table->argmax = argmax;
}
