/* SPDX-License-Identifier: MIT
 * kernels/cpu/panel.c: GGUF blocks to panels and one row back: moving bytes, nothing is rounded. */
#include "kernels/cpu/kernels.h"

/* Where the four bytes of panel row r for elements 4g … 4g + 3 of a block lie. */
static size_t at(int g, int r)
{
    return ((size_t)g * QK_PANEL_ROWS + (size_t)r) * 4;
}

/* Rows that are not there hold the bias (that is, zeros) and a zero scale. */
static void put_q8_0(uint8_t *quants, uint16_t *scale, const qk_block_q8_0 *b, int r)
{
    *scale = b ? b->d : 0;
    for (int i = 0; i < QK_BLOCK; i++)
        quants[at(i / 4, r) + (size_t)(i % 4)] = (uint8_t)((b ? (uint8_t)b->qs[i] : 0) ^ 128);
}

static unsigned nibble(const qk_block_q4_0 *b, int i)
{
    return i < 16 ? b->qs[i] & 15u : b->qs[i - 16] >> 4;
}

static void put_q4_0(uint8_t *quants, uint16_t *scale, const qk_block_q4_0 *b, int r)
{
    *scale = b ? b->d : 0;
    for (int i = 0; i < QK_BLOCK / 2; i++) {
        int low = 8 * (i / 4) + i % 4;
        quants[at(i / 4, r) + (size_t)(i % 4)] = (uint8_t)(b ? nibble(b, low) | nibble(b, low + 4) << 4 : 0x88);
    }
}

void qk_panel_pack(qp_format format, void *panels, const void *src, int64_t k, int64_t row, int64_t rows)
{
    int64_t blocks = k / QK_BLOCK, block_bytes = qk_block_bytes(format), line = blocks * block_bytes;
    int64_t quants = format == QP_FORMAT_Q4_0 ? 256 : 512;
    uint64_t bytes = qk_panel_bytes(format, k), scales = qk_panel_scales(format, k), used = scales + (uint64_t)blocks * 32;
    for (int64_t first = 0; first < rows; first += QK_PANEL_ROWS) {
        uint8_t *panel = (uint8_t *)panels + (uint64_t)(row + first) / QK_PANEL_ROWS * bytes;
        memset(panel + used, 0, bytes - used);
        for (int64_t b = 0; b < blocks; b++) {
            uint16_t *scale = (uint16_t *)(void *)(panel + scales) + b * QK_PANEL_ROWS;
            for (int r = 0; r < QK_PANEL_ROWS; r++) {
                const char *from = first + r < rows ? (const char *)src + (first + r) * line + b * block_bytes : NULL;
                if (format == QP_FORMAT_Q4_0)
                    put_q4_0(panel + b * quants, scale + r, (const void *)from, r);
                else
                    put_q8_0(panel + b * quants, scale + r, (const void *)from, r);
            }
        }
    }
}

void qk_panel_row(qp_format format, float *dst, const void *panels, int64_t k, int64_t row)
{
    const uint8_t *panel = (const uint8_t *)panels + (uint64_t)row / QK_PANEL_ROWS * qk_panel_bytes(format, k);
    const uint16_t *scales = (const uint16_t *)(const void *)(panel + qk_panel_scales(format, k));
    int r = (int)(row % QK_PANEL_ROWS);
    for (int64_t b = 0; b < k / QK_BLOCK; b++, dst += QK_BLOCK) {
        float d = qk_f32_from_f16(scales[b * QK_PANEL_ROWS + r]);
        for (int i = 0; i < QK_BLOCK; i++) {
            if (format == QP_FORMAT_Q4_0) {
                uint8_t byte = panel[b * 256 + (int64_t)at(i / 8, r) + i % 4];
                dst[i] = d * (float)((i & 4 ? byte >> 4 : byte & 15) - 8);
            } else {
                dst[i] = d * (float)(panel[b * 512 + (int64_t)at(i / 4, r) + i % 4] - 128);
            }
        }
    }
}
