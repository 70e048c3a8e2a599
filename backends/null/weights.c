/* SPDX-License-Identifier: MIT */
#include "backends/null/weights.h"

#include "backends/null/buffer.h"
#include "backends/null/device.h"
#include "backends/null/status.h"
#include "kernels/common/formats.h"

#include <string.h>

/* Bytes of a row and the number of rows; refuses what has no size. */
static qp_status measure(const qp_weight_desc *desc, uint64_t *row_bytes, int64_t *rows, qp_text *error)
{
    uint32_t elements = qk_block_elements(desc->format);
    if (!elements)
        return qn_fail(error, QP_ERR_UNSUPPORTED, "no format has the number %u", desc->format);
    for (int i = 0; i < 4; i++)
        if (desc->ne[i] < 1)
            return qn_fail(error, QP_ERR_INVALID, "dimension %d of a weight is %lld", i, (long long)desc->ne[i]);
    if (desc->ne[0] % elements)
        return qn_fail(error, QP_ERR_UNSUPPORTED, "rows of %lld elements are not whole blocks of %u", (long long)desc->ne[0],
                       elements);
    int64_t bytes, count, all;
    if (__builtin_mul_overflow(desc->ne[0] / elements, (int64_t)qk_block_bytes(desc->format), &bytes) ||
        __builtin_mul_overflow(desc->ne[1], desc->ne[2], &count) || __builtin_mul_overflow(count, desc->ne[3], &count) ||
        __builtin_mul_overflow(bytes, count, &all))
        return qn_fail(error, QP_ERR_UNSUPPORTED, "a weight is larger than can be addressed");
    *row_bytes = (uint64_t)bytes;
    *rows = count;
    return QP_OK;
}

qp_status qn_weight_layout(qp_device *device, const qp_weight_desc *desc, qp_weight_info *info, qp_text *error)
{
    (void)device;
    uint64_t row_bytes = 0;
    int64_t rows = 0;
    qp_status status = measure(desc, &row_bytes, &rows, error);
    if (status)
        return status;
    info->layout = QP_LAYOUT_GGUF;
    info->bytes = row_bytes * (uint64_t)rows;
    info->alignment = QN_ALIGNMENT;
    info->row_step = 1;
    return QP_OK;
}

qp_status qn_weight_pack(qp_device *device, const qp_weight_desc *desc, const void *src, uint64_t src_bytes, int64_t row,
                         int64_t rows, qp_range dst, qp_text *error)
{
    uint64_t row_bytes = 0;
    int64_t all = 0;
    qp_status status = measure(desc, &row_bytes, &all, error);
    if (status)
        return status;
    if (row < 0 || rows < 1 || row > all || rows > all - row)
        return qn_fail(error, QP_ERR_INVALID, "%lld rows from row %lld on, of a weight of %lld", (long long)rows, (long long)row,
                       (long long)all);
    uint64_t bytes = row_bytes * (uint64_t)rows, at = row_bytes * (uint64_t)row;
    if (src_bytes < bytes)
        return qn_fail(error, QP_ERR_INVALID, "%llu bytes were given for rows of %llu", (unsigned long long)src_bytes,
                       (unsigned long long)bytes);
    status = qn_range_check(device, &dst, "weight_pack", error);
    if (!status && at + bytes > dst.size)
        status = qn_fail(error, QP_ERR_INVALID, "weight_pack: the rows end at byte %llu of a range of %llu",
                         (unsigned long long)(at + bytes), (unsigned long long)dst.size);
    if (!status)
        memcpy(dst.buffer->data + dst.offset + at, src, bytes);
    return status;
}
