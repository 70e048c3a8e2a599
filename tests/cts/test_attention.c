/* SPDX-License-Identifier: MIT
 * Attention against the reference: head sizes, every ratio of grouped heads, cache formats, windows, soft caps, sinks, strides. */
#include "tests/cts/case.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { ROUNDS = 24 };

typedef struct options {
    qp_format format, v_format; /* v_format: of V where it is mixed */
    int window, softcap, sinks, v_differs, mixed;
    int no_numbers; /* some cells, which some rows do not see */
    int lengthy;    /* many cells and few rows */
    int64_t v_size; /* 0: any */
    float loud;     /* factor on the queries */
} options;

static int cache(cts_case *c, qp_format format, int64_t size, int64_t heads, int64_t cells)
{
    int v;
    if (cts_between(c->t, 0, 1)) { /* heads apart from each other: {size, cells} planes, as some engines keep the cache */
        int whole = case_tensor(c, format, size, cells, heads, SPACED);
        const qp_tensor *w = &c->tensors[whole].tensor;
        v = case_part(c, whole, 0, size, heads, cells, w->nb[2], w->nb[1]);
    } else {
        v = case_tensor(c, format, size, heads, cells, cts_between(c->t, 0, 1) ? SPACED : PLAIN);
    }
    case_fill(c, v, NORMAL);
    return v;
}

static void fill_positions(cts *t, int32_t *positions, int64_t rows, int64_t cells)
{
    int32_t start = (int32_t)cts_between(t, 0, cells > rows ? cells - rows : 0);
    for (int64_t r = 0; r < rows; r++)
        positions[r] = start + (int32_t)r;
    if (cts_between(t, 0, 3) == 0) /* not neighbours, some outside the cache */
        for (int64_t r = 0; r < rows; r++)
            positions[r] = (int32_t)cts_between(t, -2, cells + 2);
    if (cts_between(t, 0, 3) == 0)
        positions[0] = 0;
}

/* From a random cell on that most rows do not see; those that do give no numbers. */
static void spoil(cts_case *c, int cache, int64_t first)
{
    const qp_tensor *t = &c->tensors[cache].tensor;
    for (int64_t cell = first; cell < t->ne[2]; cell++)
        for (int64_t h = 0; h < t->ne[1]; h++)
            memset(c->image + t->offset + cell * t->nb[2] + h * t->nb[1], 0xff,
                   (size_t)(t->ne[0] / qk_block_elements(t->format) * qk_block_bytes(t->format)));
}

static int64_t any_size(cts *t, int blocks)
{
    static const int64_t plain_sizes[] = {1, 8, 16, 20, 64, 64, 80, 96, 112, 128, 256}, block_sizes[] = {32, 64, 96, 128, 256};
    return blocks ? block_sizes[cts_between(t, 0, 4)] : plain_sizes[cts_between(t, 0, 10)];
}

static int64_t any_cells(cts *t, options o, int64_t size)
{
    int64_t cells = o.lengthy ? cts_between(t, 600, 2500) : cts_between(t, 1, cts_between(t, 0, 2) ? 40 : 400);
    return !o.lengthy && size > 100 && cells > 130 ? 130 : cells;
}

static cts_case *attention_case(cts *t, options o, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    qp_format v_format = o.mixed ? o.v_format : o.format;
    int blocks = qk_block_elements(o.format) > 1, v_blocks = qk_block_elements(v_format) > 1;
    int64_t size = o.lengthy ? 64 : any_size(t, blocks || v_blocks), v_size = o.v_differs ? any_size(t, v_blocks) : size;
    v_size = o.v_size ? o.v_size : v_size;
    int wide = v_size > 256; /* fewer of everything else */
    int64_t kv_heads = cts_between(t, 1, wide ? 1 : o.lengthy ? 2 : 4), group = cts_between(t, 1, wide ? 3 : 8);
    int64_t heads = kv_heads * group, rows = o.lengthy || cts_between(t, 0, 1) ? 1 : cts_between(t, 2, wide ? 5 : 20),
            cells = any_cells(t, o, size > v_size ? size : v_size);
    int32_t positions[20];
    fill_positions(t, positions, rows, cells);
    int src[5] = {case_tensor(c, QP_FORMAT_F32, size, heads, rows, cts_between(t, 0, 1) ? SPACED : PLAIN),
                  cache(c, o.format, size, kv_heads, cells), cache(c, v_format, v_size, kv_heads, cells),
                  case_ints(c, positions, rows), -1};
    case_fill(c, src[0], NORMAL);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < heads; h++)
            for (int64_t i = 0; i < size; i++)
                case_floats(c, src[0], h, r)[i] *= o.loud;
    if (o.no_numbers) {
        int64_t first = cts_between(t, positions[0] < 0 || positions[0] >= cells ? 0 : positions[0] + 1, cells);
        spoil(c, src[QP_ATTENTION_K], first);
        spoil(c, src[QP_ATTENTION_V], first);
    }
    if (o.sinks)
        case_fill(c, src[QP_ATTENTION_SINKS] = case_tensor(c, QP_FORMAT_F32, heads, 1, 1, PLAIN), NORMAL);
    *dst = case_tensor(c, QP_FORMAT_F32, v_size, heads, rows, cts_between(t, 0, 1) ? SPACED : PLAIN);
    qp_op *op = case_op(c, QP_OP_ATTENTION, *dst, src, 5);
    op->p.attention.scale = (float)(1 / sqrt((double)size));
    op->p.attention.softcap = o.softcap ? 20 : 0;
    op->p.attention.window = o.window ? (uint32_t)cts_between(t, 1, cells + 3) : 0;
    case_random_live(c, rows);
    return c;
}

static void attention_point(cts *t, options o, double bound, int required, const char *what)
{
    tally y = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        int dst = 0;
        cts_case *c = attention_case(t, o, &dst);
        tally_case(&y, c, dst, bound, 0);
    }
    tally_point(t, &y, required, "%s cache%s", format_name(o.format), what);
}

void test_op_attention(cts *t)
{
    static const qp_format formats[] = {QP_FORMAT_F32, QP_FORMAT_F16, QP_FORMAT_BF16, QP_FORMAT_Q8_0, QP_FORMAT_Q4_0};
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        qp_format format = formats[f];
        /* Devices may keep 16-bit queries and weights beside a 16-bit cache, and int8 queries beside a quantised one. */
        double bound = format == QP_FORMAT_F32 ? 1e-9 : format == QP_FORMAT_F16 ? 2e-6 : format == QP_FORMAT_BF16 ? 3e-5 : 1e-4;
        int required = format != QP_FORMAT_Q4_0;
        attention_point(t, (options){.format = format, .loud = 1}, bound, required, "");
        attention_point(t, (options){.format = format, .window = 1, .loud = 1}, bound, required, ", window");
        attention_point(t, (options){.format = format, .softcap = 1, .loud = 1}, bound, required, ", soft cap");
        attention_point(t, (options){.format = format, .sinks = 1, .loud = 1}, bound, required, ", sinks");
        attention_point(t, (options){.format = format, .v_differs = 1, .loud = 1}, bound, 0, ", K and V sizes that differ");
        attention_point(t, (options){.format = format, .window = 1, .softcap = 1, .sinks = 1, .loud = 2}, 4 * bound, required,
                        ", window, soft cap and sinks together");
    }
}

void test_op_attention_long(cts *t)
{
    static const qp_format formats[] = {QP_FORMAT_F32, QP_FORMAT_F16, QP_FORMAT_Q8_0};
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        double bound = formats[f] == QP_FORMAT_F32 ? 1e-9 : formats[f] == QP_FORMAT_F16 ? 2e-6 : 1e-4;
        attention_point(t, (options){.format = formats[f], .lengthy = 1, .loud = 1}, bound, 1, ", many cells");
        attention_point(t, (options){.format = formats[f], .lengthy = 1, .window = 1, .sinks = 1, .loud = 1}, bound, 1,
                        ", many cells, window and sinks");
    }
    attention_point(t, (options){.format = QP_FORMAT_F32, .v_size = 1100, .loud = 1}, 1e-9, 1, ", values of 1100 features");
    attention_point(t, (options){.format = QP_FORMAT_Q8_0, .v_size = 1056, .loud = 1}, 1e-4, 1, ", values of 1056 features");
}

/* A cache of K in one format and of V in another need not be served. */
void test_op_attention_mixed(cts *t)
{
    static const qp_format formats[][2] = {{QP_FORMAT_Q8_0, QP_FORMAT_F16},
                                           {QP_FORMAT_F16, QP_FORMAT_Q8_0},
                                           {QP_FORMAT_Q8_0, QP_FORMAT_Q4_0},
                                           {QP_FORMAT_F32, QP_FORMAT_BF16}};
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        char what[64];
        snprintf(what, sizeof what, " of K and %s cache of V", format_name(formats[f][1]));
        attention_point(t, (options){.format = formats[f][0], .v_format = formats[f][1], .mixed = 1, .loud = 1}, 1e-4, 0, what);
    }
}

void test_op_attention_unseen(cts *t)
{
    static const qp_format formats[] = {QP_FORMAT_F32, QP_FORMAT_F16, QP_FORMAT_BF16, QP_FORMAT_Q8_0, QP_FORMAT_Q4_0};
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
        attention_point(t, (options){.format = formats[f], .no_numbers = 1, .loud = 1}, 1e-4, formats[f] != QP_FORMAT_Q4_0,
                        ", no numbers in cells that some rows do not see");
}

void test_op_attention_extreme(cts *t)
{
    attention_point(t, (options){.format = QP_FORMAT_F32, .loud = 300}, 1e-7, 1, ", scores of some hundred");
    attention_point(t, (options){.format = QP_FORMAT_F16, .loud = 30}, 1e-3, 1, ", scores of some ten");
    attention_point(t, (options){.format = QP_FORMAT_F32, .loud = 0}, 1e-9, 1, ", scores all zero");
    attention_point(t, (options){.format = QP_FORMAT_F32, .loud = 300, .softcap = 1, .sinks = 1}, 1e-7, 1,
                    ", loud, capped, with sinks");
}
