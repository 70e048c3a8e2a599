/* SPDX-License-Identifier: MIT
 * backends/cpu/build.h: how ops' launch functions put nodes into a program: nodes with what they read and write, from which the
 * builder finds chains and phases. */
#ifndef QUERN_BACKENDS_CPU_BUILD_H
#define QUERN_BACKENDS_CPU_BUILD_H

#include "backends/cpu/program.h"
#include "kernels/common/ops.h"

enum { QC_MAX_ROPE_TABLES = 64 };

/* The scratch of a program, as sizes: what program_measure adds up is what program_create lays out. */
typedef struct qc_scratch {
    uint64_t activations;  /* quantised rows of one matmul */
    uint64_t partial;      /* states of attention's stretches */
    uint64_t sorted;       /* a route sorted by expert */
    uint64_t thread_bytes; /* for each thread */
    uint32_t rope_tables;  /* one for each different set of rope parameters */
    struct {
        qp_rope_params p;
        uint64_t bytes;
    } rope[QC_MAX_ROPE_TABLES];
} qc_scratch;

uint64_t qc_scratch_bytes(const qc_scratch *scratch, uint32_t threads);
/* The table for these parameters, made if there is none. −1: there are too many. */
int qc_scratch_rope(qc_scratch *scratch, const qp_rope_params *p);
uint64_t qc_scratch_rope_offset(const qc_scratch *scratch, uint32_t table);
uint64_t qc_scratch_partial_offset(const qc_scratch *scratch); /* the activations lie at 0 */
uint64_t qc_scratch_sorted_offset(const qc_scratch *scratch);
uint64_t qc_scratch_threads_offset(const qc_scratch *scratch);

/* A stretch of memory that a node touches. Where `by_row` is set, its unit r touches bytes bytes from lo + r·pitch only. */
typedef struct qc_access {
    uintptr_t lo, hi;
    uintptr_t pitch, bytes;
    int write, by_row;
} qc_access;

typedef struct qc_builder qc_builder;

/* What a launch needs to know. */
typedef struct qc_build_info {
    const qp_device *device;
    const qk_kernels *kernels;
    const qc_scratch *scratch;
    char *scratch_data;
    const void *live; /* of the op that is being launched; NULL: all rows */
} qc_build_info;
const qc_build_info *qc_build_get(const qc_builder *builder);

/* Starts a node of the op that is being launched; by_row: its unit r is row r. NULL: no memory. Valid until the next one. */
qc_node *qc_node_begin(qc_builder *builder, const qc_kind *kind, int64_t rows, int by_row);
/* What it touches. Tensors that are not there count for nothing. In _reads and _writes unit r touches row r only, of a node by row
 * and a tensor with as many rows; _all: any unit may touch any of it. */
void qc_node_reads(qc_builder *builder, const qk_tensor *tensor);
void qc_node_writes(qc_builder *builder, const qk_tensor *tensor);
void qc_node_touches(qc_builder *builder, const void *data, uint64_t pitch, uint64_t bytes, int64_t rows, int write, int by_row);
void qc_node_touches_all(qc_builder *builder, const qk_tensor *tensor, int write);
/* Puts it into a phase. */
qp_status qc_node_end(qc_builder *builder);

/* Memory that lives as long as the program, zeroed; NULL: none left. */
void *qc_build_alloc(qc_builder *builder, size_t size);

/* What is in a stretch of scratch already: `key` (any bytes) says what was computed there, from memory that nodes have not
 * written since. slot 0: activations; 1 + i: rope table i; the last: the sorted route. */
enum { QC_CACHE_KEY = 64, QC_CACHE_SORTED = 1 + QC_MAX_ROPE_TABLES, QC_CACHE_SLOTS };
int qc_cache_has(const qc_builder *builder, uint32_t slot, const void *key, size_t size);
/* Call right after the node that computed it: its reads are what must stay as it is. */
void qc_cache_set(qc_builder *builder, uint32_t slot, const void *key, size_t size);

/* Checks every op and adds up the scratch. */
qp_status qc_build_measure(qp_device *device, const qp_program_desc *desc, qc_scratch *scratch, qp_text *error);
/* Fills the program's lists of work; scratch as measured, scratch_data where it lies. qc_build_free also after a failure. */
qp_status qc_build(qp_device *device, const qp_program_desc *desc, const qc_scratch *scratch, char *scratch_data,
                   qp_program *program, qp_text *error);
void qc_build_free(qp_program *program);

/* Rows of a resolved tensor. */
static inline qc_rows qc_rows_of(const qk_tensor *tensor)
{
    return (qc_rows){.data = tensor->data, .head = tensor->nb[1], .row = tensor->nb[2]};
}

#endif
