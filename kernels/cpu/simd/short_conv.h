/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/short_conv.h: the short convolution over the operations of a vec.h: a lane is a channel, and the inputs that it
 * looks back on stay in registers from row to row. */
#include "kernels/cpu/rows.h"
#include "kernels/cpu/simd/math.h"

enum { C_FOUR = V_LANES == 16 ? 4 : 2 }; /* vectors at a time where the width is 4: what registers hold */

/* Channels [c, c + vectors·V_LANES), or [c, c + part) where part > 0; loads past these are of zeros. */
QK_INLINE void c_channels(const qk_short_conv_args *a, int64_t c, const int vectors, const int64_t part, const int width)
{
    enum { MOST = 4 };
    vf w[16 * MOST], past[16 * MOST], bias[MOST];
    const vf zero = v_zero();
    for (int j = 0; j < width; j++)
        for (int v = 0; v < vectors; v++) {
            float lanes[V_LANES] = {0};
            for (int i = 0; i < (part ? part : V_LANES); i++)
                lanes[i] = a->w[(c + v * V_LANES + i) * a->w_stride + j];
            w[j * MOST + v] = v_load(lanes);
        }
    for (int v = 0; v < vectors; v++) {
        const float *from = a->bias ? a->bias + c + v * V_LANES : NULL;
        bias[v] = !from ? zero : part ? v_load_n(from, part) : v_load(from);
    }
    for (int j = 0; j < width - 1; j++)
        for (int v = 0; v < vectors; v++) {
            const float *from = a->state + j * a->state_stride + c + v * V_LANES;
            past[j * MOST + v] = part ? v_load_n(from, part) : v_load(from);
        }
    for (int64_t r = 0; r < a->rows; r++) {
        const int begins = a->positions[r] == 0;
        QK_UNROLL
        for (int v = 0; v < vectors; v++) {
            const float *from = a->x + r * a->x_stride + c + v * V_LANES;
            float *to = a->y + r * a->y_stride + c + v * V_LANES;
            vf x = part ? v_load_n(from, part) : v_load(from), sum = bias[v];
            QK_UNROLL
            for (int j = 0; j < width - 1; j++) {
                vf old = begins ? zero : past[j * MOST + v];
                sum = v_fma(old, w[j * MOST + v], sum);
                if (j) /* a place nearer to being forgotten */
                    past[(j - 1) * MOST + v] = old;
            }
            past[(width - 2) * MOST + v] = x;
            sum = v_fma(x, w[(width - 1) * MOST + v], sum);
            sum = a->act == QP_ACT_SILU ? v_act(QP_ACT_SILU, sum) : v_act(a->act, sum);
            if (part)
                v_store_n(to, sum, part);
            else
                v_store(to, sum);
        }
    }
    for (int j = 0; j < width - 1; j++)
        for (int v = 0; v < vectors; v++) {
            float *to = a->state + j * a->state_stride + c + v * V_LANES;
            if (part)
                v_store_n(to, past[j * MOST + v], part);
            else
                v_store(to, past[j * MOST + v]);
        }
}

static void c_four(const qk_short_conv_args *a, int64_t c)
{
    c_channels(a, c, C_FOUR, 0, 4);
}

static void c_any(const qk_short_conv_args *a, int64_t c, int64_t part)
{
    if (part)
        c_channels(a, c, 1, part, a->width);
    else
        c_channels(a, c, 1, 0, a->width);
}

static void short_conv(const qk_short_conv_args *a)
{
    int64_t c = 0;
    for (; a->width == 4 && c + C_FOUR * V_LANES <= a->channels; c += C_FOUR * V_LANES)
        c_four(a, c);
    for (; c + V_LANES <= a->channels; c += V_LANES)
        c_any(a, c, 0);
    if (c < a->channels)
        c_any(a, c, a->channels - c);
}
