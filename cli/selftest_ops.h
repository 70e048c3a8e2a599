/* SPDX-License-Identifier: MIT
 * cli/selftest_ops.h: small random tensors on a device, and the checks that run one op on them and compare. */
#ifndef CLI_SELFTEST_OPS_H
#define CLI_SELFTEST_OPS_H

#include <quern/device.h>

/* The device and its memory during one check. The first failure is kept; what follows it does nothing. */
typedef struct st_bench {
    quern_device *device;
    quern_buffer *buffer;
    quern_timeline *timeline;
    uint64_t value; /* of the timeline */
    uint64_t used, size, alignment;
    double *pool; /* the doubles of st_value.x */
    size_t pool_used, pool_size;
    uint64_t random;
    quern_status status;
    quern_error error;
    double nmse; /* of the last op: Σ(got − expected)² / Σ expected² */
    qp_op_info info;
} st_bench;

/* A tensor on the device and the exact values of its elements (of a result: those expected), in memory order. */
typedef struct st_value {
    qp_tensor tensor;
    double *x;
    int64_t count;
} st_value;

typedef struct st_check {
    const char *name;
    double limit; /* of the NMSE */
    void (*run)(st_bench *bench, int argument);
    int argument;
} st_check;

/* NULL past the last. */
const st_check *st_check_at(uint32_t index);

/* Tensors with random values in [low, high), rounded to the format. */
st_value st_make(st_bench *bench, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2, double low, double high);
/* The same, packed as the device wants its weights. */
st_value st_make_weight(st_bench *bench, qp_format format, uint32_t uses, int64_t ne0, int64_t ne1);
st_value st_make_ints(st_bench *bench, const int32_t *values, int64_t count);
/* A tensor for a result, filled with a value that no result has; x is zeros, for the caller to fill. */
st_value st_make_result(st_bench *bench, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2);

/* quern selftest --kernels, of an open device, those whose names contain `only` (NULL: all); gives the exit status. */
int st_test_kernels(quern_device *device, const char *only, int json);

/* quern selftest --compile: the same for compiling them, flags QP_CODE_*. */
int st_compile_kernels(quern_device *device, const char *only, uint32_t flags, int json);

/* Runs op as a program of one and sets nmse against expected, which is op's dst. */
void st_run(st_bench *bench, qp_op *op, const st_value *expected);

#endif
