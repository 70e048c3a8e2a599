/* SPDX-License-Identifier: MIT
 * backends/cpu/ops.h: one row per op: which sources it takes, check, what scratch it needs, launch. What check accepts, launch
 * runs. */
#ifndef QUERN_BACKENDS_CPU_OPS_H
#define QUERN_BACKENDS_CPU_OPS_H

#include "backends/cpu/build.h"
#include "backends/cpu/device.h"

typedef struct qc_op_row {
    qp_op_kind kind;
    const char *name;
    const char *const *sources;  /* names, in order */
    uint32_t required, optional; /* bits of sources */
    uint32_t packed;             /* bits of sources that may lie in panels */
    uint32_t strided;            /* bits of sources whose blocks may lie apart; bit 31: dst */
    /* Adds to what is true of every op. Fills kernel, bytes and operations of info (never NULL). */
    qp_status (*check)(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason);
    /* Adds what the op needs; NULL: nothing. */
    qp_status (*measure)(const qp_device *device, const qp_op *op, qc_scratch *scratch, qp_text *error);
    /* Adds nodes; NULL: one that calls kernels/ref. Tensors are checked and resolved. A failure without words is one of host memory. */
    qp_status (*launch)(qc_builder *builder, const qp_op *op, const qk_op *resolved, qp_text *error);
} qc_op_row;

extern const qc_op_row qc_get_rows_row, qc_norm_row, qc_matmul_row, qc_rope_row, qc_kv_append_row, qc_attention_row,
    qc_elementwise_row, qc_copy_row, qc_sample_row, qc_short_conv_row, qc_delta_rule_row, qc_expert_route_row,
    qc_expert_matmul_row;

#define QC_STRIDED_DST (1u << 31)

const qc_op_row *qc_op_find(qp_op_kind kind); /* NULL: this device has no such op */

qp_status qc_op_query(qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason);
/* As op_query; info is not NULL. The op is complete (see qc_op_load). */
qp_status qc_op_check(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason);
/* Copies an op as its maker knew it, what it did not know as zeros. */
qp_status qc_op_load(qp_op *out, const void *op, size_t size, qp_text *error);

/* Is the source or dst there? */
static inline int qc_present(const qp_tensor *tensor)
{
    return tensor->buffer != NULL || tensor->ne[0] > 0;
}

/* Rows that the op computes at most. */
int64_t qc_op_rows(const qp_op *op);

/* Bytes from a tensor's first to past its last; UINT64_MAX when they overflow. Shape, strides and format are sound. */
uint64_t qc_tensor_bytes(const qp_tensor *tensor);
uint64_t qc_row_bytes(qp_format format, int64_t n);
uint32_t qc_format_alignment(qp_format format); /* of a block in memory */

/* ---- pieces of checks: each gives QP_OK or QP_ERR_UNSUPPORTED with words ---- */

qp_status qc_need_format(const qp_tensor *tensor, const char *name, qp_format format, qp_text *reason);
qp_status qc_need_shape(const qp_tensor *tensor, const char *name, int64_t ne0, int64_t ne1, int64_t ne2, qp_text *reason);
qp_status qc_need_index(const qp_tensor *tensor, const char *name, int64_t rows, qp_text *reason); /* I32 {rows} */
qp_status qc_need_floats(const qp_tensor *tensor, const char *name, int64_t n, qp_text *reason);   /* F32 {n} */
int qc_reference_has(qp_format format);                                                            /* can kernels/ref read it? */
int qc_reference_makes(qp_format format);                                                          /* and write it? */

/* ---- products, for MATMUL and EXPERT_MATMUL (ops_matmul.c) ---- */

static inline int qc_is_panel(const qp_tensor *w)
{
    return w->layout == QK_LAYOUT_PANEL;
}

/* A matrix {k, m, experts} that there is a kernel for. */
qp_status qc_check_matrix(const qp_device *device, const qp_tensor *w, const char *name, int64_t k, int64_t m, int64_t experts,
                          qp_text *reason);

/* Quantises the rows {K, 1, rows} of x to the start of scratch, unless that is what lies there. Row r is at r·qk_act_bytes(K). */
qp_status qc_quantise_rows(qc_builder *builder, const qk_tensor *x);
/* How to multiply with w; floats: by float activations also where it lies in panels. x: its activations, as the kernel wants them. */
qc_weight qc_weight_of(const qc_build_info *info, const qk_tensor *w, int floats, const char *x, int64_t x_stride);
typedef struct qc_tile {
    int64_t row, rows; /* of the weights; row is the first of a strip */
    int64_t token, tokens;
    int64_t stride; /* floats between tokens of the result */
} qc_tile;
/* more: the kernel's scratch (QK_MATMUL_SCRATCH bytes), or room for a strip of floats where panels are unpacked. */
void qc_multiply(const qc_weight *w, int64_t k, const qc_tile *t, float *y, float *more);

/* Units of cheap row-by-row work to take at a time. */
int64_t qc_row_grain(const qp_device *device, int64_t rows);
void qc_name_kernel(qp_op_info *info, const char *op, const char *format, const char *isa);

#endif
