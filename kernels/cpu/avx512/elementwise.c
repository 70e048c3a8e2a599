/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/elementwise.c */
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/simd/elementwise.h"

void qk_avx512_elementwise(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->elementwise = elementwise;
    table->argmax = argmax;
}
