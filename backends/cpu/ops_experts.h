/* SPDX-License-Identifier: MIT
 * backends/cpu/ops_experts.h: the kinds of nodes that EXPERT_MATMUL becomes, between what builds and what runs them. */
#ifndef QUERN_BACKENDS_CPU_OPS_EXPERTS_H
#define QUERN_BACKENDS_CPU_OPS_EXPERTS_H

#include "backends/cpu/ops.h"

/* sort: a route by expert, one unit. gather: activations into scratch, a unit a row. Then the product: of one row (its units lie
 * one behind the other for each expert), of one expert alone, of sorted rows that stay apart, or that are added up. */
extern const qc_kind qc_sort_kind, qc_gather_kind, qc_expert_row_kind, qc_expert_alone_kind, qc_expert_sorted_kind,
    qc_expert_sum_kind;

/* What a thread's scratch must hold: results of W and of W2, and sums. */
typedef struct qc_expert_sizes {
    int64_t m, rows; /* rows: of the weights in one call */
    int64_t tile;    /* tokens in one call */
    int64_t entries; /* whose results are kept */
} qc_expert_sizes;

static inline uint64_t qc_expert_thread_bytes(const qc_expert_sizes *s)
{
    return (uint64_t)s->rows * ((uint64_t)s->entries + 2 * (uint64_t)s->tile) * sizeof(float);
}

#endif
