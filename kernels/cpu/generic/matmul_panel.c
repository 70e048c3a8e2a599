/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/matmul_panel.c: packed panels times int8 activations. A panel line of 64 bytes (16 rows × 4 elements) is
 * multiplied by four activations repeated sixteen times: plain loops of one length that compilers turn into vector code. */
#include "kernels/cpu/rows.h"

enum { LINE = 64, LINES = QK_BLOCK / 4 };

/* 255·127 fits in 16 bits, so that one 16-bit product is enough. */
static void add_line(int32_t *sum, const uint8_t *w, const int8_t *x)
{
    int16_t repeated[LINE];
    for (int i = 0; i < LINE; i++)
        repeated[i] = x[i % 4];
    for (int i = 0; i < LINE; i++)
        sum[i] += (int16_t)(w[i] * repeated[i]);
}

static void add_block(float *y, const uint8_t *w, const uint16_t *scales, const int8_t *x, float d, int32_t correction)
{
    int32_t sum[LINE] = {0};
    for (int g = 0; g < LINES; g++)
        add_line(sum, w + g * LINE, x + g * 4);
    for (int r = 0; r < QK_PANEL_ROWS; r++) {
        int32_t dot = (sum[4 * r] + sum[4 * r + 1]) + (sum[4 * r + 2] + sum[4 * r + 3]);
        y[r] += (float)(dot - correction) * qk_f32_from_f16(scales[r]) * d;
    }
}

/* One block of a panel as 512 bytes, whatever its format. */
static const uint8_t *lines_q8_0(const uint8_t *panel, int64_t block, uint8_t *scratch)
{
    (void)scratch;
    return panel + block * QK_BLOCK * QK_PANEL_ROWS;
}

static const uint8_t *lines_q4_0(const uint8_t *panel, int64_t block, uint8_t *scratch)
{
    const uint8_t *nibbles = panel + block * QK_BLOCK * QK_PANEL_ROWS / 2;
    for (int g = 0; g < LINES; g += 2) {
        for (int i = 0; i < LINE; i++) {
            scratch[g * LINE + i] = nibbles[g / 2 * LINE + i] & 15;
            scratch[(g + 1) * LINE + i] = nibbles[g / 2 * LINE + i] >> 4;
        }
    }
    return scratch;
}

typedef const uint8_t *(*lines_fn)(const uint8_t *panel, int64_t block, uint8_t *scratch);

static inline void panel(const qk_matmul_args *a, const uint8_t *w, float *y, qp_format format, lines_fn lines, int32_t bias)
{
    const uint16_t *scales = (const uint16_t *)(const void *)(w + qk_panel_scales(format, a->k));
    uint8_t scratch[LINES * LINE];
    for (int64_t t = 0; t < a->tokens; t++)
        memset(y + t * a->y_stride, 0, QK_PANEL_ROWS * sizeof *y);
    for (int64_t b = 0; b < a->k / QK_BLOCK; b++) {
        const uint8_t *block = lines(w, b, scratch);
        for (int64_t t = 0; t < a->tokens; t++) {
            const char *x = (const char *)a->x + t * a->x_stride;
            const float *d = (const float *)(const void *)(x + qk_act_d(a->k));
            const int32_t *sum = (const int32_t *)(const void *)(x + qk_act_sum(a->k));
            add_block(y + t * a->y_stride, block, scales + b * QK_PANEL_ROWS, (const int8_t *)x + b * QK_BLOCK, d[b],
                      bias * sum[b]);
        }
    }
}

static inline void panels(const qk_matmul_args *a, qp_format format, lines_fn lines, int32_t bias)
{
    const uint8_t *w = a->w;
    for (int64_t r = 0; r < a->rows; r += QK_PANEL_ROWS, w += qk_panel_bytes(format, a->k))
        panel(a, w, a->y + r, format, lines, bias);
}

static void matmul_q8_0(const qk_matmul_args *a)
{
    panels(a, QP_FORMAT_Q8_0, lines_q8_0, 128);
}

static void matmul_q4_0(const qk_matmul_args *a)
{
    panels(a, QP_FORMAT_Q4_0, lines_q4_0, 8);
}

void qk_generic_matmul_panel(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->matmul_panel[QP_FORMAT_Q8_0] = matmul_q8_0;
    table->matmul_panel[QP_FORMAT_Q4_0] = matmul_q4_0;
    table->matmul_panel_isa = "generic";
}
