/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/matmul_panel_dotprod.c: panels by sdot (ARMv8.2 dot product). */
#define QK_DOTPROD 1
#include "kernels/cpu/neon/panel.h"
#include "kernels/cpu/rows.h"

void qk_neon_matmul_panel_dotprod(qk_kernels *table, const qk_cpu_features *features)
{
    if (!features->dotprod)
        return;
    QK_MATMUL_PANEL_ROWS(table)
}
