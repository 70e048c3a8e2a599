/* SPDX-License-Identifier: MIT
 * engine/block_ops.h: one op of a block each, written into the builder's graph: what blocks are made of, whatever the model. */
#ifndef ENGINE_BLOCK_OPS_H
#define ENGINE_BLOCK_OPS_H

#include "engine/blocks.h"

/* The tag of a part of a layer. */
static inline uint32_t layer_tag(uint32_t layer, uint32_t tag)
{
    return (layer + 1) * TAG_LAYER + tag;
}

/* A temporary {n, 1, rows}. */
quern_value op_new_rows(builder *b, int64_t n);
/* {size·heads, 1, rows} seen as {size, heads, rows}. */
quern_value op_heads(builder *b, quern_value x, int64_t size, int64_t heads);

/* Features of rows that are `width` wide, seen as heads: head i is [first + i·step, first + i·step + size). */
typedef struct row_part {
    int64_t width, first, size, heads;
    int64_t step; /* 0: size */
} row_part;
quern_value op_columns(builder *b, quern_value x, const row_part *part);

/* Each returns what it has written. */
quern_value op_norm(builder *b, const norm_weights *weights, quern_value x, quern_value dst, uint32_t tag);
/* dst = act(linear(x)) + residual; with a second linear act(linear(x)) · second(x). residual 0: none. */
quern_value op_matmul(builder *b, const linear *l, const linear *second, qp_activation act, quern_value x, quern_value residual,
                      quern_value dst, uint32_t tag);
quern_value op_project(builder *b, const linear *l, quern_value x, uint32_t tag); /* linear(x) */
quern_value op_get_rows(builder *b, quern_value table, quern_value ids, float scale, int64_t n, uint32_t tag);
quern_value op_elementwise(builder *b, const qp_elementwise_params *params, quern_value x, quern_value y, quern_value dst,
                           uint32_t tag);
/* dst = act(x)·y */
quern_value op_glu(builder *b, qp_activation act, quern_value x, quern_value y, quern_value dst, uint32_t tag);

/* act(gate(h)) · up(h), {n, 1, rows}: one op where both matrices lie alike, else two products and an elementwise op. */
quern_value op_gated(builder *b, uint32_t layer, const mlp_weights *w, int64_t n, quern_value h);
/* x + linear(h), or with a norm before the sum: the end of a block. Overwrites x. */
quern_value op_add_to(builder *b, uint32_t layer, const linear *l, const norm_weights *post_norm, quern_value h, quern_value x,
                      uint32_t tag);
/* In the last layer only the rows that logits are wanted of go on: h {n, 1, rows} and x become these. */
void op_select_last(builder *b, uint32_t layer, quern_value *h, int64_t n, quern_value *x);

#endif
