/* SPDX-License-Identifier: MIT
 * Mixtures of experts: which experts a row goes to, and products with the matrices of the chosen ones. */
#include "backends/cpu/ops.h"
#include "backends/cpu/status.h"

#include <string.h>

/* ---- EXPERT_ROUTE -------------------------------------------------------------------------------------------------- */

static qp_status check_groups(const qp_op *op, qp_text *reason)
{
    const qp_expert_route_params *p = &op->p.expert_route;
    int64_t experts = op->src[QP_EXPERT_ROUTE_LOGITS].ne[0], groups = p->groups > 1 ? p->groups : 1;
    int64_t used = groups > 1 ? p->groups_used : 1;
    if (experts % groups || used < 1 || used > groups)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "%lld experts cannot be split into %lld groups of which %lld are used",
                       (long long)experts, (long long)groups, (long long)used);
    if (op->dst.ne[0] > experts / groups * used)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "%lld experts are to be chosen out of %lld", (long long)op->dst.ne[0],
                       (long long)(experts / groups * used));
    return QP_OK;
}

static qp_status check_route(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *logits = &op->src[QP_EXPERT_ROUTE_LOGITS], *bias = &op->src[QP_EXPERT_ROUTE_BIAS];
    const qp_expert_route_params *p = &op->p.expert_route;
    if (p->gate > QP_GATE_SOFTMAX_CHOSEN || p->flags & ~(uint32_t)QP_EXPERT_NORMALISE)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "gate %u with flags 0x%x is not known", p->gate, p->flags);
    qp_status status = qc_need_format(logits, "logits", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_format(&op->dst, "dst", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_shape(logits, "logits", logits->ne[0], 1, op->dst.ne[2], reason);
    if (!status)
        status = qc_need_shape(&op->dst, "dst", op->dst.ne[0], 2, op->dst.ne[2], reason);
    if (!status && qc_present(bias))
        status = qc_need_floats(bias, "the bias", logits->ne[0], reason);
    if (!status)
        status = check_groups(op, reason);
    if (status)
        return status;
    qc_name_kernel(info, "expert_route", NULL, device->kernels.isa);
    info->operations = (uint64_t)(logits->ne[0] * logits->ne[2]) * (uint64_t)op->dst.ne[0];
    return QP_OK;
}

static const char *const route_sources[] = {"logits", "the bias"};
const qc_op_row qc_expert_route_row = {.kind = QP_OP_EXPERT_ROUTE,
                                       .name = "expert_route",
                                       .sources = route_sources,
                                       .required = 1u << QP_EXPERT_ROUTE_LOGITS,
                                       .optional = 1u << QP_EXPERT_ROUTE_BIAS,
                                       .check = check_route};

/* ---- EXPERT_MATMUL ------------------------------------------------------------------------------------------------- */

static int sums(const qp_op *op)
{
    return (op->p.expert_matmul.flags & QP_EXPERT_SUM) != 0;
}

/* Experts of a row. */
static int64_t used_of(const qp_op *op)
{
    return op->src[QP_EXPERT_MATMUL_ROUTE].ne[0];
}

static qp_status check_matrix(const qp_op *op, const qp_tensor *w, const char *name, qp_text *reason)
{
    qp_status status = qc_need_shape(w, name, op->src[QP_EXPERT_MATMUL_X].ne[0], op->dst.ne[0], w->ne[2], reason);
    if (!status && !qc_reference_has(w->format))
        status = qc_fail(reason, QP_ERR_UNSUPPORTED, "there is no matmul kernel for %s weights", qc_format_name(w->format));
    return status;
}

static qp_status check_matrices(const qp_op *op, qp_text *reason)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *w2 = &op->src[QP_EXPERT_MATMUL_W2];
    qp_status status = check_matrix(op, w, "W", reason);
    if (status || !qc_present(w2))
        return status;
    if (w2->format != w->format || w2->layout != w->layout || w2->ne[2] != w->ne[2])
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "W2 is %s %s, not like W", qc_format_name(w2->format), qc_shape_words(w2).text);
    return check_matrix(op, w2, "W2", reason);
}

static qp_status need_matrix_floats(const qp_tensor *t, const char *name, int64_t n, int64_t m, qp_text *reason)
{
    qp_status status = qc_present(t) ? qc_need_format(t, name, QP_FORMAT_F32, reason) : QP_OK;
    return status || !qc_present(t) ? status : qc_need_shape(t, name, n, m, 1, reason);
}

static qp_status check_vectors(const qp_op *op, qp_text *reason)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *residual = &op->src[QP_EXPERT_MATMUL_RESIDUAL];
    const qp_tensor *bias2 = &op->src[QP_EXPERT_MATMUL_BIAS2], *scales = &op->src[QP_EXPERT_MATMUL_SCALES];
    qp_status status = need_matrix_floats(&op->src[QP_EXPERT_MATMUL_BIAS], "bias", w->ne[1], w->ne[2], reason);
    if (!status)
        status = need_matrix_floats(bias2, "bias2", w->ne[1], w->ne[2], reason);
    if (!status)
        status = need_matrix_floats(scales, "scales", w->ne[2], 1, reason);
    if (!status && qc_present(residual))
        status = qc_need_format(residual, "residual", QP_FORMAT_F32, reason);
    if (!status && qc_present(residual))
        status = qc_need_shape(residual, "residual", op->dst.ne[0], 1, op->dst.ne[2], reason);
    if (status)
        return status;
    if (qc_present(&op->src[QP_EXPERT_MATMUL_W2]) ? qc_present(scales) : qc_present(bias2))
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "a gated pair takes no scales, and without W2 there is no bias2");
    return qc_present(residual) && !sums(op)
               ? qc_fail(reason, QP_ERR_UNSUPPORTED, "a residual is given, but there is no sum that it could be added to")
               : QP_OK;
}

static qp_status check_rows(const qp_op *op, qp_text *reason)
{
    const qp_tensor *x = &op->src[QP_EXPERT_MATMUL_X], *route = &op->src[QP_EXPERT_MATMUL_ROUTE];
    int64_t rows = op->dst.ne[2], used = used_of(op);
    qp_status status = qc_need_format(x, "x", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_format(route, "the route", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_format(&op->dst, "dst", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_shape(route, "the route", used, 2, rows, reason);
    if (!status)
        status = qc_need_shape(x, "x", x->ne[0], x->ne[1] == 1 ? 1 : used, rows, reason);
    return status ? status : qc_need_shape(&op->dst, "dst", op->dst.ne[0], sums(op) ? 1 : used, rows, reason);
}

static qp_status check_matmul(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_expert_matmul_params *p = &op->p.expert_matmul;
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *w2 = &op->src[QP_EXPERT_MATMUL_W2];
    int pair = qc_present(w2);
    qp_status status = check_rows(op, reason);
    if (!status)
        status = check_matrices(op, reason);
    if (!status)
        status = check_vectors(op, reason);
    if (status)
        return status;
    if ((p->act > QP_ACT_SOFTPLUS && !(pair && p->act == QP_ACT_SWIGLU_CLAMPED)) ||
        p->flags & ~(uint32_t)(QP_MATMUL_FLOAT | QP_EXPERT_SUM))
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "activation %u of %s or flags 0x%x are not known", p->act,
                       pair ? "a gated pair" : "one product", p->flags);
    qc_name_kernel(info, "expert_matmul", qc_format_name(w->format), "ref");
    uint64_t products = (uint64_t)used_of(op) * (uint64_t)op->dst.ne[2];
    info->operations = 2 * (uint64_t)w->ne[0] * (uint64_t)w->ne[1] * products * (pair ? 2 : 1);
    if (products < (uint64_t)w->ne[2]) /* the others are not read */
        info->bytes_moved -= (qc_tensor_bytes(w) + (pair ? qc_tensor_bytes(w2) : 0)) / (uint64_t)w->ne[2] *
                             ((uint64_t)w->ne[2] - products);
    return QP_OK;
}

static const char *const matmul_sources[] = {"W", "x", "bias", "residual", "W2", "bias2", "the route", "scales"};
const qc_op_row qc_expert_matmul_row = {
    .kind = QP_OP_EXPERT_MATMUL,
    .name = "expert_matmul",
    .sources = matmul_sources,
    .required = 1u << QP_EXPERT_MATMUL_W | 1u << QP_EXPERT_MATMUL_X | 1u << QP_EXPERT_MATMUL_ROUTE,
    .optional = 1u << QP_EXPERT_MATMUL_BIAS | 1u << QP_EXPERT_MATMUL_RESIDUAL | 1u << QP_EXPERT_MATMUL_W2 |
                1u << QP_EXPERT_MATMUL_BIAS2 | 1u << QP_EXPERT_MATMUL_SCALES,
    .check = check_matmul};
