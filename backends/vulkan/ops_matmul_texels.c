/* SPDX-License-Identifier: MIT
 * Matmuls whose weights and activations are fetched as texels. */
#include "backends/vulkan/device.h"
#include "backends/vulkan/texels.h"
#include "backends/vulkan/view.h"
#include "backends/vulkan/weights.h"
#include "kernels/vulkan/params.h"

#include <stdio.h>

_Static_assert(sizeof(struct qv_matmul_texels_params) <= QV_PUSH_BYTES, "parameters of a matmul by texels fit the push constants");

enum { TEXEL = QV_TEXEL, ROWS = QV_TEXEL_ROWS, TOKENS = QV_TEXEL_TOKENS };
enum { QUADS, WORDS, HALVES, X }; /* bindings; of W in texels of 16, 4 and 2 bytes, and x */

uint64_t qv_texels_row_bytes(const qp_tensor *w)
{
    return qv_weight_row(w->format, w->layout, w->ne[0]);
}

uint64_t qv_texels_row_step(const qp_tensor *w)
{
    return w->layout == QV_LAYOUT_PLANES || w->ne[1] == 1 ? qv_texels_row_bytes(w) : (uint64_t)w->nb[1];
}

int qv_texels_begin_rows(const qp_tensor *w)
{
    return w->layout == QV_LAYOUT_PLANES || (w->offset | qv_texels_row_step(w)) % TEXEL == 0;
}

uint64_t qv_texels_most_bytes(const qv_physical *physical, const qp_tensor *w)
{
    uint64_t texel = w->layout == QV_LAYOUT_PLANES ? 2 : TEXEL, most = qv_view_texels(physical) * texel;
    most = most < INT32_MAX ? most : INT32_MAX;
    return most - qv_view_alignment(physical);
}

static uint64_t x_bytes(const qp_tensor *x)
{
    return (uint64_t)(x->ne[2] - 1) * qv_stride(x, 2) + (uint64_t)(x->ne[1] - 1) * qv_stride(x, 1) + (uint64_t)x->ne[0] * 4;
}

int qv_texels_hold(const qv_physical *physical, const qp_tensor *x)
{
    return x_bytes(x) / TEXEL <= qv_view_texels(physical) - qv_view_alignment(physical);
}

const char *qv_texels_lack(const qv_physical *physical)
{
    const char *views = qv_views_lack(physical);
    if (views)
        return views;
    return physical->lanes ? NULL : "subgroups are not always of 8 or of 16, or do not shuffle";
}

const char *qv_matmul_texels_refuses(const qp_device *device, const qp_op *op)
{
    const qv_physical *physical = device->physical;
    const qp_tensor *w = &op->src[QP_MATMUL_W], *w2 = &op->src[QP_MATMUL_W2], *x = &op->src[QP_MATMUL_X];
    if (w->ne[0] % 32)
        return "K is no multiple of 32";
    if (w->layout != QV_LAYOUT_PLANES && qv_has_planes(w->format))
        return "W is not packed";
    if (!qv_texels_begin_rows(w) || (qv_present(w2) && !qv_texels_begin_rows(w2)))
        return "W has rows that do not start at multiples of 16 bytes";
    if ((x->offset | qv_stride(x, 2)) % TEXEL)
        return "x has rows that do not start at multiples of 16 bytes";
    if (qv_present(w2) && qv_present(&op->src[QP_MATMUL_RESIDUAL]))
        return "it is gated and adds a residual"; /* the gate waits in dst, which may be the residual's place */
    if (x->ne[2] > QV_MAX_GROUPS * TOKENS)
        return "there are more tokens than workgroups for them";
    if (qv_texels_row_step(w) * ROWS > qv_texels_most_bytes(physical, w) || !qv_texels_hold(physical, x))
        return "rows are longer than a view can be";
    return NULL;
}

uint32_t qv_texels_into_view(const qv_plan *plan, uint64_t offset)
{
    return (uint32_t)(offset % qv_view_alignment(plan->device->physical));
}

/* At these bindings. */
static void see(qv_plan *plan, uint32_t first, uint32_t last, const qp_buffer *buffer, uint64_t offset, uint64_t bytes)
{
    static const VkFormat formats[] = {VK_FORMAT_R32G32B32A32_UINT, VK_FORMAT_R32_UINT, VK_FORMAT_R16_UINT,
                                       VK_FORMAT_R32G32B32A32_SFLOAT};
    uint32_t into = qv_texels_into_view(plan, offset);
    for (uint32_t i = first; i <= last; i++)
        qv_plan_view(plan, i, &(qv_view){buffer, offset - into, bytes + into, formats[i]});
}

void qv_texels_see(qv_plan *plan, const qp_tensor *w, uint64_t offset, uint64_t bytes, const qp_tensor *x)
{
    see(plan, QUADS, w->layout == QV_LAYOUT_PLANES ? HALVES : QUADS, w->buffer, offset, bytes);
    see(plan, X, X, x->buffer, x->offset, x_bytes(x));
}

/* One matrix; the second of a gated matmul multiplies what the first left. */
static qp_status launch_half(qv_plan *plan, const qp_op *op, int second, qp_text *error)
{
    const qp_tensor *w = &op->src[second ? QP_MATMUL_W2 : QP_MATMUL_W], *x = &op->src[QP_MATMUL_X];
    const qp_tensor *residual = &op->src[QP_MATMUL_RESIDUAL];
    const qp_matmul_params *from = &op->p.matmul;
    uint64_t w_row = qv_texels_row_step(w);
    struct qv_matmul_texels_params p = {.bias = qv_address(&op->src[second ? QP_MATMUL_BIAS2 : QP_MATMUL_BIAS]),
                                        .residual = qv_address(residual),
                                        .dst = qv_address(&op->dst),
                                        .live = qv_address(&op->live),
                                        .k = (uint32_t)w->ne[0],
                                        .rows = (uint32_t)x->ne[2],
                                        .w_row = (uint32_t)w_row,
                                        .x = qv_texels_into_view(plan, x->offset) / TEXEL,
                                        .x_row = qv_stride(x, 2) / TEXEL,
                                        .residual_row = qv_stride(residual, 2),
                                        .dst_row = qv_stride(&op->dst, 2),
                                        .scale = second ? from->scale2 : from->scale,
                                        .bias_scale = second ? from->bias_scale2 : from->bias_scale,
                                        .act = from->act,
                                        .part = second                               ? 2
                                                : qv_present(&op->src[QP_MATMUL_W2]) ? 1
                                                                                     : 0};
    uint32_t lanes = plan->device->physical->lanes, m = (uint32_t)w->ne[1], tokens = p.rows > 1 ? TOKENS : 1;
    qv_constants c = qv_make_constants(lanes, 3, (const uint32_t[][2]){{1, tokens}, {3, ROWS}, {4, lanes}});
    uint64_t work_of_row = (uint64_t)p.k * p.rows, most = qv_texels_most_bytes(plan->device->physical, w) / w_row / ROWS * ROWS;
    uint32_t step = qv_rows_at_once(plan->device, work_of_row, m);
    step = step < most ? step : (uint32_t)most;
    char name[48];
    snprintf(name, sizeof name, "matmul_texels_%s", qv_format_name(w->format));
    qp_status status = QP_OK;
    for (uint32_t first = 0; first < m && !status; first += step) {
        uint32_t count = m - first < step ? m - first : step;
        uint64_t offset = w->offset + first * w_row;
        p.first = first;
        p.m = count;
        p.w = qv_texels_into_view(plan, offset);
        status = qv_plan_dispatch(plan, name, &c, &p, sizeof p, qv_groups(count, ROWS), qv_groups(p.rows, tokens),
                                  work_of_row * count, error);
        if (status)
            break;
        qv_texels_see(plan, w, offset, (count - 1) * w_row + qv_texels_row_bytes(w), x);
        status = qv_attach_grid(plan, w->format, offsetof(struct qv_matmul_texels_params, grid), error);
    }
    return status;
}

qp_status qv_matmul_texels_launch(qv_plan *plan, const qp_op *op, qp_text *error)
{
    qp_status status = launch_half(plan, op, 0, error);
    if (status || !qv_present(&op->src[QP_MATMUL_W2]))
        return status;
    qv_plan_wait(plan);
    return launch_half(plan, op, 1, error);
}
