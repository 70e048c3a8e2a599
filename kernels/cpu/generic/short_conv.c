/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/short_conv.c: the short convolution, channel by channel. */
#include "kernels/cpu/generic/math.h"
#include "kernels/cpu/rows.h"

static void do_channel(const qk_short_conv_args *a, int64_t c)
{
    float past[16], w[16];
    for (int j = 0; j < a->width; j++)
        w[j] = a->w[c * a->w_stride + j];
    for (int j = 0; j < a->width - 1; j++)
        past[j] = a->state[j * a->state_stride + c];
    for (int64_t r = 0; r < a->rows; r++) {
        float sum = a->bias ? a->bias[c] : 0;
        if (a->positions[r] == 0)
            memset(past, 0, sizeof past);
        past[a->width - 1] = a->x[r * a->x_stride + c];
        for (int j = 0; j < a->width; j++)
            sum += past[j] * w[j];
        a->y[r * a->y_stride + c] = qk_act(a->act, sum);
        for (int j = 0; j < a->width - 1; j++)
            past[j] = past[j + 1];
    }
    for (int j = 0; j < a->width - 1; j++)
        a->state[j * a->state_stride + c] = past[j];
}

static void short_conv(const qk_short_conv_args *a)
{
    for (int64_t c = 0; c < a->channels; c++)
        do_channel(a, c);
}

void qk_generic_short_conv(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->short_conv = short_conv;
}
