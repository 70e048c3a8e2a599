/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/matmul_panel.h: panels times int8 activations, written once for every instruction set and format. The file that
 * includes it has defined
 *   QK_SPLIT     vectors to the 16 rows of a panel (1 or 2); QK_PANELS × QK_TOKENS, the largest tile: what the registers hold;
 *                QK_STRETCH, blocks of K for which so many panels, as bytes, stay in the first-level cache
 *   vf, vi       16/QK_SPLIT floats, as many 32-bit integers; qk_raw and its operations for panel_lines.h
 *   qk_bias(), qk_line_of(), qk_four(), qk_dot_start(), qk_dot_pair(), qk_dot_done(): sums of products of bytes
 *
 * How it works. A part of a block, 16 or 32 products a row, is summed in 32-bit integers. The sums start from 1.5·2^23's bits less
 * bias·Σq, so that they come out as the bits of the float F = 1.5·2^23 + dot: |dot| < 2^22 for all formats here. fma(F, d,
 * −1.5·2^23·d) is then dot·d with one rounding and without an integer conversion (1.5·2^23·d is exact, d having at most 19 bits);
 * one more FMA with the activations' scale adds it to the row's sum, and where the format has minima another takes away m·d·Σq.
 * Blocks are added in order, whatever the tile, so that results depend neither on the number of tokens nor on how rows were cut
 * into calls.
 *
 * Few tokens stream through the panels in the order of memory, activations where they are. Many tokens are computed in stretches
 * of K: their activations are gathered so that one pointer walks through a tile of them; then, panel by panel, elements become
 * bytes and scales floats, once for all tiles. */
#ifndef QUERN_KERNELS_CPU_SIMD_MATMUL_PANEL_H
#define QUERN_KERNELS_CPU_SIMD_MATMUL_PANEL_H

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/simd/panel_lines.h"
#include "kernels/cpu/simd/panel_scales.h"
#include "kernels/cpu/simd/unroll.h"

enum {
    QK_MAGIC = 0x4b400000,        /* the bits of 1.5·2^23 */
    QK_AHEAD_FAR = 16384,         /* where panels stream from memory: prefetched so far into the second-level cache, */
    QK_AHEAD_NEAR = 2048,         /* so far into the first: see docs/performance.md */
    QK_CHUNK = 128,               /* tokens gathered at a time */
    QK_LINE_BYTES = 64 / QK_SPLIT /* of a vector's part of a line */
};

/* Where a tile finds its activations: elements of its first token at x, scales at d; those of the next token are a step on. Of
 * gathered ones the integers to start from are at start and the sums times the scale at sum, part by part; steps are then constants
 * and need not be set, so that every address is one register and a displacement. In place, sum are the sums of half blocks, and start
 * is not there. */
typedef struct qk_source {
    const int8_t *x;
    const char *d, *sum, *start;
    int64_t step; /* bytes between tokens, in place */
} qk_source;

typedef struct qk_stretch {
    const uint8_t *quants;
    const void *scales;   /* records, or floats of a wide stretch */
    const uint8_t *ahead; /* to be fetched, `ahead_step` bytes a block: what comes after a wide stretch */
    int64_t ahead_step;
    int64_t panel_bytes; /* between the quants of a tile's panels; in place, between panels */
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

/* Streaming: far ahead one walk through quants and scales alike, at their common pace; near, the quants alone. The scales lie at the
 * end of a panel, but are needed from its start on: those of the next one are fetched with this one's. */
QK_INLINE void qk_prefetch_stream(const qk_format f, const qk_stretch *s, int64_t b)
{
    const int blocks = f.unit / QK_BLOCK, bytes = f.quant_bytes + f.record / blocks;
    const uint8_t *far = s->quants + b * bytes + QK_AHEAD_FAR, *near = s->quants + b * f.quant_bytes + QK_AHEAD_NEAR;
    QK_UNROLL
    for (int i = 0; i < bytes; i += 64)
        __builtin_prefetch(far + i, 0, 2);
    QK_UNROLL
    for (int i = 0; i < f.quant_bytes; i += 64)
        __builtin_prefetch(near + i);
    const uint8_t *scales = (const uint8_t *)s->scales + b * f.record / blocks;
    __builtin_prefetch(scales + 256);
    __builtin_prefetch(scales + s->panel_bytes, 0, 2);
}

/* ---- scales of a block ---- */

/* Floats of a block of a wide stretch: of each part d, then, where there are minima, m. */
QK_INLINE int64_t qk_wide_floats(const qk_format f) { return QK_PANEL_ROWS * f.parts * (1 + f.mins); }

/* Of panel `panel` of the stretch. */
QK_INLINE qk_scales qk_scales_of(const qk_format f, const int wide, const qk_stretch *s, int64_t b, int part, int panel, int row)
{
    const int blocks = f.unit / QK_BLOCK;
    if (!wide)
        return qk_scales_at(f, (const uint8_t *)s->scales + b / blocks * f.record, (int)(b % blocks), part, row);
    const float *scales = (const float *)s->scales + (b * QK_PANELS + panel) * qk_wide_floats(f);
    scales += QK_PANEL_ROWS * part * (1 + f.mins) + row;
    return (qk_scales){v_load(scales), f.mins ? v_load(scales + QK_PANEL_ROWS) : v_zero()};
}

/* ---- a tile ---- */

/* Σq of a part in place. */
QK_INLINE int32_t qk_part_sum(const qk_format f, const qk_source *x, int t, int part)
{
    const char *sum = x->sum + t * x->step;
    return f.parts == 1 ? qk_read_i32(sum) + qk_read_i32(sum + 4) : qk_read_i32(sum + 4 * part);
}

/* T tokens times a stretch of one panel, or of QK_PANELS wide ones. T and `wide` are constants wherever this is used. */
QK_INLINE void qk_tile(const qk_format f, const int T, const int wide, const qk_stretch *s, const qk_source *from)
{
    enum { V = QK_PANELS * QK_SPLIT };
    const int64_t x_step = wide ? QK_STRETCH * QK_BLOCK : from->step, d_step = wide ? QK_STRETCH * 4 : from->step;
    const int pairs = 4 / f.parts, N = wide ? V : QK_SPLIT; /* vectors of rows */
    vf sum[QK_TOKENS][V];
    qk_source x = *from;
    QK_UNROLL
    for (int t = 0; t < T; t++) {
        QK_UNROLL
        for (int v = 0; v < N; v++)
            sum[t][v] = s->add ? v_load(s->y + t * s->y_stride + v * V_LANES) : v_zero();
        __builtin_prefetch(s->y + t * s->y_stride + N * V_LANES, 1); /* of the next panel */
    }
    for (int64_t b = 0; b < s->blocks; b++) {
        const uint8_t *w = s->quants + b * (wide ? QK_PANEL_ROWS * QK_BLOCK : f.quant_bytes);
        if (!wide)
            qk_prefetch_stream(f, s, b);
        else
            for (int64_t i = 0; i < s->ahead_step; i += 64)
                __builtin_prefetch(s->ahead + b * s->ahead_step + i, 0, 2);
        QK_UNROLL
        for (int part = 0; part < f.parts; part++) {
            vi dot[QK_TOKENS][V];
            int32_t start[QK_TOKENS];
            QK_UNROLL
            for (int t = 0; t < T; t++) {
                start[t] = wide ? qk_read_i32(x.start + t * QK_STRETCH * 8 + part * 4) : QK_MAGIC - qk_bias(f) * qk_part_sum(f, &x, t, part);
                QK_UNROLL
                for (int v = 0; v < N; v++)
                    dot[t][v] = qk_dot_start(f, start[t]);
            }
            QK_UNROLL
            for (int pair = part * pairs; pair < part * pairs + pairs; pair++) {
                qk_line line[V][2];
                QK_UNROLL
                for (int v = 0; v < N; v++) {
                    qk_raw raw[2];
                    qk_unpack(f, w + v / QK_SPLIT * s->panel_bytes, pair, v % QK_SPLIT * QK_LINE_BYTES, raw);
                    line[v][0] = qk_line_of(f, raw[0]), line[v][1] = qk_line_of(f, raw[1]);
                }
                QK_UNROLL
                for (int t = 0; t < T; t++) {
                    const int8_t *four = x.x + t * x_step + pair * 8;
                    QK_UNROLL
                    for (int v = 0; v < N; v++)
                        dot[t][v] = qk_dot_pair(f, dot[t][v], line[v], four);
                }
            }
            qk_scales scales[V];
            vf away[V];
            QK_UNROLL
            for (int v = 0; v < N; v++) {
                scales[v] = qk_scales_of(f, wide, s, b, part, v / QK_SPLIT, v % QK_SPLIT * V_LANES);
                away[v] = v_mul(scales[v].d, v_set1(-12582912.0f));
            }
            QK_UNROLL
            for (int t = 0; t < T; t++) {
                float d = qk_read_f32(x.d + t * d_step), all = 0;
                if (f.mins)
                    all = wide ? qk_read_f32(x.sum + t * QK_STRETCH * 8 + part * 4) : d * (float)qk_part_sum(f, &x, t, part);
                QK_UNROLL
                for (int v = 0; v < N; v++) {
                    vf scaled = v_fma(qk_dot_done(f, dot[t][v], start[t]), scales[v].d, away[v]);
                    sum[t][v] = v_fma(scaled, v_set1(d), sum[t][v]);
                    if (f.mins)
                        sum[t][v] = v_fnma(scales[v].m, v_set1(all), sum[t][v]);
                }
            }
        }
        x.x += QK_BLOCK;
        x.d += 4;
        x.sum += wide ? f.parts * 4 : 8;
        x.start += wide ? f.parts * 4 : 0;
    }
    QK_UNROLL
    for (int t = 0; t < T; t++) {
        QK_UNROLL
        for (int v = 0; v < N; v++)
            v_store(s->y + t * s->y_stride + v * V_LANES, sum[t][v]);
    }
}

typedef void (*qk_tile_fn)(const qk_stretch *s, const qk_source *from);

/* ---- many tokens ---- */

/* A stretch of QK_PANELS panels as bytes and floats, and a chunk's activations for it, token by token. */
typedef struct qk_work {
    uint8_t quants[QK_PANELS][QK_STRETCH * QK_PANEL_ROWS * QK_BLOCK];
    float scales[QK_PANELS * QK_STRETCH * QK_PANEL_ROWS * 4];
    int8_t x[QK_CHUNK][QK_STRETCH * QK_BLOCK];
    float d[QK_CHUNK][QK_STRETCH];
    int32_t start[QK_CHUNK][QK_STRETCH * 2];
    float sum[QK_CHUNK][QK_STRETCH * 2];
} qk_work;
_Static_assert(sizeof(qk_work) <= QK_MATMUL_SCRATCH, "what callers give");

QK_INLINE qk_source qk_gathered(const qk_work *work, int64_t token)
{
    return (qk_source){.x = work->x[token],
                       .d = (const char *)work->d[token],
                       .sum = (const char *)work->sum[token],
                       .start = (const char *)work->start[token]};
}

/* A token's row for a stretch: by vectors, as planes are padded to 64 bytes; memcpy takes longer to begin than this to end. */
QK_INLINE void qk_gather(const qk_format f, qk_work *work, int64_t token, const char *row, int64_t k, int64_t block, int64_t blocks)
{
    const int32_t *sums = (const int32_t *)(const void *)(row + qk_act_sum(k)) + 2 * block;
    int32_t sum[QK_STRETCH * 2], *start = work->start[token];
    float *d = work->d[token];
    for (int64_t i = 0; i < blocks * QK_BLOCK; i += QK_LINE_BYTES)
        qk_raw_store((uint8_t *)work->x[token] + i, qk_raw_load((const uint8_t *)row + block * QK_BLOCK + i));
    for (int64_t i = 0; i < blocks; i += V_LANES)
        v_store(d + i, v_load((const float *)(const void *)(row + qk_act_d(k)) + block + i));
    for (int64_t i = 0; i < blocks * f.parts; i++) {
        sum[i] = f.parts == 1 ? sums[2 * i] + sums[2 * i + 1] : sums[i];
        start[i] = QK_MAGIC - qk_bias(f) * sum[i];
    }
    for (int64_t i = 0; i < blocks * f.parts && f.mins; i++)
        work->sum[token][i] = d[i / f.parts] * (float)sum[i];
}

QK_INLINE void qk_widen_quants(const qk_format f, uint8_t *to, const uint8_t *packed)
{
    QK_UNROLL
    for (int i = 0; i < 4 * QK_SPLIT; i++) {
        const int pair = i / QK_SPLIT, byte = i % QK_SPLIT * QK_LINE_BYTES;
        qk_raw raw[2];
        qk_unpack(f, packed, pair, byte, raw);
        qk_raw_store(to + pair * 128 + byte, raw[0]);
        qk_raw_store(to + pair * 128 + 64 + byte, raw[1]);
    }
}

/* Elements of panel `panel` of a tile to bytes, unless they are, and scales to floats. */
QK_INLINE void qk_widen(const qk_format f, qk_work *work, const qk_stretch *packed, int panel)
{
    for (int64_t b = 0; b < packed->blocks; b++) {
        float *scales = work->scales + (b * QK_PANELS + panel) * qk_wide_floats(f);
        if (f.bits < 8)
            qk_widen_quants(f, work->quants[panel] + b * QK_PANEL_ROWS * QK_BLOCK, packed->quants + b * f.quant_bytes);
        QK_UNROLL
        for (int i = 0; i < f.parts * QK_SPLIT; i++) {
            const int part = i / QK_SPLIT, row = i % QK_SPLIT * V_LANES;
            qk_scales s = qk_scales_of(f, 0, packed, b, part, 0, row);
            float *to = scales + QK_PANEL_ROWS * part * (1 + f.mins) + row;
            v_store(to, s.d);
            if (f.mins)
                v_store(to + QK_PANEL_ROWS, s.m);
        }
    }
}

/* ---- calls ---- */

/* A stretch of panel `panel` of the call. */
QK_INLINE qk_stretch qk_stretch_at(const qk_format f, const qk_matmul_args *a, int64_t panel, int64_t block, int64_t blocks)
{
    const uint8_t *w = (const uint8_t *)a->w + (uint64_t)panel * qk_panel_bytes(f.format, a->k);
    return (qk_stretch){.quants = w + block * f.quant_bytes,
                        .scales = w + qk_panel_scales(f.format, a->k) + block / (f.unit / QK_BLOCK) * f.record,
                        .panel_bytes = (int64_t)qk_panel_bytes(f.format, a->k),
                        .blocks = blocks,
                        .y = a->y + panel * QK_PANEL_ROWS,
                        .y_stride = a->y_stride,
                        .add = block > 0};
}

/* Few tokens: panels one after another from `panel` on, activations where they are. */
QK_INLINE void qk_panels_in_place(const qk_format f, const qk_matmul_args *a, const qk_tile_fn *tiles, int64_t panel, int64_t panels)
{
    int64_t rounds = (a->tokens + QK_IN_PLACE - 1) / QK_IN_PLACE;
    for (int64_t round = 0; round < rounds; round++) {
        int64_t token = a->tokens * round / rounds, tokens = a->tokens * (round + 1) / rounds - token;
        const char *x = (const char *)a->x + token * a->x_stride;
        qk_source from = {.x = (const int8_t *)x, .d = x + qk_act_d(a->k), .sum = x + qk_act_sum(a->k), .step = a->x_stride};
        for (int64_t p = panel; p < panels; p++) {
            qk_stretch s = qk_stretch_at(f, a, p, 0, a->k / QK_BLOCK);
            s.y += token * a->y_stride;
            tiles[tokens](&s, &from);
        }
    }
}

/* A piece of work for many tokens: QK_PANELS panels from `panel` on, a stretch of K, a chunk of tokens, which are gathered. */
typedef struct qk_piece {
    int64_t panel, block, blocks, token, tokens;
} qk_piece;

/* next: what comes after this one, and is fetched meanwhile. */
QK_INLINE void qk_strip(const qk_format f, const qk_matmul_args *a, const qk_tile_fn *tiles, const qk_piece *p, const qk_piece *next)
{
    qk_work *work = a->scratch;
    const int64_t rounds = (p->tokens + QK_TOKENS - 1) / QK_TOKENS, panel_bytes = (int64_t)qk_panel_bytes(f.format, a->k);
    const int64_t part = QK_PANELS * f.quant_bytes * p->blocks / rounds; /* of what comes next, for each round */
    qk_stretch wide = qk_stretch_at(f, a, p->panel, p->block, p->blocks), after = qk_stretch_at(f, a, next->panel, next->block, 0);
    for (int i = 0; i < QK_PANELS; i++) {
        qk_stretch packed = qk_stretch_at(f, a, p->panel + i, p->block, p->blocks);
        qk_widen(f, work, &packed, i);
        for (int64_t j = 0; j < p->blocks * QK_BLOCK / f.unit * f.record; j += 64)
            __builtin_prefetch((const char *)after.scales + i * panel_bytes + j, 0, 2);
    }
    wide.quants = f.bits < 8 ? work->quants[0] : wide.quants;
    wide.panel_bytes = f.bits < 8 ? (int64_t)sizeof work->quants[0] : panel_bytes;
    wide.scales = work->scales;
    wide.ahead_step = (part / p->blocks + 63) / 64 * 64;
    float *y = wide.y;
    for (int64_t round = 0; round < rounds; round++) {
        int64_t before = p->tokens * round / rounds, T = p->tokens * (round + 1) / rounds - before, at = round * part;
        qk_source from = qk_gathered(work, before);
        wide.y = y + (p->token + before) * a->y_stride;
        wide.ahead = after.quants + at / (f.quant_bytes * p->blocks) * panel_bytes + at % (f.quant_bytes * p->blocks);
        tiles[T](&wide, &from);
    }
}

/* A chunk of tokens, one stretch of K, all panels that make whole tiles. */
QK_INLINE void qk_chunk(const qk_format f, const qk_matmul_args *a, const qk_tile_fn *tiles, int64_t panels, qk_piece p)
{
    for (int64_t t = 0; t < p.tokens; t++)
        qk_gather(f, a->scratch, t, (const char *)a->x + (p.token + t) * a->x_stride, a->k, p.block, p.blocks);
    for (; p.panel < panels; p.panel += QK_PANELS) {
        qk_piece next = p;
        next.panel += QK_PANELS;
        if (next.panel == panels && p.block + p.blocks < a->k / QK_BLOCK)
            next.panel = 0, next.block += p.blocks;
        qk_strip(f, a, tiles, &p, &next);
    }
}

QK_INLINE void qk_panels(const qk_format f, const qk_matmul_args *a, const qk_tile_fn *in_place, const qk_tile_fn *wide)
{
    int64_t panels = (a->rows + QK_PANEL_ROWS - 1) / QK_PANEL_ROWS, blocks = a->k / QK_BLOCK, done = panels / QK_PANELS * QK_PANELS;
    if (a->tokens <= QK_IN_PLACE || !a->scratch)
        done = 0;
    for (int64_t t = 0; t < a->tokens && done; t += QK_CHUNK) {
        int64_t tokens = a->tokens - t < QK_CHUNK ? a->tokens - t : QK_CHUNK;
        for (int64_t b = 0; b < blocks; b += QK_STRETCH)
            qk_chunk(f, a, wide, done, (qk_piece){0, b, blocks - b < QK_STRETCH ? blocks - b : QK_STRETCH, t, tokens});
    }
    qk_panels_in_place(f, a, in_place, done, panels);
}

/* ---- what is made of it ---- */

/* Wide stretches of several formats are alike. */
static const qk_format wide_plain = {.bits = 8, .most = 255, .parts = 1, .unit = QK_BLOCK};
static const qk_format wide_low = {.bits = 8, .most = 63, .parts = 1, .unit = QK_BLOCK};
static const qk_format wide_min = {.bits = 8, .most = 63, .parts = 1, .mins = 1, .unit = QK_BLOCK};
static const qk_format wide_two = {.bits = 8, .most = 63, .parts = 2, .unit = QK_BLOCK};
static const qk_format wide_two_plain = {.bits = 8, .most = 255, .parts = 2, .unit = QK_BLOCK};
static const qk_format wide_two_min = {.bits = 8, .most = 63, .parts = 2, .mins = 1, .unit = QK_BLOCK};

/* QK_IN_PLACE_TILES(X, name) and QK_WIDE_TILES(X, name) of the including file say X(name, T) for T = 1, 2, … */
#define QK_DEFINE_TILE(name, T, wide)                                                                                              \
    static void tile_##name##_##T(const qk_stretch *s, const qk_source *from) { qk_tile(name, T, wide, s, from); }
#define QK_DEFINE_IN_PLACE(name, T) QK_DEFINE_TILE(name, T, 0)
#define QK_DEFINE_WIDE(name, T) QK_DEFINE_TILE(name, T, 1)
#define QK_LIST_TILE(name, T) [T] = tile_##name##_##T,

#define QK_WIDE_KIND(name)                                                                                                         \
    QK_WIDE_TILES(QK_DEFINE_WIDE, name)                                                                                            \
    static const qk_tile_fn tiles_##name[QK_TOKENS + 1] = {NULL, QK_WIDE_TILES(QK_LIST_TILE, name)};
QK_WIDE_KIND(wide_plain)
QK_WIDE_KIND(wide_low)
QK_WIDE_KIND(wide_min)
QK_WIDE_KIND(wide_two)
QK_WIDE_KIND(wide_two_plain)
QK_WIDE_KIND(wide_two_min)

QK_INLINE const qk_tile_fn *qk_wide_tiles(const qk_format f)
{
    if (f.parts == 2)
        return f.mins ? tiles_wide_two_min : f.most <= wide_two.most ? tiles_wide_two : tiles_wide_two_plain;
    return f.mins ? tiles_wide_min : f.most <= wide_low.most ? tiles_wide_low : tiles_wide_plain;
}

#define QK_DEFINE_FORMAT(name, ...)                                                                                                \
    QK_PANEL_FORMAT_CONSTANT(name, __VA_ARGS__)                                                                                    \
    QK_IN_PLACE_TILES(QK_DEFINE_IN_PLACE, name)                                                                                    \
    static void matmul_##name(const qk_matmul_args *a)                                                                             \
    {                                                                                                                              \
        static const qk_tile_fn tiles[QK_IN_PLACE + 1] = {NULL, QK_IN_PLACE_TILES(QK_LIST_TILE, name)};                            \
        qk_panels(name, a, tiles, qk_wide_tiles(name));                                                                            \
    }
QK_PANEL_FORMATS(QK_DEFINE_FORMAT)

#define QK_MATMUL_PANEL_ROW(name, FORMAT, ...) table->matmul_panel[QP_FORMAT_##FORMAT] = matmul_##name;
#define QK_MATMUL_PANEL_ROWS(table) QK_PANEL_FORMATS(QK_MATMUL_PANEL_ROW)

#endif
