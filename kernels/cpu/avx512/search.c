/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/search.c */
#include "kernels/cpu/avx512/vec.h"
#include "kernels/cpu/simd/search.h"

void qk_avx512_search(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->search = (qk_search){search_sums, search_errors};
}
