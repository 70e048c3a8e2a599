/* SPDX-License-Identifier: MIT
 * backends/vulkan/selftest.h: does the driver make of a kernel what it should? Each one that a program is about to use is run on
 * small tensors, compared with kernels/ref, and trusted from then on: once for a device, driver and kernel, since verdicts are kept
 * on disk. What is tested is a kernel with its constants, which is why two programs may learn different things of one variant.
 *
 * Tests run on a device of their own, opened beside the user's: they wait for nothing that the user's programs wait for, and a
 * kernel that loses the device loses that one. QUERN_VULKAN_SELF_TEST=off: no tests; =always: verdicts on disk are not believed. */
#ifndef QUERN_BACKENDS_VULKAN_SELFTEST_H
#define QUERN_BACKENDS_VULKAN_SELFTEST_H

#include "backends/vulkan/ops.h"

typedef struct qv_selftest qv_selftest;

/* Without one (out of memory, or switched off) everything is believed to be right. */
void qv_selftest_init(qp_device *device);
void qv_selftest_destroy(qp_device *device);

/* What is wrong with the variant, for ops that use the same kernels with the same constants as this one, in words that live as long
 * as the device; NULL: nothing is known. kernel: its op and formats, "matmul_Q4_K". The first such question may take as long as a
 * kernel takes to be compiled. Thread rule: any. */
const char *qv_selftest_fault(const qp_device *device, const qv_op_row *row, const qv_variant *variant, const qp_op *op,
                              const char *kernel);

/* Warns of a faulty variant whose place another takes, once a device and name. */
void qv_selftest_warn(const qp_device *device, const char *kernel, const qv_variant *variant, const char *fault,
                      const qv_variant *instead);

/* Is the device not to pack weights of this format, because the kernel that does so is faulty here? Warns of it once. */
int qv_selftest_packing_fails(qp_device *device, qp_format format);

/* The name of a kernel in words: "matmul_q4_k.lanes". */
void qv_selftest_name(const char *kernel, const qv_variant *variant, char out[64]);
/* And "pack_q4_k". */
void qv_selftest_packing_name(qp_format format, char out[64]);

/* Closes what tests have open, and writes down what they found. The next question opens it again. Thread rule: any. */
void qv_selftest_rest(qp_device *device);

/* Tests the variant for such ops, whatever is known of it. 0: nothing to tell, since this round has done so; a round is a number
 * that grows. */
int qv_selftest_again(qp_device *device, const qv_op_row *row, const qv_variant *variant, const qp_op *op, const char *kernel,
                      uint32_t round, qp_kernel_result *out);

/* The same for the packing of weights of this format. */
int qv_selftest_packing_again(qp_device *device, qp_format format, uint32_t round, qp_kernel_result *out);

/* Every kernel that the device could run; see qp_kernels (selftest_all.c). */
qp_status qv_selftest_all(qp_device *device, const char *only, int (*each)(void *ctx, const qp_kernel_result *result), void *ctx,
                          qp_text *error);

/* A kernel, and an op as models have them that it takes; or the one that packs weights of a format. */
typedef struct qv_kernel {
    const qv_op_row *row; /* this and the next two: not of packing */
    const qv_variant *variant;
    const qp_op *op;  /* NULL: none of those that are tried is taken by it */
    const char *name; /* op and formats: "matmul_Q4_K"; of packing the whole name */
    int is_best;      /* the op would get it, were all kernels right */
    int is_packing;
    qp_format packs;
} qv_kernel;

/* Every kernel that the device could run and whose name contains `only` (NULL: all), until visit returns other than 0, which
 * this returns. One kernel may come several times, with other ops. */
typedef int (*qv_kernel_visit)(void *ctx, const qv_kernel *kernel);
int qv_each_kernel(qp_device *device, const char *only, qv_kernel_visit visit, void *ctx);

/* ---- one test (selftest_run.c) ---- */

typedef enum qv_verdict {
    QV_UNKNOWN = 0, /* it could not be tested, for example for want of memory */
    QV_RIGHT = 1,
    QV_WRONG = 2,
    QV_LOST = 3, /* wrong, or the device was lost for another reason at that moment */
    QV_HUNG = 4, /* the same, and the device it ran on cannot be closed */
} qv_verdict;

/* Runs the variant on tensors like those of an op, on a device that takes no other variant. words: what is wrong with it, or why it
 * could not be tested. */
qv_verdict qv_selftest_run(qp_device *device, const qv_op_row *row, const qv_variant *variant, const qp_op *like, qp_text *words);

/* Packs rows of this format by the device (selftest_packing.c); verdict and words as above. */
qv_verdict qv_selftest_run_packing(qp_device *device, qp_format format, qp_text *words);

/* The seconds that a test may take. */
uint32_t qv_test_patience(const qv_physical *physical);

/* Contiguous rows, or with a gap after each where `apart` (in the last dimension that counts rows only). */
void qv_test_lay_out(qp_tensor *t, int apart);

/* The kernels that the variant would use for this op, with their constants. */
qp_status qv_selftest_uses(qp_device *device, const qv_variant *variant, const qp_op *op, qv_uses *uses);
int qv_selftest_same(const qv_uses *a, const qv_uses *b);

/* ---- what it is run on (selftest_cases.c) ---- */

typedef struct qv_random {
    uint64_t state;
} qv_random;

/* Shape number i for an op like this one: formats, parameters and constants of kernels stay, sizes are small and odd. Tensors have
 * ne, format and layout. 0: there are no more. Those from *spare on are for kernels that take none of the earlier ones. */
int qv_test_shape(const qp_op *like, uint32_t i, qp_op *out, int *spare);

/* Values for a source of op: n elements of row i1, i2 at dst, GGUF blocks. */
void qv_test_fill(const qp_op *op, int source, int64_t i1, int64_t i2, qv_random *random, void *dst);

/* How far from the reference the result may be: the sum of squared differences as a share of the result's. */
double qv_test_bound(const qp_op *op);

#endif
