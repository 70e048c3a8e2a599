/* SPDX-License-Identifier: MIT
 * Ops that go over rows of floats: norms, functions element by element, and the greedy sampler. */
#include "backends/cpu/ops.h"
#include "backends/cpu/status.h"

#include <string.h>

static qp_status need_same(const qp_tensor *t, const char *name, const qp_op *op, qp_text *reason)
{
    qp_status status = qc_need_format(t, name, QP_FORMAT_F32, reason);
    return status ? status : qc_need_shape(t, name, op->dst.ne[0], op->dst.ne[1], op->dst.ne[2], reason);
}

/* ---- NORM ---------------------------------------------------------------------------------------------------------- */

static qp_status check_norm(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *weight = &op->src[QP_NORM_WEIGHT], *bias = &op->src[QP_NORM_BIAS];
    qp_status status = need_same(&op->dst, "dst", op, reason);
    if (!status)
        status = need_same(&op->src[QP_NORM_X], "x", op, reason);
    if (!status && qc_present(weight))
        status = qc_need_floats(weight, "the weight", op->dst.ne[0], reason);
    if (!status && qc_present(bias))
        status = qc_need_floats(bias, "the bias", op->dst.ne[0], reason);
    if (status)
        return status;
    if (op->p.norm.kind > QP_NORM_L2)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "norm %u is not known", op->p.norm.kind);
    qc_name_kernel(info, "norm", NULL, device->kernels.isa);
    info->operations = 4 * (uint64_t)(op->dst.ne[0] * op->dst.ne[1] * op->dst.ne[2]);
    return QP_OK;
}

static void run_norm(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)live;
    (void)work;
    const qc_norm_node *u = &node->u.norm;
    for (int64_t r = begin; r < end; r++)
        for (int64_t h = 0; h < u->heads; h++)
            node->kernels->norm(qc_row_at(&u->dst, h, r), qc_row_at(&u->x, h, r), u->weight, u->bias, u->n, &u->p);
}

static qp_status launch_norm(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)error;
    static const qc_kind kind = {run_norm, NULL};
    qc_node *node = qc_node_begin(b, &kind, r->dst.ne[2], 1);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    node->u.norm = (qc_norm_node){.x = qc_rows_of(&r->src[QP_NORM_X]),
                                  .dst = qc_rows_of(&r->dst),
                                  .n = r->dst.ne[0],
                                  .heads = r->dst.ne[1],
                                  .weight = r->src[QP_NORM_WEIGHT].data,
                                  .bias = r->src[QP_NORM_BIAS].data,
                                  .p = op->p.norm};
    node->grain = qc_row_grain(qc_build_get(b)->device, r->dst.ne[2]);
    qc_node_reads(b, &r->src[QP_NORM_X]);
    qc_node_touches_all(b, &r->src[QP_NORM_WEIGHT], 0);
    qc_node_touches_all(b, &r->src[QP_NORM_BIAS], 0);
    qc_node_writes(b, &r->dst);
    return qc_node_end(b);
}

static const char *const norm_sources[] = {"x", "the weight", "the bias"};
const qc_op_row qc_norm_row = {.kind = QP_OP_NORM,
                               .name = "norm",
                               .sources = norm_sources,
                               .required = 1u << QP_NORM_X,
                               .optional = 1u << QP_NORM_WEIGHT | 1u << QP_NORM_BIAS,
                               .check = check_norm,
                               .launch = launch_norm};

/* ---- ELEMENTWISE --------------------------------------------------------------------------------------------------- */

static int takes_two(uint32_t function)
{
    return function == QP_ELEMENTWISE_ADD || function == QP_ELEMENTWISE_MUL || function == QP_ELEMENTWISE_GLU;
}

static qp_status check_elementwise(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *b = &op->src[QP_ELEMENTWISE_B];
    const qp_elementwise_params *p = &op->p.elementwise;
    qp_status status = need_same(&op->dst, "dst", op, reason);
    if (!status)
        status = need_same(&op->src[QP_ELEMENTWISE_A], "a", op, reason);
    if (status)
        return status;
    int clamped = p->function == QP_ELEMENTWISE_GLU && p->act == QP_ACT_SWIGLU_CLAMPED;
    if (p->function > QP_ELEMENTWISE_SOFTCAP || (p->act > QP_ACT_SOFTPLUS && !clamped))
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "function %u with activation %u is not known", p->function, p->act);
    if (takes_two(p->function) != qc_present(b))
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "function %u takes %s", p->function,
                       takes_two(p->function) ? "a and b" : "a alone");
    if (qc_present(b)) {
        status = qc_need_format(b, "b", QP_FORMAT_F32, reason);
        if (!status)
            status = qc_need_shape(b, "b", op->dst.ne[0], op->dst.ne[1], b->ne[2] == 1 ? 1 : op->dst.ne[2], reason);
        if (status)
            return status;
    }
    qc_name_kernel(info, "elementwise", NULL, device->kernels.isa);
    info->operations = (uint64_t)(op->dst.ne[0] * op->dst.ne[1] * op->dst.ne[2]);
    return QP_OK;
}

static void run_elementwise(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)live;
    (void)work;
    const qc_elementwise_node *u = &node->u.elementwise;
    for (int64_t r = begin; r < end; r++)
        for (int64_t h = 0; h < u->heads; h++)
            node->kernels->elementwise(qc_row_at(&u->dst, h, r), qc_row_at(&u->a, h, r), u->b.data ? qc_row_at(&u->b, h, r) : NULL,
                                       u->n, &u->p);
}

static qp_status launch_elementwise(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)error;
    static const qc_kind kind = {run_elementwise, NULL};
    const qk_tensor *second = &r->src[QP_ELEMENTWISE_B];
    qc_node *node = qc_node_begin(b, &kind, r->dst.ne[2], 1);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    qc_elementwise_node *u = &node->u.elementwise;
    *u = (qc_elementwise_node){.a = qc_rows_of(&r->src[QP_ELEMENTWISE_A]),
                               .b = qc_rows_of(second),
                               .dst = qc_rows_of(&r->dst),
                               .n = r->dst.ne[0],
                               .heads = r->dst.ne[1],
                               .p = op->p.elementwise};
    if (second->data && second->ne[2] == 1)
        u->b.row = 0; /* the same for every row */
    node->grain = qc_row_grain(qc_build_get(b)->device, r->dst.ne[2]);
    qc_node_reads(b, &r->src[QP_ELEMENTWISE_A]);
    qc_node_reads(b, second);
    qc_node_writes(b, &r->dst);
    return qc_node_end(b);
}

static const char *const elementwise_sources[] = {"a", "b"};
const qc_op_row qc_elementwise_row = {.kind = QP_OP_ELEMENTWISE,
                                      .name = "elementwise",
                                      .sources = elementwise_sources,
                                      .required = 1u << QP_ELEMENTWISE_A,
                                      .optional = 1u << QP_ELEMENTWISE_B,
                                      .check = check_elementwise,
                                      .launch = launch_elementwise};

/* ---- SAMPLE -------------------------------------------------------------------------------------------------------- */

static qp_status check_sample(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *logits = &op->src[0];
    qp_status status = qc_need_format(logits, "logits", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_shape(logits, "logits", logits->ne[0], 1, logits->ne[2], reason);
    if (!status)
        status = qc_need_index(&op->dst, "dst", logits->ne[2], reason);
    if (status)
        return status;
    if (op->p.sample.kind != QP_SAMPLE_GREEDY)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "sampler %u is not known, only GREEDY", op->p.sample.kind);
    if (logits->ne[0] > INT32_MAX)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "a vocabulary of %lld is more than an i32 can name", (long long)logits->ne[0]);
    qc_name_kernel(info, "sample_greedy", NULL, device->kernels.isa);
    return QP_OK;
}

static void run_sample(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)live;
    (void)work;
    const qc_sample_node *u = &node->u.sample;
    for (int64_t r = begin; r < end; r++) {
        int32_t best = node->kernels->argmax(qc_row_at(&u->logits, 0, r), u->n);
        memcpy(u->dst + r * u->dst_stride, &best, sizeof best);
    }
}

static qp_status launch_sample(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)op;
    (void)error;
    static const qc_kind kind = {run_sample, NULL};
    const qk_tensor *logits = &r->src[0];
    qc_node *node = qc_node_begin(b, &kind, logits->ne[2], 1);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    node->u.sample =
        (qc_sample_node){.logits = qc_rows_of(logits), .dst = r->dst.data, .dst_stride = r->dst.nb[0], .n = logits->ne[0]};
    qc_node_reads(b, logits);
    qc_node_touches(b, r->dst.data, sizeof(int32_t), sizeof(int32_t), r->dst.ne[0], 1, 1);
    return qc_node_end(b);
}

static const char *const sample_sources[] = {"logits"};
const qc_op_row qc_sample_row = {.kind = QP_OP_SAMPLE,
                                 .name = "sample",
                                 .sources = sample_sources,
                                 .required = 1,
                                 .check = check_sample,
                                 .launch = launch_sample};
