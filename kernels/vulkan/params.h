/* SPDX-License-Identifier: MIT
 * kernels/vulkan/params.h: what a dispatch is told, in 128 bytes of push constants at most. Read by the C compiler and, with
 * the same text, by the GLSL one: 64-bit members first, then 32-bit ones, so that both lay them out alike.
 *
 * Tensors are device addresses; 0: not there. Strides are bytes: _head of dimension 1, _row of dimension 2. `live` is the
 * address of the live row count. Kernels loop over rows, heads and elements, so that any number of workgroups is right; over rows of W they do not. */
#ifndef QUERN_KERNELS_VULKAN_PARAMS_H
#define QUERN_KERNELS_VULKAN_PARAMS_H

#ifndef QV_GLSL
#include <stdint.h>
#endif

struct qv_elementwise_params {
    uint64_t a, b, dst, live;
    uint32_t n, heads, rows;
    uint32_t a_head, a_row, b_head, b_row, dst_head, dst_row;
    float scale, offset;
};

struct qv_norm_params {
    uint64_t x, weight, bias, dst, live;
    uint32_t n, heads, rows;
    uint32_t x_head, x_row, dst_head, dst_row;
    float eps, weight_offset;
};

/* Rows are rows of dimension 2, heads of dimension 1; n counts elements. Blocks of a row are src_block and dst_block bytes
 * apart. */
struct qv_copy_params {
    uint64_t src, dst, live, cells; /* cells: I32, row r goes to row cells[r] of dst; 0: to row r */
    uint32_t n, heads, rows, dst_rows;
    uint32_t src_block, src_head, dst_block, dst_head;
    uint64_t src_row, dst_row;
};

/* Not tensors: rows of weights in blocks at src, to rows in planes at dst, src_row and dst_row bytes each. */
struct qv_pack_params {
    uint64_t src, dst;
    uint32_t rows, blocks, src_row, dst_row;
};

struct qv_get_rows_params {
    uint64_t table, ids, dst, live, table_row, grid; /* grid: the points of formats that have them */
    uint32_t n, rows, table_rows, dst_row;
    float scale;
    uint32_t unused;
};

/* One 64-bit word a pair: the fraction of a turn that the angle grows by with each position, in units of 2^-64. */
struct qv_rope_params {
    uint64_t x, dst, positions, factors, table, live;
    uint32_t n, heads, rows, n_dims;
    uint32_t x_head, x_row, dst_head, dst_row;
    float magnitude;
    uint32_t unused;
};

struct qv_sample_params {
    uint64_t logits, dst, live;
    uint32_t n, rows, logits_row, dst_step;
};

struct qv_matmul_params {
    uint64_t w, x, bias, residual, w2, bias2, dst, live, grid;
    uint32_t k, m, rows, w_row;
    uint32_t x_row, residual_row, dst_row, first; /* first: the row of W that this dispatch begins with */
    float scale, bias_scale, scale2, bias_scale2;
    uint32_t act, unused;
};

/* w: bytes from where the views of W begin, of the first row of this dispatch; x: texels of four numbers from where its view does.
 * w_row and x_row in the same units. */
struct qv_matmul_texels_params {
    uint64_t bias, residual, dst, live, grid;
    uint32_t k, m, rows, w, w_row, x, x_row;
    uint32_t residual_row, dst_row, first;
    float scale, bias_scale;
    uint32_t act, part; /* 0: W alone; 1: W, whose sum waits in dst for W2; 2: W2 */
};

/* Of a mixture, for experts [first_expert, end_expert) of W, which the views see; w as above. */
struct qv_expert_texels_params {
    uint64_t rare;        /* address of a qv_expert_matmul_params, for what few mixtures have */
    uint64_t tiles, list; /* as there; tiles 0: there is one token, and `list` is the numbers of its experts */
    uint64_t dst, live;
    uint32_t k, m, w, w_row, w_expert, x, x_head, x_row;
    uint32_t chosen, experts, dst_head, dst_row;
    uint32_t first, first_expert, end_expert, first_group;
    uint32_t act, part, has; /* has: QV_HAS_* */
};
#define QV_HAS_BIAS 1
#define QV_HAS_SCALES 2

/* x to int8 for matmul_dot: kernels/vulkan/activation_blocks.glsl. */
struct qv_quantise_params {
    uint64_t x, dst, live;
    uint32_t k, rows, x_row, dst_row;
    uint32_t heads, x_head; /* of a row, one behind the other in dst; halve_activations knows no heads */
};

/* In memory, at the address in qv_attention_push. Work comes in items: a tile of rows × the query heads of a tile, which share a KV
 * head × a slice of the features of V × a part of the cells. */
struct qv_attention_params {
    uint64_t q, k, v, positions, sinks, dst, live;
    uint64_t partials; /* of the parts: {v_size + 2, parts, heads, rows} floats: maximum, sum, values before they are divided */
    uint32_t k_size, v_size, heads, group, cells, rows; /* group: query heads to a KV head */
    uint32_t q_head, q_row, k_head, k_cell, v_head, v_cell, dst_head, dst_row;
    float scale, softcap;
    uint32_t window;
    uint32_t tile_rows, tile_heads, head_tiles, slices, parts; /* head_tiles: to a KV head */
};

struct qv_attention_push {
    uint64_t params;
    uint32_t first, end; /* items of this dispatch */
};

struct qv_expert_route_params {
    uint64_t logits, bias, dst, live;
    uint32_t experts, rows, chosen, groups, groups_used; /* groups: at least 1 */
    uint32_t logits_row, dst_head, dst_row;
    float scale;
    uint32_t unused;
};

/* More than push constants hold: these lie in memory, at the address in qv_expert_matmul_push. */
struct qv_expert_matmul_params {
    uint64_t w, x, bias, residual, w2, bias2, route, scales, dst, live;
    uint64_t grid; /* from the address of this on: both lie in the program's constants */
    uint64_t w_row, w_expert, w2_row, w2_expert, bias_expert, bias2_expert;
    uint64_t partials; /* of experts that are added up: {all, chosen, rows} floats */
    uint64_t tiles, list; /* what expert_group left; 0: nothing, and each pair of a token and an expert is for itself */
    uint32_t all;      /* rows of W */
    uint32_t k, rows, chosen, experts;
    uint32_t x_head, x_row, residual_row, route_head, route_row, dst_head, dst_row;
    uint32_t act;
    float alpha, limit;
    uint32_t first, m; /* rows of W, where a kernel copies them from its push constants */
};

struct qv_expert_matmul_push {
    uint64_t params;
    uint32_t first, m; /* rows of W that this dispatch begins and ends with */
    uint32_t first_item, end_item; /* tokens, pairs of a token and an expert, or tiles of these */
};

/* The route sorted by expert: kernels/vulkan/expert_group.comp. */
struct qv_expert_group_params {
    uint64_t route, live, tiles, list;
    uint32_t experts, rows, chosen, route_head, route_row;
    uint32_t columns, slots; /* pairs in a tile at most; tiles that there is room for */
};

struct qv_short_conv_params {
    uint64_t x, w, bias, positions, state, dst, live;
    uint32_t channels, rows, width, act;
    uint32_t x_row, w_row, state_row, dst_row;
};

/* In memory, at the address that is the one push constant. */
struct qv_delta_rule_params {
    uint64_t q, k, v, gate, beta, positions, state, dst, live, state_head;
    uint32_t k_size, v_size, key_heads, heads, rows, grouped;
    uint32_t q_head, q_row, k_head, k_row, v_head, v_row, gate_row, beta_row, dst_head, dst_row, state_row;
    float scale;
};

#endif
