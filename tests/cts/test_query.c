/* SPDX-License-Identifier: MIT
 * op_query: every kind of op gets an answer, and nonsense gets a refusal in words, never a crash. */
#include "tests/cts/case.h"

#include <string.h>

static qp_tensor tensor(qp_format format, int64_t ne0, int64_t ne1, int64_t ne2)
{
    int64_t row = ne0 / qk_block_elements(format) * qk_block_bytes(format);
    return (qp_tensor){.format = format, .ne = {ne0, ne1, ne2, 1}, .nb = {qk_block_bytes(format), row, row * ne1, row * ne1 * ne2}};
}

static qp_op blank(qp_op_kind kind)
{
    return (qp_op){.struct_size = sizeof(qp_op), .kind = kind, .version = 1};
}

enum { SAMPLES = 14, SHORT_CONV = 10, DELTA_RULE = 11, EXPERT_ROUTE = 12, EXPERT_MATMUL = 13 };

/* A plain op of each kind, tensors without buffers. */
static qp_op sample_op(int i)
{
    qp_op op = blank(QP_OP_NONE);
    qp_tensor x = tensor(QP_FORMAT_F32, 64, 1, 5), heads = tensor(QP_FORMAT_F32, 64, 4, 5), rows = tensor(QP_FORMAT_I32, 5, 1, 1);
    op.dst = x;
    op.src[0] = x;
    switch (i) {
    case 0:
        op.kind = QP_OP_GET_ROWS;
        op.src[0] = tensor(QP_FORMAT_F16, 64, 100, 1);
        op.src[1] = rows;
        op.p.get_rows.scale = 1;
        break;
    case 1:
        op.kind = QP_OP_NORM;
        op.src[1] = tensor(QP_FORMAT_F32, 64, 1, 1);
        op.p.norm.eps = 1e-5f;
        break;
    case 2:
    case 3:
        op.kind = QP_OP_MATMUL;
        op.src[0] = tensor(i == 2 ? QP_FORMAT_F32 : QP_FORMAT_F16, 64, 32, 1);
        op.src[1] = x;
        op.dst = tensor(QP_FORMAT_F32, 32, 1, 5);
        op.p.matmul.scale = 1;
        break;
    case 4:
        op.kind = QP_OP_ROPE;
        op.dst = op.src[0] = heads;
        op.src[1] = rows;
        op.p.rope = (qp_rope_params){.mode = QP_ROPE_NEOX, .n_dims = 64, .freq_base = 10000, .freq_scale = 1, .attn_factor = 1};
        break;
    case 5:
        op.kind = QP_OP_KV_APPEND;
        op.src[0] = heads;
        op.src[1] = rows;
        op.dst = tensor(QP_FORMAT_F16, 64, 4, 100);
        break;
    case 6:
        op.kind = QP_OP_ATTENTION;
        op.dst = op.src[0] = heads;
        op.src[1] = op.src[2] = tensor(QP_FORMAT_F16, 64, 2, 100);
        op.src[3] = rows;
        op.p.attention.scale = 0.125f;
        break;
    case 7:
        op.kind = QP_OP_ELEMENTWISE;
        op.src[1] = x;
        break;
    case 8: op.kind = QP_OP_COPY; break;
    case SHORT_CONV:
        op.kind = QP_OP_SHORT_CONV;
        op.src[QP_SHORT_CONV_W] = tensor(QP_FORMAT_F32, 4, 64, 1);
        op.src[QP_SHORT_CONV_POSITIONS] = rows;
        op.src[QP_SHORT_CONV_STATE] = tensor(QP_FORMAT_F32, 64, 3, 1);
        break;
    case DELTA_RULE:
        op.kind = QP_OP_DELTA_RULE;
        op.dst = op.src[QP_DELTA_RULE_V] = heads;
        op.src[QP_DELTA_RULE_Q] = op.src[QP_DELTA_RULE_K] = tensor(QP_FORMAT_F32, 32, 2, 5);
        op.src[QP_DELTA_RULE_GATE] = op.src[QP_DELTA_RULE_BETA] = tensor(QP_FORMAT_F32, 4, 1, 5);
        op.src[QP_DELTA_RULE_POSITIONS] = rows;
        op.src[QP_DELTA_RULE_STATE] = tensor(QP_FORMAT_F32, 64, 32, 4);
        op.p.delta_rule.scale = 0.125f;
        break;
    case 9:
        op.kind = QP_OP_SAMPLE;
        op.dst = rows;
        break;
    case EXPERT_ROUTE:
        op.kind = QP_OP_EXPERT_ROUTE;
        op.dst = tensor(QP_FORMAT_F32, 8, 2, 5);
        op.p.expert_route.scale = 1;
        break;
    default:
        op.kind = QP_OP_EXPERT_MATMUL;
        op.src[QP_EXPERT_MATMUL_W] = tensor(QP_FORMAT_F16, 64, 32, 16);
        op.src[QP_EXPERT_MATMUL_X] = x;
        op.src[QP_EXPERT_MATMUL_ROUTE] = tensor(QP_FORMAT_F32, 4, 2, 5);
        op.dst = tensor(QP_FORMAT_F32, 32, 4, 5);
        break;
    }
    return op;
}

void test_query_ops(cts *t)
{
    static const char *const names[] = {"get_rows",          "norm",       "F32 matmul",   "F16 matmul",   "rope",
                                        "KV append",         "attention",  "elementwise",  "copy",         "sample",
                                        "short convolution", "delta rule", "expert route", "expert matmul"};
    for (int i = 0; i < SAMPLES; i++) {
        qp_op op = sample_op(i);
        qp_op_info info = {.struct_size = sizeof info};
        qp_status status = t->backend->op_query(t->device, &op, &info, cts_words(t));
        if (status == QP_OK) {
            int ends = memchr(info.kernel, 0, sizeof info.kernel) != NULL;
            ok(ends && info.kernel[0], "%s: taken, and the kernel has a name: %.63s", names[i], info.kernel);
            ok(t->backend->op_query(t->device, &op, NULL, NULL) == QP_OK, "%s: the same answer without info and words", names[i]);
        } else if (t->strict) {
            ok(0, "%s: required, but refused: %s", names[i], t->words);
        } else {
            ok(status == QP_ERR_UNSUPPORTED && t->words[0], "%s: refused in words: %s", names[i], t->words);
        }
    }
    static const qp_op_kind past[] = {QP_OP_DELTA_RULE + 1, QP_OP_LIMIT};
    for (int i = 0; i < 2; i++) {
        qp_op op = sample_op(7);
        op.kind = past[i];
        cts_refused(t, t->backend->op_query(t->device, &op, NULL, cts_words(t)), QP_ERR_UNSUPPORTED, "a kind of op past the last");
    }
    qp_op op = sample_op(7);
    op.version = 2;
    cts_refused(t, t->backend->op_query(t->device, &op, NULL, cts_words(t)), QP_ERR_UNSUPPORTED, "an op of a version not known");
    op = sample_op(7);
    op.kind = UINT32_MAX;
    cts_refused(t, t->backend->op_query(t->device, &op, NULL, cts_words(t)), QP_ERR_UNSUPPORTED, "an op of kind 2^32 - 1");
}

void test_query_refusals(cts *t)
{
    struct {
        const char *what;
        qp_op op;
    } cases[40];
    int n = 0;
#define BAD(words, base, change)                                                                                                   \
    do {                                                                                                                           \
        qp_op op = sample_op(base);                                                                                                \
        change;                                                                                                                    \
        cases[n].what = words;                                                                                                     \
        cases[n++].op = op;                                                                                                        \
    } while (0)
    BAD("a matmul whose W and x have different K", 2, op.src[1].ne[0] = 63);
    BAD("a matmul whose dst has not M columns", 2, op.dst.ne[0] = 31);
    BAD("a matmul whose dst has other rows than x", 2, op.dst.ne[2] = 4);
    BAD("a matmul without W", 2, op.src[0] = (qp_tensor){0});
    BAD("a matmul with an activation not known", 2, op.p.matmul.act = 99);
    BAD("a matmul with flags not known", 2, op.p.matmul.flags = 1u << 30);
    BAD("a matmul with a layout not known", 2, op.src[0].layout = 0x7fffffff);
    BAD("a matmul with a dimension of 2^63 - 1", 2, op.src[0].ne[0] = op.src[1].ne[0] = INT64_MAX);
    BAD("a matmul with a negative dimension", 2, op.src[0].ne[1] = op.dst.ne[0] = -32);
    BAD("a norm of no kind known", 1, op.p.norm.kind = 7);
    BAD("a norm whose weight has another length", 1, op.src[1].ne[0] = 63);
    BAD("a rope of an odd number of features", 4, op.p.rope.n_dims = 63);
    BAD("a rope of more features than a head has", 4, op.p.rope.n_dims = 66);
    BAD("an attention with heads that are no multiple of the KV heads", 6, op.src[1].ne[1] = op.src[2].ne[1] = 3);
    BAD("an attention without positions", 6, op.src[3] = (qp_tensor){0});
    BAD("a KV append with floats for cells", 5, op.src[1].format = QP_FORMAT_F32);
    BAD("an elementwise sum of different shapes", 7, op.src[1].ne[0] = 32);
    BAD("a copy between different shapes", 8, op.src[0].ne[2] = 4);
    BAD("a short convolution of width 1", SHORT_CONV, (op.src[QP_SHORT_CONV_W].ne[0] = 1, op.src[QP_SHORT_CONV_STATE].ne[1] = 0));
    BAD("a short convolution of width 17", SHORT_CONV,
        (op.src[QP_SHORT_CONV_W].ne[0] = 17, op.src[QP_SHORT_CONV_STATE].ne[1] = 16));
    BAD("a short convolution whose state has another width", SHORT_CONV, op.src[QP_SHORT_CONV_STATE].ne[1] = 4);
    BAD("a short convolution without positions", SHORT_CONV, op.src[QP_SHORT_CONV_POSITIONS] = (qp_tensor){0});
    BAD("a delta rule whose q has other features than k", DELTA_RULE, op.src[QP_DELTA_RULE_Q].ne[0] = 16);
    BAD("a delta rule whose value heads are no multiple of the key heads", DELTA_RULE,
        op.src[QP_DELTA_RULE_Q].ne[1] = op.src[QP_DELTA_RULE_K].ne[1] = 3);
    BAD("a delta rule whose state is of another shape", DELTA_RULE, op.src[QP_DELTA_RULE_STATE].ne[0] = 32);
    BAD("a delta rule with flags not known", DELTA_RULE, op.p.delta_rule.flags = 1u << 30);
    BAD("a route to more experts than there are", EXPERT_ROUTE, op.dst.ne[0] = 65);
    BAD("a route through a gate not known", EXPERT_ROUTE, op.p.expert_route.gate = 3);
    BAD("a route with experts that are no multiple of the groups", EXPERT_ROUTE, op.p.expert_route.groups = 3);
    BAD("a route to more groups than there are", EXPERT_ROUTE, (op.p.expert_route.groups = 4, op.p.expert_route.groups_used = 5));
    BAD("an expert matmul whose dst has other experts than the route", EXPERT_MATMUL, op.dst.ne[1] = 3);
    BAD("an expert matmul whose x has other rows than the route", EXPERT_MATMUL, op.src[1].ne[2] = 4);
    BAD("an expert matmul without a route", EXPERT_MATMUL, op.src[QP_EXPERT_MATMUL_ROUTE] = (qp_tensor){0});
    BAD("an expert matmul with a residual but no sum", EXPERT_MATMUL, op.src[QP_EXPERT_MATMUL_RESIDUAL] = op.dst);
    BAD("an expert matmul with an activation of pairs for one product", EXPERT_MATMUL, op.p.expert_matmul.act = QP_ACT_SWIGLU_CLAMPED);
    BAD("an op without tensors", 8, op.dst = op.src[0] = (qp_tensor){0});
    BAD("an op smaller than its header", 8, op.struct_size = 16);
#undef BAD
    for (int i = 0; i < n; i++) {
        if (!t->computes && t->backend->op_query(t->device, &cases[i].op, NULL, cts_words(t)) == QP_OK)
            cts_skip("a null device need not know shapes", "%s", cases[i].what);
        else
            cts_refused(t, t->backend->op_query(t->device, &cases[i].op, NULL, cts_words(t)), QP_OK, cases[i].what);
    }
}

static int64_t odd_number(cts *t)
{
    static const int64_t numbers[] = {
        0, 1, -1, 2, 31, 32, 33, 64, 1 << 20, INT32_MAX, INT64_MAX, INT64_MIN, INT64_MAX / 4, INT64_MAX - 31};
    return numbers[cts_between(t, 0, sizeof numbers / sizeof *numbers - 1)];
}

static void mutate(cts *t, qp_op *op)
{
    int64_t which = cts_between(t, -2, QP_OP_SOURCES - 1);
    qp_tensor *x = which == -2 ? &op->live : which == -1 ? &op->dst : &op->src[cts_between(t, 0, 3) ? which % 4 : which];
    switch (cts_between(t, 0, 7)) {
    case 0: x->ne[cts_between(t, 0, 3)] = odd_number(t); break;
    case 1: x->nb[cts_between(t, 0, 3)] = odd_number(t); break;
    case 2: x->format = (qp_format)cts_between(t, 0, 70); break;
    case 3: x->layout = (uint32_t)odd_number(t); break;
    case 4: x->offset = (uint64_t)odd_number(t); break;
    case 5: op->p.bytes[cts_between(t, 0, 4)] = cts_random(t); break;
    case 6: *x = op->src[cts_between(t, 0, 3)]; break;
    default: memset(x, 0, sizeof *x); break;
    }
}

void test_query_mutations(cts *t)
{
    enum { N = 20000 };
    int taken = 0, wordless = 0;
    for (int i = 0; i < N; i++) {
        qp_op op = sample_op(i % SAMPLES);
        for (int64_t m = cts_between(t, 1, 4); m > 0; m--)
            mutate(t, &op);
        qp_op_info info = {.struct_size = sizeof info};
        qp_status status = t->backend->op_query(t->device, &op, cts_between(t, 0, 1) ? &info : NULL, cts_words(t));
        taken += status == QP_OK;
        wordless += status != QP_OK && (status > 0 || !t->words[0]);
    }
    ok(!wordless, "%d ops with random mistakes: %d taken, the others refused, %d of them without words", N, taken, wordless);
}
