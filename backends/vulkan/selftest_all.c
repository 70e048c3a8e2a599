/* SPDX-License-Identifier: MIT
 * Tests of all kernels: ops of every kind and format as models have them, and each variant that takes them. */
#include "backends/vulkan/device.h"
#include "backends/vulkan/selftest.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/weights.h"

#include <stdio.h>
#include <string.h>

enum { K = 1024, M = 512, MANY = 256, HEADS = 8, KV_HEADS = 2, CELLS = 4096, EXPERTS = 8, CHOSEN = 2 };

typedef struct round {
    qp_device *device;
    const char *only;
    qv_kernel_visit visit;
    void *ctx;
    int stopped;
    const qv_variant *tested[64]; /* those that took an op so far */
    uint32_t tested_count;
} round;

/* ---- one op ---- */

static void mark(round *r, const qv_variant *v)
{
    for (uint32_t i = 0; i < r->tested_count; i++)
        if (r->tested[i] == v)
            return;
    if (r->tested_count < sizeof r->tested / sizeof *r->tested)
        r->tested[r->tested_count++] = v;
}

static int is_marked(const round *r, const qv_variant *v)
{
    for (uint32_t i = 0; i < r->tested_count; i++)
        if (r->tested[i] == v)
            return 1;
    return 0;
}

static int is_wanted(const round *r, const char *kernel, const qv_variant *v)
{
    char name[64];
    qv_selftest_name(kernel, v, name);
    return !r->only || strstr(name, r->only) != NULL;
}

static const qv_op_row *row_of(qp_op_kind kind)
{
    const qv_op_row *row;
    for (uint32_t i = 0; (row = qv_op_row_at(i)); i++)
        if (row->kind == kind)
            return row;
    return NULL;
}

static void try_op(round *r, qp_op *op)
{
    const qv_op_row *row = row_of(op->kind);
    qp_op_info info = {.struct_size = sizeof info};
    op->struct_size = sizeof *op;
    op->version = 1;
    qv_test_lay_out(&op->dst, 0);
    for (int s = 0; s < QP_OP_SOURCES; s++)
        if (qv_present(&op->src[s]))
            qv_test_lay_out(&op->src[s], 0);
    if (row->check(r->device, op, &info, NULL))
        return;
    qv_kernel k = {.row = row, .op = op, .name = info.kernel[0] ? info.kernel : row->name};
    int is_taken = 0;
    for (const qv_variant *v = row->variants; v->name && !r->stopped; v++) {
        if ((v->lacks && v->lacks(r->device->physical)) || (v->refuses && v->refuses(r->device, op)))
            continue;
        mark(r, v);
        k.variant = v;
        k.is_best = !is_taken && (!r->device->variant || !strcmp(r->device->variant, v->name) || !v[1].name);
        is_taken |= k.is_best;
        if (is_wanted(r, k.name, v))
            r->stopped = r->visit(r->ctx, &k);
    }
}

/* ---- the ops ---- */

static qp_tensor tensor(qp_format format, int64_t ne0, int64_t ne1, int64_t ne2)
{
    return (qp_tensor){.format = format, .ne = {ne0, ne1, ne2, 1}};
}

static qp_tensor floats(int64_t ne0, int64_t ne1, int64_t ne2)
{
    return tensor(QP_FORMAT_F32, ne0, ne1, ne2);
}

static qp_tensor numbers(int64_t n)
{
    return tensor(QP_FORMAT_I32, n, 1, 1);
}

static qp_tensor weight(qp_format format, int64_t ne0, int64_t ne1, int64_t ne2)
{
    qp_tensor t = tensor(format, ne0, ne1, ne2);
    t.layout = qv_has_planes(format) ? QV_LAYOUT_PLANES : QP_LAYOUT_GGUF;
    return t;
}

static void try_products(round *r, qp_format format, int64_t rows, int gated)
{
    qp_op op = {.kind = QP_OP_MATMUL, .dst = floats(M, 1, rows)};
    op.src[QP_MATMUL_W] = weight(format, K, M, 1);
    op.src[QP_MATMUL_X] = floats(K, 1, rows);
    if (gated)
        op.src[QP_MATMUL_W2] = op.src[QP_MATMUL_W];
    op.p.matmul = (qp_matmul_params){.scale = 1, .bias_scale = 1, .scale2 = 1, .bias_scale2 = 1};
    op.p.matmul.act = gated ? QP_ACT_SILU : QP_ACT_NONE;
    try_op(r, &op);
    op = (qp_op){.kind = QP_OP_EXPERT_MATMUL, .dst = floats(M, gated ? CHOSEN : 1, rows)};
    op.src[QP_EXPERT_MATMUL_W] = weight(format, K, M, EXPERTS);
    op.src[QP_EXPERT_MATMUL_X] = floats(K, gated ? 1 : CHOSEN, rows);
    op.src[QP_EXPERT_MATMUL_ROUTE] = floats(CHOSEN, 2, rows);
    if (gated)
        op.src[QP_EXPERT_MATMUL_W2] = op.src[QP_EXPERT_MATMUL_W];
    op.p.expert_matmul = (qp_expert_matmul_params){gated ? QP_ACT_SILU : QP_ACT_NONE, gated ? 0 : QP_EXPERT_SUM, 1, 7};
    try_op(r, &op);
}

/* Where the device packs weights at all: elsewhere the host writes them where they belong. */
static void try_packing(round *r, qp_format format)
{
    const qv_physical *p = r->device->physical;
    char name[64];
    qv_selftest_packing_name(format, name);
    if (p->heaps[p->weight_heap].flags & QP_HEAP_HOST_VISIBLE || !qv_has_planes(format) || (r->only && !strstr(name, r->only)))
        return;
    if (!r->stopped)
        r->stopped = r->visit(r->ctx, &(qv_kernel){.name = name, .packs = format, .is_packing = 1, .is_best = 1});
}

static void try_weights(round *r)
{
    for (qp_format format = 0; format < QP_FORMAT_LIMIT; format++) {
        if (!qv_is_weight_format(format))
            continue;
        try_packing(r, format);
        qp_op op = {.kind = QP_OP_GET_ROWS, .dst = floats(K, 1, MANY), .p.get_rows = {1}};
        op.src[QP_GET_ROWS_TABLE] = weight(format, K, M, 1);
        op.src[QP_GET_ROWS_IDS] = numbers(MANY);
        try_op(r, &op);
        for (int i = 0; i < 4; i++)
            try_products(r, format, i & 1 ? MANY : 1, i >> 1);
    }
}

static void try_attention(round *r, qp_format format, int64_t size, int64_t rows)
{
    qp_op op = {.kind = QP_OP_ATTENTION, .dst = floats(size, HEADS, rows)};
    op.src[QP_ATTENTION_Q] = floats(size, HEADS, rows);
    op.src[QP_ATTENTION_K] = op.src[QP_ATTENTION_V] = tensor(format, size, KV_HEADS, CELLS);
    op.src[QP_ATTENTION_POSITIONS] = numbers(rows);
    op.p.attention.scale = 0.1f;
    try_op(r, &op);
}

static void try_caches(round *r)
{
    static const qp_format formats[] = {QP_FORMAT_F32, QP_FORMAT_F16, QP_FORMAT_BF16, QP_FORMAT_Q8_0, QP_FORMAT_Q4_0};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        qp_op op = {.kind = QP_OP_KV_APPEND, .dst = tensor(formats[i], 128, KV_HEADS, CELLS)};
        op.src[QP_KV_APPEND_X] = floats(128, KV_HEADS, MANY);
        op.src[QP_KV_APPEND_CELLS] = numbers(MANY);
        try_op(r, &op);
        for (size_t j = 0; j < sizeof formats / sizeof *formats; j++) {
            op = (qp_op){.kind = QP_OP_COPY, .dst = tensor(formats[i], K, 1, MANY), .src = {tensor(formats[j], K, 1, MANY)}};
            try_op(r, &op);
        }
        for (int64_t size = 64; size <= 256; size *= 2) {
            try_attention(r, formats[i], size, 1);
            try_attention(r, formats[i], size, MANY);
        }
    }
}

static void try_rows(round *r)
{
    for (uint32_t i = 0; i <= 2 * QP_NORM_L2 + 1; i++) {
        int64_t n = i % 2 ? 128 : K;
        qp_op op = {.kind = QP_OP_NORM, .dst = floats(n, 1, MANY), .src = {floats(n, 1, MANY), floats(n, 1, 1)}};
        op.p.norm = (qp_norm_params){i / 2, 1e-5f, 0};
        try_op(r, &op);
    }
    for (uint32_t i = 0; i <= 2 * QP_ROPE_NEOX + 1; i++) {
        qp_op op = {.kind = QP_OP_ROPE, .dst = floats(128, HEADS, MANY), .src = {floats(128, HEADS, MANY), numbers(MANY)}};
        if (i % 2)
            op.src[QP_ROPE_FACTORS] = floats(64, 1, 1);
        op.p.rope = (qp_rope_params){.mode = i / 2, .n_dims = 128, .freq_base = 10000, .freq_scale = 1, .attn_factor = 1};
        try_op(r, &op);
    }
    for (uint32_t f = QP_ELEMENTWISE_ADD; f <= QP_ELEMENTWISE_SOFTCAP; f++)
        for (qp_activation act = QP_ACT_SILU; act <= QP_ACT_SWIGLU_CLAMPED; act++) {
            int with_b = f == QP_ELEMENTWISE_ADD || f == QP_ELEMENTWISE_MUL || f == QP_ELEMENTWISE_GLU;
            qp_op op = {.kind = QP_OP_ELEMENTWISE, .dst = floats(K, 1, MANY), .src = {floats(K, 1, MANY)}};
            if (with_b)
                op.src[QP_ELEMENTWISE_B] = op.src[QP_ELEMENTWISE_A];
            op.p.elementwise = (qp_elementwise_params){f, act, 1.5f, 2};
            try_op(r, &op);
        }
    qp_op op = {.kind = QP_OP_SAMPLE, .dst = numbers(1), .src = {floats(32000, 1, 1)}};
    try_op(r, &op);
}

static void try_routes(round *r)
{
    for (uint32_t gate = QP_GATE_SOFTMAX; gate <= QP_GATE_SOFTMAX_CHOSEN; gate++)
        for (uint32_t flags = 0; flags <= QP_EXPERT_NORMALISE; flags++) {
            qp_op op = {.kind = QP_OP_EXPERT_ROUTE, .dst = floats(CHOSEN, 2, MANY), .src = {floats(64, 1, MANY)}};
            op.p.expert_route = (qp_expert_route_params){.gate = gate, .flags = flags, .scale = 1};
            try_op(r, &op);
        }
}

static void try_recurrent(round *r)
{
    qp_op conv = {.kind = QP_OP_SHORT_CONV, .dst = floats(K, 1, MANY)}, rule = {.kind = QP_OP_DELTA_RULE};
    conv.src[QP_SHORT_CONV_X] = conv.dst;
    conv.src[QP_SHORT_CONV_W] = floats(4, K, 1);
    conv.src[QP_SHORT_CONV_POSITIONS] = numbers(MANY);
    conv.src[QP_SHORT_CONV_STATE] = floats(K, 3, 1);
    conv.p.short_conv.act = QP_ACT_SILU;
    try_op(r, &conv);
    rule.dst = rule.src[QP_DELTA_RULE_V] = floats(128, HEADS, MANY);
    rule.src[QP_DELTA_RULE_Q] = rule.src[QP_DELTA_RULE_K] = floats(128, KV_HEADS, MANY);
    rule.src[QP_DELTA_RULE_GATE] = rule.src[QP_DELTA_RULE_BETA] = floats(HEADS, 1, MANY);
    rule.src[QP_DELTA_RULE_POSITIONS] = numbers(MANY);
    rule.src[QP_DELTA_RULE_STATE] = floats(128, 128, HEADS);
    rule.p.delta_rule.scale = 0.1f;
    try_op(r, &rule);
}

/* ---- all of it ---- */

/* A variant that the device has and that took none of these is a hole in the list above. */
static void visit_untried(round *r)
{
    const qv_op_row *row;
    for (uint32_t i = 0; (row = qv_op_row_at(i)); i++)
        for (const qv_variant *v = row->variants; v->name && !r->stopped; v++)
            if (!is_marked(r, v) && is_wanted(r, row->name, v) && !(v->lacks && v->lacks(r->device->physical)))
                r->stopped = r->visit(r->ctx, &(qv_kernel){.row = row, .variant = v, .name = row->name});
}

int qv_each_kernel(qp_device *device, const char *only, qv_kernel_visit visit, void *ctx)
{
    round r = {.device = device, .only = only, .visit = visit, .ctx = ctx};
    void (*const parts[])(round *) = {try_rows, try_caches, try_routes, try_recurrent, try_weights, visit_untried};
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !r.stopped; i++)
        parts[i](&r);
    return r.stopped;
}

/* ---- tests of them ---- */

typedef struct tests {
    qp_device *device;
    int (*each)(void *ctx, const qp_kernel_result *result);
    void *ctx;
    uint32_t number;
} tests;

static int test_one(void *ctx, const qv_kernel *k)
{
    const tests *t = ctx;
    qp_kernel_result result = {.struct_size = sizeof result, .result = QP_KERNEL_UNTESTED};
    if (k->is_packing)
        return qv_selftest_packing_again(t->device, k->packs, t->number, &result) && t->each(t->ctx, &result);
    if (k->op)
        return qv_selftest_again(t->device, k->row, k->variant, k->op, k->name, t->number, &result) && t->each(t->ctx, &result);
    qv_selftest_name(k->name, k->variant, result.kernel);
    snprintf(result.words, sizeof result.words, "it takes none of the ops that are tried");
    return t->each(t->ctx, &result);
}

qp_status qv_selftest_all(qp_device *device, const char *only, int (*each)(void *ctx, const qp_kernel_result *result), void *ctx,
                          qp_text *error)
{
    static atomic_uint rounds;
    qp_status status = qv_lost(device, error);
    if (status)
        return status;
    if (!device->selftest)
        return qv_fail(error, QP_ERR_UNSUPPORTED, "tests of kernels are switched off by QUERN_VULKAN_SELF_TEST");
    tests t = {.device = device, .each = each, .ctx = ctx, .number = atomic_fetch_add(&rounds, 1) + 1};
    int stopped = qv_each_kernel(device, only, test_one, &t);
    qv_selftest_rest(device);
    return stopped ? qv_fail(error, QP_ERR_CANCELLED, "stopped") : QP_OK;
}
