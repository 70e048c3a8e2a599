/* SPDX-License-Identifier: MIT
 * backends/vulkan/attention.h: what the variants of attention share: how its work is cut up, its dispatches; and those that have a
 * file of their own. Thread rule: any. */
#ifndef QUERN_BACKENDS_VULKAN_ATTENTION_H
#define QUERN_BACKENDS_VULKAN_ATTENTION_H

#include "backends/vulkan/ops.h"
#include "kernels/vulkan/params.h"

enum { QV_ATTENTION_SLICE = 256 }; /* the most features of V to a workgroup, where a kernel has no reason for another number */

/* What a kernel can take. */
typedef struct qv_attention_kernel {
    const char *name;
    uint32_t most_queries; /* to a tile */
    uint32_t granule;      /* of a slice, in features */
    uint32_t most_slice;   /* features */
    int parts_by_number;   /* which part a cell belongs to follows from its number alone, not from what a row sees */
} qv_attention_kernel;

typedef struct qv_attention_cut {
    uint32_t rows, heads; /* to a tile */
    uint32_t head_tiles;  /* to a KV head */
    uint32_t slice, slices, parts;
    uint64_t items, work; /* work: of one item */
} qv_attention_cut;

/* Of a checked op. It follows from shapes and the device alone. */
qv_attention_cut qv_attention_cut_up(const qp_device *device, const qp_op *op, const qv_attention_kernel *kernel);

/* Queries of a tile and places for none, a power of two. */
uint32_t qv_attention_places(const qv_attention_cut *c);

/* Bytes of the partial results. */
uint64_t qv_attention_scratch(const qp_device *device, const qp_op *op, const qv_attention_kernel *kernel);

/* Its dispatches, and those that put parts together. */
qp_status qv_attention_launch(qv_plan *plan, const qp_op *op, const qv_attention_kernel *kernel, const qv_attention_cut *c,
                              const qv_constants *constants, qp_text *error);

/* 1 if rows of a cache lie so that whole words of them may be read: at multiples of so many bytes, of a multiple of so many
 * elements; those of blocks at multiples of 4, in pairs. See cache.glsl and pieces.glsl. */
uint32_t qv_attention_is_wide(const qp_tensor *t, uint32_t bytes, uint32_t elements);

/* ---- attention_rows.c: teams of invocations along the features of a cell, for few queries ---- */

const char *qv_attention_rows_lacks(const qv_physical *physical);
const char *qv_attention_rows_refuses(const qp_device *device, const qp_op *op);
uint64_t qv_attention_rows_scratch(const qp_device *device, const qp_op *op);
qp_status qv_attention_rows_launch(qv_plan *plan, const qp_op *op, qp_text *error);

/* ---- attention_tiles.c: in shared memory, for many queries ---- */

const char *qv_attention_tiles_refuses(const qp_device *device, const qp_op *op);
uint64_t qv_attention_tiles_scratch(const qp_device *device, const qp_op *op);
qp_status qv_attention_tiles_launch(qv_plan *plan, const qp_op *op, qp_text *error);

#endif
