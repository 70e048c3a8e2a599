/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/attention.h: online softmax (Milakov & Gimelshein 2018, arXiv:1805.02867) over stretches of cells, over the
 * operations of a vec.h.
 *
 * A query is one head of one row. A batch of queries goes through the cells together, so that K and V are read once for all of
 * them. Few queries (decode) take dot products straight from the cache; many (prefill) have K transposed and V converted into
 * scratch, so that scores come out as vectors along the cells and both products are register-blocked. Cells of a stretch that not
 * all rows of a batch have in their range are done row by row: no row ever sees a cell outside its range, not even times zero. */
#include "kernels/cpu/generic/convert.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/simd/math.h"
#include "kernels/cpu/simd/reader.h"

#include <math.h>

enum {
    QK_CELLS = 64,
    QK_QUERIES = 32,
    QK_PIECE = 64, /* elements of a head in scratch */
    QK_FEW = 8,    /* queries below which scratch does not pay */
    QK_AHEAD_CELLS = 16,
    QK_VECTORS = 4, /* registers along the cells or along a head, times V_QUERIES queries of sums */
};

/* Queries [query, query + queries) of the call, cells [cell, cell + cells). */
typedef struct qk_batch {
    const qk_attention_args *a;
    int64_t query, queries, cell, cells;
    const float *q[QK_QUERIES];
    float p[QK_QUERIES][QK_CELLS]; /* scores, then weights; −inf and then 0 past the cells */
    _Alignas(64) float scratch[QK_PIECE * QK_CELLS];
} qk_batch;

QK_INLINE vf qk_read_part(const qk_reader f, const char *row, int64_t i, int64_t n)
{
    return n < V_LANES ? f.load_n(row, i, n) : f.load(row, i);
}

QK_INLINE void qk_prefetch_cell(const qk_reader f, const char *cell, int64_t size)
{
    for (int64_t i = 0; i < size; i += 2048 / f.bytes)
        __builtin_prefetch(cell + i / 32 * f.bytes);
}

/* ---- scores, few queries ---- */

/* Q queries times four cells. */
QK_INLINE void qk_scores_four(const qk_reader f, const int Q, qk_batch *b, int64_t q, int64_t c)
{
    const qk_attention_args *a = b->a;
    const char *k = a->k + (b->cell + c) * a->k_stride;
    const float *query[4];
    vf sum[4][4];
    int64_t i = 0;
    QK_UNROLL
    for (int j = 0; j < Q; j++) {
        query[j] = b->q[q + j];
        QK_UNROLL
        for (int n = 0; n < 4; n++)
            sum[j][n] = v_zero();
    }
    for (; i + QK_BLOCK <= a->k_size; i += QK_BLOCK) { /* whole blocks: their scale is then read once */
        QK_UNROLL
        for (int part = 0; part < QK_BLOCK; part += V_LANES) {
            vf cell[4];
            QK_UNROLL
            for (int n = 0; n < 4; n++)
                cell[n] = f.load(k + n * a->k_stride, i + part);
            QK_UNROLL
            for (int j = 0; j < Q; j++) {
                vf x = v_load(query[j] + i + part);
                QK_UNROLL
                for (int n = 0; n < 4; n++)
                    sum[j][n] = v_fma(x, cell[n], sum[j][n]);
            }
        }
    }
    for (; f.load_n && i + V_LANES <= a->k_size; i += V_LANES) {
        QK_UNROLL
        for (int j = 0; j < Q; j++) {
            vf x = v_load(query[j] + i);
            QK_UNROLL
            for (int n = 0; n < 4; n++)
                sum[j][n] = v_fma(x, f.load(k + n * a->k_stride, i), sum[j][n]);
        }
    }
    if (f.load_n && i < a->k_size) {
        QK_UNROLL
        for (int j = 0; j < Q; j++) {
            vf x = v_load_n(query[j] + i, a->k_size - i);
            QK_UNROLL
            for (int n = 0; n < 4; n++)
                sum[j][n] = v_fma(x, f.load_n(k + n * a->k_stride, i, a->k_size - i), sum[j][n]);
        }
    }
    QK_UNROLL
    for (int j = 0; j < Q; j++)
        v_sum_four(b->p[q + j] + c, sum[j][0], sum[j][1], sum[j][2], sum[j][3]);
}

QK_INLINE void qk_scores_one(const qk_reader f, qk_batch *b, int64_t q, int64_t c)
{
    const qk_attention_args *a = b->a;
    const char *k = a->k + (b->cell + c) * a->k_stride;
    const float *query = b->q[q];
    vf sum = v_zero();
    int64_t i = 0;
    for (; i + V_LANES <= a->k_size; i += V_LANES)
        sum = v_fma(v_load(query + i), f.load(k, i), sum);
    if (f.load_n && i < a->k_size)
        sum = v_fma(v_load_n(query + i, a->k_size - i), f.load_n(k, i, a->k_size - i), sum);
    b->p[q][c] = v_sum(sum);
}

QK_INLINE void qk_scores_few(const qk_reader f, qk_batch *b)
{
    const qk_attention_args *a = b->a;
    for (int64_t c = 0; c < b->cells; c += 4) {
        if (b->cells - c < 4) {
            for (; c < b->cells; c++) {
                for (int64_t q = 0; q < b->queries; q++)
                    qk_scores_one(f, b, q, c);
            }
            break;
        }
        for (int n = 0; n < 4; n++)
            qk_prefetch_cell(f, a->k + (b->cell + c + n + QK_AHEAD_CELLS) * a->k_stride, a->k_size);
        int64_t q = 0;
        for (; q + V_FEW <= b->queries; q += V_FEW)
            qk_scores_four(f, V_FEW, b, q, c);
        for (; q < b->queries; q++)
            qk_scores_four(f, 1, b, q, c);
    }
}

/* ---- scores, many queries ---- */

/* K of the cells, elements [from, from + n) of the head, to scratch[element][cell]. Cells that are not there become zeros. */
QK_INLINE void qk_transpose(const qk_reader f, qk_batch *b, int64_t from, int64_t n)
{
    const qk_attention_args *a = b->a;
    for (int64_t c = 0; c < b->cells; c += V_LANES) {
        for (int64_t i = 0; i < n; i += V_LANES) {
            vf m[V_LANES];
            int64_t part = n - i;
            QK_UNROLL
            for (int j = 0; j < V_LANES; j++)
                m[j] = c + j < b->cells ? qk_read_part(f, a->k + (b->cell + c + j) * a->k_stride, from + i, part) : v_zero();
            v_transpose(m);
            QK_UNROLL
            for (int j = 0; j < V_LANES; j++)
                if (j < part)
                    v_store(b->scratch + (i + j) * QK_CELLS + c, m[j]);
        }
    }
}

/* Q queries times QK_VECTORS vectors of cells from cell c on. */
QK_INLINE void qk_scores_tile(const int Q, qk_batch *b, int64_t q, int64_t c, int64_t from, int64_t n)
{
    vf sum[V_QUERIES][QK_VECTORS];
    const float *query[V_QUERIES];
    QK_UNROLL
    for (int j = 0; j < Q; j++) {
        query[j] = b->q[q + j] + from;
        QK_UNROLL
        for (int v = 0; v < QK_VECTORS; v++)
            sum[j][v] = from ? v_load(b->p[q + j] + c + v * V_LANES) : v_zero();
    }
    for (int64_t i = 0; i < n; i++) {
        const float *k = b->scratch + i * QK_CELLS + c;
        QK_UNROLL
        for (int j = 0; j < Q; j++) {
            vf x = v_set1(query[j][i]);
            QK_UNROLL
            for (int v = 0; v < QK_VECTORS; v++)
                sum[j][v] = v_fma(x, v_load(k + v * V_LANES), sum[j][v]);
        }
    }
    QK_UNROLL
    for (int j = 0; j < Q; j++) {
        QK_UNROLL
        for (int v = 0; v < QK_VECTORS; v++)
            v_store(b->p[q + j] + c + v * V_LANES, sum[j][v]);
    }
}

/* V_QUERIES_CASES(X) of the including file says X(1) … X(V_QUERIES). */
#define QK_SCORES_CASE(Q)                                                                                                          \
    case Q: qk_scores_tile(Q, b, q, c, from, n); break;

QK_INLINE void qk_scores_many(const qk_reader f, qk_batch *b)
{
    int64_t size = b->a->k_size;
    for (int64_t from = 0; from < size; from += QK_PIECE) {
        int64_t n = size - from < QK_PIECE ? size - from : QK_PIECE, q = 0;
        qk_transpose(f, b, from, n);
        for (int64_t step; q < b->queries; q += step) {
            step = b->queries - q < V_QUERIES ? b->queries - q : V_QUERIES;
            for (int64_t c = 0; c < b->cells; c += QK_VECTORS * V_LANES) {
                switch (step) {
                    V_QUERIES_CASES(QK_SCORES_CASE)
                default: break;
                }
            }
        }
    }
}

/* ---- softmax ---- */

/* exp of what is not positive. Below e^-87, next to a weight of 1, it is nothing: results that are no normal numbers cost more than
 * a hundred cycles each. */
QK_INLINE vf qk_weight(vf x)
{
    vf least = v_set1(-87), e = v_exp(v_max(least, x)); /* a NaN stays one */
    return v_select(v_lt(x, least), v_zero(), e);
}

/* Scores to weights exp(score − maximum); what was gathered before is scaled to the new maximum. */
QK_INLINE void qk_soften(qk_batch *b, int64_t q)
{
    const qk_attention_args *a = b->a;
    float *p = b->p[q], *m = a->m + b->query + q, *l = a->l + b->query + q, *acc = a->acc + (b->query + q) * a->v_size;
    vf largest = v_set1(*m), sum = v_zero();
    for (int64_t c = b->cells; c < QK_CELLS; c++)
        p[c] = -INFINITY;
    for (int64_t c = 0; c < b->cells; c += V_LANES) {
        vf s = v_mul(v_load(p + c), v_set1(a->scale));
        if (a->softcap > 0)
            s = v_mul(v_set1(a->softcap), v_tanh(v_div(s, v_set1(a->softcap))));
        if (b->cells - c < V_LANES) /* −inf past the cells, whatever the sign of the scale */
            s = v_select(v_first(b->cells - c), s, v_set1(-INFINITY));
        v_store(p + c, s);
        largest = v_max(s, largest); /* passes over NaN */
    }
    float max = v_largest(largest), base = max == -INFINITY ? 0 : max; /* nothing but −inf: weights 0, not NaN */
    for (int64_t c = 0; c < b->cells; c += V_LANES) {
        vf e = qk_weight(v_sub(v_load(p + c), v_set1(base)));
        v_store(p + c, e);
        sum = v_add(sum, e);
    }
    if (max == *m) {
        *l += v_sum(sum);
        return;
    }
    vf factor = qk_weight(v_set1(*m - base));
    *m = max;
    *l = *l * v_first_lane(factor) + v_sum(sum);
    int64_t i = 0;
    for (; i + V_LANES <= a->v_size; i += V_LANES)
        v_store(acc + i, v_mul(v_load(acc + i), factor));
    if (i < a->v_size)
        v_store_n(acc + i, v_mul(v_load_n(acc + i, a->v_size - i), factor), a->v_size - i);
}

/* ---- values ---- */

/* Q queries, N vectors of the head from element i on; the last vector holds `part` elements when it is not a full one. */
QK_INLINE void qk_gather_tile(const qk_reader f, const int Q, const int N, const int whole, qk_batch *b, int64_t q, const char *v,
                              int64_t v_stride, int64_t from, int64_t i, int64_t part)
{
    const qk_attention_args *a = b->a;
    float *acc = a->acc + (b->query + q) * a->v_size + from + i;
    vf sum[V_QUERIES][QK_VECTORS];
    QK_UNROLL
    for (int j = 0; j < Q; j++) {
        QK_UNROLL
        for (int n = 0; n < N; n++)
            sum[j][n] = whole ? v_load(acc + j * a->v_size + n * V_LANES) : v_load_n(acc + j * a->v_size + n * V_LANES, part);
    }
    for (int64_t c = 0; c < b->cells; c++, v += v_stride) {
        vf x[QK_VECTORS];
        QK_UNROLL
        for (int n = 0; n < N; n++)
            x[n] = whole ? f.load(v, i + n * V_LANES) : f.load_n(v, i + n * V_LANES, part);
        QK_UNROLL
        for (int j = 0; j < Q; j++) {
            vf p = v_set1(b->p[q + j][c]);
            QK_UNROLL
            for (int n = 0; n < N; n++)
                sum[j][n] = v_fma(p, x[n], sum[j][n]);
        }
    }
    QK_UNROLL
    for (int j = 0; j < Q; j++) {
        QK_UNROLL
        for (int n = 0; n < N; n++) {
            if (whole)
                v_store(acc + j * a->v_size + n * V_LANES, sum[j][n]);
            else
                v_store_n(acc + j * a->v_size + n * V_LANES, sum[j][n], part);
        }
    }
}

#define QK_GATHER_CASE(Q)                                                                                                          \
    case Q: qk_gather_tile(f, Q, QK_VECTORS, 1, b, q, v, v_stride, from, i, V_LANES); break;

/* All queries, elements [from, from + n) of the head; v is the first cell's, and element `from` is at i = 0 of it. */
QK_INLINE void qk_gather_piece(const qk_reader f, qk_batch *b, const char *v, int64_t v_stride, int64_t from, int64_t n)
{
    enum { WIDE = QK_VECTORS * V_LANES };
    int64_t i = 0;
    for (; i + WIDE <= n; i += WIDE) {
        for (int64_t q = 0, step; q < b->queries; q += step) {
            step = b->queries - q < V_QUERIES ? b->queries - q : V_QUERIES;
            switch (step) {
                V_QUERIES_CASES(QK_GATHER_CASE)
            default: break;
            }
        }
    }
    for (; i < n; i += V_LANES) {
        for (int64_t q = 0; q < b->queries; q++) {
            if (n - i >= V_LANES)
                qk_gather_tile(f, 1, 1, 1, b, q, v, v_stride, from, i, V_LANES);
            else if (f.load_n)
                qk_gather_tile(f, 1, 1, 0, b, q, v, v_stride, from, i, n - i);
        }
    }
}

/* V of the cells, elements [from, from + n) of the head, to scratch[cell][element]. */
QK_INLINE void qk_convert(const qk_reader f, qk_batch *b, int64_t from, int64_t n)
{
    const char *v = b->a->v + b->cell * b->a->v_stride;
    for (int64_t c = 0; c < b->cells; c++, v += b->a->v_stride) {
        for (int64_t i = 0; i < n; i += V_LANES)
            v_store(b->scratch + c * QK_PIECE + i, qk_read_part(f, v, from + i, n - i));
    }
}

QK_INLINE void qk_gather(const qk_reader f, const int many, qk_batch *b)
{
    const qk_attention_args *a = b->a;
    const char *v = a->v + b->cell * a->v_stride;
    if (!many) {
        for (int64_t c = 0; c < QK_AHEAD_CELLS && c < b->cells; c++)
            qk_prefetch_cell(f, v + (b->cells + c) * a->v_stride, a->v_size);
        qk_gather_piece(f, b, v, a->v_stride, 0, a->v_size);
        return;
    }
    for (int64_t from = 0; from < a->v_size; from += QK_PIECE) {
        int64_t n = a->v_size - from < QK_PIECE ? a->v_size - from : QK_PIECE;
        qk_convert(f, b, from, n);
        qk_gather_piece(reader_F32, b, (const char *)b->scratch, QK_PIECE * sizeof(float), from, n);
    }
}

/* ---- the walk ---- */

QK_INLINE void qk_attend(const qk_reader f, qk_batch *b)
{
    const int many = b->queries >= QK_FEW;
    if (many)
        qk_scores_many(f, b);
    else
        qk_scores_few(f, b);
    for (int64_t q = 0; q < b->queries; q++)
        qk_soften(b, q);
    qk_gather(f, many, b);
}

QK_INLINE int64_t qk_row_begin(const qk_attention_args *a, int64_t row)
{
    return a->rows > 1 ? a->begins[row] : a->begin;
}
QK_INLINE int64_t qk_row_end(const qk_attention_args *a, int64_t row)
{
    return a->rows > 1 ? a->ends[row] : a->end;
}

/* The rows [row, row + rows) and `heads` heads from `head` on, cells [from, to): whole batch, or row by row. heads is a->heads
 * when rows > 1. */
QK_INLINE void qk_attend_stretch(const qk_reader f, qk_batch *b, int64_t row, int64_t rows, int64_t head, int64_t heads,
                                 int64_t from, int64_t to)
{
    int all = 1;
    for (int64_t r = row; r < row + rows; r++)
        all &= qk_row_begin(b->a, r) <= from && to <= qk_row_end(b->a, r);
    int64_t step = all ? rows : 1;
    for (int64_t r = row; r < row + rows; r += step) {
        int64_t begin = qk_row_begin(b->a, r), end = qk_row_end(b->a, r);
        b->query = r * b->a->heads + head;
        b->queries = step * heads;
        for (int64_t q = 0; q < b->queries; q++)
            b->q[q] = b->a->q + (r + q / heads) * b->a->q_row_stride + (head + q % heads) * b->a->q_stride;
        b->cell = begin > from ? begin : from;
        b->cells = (end < to ? end : to) - b->cell;
        if (b->cells > 0)
            qk_attend(f, b);
    }
}

QK_INLINE int64_t qk_clamp(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

/* Some rows and heads, all their cells. What all rows cover of a stretch is in the middle: causal rows end a cell after each other. */
QK_INLINE void qk_attend_rows(const qk_reader f, qk_batch *b, int64_t row, int64_t rows, int64_t head, int64_t heads)
{
    int64_t from = qk_row_begin(b->a, row), to = qk_row_end(b->a, row), common_from = from, common_to = to;
    for (int64_t r = row + 1; r < row + rows; r++) {
        int64_t begin = qk_row_begin(b->a, r), end = qk_row_end(b->a, r);
        from = begin < from ? begin : from;
        to = end > to ? end : to;
        common_from = begin > common_from ? begin : common_from;
        common_to = end < common_to ? end : common_to;
    }
    for (int64_t c = from; c < to; c += QK_CELLS) {
        int64_t end = to - c < QK_CELLS ? to : c + QK_CELLS, first = qk_clamp(common_from, c, end),
                last = qk_clamp(common_to, first, end);
        const int64_t cuts[4] = {c, first, last, end};
        for (int i = 0; i < 3; i++)
            if (cuts[i] < cuts[i + 1])
                qk_attend_stretch(f, b, row, rows, head, heads, cuts[i], cuts[i + 1]);
    }
}

QK_INLINE void qk_attention(const qk_reader f, const qk_attention_args *a)
{
    qk_batch b;
    b.a = a;
    int64_t total = a->rows > 1 ? a->rows : 1, heads = a->heads < QK_QUERIES ? a->heads : QK_QUERIES, batch = QK_QUERIES / a->heads;
    batch = batch < 1 ? 1 : batch;
    for (int64_t row = 0; row < total; row += batch)
        for (int64_t head = 0; head < a->heads; head += heads)
            qk_attend_rows(f, &b, row, total - row < batch ? total - row : batch, head, a->heads - head < heads ? a->heads - head : heads);
}

#define QK_ATTENTION_FORMAT(name)                                                                                                  \
    static void attention_##name(const qk_attention_args *a)                                                                       \
    {                                                                                                                              \
        qk_attention(reader_##name, a);                                                                                            \
    }
QK_GENERIC_FORMATS(QK_ATTENTION_FORMAT)

#define V_ATTENTION_ROW(name) table->attention[QP_FORMAT_##name] = attention_##name;
#define V_ATTENTION_ROWS(table) QK_GENERIC_FORMATS(V_ATTENTION_ROW)
