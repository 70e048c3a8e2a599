/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx512/matmul_panel_vnni.c: panels by vpdpbusd, the four activations of a token broadcast from memory. */
#define QK_VNNI 1
#include "kernels/cpu/avx512/panel.h"
#include "kernels/cpu/rows.h"

void qk_avx512_matmul_panel_vnni(qk_kernels *table, const qk_cpu_features *features)
{
    if (!features->avx512_vnni)
        return;
    QK_MATMUL_PANEL_ROWS(table)
}
