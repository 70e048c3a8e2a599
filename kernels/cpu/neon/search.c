/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/search.c */
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/simd/search.h"

void qk_neon_search(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->search = (qk_search){search_sums, search_errors};
}
