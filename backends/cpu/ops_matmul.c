/* SPDX-License-Identifier: MIT
 * Matrix products. A unit is a group of strips of 16 weight rows times a tile of tokens: the kernel leaves the sums in the thread's
 * scratch, the epilogue goes over them while they are hot. Where the units are cut depends on shapes and threads, but no sum does.
 */
#include "backends/cpu/ops.h"
#include "backends/cpu/status.h"

#include <string.h>

enum {
    STRIP = QK_PANEL_ROWS,
    MAX_TILE = 128,          /* tokens */
    DECODE_BYTES = 64 << 10, /* of weights in a unit, for few tokens: worth taking a number from the counter for */
    MAX_GROUP = 32,          /* strips: a tile's activations are gathered once for all of them */
    FEW_ROWS = 4             /* that kernels take as they stream */
};

/* Panels of a matmul that asks for float activations are dequantised strip by strip. */
static int unpacks(const qp_op *op, const qp_tensor *w)
{
    return qc_is_panel(w) && op->p.matmul.flags & QP_MATMUL_FLOAT;
}

static int wants_int8(const qp_op *op)
{
    const qp_tensor *w = &op->src[QP_MATMUL_W], *w2 = &op->src[QP_MATMUL_W2];
    return (qc_is_panel(w) && !unpacks(op, w)) || (qc_present(w2) && qc_is_panel(w2) && !unpacks(op, w2));
}

/* ---- check --------------------------------------------------------------------------------------------------------- */

qp_status qc_check_matrix(const qp_device *device, const qp_tensor *w, const char *name, int64_t k, int64_t m, int64_t experts,
                          qp_text *reason)
{
    qp_status status = qc_need_shape(w, name, k, m, experts, reason);
    if (status)
        return status;
    const qk_kernels *kernels = &device->kernels;
    int there;
    if (device->reference)
        there = !qc_is_panel(w) && qc_reference_has(w->format);
    else if (qc_is_panel(w))
        there = kernels->matmul_panel[w->format] && kernels->matmul_float[QP_FORMAT_F32];
    else
        there = kernels->matmul_float[w->format] != NULL;
    return there ? QP_OK
                 : qc_fail(reason, QP_ERR_UNSUPPORTED, "there is no matmul kernel for %s weights%s", qc_format_name(w->format),
                           qc_is_panel(w) ? " in panels" : "");
}

static qp_status check_vectors(const qp_op *op, qp_text *reason)
{
    static const struct {
        uint32_t source;
        const char *name;
    } vectors[] = {{QP_MATMUL_BIAS, "bias"}, {QP_MATMUL_BIAS2, "bias2"}};
    for (int i = 0; i < 2; i++) {
        const qp_tensor *t = &op->src[vectors[i].source];
        qp_status status = qc_present(t) ? qc_need_floats(t, vectors[i].name, op->dst.ne[0], reason) : QP_OK;
        if (status)
            return status;
    }
    const qp_tensor *residual = &op->src[QP_MATMUL_RESIDUAL];
    if (!qc_present(residual))
        return QP_OK;
    qp_status status = qc_need_format(residual, "residual", QP_FORMAT_F32, reason);
    return status ? status : qc_need_shape(residual, "residual", op->dst.ne[0], 1, op->dst.ne[2], reason);
}

static qp_status check(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    const qp_tensor *x = &op->src[QP_MATMUL_X], *w = &op->src[QP_MATMUL_W], *w2 = &op->src[QP_MATMUL_W2];
    const qp_matmul_params *p = &op->p.matmul;
    qp_status status = qc_need_format(x, "x", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_format(&op->dst, "dst", QP_FORMAT_F32, reason);
    if (!status)
        status = qc_need_shape(x, "x", x->ne[0], 1, op->dst.ne[2], reason);
    if (!status)
        status = qc_need_shape(&op->dst, "dst", op->dst.ne[0], 1, op->dst.ne[2], reason);
    if (!status)
        status = qc_check_matrix(device, w, "W", op->src[QP_MATMUL_X].ne[0], op->dst.ne[0], 1, reason);
    if (!status && qc_present(w2))
        status = qc_check_matrix(device, w2, "W2", op->src[QP_MATMUL_X].ne[0], op->dst.ne[0], 1, reason);
    if (!status)
        status = check_vectors(op, reason);
    if (status)
        return status;
    if (qc_present(&op->src[QP_MATMUL_BIAS2]) && !qc_present(w2))
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "bias2 is given, but there is no W2");
    if (p->act > QP_ACT_SOFTPLUS || p->flags & ~(uint32_t)QP_MATMUL_FLOAT)
        return qc_fail(reason, QP_ERR_UNSUPPORTED, "activation %u or flags 0x%x are not known", p->act, p->flags);
    const qk_kernels *k = &device->kernels;
    qc_name_kernel(info, unpacks(op, w) ? "matmul_unpacked" : "matmul", qc_format_name(w->format),
                   unpacks(op, w)   ? k->matmul_float_isa[QP_FORMAT_F32]
                   : qc_is_panel(w) ? k->matmul_panel_isa[w->format]
                                    : k->matmul_float_isa[w->format]);
    info->operations = 2 * (uint64_t)x->ne[0] * (uint64_t)op->dst.ne[0] * (uint64_t)op->dst.ne[2] * (qc_present(w2) ? 2 : 1);
    return QP_OK;
}

/* ---- how it is cut --------------------------------------------------------------------------------------------------*/

static uint64_t strip_bytes(const qp_tensor *w)
{
    return qc_is_panel(w) ? qk_panel_bytes(w->format, w->ne[0]) : STRIP * qc_row_bytes(w->format, w->ne[0]);
}

/* Strips in a unit: enough bytes to be worth it, few enough that every thread gets several units. */
static int64_t group_of(const qp_device *device, const qp_op *op)
{
    int64_t strips = (op->dst.ne[0] + STRIP - 1) / STRIP;
    int64_t group = MAX_GROUP, tiles = (op->dst.ne[2] + MAX_TILE - 1) / MAX_TILE;
    if (op->dst.ne[2] <= FEW_ROWS) {
        group = (int64_t)(DECODE_BYTES / (strip_bytes(&op->src[QP_MATMUL_W]) + 1));
        group = group > MAX_GROUP ? MAX_GROUP : group;
    }
    while (group > 1 && strips * tiles < group * 4 * device->threads)
        group /= 2;
    return group > 1 ? group : op->dst.ne[2] > FEW_ROWS ? 2 : 1; /* kernels for many rows take panels by two */
}

static int64_t tile_of(const qp_op *op)
{
    return op->dst.ne[2] < MAX_TILE ? op->dst.ne[2] : MAX_TILE;
}

/* A thread's scratch: sums of W, then of W2, then what a kernel for panels wants or, if panels are unpacked, a strip of floats. */
static uint64_t tile_bytes(int64_t group, int64_t tile)
{
    return (uint64_t)group * STRIP * (uint64_t)tile * sizeof(float);
}

static qp_status measure(const qp_device *device, const qp_op *op, qc_scratch *scratch, qp_text *error)
{
    (void)error;
    const qp_tensor *x = &op->src[QP_MATMUL_X], *w2 = &op->src[QP_MATMUL_W2];
    uint64_t thread = 2 * tile_bytes(group_of(device, op), tile_of(op));
    if (unpacks(op, &op->src[QP_MATMUL_W]) || (qc_present(w2) && unpacks(op, w2)))
        thread += STRIP * sizeof(float) * (uint64_t)x->ne[0];
    if (wants_int8(op))
        thread += QK_MATMUL_SCRATCH;
    scratch->thread_bytes = thread > scratch->thread_bytes ? thread : scratch->thread_bytes;
    uint64_t rows = wants_int8(op) ? qk_act_bytes(x->ne[0]) * (uint64_t)x->ne[2] : 0;
    scratch->activations = rows > scratch->activations ? rows : scratch->activations;
    return QP_OK;
}

/* ---- quantised activations ----------------------------------------------------------------------------------------- */

static void run_quantise(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    (void)live;
    (void)work;
    const qc_quantise_node *u = &node->u.quantise;
    for (int64_t r = begin; r < end; r++)
        node->kernels->quantise_activations(qc_row_at(&u->dst, 0, r), qc_row_at(&u->x, 0, r), u->k);
}

typedef struct act_key {
    const void *x, *live;
    int64_t k, rows, stride;
} act_key;

/* Products with the same x share its quantised rows. */
qp_status qc_quantise_rows(qc_builder *b, const qk_tensor *x)
{
    static const qc_kind kind = {run_quantise, NULL};
    const qc_build_info *info = qc_build_get(b);
    act_key key;
    memset(&key, 0, sizeof key);
    key = (act_key){.x = x->data, .live = info->live, .k = x->ne[0], .rows = x->ne[2], .stride = x->nb[2]};
    if (qc_cache_has(b, 0, &key, sizeof key))
        return QP_OK;
    qc_node *node = qc_node_begin(b, &kind, x->ne[2], 1);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    int64_t bytes = (int64_t)qk_act_bytes(x->ne[0]);
    node->u.quantise = (qc_quantise_node){.x = qc_rows_of(x), .dst = {info->scratch_data, 0, bytes}, .k = x->ne[0]};
    node->grain = qc_row_grain(info->device, x->ne[2]);
    qc_node_reads(b, x);
    qc_node_touches(b, info->scratch_data, (uint64_t)bytes, (uint64_t)bytes, x->ne[2], 1, 1);
    qp_status status = qc_node_end(b);
    qc_cache_set(b, 0, &key, sizeof key);
    return status;
}

/* ---- the product --------------------------------------------------------------------------------------------------- */

static int64_t tiles_at(const qc_matmul_node *u, int64_t live)
{
    return (live + u->tile - 1) / u->tile;
}

static int64_t matmul_units(const qc_node *node, int64_t live)
{
    const qc_matmul_node *u = &node->u.matmul;
    int64_t rows = u->group * STRIP;
    return (u->m + rows - 1) / rows * tiles_at(u, live);
}

void qc_multiply(const qc_weight *w, int64_t k, const qc_tile *t, float *y, float *more)
{
    qk_matmul_args args = {.w = w->data + t->row / STRIP * w->stride,
                           .w_stride = w->row_stride,
                           .k = k,
                           .rows = t->rows,
                           .x = w->x + t->token * w->x_stride,
                           .x_stride = w->x_stride,
                           .tokens = t->tokens,
                           .y = y,
                           .y_stride = t->stride,
                           .scratch = more};
    if (!w->unpack) {
        w->multiply(&args);
        return;
    }
    args.w = more;
    for (int64_t first = 0; first < t->rows; first += STRIP) {
        args.rows = t->rows - first < STRIP ? t->rows - first : STRIP;
        args.y = y + first;
        for (int64_t r = 0; r < args.rows; r++)
            qk_panel_row(w->format, more + r * k, w->data, k, t->row + first + r);
        w->multiply(&args);
    }
}

static void scale_and_bias(const qc_tile *t, float *y, float scale, float bias_scale, const float *bias)
{
    if (scale == 1 && !bias)
        return;
    for (int64_t i = 0; i < t->tokens; i++)
        for (int64_t r = 0; r < t->rows; r++) {
            float a = y[i * t->stride + r] * scale;
            y[i * t->stride + r] = bias ? a + bias_scale * bias[t->row + r] : a;
        }
}

static void store(const qc_matmul_node *u, const qc_tile *t, const float *y)
{
    for (int64_t i = 0; i < t->tokens; i++, y += t->stride) {
        float *to = qc_row_at(&u->dst, 0, t->token + i) + t->row;
        if (!u->residual.data) {
            memcpy(to, y, (size_t)t->rows * sizeof *y);
            continue;
        }
        const float *residual = qc_row_at(&u->residual, 0, t->token + i) + t->row;
        for (int64_t r = 0; r < t->rows; r++)
            to[r] = y[r] + residual[r];
    }
}

static void activate(const qc_node *node, const qc_tile *t, float *y, const float *y2)
{
    const qc_matmul_node *u = &node->u.matmul;
    qp_elementwise_params p = {.function = y2 ? QP_ELEMENTWISE_GLU : QP_ELEMENTWISE_ACT, .act = u->p.act, .scale = 1};
    if (!y2 && u->p.act == QP_ACT_NONE)
        return;
    if (t->rows == t->stride) {
        node->kernels->elementwise(y, y, y2, t->rows * t->tokens, &p);
        return;
    }
    for (int64_t i = 0; i < t->tokens; i++, y += t->stride, y2 = y2 ? y2 + t->stride : NULL)
        node->kernels->elementwise(y, y, y2, t->rows, &p);
}

static void run_matmul(const qc_node *node, int64_t live, int64_t begin, int64_t end, const qc_work *work)
{
    const qc_matmul_node *u = &node->u.matmul;
    int64_t tiles = tiles_at(u, live), rows = u->group * STRIP;
    float *y = (float *)(void *)work->scratch, *y2 = y + rows * u->tile, *more = y2 + rows * u->tile;
    for (int64_t i = begin; i < end; i++) {
        qc_tile t = {.row = i / tiles * rows, .token = i % tiles * u->tile, .stride = rows};
        t.rows = u->m - t.row < rows ? u->m - t.row : rows;
        t.tokens = live - t.token < u->tile ? live - t.token : u->tile;
        qc_multiply(&u->w, u->k, &t, y, more);
        scale_and_bias(&t, y, u->p.scale, u->p.bias_scale, u->bias);
        if (u->w2.data) {
            qc_multiply(&u->w2, u->k, &t, y2, more);
            scale_and_bias(&t, y2, u->p.scale2, u->p.bias_scale2, u->bias2);
        }
        activate(node, &t, y, u->w2.data ? y2 : NULL);
        store(u, &t, y);
    }
}

/* ---- launch -------------------------------------------------------------------------------------------------------- */

qc_weight qc_weight_of(const qc_build_info *info, const qk_tensor *w, int floats, const char *x, int64_t x_stride)
{
    const qk_kernels *k = info->kernels;
    qc_weight out = {.data = w->data, .format = w->format, .x = x, .x_stride = x_stride};
    if (!w->data)
        return out;
    if (w->layout == QK_LAYOUT_PANEL) {
        out.unpack = floats;
        out.stride = (int64_t)qk_panel_bytes(w->format, w->ne[0]);
        out.row_stride = w->ne[0] * (int64_t)sizeof(float);
        out.multiply = floats ? k->matmul_float[QP_FORMAT_F32] : k->matmul_panel[w->format];
    } else {
        out.stride = w->nb[1] * STRIP;
        out.row_stride = w->nb[1];
        out.multiply = k->matmul_float[w->format];
    }
    return out;
}

/* Panels take quantised rows unless they are unpacked, weights in place take x itself. */
static qc_weight weight_of(const qc_build_info *info, const qp_op *op, const qk_tensor *w, const qk_tensor *x)
{
    int floats = (op->p.matmul.flags & QP_MATMUL_FLOAT) != 0;
    if (w->layout == QK_LAYOUT_PANEL && !floats)
        return qc_weight_of(info, w, 0, info->scratch_data, (int64_t)qk_act_bytes(x->ne[0]));
    return qc_weight_of(info, w, floats, x->data, x->nb[2]);
}

static qp_status launch(qc_builder *b, const qp_op *op, const qk_op *r, qp_text *error)
{
    (void)error;
    static const qc_kind kind = {run_matmul, matmul_units};
    const qc_build_info *info = qc_build_get(b);
    const qk_tensor *x = &r->src[QP_MATMUL_X];
    int int8 = wants_int8(op);
    if (int8 && qc_quantise_rows(b, x))
        return QP_ERR_OUT_OF_MEMORY;
    qc_node *node = qc_node_begin(b, &kind, r->dst.ne[2], 0);
    if (!node)
        return QP_ERR_OUT_OF_MEMORY;
    node->u.matmul = (qc_matmul_node){.w = weight_of(info, op, &r->src[QP_MATMUL_W], x),
                                      .w2 = weight_of(info, op, &r->src[QP_MATMUL_W2], x),
                                      .k = x->ne[0],
                                      .m = r->dst.ne[0],
                                      .group = group_of(info->device, op),
                                      .tile = tile_of(op),
                                      .bias = r->src[QP_MATMUL_BIAS].data,
                                      .bias2 = r->src[QP_MATMUL_BIAS2].data,
                                      .residual = qc_rows_of(&r->src[QP_MATMUL_RESIDUAL]),
                                      .dst = qc_rows_of(&r->dst),
                                      .p = op->p.matmul};
    node->streams = r->dst.ne[2] <= FEW_ROWS;
    for (uint32_t i = 0; i < QP_OP_SOURCES; i++)
        qc_node_touches_all(b, &r->src[i], 0);
    if (int8)
        qc_node_touches(b, info->scratch_data, qk_act_bytes(x->ne[0]), qk_act_bytes(x->ne[0]), x->ne[2], 0, 0);
    qc_node_touches_all(b, &r->dst, 1);
    return qc_node_end(b);
}

static const char *const sources[] = {"W", "x", "bias", "residual", "W2", "bias2"};
const qc_op_row qc_matmul_row = {.kind = QP_OP_MATMUL,
                                 .name = "matmul",
                                 .sources = sources,
                                 .required = 1u << QP_MATMUL_W | 1u << QP_MATMUL_X,
                                 .optional =
                                     1u << QP_MATMUL_BIAS | 1u << QP_MATMUL_RESIDUAL | 1u << QP_MATMUL_W2 | 1u << QP_MATMUL_BIAS2,
                                 .packed = 1u << QP_MATMUL_W | 1u << QP_MATMUL_W2,
                                 .check = check,
                                 .measure = measure,
                                 .launch = launch};
