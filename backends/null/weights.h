/* SPDX-License-Identifier: MIT
 * backends/null/weights.h: weights stay as they are in the file. */
#ifndef QUERN_BACKENDS_NULL_WEIGHTS_H
#define QUERN_BACKENDS_NULL_WEIGHTS_H

#include <quern/plugin.h>

qp_status qn_weight_layout(qp_device *device, const qp_weight_desc *desc, qp_weight_info *info, qp_text *error);
qp_status qn_weight_pack(qp_device *device, const qp_weight_desc *desc, const void *src, uint64_t src_bytes, int64_t row,
                         int64_t rows, qp_range dst, qp_text *error);

#endif
