/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/matmul_float.h: weights in place times float activations, over the operations of a vec.h.
 *
 * A tile is some rows × some tokens; each pair has one register of partial sums along K. They are added up after every QK_STRETCH
 * elements, whatever the tile, so that a result is the same for one token and for many. With few tokens rows stream in the order
 * of memory; with many, a strip of rows stays in the second-level cache and a tile's activations in the first. */
#include "kernels/cpu/generic/convert.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/simd/reader.h"

enum {
    QK_STRETCH = 1024,        /* elements of K */
    QK_STRIP_BYTES = 1 << 19, /* of weights used for tile after tile */
    QK_STEP = 32,             /* elements between prefetches */
    QK_AHEAD = 512,           /* bytes along the row into the first-level cache; the next rows go into the second */
};

/* R rows from w on, T tokens from x on, elements [from, to). R and T are constants wherever this is used. */
QK_INLINE void qk_float_tile(const qk_reader f, const int R, const int T, const qk_matmul_args *a, const char *w, const char *x,
                             float *y, int64_t from, int64_t to)
{
    vf sum[4][V_TILE_TOKENS];
    int64_t i = from;
    QK_UNROLL
    for (int r = 0; r < R; r++) {
        QK_UNROLL
        for (int t = 0; t < T; t++)
            sum[r][t] = v_zero();
    }
    for (; i + QK_STEP <= to; i += QK_STEP) {
        QK_UNROLL
        for (int r = 0; r < R; r++) {
            const char *p = w + r * a->w_stride + i / QK_STEP * f.bytes;
            QK_UNROLL
            for (int b = 0; b < f.bytes; b += 64) {
                __builtin_prefetch(p + b + QK_AHEAD);
                __builtin_prefetch(p + b + R * a->w_stride, 0, 2);
            }
        }
        QK_UNROLL
        for (int j = 0; j < QK_STEP; j += V_LANES) {
            vf v[4];
            QK_UNROLL
            for (int r = 0; r < R; r++)
                v[r] = f.load(w + r * a->w_stride, i + j);
            QK_UNROLL
            for (int t = 0; t < T; t++) {
                vf u = v_load((const float *)(const void *)(x + t * a->x_stride) + i + j);
                QK_UNROLL
                for (int r = 0; r < R; r++)
                    sum[r][t] = v_fma(v[r], u, sum[r][t]);
            }
        }
    }
    for (int64_t n; f.load_n && i < to; i += n) { /* the rest of a row, of formats that may have one */
        n = to - i < V_LANES ? to - i : V_LANES;
        QK_UNROLL
        for (int r = 0; r < R; r++) {
            const char *row = w + r * a->w_stride;
            vf v = n < V_LANES ? f.load_n(row, i, n) : f.load(row, i);
            QK_UNROLL
            for (int t = 0; t < T; t++) {
                const float *u = (const float *)(const void *)(x + t * a->x_stride) + i;
                sum[r][t] = v_fma(v, n < V_LANES ? v_load_n(u, n) : v_load(u), sum[r][t]);
            }
        }
    }
    QK_UNROLL
    for (int t = 0; t < T; t++) {
        QK_UNROLL
        for (int r = 0; r < R; r++) {
            float part = v_sum(sum[r][t]);
            y[t * a->y_stride + r] = from ? y[t * a->y_stride + r] + part : part;
        }
    }
}

/* A piece of work: rows [row, row + rows), tokens [token, token + tokens) with tokens <= V_TILE_TOKENS, one stretch of K. */
typedef struct qk_piece {
    const qk_matmul_args *a;
    int64_t row, token, from, to;
} qk_piece;

#define QK_FLOAT_TILE(R, T) qk_float_tile(f, R, T, a, w, x, y, p->from, p->to)
#define QK_FLOAT_CASE(T)                                                                                                           \
    case T: rows == R ? QK_FLOAT_TILE(R, T) : QK_FLOAT_TILE(1, T); break;

QK_INLINE void qk_float_piece(const qk_reader f, const qk_piece *p, int64_t rows, int64_t tokens)
{
    const qk_matmul_args *a = p->a;
    const char *w = (const char *)a->w + p->row * a->w_stride, *x = (const char *)a->x + p->token * a->x_stride;
    float *y = a->y + p->token * a->y_stride + p->row;
    enum { R = V_TILE_ROWS };
    switch (tokens) {
    case 1:
        rows == 4 ? QK_FLOAT_TILE(4, 1) : rows >= R ? QK_FLOAT_TILE(R, 1) : QK_FLOAT_TILE(1, 1);
        break;
        V_TILE_CASES(QK_FLOAT_CASE)
    default: break;
    }
}

/* Rows a tile takes of those left: full tiles, then one by one. */
QK_INLINE int64_t qk_float_rows(int64_t left, int64_t tokens)
{
    int64_t full = tokens == 1 ? 4 : V_TILE_ROWS;
    return left >= full ? full : left >= V_TILE_ROWS ? V_TILE_ROWS : 1;
}

QK_INLINE void qk_float_stream(const qk_reader f, const qk_matmul_args *a)
{
    qk_piece p = {a, 0, 0, 0, 0};
    for (int64_t rows; p.row < a->rows; p.row += rows) {
        rows = qk_float_rows(a->rows - p.row, a->tokens);
        for (p.from = 0; p.from < a->k; p.from = p.to) {
            p.to = a->k - p.from < QK_STRETCH ? a->k : p.from + QK_STRETCH;
            qk_float_piece(f, &p, rows, a->tokens);
        }
    }
}

QK_INLINE void qk_float_strip(const qk_reader f, const qk_piece *where, int64_t end)
{
    qk_piece p = *where;
    const qk_matmul_args *a = p.a;
    int64_t rounds = (a->tokens + V_TILE_TOKENS - 1) / V_TILE_TOKENS;
    for (int64_t round = 0; round < rounds; round++) {
        p.token = a->tokens * round / rounds;
        int64_t rows, tokens = a->tokens * (round + 1) / rounds - p.token;
        for (p.row = where->row; p.row < end; p.row += rows) {
            rows = qk_float_rows(end - p.row, tokens);
            qk_float_piece(f, &p, rows, tokens);
        }
    }
}

QK_INLINE void qk_float_matmul(const qk_reader f, const qk_matmul_args *a)
{
    if (a->tokens <= V_TILE_TOKENS) {
        qk_float_stream(f, a);
        return;
    }
    int64_t strip = QK_STRIP_BYTES / (QK_STRETCH / 32 * f.bytes);
    qk_piece p = {a, 0, 0, 0, 0};
    for (; p.row < a->rows; p.row += strip) {
        for (p.from = 0; p.from < a->k; p.from = p.to) {
            p.to = a->k - p.from < QK_STRETCH ? a->k : p.from + QK_STRETCH;
            qk_float_strip(f, &p, a->rows - p.row < strip ? a->rows : p.row + strip);
        }
    }
}

#define QK_FLOAT_FORMAT(name)                                                                                                      \
    static void matmul_##name(const qk_matmul_args *a)                                                                             \
    {                                                                                                                              \
        qk_float_matmul(reader_##name, a);                                                                                         \
    }
QK_GENERIC_FORMATS(QK_FLOAT_FORMAT)

#define V_MATMUL_FLOAT_ROW(name) table->matmul_float[QP_FORMAT_##name] = matmul_##name;
#define V_MATMUL_FLOAT_ROWS(table) QK_GENERIC_FORMATS(V_MATMUL_FLOAT_ROW)
