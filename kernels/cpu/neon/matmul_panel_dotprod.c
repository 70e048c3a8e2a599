/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/matmul_panel_dotprod.c: panels by sdot (ARMv8.2 dot product). */
#define QK_DOTPROD 1
#include "kernels/cpu/neon/panel.h"
#include "kernels/cpu/rows.h"

static const qk_format q8_0 = {QP_FORMAT_Q8_0, 512, 128, QK_SIGNED, 0};
static const qk_format q4_0 = {QP_FORMAT_Q4_0, 256, 8, QK_SMALL, 1};

QK_PANEL_FORMAT(q8_0)
QK_PANEL_FORMAT(q4_0)

void qk_neon_matmul_panel_dotprod(qk_kernels *table, const qk_cpu_features *features)
{
    if (!features->dotprod)
        return;
    table->matmul_panel[QP_FORMAT_Q8_0] = matmul_q8_0;
    table->matmul_panel[QP_FORMAT_Q4_0] = matmul_q4_0;
    table->matmul_panel_isa = "neon_dotprod";
}
