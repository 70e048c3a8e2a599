/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/ops.h"
#include "backends/vulkan/status.h"
#include "kernels/ref/ref.h"
#include "kernels/vulkan/params.h"

#include <math.h>

static qp_status check_rope(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *x = &op->src[QP_ROPE_X];
    const qp_rope_params *p = &op->p.rope;
    if (p->mode > QP_ROPE_NEOX)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "there is no mode %u yet", p->mode);
    if (p->flags & ~(uint32_t)QP_ROPE_EXACT_RAMP)
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "flags %#x are not known", p->flags);
    qp_status status = qv_need_floats(x, "x", x->ne[0], x->ne[1], x->ne[2], reason);
    if (!status && (!p->n_dims || p->n_dims % 2 || (int64_t)p->n_dims > x->ne[0]))
        status = qv_fail(reason, QP_ERR_UNSUPPORTED, "n_dims is %u: an even number up to the head size of %lld is due", p->n_dims,
                         (long long)x->ne[0]);
    if (!status)
        status = qv_need_floats(&op->dst, "dst", x->ne[0], x->ne[1], x->ne[2], reason);
    if (!status)
        status = qv_need_numbers(&op->src[QP_ROPE_POSITIONS], "the positions", x->ne[2], reason);
    info->operations = 3 * (uint64_t)x->ne[0] * (uint64_t)x->ne[1] * (uint64_t)x->ne[2];
    return status ? status : qv_need_vector(&op->src[QP_ROPE_FACTORS], "the frequency factors", p->n_dims / 2, reason);
}

/* What one position adds to a pair's angle, as a fraction of a turn in units of 2^-64. The reference knows the angle of position 1,
 * which is all that is needed: angles grow evenly. */
static uint64_t turn_of(const qp_rope_params *p, int64_t pair, double *magnitude)
{
    double c, s;
    qr_rope_angle(p, pair, 1, 1, &c, &s);
    *magnitude = hypot(c, s);
    if (p->attn_factor < 0) { /* it turned both around */
        c = -c;
        s = -s;
    }
    double turn = atan2(s, c) / 6.283185307179586476925;
    if (!isfinite(turn))
        return 0;
    turn -= floor(turn);
    double high = floor(turn * 0x1p32);
    return (uint64_t)high << 32 | (uint64_t)((turn * 0x1p32 - high) * 0x1p32);
}

static qp_status launch_rope(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *x = &op->src[QP_ROPE_X], *dst = &op->dst;
    const qp_rope_params *from = &op->p.rope;
    double magnitude = 1;
    turn_of(from, 0, &magnitude);
    struct qv_rope_params p = {.x = qv_address(x),
                               .dst = qv_address(dst),
                               .positions = qv_address(&op->src[QP_ROPE_POSITIONS]),
                               .factors = qv_address(&op->src[QP_ROPE_FACTORS]),
                               .live = qv_address(&op->live),
                               .n = (uint32_t)x->ne[0],
                               .heads = (uint32_t)x->ne[1],
                               .rows = (uint32_t)x->ne[2],
                               .n_dims = from->n_dims,
                               .x_head = qv_stride(x, 1),
                               .x_row = qv_stride(x, 2),
                               .dst_head = qv_stride(dst, 1),
                               .dst_row = qv_stride(dst, 2),
                               .magnitude = (float)(from->attn_factor < 0 ? -magnitude : magnitude)};
    qv_constants c =
        qv_make_constants(QV_GROUP, 2, (const uint32_t[][2]){{1, from->mode == QP_ROPE_NEOX}, {2, qv_present(&op->src[QP_ROPE_FACTORS])}});
    uint64_t items = (uint64_t)p.heads * p.rows, pairs = from->n_dims / 2;
    qp_status status =
        qv_plan_dispatch(plan, "rope", &c, &p, sizeof p, qv_groups(p.n - pairs, QV_GROUP), items, 10 * items * p.n, error);
    void *table = NULL;
    if (!status)
        status = qv_plan_constants(plan, offsetof(struct qv_rope_params, table), pairs * sizeof(uint64_t), &table, error);
    for (uint64_t i = 0; i < pairs && !status; i++)
        ((uint64_t *)table)[i] = turn_of(from, (int64_t)i, &magnitude);
    return status;
}

const qv_op_row qv_rope_row = {.kind = QP_OP_ROPE,
                               .name = "rope",
                               .sources = {"x", "the positions", "the frequency factors"},
                               .required = 1u << QP_ROPE_X | 1u << QP_ROPE_POSITIONS,
                               .optional = 1u << QP_ROPE_FACTORS,
                               .check = check_rope,
                               .variants = QV_VARIANTS(QV_PLAIN(launch_rope))};
