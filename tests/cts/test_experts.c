/* SPDX-License-Identifier: MIT
 * Mixtures of experts against the reference: routing to the last number, products by expert in every arrangement. */
#include "tests/cts/case.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { ROUNDS = 24 };

static case_style any_style(cts *t)
{
    return cts_between(t, 0, 1) ? SPACED : PLAIN;
}

/* ---- EXPERT_ROUTE ---- */

/* Weights within rounding, numbers exactly. */
static void route_outcome(tally *y, cts_case *c, int dst)
{
    const qp_tensor *t = &c->tensors[dst].tensor;
    int weights = case_part(c, dst, 0, t->ne[0], 1, t->ne[2], t->nb[1], t->nb[2]);
    int numbers = case_part(c, dst, (uint64_t)t->nb[1], t->ne[0], 1, t->ne[2], t->nb[1], t->nb[2]);
    tally_split(y, c, weights, 1e-10, numbers);
}

/* Devices may take subnormal numbers for zero: no probability of a softmax is to be one, so that a logit far below the largest is
 * moved so far that its probability is zero for everybody; and no sum that groups are compared by. */
static void keep_normal(cts_case *c, int logits, int grouped)
{
    const qp_tensor *t = &c->tensors[logits].tensor;
    for (int64_t r = 0; r < t->ne[2]; r++) {
        float *row = case_floats(c, logits, 0, r), most = row[0];
        for (int64_t e = 1; e < t->ne[0]; e++)
            most = fmaxf(most, row[e]);
        for (int64_t e = 0; e < t->ne[0]; e++)
            row[e] = most - row[e] > 60 && most - row[e] < 150 ? most - 150 : grouped && fabsf(row[e]) < FLT_MIN ? 0 : row[e];
    }
}

/* Logits of which many are equal, but no two different pairs of which have the same sum of sigmoids: what is equal by rounding
 * alone may be otherwise on a device. */
static float one_of_few(cts *t)
{
    static const float few[] = {-2, -0.9f, 0.3f, 1.1f, 2};
    return few[cts_between(t, 0, 4)];
}

static cts_case *route_case(cts *t, uint32_t gate, int biased, int grouped, int tied, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t groups = grouped ? cts_between(t, 2, 6) : 1, used = grouped ? cts_between(t, 1, groups) : 1;
    int64_t size = cts_between(t, 1, grouped ? 12 : cts_between(t, 0, 3) ? 40 : 300), experts = groups * size;
    int64_t most = size * used, k = cts_between(t, 0, 3) ? cts_between(t, 1, most < 10 ? most : 10) : cts_between(t, 1, most);
    int64_t rows = cts_between(t, 1, 9);
    int src[2] = {case_tensor(c, QP_FORMAT_F32, experts, 1, rows, any_style(t)), -1};
    case_fill(c, src[0], cts_between(t, 0, 3) ? NORMAL : EXTREME);
    keep_normal(c, src[0], grouped);
    if (tied)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t e = 0; e < experts; e++)
                case_floats(c, src[0], 0, r)[e] = one_of_few(t);
    if (biased)
        case_fill(c, src[1] = case_tensor(c, QP_FORMAT_F32, experts, 1, 1, PLAIN), NORMAL);
    if (tied && biased)
        for (int64_t e = 0; e < experts; e++)
            case_floats(c, src[1], 0, 0)[e] = 0.5f;
    *dst = case_tensor(c, QP_FORMAT_F32, k, 2, rows, any_style(t));
    qp_op *op = case_op(c, QP_OP_EXPERT_ROUTE, *dst, src, 2);
    op->p.expert_route = (qp_expert_route_params){.gate = gate,
                                                  .flags = cts_between(t, 0, 1) ? QP_EXPERT_NORMALISE : 0,
                                                  .groups = grouped ? (uint32_t)groups : (uint32_t)cts_between(t, 0, 1),
                                                  .groups_used = (uint32_t)used,
                                                  .scale = cts_between(t, 0, 1) ? 1 : 2.5f};
    case_random_live(c, rows);
    return c;
}

void test_op_expert_route(cts *t)
{
    static const char *const gates[] = {"softmax", "sigmoid", "softmax of the chosen"};
    for (uint32_t gate = QP_GATE_SOFTMAX; gate <= QP_GATE_SOFTMAX_CHOSEN; gate++)
        for (int how = 0; how < 8; how++) {
            tally y = {0};
            for (int i = 0; i < rounds(t, ROUNDS); i++) {
                int dst = 0;
                cts_case *c = route_case(t, gate, how & 1, how & 2, how & 4, &dst);
                if (c)
                    route_outcome(&y, c, dst);
            }
            tally_point(t, &y, 1, "%s%s%s%s", gates[gate], how & 1 ? ", biased" : "", how & 2 ? ", in groups" : "",
                        how & 4 ? ", many equals" : "");
        }
    static const float odd[] = {NAN, INFINITY, -INFINITY};
    tally y = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        int dst = 0;
        cts_case *c = route_case(t, (uint32_t)(i % 3), i & 1, 0, 0, &dst);
        if (!c)
            continue;
        const qp_tensor *logits = &c->tensors[c->src[0][0]].tensor;
        case_floats(c, c->src[0][0], 0, cts_between(t, 0, logits->ne[2] - 1))[cts_between(t, 0, logits->ne[0] - 1)] = odd[i % 3];
        route_outcome(&y, c, dst);
    }
    tally_point(t, &y, 1, "a row with a logit that is not finite");
    tally z = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        int dst = 0;
        cts_case *c = route_case(t, (uint32_t)(i / 3 % 3), 1, i & 1, 0, &dst);
        if (!c)
            continue;
        const qp_tensor *bias = &c->tensors[c->src[0][1]].tensor;
        case_floats(c, c->src[0][1], 0, 0)[cts_between(t, 0, bias->ne[0] - 1)] = odd[i % 3];
        route_outcome(&z, c, dst);
    }
    tally_point(t, &z, 1, "a bias that is not finite");
}

/* ---- EXPERT_MATMUL ---- */

enum { SPREAD, HOT, ASTRAY, ROUTES };

typedef struct mix {
    qp_format format;
    int packed, gated, sum;
    uint32_t flags;
    qp_activation act;
    int route; /* how rows are spread over experts */
    int plain; /* no biases, scales, residual */
} mix;

/* Numbers: chosen at random without repetition, all alike, or partly such as no expert has. */
static void fill_route(cts_case *c, int route, int64_t experts, int how)
{
    static const float odd[] = {-1, 1e9f, NAN, INFINITY, -0.5f};
    const qp_tensor *t = &c->tensors[route].tensor;
    int64_t hot = cts_between(c->t, 0, experts - 1);
    for (int64_t r = 0; r < t->ne[2]; r++) {
        float *weights = case_floats(c, route, 0, r), *numbers = case_floats(c, route, 1, r);
        int64_t first = cts_between(c->t, 0, experts - 1);
        for (int64_t i = 0; i < t->ne[0]; i++) {
            weights[i] = (float)cts_normal(c->t);
            numbers[i] = (float)(how == HOT ? hot : (first + i) % experts);
            if (how == ASTRAY && cts_between(c->t, 0, 2) == 0)
                numbers[i] = cts_between(c->t, 0, 1) ? (float)experts : odd[cts_between(c->t, 0, 4)];
        }
    }
}

static int matrices(cts_case *c, const mix *m, int64_t k, int64_t n, int64_t experts)
{
    if (m->packed)
        return case_experts(c, m->format, k, n, experts, QP_WEIGHT_MATMUL);
    int w = case_tensor(c, m->format, k, n, experts, PLAIN);
    case_fill(c, w, SMALL);
    return w;
}

static int floats(cts_case *c, int64_t n, int64_t heads, int64_t rows, case_style style)
{
    int v = case_tensor(c, QP_FORMAT_F32, n, heads, rows, style);
    case_fill(c, v, NORMAL);
    return v;
}

static cts_case *matmul_case(cts *t, const mix *m, int *dst)
{
    static const int64_t odd[] = {1, 2, 15, 16, 17, 31, 33, 48, 64, 65}, some_rows[] = {1, 1, 1, 2, 3, 5, 8, 17, 40};
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t block = qk_block_elements(m->format);
    int64_t k = block > 1 ? block * cts_between(t, 1, block > 32 ? 2 : 10) : odd[cts_between(t, 0, 9)] * cts_between(t, 1, 3);
    int64_t n = odd[cts_between(t, 0, 9)], experts = cts_between(t, 1, 9), rows = some_rows[cts_between(t, 0, 8)];
    int64_t used = cts_between(t, 1, experts), heads = cts_between(t, 0, 1) ? 1 : used;
    int src[QP_OP_SOURCES] = {matrices(c, m, k, n, experts), floats(c, k, heads, rows, any_style(t)), -1, -1, -1, -1, -1, -1};
    src[QP_EXPERT_MATMUL_ROUTE] = case_tensor(c, QP_FORMAT_F32, used, 2, rows, any_style(t));
    fill_route(c, src[QP_EXPERT_MATMUL_ROUTE], experts, m->route);
    if (!m->plain && cts_between(t, 0, 1))
        src[QP_EXPERT_MATMUL_BIAS] = floats(c, n, experts, 1, any_style(t));
    if (!m->plain && m->sum && cts_between(t, 0, 2))
        src[QP_EXPERT_MATMUL_RESIDUAL] = floats(c, n, 1, rows, any_style(t));
    if (m->gated)
        src[QP_EXPERT_MATMUL_W2] = matrices(c, m, k, n, experts);
    if (!m->plain && m->gated && cts_between(t, 0, 1))
        src[QP_EXPERT_MATMUL_BIAS2] = floats(c, n, experts, 1, PLAIN);
    if (!m->plain && !m->gated && cts_between(t, 0, 1))
        src[QP_EXPERT_MATMUL_SCALES] = floats(c, experts, 1, 1, PLAIN);
    int in_place = src[QP_EXPERT_MATMUL_RESIDUAL] >= 0 && cts_between(t, 0, 1);
    *dst = in_place ? src[QP_EXPERT_MATMUL_RESIDUAL] : case_tensor(c, QP_FORMAT_F32, n, m->sum ? 1 : used, rows, any_style(t));
    qp_op *op = case_op(c, QP_OP_EXPERT_MATMUL, *dst, src, QP_OP_SOURCES);
    op->p.expert_matmul =
        (qp_expert_matmul_params){.act = m->act, .flags = m->flags | (m->sum ? QP_EXPERT_SUM : 0), .alpha = 1.702f, .limit = 0.75f};
    case_random_live(c, rows);
    return c;
}

/* As for MATMUL. */
static double bound(qp_format format)
{
    return format == QP_FORMAT_F32 ? 1e-10 : format == QP_FORMAT_BF16 ? 4e-6 : 1e-6;
}

static void matmul_point(cts *t, const mix *m, int n, const char *words)
{
    tally y = {0};
    for (int i = 0; i < n; i++) {
        int dst = 0;
        cts_case *c = matmul_case(t, m, &dst);
        tally_case(&y, c, dst, (m->plain ? 1 : 4) * bound(m->format), m->flags ? 0 : 4);
    }
    tally_point(t, &y, required_format(m->format) && m->packed, "%s weights, %s%s", format_name(m->format),
                m->packed ? "laid out by the device" : "as on disk", words);
}

void test_op_expert_matmul(cts *t)
{
    static const qp_format formats[] = {QP_FORMAT_F32,  QP_FORMAT_F16,  QP_FORMAT_BF16, QP_FORMAT_Q8_0,
                                        QP_FORMAT_Q4_0, QP_FORMAT_Q4_K, QP_FORMAT_Q6_K, QP_FORMAT_MXFP4};
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++)
        for (int how = 0; how < 8; how++) {
            mix m = {.format = formats[f], .packed = how & 1, .sum = how >> 1 & 1, .plain = 1};
            m.flags = how & 4 ? QP_MATMUL_FLOAT : 0;
            if (m.flags && qk_block_elements(formats[f]) == 1)
                continue;
            char words[120];
            snprintf(words, sizeof words, "%s%s", m.sum ? ", added up" : "", m.flags ? ", float activations" : "");
            matmul_point(t, &m, rounds(t, ROUNDS), words);
        }
}

void test_op_expert_matmul_epilogue(cts *t)
{
    static const qp_format some[] = {QP_FORMAT_F32, QP_FORMAT_F16, QP_FORMAT_Q8_0, QP_FORMAT_Q4_0};
    static const qp_activation acts[] = {QP_ACT_NONE, QP_ACT_SILU, QP_ACT_GELU_TANH, QP_ACT_SWIGLU_CLAMPED};
    for (size_t f = 0; f < sizeof some / sizeof *some; f++)
        for (int how = 0; how < 16; how++) {
            mix m = {.format = some[f], .packed = 1, .gated = how & 1, .sum = how >> 1 & 1, .act = acts[how >> 2]};
            if (m.act == QP_ACT_SWIGLU_CLAMPED && !m.gated)
                continue;
            char words[120];
            snprintf(words, sizeof words, ", activation %u%s%s, with and without biases, scales and residual", m.act,
                     m.gated ? ", gated pair" : "", m.sum ? ", added up" : "");
            matmul_point(t, &m, 8, words);
        }
}

/* A NaN in one row's x must show in that row and in no other; one in a weight of the route only in its row's sum. */
static void spoilt_row(cts *t, qp_format format, int in_route)
{
    cts_case *c = case_new(t);
    if (!c)
        return;
    int64_t k = 64, n = 33, experts = 5, rows = 6, used = 2, bad = 3;
    int src[QP_OP_SOURCES] = {
        case_experts(c, format, k, n, experts, QP_WEIGHT_MATMUL), floats(c, k, 1, rows, PLAIN), -1, -1, -1, -1, -1, -1};
    src[QP_EXPERT_MATMUL_ROUTE] = case_tensor(c, QP_FORMAT_F32, used, 2, rows, PLAIN);
    fill_route(c, src[QP_EXPERT_MATMUL_ROUTE], experts, HOT);
    case_floats(c, src[in_route ? QP_EXPERT_MATMUL_ROUTE : QP_EXPERT_MATMUL_X], 0, bad)[1] = NAN;
    int dst = case_tensor(c, QP_FORMAT_F32, n, 1, rows, PLAIN);
    case_op(c, QP_OP_EXPERT_MATMUL, dst, src, QP_OP_SOURCES)->p.expert_matmul.flags = QP_EXPERT_SUM;
    case_result result = case_run(c);
    if (result == CASE_REFUSED || !t->computes) {
        cts_skip(result == CASE_REFUSED ? c->why : "a null device computes nothing", "%s, a NaN in %s", format_name(format),
                 in_route ? "a weight" : "x");
    } else {
        int finite = 0, spoilt = 0;
        for (int64_t r = 0; r < rows && result == CASE_RAN; r++)
            for (int64_t i = 0; i < n; i++) {
                float got;
                memcpy(&got, c->after + c->tensors[dst].tensor.offset + (uint64_t)(r * n + i) * 4, 4);
                finite += r == bad && !isnan(got);
                spoilt += r != bad && !isfinite(got);
            }
        ok(result == CASE_RAN && !finite && !spoilt, "%s: a NaN in %s shows in its row (%d values hide it) and no other (%d) %s",
           format_name(format), in_route ? "a weight" : "x", finite, spoilt, c->why);
    }
    case_free(c);
}

void test_op_expert_matmul_extreme(cts *t)
{
    static const qp_format some[] = {QP_FORMAT_F32, QP_FORMAT_F16, QP_FORMAT_Q8_0, QP_FORMAT_Q4_0};
    static const char *const routes[] = {"", ", all rows to one expert", ", numbers that no expert has"};
    for (size_t f = 0; f < sizeof some / sizeof *some; f++) {
        for (int how = 0; how < 2 * ROUTES; how++) {
            mix m = {.format = some[f], .packed = 1, .sum = how & 1, .route = how >> 1};
            if (m.route == SPREAD)
                continue;
            char words[120];
            snprintf(words, sizeof words, "%s%s", routes[m.route], m.sum ? ", added up" : "");
            matmul_point(t, &m, rounds(t, ROUNDS), words);
        }
        spoilt_row(t, some[f], 0);
        spoilt_row(t, some[f], 1);
    }
}

/* ---- several ops of one program ---- */

static int stack_op(cts_case *c, int w, int x, int route, int dst, uint32_t flags)
{
    int src[QP_OP_SOURCES] = {w, x, -1, -1, -1, -1, route, -1};
    if (flags & QP_EXPERT_SUM)
        src[QP_EXPERT_MATMUL_RESIDUAL] = dst;
    case_op(c, QP_OP_EXPERT_MATMUL, dst, src, QP_OP_SOURCES)->p.expert_matmul.flags = flags;
    return dst;
}

/* Two layers' worth of ops on one route tensor and one x, both of which change in between: what a device keeps of them (a sorted
 * route, quantised activations) must not outlive them. */
static cts_case *chain_case(cts *t, qp_format format, int *results)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t n = 64, experts = cts_between(t, 1, 6), used = cts_between(t, 1, experts), rows = cts_between(t, 1, 12);
    int w = case_experts(c, format, n, n, experts, QP_WEIGHT_MATMUL),
        down = case_experts(c, format, n, n, experts, QP_WEIGHT_MATMUL);
    int dense = case_weight(c, format, n, n, QP_WEIGHT_MATMUL), x = floats(c, n, 1, rows, any_style(t));
    int logits[2] = {floats(c, experts, 1, rows, PLAIN), floats(c, experts, 1, rows, PLAIN)};
    int route = case_tensor(c, QP_FORMAT_F32, used, 2, rows, any_style(t)), sum = floats(c, n, 1, rows, PLAIN);
    qp_expert_route_params p = {.gate = QP_GATE_SOFTMAX, .flags = QP_EXPERT_NORMALISE, .scale = 1};
    for (int i = 0; i < 4; i++)
        results[i] = case_tensor(c, QP_FORMAT_F32, n, i == 3 ? 1 : used, rows, any_style(t));
    case_op(c, QP_OP_EXPERT_ROUTE, route, &logits[0], 1)->p.expert_route = p;
    stack_op(c, w, x, route, results[0], 0);
    case_op(c, QP_OP_ELEMENTWISE, x, &x, 1)->p.elementwise =
        (qp_elementwise_params){.function = QP_ELEMENTWISE_SCALE, .scale = -0.5f, .offset = 0.25f};
    case_op(c, QP_OP_MATMUL, results[3], (int[]){dense, x}, 2)->p.matmul.scale = 1;
    stack_op(c, w, x, route, results[1], 0);
    stack_op(c, down, results[1], route, sum, QP_EXPERT_SUM);
    case_op(c, QP_OP_EXPERT_ROUTE, route, &logits[1], 1)->p.expert_route = p;
    stack_op(c, w, x, route, results[2], 0);
    stack_op(c, down, results[2], route, sum, QP_EXPERT_SUM);
    results[4] = sum;
    if (cts_between(t, 0, 1)) { /* the same count of live rows for all */
        int32_t live = (int32_t)cts_between(t, 0, rows);
        int tensor = case_ints(c, &live, 1);
        for (int i = 0; i < c->op_count; i++) {
            c->live[i] = tensor;
            c->ops[i].live = c->tensors[tensor].tensor;
        }
    }
    return c;
}

void test_op_expert_matmul_chain(cts *t)
{
    static const qp_format some[] = {QP_FORMAT_F32, QP_FORMAT_F16, QP_FORMAT_Q8_0, QP_FORMAT_Q4_0};
    for (size_t f = 0; f < sizeof some / sizeof *some; f++)
        for (int which = 0; which < 5; which++) {
            static const char *const names[] = {"before", "x changed", "route changed", "a dense product between", "the sums"};
            tally y = {0};
            for (int i = 0; i < rounds(t, ROUNDS); i++) {
                int results[5] = {0};
                cts_case *c = chain_case(t, some[f], results);
                tally_case(&y, c, results[which], 4 * bound(some[f]), 8);
            }
            tally_point(t, &y, 1, "%s, %s", format_name(some[f]), names[which]);
        }
}
