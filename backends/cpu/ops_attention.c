/* SPDX-License-Identifier: MIT
 * Attention. With many rows a unit is a KV head and a few rows, which go over the cells together, stretch by stretch, so that a
 * stretch of K and V is read from a near cache. With few rows (decode) each stretch is a unit of its own; the thread that ends the
 * last one of a row and KV head merges them in order. How the cells are cut follows from the shapes alone, so the result is the
 * same for any number of threads. */
#include "backends/cpu/ops.h"
#include "backends/cpu/status.h"

#include <math.h>
#include <string.h>

enum { STRETCH = 256, MAX_STRETCHES = 64, ROW_BLOCK = 8, MOST_ROWS = 32, QUERIES = 32, FEW_ROWS = 4 };

/* ---- check --------------------------------------------------------------------------------------------------------- */

static qp_status check_cache(const qp_device *device, const qp_op *op, qp_text *reason)
{
    const qp_tensor *q = &op->src[QP_ATTENTION_Q], *k = &op->src[QP_ATTENTION_K], *v = &op->src[QP_ATTENTION_V];
    qp_status status = qc_need_shape(k, "the K cache", q->ne[0], k->ne[1], k->ne[2], reason);
    if (!status)
        status = qc_need_shape(v, "the V cache", op->dst.ne[0], k->ne[1], k->ne[2], reason);
    if (status)
        return status;
    if (q->ne[1] % k->ne[1])
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "%lld query heads cannot share %lld KV heads evenly", (long long)q->ne[1],
                       (long long)k->ne[1]);
    if (k->ne[2] > INT32_MAX)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "a cache of %lld cells is more than positions can name", (long long)k->ne[2]);
    if (device->reference)
        return qc_reference_has(k->format) && qc_reference_has(v->format)
                   ? QP_OK
                   : qc_fail(reason, QP_ERR_UNSUPPORTED, "there is no reading of a %s cache", qc_format_name(k->format));
    if (k->format != v->format)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "K is %s and V is %s; only caches of one format are served",
                       qc_format_name(k->format), qc_format_name(v->format));
    if (!device->kernels.attention[k->format])
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "there is no attention kernel for a %s cache", qc_format_name(k->format));
    return QP_OK;
}

static qp_status check(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *q = &op->src[QP_ATTENTION_Q], *k = &op->src[QP_ATTENTION_K], *sinks = &op->src[QP_ATTENTION_SINKS];
    qp_status status = qc_need_format(q, "q", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_format(&op->dst, "dst", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_shape(q, "q", q->ne[0], q->ne[1], op->dst.ne[2], reason);
    if (!status)
        status = qc_need_shape(&op->dst, "dst", op->dst.ne[0], q->ne[1], op->dst.ne[2], reason);
    if (!status)
        status = check_cache(device, op, reason);
    if (!status)
        status = qc_need_index(&op->src[QP_ATTENTION_POSITIONS], "positions", op->dst.ne[2], reason);
    if (!status && qc_present(sinks))
        status = qc_need_floats(sinks, "sinks", q->ne[1], reason);
    if (status)
        return status;
    qc_name_kernel(info, "attention", qc_format_name(k->format), device->kernels.isa);
    info->operations = 2 * (uint64_t)(q->ne[0] + op->dst.ne[0]) * (uint64_t)q->ne[1] * (uint64_t)q->ne[2] * (uint64_t)k->ne[2];
    return QP_OK;
}

/* ---- how it is cut ------------------------------------------------------------------------------------------------- */

static int is_few(const qp_op *op)
{
    return op->dst.ne[2] <= FEW_ROWS;
}

/* A long cache gets longer stretches, so that there are never more than MAX_STRETCHES. */
static int64_t stretch_of(const qp_op *op)
{
    int64_t cells = op->src[QP_ATTENTION_K].ne[2];
    return STRETCH * ((cells + (int64_t)STRETCH * MAX_STRETCHES - 1) / ((int64_t)STRETCH * MAX_STRETCHES));
}

static int64_t stretches_of(const qp_op *op)
{
    return (op->src[QP_ATTENTION_K].ne[2] + stretch_of(op) - 1) / stretch_of(op);
}

/* Rows of a unit: enough queries (rows × heads of the group) for the kernel to use a piece of K and V many times. */
static int64_t row_block_of(int64_t group)
{
    int64_t rows = QUERIES / group;
    return rows < ROW_BLOCK ? ROW_BLOCK : rows > MOST_ROWS ? MOST_ROWS : rows;
}

/* State of a group of heads in floats: maximum and sum of each, then the weighted values, padded. */
static uint64_t state_floats(int64_t heads, int64_t v_size)
{
    return ((uint64_t)heads * 2 + 15) / 16 * 16 + ((uint64_t)heads * (uint64_t)v_size + 15) / 16 * 16;
}

static qp_status measure(const qp_device *device, const qp_op *op, qc_scratch *scratch, qp_text *error)
{
    (void)device;
    (void)error;
    int64_t kv_heads = op->src[QP_ATTENTION_K].ne[1], group = op->src[QP_ATTENTION_Q].ne[1] / kv_heads, rows = op->dst.ne[2];
    uint64_t state = state_floats(group, op->dst.ne[0]) * sizeof(float);
    if (is_few(op)) {
        uint64_t bytes = state * (uint64_t)(rows * kv_heads * stretches_of(op));
        scratch->partial = bytes > scratch->partial ? bytes : scratch->partial;
    }
    uint64_t thread = state * (uint64_t)row_block_of(group);
    scratch->thread_bytes = thread > scratch->thread_bytes ? thread : scratch->thread_bytes;
    return QP_OK;
}

/* ---- one stretch --------------------------------------------------------------------------------------------------- */

typedef struct state {
    float *m, *l, *acc;
} state;

static int64_t group_heads(const qc_attention_node *u)
{
    return u->heads / u->kv_heads;
}

static state state_at(const qc_attention_node *u, char *memory, int64_t index)
{
    int64_t group = group_heads(u);
    float *m = (float *)(void *)memory + (uint64_t)index * state_floats(group, u->v_size);
    return (state){.m = m, .l = m + group, .acc = m + ((uint64_t)group * 2 + 15) / 16 * 16};
}

static void start(const qc_attention_node *u, const state *s)
{
    for (int64_t h = 0; h < group_heads(u); h++) {
        s->m[h] = -INFINITY;
        s->l[h] = 0;
    }
    memset(s->acc, 0, (size_t)(group_heads(u) * u->v_size) * sizeof *s->acc);
}

/* Cells [begin, end) that row r sees; none for a negative position. */
static void cells_of(const qc_attention_node *u, int64_t r, int64_t *begin, int64_t *end)
{
    int64_t position = u->positions[r];
    position = position >= u->cells ? u->cells - 1 : position;
    *end = position + 1 > 0 ? position + 1 : 0;
    *begin = u->p.window > 0 && position - (int64_t)u->p.window + 1 > 0 ? position - (int64_t)u->p.window + 1 : 0;
}

/* One row from row r on; cells and more rows are for the caller to add. */
static qk_attention_args attention_args(const qc_attention_node *u, int64_t r, int64_t kv_head, const state *s)
{
    return (qk_attention_args){.q = qc_row_at(&u->q, kv_head * group_heads(u), r),
                               .q_stride = u->q.head / (int64_t)sizeof(float),
                               .heads = group_heads(u),
                               .k = u->k + kv_head * u->k_head,
                               .v = u->v + kv_head * u->v_head,
                               .k_stride = u->k_cell,
                               .v_stride = u->v_cell,
                               .k_size = u->k_size,
                               .v_size = u->v_size,
                               .scale = u->p.scale,
                               .softcap = u->p.softcap,
                               .m = s->m,
                               .l = s->l,
                               .acc = s->acc};
}

/* acc / l, with the sink's share in l. No cells: zeros. */
static void finish(const qc_attention_node *u, int64_t r, int64_t kv_head, const state *s, int empty)
{
    int64_t group = group_heads(u);
    for (int64_t h = 0; h < group; h++) {
        float *to = qc_row_at(&u->dst, kv_head * group + h, r), l = s->l[h], factor = 1;
        const float *acc = s->acc + h * u->v_size;
        if (u->sinks) {
            float sink = u->sinks[kv_head * group + h], m = sink > s->m[h] ? sink : s->m[h];
            factor = expf(s->m[h] - m);
            l = l * factor + expf(sink - m);
        }
        for (int64_t i = 0; i < u->v_size; i++)
            to[i] = empty ? 0 : acc[i] * factor / l;
    }
}

/* ---- many rows ----------------------------------------------------------------------------------------------------- */

static int64_t blocks_at(const qc_attention_node *u, int64_t live)
{
    return (live + u->row_block - 1) / u->row_block;
}

static int64_t block_units(const qc_node *node, int64_t live)
{
    const qc_attention_node *u = &node->u.attention;
    return u->kv_heads * blocks_at(u, live);
}

/* The states of all rows of a block, which the kernel wants plane by plane: no larger than as many states one by one. */
static state block_state(const qc_attention_node *u, char *memory, int64_t rows, int64_t row)
{
    int64_t group = group_heads(u);
    float *m = (float *)(void *)memory;
    return (state){.m = m + row * group,
                   .l = m + (rows + row) * group,
                   .acc = m + ((uint64_t)rows * (uint64_t)group * 2 + 15) / 16 * 16 + row * group * u->v_size};
}

static void run_block(const qc_attention_node *u, int64_t kv_head, int64_t first, int64_t rows, char *memory)
{
    int64_t begin[MOST_ROWS], end[MOST_ROWS], from[MOST_ROWS], to[MOST_ROWS], least = INT64_MAX, most = 0;
    for (int64_t i = 0; i < rows; i++) {
        cells_of(u, first + i, &begin[i], &end[i]);
        least = begin[i] < least ? begin[i] : least;
        most = end[i] > most ? end[i] : most;
        state s = block_state(u, memory, rows, i);
        start(u, &s);
    }
    state all = block_state(u, memory, rows, 0);
    for (int64_t at = least / STRETCH * STRETCH; at < most; at += STRETCH) {
        for (int64_t i = 0; i < rows; i++) { /* a row that sees nothing here has from == to */
            to[i] = end[i] < at + STRETCH ? end[i] : at + STRETCH;
            from[i] = begin[i] > at ? begin[i] : at;
            to[i] = to[i] > from[i] ? to[i] : from[i];
        }
        qk_attention_args args = attention_args(u, first, kv_head, &all);
        args.rows = rows;
        args.q_row_stride = u->q.row / (int64_t)sizeof(float);
        args.begins = from;
        args.ends = to;
        args.begin = from[0]; /* for a single row */
        args.end = to[0];
        u->attend(&args);
    }
    for (int64_t i = 0; i < rows; i++) {
        state s = block_state(u, memory, rows, i);
        finish(u, first + i, kv_head, &s, begin[i] >= end[i]);
    }
}

static void run_blocks(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    const qc_attention_node *u = &node->u.attention;
    int64_t blocks = blocks_at(u, live);
    for (int64_t i = begin; i < end; i++) {
        /* the last rows see the most cells: start with them */
        int64_t kv_head = i / blocks, first = (blocks - 1 - i % blocks) * u->row_block;
        run_block(u, kv_head, first, live - first < u->row_block ? live - first : u->row_block, work->scratch);
    }
}

/* ---- few rows ------------------------------------------------------------------------------------------------------ */

/* Stretches [first, end) that row r's cells lie in; at least one, so that somebody writes the row. */
static void stretches_at(const qc_attention_node *u, int64_t r, int64_t *first, int64_t *end)
{
    int64_t begin_cell, end_cell;
    cells_of(u, r, &begin_cell, &end_cell);
    *first = begin_cell / u->stretch;
    *end = end_cell > begin_cell ? (end_cell + u->stretch - 1) / u->stretch : *first + 1;
}

static int64_t most_stretches(const qc_attention_node *u, int64_t live)
{
    int64_t most = 0, first, end;
    for (int64_t r = 0; r < live; r++) {
        stretches_at(u, r, &first, &end);
        most = end - first > most ? end - first : most;
    }
    return most;
}

static int64_t stretch_units(const qc_node *node, int64_t live)
{
    const qc_attention_node *u = &node->u.attention;
    return live * u->kv_heads * most_stretches(u, live);
}

/* Adds b to a. */
static void merge(const qc_attention_node *u, const state *a, const state *b)
{
    for (int64_t h = 0; h < group_heads(u); h++) {
        float m = a->m[h] > b->m[h] ? a->m[h] : b->m[h], base = m == -INFINITY ? 0 : m;
        float fa = expf(a->m[h] - base), fb = expf(b->m[h] - base);
        float *x = a->acc + h * u->v_size;
        const float *y = b->acc + h * u->v_size;
        for (int64_t i = 0; i < u->v_size; i++)
            x[i] = x[i] * fa + y[i] * fb;
        a->l[h] = a->l[h] * fa + b->l[h] * fb;
        a->m[h] = m;
    }
}

static void run_stretch(const qc_attention_node *u, int64_t r, int64_t kv_head, int64_t index)
{
    int64_t first, end, begin_cell, end_cell, slot = r * u->kv_heads + kv_head;
    stretches_at(u, r, &first, &end);
    cells_of(u, r, &begin_cell, &end_cell);
    int64_t from = (first + index) * u->stretch, to = from + u->stretch, count = end - first;
    if (index >= count)
        return;
    from = from > begin_cell ? from : begin_cell;
    to = to < end_cell ? to : end_cell;
    state s = state_at(u, u->partial, slot * u->stretches + index);
    start(u, &s);
    if (from < to) {
        qk_attention_args args = attention_args(u, r, kv_head, &s);
        args.begin = from;
        args.end = to;
        u->attend(&args);
    }
    if (count > 1 && atomic_fetch_add_explicit(&u->done[slot], 1, memory_order_acq_rel) != (uint32_t)count - 1)
        return;
    atomic_store_explicit(&u->done[slot], 0, memory_order_relaxed); /* for the next run */
    state sum = state_at(u, u->partial, slot * u->stretches);
    for (int64_t i = 1; i < count; i++) {
        state part = state_at(u, u->partial, slot * u->stretches + i);
        merge(u, &sum, &part);
    }
    finish(u, r, kv_head, &sum, begin_cell >= end_cell);
}

static void run_stretches(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)work;
    const qc_attention_node *u = &node->u.attention;
    int64_t most = most_stretches(u, live);
    for (int64_t i = begin; i < end; i++)
        run_stretch(u, i / most / u->kv_heads, i / most % u->kv_heads, i % most);
}

/* ---- launch -------------------------------------------------------------------------------------------------------- */

static void fill(qc_attention_node *u, const qc_build_info *info, const qp_op *op, const qk_op *r)
{
    const qk_tensor *q = &r->src[QP_ATTENTION_Q], *k = &r->src[QP_ATTENTION_K], *v = &r->src[QP_ATTENTION_V];
    *u = (qc_attention_node){.q = qc_rows_of(q),
                             .dst = qc_rows_of(&r->dst),
                             .k = k->data,
                             .v = v->data,
                             .k_head = k->nb[1],
                             .k_cell = k->nb[2],
                             .v_head = v->nb[1],
                             .v_cell = v->nb[2],
                             .k_size = k->ne[0],
                             .v_size = v->ne[0],
                             .heads = q->ne[1],
                             .kv_heads = k->ne[1],
                             .cells = k->ne[2],
                             .attend = info->kernels->attention[k->format],
                             .positions = r->src[QP_ATTENTION_POSITIONS].data,
                             .sinks = r->src[QP_ATTENTION_SINKS].data,
                             .p = op->p.attention,
                             .stretch = stretch_of(op),
                             .stretches = stretches_of(op),
                             .row_block = row_block_of(q->ne[1] / k->ne[1])};
}

static qp_status launch(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)error;
    static const qc_kind blocks = {run_blocks, block_units}, stretches = {run_stretches, stretch_units};
    const qc_build_info *info = qc_build_get(b);
    int64_t rows = r->dst.ne[2], kv_heads = r->src[QP_ATTENTION_K].ne[1], group = r->src[QP_ATTENTION_Q].ne[1] / kv_heads;
    qc_node *node = qc_node_begin(b, is_few(op) ? &stretches : &blocks, rows, 0);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    qc_attention_node *u = &node->u.attention;
    fill(u, info, op, r);
    if (is_few(op)) {
        uint64_t bytes = state_floats(group, r->dst.ne[0]) * sizeof(float) * (uint64_t)(rows * kv_heads * u->stretches);
        u->partial = info->scratch_data + qc_scratch_partial_offset(info->scratch);
        u->done = qc_build_alloc(b, (size_t)(rows * kv_heads) * sizeof *u->done);
        qc_node_touches(b, u->partial, 0, bytes, 1, 1, 0);
    }
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++)
        qc_node_touches_all(b, &r->src[i], 0);
    qc_node_touches_all(b, &r->dst, 1);
    return qc_node_end(b);
}

static const char *const sources[] = {"q", "the K cache", "the V cache", "positions", "sinks"};
const qc_op_row qc_attention_row = {.kind = QP_OP_ATTENTION,
                                    .name = "attention",
                                    .sources = sources,
                                    .required = 1u << QP_ATTENTION_Q | 1u << QP_ATTENTION_K | 1u << QP_ATTENTION_V |
                                                1u << QP_ATTENTION_POSITIONS,
                                    .optional = 1u << QP_ATTENTION_SINKS,
                                    .check = check,
                                    .measure = measure,
                                    .launch = launch};
