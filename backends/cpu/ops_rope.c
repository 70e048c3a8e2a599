/* SPDX-License-Identifier: MIT
 * Rotary embedding: a table of cos and sin for every row, computed once a run for all ops with the same positions, factors and
 * parameters, then the rotation. Angles are doubles, so that position 1 000 000 is as exact as position 1. */
#include "backends/cpu/ops.h"
#include "backends/cpu/status.h"

#include <math.h>
#include <string.h>

static qp_status check(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *x = &op->src[QP_ROPE_X], *factors = &op->src[QP_ROPE_FACTORS];
    const qp_rope_params *p = &op->p.rope;
    qp_status status = qc_need_format(x, "x", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_format(&op->dst, "dst", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_shape(x, "x", op->dst.ne[0], op->dst.ne[1], op->dst.ne[2], reason);
    if (!status && x->ne[3] != op->dst.ne[3])
        status = qc_need_shape(&op->dst, "dst", x->ne[0], x->ne[1], x->ne[2], reason);
    if (!status)
        status = qc_need_index(&op->src[QP_ROPE_POSITIONS], "positions", x->ne[2], reason);
    if (status)
        return status;
    if (p->mode != QP_ROPE_NORMAL && p->mode != QP_ROPE_NEOX)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "rope mode %u is not served, only NORMAL and NEOX", p->mode);
    if (p->flags & ~(uint32_t)QP_ROPE_EXACT_RAMP)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "rope flags %#x are not known", p->flags);
    if (p->n_dims == 0 || p->n_dims % 2 || p->n_dims > (uint64_t)x->ne[0])
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "n_dims is %u; it must be even and at most the head size, %lld", p->n_dims,
                       (long long)x->ne[0]);
    if (!(p->freq_base > 0) || !(p->freq_scale > 0) || p->freq_base == INFINITY || p->freq_scale == INFINITY)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "freq_base %g and freq_scale %g must be positive numbers", (double)p->freq_base,
                       (double)p->freq_scale);
    if (qc_present(factors)) {
        status = qc_need_floats(factors, "factors", p->n_dims / 2, reason);
        if (status)
            return status;
    }
    qc_name_kernel(info, "rope", NULL, device->kernels.isa);
    info->operations = (uint64_t)x->ne[1] * (uint64_t)x->ne[2] * p->n_dims * 3;
    return QP_OK;
}

static uint64_t table_row(const qp_rope_params *p)
{
    return ((uint64_t)p->n_dims * sizeof(float) + QC_ALIGNMENT - 1) / QC_ALIGNMENT * QC_ALIGNMENT;
}

/* One table for each set of parameters: ops with other positions share it in turn. */
static qp_status measure(const qp_device *device, const qp_op *op, qc_scratch *scratch, qp_text *error)
{
    (void)device;
    int i = qc_scratch_rope(scratch, &op->p.rope);
    if (i < 0)
        return qc_fail(error, QP_ERR_UNSUPPORTED, "a program has at most %d different sets of rope parameters", QC_MAX_ROPE_TABLES);
    uint64_t bytes = table_row(&op->p.rope) * (uint64_t)op->dst.ne[2];
    scratch->rope[i].bytes = bytes > scratch->rope[i].bytes ? bytes : scratch->rope[i].bytes;
    return QP_OK;
}

/* ---- the table ----------------------------------------------------------------------------------------------------- */

/* YaRN's correction dimension: the pair that turns `rotations` times in the original context. */
static double correction(const qp_rope_params *p, double rotations)
{
    static const double two_pi = 6.28318530717958647693;
    return (double)p->n_dims * log((double)p->original_context / (rotations * two_pi)) / (2 * log((double)p->freq_base));
}

/* Radians a position, before the factor, for every pair. */
static void fill_turns(double *turns, const qp_rope_params *p)
{
    double low = 0, high = 0, n = (double)p->n_dims;
    if (p->ext_factor != 0) {
        int exact = (p->flags & QP_ROPE_EXACT_RAMP) != 0;
        low = correction(p, (double)p->beta_fast);
        high = correction(p, (double)p->beta_slow);
        low = fmax(exact ? low : floor(low), 0);
        high = fmin(exact ? high : ceil(high), n - 1);
    }
    double width = high - low < 0.001 ? 0.001 : high - low;
    for (uint32_t i = 0; i < p->n_dims / 2; i++) {
        double plain = pow((double)p->freq_base, -2.0 * i / n), slow = (double)p->freq_scale * plain;
        double ramp = 1 - fmin(fmax(((double)i - low) / width, 0), 1), mix = p->ext_factor != 0 ? ramp * (double)p->ext_factor : 0;
        turns[i] = slow * (1 - mix) + plain * mix;
    }
}

static double magnitude_of(const qp_rope_params *p)
{
    return p->ext_factor != 0 ? (double)p->attn_factor * (1 + 0.1 * log(1 / (double)p->freq_scale)) : (double)p->attn_factor;
}

static void run_table(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)live;
    (void)work;
    const qc_rope_table_node *u = &node->u.rope_table;
    for (int64_t r = begin; r < end; r++) {
        float *to = qc_row_at(&u->table, 0, r);
        double position = u->positions[r];
        for (int64_t i = 0; i < u->pairs; i++) {
            double angle = position * u->turns[i];
            if (u->factors)
                angle /= (double)u->factors[i];
            to[2 * i] = (float)(cos(angle) * u->magnitude);
            to[2 * i + 1] = (float)(sin(angle) * u->magnitude);
        }
    }
}

typedef struct table_key {
    const void *positions, *factors, *live;
    int64_t rows;
} table_key;

static qp_status add_table(qc_builder *b, uint32_t slot, const qc_rows *table, const qk_op *r)
{
    static const qc_kind kind = {run_table, NULL};
    const qp_rope_params *p = &r->p.rope;
    const qk_tensor *positions = &r->src[QP_ROPE_POSITIONS], *factors = &r->src[QP_ROPE_FACTORS];
    table_key key = {positions->data, factors->data, qc_build_get(b)->live, r->dst.ne[2]};
    if (qc_cache_has(b, slot, &key, sizeof key))
        return QP_OK;
    double *turns = qc_build_alloc(b, p->n_dims / 2 * sizeof *turns);
    qc_node *node = turns ? qc_node_begin(b, &kind, r->dst.ne[2], 1) : NULL;
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    fill_turns(turns, p);
    node->u.rope_table = (qc_rope_table_node){.positions = positions->data,
                                              .factors = factors->data,
                                              .turns = turns,
                                              .magnitude = magnitude_of(p),
                                              .pairs = p->n_dims / 2,
                                              .table = *table};
    node->grain = qc_row_grain(qc_build_get(b)->device, r->dst.ne[2]);
    qc_node_reads(b, positions);
    qc_node_reads(b, factors);
    qc_node_touches(b, table->data, (uint64_t)table->row, (uint64_t)table->row, r->dst.ne[2], 1, 1);
    qp_status status = qc_node_end(b);
    qc_cache_set(b, slot, &key, sizeof key);
    return status;
}

/* ---- the rotation -------------------------------------------------------------------------------------------------- */

static void run_rope(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)live;
    (void)work;
    const qc_rope_node *u = &node->u.rope;
    for (int64_t r = begin; r < end; r++)
        for (int64_t h = 0; h < u->heads; h++) {
            float *to = qc_row_at(&u->dst, h, r);
            const float *from = qc_row_at(&u->x, h, r);
            if (to != from)
                memcpy(to, from, (size_t)u->n * sizeof *to);
            node->kernels->rope(to, qc_row_at(&u->table, 0, r), u->n_dims, u->mode);
        }
}

static qp_status launch(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)error;
    static const qc_kind kind = {run_rope, NULL};
    const qc_build_info *info = qc_build_get(b);
    qc_scratch found = *info->scratch; /* the set of parameters is there already */
    int slot = qc_scratch_rope(&found, &op->p.rope);
    int64_t row = (int64_t)table_row(&op->p.rope), rows = r->dst.ne[2];
    qc_rows table = {info->scratch_data + qc_scratch_rope_offset(info->scratch, (uint32_t)slot), 0, row};
    if (add_table(b, 1 + (uint32_t)slot, &table, r))
        return QP_ERR_OUT_OF_MEMORY;
    qc_node *node = qc_node_begin(b, &kind, rows, 1);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    node->u.rope = (qc_rope_node){.x = qc_rows_of(&r->src[QP_ROPE_X]),
                                  .dst = qc_rows_of(&r->dst),
                                  .table = table,
                                  .n = r->dst.ne[0],
                                  .heads = r->dst.ne[1],
                                  .n_dims = op->p.rope.n_dims,
                                  .mode = op->p.rope.mode};
    node->grain = qc_row_grain(info->device, rows);
    qc_node_reads(b, &r->src[QP_ROPE_X]);
    qc_node_touches(b, table.data, (uint64_t)row, (uint64_t)row, rows, 0, 1);
    qc_node_writes(b, &r->dst);
    return qc_node_end(b);
}

static const char *const sources[] = {"x", "positions", "factors"};
const qc_op_row qc_rope_row = {.kind = QP_OP_ROPE,
                               .name = "rope",
                               .sources = sources,
                               .required = 1u << QP_ROPE_X | 1u << QP_ROPE_POSITIONS,
                               .optional = 1u << QP_ROPE_FACTORS,
                               .check = check,
                               .measure = measure,
                               .launch = launch};
