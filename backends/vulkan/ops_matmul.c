/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/matmul.h"

#include "backends/vulkan/device.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/texels.h"
#include "backends/vulkan/weights.h"

#include <stdio.h>

_Static_assert(sizeof(struct qv_matmul_params) <= QV_PUSH_BYTES, "parameters of a matmul fit the push constants");

/* From one row of W to the next. */
static uint64_t row_bytes(const qp_tensor *w)
{
    return w->layout == QV_LAYOUT_PLANES ? qv_weight_row(w->format, w->layout, w->ne[0]) : w->ne[1] > 1 ? (uint64_t)w->nb[1] : 0;
}

static qp_status check_weights(const qp_op *op, qp_text *reason)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W], *w2 = &op->src[QP_MATMUL_W2];
    if (!qv_is_weight_format(w->format))
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "there is no kernel for weights in %s yet", qv_format_name(w->format));
    if (row_bytes(w) > UINT32_MAX)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "W has rows of %llu bytes; below 4 GiB are served",
                       (unsigned long long)row_bytes(w));
    qp_status status = qv_need_shape(w, "W", w->ne[0], w->ne[1], 1, reason);
    if (status || !qv_present(w2))
        return status;
    if (w2->format != w->format || w2->layout != w->layout || (w->layout == QP_LAYOUT_GGUF && w2->nb[1] != w->nb[1]))
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "W2 is not like W in format, layout and strides");
    return qv_need_shape(w2, "W2", w->ne[0], w->ne[1], 1, reason);
}

static qp_status check_matmul(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *w = &op->src[QP_MATMUL_W], *x = &op->src[QP_MATMUL_X], *residual = &op->src[QP_MATMUL_RESIDUAL];
    int64_t k = w->ne[0], m = w->ne[1], rows = x->ne[2];
    if (op->p.matmul.act > QP_ACT_SOFTPLUS)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "activation %u is not served here", op->p.matmul.act);
    if (op->p.matmul.flags & ~(uint32_t)QP_MATMUL_FLOAT)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "flags %#x are not known", op->p.matmul.flags);
    int gated = qv_present(&op->src[QP_MATMUL_W2]);
    if (qv_present(&op->src[QP_MATMUL_BIAS2]) && !gated)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "there is a second bias but no second weight");
    qp_status status = check_weights(op, reason);
    if (!status)
        status = qv_need_floats(x, "x", k, 1, rows, reason);
    if (!status)
        status = qv_need_floats(&op->dst, "dst", m, 1, rows, reason);
    if (!status)
        status = qv_need_vector(&op->src[QP_MATMUL_BIAS], "the bias", m, reason);
    if (!status)
        status = qv_need_vector(&op->src[QP_MATMUL_BIAS2], "the second bias", m, reason);
    if (!status && qv_present(residual))
        status = qv_need_floats(residual, "the residual", m, 1, rows, reason);
    info->operations = 2 * (uint64_t)k * (uint64_t)m * (uint64_t)rows * (gated ? 2 : 1);
    snprintf(info->kernel, sizeof info->kernel, "matmul_%s", qv_format_name(w->format));
    return status;
}

struct qv_matmul_params qv_matmul_params_of(const qp_op *op)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W], *x = &op->src[QP_MATMUL_X], *residual = &op->src[QP_MATMUL_RESIDUAL];
    const qp_matmul_params *from = &op->p.matmul;
    return (struct qv_matmul_params){.w = qv_address(w),
                                     .x = qv_address(x),
                                     .bias = qv_address(&op->src[QP_MATMUL_BIAS]),
                                     .residual = qv_address(residual),
                                     .w2 = qv_address(&op->src[QP_MATMUL_W2]),
                                     .bias2 = qv_address(&op->src[QP_MATMUL_BIAS2]),
                                     .dst = qv_address(&op->dst),
                                     .live = qv_address(&op->live),
                                     .k = (uint32_t)w->ne[0],
                                     .rows = (uint32_t)x->ne[2],
                                     .w_row = (uint32_t)row_bytes(w),
                                     .x_row = qv_stride(x, 2),
                                     .residual_row = qv_stride(residual, 2),
                                     .dst_row = qv_stride(&op->dst, 2),
                                     .scale = from->scale,
                                     .bias_scale = from->bias_scale,
                                     .scale2 = from->scale2,
                                     .bias_scale2 = from->bias_scale2,
                                     .act = from->act};
}

const char *qv_matmul_is_small(const qp_device *device, const qp_op *op, const char *name)
{
    if (qv_matmul_is_asked_for(device, name))
        return NULL;
    if (device->physical->lanes)
        return "subgroups are of 8 or 16 only";
    return op->src[QP_MATMUL_X].ne[2] <= QV_FEW_TOKENS ? "there are 8 tokens or fewer" : NULL;
}

qp_status qv_matmul_convert(qv_plan *plan, const qp_op *op, const char *shader, const qv_constants *constants, uint64_t row,
                            uint64_t rows, struct qv_matmul_params *p, qp_text *error)
{
    struct qv_quantise_params to = {
        .x = p->x, .live = p->live, .k = p->k, .rows = p->rows, .x_row = p->x_row, .dst_row = (uint32_t)row};
    qp_status status = qv_plan_convert(plan, shader, constants, &op->src[QP_MATMUL_X], &op->live, &to, row * rows, 1,
                                       (const uint64_t[]){rows, 1}, error);
    p->x = to.dst;
    p->x_row = to.dst_row;
    return status;
}

qp_status qv_matmul_dispatch(qv_plan *plan, const qp_op *op, const char *kernel, qv_constants c, struct qv_matmul_params *p,
                             uint32_t rows, uint32_t tokens, qp_text *error)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W];
    char name[48];
    snprintf(name, sizeof name, "%s_%s", kernel, qv_format_name(w->format));
    c.ids[c.count] = 10;
    c.values[c.count++] = w->layout == QV_LAYOUT_PLANES;
    uint32_t m = (uint32_t)w->ne[1];
    uint64_t work_of_row = (uint64_t)p->k * p->rows * (qv_matmul_is_gated(op) ? 2 : 1);
    uint32_t step = qv_rows_at_once(plan->device, work_of_row, m);
    qp_status status = QP_OK;
    for (uint32_t first = 0; first < m && !status; first += step) {
        uint32_t count = m - first < step ? m - first : step;
        p->first = first;
        p->m = first + count;
        status = qv_plan_dispatch(plan, name, &c, p, sizeof *p, qv_groups(count, rows), qv_groups(p->rows, tokens),
                                  work_of_row * count, error);
        if (!status)
            status = qv_attach_grid(plan, w->format, offsetof(struct qv_matmul_params, grid), error);
    }
    return status;
}

/* How the kernels of small devices are cut up. */
typedef struct shape {
    const char *kernel;
    uint32_t lanes;        /* of a subgroup; 0: the kernel does not ask */
    uint32_t rows, tokens; /* of W and of x that one invocation takes */
} shape;

static qp_status launch_shape(qv_plan *plan, const qp_op *op, shape s, qp_text *error)
{
    struct qv_matmul_params p = qv_matmul_params_of(op);
    qv_constants c =
        qv_make_constants(QV_GROUP, s.lanes ? 4 : 2,
                          (const uint32_t[][2]){{1, s.tokens}, {2, (uint32_t)qv_matmul_is_gated(op)}, {3, s.rows}, {4, s.lanes}});
    return qv_matmul_dispatch(plan, op, s.kernel, c, &p, QV_GROUP * s.rows, s.tokens, error);
}

/* ---- the variants ---- */

static qp_status launch_plain(qv_plan *plan, const qp_op *op, qp_text *error)
{
    return launch_shape(plan, op, (shape){"matmul", 0, 1, op->src[QP_MATMUL_X].ne[2] > 1 ? 4 : 1}, error);
}

/* On devices with small subgroups, which load lane by lane, one that loads seldom and hands around; it takes whole pieces of 32. */
static const char *lanes_lacks(const qv_physical *physical)
{
    return physical->lanes ? NULL : "subgroups are not always of 8 or of 16";
}

static const char *lanes_refuses(const qp_device *device, const qp_op *op)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W], *x = &op->src[QP_MATMUL_X];
    (void)device;
    if (w->ne[0] % 32)
        return "K is no multiple of 32";
    if ((x->offset | (uint64_t)x->nb[2]) % 8)
        return "x has rows that do not start at multiples of 8 bytes";
    return w->layout == QV_LAYOUT_PLANES || !qv_has_planes(w->format) ? NULL : "W is not packed";
}

static qp_status launch_lanes(qv_plan *plan, const qp_op *op, qp_text *error)
{
    uint32_t tokens = op->src[QP_MATMUL_X].ne[2] > 1 ? 8 : 1;
    return launch_shape(plan, op, (shape){"matmul_lanes", plan->device->physical->lanes, 4, tokens}, error);
}

const qv_op_row qv_matmul_row = {
    .kind = QP_OP_MATMUL,
    .name = "matmul",
    .sources = {"W", "x", "the bias", "the residual", "W2", "the second bias"},
    .required = 1u << QP_MATMUL_W | 1u << QP_MATMUL_X,
    .optional = 1u << QP_MATMUL_BIAS | 1u << QP_MATMUL_RESIDUAL | 1u << QP_MATMUL_W2 | 1u << QP_MATMUL_BIAS2,
    .weights = 1u << QP_MATMUL_W | 1u << QP_MATMUL_W2,
    .check = check_matmul,
    .variants = QV_VARIANTS(
        {.name = "texels", .lacks = qv_texels_lack, .refuses = qv_matmul_texels_refuses, .launch = qv_matmul_texels_launch},
        {.name = "lanes", .lacks = lanes_lacks, .refuses = lanes_refuses, .launch = launch_lanes},
        {.name = "matrices",
         .lacks = qv_matrices_lacks,
         .refuses = qv_matrices_refuses,
         .launch = qv_matrices_launch,
         .scratch = qv_matrices_scratch},
        {.name = "dot_tiles",
         .lacks = qv_dot_lacks,
         .refuses = qv_dot_tiles_refuses,
         .launch = qv_dot_tiles_launch,
         .scratch = qv_dot_scratch},
        {.name = "dot", .lacks = qv_dot_lacks, .refuses = qv_dot_refuses, .launch = qv_dot_launch, .scratch = qv_dot_scratch},
        {.name = "half_tiles",
         .lacks = qv_half_tiles_lacks,
         .refuses = qv_half_tiles_refuses,
         .launch = qv_half_tiles_launch,
         .scratch = qv_half_tiles_scratch},
        {.name = "tiles", .refuses = qv_tiles_refuses, .launch = qv_tiles_launch},
        {.name = "rows", .lacks = qv_rows_lacks, .refuses = qv_rows_refuses, .launch = qv_rows_launch}, QV_PLAIN(launch_plain))};
