/* SPDX-License-Identifier: MIT
 * kernels/ref/ref.c: the kernel for each kind of op. */
#include "kernels/ref/ref.h"

int qr_run(const qk_op *op)
{
    static void (*const kernels[QP_OP_LIMIT])(const qk_op *) = {
        [QP_OP_GET_ROWS] = qr_get_rows,
        [QP_OP_NORM] = qr_norm,
        [QP_OP_MATMUL] = qr_matmul,
        [QP_OP_ROPE] = qr_rope,
        [QP_OP_KV_APPEND] = qr_kv_append,
        [QP_OP_ATTENTION] = qr_attention,
        [QP_OP_ELEMENTWISE] = qr_elementwise,
        [QP_OP_COPY] = qr_copy,
        [QP_OP_SAMPLE] = qr_sample,
        [QP_OP_SHORT_CONV] = qr_short_conv,
        [QP_OP_DELTA_RULE] = qr_delta_rule,
        [QP_OP_EXPERT_ROUTE] = qr_expert_route,
        [QP_OP_EXPERT_MATMUL] = qr_expert_matmul,
    };
    if (op->kind >= QP_OP_LIMIT || !kernels[op->kind])
        return -1;
    kernels[op->kind](op);
    return 0;
}
