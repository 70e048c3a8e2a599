/* SPDX-License-Identifier: MIT
 * backends/null/ops.h: what each op must look like. */
#ifndef QUERN_BACKENDS_NULL_OPS_H
#define QUERN_BACKENDS_NULL_OPS_H

#include <quern/plugin.h>

/* Is this op one that would run? placed: its tensors must lie inside buffers of the device. info may be NULL. */
qp_status qn_op_check(const qp_device *device, const qp_op *op, int placed, qp_op_info *info, qp_text *reason);

qp_status qn_op_query(qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason);

#endif
