/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx2/search.c */
#include "kernels/cpu/avx2/vec.h"
#include "kernels/cpu/simd/search.h"

void qk_avx2_search(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->search = (qk_search){search_sums, search_errors};
}
