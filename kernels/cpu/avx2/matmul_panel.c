/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx2/matmul_panel.c: panels by vpmaddubsw, for processors without vpdpbusd. */
#define QK_VNNI 0
#include "kernels/cpu/avx2/panel.h"
#include "kernels/cpu/rows.h"

void qk_avx2_matmul_panel(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    QK_MATMUL_PANEL_ROWS(table)
}
