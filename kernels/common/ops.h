/* SPDX-License-Identifier: MIT
 * kernels/common/ops.h: an op whose tensors are plain memory: what the reference kernels take. Same numbering and parameters as
 * qp_op, whose comments define the meaning. */
#ifndef QUERN_KERNELS_OPS_H
#define QUERN_KERNELS_OPS_H

#include <quern/plugin.h>

typedef struct qk_tensor {
    void *data; /* NULL: not there */
    qp_format format;
    uint32_t layout;
    int64_t ne[4];
    int64_t nb[4];
} qk_tensor;

typedef struct qk_op {
    qp_op_kind kind;
    int64_t live; /* rows to compute, already clamped to [0, dst.ne[2]] */
    qk_tensor dst;
    qk_tensor src[QP_OP_SOURCES];
    union {
        qp_get_rows_params get_rows;
        qp_norm_params norm;
        qp_matmul_params matmul;
        qp_rope_params rope;
        qp_attention_params attention;
        qp_elementwise_params elementwise;
        qp_copy_params copy;
        qp_sample_params sample;
        qp_expert_route_params expert_route;
        qp_expert_matmul_params expert_matmul;
        qp_short_conv_params short_conv;
        qp_delta_rule_params delta_rule;
        uint64_t bytes[16];
    } p;
} qk_op;

/* The sets of sources that dst may be and that the op changes, by QP_OP_LIST; none for kinds that are not there. */
static inline uint32_t qk_op_in_place(qp_op_kind kind)
{
    switch (kind) {
#define QK_OP_IN_PLACE(NAME, name, number, in_place, written)                                                                      \
    case number: return in_place;
        QP_OP_LIST(QK_OP_IN_PLACE)
#undef QK_OP_IN_PLACE
    default: return 0;
    }
}

static inline uint32_t qk_op_written(qp_op_kind kind)
{
    switch (kind) {
#define QK_OP_WRITTEN(NAME, name, number, in_place, written)                                                                       \
    case number: return written;
        QP_OP_LIST(QK_OP_WRITTEN)
#undef QK_OP_WRITTEN
    default: return 0;
    }
}

#endif
