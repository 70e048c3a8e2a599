/* SPDX-License-Identifier: MIT
 * kernels/common/search.h: what takes the time when weights are quantised: how well many scales suit the same few elements.
 *
 * Every candidate is judged by itself, its sums run over the elements in their order, and no product is fused with a sum: so a
 * processor may judge as many candidates side by side as it has lanes, and all find the same scales to the last bit. The table's
 * plain version is the reference; instruction sets put theirs in its place (kernels/cpu/simd/search.h). */
#ifndef QUERN_KERNELS_SEARCH_H
#define QUERN_KERNELS_SEARCH_H

#include "kernels/common/formats.h"

enum { QK_CANDIDATES = 64, QK_CANDIDATE_STEP = 16 };

/* x ≈ scale·q − offset. The quant q is the step nearest to (x + offset)·inverse. */
typedef struct qk_candidates {
    int count; /* a multiple of QK_CANDIDATE_STEP, at most QK_CANDIDATES */
    float scale[QK_CANDIDATES], inverse[QK_CANDIDATES], offset[QK_CANDIDATES];
} qk_candidates;

/* The steps that quants may be: the whole numbers from low to high, or a table of 16, low first. */
typedef struct qk_steps {
    float low, high;
    int uneven;
    float middle[15], rise[15]; /* uneven: where a step ends, and how much higher the next one is */
} qk_steps;

/* Of each candidate over all elements, weighted: Σwq, Σwq², Σwqx. */
typedef struct qk_sums {
    float q[QK_CANDIDATES], qq[QK_CANDIDATES], qx[QK_CANDIDATES];
} qk_sums;

/* x, w: n floats. Quants of magnitude below 2^21; everything finite. Results of candidates past count are undefined. */
typedef struct qk_search {
    void (*sums)(const qk_candidates *c, const qk_steps *steps, const float *x, const float *w, int n,
                 qk_sums *out); /* scale unused */
    /* Σw(x − (scale·q − offset))² */
    void (*errors)(const qk_candidates *c, const qk_steps *steps, const float *x, const float *w, int n, float *out);
} qk_search;

extern const qk_search qk_search_plain;

/* The steps nearest to (x + offset)·inverse, as the table's functions have them: halves to the even one of whole numbers, downward
 * in a table. */
void qk_nearest_steps(const qk_steps *steps, const float *x, int n, float offset, float inverse, float *q);

#endif
