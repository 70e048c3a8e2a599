/* SPDX-License-Identifier: MIT
 * backends/vulkan/ops.h: one row an op. What `check` says is what `launch` does. A new op is a row in a file of its own or of its
 * kin, and its name in the list of ops.c. */
#ifndef QUERN_BACKENDS_VULKAN_OPS_H
#define QUERN_BACKENDS_VULKAN_OPS_H

#include "backends/vulkan/plan.h"
#include "backends/vulkan/variant.h"

typedef struct qv_op_row {
    qp_op_kind kind;
    const char *name;
    const char *sources[QP_OP_SOURCES]; /* what to call them */
    uint32_t required, optional;        /* sets of sources: bit i for src[i] */
    uint32_t weights;                   /* those that may lie in planes, and whose rows may be any distance apart */
    /* Shapes, formats and parameters, after what is true of every op. In info it counts operations and, where there are kernels for
     * several formats, names op and format ("matmul_Q4_K"): the variant's name follows it. */
    qp_status (*check)(const qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason);
    const qv_variant *variants; /* QV_VARIANTS: best first */
} qv_op_row;

extern const qv_op_row qv_get_rows_row, qv_norm_row, qv_matmul_row, qv_rope_row, qv_kv_append_row, qv_attention_row,
    qv_elementwise_row, qv_copy_row, qv_sample_row, qv_expert_route_row, qv_expert_matmul_row, qv_short_conv_row, qv_delta_rule_row;

qp_status qv_op_query(qp_device *device, const qp_op *op, qp_op_info *info, qp_text *reason);

/* placed: its tensors must lie inside buffers of the device. *variant: the kernel that takes it, whose name, note and scratch
 * memory (a multiple of QV_ALIGNMENT) are in info. */
qp_status qv_op_check(const qp_device *device, const qp_op *op, int placed, qp_op_info *info, const qv_variant **variant,
                      qp_text *reason);

const qv_op_row *qv_op_row_at(uint32_t i); /* NULL behind the last */

/* Number i of a program's ops. */
const qp_op *qv_op_at(const qp_program_desc *desc, uint32_t i);

/* ---- tensors ---- */

static inline int qv_present(const qp_tensor *t)
{
    return t->ne[0] != 0;
}

const char *qv_format_name(qp_format format);
uint64_t qv_tensor_bytes(const qp_tensor *t);          /* from its start to the end of its last block; of a checked tensor */
uint64_t qv_address(const qp_tensor *t);               /* 0: not there */
uint32_t qv_stride(const qp_tensor *t, int dimension); /* bytes; 0 where there is one index only */
int64_t qv_rows(const qp_op *op);                      /* that the live count counts */

/* ---- pieces of checks: QP_OK, or QP_ERR_UNSUPPORTED in words ---- */

qp_status qv_need_format(const qp_tensor *t, const char *name, qp_format format, qp_text *reason);
qp_status qv_need_shape(const qp_tensor *t, const char *name, int64_t ne0, int64_t ne1, int64_t ne2, qp_text *reason);
qp_status qv_need_floats(const qp_tensor *t, const char *name, int64_t ne0, int64_t ne1, int64_t ne2, qp_text *reason); /* F32 */
qp_status qv_need_vector(const qp_tensor *t, const char *name, int64_t n, qp_text *reason);  /* F32 {n}, or absent */
qp_status qv_need_numbers(const qp_tensor *t, const char *name, int64_t n, qp_text *reason); /* I32 {n}, contiguous */

/* ---- pieces of launches ---- */

enum { QV_GROUP = 64 }; /* invocations of a workgroup, unless a kernel has reason for another number */

/* The most invocations of a workgroup up to `most`, a power of two, that the device takes; Vulkan promises 128. */
uint32_t qv_group_of(const qp_device *device, uint32_t most);

static inline uint64_t qv_groups(uint64_t n, uint64_t size)
{
    return (n + size - 1) / size;
}

/* For formats whose blocks choose points of a grid: their address goes to `place` in the push constants of the dispatch added last.
 */
qp_status qv_attach_grid(qv_plan *plan, qp_format format, size_t place, qp_text *error);

/* Rows of W that one dispatch of a matmul may take: a submission holds at least one dispatch, so none may be longer than one should
 * be. */
uint32_t qv_rows_at_once(const qp_device *device, uint64_t work_of_row, uint32_t m);

/* The same for pieces of any kind; 0 where a single one takes longer than it should. */
uint64_t qv_items_at_once(const qp_device *device, qp_op_kind kind, uint64_t work_of_item);

/* Functions of the variant `texels` of a matmul (ops_matmul_texels.c). */
const char *qv_matmul_texels_refuses(const qp_device *device, const qp_op *op);
qp_status qv_matmul_texels_launch(qv_plan *plan, const qp_op *op, qp_text *error);

/* Constant 0 is the size of a workgroup; `more` pairs of id and value follow. */
qv_constants qv_make_constants(uint32_t group, uint32_t more, const uint32_t (*pairs)[2]);

#endif
