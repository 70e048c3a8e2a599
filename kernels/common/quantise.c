/* SPDX-License-Identifier: MIT
 * kernels/common/quantise.c: the formats whose blocks have one scale: those of 32 elements, and the ternary ones. */
#include "kernels/common/quantise_parts.h"

#define QK_NAN_HALF 0x7e00

qk_encode_fn qk_encoder(qp_format format)
{
    switch (format) {
#define ROW(name, lower)                                                                                                           \
    case QP_FORMAT_##name: return qk_encode_##lower;
        QK_SEARCHED_FORMATS(ROW)
#undef ROW
    default: return NULL;
    }
}

/* ---- x ≈ d·q ---- */

/* Of the halves around the one nearest to a scale, the one with the least error. */
static uint16_t best_half(const qk_search *search, const qk_source *s, const qk_steps *steps, float scale, int n)
{
    qk_candidates c;
    uint16_t halves[16], nearest = qk_half(s, scale);
    float errors[QK_CANDIDATES];
    int magnitude = nearest & 0x7fff;
    c.count = 16;
    for (int i = 0; i < 16; i++) {
        int near = magnitude + i - 8;
        near = near < 0 ? 0 : near > 0x7bff ? 0x7bff : near;
        halves[i] = (uint16_t)((nearest & 0x8000) | near);
        qk_set_candidate(&c, i, qk_half_value(s, halves[i]), 0);
    }
    search->errors(&c, steps, s->x, s->w, n, errors);
    return halves[qk_least(errors)];
}

/* Scale and quants of a block; the quants are steps. */
static uint16_t encode_scaled(const qk_search *search, const qk_steps *steps, const float *src, int n, float *q)
{
    qk_source s;
    qk_kind kind = qk_source_read(&s, src, n);
    memset(q, 0, (size_t)n * sizeof *q);
    if (kind != QK_FINITE)
        return kind == QK_NOT_FINITE ? QK_NAN_HALF : 0;
    qk_weigh(&s, n, n);
    uint16_t d = best_half(search, &s, steps, qk_fit_scale(search, steps, s.x, s.w, n), n);
    qk_nearest_steps(steps, s.x, n, 0, qk_inverse(qk_half_value(&s, d)), q);
    return d;
}

static void pack_nibbles(uint8_t *qs, const int *q)
{
    for (int i = 0; i < 16; i++)
        qs[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static void pack_fifth_bits(uint8_t *qh, const int *q)
{
    memset(qh, 0, 4);
    for (int i = 0; i < 32; i++)
        qh[i / 8] = (uint8_t)(qh[i / 8] | (q[i] >> 4 & 1) << i % 8);
}

void qk_encode_q4_0(const qk_search *search, const float *src, void *dst)
{
    static const qk_steps steps = QK_WHOLE(-8, 7);
    qk_block_q4_0 b;
    float q[32];
    int bits[32];
    b.d = encode_scaled(search, &steps, src, 32, q);
    for (int i = 0; i < 32; i++)
        bits[i] = (int)q[i] + 8;
    pack_nibbles(b.qs, bits);
    memcpy(dst, &b, sizeof b);
}

void qk_encode_q5_0(const qk_search *search, const float *src, void *dst)
{
    static const qk_steps steps = QK_WHOLE(-16, 15);
    qk_block_q5_0 b;
    float q[32];
    int bits[32];
    b.d = encode_scaled(search, &steps, src, 32, q);
    for (int i = 0; i < 32; i++)
        bits[i] = (int)q[i] + 16;
    pack_nibbles(b.qs, bits);
    pack_fifth_bits(b.qh, bits);
    memcpy(dst, &b, sizeof b);
}

void qk_encode_iq4_nl(const qk_search *search, const float *src, void *dst)
{
    qk_block_iq4_nl b;
    float q[32];
    int bits[32];
    b.d = encode_scaled(search, &qk_steps_iq4, src, 32, q);
    for (int i = 0; i < 32; i++) {
        bits[i] = 0;
        for (int k = 0; k < 15; k++)
            bits[i] += q[i] > qk_steps_iq4.middle[k];
    }
    pack_nibbles(b.qs, bits);
    memcpy(dst, &b, sizeof b);
}

/* ---- x ≈ d·q + m ---- */

static void encode_line(const qk_search *search, const qk_steps *steps, const float *src, uint16_t *d, uint16_t *m, int *q)
{
    qk_source s;
    qk_kind kind = qk_source_read(&s, src, 32);
    *d = *m = kind == QK_NOT_FINITE ? QK_NAN_HALF : 0;
    memset(q, 0, 32 * sizeof *q);
    if (kind != QK_FINITE)
        return;
    float scale, offset;
    qk_weigh(&s, 32, 32);
    qk_fit_line(search, steps, s.x, s.w, 32, 1, &scale, &offset);
    *d = qk_half(&s, scale);
    *m = qk_half(&s, -offset);
    float nearest[32];
    qk_nearest_steps(steps, s.x, 32, -qk_half_value(&s, *m), qk_inverse(qk_half_value(&s, *d)), nearest);
    for (int i = 0; i < 32; i++)
        q[i] = (int)nearest[i];
}

void qk_encode_q4_1(const qk_search *search, const float *src, void *dst)
{
    static const qk_steps steps = QK_WHOLE(0, 15);
    qk_block_q4_1 b;
    int q[32];
    encode_line(search, &steps, src, &b.d, &b.m, q);
    pack_nibbles(b.qs, q);
    memcpy(dst, &b, sizeof b);
}

void qk_encode_q5_1(const qk_search *search, const float *src, void *dst)
{
    static const qk_steps steps = QK_WHOLE(0, 31);
    qk_block_q5_1 b;
    int q[32];
    encode_line(search, &steps, src, &b.d, &b.m, q);
    pack_nibbles(b.qs, q);
    pack_fifth_bits(b.qh, q);
    memcpy(dst, &b, sizeof b);
}

/* ---- powers of two as scales ---- */

/* Twice the values of E2M1, from the lowest to the highest. */
static const qk_steps e2m1 = {
    .low = -12,
    .high = 12,
    .uneven = 1,
    .middle = {-10, -7, -5, -3.5f, -2.5f, -1.5f, -0.5f, 0.5f, 1.5f, 2.5f, 3.5f, 5, 7, 10, 1e30f},
    .rise = {4, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 4, 0},
};

/* The code of a doubled value. */
static int e2m1_code(float q)
{
    static const uint8_t code[13] = {0, 1, 2, 3, 4, 0, 5, 0, 6, 0, 0, 0, 7};
    int whole = (int)q;
    return whole < 0 ? code[-whole] | 8 : code[whole];
}

/* Half the scale of code e, as the reader has it, in the source's measure. */
static float e8m0_half(const qk_source *s, int e)
{
    uint32_t bits = e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23;
    return (float)((double)qk_f32_from_bits(bits) * s->down);
}

/* Codes around the one whose largest value is just above the largest element. Codes above 252 have values that no float has, and
 * 255 stands for NaN: they are no candidates. */
static int best_e8m0(const qk_search *search, const qk_source *s, int n)
{
    qk_candidates c;
    float errors[QK_CANDIDATES];
    uint64_t bits;
    memcpy(&bits, &s->up, sizeof bits);
    c.count = 16;
    int codes[16], top = (int)(bits >> 52) - 1023 + 127; /* the code of the largest element's power of two */
    for (int i = 0; i < 16; i++) {
        int e = top - 8 + i;
        codes[i] = e < 0 ? 0 : e > 252 ? 252 : e;
        qk_set_candidate(&c, i, e8m0_half(s, codes[i]), 0);
    }
    search->errors(&c, &e2m1, s->x, s->w, n, errors);
    return codes[qk_least(errors)];
}

void qk_encode_mxfp4(const qk_search *search, const float *src, void *dst)
{
    qk_block_mxfp4 b = {0};
    qk_source s;
    int bits[32] = {0};
    qk_kind kind = qk_source_read(&s, src, 32);
    if (kind == QK_NOT_FINITE)
        b.e = 255;
    if (kind == QK_FINITE) {
        qk_weigh(&s, 32, 32);
        b.e = (uint8_t)best_e8m0(search, &s, 32);
        float q[32];
        qk_nearest_steps(&e2m1, s.x, 32, 0, qk_inverse(e8m0_half(&s, b.e)), q);
        for (int i = 0; i < 32; i++)
            bits[i] = e2m1_code(q[i]);
    }
    pack_nibbles(b.qs, bits);
    memcpy(dst, &b, sizeof b);
}

/* ---- −d, 0, d ---- */

/* A scale's quants are those elements that are at least half as large, and the best scale for them is their mean magnitude: going
 * from one to the other ends where neither changes. Many starts, because there is more than one such end. */
static float fit_ternary(const qk_search *search, const qk_steps *steps, const qk_source *s, int n)
{
    qk_candidates c;
    qk_sums sums;
    float scale = 0, most = -1;
    c.count = QK_CANDIDATES;
    for (int i = 0; i < QK_CANDIDATES; i++)
        qk_set_candidate(&c, i, 2 * (float)(i + 1) / QK_CANDIDATES, 0);
    for (int round = 0; round < 8; round++) {
        search->sums(&c, steps, s->x, s->w, n, &sums);
        int best = -1;
        for (int i = 0; i < c.count; i++) {
            float gain = sums.qq[i] > 0 ? sums.qx[i] * sums.qx[i] / sums.qq[i] : 0;
            if (gain > most) {
                most = gain;
                best = i;
            }
        }
        if (best < 0)
            break;
        scale = sums.qx[best] / sums.qq[best];
        for (int i = 0; i < 16; i++) /* and what lies around it */
            qk_set_candidate(&c, i, scale * (1 + (float)(i - 8) * 0.004f), 0);
        c.count = 16;
    }
    return scale;
}

/* q: 0, 1 or 2. */
static uint16_t encode_ternary(const qk_search *search, const float *src, uint8_t *q)
{
    static const qk_steps steps = QK_WHOLE(-1, 1);
    qk_source s;
    qk_kind kind = qk_source_read(&s, src, 256);
    memset(q, 1, 256);
    if (kind != QK_FINITE)
        return kind == QK_NOT_FINITE ? QK_NAN_HALF : 0;
    for (int i = 0; i < 256; i++)
        s.w[i] = 1;
    uint16_t d = qk_half(&s, fit_ternary(search, &steps, &s, 256));
    float nearest[256];
    qk_nearest_steps(&steps, s.x, 256, 0, qk_inverse(qk_half_value(&s, d)), nearest);
    for (int i = 0; i < 256; i++)
        q[i] = (uint8_t)((int)nearest[i] + 1);
    return d;
}

/* Five digits to base three as a fraction of 256, rounded up: the reader's multiplications bring each digit out again. */
static uint8_t pack_digits(const uint8_t *q, int stride, int count)
{
    int number = 0;
    for (int i = 0; i < 5; i++)
        number = number * 3 + (i < count ? q[i * stride] : 0);
    return (uint8_t)((number * 256 + 242) / 243);
}

void qk_encode_tq1_0(const qk_search *search, const float *src, void *dst)
{
    qk_block_tq1_0 b;
    uint8_t q[256];
    b.d = encode_ternary(search, src, q);
    for (int i = 0; i < 32; i++)
        b.qs[i] = pack_digits(q + i, 32, 5);
    for (int i = 0; i < 16; i++)
        b.qs[32 + i] = pack_digits(q + 160 + i, 16, 5);
    for (int i = 0; i < 4; i++)
        b.qh[i] = pack_digits(q + 240 + i, 4, 4);
    memcpy(dst, &b, sizeof b);
}

void qk_encode_tq2_0(const qk_search *search, const float *src, void *dst)
{
    qk_block_tq2_0 b = {0};
    uint8_t q[256];
    b.d = encode_ternary(search, src, q);
    for (int i = 0; i < 256; i++)
        b.qs[i / 128 * 32 + i % 32] = (uint8_t)(b.qs[i / 128 * 32 + i % 32] | q[i] << (i / 32 % 4 * 2));
    memcpy(dst, &b, sizeof b);
}
