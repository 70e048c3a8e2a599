/* SPDX-License-Identifier: MIT
 * backends/cpu/ops_nodes.h: what each kind of node needs while it runs: addresses and numbers, nothing to look up. */
#ifndef QUERN_BACKENDS_CPU_OPS_NODES_H
#define QUERN_BACKENDS_CPU_OPS_NODES_H

#include "kernels/cpu/kernels.h"

/* A tensor of float rows: head h of row r is at data + h·head + r·row. */
typedef struct qc_rows {
    char *data;
    int64_t head, row; /* bytes */
} qc_rows;

static inline float *qc_row_at(const qc_rows *rows, int64_t h, int64_t r)
{
    return (float *)(void *)(rows->data + h * rows->head + r * rows->row);
}

typedef struct qc_get_rows_node {
    const char *table;
    int64_t stride, count, n;
    qp_format format;
    int packed;
    float scale;
    const int32_t *ids;
    qc_rows dst;
} qc_get_rows_node;

typedef struct qc_norm_node {
    qc_rows x, dst;
    int64_t n, heads;
    const float *weight, *bias;
    qp_norm_params p;
} qc_norm_node;

typedef struct qc_quantise_node {
    qc_rows x, dst;
    int64_t k;
} qc_quantise_node;

typedef struct qc_weight {
    const char *data;
    int64_t stride;     /* bytes of a strip of 16 rows */
    int64_t row_stride; /* in place */
    qk_matmul_fn multiply;
    const char *x;
    int64_t x_stride;
    int unpack; /* panels for float activations: a strip is dequantised into the thread's scratch first */
    qp_format format;
} qc_weight;

typedef struct qc_matmul_node {
    qc_weight w, w2; /* w2.data NULL: no second weight */
    int64_t k, m;
    int64_t group; /* strips of 16 rows in a unit */
    int64_t tile;  /* tokens in a unit */
    const float *bias, *bias2;
    qc_rows residual, dst; /* residual.data NULL: none */
    qp_matmul_params p;
} qc_matmul_node;

/* The rows of a route sorted by expert. Entry n = row·used + i goes to place[n] of the sorted list, entry[place] comes from it;
 * those of expert e are at start[e] to start[e + 1], and those of no expert from start[experts] to start[experts + 1]. */
typedef struct qc_sorted {
    int32_t *start, *entry, *place;
} qc_sorted;

typedef struct qc_sort_node {
    qc_rows route;
    int64_t experts, used;
    qc_sorted sorted;
} qc_sort_node;

/* Activations in the sorted order, quantised or as they are. */
typedef struct qc_gather_node {
    qc_rows x;
    int64_t k, heads, used;
    const int32_t *place; /* NULL: one behind the other */
    char *dst;
    int64_t bytes; /* of one */
    int quantise;
} qc_gather_node;

typedef struct qc_expert_node {
    qc_weight w, w2;        /* of expert 0; w2.data NULL: no second weight. x: the activations' first */
    int64_t expert_bytes, expert_bytes2; /* from a matrix to the next */
    int64_t x_head;         /* bytes between the activations of a row's experts; 0: they share one */
    int64_t k, m, experts, used;
    int64_t group, tile; /* as in qc_matmul_node */
    qc_rows route, bias, bias2, residual, dst;
    const float *scales;
    qc_sorted sorted;
    qp_expert_matmul_params p;
} qc_expert_node;

typedef struct qc_expert_route_node {
    qc_rows logits, dst;
    const float *bias;
    int64_t experts, used;
    qp_expert_route_params p;
} qc_expert_route_node;

typedef struct qc_rope_table_node {
    const int32_t *positions;
    const float *factors; /* NULL: all 1 */
    const double *turns;  /* of a pair, per position, before its factor: interpolated and extrapolated mixed */
    double magnitude;
    int64_t pairs;
    qc_rows table;
} qc_rope_table_node;

typedef struct qc_rope_node {
    qc_rows x, dst, table;
    int64_t n, heads, n_dims;
    uint32_t mode;
} qc_rope_node;

typedef struct qc_kv_append_node {
    qc_rows x;
    char *cache;
    int64_t cache_head, cache_cell; /* bytes */
    int64_t n, heads, cells;
    qp_format format;
    const int32_t *slots;
} qc_kv_append_node;

typedef struct qc_attention_node {
    qc_rows q, dst;
    const char *k, *v;
    int64_t k_head, k_cell, v_head, v_cell; /* bytes */
    int64_t k_size, v_size, heads, kv_heads, cells;
    qk_attention_fn attend;
    const int32_t *positions;
    const float *sinks;
    qp_attention_params p;
    int64_t stretch;        /* cells that are done at a time; their results are merged in order */
    int64_t row_block;      /* rows a unit does together; 0: stretches are units of their own */
    int64_t stretches;      /* that a row can have */
    char *partial;          /* stretches' states, where they are units */
    _Atomic uint32_t *done; /* stretches done of each row and KV head */
} qc_attention_node;

typedef struct qc_elementwise_node {
    qc_rows a, b, dst;
    int64_t n, heads;
    qp_elementwise_params p;
} qc_elementwise_node;

typedef struct qc_copy_node {
    const char *src;
    char *dst;
    int64_t ne[4], src_nb[4], dst_nb[4];
    qp_format from, to;
    void (*encode)(const qk_search *search, const float *src, void *block); /* NULL: values are rounded */
    int64_t chunk;                                                          /* elements converted at a time */
} qc_copy_node;

typedef struct qc_sample_node {
    qc_rows logits;
    char *dst;
    int64_t dst_stride, n;
} qc_sample_node;

typedef struct qc_short_conv_node {
    qk_short_conv_args args; /* of all channels and rows */
    int64_t stretch;         /* channels of a unit */
} qc_short_conv_node;

typedef struct qc_delta_rule_node {
    qc_rows q, k, v, g, beta, dst;
    const int32_t *positions;
    char *state;
    int64_t state_row, state_head; /* bytes */
    int64_t k_size, v_size, heads, key_heads;
    int64_t stretch, stretches; /* features of the value in a unit; units of a head */
    qp_delta_rule_params p;
} qc_delta_rule_node;

typedef struct qc_reference_node {
    const void *op; /* qk_op, all but live */
} qc_reference_node;

typedef union qc_node_args {
    qc_get_rows_node get_rows;
    qc_norm_node norm;
    qc_quantise_node quantise;
    qc_matmul_node matmul;
    qc_rope_table_node rope_table;
    qc_rope_node rope;
    qc_kv_append_node kv_append;
    qc_attention_node attention;
    qc_elementwise_node elementwise;
    qc_copy_node copy;
    qc_sample_node sample;
    qc_short_conv_node short_conv;
    qc_delta_rule_node delta_rule;
    qc_sort_node sort;
    qc_gather_node gather;
    qc_expert_node expert;
    qc_expert_route_node expert_route;
    qc_reference_node reference;
} qc_node_args;

#endif
