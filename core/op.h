/* SPDX-License-Identifier: MIT
 * core/op.h: what core knows of each kind of op, all of it from QP_OP_LIST. Internal, but for quern_op_name. */
#ifndef QUERN_CORE_OP_H
#define QUERN_CORE_OP_H

#include <quern/plugin.h>

/* May dst be this source? What a newer plugin.h defines is left to the plugin: yes. */
int qi_op_in_place(qp_op_kind kind, uint32_t source);
/* Does the op change this source? */
int qi_op_writes(qp_op_kind kind, uint32_t source);

#endif
