/* SPDX-License-Identifier: MIT
 * What kernels are tested on: shapes with tails in every dimension, and values. Small, because the reference computes them, too. */
#include "backends/vulkan/selftest.h"
#include "kernels/common/formats.h"
#include "kernels/ref/ref.h"

#include <math.h>
#include <string.h>

/* ---- shapes ---- */

static void set(qp_tensor *t, int64_t ne0, int64_t ne1, int64_t ne2)
{
    t->ne[0] = ne0;
    t->ne[1] = ne1;
    t->ne[2] = ne2;
    t->ne[3] = 1;
}

static void set_present(qp_tensor *t, int64_t ne0, int64_t ne1, int64_t ne2)
{
    if (qv_present(t))
        set(t, ne0, ne1, ne2);
}

static void add(qp_tensor *t, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2)
{
    *t = (qp_tensor){.format = format};
    set(t, ne0, ne1, ne2);
}

static int64_t at_most(int64_t n, int64_t most)
{
    return n < most ? n : most;
}

/* n or a little more, in whole blocks of both formats */
static int64_t whole(int64_t n, qp_format a, qp_format b)
{
    int64_t elements = qk_block_elements(a) > qk_block_elements(b) ? qk_block_elements(a) : qk_block_elements(b);
    return (n + elements - 1) / elements * elements;
}

/* Rows of activations: one, a few, and so many that tiles are filled and one is not. */
static const int64_t row_counts[] = {1, 5, 2, 67, 1, 19};
enum { ROW_COUNTS = sizeof row_counts / sizeof *row_counts };

/* {K, M, rows}; K 0: that of the op. Those behind the first eight are for kernels that take whole tiles only. */
static const int64_t products[][3] = {{256, 37, 1},   {96, 139, 67},  {768, 37, 3},   {0, 9, 1},     {67, 70, 9},  {0, 35, 5},
                                      {32, 133, 130}, {512, 256, 19}, {256, 128, 64}, {0, 128, 128}, {0, 64, 1024}};
enum { PRODUCTS = sizeof products / sizeof *products, SPARE_PRODUCTS = 8, LONGEST_K = 4096 };

static int64_t k_of(const qp_tensor *w, int64_t k)
{
    return k ? whole(k, w->format, w->format) : at_most(w->ne[0], LONGEST_K);
}

static int shape_matmul(uint32_t i, qp_op *op, int *spare)
{
    if (i >= PRODUCTS)
        return 0;
    *spare = i >= SPARE_PRODUCTS;
    int64_t k = k_of(&op->src[QP_MATMUL_W], products[i][0]), m = products[i][1], rows = products[i][2];
    set(&op->src[QP_MATMUL_W], k, m, 1);
    set_present(&op->src[QP_MATMUL_W2], k, m, 1);
    set(&op->src[QP_MATMUL_X], k, 1, rows);
    set(&op->dst, m, 1, rows);
    if (i % 2) { /* with all that an epilogue can have */
        add(&op->src[QP_MATMUL_BIAS], QP_FORMAT_F32, m, 1, 1);
        add(&op->src[QP_MATMUL_RESIDUAL], QP_FORMAT_F32, m, 1, rows);
        if (qv_present(&op->src[QP_MATMUL_W2]))
            add(&op->src[QP_MATMUL_BIAS2], QP_FORMAT_F32, m, 1, 1);
        op->p.matmul.scale = 0.5f;
        op->p.matmul.scale2 = 2;
        op->p.matmul.bias_scale = op->p.matmul.bias_scale2 = 3;
        op->p.matmul.act = QP_ACT_SILU;
    } else {
        set_present(&op->src[QP_MATMUL_BIAS], m, 1, 1);
        set_present(&op->src[QP_MATMUL_BIAS2], m, 1, 1);
        set_present(&op->src[QP_MATMUL_RESIDUAL], m, 1, rows);
    }
    return 1;
}

static int shape_expert_matmul(uint32_t i, qp_op *op, int *spare)
{
    enum { MANY_ROWS = 40 };
    if (i >= PRODUCTS)
        return 0;
    *spare = i >= SPARE_PRODUCTS;
    qp_tensor *src = op->src;
    int sum = (op->p.expert_matmul.flags & QP_EXPERT_SUM) != 0, many = src[QP_EXPERT_MATMUL_X].ne[1] > 1;
    int64_t k = k_of(&src[QP_EXPERT_MATMUL_W], products[i][0]), m = at_most(products[i][1], 70),
            rows = at_most(products[i][2], MANY_ROWS);
    int64_t chosen = at_most(src[QP_EXPERT_MATMUL_ROUTE].ne[0], 1 + i % 4), experts = 5;
    if (rows == MANY_ROWS && products[i][2] > 128) { /* many tokens to an expert */
        experts = 2;
        chosen = at_most(chosen, 2);
        rows = 70;
    }
    if (*spare) {
        chosen = src[QP_EXPERT_MATMUL_ROUTE].ne[0];
        experts = src[QP_EXPERT_MATMUL_W].ne[2];
    }
    set(&src[QP_EXPERT_MATMUL_W], k, m, experts);
    set_present(&src[QP_EXPERT_MATMUL_W2], k, m, experts);
    set(&src[QP_EXPERT_MATMUL_X], k, many ? chosen : 1, rows);
    set(&src[QP_EXPERT_MATMUL_ROUTE], chosen, 2, rows);
    set_present(&src[QP_EXPERT_MATMUL_BIAS], m, experts, 1);
    set_present(&src[QP_EXPERT_MATMUL_BIAS2], m, experts, 1);
    set_present(&src[QP_EXPERT_MATMUL_SCALES], experts, 1, 1);
    set_present(&src[QP_EXPERT_MATMUL_RESIDUAL], m, 1, rows);
    set(&op->dst, m, sum ? 1 : chosen, rows);
    return 1;
}

/* {cells, rows}; the heads of one or two KV heads. The spare ones: tiles of as many rows as there may be, of cells that are not cut
 * into parts, and as many cells as there are, which may be cut by the time they take. */
static int shape_attention(uint32_t i, qp_op *op, int *spare)
{
    static const int64_t sizes[][2] = {{37, 1},  {70, 19}, {9, 2},    {1100, 1}, {39, 66}, {300, 3}, {100, 2},
                                       {100, 4}, {100, 8}, {100, 16}, {100, 32}, {0, 1},   {0, 64}};
    enum { COUNT = sizeof sizes / sizeof *sizes, SPARE = 6 };
    if (i >= COUNT)
        return 0;
    *spare = i >= SPARE;
    qp_tensor *q = &op->src[QP_ATTENTION_Q], *k = &op->src[QP_ATTENTION_K], *v = &op->src[QP_ATTENTION_V];
    int64_t group = q->ne[1] / k->ne[1], kv_heads = sizes[i][1] > 5 ? 1 : at_most(k->ne[1], 2), rows = sizes[i][1];
    int64_t cells = sizes[i][0] ? sizes[i][0] : at_most(k->ne[2], 4096);
    set(q, q->ne[0], group * kv_heads, rows);
    set(k, k->ne[0], kv_heads, cells);
    set(v, v->ne[0], kv_heads, cells);
    set(&op->src[QP_ATTENTION_POSITIONS], rows, 1, 1);
    set_present(&op->src[QP_ATTENTION_SINKS], group * kv_heads, 1, 1);
    set(&op->dst, v->ne[0], group * kv_heads, rows);
    if (op->p.attention.window && i % 2)
        op->p.attention.window = 11;
    return 1;
}

/* Ops that go through rows one by one: the row counts above, and whole widths as well as narrow ones. */
static int shape_rows(uint32_t i, qp_op *op, int *spare)
{
    if (i >= ROW_COUNTS)
        return 0;
    qp_tensor *src = op->src;
    int64_t rows = row_counts[i], n = src[0].ne[0], heads = at_most(src[0].ne[1], 3);
    *spare = 0;
    switch (op->kind) {
    case QP_OP_NORM:
        n = i % 2 ? at_most(n, 67) : at_most(n, 8192);
        set(&src[QP_NORM_X], n, heads, at_most(rows, 9));
        set_present(&src[QP_NORM_WEIGHT], n, 1, 1);
        set_present(&src[QP_NORM_BIAS], n, 1, 1);
        break;
    case QP_OP_ROPE:
        set(&src[QP_ROPE_X], n, heads, at_most(rows, 19));
        set(&src[QP_ROPE_POSITIONS], at_most(rows, 19), 1, 1);
        break;
    case QP_OP_ELEMENTWISE:
        n = i % 2 ? at_most(n, 67) : at_most(n, 1000);
        set(&src[QP_ELEMENTWISE_A], n, heads, rows);
        set_present(&src[QP_ELEMENTWISE_B], n, heads, src[QP_ELEMENTWISE_B].ne[2] > 1 ? rows : 1);
        break;
    case QP_OP_COPY: set(&src[0], whole(i % 2 ? 67 : 300, src[0].format, op->dst.format), heads, rows); break;
    default: return 0;
    }
    set(&op->dst, src[0].ne[0], src[0].ne[1], src[0].ne[2]);
    return 1;
}

static int shape_kv_append(uint32_t i, qp_op *op, int *spare)
{
    qp_tensor *x = &op->src[QP_KV_APPEND_X];
    *spare = 0;
    set(x, x->ne[0], at_most(x->ne[1], 3), row_counts[i]);
    set(&op->src[QP_KV_APPEND_CELLS], row_counts[i], 1, 1);
    set(&op->dst, x->ne[0], x->ne[1], 71);
    return 1;
}

static int shape_get_rows(uint32_t i, qp_op *op, int *spare)
{
    qp_tensor *table = &op->src[QP_GET_ROWS_TABLE];
    *spare = 0;
    int64_t n = i % 2 ? at_most(table->ne[0], 2048) : whole(67, table->format, table->format);
    set(table, n, 9, 1);
    set(&op->src[QP_GET_ROWS_IDS], row_counts[i], 1, 1);
    set(&op->dst, n, 1, row_counts[i]);
    return 1;
}

static int shape_sample(uint32_t i, qp_op *op, int *spare)
{
    *spare = 0;
    set(&op->src[0], i % 2 ? 67 : 5003, 1, at_most(row_counts[i], 5));
    set(&op->dst, at_most(row_counts[i], 5), 1, 1);
    return 1;
}

static int shape_expert_route(uint32_t i, qp_op *op, int *spare)
{
    *spare = 0;
    set(&op->src[QP_EXPERT_ROUTE_LOGITS], op->src[QP_EXPERT_ROUTE_LOGITS].ne[0], 1, row_counts[i]);
    set(&op->dst, op->dst.ne[0], 2, row_counts[i]);
    return 1;
}

static int shape_short_conv(uint32_t i, qp_op *op, int *spare)
{
    int64_t channels = i % 2 ? 67 : 300, rows = row_counts[i];
    *spare = 0;
    set(&op->src[QP_SHORT_CONV_X], channels, 1, rows);
    set(&op->src[QP_SHORT_CONV_W], op->src[QP_SHORT_CONV_W].ne[0], channels, 1);
    set_present(&op->src[QP_SHORT_CONV_BIAS], channels, 1, 1);
    set(&op->src[QP_SHORT_CONV_POSITIONS], rows, 1, 1);
    set(&op->src[QP_SHORT_CONV_STATE], channels, op->src[QP_SHORT_CONV_STATE].ne[1], 1);
    set(&op->dst, channels, 1, rows);
    return 1;
}

static int shape_delta_rule(uint32_t i, qp_op *op, int *spare)
{
    qp_tensor *src = op->src, *q = &src[QP_DELTA_RULE_Q], *v = &src[QP_DELTA_RULE_V];
    int64_t group = v->ne[1] / q->ne[1], heads = at_most(q->ne[1], 2), rows = at_most(row_counts[i], 19);
    *spare = 0;
    set(q, q->ne[0], heads, rows);
    set(&src[QP_DELTA_RULE_K], q->ne[0], heads, rows);
    set(v, v->ne[0], group * heads, rows);
    set(&src[QP_DELTA_RULE_GATE], group * heads, 1, rows);
    set(&src[QP_DELTA_RULE_BETA], group * heads, 1, rows);
    set(&src[QP_DELTA_RULE_POSITIONS], rows, 1, 1);
    set(&src[QP_DELTA_RULE_STATE], v->ne[0], q->ne[0], group * heads);
    set(&op->dst, v->ne[0], group * heads, rows);
    return 1;
}

int qv_test_shape(const qp_op *like, uint32_t i, qp_op *out, int *spare)
{
    int there = i < ROW_COUNTS;
    *out = *like;
    for (int s = 0; s < QP_OP_SOURCES; s++) {
        out->src[s].buffer = NULL;
        out->src[s].offset = 0;
    }
    out->dst.buffer = NULL;
    out->dst.offset = 0;
    switch (like->kind) {
    case QP_OP_MATMUL: there = shape_matmul(i, out, spare); break;
    case QP_OP_EXPERT_MATMUL: there = shape_expert_matmul(i, out, spare); break;
    case QP_OP_ATTENTION: there = shape_attention(i, out, spare); break;
    case QP_OP_GET_ROWS: there = there && shape_get_rows(i, out, spare); break;
    case QP_OP_KV_APPEND: there = there && shape_kv_append(i, out, spare); break;
    case QP_OP_SAMPLE: there = there && shape_sample(i, out, spare); break;
    case QP_OP_EXPERT_ROUTE: there = there && shape_expert_route(i, out, spare); break;
    case QP_OP_SHORT_CONV: there = there && shape_short_conv(i, out, spare); break;
    case QP_OP_DELTA_RULE: there = there && shape_delta_rule(i, out, spare); break;
    default: there = shape_rows(i, out, spare); break;
    }
    out->live = (qp_tensor){0};
    if (there && i % 2 && qv_rows(out) > 1)
        add(&out->live, QP_FORMAT_I32, 1, 1, 1);
    return there;
}

/* ---- values ---- */

static uint64_t next(qv_random *r)
{
    /* xorshift64* (Vigna 2016, arXiv:1402.6246) */
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * 0x2545f4914f6cdd1du;
}

/* Bell-shaped, with a variance of 1: the sum of four even ones. */
static float number(qv_random *r)
{
    uint64_t bits = next(r);
    int sum = (int)(bits & 0xffff) + (int)(bits >> 16 & 0xffff) + (int)(bits >> 32 & 0xffff) + (int)(bits >> 48);
    return (float)(sum - 131070) * (1.7320508f / 65536);
}

/* Random bytes until they mean numbers of a sensible size: for formats that are read but not written here. */
static void fill_raw_block(qp_format format, qv_random *r, uint8_t *block)
{
    float values[256];
    for (int tries = 0; tries < 1000; tries++) {
        for (uint32_t i = 0; i < qk_block_bytes(format); i++)
            block[i] = (uint8_t)(next(r) >> 56);
        float most = 0;
        if (qr_dequantise(format, block, values, qk_block_elements(format)))
            return;
        for (uint32_t i = 0; i < qk_block_elements(format); i++)
            most = fabsf(values[i]) <= 8 ? fmaxf(most, fabsf(values[i])) : INFINITY;
        if (most > 0.5f && most <= 8)
            return;
    }
    memset(block, 0, qk_block_bytes(format));
}

static void fill_blocks(qp_format format, qv_random *r, float scale, int64_t n, uint8_t *dst)
{
    float values[256];
    uint32_t elements = qk_block_elements(format), bytes = qk_block_bytes(format);
    for (int64_t i = 0; i < n; i += elements, dst += bytes) {
        for (uint32_t j = 0; j < elements; j++)
            values[j] = scale * number(r);
        if (format == QP_FORMAT_F32)
            memcpy(dst, values, bytes);
        else if (qr_quantise(format, values, dst, elements))
            fill_raw_block(format, r, dst);
    }
}

/* Positions, cells, ids: in order, with one that is outside where an op says what that means. */
static void fill_whole_numbers(const qp_op *op, int64_t n, uint8_t *dst)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t value = i;
        switch (op->kind) {
        case QP_OP_GET_ROWS: value = i * 7 % (op->src[QP_GET_ROWS_TABLE].ne[1] + 2) - 1; break;
        case QP_OP_ROPE: value = i % 2 ? i * 4099 : i; break;
        case QP_OP_KV_APPEND: value = (i * 10 + 3) % op->dst.ne[2]; break; /* 71 cells, all different ones */
        case QP_OP_ATTENTION: value = op->src[QP_ATTENTION_K].ne[2] - n + i; break;
        case QP_OP_SHORT_CONV:
        case QP_OP_DELTA_RULE: value = n > 5 && i >= n / 2 ? i - n / 2 : i + 3; break; /* a sequence begins in the middle */
        default: break;
        }
        if (op->kind == QP_OP_ATTENTION && n > 4 && i % 4 == 2) /* one that sees little, one nothing, one all */
            value = i % 3 == 0 ? -1 : i % 3 == 1 ? i / 2 : op->src[QP_ATTENTION_K].ne[2] + 1;
        if (op->kind == QP_OP_KV_APPEND && n > 4 && i == 1)
            value = op->dst.ne[2];
        memcpy(dst + 4 * i, &(int32_t){(int32_t)value}, 4);
    }
}

/* A row's experts: different ones, and one that is not there. */
static int64_t expert_of(const qp_op *op, int64_t i, int64_t row)
{
    int64_t experts = op->src[QP_EXPERT_MATMUL_W].ne[2];
    return row % 5 == 3 && i == 1 ? experts + 1 : (i + row) % experts;
}

static void fill_floats(const qp_op *op, int s, int64_t i1, int64_t i2, qv_random *r, int64_t n, float *dst)
{
    for (int64_t i = 0; i < n; i++) {
        float x = number(r);
        if (op->kind == QP_OP_EXPERT_MATMUL && s == QP_EXPERT_MATMUL_ROUTE)
            x = i1 == 1 ? (float)expert_of(op, i, i2) : 0.5f + 0.1f * x;
        else if (op->kind == QP_OP_DELTA_RULE && s == QP_DELTA_RULE_GATE)
            x = -0.1f * fabsf(x);
        else if (op->kind == QP_OP_DELTA_RULE && s == QP_DELTA_RULE_BETA)
            x = 0.5f + 0.1f * x;
        else if (op->kind == QP_OP_DELTA_RULE && s == QP_DELTA_RULE_K) /* keys have a length of about 1 */
            x /= sqrtf((float)n);
        else if (op->kind == QP_OP_NORM && s == QP_NORM_X)
            x += 0.5f;
        else if (op->kind == QP_OP_ROPE && s == QP_ROPE_FACTORS)
            x = 1.5f + 0.2f * x;
        dst[i] = x;
    }
}

void qv_test_fill(const qp_op *op, int source, int64_t i1, int64_t i2, qv_random *random, void *dst)
{
    const qp_tensor *t = &op->src[source];
    if (t->format == QP_FORMAT_I32)
        fill_whole_numbers(op, t->ne[0], dst);
    else if (t->format == QP_FORMAT_F32)
        fill_floats(op, source, i1, i2, random, t->ne[0], dst);
    else
        fill_blocks(t->format, random, 1, t->ne[0], dst);
}

/* ---- bounds ---- */

/* What conversions of activations to the weights' own precision may cost, and some. */
static double bound_of(qp_format format)
{
    switch (format) {
    case QP_FORMAT_F32:
    case QP_FORMAT_I32: return 1e-8;
    case QP_FORMAT_F16: return 1e-5;
    case QP_FORMAT_BF16: return 4e-5;
    default: return 4e-4;
    }
}

double qv_test_bound(const qp_op *op)
{
    double most = bound_of(op->dst.format);
    for (int s = 0; s < QP_OP_SOURCES; s++)
        if (qv_present(&op->src[s]))
            most = fmax(most, bound_of(op->src[s].format));
    return most;
}
