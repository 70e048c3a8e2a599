/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/search.h: kernels/common/search.c with a vector of candidates side by side, two vectors at a time. The order
 * of operations is that of the plain version, so the results are the same to the last bit. */
#include "kernels/common/search.h"
#include "kernels/cpu/rows.h"

enum {
    V_GROUP = 16 / V_LANES > 2 ? 16 / V_LANES : 2
}; /* vectors under way at a time: sums of one alone would wait for each other */

QK_INLINE vf v_whole_step(const qk_steps *steps, vf t)
{
    return v_round(v_min(v_max(t, v_set1(steps->low)), v_set1(steps->high)));
}

QK_INLINE vf v_table_step(const qk_steps *steps, vf t)
{
    vf q = v_set1(steps->low);
    QK_UNROLL
    for (int k = 0; k < 15; k++)
        q = v_select(v_lt(v_set1(steps->middle[k]), t), v_add(q, v_set1(steps->rise[k])), q);
    return q;
}

/* vectors: how many of V_LANES candidates from `first` on; a constant of the caller. */
QK_INLINE void v_sums(const qk_candidates *c, const qk_steps *steps, const float *x, const float *w, int n, qk_sums *out, int first,
                      int vectors, int uneven)
{
    vf sum_q[V_GROUP], sum_qq[V_GROUP], sum_qx[V_GROUP], offset[V_GROUP], inverse[V_GROUP];
    QK_UNROLL
    for (int g = 0; g < vectors; g++) {
        sum_q[g] = sum_qq[g] = sum_qx[g] = v_zero();
        offset[g] = v_load(c->offset + first + g * V_LANES);
        inverse[g] = v_load(c->inverse + first + g * V_LANES);
    }
    for (int i = 0; i < n; i++) {
        vf vx = v_set1(x[i]), vw = v_set1(w[i]);
        QK_UNROLL
        for (int g = 0; g < vectors; g++) {
            vf t = v_mul(v_add(vx, offset[g]), inverse[g]);
            vf q = uneven ? v_table_step(steps, t) : v_whole_step(steps, t);
            vf wq = v_mul(vw, q);
            sum_q[g] = v_add(sum_q[g], wq);
            sum_qq[g] = v_add(sum_qq[g], v_mul(wq, q));
            sum_qx[g] = v_add(sum_qx[g], v_mul(wq, vx));
        }
    }
    QK_UNROLL
    for (int g = 0; g < vectors; g++) {
        v_store(out->q + first + g * V_LANES, sum_q[g]);
        v_store(out->qq + first + g * V_LANES, sum_qq[g]);
        v_store(out->qx + first + g * V_LANES, sum_qx[g]);
    }
}

QK_INLINE void v_errors(const qk_candidates *c, const qk_steps *steps, const float *x, const float *w, int n, float *out, int first,
                        int vectors, int uneven)
{
    vf sum[V_GROUP], offset[V_GROUP], inverse[V_GROUP], scale[V_GROUP];
    QK_UNROLL
    for (int g = 0; g < vectors; g++) {
        sum[g] = v_zero();
        offset[g] = v_load(c->offset + first + g * V_LANES);
        inverse[g] = v_load(c->inverse + first + g * V_LANES);
        scale[g] = v_load(c->scale + first + g * V_LANES);
    }
    for (int i = 0; i < n; i++) {
        vf vx = v_set1(x[i]), vw = v_set1(w[i]);
        QK_UNROLL
        for (int g = 0; g < vectors; g++) {
            vf t = v_mul(v_add(vx, offset[g]), inverse[g]);
            vf q = uneven ? v_table_step(steps, t) : v_whole_step(steps, t);
            vf rest = v_sub(vx, v_sub(v_mul(scale[g], q), offset[g]));
            sum[g] = v_add(sum[g], v_mul(v_mul(vw, rest), rest));
        }
    }
    QK_UNROLL
    for (int g = 0; g < vectors; g++)
        v_store(out + first + g * V_LANES, sum[g]);
}

/* Both numbers of vectors that a count can leave, as constants. */
#define V_ALL(call)                                                                                                                \
    do {                                                                                                                           \
        int first = 0;                                                                                                             \
        for (; first + V_GROUP * V_LANES <= c->count; first += V_GROUP * V_LANES)                                                  \
            call(V_GROUP);                                                                                                         \
        for (; first < c->count; first += V_LANES)                                                                                 \
            call(1);                                                                                                               \
    } while (0)

static void search_sums(const qk_candidates *c, const qk_steps *steps, const float *x, const float *w, int n, qk_sums *out)
{
#define WHOLE(vectors) v_sums(c, steps, x, w, n, out, first, vectors, 0)
#define UNEVEN(vectors) v_sums(c, steps, x, w, n, out, first, vectors, 1)
    if (steps->uneven)
        V_ALL(UNEVEN);
    else
        V_ALL(WHOLE);
#undef WHOLE
#undef UNEVEN
}

static void search_errors(const qk_candidates *c, const qk_steps *steps, const float *x, const float *w, int n, float *out)
{
#define WHOLE(vectors) v_errors(c, steps, x, w, n, out, first, vectors, 0)
#define UNEVEN(vectors) v_errors(c, steps, x, w, n, out, first, vectors, 1)
    if (steps->uneven)
        V_ALL(UNEVEN);
    else
        V_ALL(WHOLE);
#undef WHOLE
#undef UNEVEN
}
