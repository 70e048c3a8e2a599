/* SPDX-License-Identifier: MIT
 * backends/cpu/weights.h: how weights lie on this device. */
#ifndef QUERN_BACKENDS_CPU_WEIGHTS_H
#define QUERN_BACKENDS_CPU_WEIGHTS_H

#include <quern/plugin.h>

qp_status qc_weight_layout(qp_device *device, const qp_weight_desc *desc, qp_weight_info *info, qp_text *error);
qp_status qc_weight_pack(qp_device *device, const qp_weight_desc *desc, const void *src, uint64_t src_bytes, int64_t row,
                         int64_t rows, qp_range dst, qp_text *error);

#endif
