/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/matmul_panel.h: panels times int8 activations, written once for every instruction set. The file that includes
 * it has defined
 *   QK_SPLIT     vectors to the 16 rows of a panel (1 or 2); QK_PANELS × QK_TOKENS, the largest tile: what the registers hold
 *   vf, vi       16/QK_SPLIT floats, as many 32-bit integers; qk_line: one panel line of 4 elements, made ready for products
 *   qk_format    what is fixed for a format: quant_bytes a block, bias, format, and how the file computes it (`kind`)
 *   qk_lines()   a vector each of two lines of the panel;  qk_dot() adds one line times four activations;  qk_dot_done() ends a
 * block v_…         the few float operations used here
 *
 * How it works. A block's 32 products a row are summed in 32-bit integers. The sums start from 1.5·2^23's bits less bias·Σq, so
 * that they come out as the bits of the float F = 1.5·2^23 + dot: |dot| < 2^22 for all formats here. fma(F, d, −1.5·2^23·d) is then
 * dot·d with one rounding and without an integer conversion (1.5·2^23·d is exact, d having 11 bits); one more FMA with the
 * activations' scale adds it to the row's sum. Blocks are added in order, whatever the tile, so that results depend neither on the
 * number of tokens nor on how rows were cut into calls.
 *
 * Few tokens stream through the panels in the order of memory, activations where they are. Many tokens are computed in stretches
 * of K: a tile's activations are gathered so that one pointer walks through them, and are used for all panels of a strip that
 * stays in the second-level cache. */
#ifndef QUERN_KERNELS_CPU_SIMD_MATMUL_PANEL_H
#define QUERN_KERNELS_CPU_SIMD_MATMUL_PANEL_H

#include "kernels/cpu/simd/unroll.h"

enum {
    QK_MAGIC = 0x4b400000,    /* the bits of 1.5·2^23 */
    QK_AHEAD = 4096,          /* bytes of prefetch in a strip: these and the next were measured, see docs/performance.md */
    QK_AHEAD_FAR = 16384,     /* where panels stream from memory: so far into the second-level cache, */
    QK_AHEAD_NEAR = 2048,     /* so far into the first */
    QK_STRETCH = 32,          /* blocks of K for a gathered tile: its activations and a panel's part fit the first-level cache */
    QK_STRIP_BYTES = 1 << 19, /* of panels used for tile after tile: a part of the second-level cache */
};

/* Where a tile finds its activations, block by block: elements of token t at x + t·x_step, scale at d + t·d_step, and either the
 * integers to start from (gathered) or the sums of the block (in place) at start + t·start_step. The steps of gathered tiles are
 * fixed and need not be set. */
typedef struct qk_source {
    const int8_t *x;
    const char *d, *start;
    int64_t x_step, d_step, start_step;    /* bytes between tokens */
    int64_t x_block, d_block, start_block; /* bytes between blocks */
} qk_source;

typedef struct qk_stretch {
    const uint8_t *quants, *scales;
    const uint8_t *next_quants, *next_scales; /* what will be read after this stretch */
    uint64_t panel_bytes;
    int64_t blocks;
    float *y;
    int64_t y_stride;
    int add; /* to what is in y */
} qk_stretch;

QK_INLINE int32_t qk_read_i32(const void *p)
{
    int32_t i;
    memcpy(&i, p, sizeof i);
    return i;
}

QK_INLINE float qk_read_f32(const void *p)
{
    float f;
    memcpy(&f, p, sizeof f);
    return f;
}

/* In a strip: the same panel's next blocks, then the next panel's first. */
QK_INLINE void qk_prefetch_strip(const qk_format f, const int P, const qk_stretch *s, int64_t b)
{
    const int64_t ahead = QK_AHEAD / f.quant_bytes, over = b + ahead - s->blocks;
    const uint8_t *q = over < 0 ? s->quants + (b + ahead) * f.quant_bytes : s->next_quants + over * f.quant_bytes;
    const uint8_t *d = over < 0 ? s->scales + (b + ahead) * 32 : s->next_scales + over * 32;
    QK_UNROLL
    for (int p = 0; p < P; p++, q += s->panel_bytes, d += s->panel_bytes) {
        QK_UNROLL
        for (int i = 0; i < f.quant_bytes; i += 64)
            __builtin_prefetch(q + i);
        __builtin_prefetch(d);
    }
}

/* Streaming: far ahead one walk through quants and scales alike, at their common pace; near, the quants alone. */
QK_INLINE void qk_prefetch_stream(const qk_format f, const qk_stretch *s, int64_t b)
{
    const uint8_t *far = s->quants + b * (f.quant_bytes + 32) + QK_AHEAD_FAR, *near = s->quants + b * f.quant_bytes + QK_AHEAD_NEAR;
    QK_UNROLL
    for (int i = 0; i < f.quant_bytes + 32; i += 64)
        __builtin_prefetch(far + i, 0, 2);
    QK_UNROLL
    for (int i = 0; i < f.quant_bytes; i += 64)
        __builtin_prefetch(near + i);
    __builtin_prefetch(s->scales + b * 32 + 256);
}

/* What of a block is done once for all tokens: a vector of rows' scales, and −1.5·2^23 times them. */
typedef struct qk_scales {
    vf d, away;
} qk_scales;

QK_INLINE qk_scales qk_scales_at(const uint8_t *scales)
{
    vf d = v_load_f16(scales);
    return (qk_scales){d, v_mul(d, v_set1(-12582912.0f))};
}

/* T tokens times a stretch of P panels. T, P and `gathered` are constants wherever this is used. */
QK_INLINE void qk_tile(const qk_format f, const int T, const int P, const int gathered, const qk_stretch *s, const qk_source *from)
{
    enum { V = QK_PANELS * QK_SPLIT };
    const int N = P * QK_SPLIT; /* vectors of rows */
    vf sum[QK_TOKENS][V];
    qk_source x = *from;
    if (gathered) { /* constants: every address is one register and a displacement */
        x.x_step = QK_BLOCK, x.d_step = x.start_step = 4;
        x.x_block = T * QK_BLOCK, x.d_block = x.start_block = T * 4;
    }
    QK_UNROLL
    for (int t = 0; t < T; t++) {
        QK_UNROLL
        for (int v = 0; v < N; v++)
            sum[t][v] = s->add ? v_load(s->y + t * s->y_stride + v * V_LANES) : v_zero();
        __builtin_prefetch(s->y + t * s->y_stride + P * QK_PANEL_ROWS, 1); /* of the next panel */
    }
    for (int64_t b = 0; b < s->blocks; b++) {
        const uint8_t *w = s->quants + b * f.quant_bytes, *scales = s->scales + b * 32;
        vi dot[QK_TOKENS][V];
        int32_t start[QK_TOKENS];
        if (gathered)
            qk_prefetch_strip(f, P, s, b);
        else
            qk_prefetch_stream(f, s, b);
        QK_UNROLL
        for (int t = 0; t < T; t++) {
            start[t] = qk_read_i32(x.start + t * x.start_step);
            start[t] = gathered ? start[t] : QK_MAGIC - qk_bias(f) * start[t];
            QK_UNROLL
            for (int v = 0; v < N; v++)
                dot[t][v] = qk_dot_start(f, start[t]);
        }
        QK_UNROLL
        for (int pair = 0; pair < 4; pair++) {
            qk_line line[V][2];
            QK_UNROLL
            for (int v = 0; v < N; v++)
                qk_lines(f, w + (uint64_t)(v / QK_SPLIT) * s->panel_bytes, pair, v % QK_SPLIT, line[v]);
            QK_UNROLL
            for (int g = 0; g < 2; g++) {
                QK_UNROLL
                for (int t = 0; t < T; t++) {
                    vi four = qk_four(x.x + t * x.x_step + (2 * pair + g) * 4);
                    QK_UNROLL
                    for (int v = 0; v < N; v++)
                        dot[t][v] = qk_dot(f, dot[t][v], line[v][g], four);
                }
            }
        }
        qk_scales d[V];
        QK_UNROLL
        for (int v = 0; v < N; v++)
            d[v] = qk_scales_at(scales + (uint64_t)(v / QK_SPLIT) * s->panel_bytes + v % QK_SPLIT * V_LANES * 2);
        QK_UNROLL
        for (int t = 0; t < T; t++) {
            vf dx = v_set1(qk_read_f32(x.d + t * x.d_step));
            QK_UNROLL
            for (int v = 0; v < N; v++)
                sum[t][v] = v_fma(v_fma(qk_dot_done(f, dot[t][v], start[t]), d[v].d, d[v].away), dx, sum[t][v]);
        }
        x.x += x.x_block;
        x.d += x.d_block;
        x.start += x.start_block;
    }
    QK_UNROLL
    for (int t = 0; t < T; t++) {
        QK_UNROLL
        for (int v = 0; v < N; v++)
            v_store(s->y + t * s->y_stride + v * V_LANES, sum[t][v]);
    }
}

typedef void (*qk_tile_fn)(const qk_stretch *s, const qk_source *from);

/* A tile's activations for one stretch of K, laid so that what a block needs lies together. */
typedef struct qk_gathered {
    int8_t x[QK_STRETCH * QK_TOKENS * QK_BLOCK];
    float d[QK_STRETCH * QK_TOKENS];
    int32_t start[QK_STRETCH * QK_TOKENS];
} qk_gathered;

QK_INLINE qk_source qk_gather(qk_gathered *to, const qk_matmul_args *a, int32_t bias, int64_t token, int64_t tokens, int64_t block,
                              int64_t blocks)
{
    for (int64_t t = 0; t < tokens; t++) {
        const char *row = (const char *)a->x + (token + t) * a->x_stride;
        const char *x = row + block * QK_BLOCK, *d = row + qk_act_d(a->k) + block * 4, *sum = row + qk_act_sum(a->k) + block * 4;
        for (int64_t b = 0; b < blocks; b++) {
            memcpy(to->x + (b * tokens + t) * QK_BLOCK, x + b * QK_BLOCK, QK_BLOCK);
            to->d[b * tokens + t] = qk_read_f32(d + b * 4);
            to->start[b * tokens + t] = QK_MAGIC - bias * qk_read_i32(sum + b * 4);
        }
    }
    return (qk_source){.x = to->x, .d = (const char *)to->d, .start = (const char *)to->start};
}

/* A stretch of panel `panel` of the call; `next` is the panel that follows in the order of work. */
QK_INLINE qk_stretch qk_stretch_at(const qk_format f, const qk_matmul_args *a, int64_t panel, int64_t next, int64_t block,
                                   int64_t blocks)
{
    const uint8_t *w = (const uint8_t *)a->w + (uint64_t)panel * qk_panel_bytes(f.format, a->k);
    const uint8_t *after = (const uint8_t *)a->w + (uint64_t)next * qk_panel_bytes(f.format, a->k);
    uint64_t scales = qk_panel_scales(f.format, a->k);
    return (qk_stretch){w + block * f.quant_bytes,
                        w + scales + block * 32,
                        after + block * f.quant_bytes,
                        after + scales + block * 32,
                        qk_panel_bytes(f.format, a->k),
                        blocks,
                        a->y + panel * QK_PANEL_ROWS,
                        a->y_stride,
                        block > 0};
}

/* Few tokens: panels one after another, activations where they are. */
QK_INLINE void qk_panels_in_place(const qk_format f, const qk_matmul_args *a, qk_tile_fn tile, int64_t panels)
{
    const char *x = a->x, *d = x + qk_act_d(a->k), *sum = x + qk_act_sum(a->k);
    qk_source from = {(const int8_t *)x, d, sum, a->x_stride, a->x_stride, a->x_stride, QK_BLOCK, 4, 4};
    for (int64_t p = 0; p < panels; p++) {
        qk_stretch s = qk_stretch_at(f, a, p, p + 1, 0, a->k / QK_BLOCK);
        tile(&s, &from);
    }
}

/* The tiles of one format: T tokens where they are, T gathered tokens times one panel, and times QK_PANELS. */
typedef struct qk_tiles {
    qk_tile_fn in_place[QK_IN_PLACE + 1], one[QK_TOKENS + 1], several[QK_TOKENS + 1];
} qk_tiles;

/* One strip of panels, one stretch of K, every token. */
QK_INLINE void qk_strip(const qk_format f, const qk_matmul_args *a, const qk_tiles *tiles, int64_t panel, int64_t panels,
                        int64_t block, int64_t blocks)
{
    _Alignas(64) qk_gathered gathered;
    int64_t rounds = (a->tokens + QK_TOKENS - 1) / QK_TOKENS;
    for (int64_t round = 0; round < rounds; round++) {
        int64_t token = a->tokens * round / rounds, tokens = a->tokens * (round + 1) / rounds - token;
        qk_source from = qk_gather(&gathered, a, qk_bias(f), token, tokens, block, blocks);
        for (int64_t p = 0, step; p < panels; p += step) {
            step = panels - p >= QK_PANELS ? QK_PANELS : 1;
            qk_stretch s = qk_stretch_at(f, a, panel + p, p + step < panels ? panel + p + step : panel, block, blocks);
            s.y += token * a->y_stride;
            (step > 1 ? tiles->several : tiles->one)[tokens](&s, &from);
        }
    }
}

QK_INLINE void qk_panels(const qk_format f, const qk_matmul_args *a, const qk_tiles *tiles)
{
    int64_t panels = (a->rows + QK_PANEL_ROWS - 1) / QK_PANEL_ROWS, strip = QK_STRIP_BYTES / (QK_STRETCH * f.quant_bytes);
    if (a->tokens <= QK_IN_PLACE) {
        qk_panels_in_place(f, a, tiles->in_place[a->tokens], panels);
        return;
    }
    for (int64_t p = 0; p < panels; p += strip) {
        for (int64_t b = 0, blocks = a->k / QK_BLOCK; b < blocks; b += QK_STRETCH)
            qk_strip(f, a, tiles, p, panels - p < strip ? panels - p : strip, b, blocks - b < QK_STRETCH ? blocks - b : QK_STRETCH);
    }
}

/* Everything for one format: its tiles and the function for the table. QK_IN_PLACE_TILES(X, name), QK_ONE_TILES and
 * QK_SEVERAL_TILES of the including file say X(name, T) for T = 1, 2, … */
#define QK_TILE(name, kind, T, P, gathered)                                                                                        \
    static void tile_##name##_##kind##_##T(const qk_stretch *s, const qk_source *from)                                             \
    {                                                                                                                              \
        qk_tile(name, T, P, gathered, s, from);                                                                                    \
    }
#define QK_DEFINE_IN_PLACE(name, T) QK_TILE(name, in_place, T, 1, 0)
#define QK_DEFINE_ONE(name, T) QK_TILE(name, one, T, 1, 1)
#define QK_DEFINE_SEVERAL(name, T) QK_TILE(name, several, T, QK_PANELS, 1)
#define QK_LIST_IN_PLACE(name, T) [T] = tile_##name##_in_place_##T,
#define QK_LIST_ONE(name, T) [T] = tile_##name##_one_##T,
#define QK_LIST_SEVERAL(name, T) [T] = tile_##name##_several_##T,

#define QK_PANEL_FORMAT(name)                                                                                                      \
    QK_IN_PLACE_TILES(QK_DEFINE_IN_PLACE, name)                                                                                    \
    QK_ONE_TILES(QK_DEFINE_ONE, name)                                                                                              \
    QK_SEVERAL_TILES(QK_DEFINE_SEVERAL, name)                                                                                      \
    static void matmul_##name(const qk_matmul_args *a)                                                                             \
    {                                                                                                                              \
        static const qk_tiles tiles = {{NULL, QK_IN_PLACE_TILES(QK_LIST_IN_PLACE, name)},                                          \
                                       {NULL, QK_ONE_TILES(QK_LIST_ONE, name)},                                                    \
                                       {NULL, QK_SEVERAL_TILES(QK_LIST_SEVERAL, name)}};                                           \
        qk_panels(name, a, &tiles);                                                                                                \
    }

#endif
