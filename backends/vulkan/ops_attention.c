/* SPDX-License-Identifier: MIT
 * Attention. What each kernel does is in kernels/vulkan/attention*.comp; here work is cut up for them: into tiles of rows and
 * heads, slices of long values and, where there would be few workgroups, parts of the cells that a second kernel puts together. All
 * of it follows from shapes and the device, never from how many rows are live. */
#include "backends/vulkan/attention.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/status.h"
#include "kernels/common/formats.h"

#include <stdio.h>
#include <string.h>

static int is_cache_format(qp_format format)
{
    return format == QP_FORMAT_F32 || format == QP_FORMAT_F16 || format == QP_FORMAT_BF16 || format == QP_FORMAT_Q8_0 ||
           format == QP_FORMAT_Q4_0;
}

static qp_status check_caches(const qp_tensor *k, const qp_tensor *v, qp_text *reason)
{
    if (!is_cache_format(k->format))
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "the K cache is %s; F32, F16, BF16, Q8_0 and Q4_0 are served",
                       qv_format_name(k->format));
    if (!is_cache_format(v->format))
        return qv_fail(reason, QP_ERR_UNSUPPORTED, "the V cache is %s; F32, F16, BF16, Q8_0 and Q4_0 are served",
                       qv_format_name(v->format));
    return qv_need_shape(v, "the V cache", v->ne[0], k->ne[1], k->ne[2], reason);
}

static qp_status check_attention(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason)
{
    (void)device;
    const qp_tensor *q = &op->src[QP_ATTENTION_Q], *k = &op->src[QP_ATTENTION_K], *v = &op->src[QP_ATTENTION_V];
    qp_status status = qv_need_floats(q, "q", q->ne[0], q->ne[1], q->ne[2], reason);
    if (!status)
        status = qv_need_shape(k, "the K cache", q->ne[0], k->ne[1], k->ne[2], reason);
    if (!status)
        status = check_caches(k, v, reason);
    if (!status && q->ne[1] % k->ne[1])
        status = qv_fail(reason, QP_ERR_UNSUPPORTED, "%lld query heads cannot share %lld KV heads evenly", (long long)q->ne[1],
                         (long long)k->ne[1]);
    if (!status)
        status = qv_need_floats(&op->dst, "dst", v->ne[0], q->ne[1], q->ne[2], reason);
    if (!status)
        status = qv_need_numbers(&op->src[QP_ATTENTION_POSITIONS], "the positions", q->ne[2], reason);
    info->operations = 2 * (uint64_t)(k->ne[0] + v->ne[0]) * (uint64_t)k->ne[2] * (uint64_t)q->ne[1] * (uint64_t)q->ne[2];
    snprintf(info->kernel, sizeof info->kernel, "attention_%s", qv_format_name(k->format));
    return status ? status : qv_need_vector(&op->src[QP_ATTENTION_SINKS], "the sinks", q->ne[1], reason);
}

/* ---- how it is cut ---- */

enum { PART_CELLS = 128 }; /* the least that is worth a part */

/* Workgroups that keep a device busy. Nothing that every driver has tells the number of its units, so this goes by the kind. */
static uint32_t busy_groups(const qp_device *device)
{
    switch (device->physical->properties.deviceType) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return 256;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return 64;
    default: return 16;
    }
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint32_t power_of_two(uint64_t n, uint32_t most)
{
    uint32_t p = 1;
    while (p < n && p < most)
        p *= 2;
    return p;
}

static uint64_t parts_of(const qp_device *device, uint64_t tiles, uint64_t cells)
{
    uint64_t parts = least(qv_groups(busy_groups(device), tiles), cells / PART_CELLS);
    return parts < 1 ? 1 : least(parts, QV_GROUP);
}

/* Rows of a tile, as far as there is room for their queries. */
static uint32_t rows_of_tile(uint64_t rows, uint32_t heads, uint32_t most_queries)
{
    uint32_t n = 1;
    while (2 * n * heads <= most_queries && n < rows)
        n *= 2;
    return n;
}

qv_attention_cut qv_attention_cut_up(const qp_device *device, const qp_op *op, const qv_attention_kernel *kernel)
{
    const qp_tensor *q = &op->src[QP_ATTENTION_Q], *k = &op->src[QP_ATTENTION_K], *v = &op->src[QP_ATTENTION_V];
    uint64_t rows = (uint64_t)q->ne[2], kv_heads = (uint64_t)k->ne[1], group = (uint64_t)(q->ne[1] / k->ne[1]);
    uint64_t sizes = (uint64_t)(k->ne[0] + v->ne[0]), cells = (uint64_t)k->ne[2];
    qv_attention_cut c = {.rows = 1, .heads = (uint32_t)least(group, kernel->most_queries), .parts = 1};
    uint32_t most_rows = rows_of_tile(rows, c.heads, kernel->most_queries), together = kernel->parts_by_number ? most_rows : 1;
    c.slice = (uint32_t)least(qv_groups((uint64_t)v->ne[0], kernel->granule) * kernel->granule, kernel->most_slice);
    c.slices = (uint32_t)qv_groups((uint64_t)v->ne[0], c.slice);
    if (kernel->most_queries > 1 || kernel->parts_by_number)
        c.parts = (uint32_t)parts_of(device, qv_groups(rows, together) * kv_heads * qv_groups(group, c.heads) * c.slices, cells);
    /* one item must not run too long on a slow device; that changes no result, as the number of parts would */
    while (c.heads > 1 && !qv_items_at_once(device, QP_OP_ATTENTION, c.heads * cells * sizes))
        c.heads = (c.heads + 1) / 2;
    c.head_tiles = (uint32_t)qv_groups(group, c.heads);
    /* otherwise rows share a tile only where cells need no cutting: parts are parts of what one row sees */
    if (c.parts == 1 || kernel->parts_by_number)
        most_rows = rows_of_tile(rows, c.heads, kernel->most_queries);
    else
        most_rows = 1;
    while (c.rows < most_rows && qv_items_at_once(device, QP_OP_ATTENTION, 2 * c.rows * c.heads * cells * sizes))
        c.rows *= 2;
    c.items = qv_groups(rows, c.rows) * kv_heads * c.head_tiles * c.slices * c.parts;
    c.work = c.rows * c.heads * qv_groups(cells, c.parts) * (uint64_t)(k->ne[0] + least(c.slice, (uint64_t)v->ne[0]));
    return c;
}

uint32_t qv_attention_places(const qv_attention_cut *c)
{
    return power_of_two((uint64_t)c->rows * c->heads, UINT32_MAX / 2 + 1);
}

uint64_t qv_attention_scratch(const qp_device *device, const qp_op *op, const qv_attention_kernel *kernel)
{
    qv_attention_cut c = qv_attention_cut_up(device, op, kernel);
    uint64_t states = (uint64_t)(op->dst.ne[1] * op->dst.ne[2]) * c.parts;
    return c.parts > 1 ? states * (uint64_t)(op->dst.ne[0] + 2) * sizeof(float) : 0;
}

/* ---- launch ---- */

static struct qv_attention_params params_of(const qp_op *op, const qv_attention_cut *c)
{
    const qp_tensor *q = &op->src[QP_ATTENTION_Q], *k = &op->src[QP_ATTENTION_K], *v = &op->src[QP_ATTENTION_V], *dst = &op->dst;
    return (struct qv_attention_params){.q = qv_address(q),
                                        .k = qv_address(k),
                                        .v = qv_address(v),
                                        .positions = qv_address(&op->src[QP_ATTENTION_POSITIONS]),
                                        .sinks = qv_address(&op->src[QP_ATTENTION_SINKS]),
                                        .dst = qv_address(dst),
                                        .live = qv_address(&op->live),
                                        .k_size = (uint32_t)k->ne[0],
                                        .v_size = (uint32_t)v->ne[0],
                                        .heads = (uint32_t)q->ne[1],
                                        .group = (uint32_t)(q->ne[1] / k->ne[1]),
                                        .cells = (uint32_t)k->ne[2],
                                        .rows = (uint32_t)q->ne[2],
                                        .q_head = qv_stride(q, 1),
                                        .q_row = qv_stride(q, 2),
                                        .k_head = qv_stride(k, 1),
                                        .k_cell = qv_stride(k, 2),
                                        .v_head = qv_stride(v, 1),
                                        .v_cell = qv_stride(v, 2),
                                        .dst_head = qv_stride(dst, 1),
                                        .dst_row = qv_stride(dst, 2),
                                        .scale = op->p.attention.scale,
                                        .softcap = op->p.attention.softcap,
                                        .window = op->p.attention.window,
                                        .tile_rows = c->rows,
                                        .tile_heads = c->heads,
                                        .head_tiles = c->head_tiles,
                                        .slices = c->slices,
                                        .parts = c->parts};
}

/* So many items in dispatches of which none is longer than a submission should be. */
static qp_status dispatch_items(qv_plan *plan, const char *shader, const qv_constants *constants,
                                const struct qv_attention_params *params, uint64_t items, uint64_t work, qp_text *error)
{
    uint64_t step = qv_items_at_once(plan->device, QP_OP_ATTENTION, work);
    qp_status status = QP_OK;
    for (uint64_t first = 0; first < items && !status; first += step) {
        step = least(step ? step : 1, items - first);
        struct qv_attention_push push = {.first = (uint32_t)first, .end = (uint32_t)(first + step)};
        void *memory = NULL;
        status = qv_plan_dispatch(plan, shader, constants, &push, sizeof push, step, 1, work * step, error);
        if (!status)
            status = qv_plan_constants(plan, offsetof(struct qv_attention_push, params), sizeof *params, &memory, error);
        if (!status)
            memcpy(memory, params, sizeof *params);
    }
    return status;
}

qp_status qv_attention_launch(qv_plan *plan, const qp_op *op, const qv_attention_kernel *kernel, const qv_attention_cut *c,
                              const qv_constants *constants, qp_text *error)
{
    struct qv_attention_params params = params_of(op, c);
    if (c->items > UINT32_MAX)
        return qv_fail(error, QP_ERR_UNSUPPORTED, "its %llu pieces are more than 32 bits count", (unsigned long long)c->items);
    if (c->parts > 1)
        params.partials = qv_plan_scratch(plan);
    qp_status status = dispatch_items(plan, kernel->name, constants, &params, c->items, c->work, error);
    if (status || c->parts == 1)
        return status;
    qv_plan_wait(plan);
    qv_constants group = qv_make_constants(QV_GROUP, 0, NULL);
    uint64_t items = (uint64_t)params.heads * params.rows;
    return dispatch_items(plan, "attention_combine", &group, &params, items, (uint64_t)params.v_size * c->parts, error);
}

uint32_t qv_attention_is_wide(const qp_tensor *t, uint32_t bytes, uint32_t elements)
{
    int blocks = qk_block_elements(t->format) > 1;
    uint64_t places = t->offset | qv_stride(t, 1) | qv_stride(t, 2);
    return places % (blocks ? 4 : bytes) == 0 && t->ne[0] % (blocks ? 64 : elements) == 0;
}

static uint32_t is_wide(const qp_tensor *t)
{
    return qv_attention_is_wide(t, 8, 4);
}

/* ---- in registers of small subgroups ---- */

static qv_attention_kernel lanes_kernel(const qp_device *device)
{
    return (qv_attention_kernel){"attention_lanes", 8, 4 * device->physical->lanes, QV_ATTENTION_SLICE, 0};
}

static const char *lanes_lacks(const qv_physical *physical)
{
    return physical->lanes ? NULL : "subgroups are not of 8 or 16, or hand nothing around";
}

static const char *lanes_refuses(const qp_device *device, const qp_op *op)
{
    (void)device;
    const qp_tensor *q = &op->src[QP_ATTENTION_Q];
    return (q->offset | qv_stride(q, 1) | qv_stride(q, 2)) % 8 ? "queries do not lie at multiples of 8 bytes" : NULL;
}

static uint64_t lanes_scratch(const qp_device *device, const qp_op *op)
{
    qv_attention_kernel kernel = lanes_kernel(device);
    return qv_attention_scratch(device, op, &kernel);
}

static qp_status launch_lanes(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *k = &op->src[QP_ATTENTION_K], *v = &op->src[QP_ATTENTION_V];
    qv_attention_kernel kernel = lanes_kernel(plan->device);
    qv_attention_cut c = qv_attention_cut_up(plan->device, op, &kernel);
    uint32_t lanes = plan->device->physical->lanes;
    qv_constants constants = qv_make_constants(lanes, 7,
                                               (const uint32_t[][2]){{1, k->format},
                                                                     {2, v->format},
                                                                     {3, qv_attention_places(&c)},
                                                                     {4, c.slice / (4 * lanes)},
                                                                     {5, lanes},
                                                                     {6, is_wide(k)},
                                                                     {7, is_wide(v)}});
    return qv_attention_launch(plan, op, &kernel, &c, &constants, error);
}

/* ---- on any device ---- */

static qp_status launch_plain(qv_plan *plan, const qp_op *op, qp_text *error)
{
    const qp_tensor *k = &op->src[QP_ATTENTION_K], *v = &op->src[QP_ATTENTION_V];
    const qv_attention_kernel kernel = {"attention", 1, QV_GROUP, QV_ATTENTION_SLICE, 0};
    qv_attention_cut c = qv_attention_cut_up(plan->device, op, &kernel);
    qv_constants constants = qv_make_constants(QV_GROUP, 5,
                                               (const uint32_t[][2]){{1, k->format},
                                                                     {2, v->format},
                                                                     {3, qk_block_bytes(k->format)},
                                                                     {4, qk_block_bytes(v->format)},
                                                                     {5, c.slice / QV_GROUP}});
    return qv_attention_launch(plan, op, &kernel, &c, &constants, error);
}

const qv_op_row qv_attention_row = {
    .kind = QP_OP_ATTENTION,
    .name = "attention",
    .sources = {"q", "the K cache", "the V cache", "the positions", "the sinks"},
    .required = 1u << QP_ATTENTION_Q | 1u << QP_ATTENTION_K | 1u << QP_ATTENTION_V | 1u << QP_ATTENTION_POSITIONS,
    .optional = 1u << QP_ATTENTION_SINKS,
    .check = check_attention,
    .variants = QV_VARIANTS(
        {.name = "rows",
         .lacks = qv_attention_rows_lacks,
         .refuses = qv_attention_rows_refuses,
         .launch = qv_attention_rows_launch,
         .scratch = qv_attention_rows_scratch},
        {.name = "lanes", .lacks = lanes_lacks, .refuses = lanes_refuses, .launch = launch_lanes, .scratch = lanes_scratch},
        {.name = "tiles",
         .refuses = qv_attention_tiles_refuses,
         .launch = qv_attention_tiles_launch,
         .scratch = qv_attention_tiles_scratch},
        QV_PLAIN(launch_plain))};
