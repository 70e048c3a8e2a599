/* SPDX-License-Identifier: MIT
 * Programs of many ops: order, shared memory, shared scratch, the same result twice. */
#include "tests/cts/case.h"

#include <math.h>
#include <string.h>

enum { ROUNDS = 12, VALUES = 6, STEPS = 24 };

/* Random ops over a few values of one shape, so that results are overwritten while others still wait to read them unless the
 * device keeps the order. */
static cts_case *hazard_case(cts *t, int *last)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t n = cts_between(t, 1, 5) * 16, rows = cts_between(t, 1, 5);
    int v[VALUES], w = case_tensor(c, QP_FORMAT_F32, n, n, 1, PLAIN), norm = case_tensor(c, QP_FORMAT_F32, n, 1, 1, PLAIN);
    case_fill(c, w, SMALL);
    case_fill(c, norm, NORMAL);
    for (int i = 0; i < VALUES; i++)
        case_fill(c, v[i] = case_tensor(c, QP_FORMAT_F32, n, 1, rows, cts_between(t, 0, 1) ? SPACED : PLAIN), NORMAL);
    for (int i = 0; i < STEPS; i++) {
        int a = v[cts_between(t, 0, VALUES - 1)], b = v[cts_between(t, 0, VALUES - 1)], d = v[cts_between(t, 0, VALUES - 1)];
        qp_op *op;
        *last = d;
        switch (cts_between(t, 0, 4)) {
        case 0:
            op = case_op(c, QP_OP_NORM, d, (int[]){a, norm}, 2);
            op->p.norm = (qp_norm_params){.kind = QP_NORM_RMS, .eps = 1e-5f};
            break;
        case 1:
            if (a == d) /* not in place */
                a = a == v[0] ? v[1] : v[0];
            op = case_op(c, QP_OP_MATMUL, d, (int[]){w, a, -1, cts_between(t, 0, 1) ? b : -1}, 4);
            op->p.matmul = (qp_matmul_params){.scale = 1};
            break;
        case 2:
            if (a == d)
                a = a == v[0] ? v[1] : v[0];
            case_op(c, QP_OP_COPY, d, &a, 1);
            break;
        default:
            op = case_op(c, QP_OP_ELEMENTWISE, d, (int[]){a, b}, 2);
            op->p.elementwise = (qp_elementwise_params){.function = QP_ELEMENTWISE_ADD};
            break;
        }
        if (cts_between(t, 0, 5) == 0)
            case_random_live(c, rows);
    }
    return c;
}

void test_program_hazards(cts *t)
{
    tally once = {0}, again = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        int last = 0;
        cts_case *c = hazard_case(t, &last);
        tally_case(&once, c, last, 1e-9, 0);
        c = hazard_case(t, &last);
        if (c)
            c->runs = 3;
        tally_case(&again, c, last, 1e-8, 0);
    }
    tally_point(t, &once, 1, "chains of %d dependent ops over %d values", STEPS, VALUES);
    tally_point(t, &again, 1, "the same, run three times in a row");
}

/* Products of the same x one after the other, which a device may convert once for all of them, until something changes it or, by
 * sampling, how many of its rows are live. */
static cts_case *same_x_case(cts *t, int *dst)
{
    enum { PRODUCTS = 9, XS = 2, LIVE_MOST = 3 };
    static const qp_format formats[] = {QP_FORMAT_Q8_0, QP_FORMAT_Q4_K};
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t k = 256 * cts_between(t, 1, 2), m = cts_between(t, 1, 40), rows = cts_between(t, 0, 1) ? cts_between(t, 1, 4) : 67;
    int x[XS], w[2], more = case_tensor(c, QP_FORMAT_F32, k, 1, rows, PLAIN), which = 0;
    for (int i = 0; i < XS; i++)
        case_fill(c, x[i] = case_tensor(c, QP_FORMAT_F32, k, 1, rows, SPACED), NORMAL);
    for (int i = 0; i < 2; i++)
        w[i] = case_weight(c, formats[i], k, m, QP_WEIGHT_MATMUL);
    case_fill(c, more, NORMAL);
    int live = case_tensor(c, QP_FORMAT_I32, 1, 1, 1, PLAIN), logits[2];
    for (int i = 0; i < 2; i++)
        case_fill(c, logits[i] = case_tensor(c, QP_FORMAT_F32, LIVE_MOST + 2, 1, 1, PLAIN), NORMAL);
    case_op(c, QP_OP_SAMPLE, live, &logits[0], 1);
    *dst = case_tensor(c, QP_FORMAT_F32, m * PRODUCTS, 1, rows, PLAIN);
    for (int i = 0; i < PRODUCTS; i++) {
        int part = case_part(c, *dst, (uint64_t)(i * m * 4), m, 1, rows, m * 4, m * PRODUCTS * 4);
        case_op(c, QP_OP_MATMUL, part, (int[]){w[cts_between(t, 0, 1)], x[which]}, 2)->p.matmul = (qp_matmul_params){.scale = 1};
        if (i % 3 != 0) {
            c->live[c->op_count - 1] = live;
            c->ops[c->op_count - 1].live = c->tensors[live].tensor;
        }
        if (i == PRODUCTS / 2)
            case_op(c, QP_OP_SAMPLE, live, &logits[1], 1);
        if (cts_between(t, 0, 2) == 0)
            case_op(c, QP_OP_ELEMENTWISE, x[which], (int[]){x[which], more}, 2)->p.elementwise.function = QP_ELEMENTWISE_ADD;
        if (cts_between(t, 0, 3) == 0)
            which = !which;
    }
    return c;
}

void test_program_same_x(cts *t)
{
    tally y = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        int dst = 0;
        cts_case *c = same_x_case(t, &dst);
        if (c)
            c->runs = 2;
        tally_case(&y, c, dst, 1e-6, 4);
    }
    tally_point(t, &y, 1, "products of one x, which changes now and then");
}

/* Queries, keys and values as columns of one projection's result: written apart, read together, and the other way round. */
static cts_case *views_case(cts *t, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t size = 4 * cts_between(t, 1, 20), heads = cts_between(t, 1, 6), kv = cts_between(t, 1, 2), rows = cts_between(t, 1, 7);
    int64_t wide = size * (heads + 2 * kv), row = wide * 4, k_in = cts_between(t, 3, 40);
    int x = case_tensor(c, QP_FORMAT_F32, k_in, 1, rows, SPACED), w = case_tensor(c, QP_FORMAT_F32, k_in, wide, 1, PLAIN);
    int qkv = case_tensor(c, QP_FORMAT_F32, wide, 1, rows, PLAIN);
    int32_t positions[7];
    for (int i = 0; i < 7; i++)
        positions[i] = (int32_t)cts_between(t, 0, 100);
    case_fill(c, x, NORMAL);
    case_fill(c, w, NORMAL);
    int at = case_ints(c, positions, rows);
    int q = case_part(c, qkv, 0, size, heads, rows, size * 4, row);
    int k = case_part(c, qkv, (uint64_t)(size * heads * 4), size, kv, rows, size * 4, row);
    int v = case_part(c, qkv, (uint64_t)(size * (heads + kv) * 4), size * kv, 1, rows, size * kv * 4, row);
    int k_flat = case_part(c, qkv, (uint64_t)(size * heads * 4), size * kv, 1, rows, size * kv * 4, row);
    *dst = case_tensor(c, QP_FORMAT_F32, wide, 1, rows, SPACED);
    case_op(c, QP_OP_MATMUL, qkv, (int[]){w, x}, 2)->p.matmul = (qp_matmul_params){.scale = 1};
    qp_rope_params rope = {.mode = QP_ROPE_NEOX, .n_dims = (uint32_t)size, .freq_base = 10000, .freq_scale = 1, .attn_factor = 1};
    case_op(c, QP_OP_ROPE, q, (int[]){q, at}, 2)->p.rope = rope;
    case_op(c, QP_OP_ROPE, k, (int[]){k, at}, 2)->p.rope = rope;
    case_op(c, QP_OP_ELEMENTWISE, v, (int[]){v, k_flat}, 2)->p.elementwise.function = QP_ELEMENTWISE_ADD;
    case_op(c, QP_OP_COPY, *dst, &qkv, 1);
    return c;
}

void test_program_views(cts *t)
{
    tally y = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        int dst = 0;
        cts_case *c = views_case(t, &dst);
        tally_case(&y, c, dst, 1e-8, 0);
    }
    tally_point(t, &y, 1, "columns of one result changed in place, then read as a whole");
}

/* A chain whose middle values lie in the transient range: the result must be right, the middle may hold anything. */
static cts_case *transient_case(cts *t, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t n = 32 * cts_between(t, 1, 5), m = cts_between(t, 1, 80), rows = cts_between(t, 1, 6);
    int x = case_tensor(c, QP_FORMAT_F32, n, 1, rows, PLAIN), norm = case_tensor(c, QP_FORMAT_F32, n, 1, 1, PLAIN);
    int w = case_tensor(c, QP_FORMAT_F32, n, m, 1, PLAIN);
    case_fill(c, x, NORMAL);
    case_fill(c, norm, NORMAL);
    case_fill(c, w, SMALL);
    *dst = case_tensor(c, QP_FORMAT_F32, m, 1, rows, PLAIN);
    int a = case_tensor(c, QP_FORMAT_F32, n, 1, rows, PLAIN), b = case_tensor(c, QP_FORMAT_F32, n, 1, rows, PLAIN);
    case_op(c, QP_OP_NORM, a, (int[]){x, norm}, 2)->p.norm.eps = 1e-5f;
    case_op(c, QP_OP_ELEMENTWISE, b, (int[]){a, x}, 2)->p.elementwise.function = QP_ELEMENTWISE_MUL;
    case_op(c, QP_OP_MATMUL, *dst, (int[]){w, b}, 2)->p.matmul = (qp_matmul_params){.scale = 1, .act = QP_ACT_SILU};
    uint64_t begin = c->tensors[a].tensor.offset, end = c->tensors[b].tensor.offset + (uint64_t)(n * rows * 4);
    c->transient = (qp_range){c->pool, begin, end - begin};
    return c;
}

void test_program_transient(cts *t)
{
    tally y = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        int dst = 0;
        cts_case *c = transient_case(t, &dst);
        tally_case(&y, c, dst, 1e-9, 0);
    }
    tally_point(t, &y, 1, "a chain whose middle is transient");
}

/* What a program samples, it can look up: the next token without the host. */
static cts_case *feedback_case(cts *t, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t n = cts_between(t, 1, 70), words = cts_between(t, 2, 200), rows = cts_between(t, 1, 4);
    int logits = case_tensor(c, QP_FORMAT_F32, words, 1, rows, SPACED), table = case_tensor(c, QP_FORMAT_F32, n, words, 1, PLAIN);
    case_fill(c, logits, NORMAL);
    case_fill(c, table, NORMAL);
    int ids = case_tensor(c, QP_FORMAT_I32, rows, 1, 1, PLAIN);
    *dst = case_tensor(c, QP_FORMAT_F32, n, 1, rows, PLAIN);
    case_op(c, QP_OP_SAMPLE, ids, &logits, 1);
    case_op(c, QP_OP_GET_ROWS, *dst, (int[]){table, ids}, 2)->p.get_rows.scale = 1;
    return c;
}

void test_program_feedback(cts *t)
{
    tally y = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        int dst = 0;
        cts_case *c = feedback_case(t, &dst);
        tally_exact(&y, c, dst);
    }
    tally_point(t, &y, 1, "sampled ids feed get_rows in the same program");
}

/* ---- one piece of a layer, for programs side by side and for the same result twice ---- */

static cts_case *layer_case(cts *t, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    enum { HEADS = 4, SIZE = 32, WIDE = HEADS * SIZE, ROWS = 5, CELLS = 70 };
    int32_t positions[ROWS];
    for (int i = 0; i < ROWS; i++)
        positions[i] = CELLS - ROWS + i;
    int at = case_ints(c, positions, ROWS), x = case_tensor(c, QP_FORMAT_F32, WIDE, 1, ROWS, PLAIN), w[2];
    int norm = case_tensor(c, QP_FORMAT_F32, WIDE, 1, 1, PLAIN), y = case_tensor(c, QP_FORMAT_F32, WIDE, 1, ROWS, PLAIN);
    int q_flat = case_tensor(c, QP_FORMAT_F32, WIDE, 1, ROWS, PLAIN),
        q = case_part(c, q_flat, 0, SIZE, HEADS, ROWS, SIZE * 4, WIDE * 4);
    int a = case_tensor(c, QP_FORMAT_F32, WIDE, 1, ROWS, PLAIN),
        a_heads = case_part(c, a, 0, SIZE, HEADS, ROWS, SIZE * 4, WIDE * 4);
    int k = case_tensor(c, QP_FORMAT_F16, SIZE, 2, CELLS, PLAIN), v = case_tensor(c, QP_FORMAT_F16, SIZE, 2, CELLS, PLAIN);
    for (int i = 0; i < 2; i++)
        w[i] = case_weight(c, QP_FORMAT_Q8_0, WIDE, WIDE, QP_WEIGHT_MATMUL);
    const int filled[] = {x, norm, k, v};
    for (int i = 0; i < 4; i++)
        case_fill(c, filled[i], NORMAL);
    *dst = case_tensor(c, QP_FORMAT_F32, WIDE, 1, ROWS, PLAIN);
    case_op(c, QP_OP_NORM, y, (int[]){x, norm}, 2)->p.norm.eps = 1e-5f;
    case_op(c, QP_OP_MATMUL, q_flat, (int[]){w[0], y}, 2)->p.matmul = (qp_matmul_params){.scale = 1};
    case_op(c, QP_OP_ATTENTION, a_heads, (int[]){q, k, v, at}, 4)->p.attention.scale = 0.17f;
    case_op(c, QP_OP_MATMUL, *dst, (int[]){w[1], a, -1, x}, 4)->p.matmul = (qp_matmul_params){.scale = 1};
    return c;
}

void test_program_repeat(cts *t)
{
    uint64_t start = t->random;
    uint8_t *kept = NULL;
    int same = 1, ran = 0;
    char why[600] = "";
    for (int i = 0; i < 4; i++) {
        int dst = 0;
        t->random = start; /* the same case; the third time on a device opened anew */
        if (i == 2) {
            t->backend->device_close(t->device);
            if (t->backend->device_open(t->index, &t->options, &t->device, cts_words(t)) != QP_OK)
                break;
        }
        cts_case *c = layer_case(t, &dst);
        if (c && case_run(c) == CASE_RAN) {
            ran++;
            uint64_t offset = c->tensors[dst].tensor.offset, size = (uint64_t)c->tensors[dst].tensor.nb[3];
            static uint8_t first[1 << 16];
            if (!kept)
                kept = memcpy(first, c->after + offset, size);
            same = same && !memcmp(kept, c->after + offset, size);
        } else if (c) {
            snprintf(why, sizeof why, "%s", c->why);
        }
        case_free(c);
    }
    if (!ran)
        cts_skip(why[0] ? why : "it does not run", "the same bits each time");
    else if (!t->computes)
        cts_skip("a null device computes nothing", "the same bits each time");
    else
        ok(ran == 4 && same, "four runs of a piece of a layer, two of them on a device opened anew, give the same bits %s", why);
}

/* Programs of one device may share scratch: they never run at the same time. */
void test_program_scratch(cts *t)
{
    tally y = {0};
    for (int i = 0; i < 4; i++) {
        int dst = 0;
        cts_case *c = layer_case(t, &dst);
        if (c)
            c->runs = 2;
        tally_case(&y, c, dst, 1e-6, 4);
    }
    tally_point(t, &y, 1, "a piece of a layer, run twice over scratch that held other bytes");
}
