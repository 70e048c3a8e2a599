/* SPDX-License-Identifier: MIT
 * kernels/common/quantise_k.c: blocks of 256 whose groups of 16 or 32 have scales that are small integers themselves. dequantise.c
 * tells where scales and quants lie. */
#include "kernels/common/quantise_parts.h"

#define QK_NAN_HALF 0x7e00

enum { GROUPS = 16, ROUNDS = 3 };

/* A block in the making: the quants of its scales, and its own scales as the reader will have them. */
typedef struct block {
    const qk_search *search;
    const qk_source *s;
    const qk_steps *steps;
    int group;                        /* elements that share a scale */
    int least, most;                  /* what a scale's quant may be; minima: from 0 */
    float ideal[GROUPS], low[GROUPS]; /* scales and minima that suit each group best */
    uint16_t d, dmin;
    int scale[GROUPS], minimum[GROUPS];
    float error;
} block;

static int clamp(int x, int low, int high)
{
    return x < low ? low : x > high ? high : x;
}

/* A scale in units of the block's, far beyond any quant where that cannot be as large as it should. */
static int whole(float x)
{
    return (int)(x < -1000 ? -1000 : x > 1000 ? 1000 : x);
}

static int nearest(float x)
{
    return whole(x + (x < 0 ? -0.5f : 0.5f));
}

/* Quants of all elements, for the reader's scales. */
static void block_quants(const block *b, int *q)
{
    float d = qk_half_value(b->s, b->d), dmin = qk_half_value(b->s, b->dmin);
    float nearest[QK_LONGEST];
    for (int g = 0; g < QK_LONGEST / b->group; g++)
        qk_nearest_steps(b->steps, b->s->x + g * b->group, b->group, dmin * (float)b->minimum[g],
                         qk_inverse(d * (float)b->scale[g]), nearest + g * b->group);
    for (int i = 0; i < QK_LONGEST; i++)
        q[i] = (int)nearest[i];
}

/* ---- x ≈ d·scale·q ---- */

/* The quants of scales around those that suit; each group takes the one with the least error. */
static void choose_scales(block *b, int first)
{
    float d = qk_half_value(b->s, b->d), inverse = qk_inverse(d), errors[QK_CANDIDATES];
    b->error = 0;
    qk_candidates c;
    c.count = 16;
    for (int g = 0; g < QK_LONGEST / b->group; g++) {
        int quants[16], middle = first ? nearest(b->ideal[g] * inverse) : b->scale[g];
        for (int i = 0; i < 16; i++) {
            quants[i] = clamp(middle + i - 8, b->least, b->most);
            qk_set_candidate(&c, i, d * (float)quants[i], 0);
        }
        b->search->errors(&c, b->steps, b->s->x + g * b->group, b->s->w + g * b->group, b->group, errors);
        int best = qk_least(errors);
        b->scale[g] = quants[best];
        b->error += errors[best];
    }
}

/* The block's scale by least squares over all that it scales. */
static uint16_t refit_scale(const block *b)
{
    double product = 0, square = 0;
    float d = qk_half_value(b->s, b->d);
    qk_candidates c = {.count = 16};
    qk_sums sums;
    for (int g = 0; g < QK_LONGEST / b->group; g++) {
        qk_set_candidate(&c, 0, d * (float)b->scale[g], 0);
        b->search->sums(&c, b->steps, b->s->x + g * b->group, b->s->w + g * b->group, b->group, &sums);
        product += (double)b->scale[g] * (double)sums.qx[0];
        square += (double)(b->scale[g] * b->scale[g]) * (double)sums.qq[0];
    }
    return square > 0 ? qk_half(b->s, (float)(product / square)) : 0;
}

static void fit_scales(block *b)
{
    float extreme = 0;
    for (int g = 0; g < QK_LONGEST / b->group; g++) {
        b->ideal[g] = qk_fit_scale(b->search, b->steps, b->s->x + g * b->group, b->s->w + g * b->group, b->group);
        extreme = __builtin_fabsf(b->ideal[g]) > __builtin_fabsf(extreme) ? b->ideal[g] : extreme;
    }
    block best = *b;
    b->d = qk_half_reaching(b->s, extreme / (float)b->least);
    for (int round = 0; round < ROUNDS; round++) {
        choose_scales(b, round == 0);
        if (round && !(b->error < best.error))
            break;
        best = *b;
        b->d = refit_scale(b);
        if (b->d == best.d)
            break;
    }
    *b = best;
}

/* ---- x ≈ d·scale·q − dmin·minimum ---- */

static void choose_lines(block *b, int first)
{
    enum { SIDE = 4 };
    float d = qk_half_value(b->s, b->d), dmin = qk_half_value(b->s, b->dmin), errors[QK_CANDIDATES];
    b->error = 0;
    qk_candidates c;
    c.count = SIDE * SIDE;
    for (int g = 0; g < QK_LONGEST / b->group; g++) {
        int scales[QK_CANDIDATES], minima[QK_CANDIDATES];
        int scale = first ? whole(b->ideal[g] * qk_inverse(d)) : b->scale[g];
        int minimum = first ? whole(b->low[g] * qk_inverse(dmin)) : b->minimum[g];
        for (int i = 0; i < SIDE * SIDE; i++) {
            scales[i] = clamp(scale + i % SIDE - SIDE / 2 + 1, 0, b->most);
            minima[i] = clamp(minimum + i / SIDE - SIDE / 2 + 1, 0, b->most);
            qk_set_candidate(&c, i, d * (float)scales[i], dmin * (float)minima[i]);
        }
        b->search->errors(&c, b->steps, b->s->x + g * b->group, b->s->w + g * b->group, b->group, errors);
        int best = qk_least(errors);
        b->scale[g] = scales[best];
        b->minimum[g] = minima[best];
        b->error += errors[best];
    }
}

/* d and dmin by least squares over all that they scale. */
static void refit_lines(block *b)
{
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    float d = qk_half_value(b->s, b->d), dmin = qk_half_value(b->s, b->dmin);
    qk_candidates c = {.count = 16};
    qk_sums sums;
    for (int g = 0; g < QK_LONGEST / b->group; g++) {
        const float *x = b->s->x + g * b->group, *w = b->s->w + g * b->group;
        double scale = b->scale[g], minimum = b->minimum[g], sum_w = 0, sum_x = 0;
        qk_set_candidate(&c, 0, d * (float)scale, dmin * (float)minimum);
        b->search->sums(&c, b->steps, x, w, b->group, &sums);
        for (int i = 0; i < b->group; i++) {
            sum_w += (double)w[i];
            sum_x += (double)(w[i] * x[i]);
        }
        aa += scale * scale * (double)sums.qq[0];
        ab += scale * minimum * (double)sums.q[0];
        bb += minimum * minimum * sum_w;
        ax += scale * (double)sums.qx[0];
        bx += minimum * sum_x;
    }
    double determinant = aa * bb - ab * ab;
    if (determinant > 1e-9 * aa * bb) {
        double scale = (ax * bb - ab * bx) / determinant, minimum = (ab * ax - aa * bx) / determinant;
        b->d = qk_half(b->s, scale > 0 ? (float)scale : 0);
        b->dmin = qk_half(b->s, minimum > 0 ? (float)minimum : 0);
    } else if (aa > 0 && bb <= 0) {
        b->d = qk_half(b->s, ax > 0 ? (float)(ax / aa) : 0);
    }
}

static void fit_lines(block *b)
{
    float scale = 0, minimum = 0;
    for (int g = 0; g < QK_LONGEST / b->group; g++) {
        qk_fit_line(b->search, b->steps, b->s->x + g * b->group, b->s->w + g * b->group, b->group, 0, &b->ideal[g], &b->low[g]);
        scale = b->ideal[g] > scale ? b->ideal[g] : scale;
        minimum = b->low[g] > minimum ? b->low[g] : minimum;
    }
    block best = *b;
    b->d = qk_half_reaching(b->s, scale / (float)b->most);
    b->dmin = qk_half_reaching(b->s, minimum / (float)b->most);
    for (int round = 0; round < ROUNDS; round++) {
        choose_lines(b, round == 0);
        if (round && !(b->error < best.error))
            break;
        best = *b;
        refit_lines(b);
        if (b->d == best.d && b->dmin == best.dmin)
            break;
    }
    *b = best;
}

/* ---- from floats to a block ---- */

/* b says the steps, the group and the limits of scales; fit is one of the two above. The rest and all quants are filled in. */
static void fit_block(block *b, const qk_search *search, const float *src, void (*fit)(block *b), int *q)
{
    qk_source s;
    qk_kind kind = qk_source_read(&s, src, QK_LONGEST);
    memset(q, 0, QK_LONGEST * sizeof *q);
    if (kind == QK_NOT_FINITE)
        b->d = b->dmin = QK_NAN_HALF;
    if (kind != QK_FINITE)
        return;
    b->search = search;
    b->s = &s;
    qk_weigh(&s, QK_LONGEST, b->group);
    fit(b);
    block_quants(b, q);
}

/* Pairs of bits as dequantise.c's pair() reads them. */
static void pack_pairs(uint8_t *qs, const int *q)
{
    memset(qs, 0, 64);
    for (int i = 0; i < QK_LONGEST; i++)
        qs[i / 128 * 32 + i % 32] = (uint8_t)(qs[i / 128 * 32 + i % 32] | (q[i] & 3) << (i / 32 % 4 * 2));
}

void qk_encode_q2_k(const qk_search *search, const float *src, void *dst)
{
    static const qk_steps steps = QK_WHOLE(0, 3);
    block b = {.steps = &steps, .group = 16, .most = 15};
    qk_block_q2_k out;
    int q[QK_LONGEST];
    fit_block(&b, search, src, fit_lines, q);
    for (int g = 0; g < 16; g++)
        out.scales[g] = (uint8_t)(b.scale[g] | b.minimum[g] << 4);
    pack_pairs(out.qs, q);
    out.d = b.d;
    out.dmin = b.dmin;
    memcpy(dst, &out, sizeof out);
}

void qk_encode_q3_k(const qk_search *search, const float *src, void *dst)
{
    static const qk_steps steps = QK_WHOLE(-4, 3);
    block b = {.steps = &steps, .group = 16, .least = -32, .most = 31};
    qk_block_q3_k out = {.d = 0};
    int q[QK_LONGEST];
    fit_block(&b, search, src, fit_scales, q);
    for (int g = 0; g < 16; g++) {
        int scale = b.scale[g] + 32;
        out.scales[g % 8] = (uint8_t)(out.scales[g % 8] | (scale & 15) << (g / 8 * 4));
        out.scales[8 + g % 4] = (uint8_t)(out.scales[8 + g % 4] | (scale >> 4) << (g / 4 * 2));
    }
    for (int i = 0; i < QK_LONGEST; i++) {
        q[i] += 4;
        out.hmask[i % 32] = (uint8_t)(out.hmask[i % 32] | (q[i] >> 2) << i / 32);
    }
    pack_pairs(out.qs, q);
    out.d = b.d;
    memcpy(dst, &out, sizeof out);
}

/* The twelve bytes of eight scales and minima, as dequantise.c's scale_and_minimum() reads them. */
static void pack_scales_and_minima(uint8_t *p, const block *b)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(b->scale[i] | (b->scale[i + 4] >> 4) << 6);
        p[i + 4] = (uint8_t)(b->minimum[i] | (b->minimum[i + 4] >> 4) << 6);
        p[i + 8] = (uint8_t)((b->scale[i + 4] & 15) | (b->minimum[i + 4] & 15) << 4);
    }
}

/* Low four bits: two groups of 32 share 32 bytes. */
static void pack_groups(uint8_t *qs, const int *q)
{
    for (int i = 0; i < 128; i++) {
        const int *pair = q + i / 32 * 64 + i % 32;
        qs[i] = (uint8_t)((pair[0] & 15) | (pair[32] & 15) << 4);
    }
}

void qk_encode_q4_k(const qk_search *search, const float *src, void *dst)
{
    static const qk_steps steps = QK_WHOLE(0, 15);
    block b = {.steps = &steps, .group = 32, .most = 63};
    qk_block_q4_k out;
    int q[QK_LONGEST];
    fit_block(&b, search, src, fit_lines, q);
    pack_scales_and_minima(out.scales, &b);
    pack_groups(out.qs, q);
    out.d = b.d;
    out.dmin = b.dmin;
    memcpy(dst, &out, sizeof out);
}

void qk_encode_q5_k(const qk_search *search, const float *src, void *dst)
{
    static const qk_steps steps = QK_WHOLE(0, 31);
    block b = {.steps = &steps, .group = 32, .most = 63};
    qk_block_q5_k out = {.d = 0};
    int q[QK_LONGEST];
    fit_block(&b, search, src, fit_lines, q);
    pack_scales_and_minima(out.scales, &b);
    pack_groups(out.qs, q);
    for (int i = 0; i < QK_LONGEST; i++)
        out.qh[i % 32] = (uint8_t)(out.qh[i % 32] | (q[i] >> 4) << i / 32);
    out.d = b.d;
    out.dmin = b.dmin;
    memcpy(dst, &out, sizeof out);
}

void qk_encode_q6_k(const qk_search *search, const float *src, void *dst)
{
    static const qk_steps steps = QK_WHOLE(-32, 31);
    block b = {.steps = &steps, .group = 16, .least = -128, .most = 127};
    qk_block_q6_k out = {.d = 0};
    int q[QK_LONGEST];
    fit_block(&b, search, src, fit_scales, q);
    for (int i = 0; i < QK_LONGEST; i++) {
        uint8_t *low = &out.ql[i / 128 * 64 + i % 64], *high = &out.qh[i / 128 * 32 + i % 32];
        q[i] += 32;
        *low = (uint8_t)(*low | (q[i] & 15) << (i / 64 % 2 * 4));
        *high = (uint8_t)(*high | (q[i] >> 4) << (i / 32 % 4 * 2));
    }
    for (int g = 0; g < 16; g++)
        out.scales[g] = (int8_t)b.scale[g];
    out.d = b.d;
    memcpy(dst, &out, sizeof out);
}

void qk_encode_iq4_xs(const qk_search *search, const float *src, void *dst)
{
    block b = {.steps = &qk_steps_iq4, .group = 32, .least = -32, .most = 31};
    qk_block_iq4_xs out = {.d = 0};
    int q[QK_LONGEST];
    fit_block(&b, search, src, fit_scales, q);
    for (int g = 0; g < 8; g++) {
        int scale = b.scale[g] + 32;
        out.scales_l[g / 2] = (uint8_t)(out.scales_l[g / 2] | (scale & 15) << (g % 2 * 4));
        out.scales_h = (uint16_t)(out.scales_h | (scale >> 4) << 2 * g);
    }
    for (int i = 0; i < QK_LONGEST; i++) {
        uint8_t *at = &out.qs[i / 32 * 16 + i % 16];
        int code = 0;
        for (int k = 0; k < 15; k++)
            code += (float)q[i] > qk_steps_iq4.middle[k];
        *at = (uint8_t)(*at | code << (i % 32 / 16 * 4));
    }
    out.d = b.d;
    memcpy(dst, &out, sizeof out);
}
