/* SPDX-License-Identifier: MIT
 * Ops with a state, against the reference: the result and the state that is left, over all that a state has to survive: runs in a
 * row, several ops of one program, rows that are not live, sequences that begin in the middle of a batch. */
#include "tests/cts/case.h"

#include <math.h>
#include <string.h>

enum { ROUNDS = 24, MAX_ROWS = 40 };

static case_style any_style(cts *t)
{
    return cts_between(t, 0, 1) ? SPACED : PLAIN;
}

/* Mostly one sequence that goes on; sometimes one that begins, here or in the middle. */
static int positions(cts_case *c, int64_t rows)
{
    int32_t values[MAX_ROWS], at = cts_between(c->t, 0, 2) ? (int32_t)cts_between(c->t, 1, 5000) : 0;
    int64_t restart = cts_between(c->t, 0, 2) ? -1 : cts_between(c->t, 0, rows - 1);
    for (int64_t r = 0; r < rows; r++, at++) {
        at = r == restart ? 0 : at;
        values[r] = at;
    }
    return case_ints(c, values, rows);
}

/* ---- short convolution ---- */

typedef struct conv {
    int64_t channels, width;
    int w, bias, state;
    qp_activation act;
} conv;

static conv conv_new(cts_case *c, case_fill_kind kind)
{
    static const qp_activation acts[] = {QP_ACT_NONE, QP_ACT_SILU, QP_ACT_SILU, QP_ACT_GELU};
    cts *t = c->t;
    conv v = {.channels = cts_between(t, 1, cts_between(t, 0, 1) ? 70 : 600), .width = cts_between(t, 2, 16), .bias = -1};
    v.width = cts_between(t, 0, 1) ? 4 : v.width;
    case_fill(c, v.w = case_tensor(c, QP_FORMAT_F32, v.width, v.channels, 1, any_style(t)), kind);
    case_fill(c, v.state = case_tensor(c, QP_FORMAT_F32, v.channels, v.width - 1, 1, any_style(t)), kind);
    if (cts_between(t, 0, 2) == 0)
        case_fill(c, v.bias = case_tensor(c, QP_FORMAT_F32, v.channels, 1, 1, PLAIN), NORMAL);
    v.act = acts[cts_between(t, 0, 3)];
    c->also = v.state;
    return v;
}

static int conv_op(cts_case *c, const conv *v, int64_t rows, case_fill_kind kind)
{
    int x = case_tensor(c, QP_FORMAT_F32, v->channels, 1, rows, any_style(c->t));
    int dst = case_tensor(c, QP_FORMAT_F32, v->channels, 1, rows, any_style(c->t));
    case_fill(c, x, kind);
    case_op(c, QP_OP_SHORT_CONV, dst, (int[]){x, v->w, v->bias, positions(c, rows), v->state}, 5)->p.short_conv.act = v->act;
    return dst;
}

static void conv_point(cts *t, case_fill_kind kind, int many, double bound, const char *what)
{
    tally y = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        cts_case *c = case_new(t);
        int dst = 0;
        if (c) {
            conv v = conv_new(c, kind);
            int64_t rows = many ? cts_between(t, 2, 30) : 1;
            dst = conv_op(c, &v, rows, kind);
            if (many)
                case_random_live(c, rows);
        }
        tally_case(&y, c, dst, bound, 0);
    }
    tally_point(t, &y, 0, "%s", what);
}

void test_op_short_conv(cts *t)
{
    conv_point(t, NORMAL, 0, 1e-10, "one row");
    conv_point(t, NORMAL, 1, 1e-10, "several rows");
    conv_point(t, EXTREME, 1, 1e-9, "several rows, many magnitudes");
    conv_point(t, SHIFTED, 1, 1e-9, "several rows around a mean of 1000");
}

/* ---- delta rule ---- */

typedef struct delta {
    int64_t k_size, v_size, key_heads, heads;
    int state, grouped;
    float decay; /* the largest −g */
} delta;

static delta delta_new(cts_case *c, float decay)
{
    static const int64_t sizes[] = {1, 8, 16, 20, 64, 64, 96, 128, 128, 128, 192, 256};
    cts *t = c->t;
    delta d = {.k_size = sizes[cts_between(t, 0, 11)], .v_size = sizes[cts_between(t, 0, 11)], .decay = decay};
    d.v_size = cts_between(t, 0, 1) ? d.k_size : d.v_size;
    d.key_heads = cts_between(t, 1, 3);
    d.heads = d.key_heads * cts_between(t, 1, d.k_size * d.v_size > 20000 ? 1 : 3);
    d.grouped = cts_between(t, 0, 1) != 0;
    case_fill(c, d.state = case_tensor(c, QP_FORMAT_F32, d.v_size, d.k_size, d.heads, any_style(t)), SMALL);
    c->also = d.state;
    return d;
}

/* Queries and keys of length 1, as models make them: longer keys let the state grow without bound. */
static int unit_heads(cts_case *c, int64_t size, int64_t heads, int64_t rows)
{
    int x = case_tensor(c, QP_FORMAT_F32, size, heads, rows, any_style(c->t));
    case_fill(c, x, NORMAL);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < heads; h++) {
            float *row = case_floats(c, x, h, r);
            double sum = 1e-30;
            for (int64_t i = 0; i < size; i++)
                sum += (double)row[i] * (double)row[i];
            for (int64_t i = 0; i < size; i++)
                row[i] = (float)((double)row[i] / sqrt(sum));
        }
    return x;
}

/* {heads} for each row, from 0 to `most`. */
static int shares(cts_case *c, int64_t heads, int64_t rows, float most)
{
    int x = case_tensor(c, QP_FORMAT_F32, heads, 1, rows, any_style(c->t));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < heads; h++)
            case_floats(c, x, 0, r)[h] = most * (float)cts_uniform(c->t);
    return x;
}

/* With a state that begins the whole result is a multiple of q·k. Where that is nearly 0, as sums of larger numbers of both signs
 * can be, floats lose it in proportion, however they are added up: there the query is the key. */
static void keep_apart(cts_case *c, int queries, int keys)
{
    const qp_tensor *t = &c->tensors[keys].tensor;
    for (int64_t r = 0; r < t->ne[2]; r++)
        for (int64_t h = 0; h < t->ne[1]; h++) {
            float *q = case_floats(c, queries, h, r);
            const float *k = case_floats(c, keys, h, r);
            double sum = 0;
            for (int64_t i = 0; i < t->ne[0]; i++)
                sum += (double)q[i] * (double)k[i];
            if (fabs(sum) < 0.01)
                memcpy(q, k, (size_t)t->ne[0] * sizeof *q);
        }
}

static int delta_op(cts_case *c, const delta *d, int64_t rows, case_fill_kind values)
{
    int src[7] = {unit_heads(c, d->k_size, d->key_heads, rows), unit_heads(c, d->k_size, d->key_heads, rows)};
    keep_apart(c, src[QP_DELTA_RULE_Q], src[QP_DELTA_RULE_K]);
    case_fill(c, src[QP_DELTA_RULE_V] = case_tensor(c, QP_FORMAT_F32, d->v_size, d->heads, rows, any_style(c->t)), values);
    src[QP_DELTA_RULE_GATE] = shares(c, d->heads, rows, -d->decay);
    src[QP_DELTA_RULE_BETA] = shares(c, d->heads, rows, 1);
    src[QP_DELTA_RULE_POSITIONS] = positions(c, rows);
    src[QP_DELTA_RULE_STATE] = d->state;
    int dst = case_tensor(c, QP_FORMAT_F32, d->v_size, d->heads, rows, any_style(c->t));
    qp_op *op = case_op(c, QP_OP_DELTA_RULE, dst, src, 7);
    op->p.delta_rule =
        (qp_delta_rule_params){.scale = (float)(1 / sqrt((double)d->k_size)), .flags = d->grouped ? QP_DELTA_GROUPED : 0};
    return dst;
}

static void delta_point(cts *t, case_fill_kind values, int64_t most, float decay, double bound, const char *what)
{
    tally y = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        cts_case *c = case_new(t);
        int dst = 0;
        if (c) {
            delta d = delta_new(c, decay);
            int64_t rows = most == 1 ? 1 : cts_between(t, 2, most);
            dst = delta_op(c, &d, rows, values);
            if (rows > 1)
                case_random_live(c, rows);
        }
        tally_case(&y, c, dst, bound, 0);
    }
    tally_point(t, &y, 0, "%s", what);
}

void test_op_delta_rule(cts *t)
{
    delta_point(t, NORMAL, 1, 1, 1e-10, "one row");
    delta_point(t, NORMAL, 12, 1, 1e-10, "several rows");
    delta_point(t, NORMAL, MAX_ROWS, 0.02f, 1e-9, "many rows, a state that hardly fades");
    delta_point(t, EXTREME, 12, 0.1f, 1e-9, "several rows, values of many magnitudes");
    delta_point(t, NORMAL, 12, 200, 1e-9, "several rows, a state that fades at once");
}

/* ---- states of programs ---- */

/* One sequence in pieces: several ops of a program over one state, the program run several times. */
static cts_case *pieces_case(cts *t, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t pieces = cts_between(t, 2, 4);
    delta d = {0};
    conv v = {0};
    int rule = cts_between(t, 0, 1) != 0;
    if (rule)
        d = delta_new(c, 0.3f);
    else
        v = conv_new(c, NORMAL);
    for (int64_t i = 0; i < pieces; i++) {
        int64_t rows = cts_between(t, 1, 6);
        *dst = rule ? delta_op(c, &d, rows, NORMAL) : conv_op(c, &v, rows, NORMAL);
        if (cts_between(t, 0, 2) == 0)
            case_random_live(c, rows);
    }
    c->runs = (int)cts_between(t, 2, 4);
    c->every = 1; /* a long piece leaves little of the state that it found */
    return c;
}

/* A state is memory like any other: what another op writes there is seen, and what the op leaves there can be read. */
static cts_case *shared_case(cts *t, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    conv v = conv_new(c, NORMAL);
    conv_op(c, &v, cts_between(t, 1, 5), NORMAL);
    int before = case_tensor(c, QP_FORMAT_F32, v.channels, v.width - 1, 1, PLAIN);
    case_op(c, QP_OP_COPY, before, &v.state, 1);
    conv_op(c, &v, cts_between(t, 1, 5), NORMAL);
    qp_op *op = case_op(c, QP_OP_ELEMENTWISE, v.state, (int[]){before, v.state}, 2);
    op->p.elementwise.function = QP_ELEMENTWISE_ADD;
    *dst = conv_op(c, &v, cts_between(t, 1, 5), NORMAL);
    c->runs = (int)cts_between(t, 1, 3);
    return c;
}

void test_program_state(cts *t)
{
    tally pieces = {0}, shared = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        int dst = 0;
        cts_case *c = pieces_case(t, &dst);
        tally_case(&pieces, c, dst, 1e-9, 0);
        c = shared_case(t, &dst);
        tally_case(&shared, c, dst, 1e-8, 0);
    }
    tally_point(t, &pieces, 0, "a sequence in pieces: ops of one program and runs in a row see each other's state");
    tally_point(t, &shared, 0, "a state that other ops of the program read and write");
}
