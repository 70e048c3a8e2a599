/* SPDX-License-Identifier: MIT
 * kernels/cpu/avx2/matmul_panel_vnni.c: panels by vpdpbusd, the four activations of a token broadcast from memory. */
#define QK_VNNI 1
#include "kernels/cpu/avx2/panel.h"
#include "kernels/cpu/rows.h"

static const qk_format q8_0 = {QP_FORMAT_Q8_0, 512, 128, QK_DPBUSD, 0};
static const qk_format q4_0 = {QP_FORMAT_Q4_0, 256, 8, QK_DPBUSD, 1};

QK_PANEL_FORMAT(q8_0)
QK_PANEL_FORMAT(q4_0)

void qk_avx2_matmul_panel_vnni(qk_kernels *table, const qk_cpu_features *features)
{
    if (!features->avx_vnni)
        return;
    table->matmul_panel[QP_FORMAT_Q8_0] = matmul_q8_0;
    table->matmul_panel[QP_FORMAT_Q4_0] = matmul_q4_0;
    table->matmul_panel_isa = "avx_vnni";
}
