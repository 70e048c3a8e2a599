/* SPDX-License-Identifier: MIT */
#include "backends/vulkan/weights.h"

#include "backends/vulkan/buffer.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/ops.h"
#include "backends/vulkan/selftest.h"
#include "backends/vulkan/status.h"
#include "kernels/common/formats.h"
#include "kernels/common/grids.h"
#include "kernels/vulkan/fields.h"
#include "kernels/vulkan/params.h"

#include <string.h>

enum { PARTS = 4 };

typedef struct planes {
    uint32_t offsets[PARTS], sizes[PARTS]; /* of the parts of a block on disk */
} planes;

/* Formats in blocks that kernels/vulkan/weights.glsl knows. */
#define BLOCK_FORMATS(X)                                                                                                           \
    X(Q4_0)                                                                                                                        \
    X(Q4_1)                                                                                                                        \
    X(Q5_0)                                                                                                                        \
    X(Q5_1)                                                                                                                        \
    X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS) X(MXFP4) X(TQ1_0) X(TQ2_0) X(IQ1_S) X(IQ1_M) X(IQ2_XXS)    \
        X(IQ2_XS) X(IQ2_S) X(IQ3_XXS) X(IQ3_S)

static const planes table[QP_FORMAT_LIMIT] = {
#define ROW(name) [QP_FORMAT_##name] = {{QV_##name##_OFFSETS}, {QV_##name##_SIZES}},
    BLOCK_FORMATS(ROW)
#undef ROW
};

/* Every byte of a block is in one part. */
#define SUM(a, b, c, d) ((a) + (b) + (c) + (d))
#define SUM_OF(...) SUM(__VA_ARGS__)
#define CHECK(name) _Static_assert(SUM_OF(QV_##name##_SIZES) == QV_##name##_BYTES, "parts of " #name);
BLOCK_FORMATS(CHECK)
#undef CHECK

int qv_has_planes(qp_format format)
{
    return format < QP_FORMAT_LIMIT && table[format].sizes[0] != 0;
}

int qv_is_weight_format(qp_format format)
{
    return format == QP_FORMAT_F32 || format == QP_FORMAT_F16 || format == QP_FORMAT_BF16 || qv_has_planes(format);
}

const void *qv_grid_of(qp_format format, uint32_t *bytes)
{
#define GRID(points) return *bytes = sizeof points, points
    switch (format) {
    case QP_FORMAT_IQ1_S:
    case QP_FORMAT_IQ1_M: GRID(qk_grid_iq1_s);
    case QP_FORMAT_IQ2_XXS: GRID(qk_grid_iq2_xxs);
    case QP_FORMAT_IQ2_XS: GRID(qk_grid_iq2_xs);
    case QP_FORMAT_IQ2_S: GRID(qk_grid_iq2_s);
    case QP_FORMAT_IQ3_XXS: GRID(qk_grid_iq3_xxs);
    case QP_FORMAT_IQ3_S: GRID(qk_grid_iq3_s);
    default: return NULL;
    }
#undef GRID
}

static uint64_t plane_bytes(uint32_t size, uint64_t blocks)
{
    return (blocks * size + QV_PLANE_ALIGN - 1) / QV_PLANE_ALIGN * QV_PLANE_ALIGN;
}

uint64_t qv_weight_row(qp_format format, uint32_t layout, int64_t n)
{
    uint64_t blocks = (uint64_t)n / qk_block_elements(format), bytes = 0;
    if (blocks > (uint64_t)INT64_MAX / 512)
        return 0;
    if (layout != QV_LAYOUT_PLANES)
        return blocks * qk_block_bytes(format);
    for (int i = 0; i < PARTS; i++)
        bytes += plane_bytes(table[format].sizes[i], blocks);
    return bytes;
}

/* ---- layout ---- */

typedef struct shape {
    uint32_t layout;
    uint64_t disk_row, row; /* bytes */
    int64_t rows;
} shape;

static qp_status measure(const qp_weight_desc *desc, shape *out, qp_text *error)
{
    uint32_t elements = desc->format < QP_FORMAT_LIMIT ? qk_block_elements(desc->format) : 0;
    if (!elements)
        return qv_fail(error, QP_ERR_UNSUPPORTED, "no format has the number %u", desc->format);
    for (int i = 0; i < 4; i++)
        if (desc->ne[i] < 1)
            return qv_fail(error, QP_ERR_INVALID, "dimension %d of a weight is %lld", i, (long long)desc->ne[i]);
    if (desc->ne[0] % elements)
        return qv_fail(error, QP_ERR_UNSUPPORTED, "rows of %lld elements are not whole blocks of %u", (long long)desc->ne[0],
                       elements);
    int in_planes =
        desc->uses & (QP_WEIGHT_MATMUL | QP_WEIGHT_ROWS) && !(desc->uses & QP_WEIGHT_PLAIN) && qv_has_planes(desc->format);
    out->layout = in_planes ? QV_LAYOUT_PLANES : QP_LAYOUT_GGUF;
    out->disk_row = qv_weight_row(desc->format, QP_LAYOUT_GGUF, desc->ne[0]);
    out->row = qv_weight_row(desc->format, out->layout, desc->ne[0]);
    int64_t all;
    if (!out->row || __builtin_mul_overflow(desc->ne[1], desc->ne[2], &out->rows) ||
        __builtin_mul_overflow(out->rows, desc->ne[3], &out->rows) || __builtin_mul_overflow((int64_t)out->row, out->rows, &all))
        return qv_fail(error, QP_ERR_UNSUPPORTED, "a weight is larger than can be addressed");
    return QP_OK;
}

qp_status qv_weight_layout(qp_device *device, const qp_weight_desc *desc, qp_weight_info *info, qp_text *error)
{
    shape s = {0};
    qp_status status = qv_lost(device, error);
    if (!status)
        status = measure(desc, &s, error);
    if (status)
        return status;
    info->layout = s.layout;
    info->bytes = s.row * (uint64_t)s.rows;
    info->alignment = QV_ALIGNMENT;
    info->row_step = 1;
    return QP_OK;
}

/* ---- packing on the host, into a mapping ---- */

static void pack_row(qp_format format, const uint8_t *from, uint8_t *to, uint64_t blocks)
{
    const planes *p = &table[format];
    uint32_t step = qk_block_bytes(format);
    for (int i = 0; i < PARTS; i++) {
        uint32_t size = p->sizes[i];
        uint64_t padded = plane_bytes(size, blocks);
        const uint8_t *part = from + p->offsets[i];
        for (uint64_t b = 0; b < blocks; b++, part += step)
            memcpy(to + b * size, part, size);
        memset(to + blocks * size, 0, padded - blocks * size);
        to += padded;
    }
}

void qv_weight_pack_rows(qp_format format, int64_t n, const void *from, void *to, int64_t rows)
{
    uint64_t disk_row = qv_weight_row(format, QP_LAYOUT_GGUF, n), row = qv_weight_row(format, QV_LAYOUT_PLANES, n);
    for (int64_t r = 0; r < rows; r++)
        pack_row(format, (const uint8_t *)from + (uint64_t)r * disk_row, (uint8_t *)to + (uint64_t)r * row,
                 (uint64_t)n / qk_block_elements(format));
}

static void pack_rows(const qp_weight_desc *desc, const shape *s, const uint8_t *from, uint8_t *to, int64_t rows)
{
    if (s->layout == QP_LAYOUT_GGUF)
        memcpy(to, from, (uint64_t)rows * s->row);
    else
        qv_weight_pack_rows(desc->format, desc->ne[0], from, to, rows);
}

/* ---- packing where the host cannot see the weight ---- */

qv_constants qv_packer(qp_format format)
{
    const planes *p = &table[format];
    uint32_t bytes = qk_block_bytes(format), all = bytes;
    for (int i = 0; i < PARTS; i++)
        all |= p->offsets[i] | p->sizes[i];
    uint32_t pairs[PARTS + 2][2] = {{5, bytes}, {6, all % 4 == 0 ? 4 : all % 2 == 0 ? 2 : 1}};
    for (uint32_t i = 0; i < PARTS; i++) {
        pairs[2 + i][0] = 1 + i;
        pairs[2 + i][1] = p->sizes[i] | p->offsets[i] << 16;
    }
    return qv_make_constants(QV_GROUP, PARTS + 2, (const uint32_t(*)[2])pairs);
}

/* Rows as they are on disk into a slot, and from there, by the device, to their planes; no packer: what a slot holds is copied as it
 * is, so they are packed before. Gives the slot back. */
static qp_status pack_slot(const qp_weight_desc *desc, const shape *s, VkPipeline packer, const uint8_t *from, int64_t rows,
                           qp_buffer *to, uint64_t offset, qv_staging *slot, qp_text *error)
{
    if (!packer) {
        pack_rows(desc, s, from, (uint8_t *)slot->buffer->mapped, rows);
        return qv_staging_upload(to, offset, (uint64_t)rows * s->row, slot, error);
    }
    memcpy(slot->buffer->mapped, from, (uint64_t)rows * s->disk_row);
    struct qv_pack_params p = {.src = slot->buffer->address,
                               .dst = to->address + offset,
                               .rows = (uint32_t)rows,
                               .blocks = (uint32_t)(desc->ne[0] / qk_block_elements(desc->format)),
                               .src_row = (uint32_t)s->disk_row,
                               .dst_row = (uint32_t)s->row};
    uint64_t groups = qv_groups(s->row / 4, QV_GROUP);
    const uint32_t counts[2] = {groups < QV_MAX_GROUPS ? (uint32_t)groups : QV_MAX_GROUPS,
                                rows < QV_MAX_GROUPS ? (uint32_t)rows : QV_MAX_GROUPS};
    return qv_staging_dispatch(to, packer, &p, sizeof p, counts, slot, error);
}

/* A row that is longer than a slot goes by way of host memory. */
static qp_status pack_long_rows(const qp_weight_desc *desc, const shape *s, const uint8_t *from, int64_t rows, qp_buffer *to,
                                uint64_t offset, qp_text *error)
{
    qp_status status = QP_OK;
    uint8_t *row = qv_alloc(s->row);
    if (!row)
        return qv_fail(error, QP_ERR_OUT_OF_MEMORY, "no host memory to pack a row of %llu bytes", (unsigned long long)s->row);
    for (int64_t r = 0; r < rows && !status; r++) {
        pack_rows(desc, s, from + (uint64_t)r * s->disk_row, row, 1);
        status = qv_transfer_write(to, offset + (uint64_t)r * s->row, row, s->row, error);
    }
    qv_free(row);
    return status;
}

/* Through the staging ring, as many rows at a time as a slot holds. While the device packs those the caller reads the next ones. */
static qp_status pack_staged(const qp_weight_desc *desc, const shape *s, const uint8_t *from, int64_t rows, qp_buffer *to,
                             uint64_t offset, qp_text *error)
{
    int64_t most = (int64_t)(QV_STAGING_BYTES / (s->disk_row > s->row ? s->disk_row : s->row));
    VkPipeline packer = VK_NULL_HANDLE;
    if (!most)
        return pack_long_rows(desc, s, from, rows, to, offset, error);
    qp_status status = QP_OK;
    if (s->layout == QV_LAYOUT_PLANES && !qv_selftest_packing_fails(to->device, desc->format)) {
        qv_constants constants = qv_packer(desc->format);
        status = qv_pipeline_get(to->device, "pack", &constants, &packer, error);
    }
    for (int64_t r = 0, n; r < rows && !status; r += n) {
        qv_staging *slot;
        n = rows - r < most ? rows - r : most;
        status = qv_staging_take(to->device, &slot, error);
        if (!status)
            status =
                pack_slot(desc, s, packer, from + (uint64_t)r * s->disk_row, n, to, offset + (uint64_t)r * s->row, slot, error);
    }
    return status;
}

qp_status qv_weight_pack(qp_device *device, const qp_weight_desc *desc, const void *src, uint64_t src_bytes, int64_t row,
                         int64_t rows, qp_range dst, qp_text *error)
{
    shape s = {0};
    qp_status status = qv_lost(device, error);
    if (!status)
        status = measure(desc, &s, error);
    if (status)
        return status;
    if (row < 0 || rows < 0 || row > s.rows || rows > s.rows - row)
        return qv_fail(error, QP_ERR_INVALID, "%lld rows from row %lld on, of a weight of %lld", (long long)rows, (long long)row,
                       (long long)s.rows);
    if (src_bytes < s.disk_row * (uint64_t)rows)
        return qv_fail(error, QP_ERR_INVALID, "%llu bytes were given for rows of %llu", (unsigned long long)src_bytes,
                       (unsigned long long)(s.disk_row * (uint64_t)rows));
    if (dst.size < s.row * (uint64_t)s.rows)
        return qv_fail(error, QP_ERR_INVALID, "the packed weight takes %llu bytes; its range has %llu",
                       (unsigned long long)(s.row * (uint64_t)s.rows), (unsigned long long)dst.size);
    status = qv_range_check(device, &dst, "weight_pack", error);
    if (!status && (dst.buffer->address + dst.offset) % QV_PLANE_ALIGN)
        status = qv_fail(error, QP_ERR_INVALID, "the packed weight starts at offset %llu, which is no multiple of %d",
                         (unsigned long long)dst.offset, QV_ALIGNMENT);
    if (status || !rows)
        return status;
    uint64_t offset = dst.offset + (uint64_t)row * s.row;
    if (!dst.buffer->mapped)
        return pack_staged(desc, &s, src, rows, dst.buffer, offset, error);
    pack_rows(desc, &s, src, (uint8_t *)dst.buffer->mapped + offset, rows);
    return QP_OK;
}
