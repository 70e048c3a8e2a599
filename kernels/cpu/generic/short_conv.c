/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/short_conv.c: the short convolution, some neighbouring channels at a time: a row of them is one stretch of
 * memory, and loops over them become vector code. */
#include "kernels/cpu/generic/math.h"
#include "kernels/cpu/rows.h"

enum { BLOCK = 32, MOST_WIDTH = 16 };

typedef struct window {
    float past[MOST_WIDTH][BLOCK], w[MOST_WIDTH][BLOCK], bias[BLOCK];
} window;

static void load(const qk_short_conv_args *a, int64_t first, int64_t n, window *m)
{
    memset(m, 0, sizeof *m);
    for (int j = 0; j < a->width; j++)
        for (int64_t i = 0; i < n; i++)
            m->w[j][i] = a->w[(first + i) * a->w_stride + j];
    for (int j = 0; j < a->width - 1; j++)
        memcpy(m->past[j], a->state + j * a->state_stride + first, (size_t)n * sizeof(float));
    if (a->bias)
        memcpy(m->bias, a->bias + first, (size_t)n * sizeof(float));
}

static void do_row(const qk_short_conv_args *a, int64_t first, int64_t n, window *m, int64_t r)
{
    float sum[BLOCK], *y = a->y + r * a->y_stride + first;
    if (a->positions[r] == 0)
        memset(m->past, 0, sizeof m->past);
    memcpy(m->past[a->width - 1], a->x + r * a->x_stride + first, (size_t)n * sizeof(float));
    memcpy(sum, m->bias, sizeof sum);
    for (int j = 0; j < a->width; j++)
        for (int i = 0; i < BLOCK; i++)
            sum[i] += m->past[j][i] * m->w[j][i];
    if (a->act == QP_ACT_SILU) /* the one that models have, in a loop of its own */
        for (int64_t i = 0; i < n; i++)
            y[i] = qk_act(QP_ACT_SILU, sum[i]);
    else
        for (int64_t i = 0; i < n; i++)
            y[i] = qk_act(a->act, sum[i]);
    memmove(m->past[0], m->past[1], (size_t)(a->width - 1) * sizeof m->past[0]);
}

static void short_conv(const qk_short_conv_args *a)
{
    for (int64_t first = 0; first < a->channels; first += BLOCK) {
        window m;
        int64_t n = a->channels - first < BLOCK ? a->channels - first : BLOCK;
        load(a, first, n, &m);
        for (int64_t r = 0; r < a->rows; r++)
            do_row(a, first, n, &m, r);
        for (int j = 0; j < a->width - 1; j++)
            memcpy(a->state + j * a->state_stride + first, m.past[j], (size_t)n * sizeof(float));
    }
}

void qk_generic_short_conv(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->short_conv = short_conv;
}
