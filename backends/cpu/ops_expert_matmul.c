/* SPDX-License-Identifier: MIT
 * Products with the matrices of chosen experts: what is taken, and how an op becomes nodes (ops_expert_run.c runs them).
 *
 * One row streams the matrices of its experts. Several rows are sorted by expert first and their activations brought into that
 * order, quantised once a row, so that each matrix is read once for all rows that go to it. One expert alone needs no sorting. */
#include "backends/cpu/ops_experts.h"

#include "backends/cpu/status.h"

#include <string.h>

static int sums(const qp_op *op)
{
    return (op->p.expert_matmul.flags & QP_EXPERT_SUM) != 0;
}

/* W and W2 lie alike. */
static int wants_int8(const qp_op *op)
{
    return qc_is_panel(&op->src[QP_EXPERT_MATMUL_W]) && !(op->p.expert_matmul.flags & QP_MATMUL_FLOAT);
}

/* Experts of a row. */
static int64_t used_of(const qp_op *op)
{
    return op->src[QP_EXPERT_MATMUL_ROUTE].ne[0];
}

static qp_status check_matrix(const qp_device *device, const qp_op *op, const qp_tensor *w, const char *name, qp_text *reason)
{
    return qc_check_matrix(device, w, name, op->src[QP_EXPERT_MATMUL_X].ne[0], op->dst.ne[0], w->ne[2], reason);
}

static qp_status check_matrices(const qp_device *device, const qp_op *op, qp_text *reason)
{
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *w2 = &op->src[QP_EXPERT_MATMUL_W2];
    qp_status status = check_matrix(device, op, w, "W", reason);
    if (status || !qc_present(w2))
        return status;
    if (w2->format != w->format || w2->layout != w->layout || w2->ne[2] != w->ne[2])
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "W2 is %s %s, not like W", qc_format_name(w2->format), qc_shape_words(w2).text);
    return check_matrix(device, op, w2, "W2", reason);
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
    const qp_expert_matmul_params *p = &op->p.expert_matmul;
    const qp_tensor *w = &op->src[QP_EXPERT_MATMUL_W], *w2 = &op->src[QP_EXPERT_MATMUL_W2];
    int pair = qc_present(w2);
    qp_status status = check_rows(op, reason);
    if (!status)
        status = check_matrices(device, op, reason);
    if (!status)
        status = check_vectors(op, reason);
    if (status)
        return status;
    if ((p->act > QP_ACT_SOFTPLUS && !(pair && p->act == QP_ACT_SWIGLU_CLAMPED)) ||
        p->flags & ~(uint32_t)(QP_MATMUL_FLOAT | QP_EXPERT_SUM))
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "activation %u of %s or flags 0x%x are not known", p->act,
                       pair ? "a gated pair" : "one product", p->flags);
    const qk_kernels *k = &device->kernels;
    int unpacked = qc_is_panel(w) && !wants_int8(op);
    qc_name_kernel(info, unpacked ? "expert_matmul_unpacked" : "expert_matmul", qc_format_name(w->format),
                   unpacked         ? k->matmul_float_isa[QP_FORMAT_F32]
                   : qc_is_panel(w) ? k->matmul_panel_isa[w->format]
                                    : k->matmul_float_isa[w->format]);
    uint64_t products = (uint64_t)used_of(op) * (uint64_t)op->dst.ne[2];
    info->operations = 2 * (uint64_t)w->ne[0] * (uint64_t)w->ne[1] * products * (pair ? 2 : 1);
    if (products < (uint64_t)w->ne[2]) /* the others are not read */
        info->bytes_moved -=
            (qc_tensor_bytes(w) + (pair ? qc_tensor_bytes(w2) : 0)) / (uint64_t)w->ne[2] * ((uint64_t)w->ne[2] - products);
    return QP_OK;
}

/* ---- how it is cut --------------------------------------------------------------------------------------------------*/

enum {
    STRIP = QK_PANEL_ROWS,
    MAX_TILE = 64,
    DECODE_BYTES = 64 << 10,
    PREFILL_BYTES = 256 << 10,
    SUM_BYTES = 1 << 20,
    MAX_GROUP = 16
};

typedef enum shape { ONE_ROW, ONE_EXPERT, SORTED } shape;

static shape shape_of(const qp_op *op)
{
    if (op->dst.ne[2] == 1)
        return ONE_ROW;
    return used_of(op) == 1 && op->src[QP_EXPERT_MATMUL_W].ne[2] == 1 ? ONE_EXPERT : SORTED;
}

/* Rows times their experts. */
static int64_t entries_of(const qp_op *op)
{
    return op->dst.ne[2] * used_of(op);
}

static uint64_t strip_bytes(const qp_tensor *w)
{
    return qc_is_panel(w) ? qk_panel_bytes(w->format, w->ne[0]) : STRIP * qc_row_bytes(w->format, w->ne[0]);
}

static int64_t strips_of(const qp_op *op)
{
    return (op->dst.ne[0] + STRIP - 1) / STRIP;
}

/* Strips in a unit, as for MATMUL; a sum of sorted rows keeps the results of all of them until they are added up. */
static int64_t group_of(const qp_device *device, const qp_op *op)
{
    int64_t units = strips_of(op);
    uint64_t want = shape_of(op) == ONE_ROW ? DECODE_BYTES : PREFILL_BYTES;
    int64_t group = (int64_t)(want / (strip_bytes(&op->src[QP_EXPERT_MATMUL_W]) + 1));
    if (!sums(op) && shape_of(op) == SORTED)
        units *= op->src[QP_EXPERT_MATMUL_W].ne[2] < entries_of(op) ? op->src[QP_EXPERT_MATMUL_W].ne[2] : entries_of(op);
    group = group > MAX_GROUP ? MAX_GROUP : group;
    while (group > 1 && (units < group * 4 * device->threads ||
                         (sums(op) && shape_of(op) == SORTED && group * entries_of(op) > SUM_BYTES / (STRIP * 4))))
        group /= 2;
    return group < 1 ? 1 : group;
}

static int64_t tile_of(const qp_op *op)
{
    return op->dst.ne[2] < MAX_TILE ? op->dst.ne[2] : MAX_TILE;
}

/* Bytes of one row of activations as the kernel wants them. */
static int64_t act_bytes(const qp_op *op)
{
    int64_t k = op->src[QP_EXPERT_MATMUL_X].ne[0];
    return (int64_t)(wants_int8(op) ? qk_act_bytes(k) : qk_act_pad((uint64_t)k * sizeof(float)));
}

static uint64_t sorted_bytes(const qp_op *op)
{
    return ((uint64_t)op->src[QP_EXPERT_MATMUL_W].ne[2] + 2 + 2 * (uint64_t)entries_of(op)) * sizeof(int32_t);
}

/* Rows of activations that are copied or quantised before the product; 0: it takes them where they are. */
static int64_t gathered_of(const qp_op *op)
{
    if (shape_of(op) == SORTED)
        return entries_of(op);
    return wants_int8(op) ? op->dst.ne[2] * op->src[QP_EXPERT_MATMUL_X].ne[1] : 0;
}

static qp_status measure(const qp_device *device, const qp_op *op, qc_scratch *scratch, qp_text *error)
{
    int64_t experts = op->src[QP_EXPERT_MATMUL_W].ne[2];
    if (entries_of(op) > INT32_MAX || experts > INT32_MAX - 2)
        return qc_fail(error, QP_ERR_UNSUPPORTED, "%lld rows times %lld experts, or %lld experts, are more than can be sorted",
                       (long long)op->dst.ne[2], (long long)used_of(op), (long long)experts);
    qc_expert_sizes sizes = {.m = op->dst.ne[0],
                             .rows = shape_of(op) == ONE_ROW ? strips_of(op) * STRIP : group_of(device, op) * STRIP,
                             .tile = tile_of(op),
                             .entries = sums(op) && shape_of(op) == SORTED ? entries_of(op) : tile_of(op)};
    uint64_t thread = qc_expert_thread_bytes(&sizes);
    if (wants_int8(op))
        thread += QK_MATMUL_SCRATCH;
    else if (qc_is_panel(&op->src[QP_EXPERT_MATMUL_W]))
        thread += STRIP * sizeof(float) * (uint64_t)op->src[QP_EXPERT_MATMUL_X].ne[0];
    uint64_t acts = (uint64_t)gathered_of(op) * (uint64_t)act_bytes(op), sorted = shape_of(op) == SORTED ? sorted_bytes(op) : 0;
    scratch->thread_bytes = thread > scratch->thread_bytes ? thread : scratch->thread_bytes;
    scratch->activations = acts > scratch->activations ? acts : scratch->activations;
    scratch->sorted = sorted > scratch->sorted ? sorted : scratch->sorted;
    return QP_OK;
}

/* ---- launch -------------------------------------------------------------------------------------------------------- */

static qc_sorted sorted_at(const qc_build_info *info, const qp_op *op)
{
    qc_sorted s = {.start = (int32_t *)(void *)(info->scratch_data + qc_scratch_sorted_offset(info->scratch))};
    s.entry = s.start + op->src[QP_EXPERT_MATMUL_W].ne[2] + 2;
    s.place = s.entry + entries_of(op);
    return s;
}

static void touches_sorted(qc_builder *b, const qp_op *op, int write)
{
    qc_node_touches(b, sorted_at(qc_build_get(b), op).start, sorted_bytes(op), sorted_bytes(op), 1, write, 0);
}

/* The products of a layer share their route, and those with the same x what was gathered. */
typedef struct entries_key {
    const void *x, *live, *route;
    int64_t k, rows, stride, heads, used;
} entries_key;

static qp_status sort(qc_builder *b, const qp_op *op, const qk_op *r)
{
    const qc_build_info *info = qc_build_get(b);
    const qk_tensor *route = &r->src[QP_EXPERT_MATMUL_ROUTE];
    int64_t experts = r->src[QP_EXPERT_MATMUL_W].ne[2];
    entries_key key;
    memset(&key, 0, sizeof key);
    key = (entries_key){.live = info->live,
                        .route = route->data,
                        .k = experts,
                        .rows = r->dst.ne[2],
                        .stride = route->nb[2],
                        .heads = route->nb[1],
                        .used = used_of(op)};
    if (qc_cache_has(b, QC_CACHE_SORTED, &key, sizeof key))
        return QP_OK;
    qc_node *node = qc_node_begin(b, &qc_sort_kind, r->dst.ne[2], 0);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    node->u.sort =
        (qc_sort_node){.route = qc_rows_of(route), .experts = experts, .used = used_of(op), .sorted = sorted_at(info, op)};
    qc_node_touches_all(b, route, 0);
    touches_sorted(b, op, 1);
    qp_status status = qc_node_end(b);
    qc_cache_set(b, QC_CACHE_SORTED, &key, sizeof key);
    return status;
}

/* x into scratch, as the kernel wants it. */
static qp_status gather(qc_builder *b, const qp_op *op, const qk_op *r)
{
    const qc_build_info *info = qc_build_get(b);
    const qk_tensor *x = &r->src[QP_EXPERT_MATMUL_X];
    int sorted = shape_of(op) == SORTED;
    if (!sorted && x->ne[1] == 1)
        return qc_quantise_rows(b, x);
    entries_key key;
    memset(&key, 0, sizeof key);
    key = (entries_key){.x = x->data,
                        .live = info->live,
                        .route = sorted ? r->src[QP_EXPERT_MATMUL_ROUTE].data : NULL,
                        .k = x->ne[0] * 2 + wants_int8(op),
                        .rows = x->ne[2],
                        .stride = x->nb[2],
                        .heads = x->nb[1] * 2 + (x->ne[1] == 1),
                        .used = used_of(op)};
    if (qc_cache_has(b, 0, &key, sizeof key))
        return QP_OK;
    qc_node *node = qc_node_begin(b, &qc_gather_kind, x->ne[2], 0);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    node->u.gather = (qc_gather_node){.x = qc_rows_of(x),
                                      .k = x->ne[0],
                                      .heads = x->ne[1],
                                      .used = used_of(op),
                                      .place = sorted ? sorted_at(info, op).place : NULL,
                                      .dst = info->scratch_data,
                                      .bytes = act_bytes(op),
                                      .quantise = wants_int8(op)};
    uint64_t bytes = (uint64_t)gathered_of(op) * (uint64_t)act_bytes(op);
    qc_node_touches_all(b, x, 0);
    if (sorted)
        touches_sorted(b, op, 0);
    qc_node_touches(b, info->scratch_data, bytes, bytes, 1, 1, 0);
    qp_status status = qc_node_end(b);
    qc_cache_set(b, 0, &key, sizeof key);
    return status;
}

static int64_t expert_bytes(const qp_tensor *w)
{
    return qc_is_panel(w) ? w->ne[1] / STRIP * (int64_t)strip_bytes(w) : w->nb[2];
}

static void fill(qc_expert_node *u, const qc_build_info *info, const qp_op *op, const qk_op *r)
{
    const qk_tensor *w = &r->src[QP_EXPERT_MATMUL_W], *x = &r->src[QP_EXPERT_MATMUL_X];
    int floats = !wants_int8(op), gathered = gathered_of(op) > 0;
    const char *data = gathered ? info->scratch_data : x->data;
    int64_t row = gathered ? act_bytes(op) : x->nb[2];
    *u = (qc_expert_node){.w = qc_weight_of(info, w, floats, data, row),
                          .w2 = qc_weight_of(info, &r->src[QP_EXPERT_MATMUL_W2], floats, data, row),
                          .expert_bytes = expert_bytes(&op->src[QP_EXPERT_MATMUL_W]),
                          .expert_bytes2 = expert_bytes(&op->src[QP_EXPERT_MATMUL_W2]),
                          .x_head = x->ne[1] == 1 ? 0
                                    : gathered    ? act_bytes(op)
                                                  : x->nb[1],
                          .k = x->ne[0],
                          .m = r->dst.ne[0],
                          .experts = w->ne[2],
                          .used = used_of(op),
                          .group = group_of(info->device, op),
                          .tile = tile_of(op),
                          .route = qc_rows_of(&r->src[QP_EXPERT_MATMUL_ROUTE]),
                          .bias = qc_rows_of(&r->src[QP_EXPERT_MATMUL_BIAS]),
                          .bias2 = qc_rows_of(&r->src[QP_EXPERT_MATMUL_BIAS2]),
                          .residual = qc_rows_of(&r->src[QP_EXPERT_MATMUL_RESIDUAL]),
                          .dst = qc_rows_of(&r->dst),
                          .scales = r->src[QP_EXPERT_MATMUL_SCALES].data,
                          .p = op->p.expert_matmul};
    if (shape_of(op) == SORTED)
        u->sorted = sorted_at(info, op);
}

static qp_status launch(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)error;
    static const qc_kind *const kinds[] = {
        [ONE_ROW] = &qc_expert_row_kind, [ONE_EXPERT] = &qc_expert_alone_kind, [SORTED] = &qc_expert_sorted_kind};
    const qc_build_info *info = qc_build_get(b);
    shape s = shape_of(op);
    if (s == SORTED && sort(b, op, r))
        return QP_ERR_OUT_OF_MEMORY;
    if (gathered_of(op) && gather(b, op, r))
        return QP_ERR_OUT_OF_MEMORY;
    qc_node *node = qc_node_begin(b, s == SORTED && sums(op) ? &qc_expert_sum_kind : kinds[s], r->dst.ne[2], 0);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    fill(&node->u.expert, info, op, r);
    node->streams = s == ONE_ROW;
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++)
        qc_node_touches_all(b, &r->src[i], 0);
    uint64_t bytes = (uint64_t)gathered_of(op) * (uint64_t)act_bytes(op);
    if (bytes)
        qc_node_touches(b, info->scratch_data, bytes, bytes, 1, 0, 0);
    if (s == SORTED)
        touches_sorted(b, op, 0);
    qc_node_touches_all(b, &r->dst, 1);
    return qc_node_end(b);
}

static const char *const matmul_sources[] = {"W", "x", "bias", "residual", "W2", "bias2", "the route", "scales"};
const qc_op_row qc_expert_matmul_row = {
    .kind = QP_OP_EXPERT_MATMUL,
    .name = "expert_matmul",
    .sources = matmul_sources,
    .required = 1u << QP_EXPERT_MATMUL_W | 1u << QP_EXPERT_MATMUL_X | 1u << QP_EXPERT_MATMUL_ROUTE,
    .optional = 1u << QP_EXPERT_MATMUL_BIAS | 1u << QP_EXPERT_MATMUL_RESIDUAL | 1u << QP_EXPERT_MATMUL_W2 |
                1u << QP_EXPERT_MATMUL_BIAS2 | 1u << QP_EXPERT_MATMUL_SCALES,
    .packed = 1u << QP_EXPERT_MATMUL_W | 1u << QP_EXPERT_MATMUL_W2,
    .check = check_matmul,
    .measure = measure,
    .launch = launch};
