/* SPDX-License-Identifier: MIT
 * tests/cts/case.h: one numeric case: tensors in one buffer of the device and in an image of it here, a few ops over them, run on
 * both sides and compared byte for byte: elements that the ops write within a bound, every other byte exactly.
 *
 *   cts_case *c = case_new(t);
 *   int x = case_tensor(c, QP_FORMAT_F32, 64, 1, 7, SPACED), y = …;   case_fill(c, x, NORMAL);
 *   qp_op *op = case_op(c, QP_OP_NORM, y, (int[]){x}, 1);            op->p.norm = …;
 *   if (case_run(c) == CASE_RAN) … case_compare(c, y, …);            case_free(c);
 */
#ifndef TESTS_CTS_CASE_H
#define TESTS_CTS_CASE_H

#include "kernels/ref/ref.h"
#include "tests/cts/cts.h"

enum { CASE_TENSORS = 64, CASE_OPS = 32, CASE_IMAGE = 3 << 20, CASE_STEP = 16384, CASE_SIDE = 256 };

typedef enum case_style {
    PLAIN,  /* contiguous, at the heap's alignment */
    SPACED, /* columns of a wider matrix: rows apart from each other, not at the alignment */
    STEP,   /* in the step block */
} case_style;

typedef enum case_fill_kind {
    NORMAL,  /* standard normal */
    SMALL,   /* normal, times 0.1 */
    EXTREME, /* many magnitudes, zeros, subnormals, outliers; finite */
    ZERO,
    SHIFTED, /* normal around a mean of 1000 */
    LOUD,    /* normal, times 100000: more than 16-bit floats hold */
    FAINT,   /* normal, times a millionth: subnormal as 16-bit floats */
} case_fill_kind;

typedef struct case_tensor_info {
    qp_tensor tensor; /* of the device */
    int step, packed;
    uint8_t *gguf; /* of a weight: its blocks as on disk */
    uint64_t gguf_bytes;
    qp_weight_desc desc;
    qp_weight_info info;
} case_tensor_info;

typedef enum case_result { CASE_RAN, CASE_REFUSED, CASE_FAILED } case_result; /* refused: by op_query, with the reason in why */

typedef struct cts_case {
    cts *t;
    qp_buffer *pool;
    case_tensor_info tensors[CASE_TENSORS];
    int tensor_count;
    qp_op ops[CASE_OPS];
    int dst[CASE_OPS], src[CASE_OPS][QP_OP_SOURCES], live[CASE_OPS]; /* −1: none */
    int op_count;
    uint64_t used, step_used, step_offset;
    uint8_t *image;    /* the pool as it was filled */
    uint8_t *before;   /* read back before the run, after packing */
    uint8_t *after;    /* read back after it */
    uint8_t *expected; /* the image after the reference ran */
    uint8_t *coarse;   /* the same with activations quantised to int8 as a device may do in matmuls */
    uint8_t *written;  /* 1 for each byte that an op writes */
    qp_range transient;
    int also;  /* a state that is compared beside the result, −1: none */
    int every; /* 1: so is what each other op writes */
    int runs; /* how many times to run, 1 unless set */
    char why[600];
    char what[600]; /* the case in words, for a report */
} cts_case;

cts_case *case_new(cts *t); /* NULL: no memory; a point has told */
void case_free(cts_case *c);

int case_tensor(cts_case *c, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2, case_style style);
/* One with strides (in bytes, dimensions 1 and 2) and a place of the caller's choice inside another tensor. */
int case_part(cts_case *c, int whole, uint64_t offset, int64_t ne0, int64_t ne1, int64_t ne2, int64_t nb1, int64_t nb2);
/* A weight that the device may pack as it likes; its values are random. */
int case_weight(cts_case *c, qp_format format, int64_t k, int64_t m, uint32_t uses);
int case_experts(cts_case *c, qp_format format, int64_t k, int64_t m, int64_t experts, uint32_t uses);
void case_fill(cts_case *c, int tensor, case_fill_kind kind);
/* An I32 tensor {n} in the step block. */
int case_ints(cts_case *c, const int32_t *values, int64_t n);
float *case_floats(cts_case *c, int tensor, int64_t i1, int64_t i2); /* a row of the image, to write into */

qp_op *case_op(cts_case *c, qp_op_kind kind, int dst, const int *src, int src_count);
void case_live(cts_case *c, int32_t live); /* of the op added last */
/* A random one of: none, 0, 1, all, some, negative, more than there are. */
void case_random_live(cts_case *c, int64_t rows);

case_result case_run(cts_case *c);

typedef struct case_error {
    double nmse;          /* Σ(got − expected)² / Σ expected² over live elements; 0 when both are 0 */
    double largest;       /* max |got − expected| / (|expected| + largest |expected| · 1e-3) */
    double coarse;        /* the nmse of the reference with int8 activations */
    double error, energy; /* the two sums */
    int64_t not_finite;   /* elements that are NaN or infinite where the reference is not, or the other way round */
    int64_t count;
} case_error;
case_error case_compare(cts_case *c, int tensor);
int64_t case_differences(cts_case *c, int tensor); /* bytes of the tensor that differ from the reference */

/* Random valid blocks of any format the reference knows; 0, or −1 when it does not. */
int case_random_blocks(cts *t, qp_format format, case_fill_kind kind, void *dst, int64_t n);

static inline int rounds(const cts *t, int n)
{
    int part = !t->brief ? 1 : t->brief == 1 ? 3 : 9;
    return (n + part - 1) / part;
}

/* ---- tallies: one TAP point for many cases ---- */

typedef struct tally {
    int ran, refused, failed;
    double worst;
    double error, energy, pool_bound; /* over all cases; pool_bound 0: not judged */
    char refusal[600], first[1300];
} tally;

/* Runs, compares dst with nmse <= bound + slack·(what int8 activations cost), puts the outcome into the tally, frees the case. */
void tally_case(tally *y, cts_case *c, int dst, double bound, double slack);
void tally_exact(tally *y, cts_case *c, int dst); /* the same, every byte alike */
/* Both: one part of what was written within a bound, another exactly. */
void tally_split(tally *y, cts_case *c, int close, double bound, int exact);
/* The point. required: a refusal fails where --strict is given. */
void tally_point(cts *t, const tally *y, int required, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Formats that a device must take under --strict. */
int required_format(qp_format format);
const char *format_name(qp_format format);

#endif
