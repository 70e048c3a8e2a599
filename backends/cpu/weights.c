/* SPDX-License-Identifier: MIT */
#include "backends/cpu/weights.h"

#include "backends/cpu/buffer.h"
#include "backends/cpu/device.h"
#include "backends/cpu/ops.h"
#include "backends/cpu/status.h"

#include <string.h>

/* Matrices of matmuls become panels where there is a kernel for them; the rest stays as it is on disk. Experts' matrices follow each
 * other, so that theirs must be whole panels. */
static uint32_t layout_of(const qp_device *device, const qp_weight_desc *desc)
{
    int whole = desc->ne[2] == 1 || desc->ne[1] % QK_PANEL_ROWS == 0;
    int panels = !device->reference && desc->uses & QP_WEIGHT_MATMUL && !(desc->uses & QP_WEIGHT_PLAIN) && desc->ne[3] == 1 && whole &&
                 device->kernels.matmul_panel[desc->format];
    return panels ? QK_LAYOUT_PANEL : QP_LAYOUT_GGUF;
}

/* Fills a tensor (no buffer) of the weight's shape and layout. */
static qp_status shape(const qp_device *device, const qp_weight_desc *desc, qp_tensor *out, qp_text *error)
{
    if (!device || !desc || !QP_HAS(desc, ne))
        return qc_fail(error, QP_ERR_INVALID, "a weight needs a device and a qp_weight_desc whose struct_size is set");
    uint32_t elements = desc->format < QP_FORMAT_LIMIT ? qk_block_elements(desc->format) : 0;
    if (!elements)
        return qc_fail(error, QP_ERR_UNSUPPORTED, "weights of format %u are not known to this version", desc->format);
    *out = (qp_tensor){.format = desc->format, .layout = layout_of(device, desc)};
    int64_t stride = qk_block_bytes(desc->format), steps = desc->ne[0] / elements;
    for (int i = 0; i < 4; i++) {
        if (desc->ne[i] < 1 || (i == 0 && desc->ne[0] % elements))
            return qc_fail(error, QP_ERR_INVALID, "a %s weight has %lld elements in dimension %d; it needs %s",
                           qc_format_name(desc->format), (long long)desc->ne[i], i, i ? "at least 1" : "whole blocks");
        out->ne[i] = desc->ne[i];
        out->nb[i] = stride;
        if (__builtin_mul_overflow(stride, steps, &stride))
            return qc_fail(error, QP_ERR_INVALID, "a weight's size overflows 63 bits");
        steps = i < 3 ? desc->ne[i + 1] : 1;
    }
    if (qc_tensor_bytes(out) > INT64_MAX / 2)
        return qc_fail(error, QP_ERR_INVALID, "a weight's size overflows 63 bits");
    return QP_OK;
}

qp_status qc_weight_layout(qp_device *device, const qp_weight_desc *desc, qp_weight_info *info, qp_text *error)
{
    qp_tensor tensor;
    qp_status status = shape(device, desc, &tensor, error);
    if (status)
        return status;
    if (!info || !QP_HAS(info, row_step))
        return qc_fail(error, QP_ERR_INVALID, "weight_layout needs a qp_weight_info whose struct_size is set");
    info->layout = tensor.layout;
    info->bytes = qc_tensor_bytes(&tensor);
    info->alignment = QC_ALIGNMENT;
    info->row_step = tensor.layout == QK_LAYOUT_PANEL ? QK_PANEL_ROWS : 1;
    return QP_OK;
}

static qp_status check_slice(const qp_tensor *t, const void *src, uint64_t src_bytes, int64_t row, int64_t rows, qp_text *error)
{
    int64_t all = t->ne[1] * t->ne[2] * t->ne[3]; /* no overflow: a row has at least a byte, and all of them fit 63 bits */
    if (row < 0 || rows < 0 || row > all || rows > all - row)
        return qc_fail(error, QP_ERR_INVALID, "%lld rows from row %lld on are asked to be packed; the weight has %lld",
                       (long long)rows, (long long)row, (long long)all);
    uint64_t need = (uint64_t)rows * qc_row_bytes(t->format, t->ne[0]);
    if (rows && (!src || src_bytes < need))
        return qc_fail(error, QP_ERR_INVALID, "%lld rows of the weight take %llu bytes; %llu are given", (long long)rows,
                       (unsigned long long)need, (unsigned long long)(src ? src_bytes : 0));
    int64_t step = t->layout == QK_LAYOUT_PANEL ? QK_PANEL_ROWS : 1;
    if (row % step || (rows % step && row + rows != all))
        return qc_fail(error, QP_ERR_INVALID, "weights in panels are packed in multiples of %lld rows, not from %lld to %lld",
                       (long long)step, (long long)row, (long long)row + rows);
    return QP_OK;
}

qp_status qc_weight_pack(qp_device *device, const qp_weight_desc *desc, const void *src, uint64_t src_bytes, int64_t row,
                         int64_t rows, qp_range dst, qp_text *error)
{
    qp_tensor tensor;
    qp_status status = shape(device, desc, &tensor, error);
    if (!status)
        status = check_slice(&tensor, src, src_bytes, row, rows, error);
    char *to = NULL;
    if (!status && dst.size < qc_tensor_bytes(&tensor))
        status = qc_fail(error, QP_ERR_INVALID, "the packed weight takes %llu bytes; its range has %llu",
                         (unsigned long long)qc_tensor_bytes(&tensor), (unsigned long long)dst.size);
    if (!status)
        status = qc_range_address(&dst, "the packed weight", &to, error);
    if (status || !rows)
        return status;
    if ((uintptr_t)to % QC_ALIGNMENT)
        return qc_fail(error, QP_ERR_INVALID,
                       "the packed weight starts at offset %llu, which is not a multiple of %d bytes in memory",
                       (unsigned long long)dst.offset, QC_ALIGNMENT);
    uint64_t row_bytes = qc_row_bytes(desc->format, desc->ne[0]);
    if (tensor.layout == QK_LAYOUT_PANEL)
        qk_panel_pack(desc->format, to, src, desc->ne[0], row, rows);
    else
        memcpy(to + (uint64_t)row * row_bytes, src, (uint64_t)rows * row_bytes);
    return QP_OK;
}
