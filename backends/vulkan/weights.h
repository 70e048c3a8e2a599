/* SPDX-License-Identifier: MIT
 * backends/vulkan/weights.h: how weights lie on the device: as on disk, or each row in planes (kernels/vulkan/fields.h). */
#ifndef QUERN_BACKENDS_VULKAN_WEIGHTS_H
#define QUERN_BACKENDS_VULKAN_WEIGHTS_H

#include "backends/vulkan/pipeline.h"

enum { QV_LAYOUT_PLANES = 1 };

/* Is there a kernel that reads weights of this format? (Any layout.) */
int qv_is_weight_format(qp_format format);
int qv_has_planes(qp_format format);

/* The points that the blocks of a format choose from, or NULL. */
const void *qv_grid_of(qp_format format, uint32_t *bytes);

/* Bytes of a row of n elements; 0 when they overflow. */
uint64_t qv_weight_row(qp_format format, uint32_t layout, int64_t n);

/* Rows as they are on disk to rows in planes, by this thread. */
void qv_weight_pack_rows(qp_format format, int64_t n, const void *from, void *to, int64_t rows);

/* The kernel that does so on the device. */
qv_constants qv_packer(qp_format format);

qp_status qv_weight_layout(qp_device *device, const qp_weight_desc *desc, qp_weight_info *info, qp_text *error);
qp_status qv_weight_pack(qp_device *device, const qp_weight_desc *desc, const void *src, uint64_t src_bytes, int64_t row,
                         int64_t rows, qp_range dst, qp_text *error);

#endif
