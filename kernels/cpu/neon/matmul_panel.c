/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/matmul_panel.c: panels by widening multiplications, for processors without sdot. */
#define QK_DOTPROD 0
#include "kernels/cpu/neon/panel.h"
#include "kernels/cpu/rows.h"

void qk_neon_matmul_panel(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    QK_MATMUL_PANEL_ROWS(table)
}
