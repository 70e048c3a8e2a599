/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/matmul_panel.c: panels by vpmaddubsw, for processors without vpdpbusd. */
#define QK_VNNI 0
#include "kernels/cpu/avx512/panel.h"
#include "kernels/cpu/rows.h"

void qk_avx512_matmul_panel(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    QK_MATMUL_PANEL_ROWS(table)
}
