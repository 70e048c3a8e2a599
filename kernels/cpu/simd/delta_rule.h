/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/delta_rule.h: the gated delta rule over the operations of a vec.h. A lane is a feature of the value, so that
 * lanes never meet.
 *
 * One row: Sᵀk and Sᵀq in one pass over the state, from which d and the result follow (Sᵀq after the update is exp(g)·Sᵀq +
 * d·(k·q)), then the update in a second pass.
 *
 * Eight rows at a time, where there are as many: with G_i the decay from before the first row to after row i, and S the state
 * before, d_i = beta_i·(v_i − G_i·Sᵀk_i − Σ_j<i (G_i/G_j)(k_i·k_j)·d_j) y_i = scale·(G_i·Sᵀq_i + Σ_j≤i (G_i/G_j)(q_i·k_j)·d_j) S ←
 * G_7·S + Σ_j (G_7/G_j)·k_j d_jᵀ which reads and writes the state once for all of them (the chunked form of Yang et al. 2024,
 * arXiv:2412.06464, with the triangular system solved row by row). Ratios of decays are products of their factors: nothing is
 * divided. */
#include "kernels/cpu/generic/math.h"
#include "kernels/cpu/rows.h"

enum { D_ROWS = 8, D_TILE = V_LANES == 16 ? 8 : 4, D_VECTORS = 2 };

QK_INLINE float d_dot(const float *x, const float *y, int64_t n)
{
    vf low = v_zero(), high = v_zero();
    int64_t i = 0;
    for (; i + 2 * V_LANES <= n; i += 2 * V_LANES) {
        low = v_fma(v_load(x + i), v_load(y + i), low);
        high = v_fma(v_load(x + i + V_LANES), v_load(y + i + V_LANES), high);
    }
    for (; i + V_LANES <= n; i += V_LANES)
        low = v_fma(v_load(x + i), v_load(y + i), low);
    if (i < n)
        high = v_fma(v_load_n(x + i, n - i), v_load_n(y + i, n - i), high);
    return v_sum(v_add(low, high));
}

/* A row at position 0 begins a sequence: nothing is there that could fade. */
static void d_begin(const qk_delta_args *a)
{
    for (int64_t i = 0; i < a->k_size; i++)
        memset(a->state + i * a->state_stride, 0, (size_t)a->v_size * sizeof *a->state);
}

QK_INLINE vf d_load(const float *p, int64_t part)
{
    return part ? v_load_n(p, part) : v_load(p);
}

QK_INLINE void d_store(float *p, vf x, int64_t part)
{
    if (part)
        v_store_n(p, x, part);
    else
        v_store(p, x);
}

/* ---- one row ------------------------------------------------------------------------------------------------------- */

/* sk += Σ k_i·S_i, sq += Σ q_i·S_i over `count` rows of the state. */
QK_INLINE void d_look(const qk_delta_args *a, const float *k, const float *q, int64_t first, const int count, float *sk, float *sq)
{
    const float *s = a->state + first * a->state_stride;
    int64_t c = 0;
    for (; c < a->v_size; c += V_LANES) {
        int64_t rest = a->v_size - c < V_LANES ? a->v_size - c : 0;
        vf x = v_load(sk + c), y = v_load(sq + c);
        QK_UNROLL
        for (int i = 0; i < count; i++) {
            vf row = d_load(s + i * a->state_stride + c, rest);
            x = v_fma(row, v_set1(k[first + i]), x);
            y = v_fma(row, v_set1(q[first + i]), y);
        }
        v_store(sk + c, x);
        v_store(sq + c, y);
    }
}

static void d_one(const qk_delta_args *a, int64_t r)
{
    float sk[QK_DELTA_MAX_V + V_LANES], sq[QK_DELTA_MAX_V + V_LANES];
    const float *k = a->k + r * a->k_stride, *q = a->q + r * a->q_stride, *value = a->v + r * a->v_stride;
    float *to = a->y + r * a->y_stride;
    int begins = a->positions[r] == 0;
    if (begins)
        d_begin(a);
    vf decay = v_set1(begins ? 1 : qk_expf(a->g[r * a->g_stride])), beta = v_set1(a->beta[r * a->beta_stride]);
    vf kq = v_set1(d_dot(k, q, a->k_size)), scale = v_set1(a->scale);
    memset(sk, 0, sizeof sk);
    memset(sq, 0, sizeof sq);
    int64_t i = 0;
    for (; i + 4 <= a->k_size; i += 4)
        d_look(a, k, q, i, 4, sk, sq);
    for (; i < a->k_size; i++)
        d_look(a, k, q, i, 1, sk, sq);
    for (int64_t c = 0; c < a->v_size; c += V_LANES) {
        int64_t rest = a->v_size - c < V_LANES ? a->v_size - c : 0;
        vf d = v_mul(beta, v_fnma(decay, v_load(sk + c), d_load(value + c, rest)));
        d_store(to + c, v_mul(scale, v_fma(decay, v_load(sq + c), v_mul(kq, d))), rest);
        v_store(sk + c, d);
    }
    const int64_t line = 64 / (int64_t)sizeof(float);
    for (i = 0; i < a->k_size; i++) {
        float *s = a->state + i * a->state_stride;
        vf key = v_set1(k[i]);
        /* this pass finds its numbers in a cache: memory is free to bring the next state */
        for (int64_t c = 0; a->ahead && c < a->v_size; c += line)
            __builtin_prefetch(a->ahead + i * a->state_stride + c, 0, 2);
        for (int64_t c = 0; c < a->v_size; c += V_LANES) {
            int64_t rest = a->v_size - c < V_LANES ? a->v_size - c : 0;
            d_store(s + c, v_fma(key, v_load(sk + c), v_mul(decay, d_load(s + c, rest))), rest);
        }
    }
}

/* ---- eight rows ---------------------------------------------------------------------------------------------------- */

typedef struct d_chunk {
    const float *k[D_ROWS], *q[D_ROWS], *v[D_ROWS];
    float *y[D_ROWS];
    float fade[D_ROWS]; /* G_i */
    float left[D_ROWS]; /* G_7/G_j */
    float beta[D_ROWS];
    float kk[D_ROWS][D_ROWS]; /* (G_i/G_j)(k_i·k_j) */
    float qk[D_ROWS][D_ROWS]; /* (G_i/G_j)(q_i·k_j) */
} d_chunk;

static void d_prepare(const qk_delta_args *a, int64_t first, d_chunk *m)
{
    float ratio[D_ROWS], fade = 1; /* ratio[j]: G_i/G_j */
    for (int i = 0; i < D_ROWS; i++) {
        int64_t r = first + i;
        m->k[i] = a->k + r * a->k_stride;
        m->q[i] = a->q + r * a->q_stride;
        m->v[i] = a->v + r * a->v_stride;
        m->y[i] = a->y + r * a->y_stride;
        m->beta[i] = a->beta[r * a->beta_stride];
        float decay = a->positions[r] == 0 ? 1 : qk_expf(a->g[r * a->g_stride]);
        fade *= decay;
        m->fade[i] = fade;
        for (int j = 0; j < i; j++) {
            ratio[j] *= decay;
            m->kk[i][j] = ratio[j] * d_dot(m->k[i], m->k[j], a->k_size);
            m->qk[i][j] = ratio[j] * d_dot(m->q[i], m->k[j], a->k_size);
        }
        ratio[i] = 1;
        m->qk[i][i] = d_dot(m->q[i], m->k[i], a->k_size);
    }
    memcpy(m->left, ratio, sizeof ratio);
}

/* out[i] = Σ_l x_i[l]·S_l for a tile of rows and the features of `vectors` vectors. */
QK_INLINE void d_tile(const float *s, int64_t stride, int64_t k_size, const float *const *x, vf *out, const int vectors,
                      const int64_t part)
{
    vf acc[D_TILE * D_VECTORS];
    QK_UNROLL
    for (int i = 0; i < D_TILE * vectors; i++)
        acc[i] = v_zero();
    for (int64_t l = 0; l < k_size; l++, s += stride) {
        vf row[D_VECTORS];
        QK_UNROLL
        for (int v = 0; v < vectors; v++)
            row[v] = d_load(s + v * V_LANES, part);
        QK_UNROLL
        for (int i = 0; i < D_TILE; i++) {
            vf factor = v_set1(x[i][l]);
            QK_UNROLL
            for (int v = 0; v < vectors; v++)
                acc[i * vectors + v] = v_fma(factor, row[v], acc[i * vectors + v]);
        }
    }
    QK_UNROLL
    for (int i = 0; i < D_TILE * vectors; i++)
        out[i] = acc[i];
}

/* d_i in place of sk, and the results. */
QK_INLINE void d_solve(const d_chunk *m, int64_t c, vf *sk, const vf *sq, vf scale, const int vectors, const int64_t part)
{
    for (int i = 0; i < D_ROWS; i++) {
        QK_UNROLL
        for (int v = 0; v < vectors; v++) {
            vf fade = v_set1(m->fade[i]), d = v_fnma(fade, sk[i * vectors + v], d_load(m->v[i] + c + v * V_LANES, part));
            vf y = v_mul(fade, sq[i * vectors + v]);
            for (int j = 0; j < i; j++) {
                d = v_fnma(v_set1(m->kk[i][j]), sk[j * vectors + v], d);
                y = v_fma(v_set1(m->qk[i][j]), sk[j * vectors + v], y);
            }
            d = v_mul(v_set1(m->beta[i]), d);
            y = v_fma(v_set1(m->qk[i][i]), d, y);
            sk[i * vectors + v] = d;
            d_store(m->y[i] + c + v * V_LANES, v_mul(scale, y), part);
        }
    }
}

/* With 16 registers one vector of features is updated at a time. */
QK_INLINE void d_update(float *s, int64_t stride, int64_t k_size, const d_chunk *m, const vf *d, const int vectors,
                        const int64_t part)
{
    vf e[D_ROWS * D_VECTORS], fade = v_set1(m->fade[D_ROWS - 1]);
    QK_UNROLL
    for (int i = 0; i < D_ROWS * vectors; i++)
        e[i] = v_mul(v_set1(m->left[i / vectors]), d[i]);
    for (int64_t l = 0; l < k_size; l++, s += stride) {
        vf row[D_VECTORS];
        QK_UNROLL
        for (int v = 0; v < vectors; v++)
            row[v] = v_mul(fade, d_load(s + v * V_LANES, part));
        QK_UNROLL
        for (int i = 0; i < D_ROWS; i++) {
            vf key = v_set1(m->k[i][l]);
            QK_UNROLL
            for (int v = 0; v < vectors; v++)
                row[v] = v_fma(key, e[i * vectors + v], row[v]);
        }
        QK_UNROLL
        for (int v = 0; v < vectors; v++)
            d_store(s + v * V_LANES, row[v], part);
    }
}

QK_INLINE void d_features(const qk_delta_args *a, const d_chunk *m, int64_t c, const int vectors, const int64_t part)
{
    vf sk[D_ROWS * D_VECTORS], sq[D_ROWS * D_VECTORS];
    float *s = a->state + c;
    for (int i = 0; i < D_ROWS; i += D_TILE) {
        d_tile(s, a->state_stride, a->k_size, m->k + i, sk + i * vectors, vectors, part);
        d_tile(s, a->state_stride, a->k_size, m->q + i, sq + i * vectors, vectors, part);
    }
    d_solve(m, c, sk, sq, v_set1(a->scale), vectors, part);
    d_update(s, a->state_stride, a->k_size, m, sk, vectors, part);
}

static void d_wide(const qk_delta_args *a, const d_chunk *m, int64_t c)
{
    d_features(a, m, c, D_VECTORS, 0);
}

static void d_narrow(const qk_delta_args *a, const d_chunk *m, int64_t c, int64_t part)
{
    if (part)
        d_features(a, m, c, 1, part);
    else
        d_features(a, m, c, 1, 0);
}

static void d_eight(const qk_delta_args *a, int64_t first)
{
    d_chunk m;
    if (a->positions[first] == 0)
        d_begin(a);
    d_prepare(a, first, &m);
    int64_t c = 0;
    for (; c + D_VECTORS * V_LANES <= a->v_size; c += D_VECTORS * V_LANES)
        d_wide(a, &m, c);
    for (; c + V_LANES <= a->v_size; c += V_LANES)
        d_narrow(a, &m, c, 0);
    if (c < a->v_size)
        d_narrow(a, &m, c, a->v_size - c);
}

/* Are there eight rows from r on, of one sequence? */
static int d_full(const qk_delta_args *a, int64_t r)
{
    if (r + D_ROWS > a->rows)
        return 0;
    for (int i = 1; i < D_ROWS; i++)
        if (a->positions[r + i] == 0)
            return 0;
    return 1;
}

static void delta_rule(const qk_delta_args *a)
{
    for (int64_t r = 0; r < a->rows;) {
        int full = d_full(a, r);
        if (full)
            d_eight(a, r);
        else
            d_one(a, r);
        r += full ? D_ROWS : 1;
    }
}
