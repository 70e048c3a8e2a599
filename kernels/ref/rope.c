/* SPDX-License-Identifier: MIT
 * kernels/ref/rope.c: rotary position embedding with linear scaling, frequency factors and YaRN. */
#include "kernels/ref/access.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* The pair, as a real number, whose wave turns `rotations` times within the original context (YaRN, section 3.2, solved for the
 * dimension): θ_i·context = 2π·rotations. */
static double correction(const qp_rope_params *p, double rotations)
{
    return (double)p->n_dims * log((double)p->original_context / (rotations * 2 * pi)) / (2 * log((double)p->freq_base));
}

/* 1 for pairs that turn often (left as they are), 0 for those that turn seldom (interpolated), a straight line between. */
static double ramp(const qp_rope_params *p, int64_t pair)
{
    double low = correction(p, (double)p->beta_fast), high = correction(p, (double)p->beta_slow);
    if (!(p->flags & QP_ROPE_EXACT_RAMP)) {
        low = floor(low);
        high = ceil(high);
    }
    low = low < 0 ? 0 : low;
    high = high > (double)p->n_dims - 1 ? (double)p->n_dims - 1 : high;
    double width = high - low;
    double y = ((double)pair - low) / (width < 0.001 ? 0.001 : width);
    return 1 - (y < 0 ? 0 : y > 1 ? 1 : y);
}

void qr_rope_angle(const qp_rope_params *p, int64_t pair, double position, double factor, double *cosine, double *sine)
{
    double extrapolated = position * pow((double)p->freq_base, -2.0 * (double)pair / (double)p->n_dims) / factor;
    double theta = (double)p->freq_scale * extrapolated, magnitude = (double)p->attn_factor;
    if (p->ext_factor != 0) {
        double mix = ramp(p, pair) * (double)p->ext_factor;
        theta = theta * (1 - mix) + extrapolated * mix;
        magnitude *= 1 + 0.1 * log(1 / (double)p->freq_scale);
    }
    *cosine = cos(theta) * magnitude;
    *sine = sin(theta) * magnitude;
}

static void rotate_head(const qk_op *op, const char *from, char *to, double position)
{
    const qk_tensor *x = &op->src[QP_ROPE_X], *factors = &op->src[QP_ROPE_FACTORS], *dst = &op->dst;
    const qp_rope_params *p = &op->p.rope;
    int64_t half = p->n_dims / 2;
    for (int64_t i = 0; i < half; i++) {
        int64_t first = p->mode == QP_ROPE_NEOX ? i : 2 * i, second = p->mode == QP_ROPE_NEOX ? i + half : 2 * i + 1;
        double c, s, factor = factors->data ? (double)qr_f32(factors, factors->data, i) : 1;
        qr_rope_angle(p, i, position, factor, &c, &s);
        double a = (double)qr_f32(x, from, first), b = (double)qr_f32(x, from, second);
        qr_set_f32(dst, to, first, a * c - b * s);
        qr_set_f32(dst, to, second, a * s + b * c);
    }
    for (int64_t i = p->n_dims; i < x->ne[0]; i++)
        qr_set_f32(dst, to, i, (double)qr_f32(x, from, i));
}

void qr_rope(const qk_op *op)
{
    const qk_tensor *x = &op->src[QP_ROPE_X];
    for (int64_t r = 0; r < op->live; r++)
        for (int64_t h = 0; h < x->ne[1]; h++)
            rotate_head(op, qr_row(x, h, r, 0), qr_row(&op->dst, h, r, 0), (double)qr_i32(&op->src[QP_ROPE_POSITIONS], r));
}
