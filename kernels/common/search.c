/* SPDX-License-Identifier: MIT
 * kernels/common/search.c: the plain version of the search, and the definition of the others. */
#include "kernels/common/search.h"

/* Adding and taking away 1.5·2^23 rounds to the nearest whole number, halves to even. */
#define ROUNDING 12582912.0f

enum { LANES = QK_CANDIDATE_STEP };

static inline float whole_step(float low, float high, float t)
{
    t = t < low ? low : t;
    t = t > high ? high : t;
    return t + ROUNDING - ROUNDING;
}

static inline float table_step(const qk_steps *s, float t)
{
    float q = s->low;
    for (int k = 0; k < 15; k++)
        q += t > s->middle[k] ? s->rise[k] : 0;
    return q;
}

void qk_nearest_steps(const qk_steps *steps, const float *x, int n, float offset, float inverse, float *q)
{
    if (steps->uneven) {
        for (int i = 0; i < n; i++)
            q[i] = table_step(steps, (x[i] + offset) * inverse);
        return;
    }
    float low = steps->low, high = steps->high;
    for (int i = 0; i < n; i++)
        q[i] = whole_step(low, high, (x[i] + offset) * inverse);
}

/* Candidates side by side in the inner loop, so that any compiler can make vectors of it. */
static void quants(const qk_candidates *c, const qk_steps *steps, int first, float x, float *q)
{
    if (steps->uneven) {
        for (int l = 0; l < LANES; l++)
            q[l] = table_step(steps, (x + c->offset[first + l]) * c->inverse[first + l]);
        return;
    }
    float low = steps->low, high = steps->high;
    for (int l = 0; l < LANES; l++)
        q[l] = whole_step(low, high, (x + c->offset[first + l]) * c->inverse[first + l]);
}

static void plain_sums(const qk_candidates *c, const qk_steps *steps, const float *x, const float *w, int n, qk_sums *out)
{
    for (int first = 0; first < c->count; first += LANES) {
        float sum_q[LANES] = {0}, sum_qq[LANES] = {0}, sum_qx[LANES] = {0}, q[LANES];
        for (int i = 0; i < n; i++) {
            quants(c, steps, first, x[i], q);
            for (int l = 0; l < LANES; l++) {
                float wq = w[i] * q[l];
                sum_q[l] += wq;
                sum_qq[l] += wq * q[l];
                sum_qx[l] += wq * x[i];
            }
        }
        memcpy(out->q + first, sum_q, sizeof sum_q);
        memcpy(out->qq + first, sum_qq, sizeof sum_qq);
        memcpy(out->qx + first, sum_qx, sizeof sum_qx);
    }
}

static void plain_errors(const qk_candidates *c, const qk_steps *steps, const float *x, const float *w, int n, float *out)
{
    for (int first = 0; first < c->count; first += LANES) {
        float sum[LANES] = {0}, q[LANES];
        for (int i = 0; i < n; i++) {
            quants(c, steps, first, x[i], q);
            for (int l = 0; l < LANES; l++) {
                float rest = x[i] - (c->scale[first + l] * q[l] - c->offset[first + l]);
                sum[l] += w[i] * rest * rest;
            }
        }
        memcpy(out + first, sum, sizeof sum);
    }
}

const qk_search qk_search_plain = {plain_sums, plain_errors};
