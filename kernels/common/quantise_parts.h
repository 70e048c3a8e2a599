/* SPDX-License-Identifier: MIT
 * kernels/common/quantise_parts.h: what the quantisers of all formats are made of. */
#ifndef QUERN_KERNELS_QUANTISE_PARTS_H
#define QUERN_KERNELS_QUANTISE_PARTS_H

#include "kernels/common/quantise.h"

enum { QK_LONGEST = 256 };

/* A block brought to magnitudes of at most 2 by a power of two, so that no square leaves the range of floats. */
typedef struct qk_source {
    float x[QK_LONGEST], w[QK_LONGEST];
    double up, down; /* a value of the block is `up` times what stands here */
} qk_source;

typedef enum qk_kind { QK_ZEROS, QK_FINITE, QK_NOT_FINITE } qk_kind;

/* Fills x. */
qk_kind qk_source_read(qk_source *s, const float *src, int n);
/* Fills w, for groups of `group` elements. */
void qk_weigh(qk_source *s, int n, int group);

/* The binary16 nearest to a scale of the source, of the largest magnitude there is where it would overflow; and back. */
uint16_t qk_half(const qk_source *s, float scale);
/* For a scale of quants that are integers themselves: those must reach it, so a half that is subnormal is not below it. */
uint16_t qk_half_reaching(const qk_source *s, float scale);
float qk_half_value(const qk_source *s, uint16_t half);

/* 0 for 0. */
static inline float qk_inverse(float scale)
{
    float inverse = 1 / scale;
    return scale == 0 || inverse - inverse != 0 ? 0 : inverse;
}

/* The scale, of either sign, that suits x best: x ≈ scale·q. */
float qk_fit_scale(const qk_search *search, const qk_steps *steps, const float *x, const float *w, int n);

/* x ≈ scale·q − offset with q of 0…high and scale ≥ 0; offset ≥ 0 unless any is allowed. */
void qk_fit_line(const qk_search *search, const qk_steps *steps, const float *x, const float *w, int n, int any_offset,
                 float *scale, float *offset);

/* A candidate at an index. */
static inline void qk_set_candidate(qk_candidates *c, int i, float scale, float offset)
{
    c->scale[i] = scale;
    c->inverse[i] = qk_inverse(scale);
    c->offset[i] = offset;
}

/* Index of the largest of count numbers, the first of equals; count is a multiple of 16. In lanes, since a plain search waits for
 * every comparison. */
static inline int qk_most(const float *x, int count)
{
    float most[16];
    memcpy(most, x, sizeof most);
    for (int i = 16; i < count; i += 16)
        for (int l = 0; l < 16; l++)
            most[l] = x[i + l] > most[l] ? x[i + l] : most[l];
    for (int half = 8; half; half /= 2)
        for (int l = 0; l < half; l++)
            most[l] = most[l + half] > most[l] ? most[l + half] : most[l];
    int best = 0;
    while (best < count - 1 && x[best] < most[0])
        best++;
    return best;
}

/* Of the smallest among 16. */
static inline int qk_least(const float *x)
{
    float minus[16];
    for (int i = 0; i < 16; i++)
        minus[i] = -x[i];
    return qk_most(minus, 16);
}

#define QK_WHOLE(from, to)                                                                                                         \
    {                                                                                                                              \
        .low = (from), .high = (to)                                                                                                \
    }
extern const qk_steps qk_steps_iq4; /* those of IQ4_NL and IQ4_XS */

#endif
