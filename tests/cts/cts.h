/* SPDX-License-Identifier: MIT
 * tests/cts/cts.h: the conformance suite for plugins. It knows <quern/plugin.h> and the reference kernels, nothing of libquern.
 *
 * Adding a test: a function in a test_*.c, a prototype below, a row in the table of main.c. */
#ifndef TESTS_CTS_H
#define TESTS_CTS_H

#include <quern/plugin.h>
#include <stdio.h>

typedef struct cts {
    const qp_plugin *plugin;
    const qp_backend *backend;
    uint32_t index; /* of the device */
    qp_device_options options;
    qp_device_info info;
    qp_device *device; /* open while a test that needs it runs */
    int computes;      /* 0: a device of kind NULL, whose results mean nothing */
    int strict;        /* a refused op of the required set is a failure */
    int brief;         /* 1: a third of the random cases, 2: a ninth */
    uint64_t seed, random;
    char words[512]; /* of the last failing call */
    qp_text text;
} cts;

typedef struct cts_test {
    const char *name;
    void (*run)(cts *t);
    int without_device; /* opens devices itself */
} cts_test;

/* ---- points (main.c) ---- */

__attribute__((format(printf, 4, 5))) int cts_ok(int pass, const char *file, int line, const char *format, ...);
__attribute__((format(printf, 2, 3))) void cts_skip(const char *reason, const char *format, ...);
__attribute__((format(printf, 1, 2))) void cts_diag(const char *format, ...);
#define ok(condition, ...) cts_ok(!!(condition), __FILE__, __LINE__, __VA_ARGS__)

/* Where the next call may write words; empties them. */
qp_text *cts_words(cts *t);
/* A point: the call failed and said why. `wanted`: the status it must have, or QP_OK for any error. */
void cts_refused(cts *t, qp_status status, qp_status wanted, const char *what);
/* A point: the call succeeded; prints its words if not. */
int cts_worked(cts *t, qp_status status, const char *what);

/* ---- random numbers (main.c): each test starts from the seed and its name ---- */

uint64_t cts_random(cts *t);
int64_t cts_between(cts *t, int64_t low, int64_t high); /* both included */
double cts_uniform(cts *t);                             /* [0, 1) */
double cts_normal(cts *t);

/* ---- the host (host.c) ---- */

extern const qp_host cts_host;
typedef struct cts_host_counts {
    int64_t blocks, bytes, threads; /* now out */
    int64_t calls;                  /* of alloc, ever */
} cts_host_counts;
cts_host_counts cts_host_now(void);
extern int cts_verbose;

uint64_t cts_clock(void); /* nanoseconds */

/* ---- tests ---- */

void test_plugin_object(cts *t);
void test_device_info(cts *t);
void test_device_open(cts *t);
void test_device_leaks(cts *t);

void test_buffer_create(cts *t);
void test_buffer_transfer(cts *t);
void test_buffer_map(cts *t);
void test_buffer_import(cts *t);
void test_buffer_threads(cts *t);

void test_timeline_host(cts *t);
void test_timeline_threads(cts *t);

void test_weight_layout(cts *t);
void test_weight_pack(cts *t);
void test_weight_refusals(cts *t);

void test_query_ops(cts *t);
void test_query_refusals(cts *t);
void test_query_mutations(cts *t);

void test_program_lifecycle(cts *t);
void test_program_refusals(cts *t);
void test_program_queue(cts *t);
void test_program_step(cts *t);
void test_program_live(cts *t);
void test_program_scratch(cts *t);
void test_program_hazards(cts *t);
void test_program_same_x(cts *t);
void test_program_views(cts *t);
void test_program_transient(cts *t);
void test_program_feedback(cts *t);
void test_program_repeat(cts *t);
void test_program_state(cts *t);

void test_op_get_rows(cts *t);
void test_op_norm(cts *t);
void test_op_rope(cts *t);
void test_op_kv_append(cts *t);
void test_op_elementwise(cts *t);
void test_op_copy(cts *t);
void test_op_copy_search(cts *t);
void test_op_sample(cts *t);
void test_op_matmul(cts *t);
void test_op_matmul_epilogue(cts *t);
void test_op_matmul_extreme(cts *t);
void test_op_expert_route(cts *t);
void test_op_expert_matmul(cts *t);
void test_op_expert_matmul_epilogue(cts *t);
void test_op_expert_matmul_extreme(cts *t);
void test_op_expert_matmul_chain(cts *t);
void test_op_attention(cts *t);
void test_op_attention_extreme(cts *t);
void test_op_attention_long(cts *t);
void test_op_attention_mixed(cts *t);
void test_op_attention_unseen(cts *t);
void test_op_short_conv(cts *t);
void test_op_delta_rule(cts *t);

#endif
