/* SPDX-License-Identifier: MIT
 * backends/vulkan/variant.h: the kernels of an op, best first, and the choice of one. Kernels are chosen for what a device
 * reports and for what the op looks like, never by a name. */
#ifndef QUERN_BACKENDS_VULKAN_VARIANT_H
#define QUERN_BACKENDS_VULKAN_VARIANT_H

#include "backends/vulkan/physical.h"
#include "backends/vulkan/plan.h"

struct qv_op_row;

/* One kernel of an op, or one way to use a kernel: two may differ in specialisation constants alone. What is tested, and named
 * when it is wrong, is (op and formats, variant): "matmul_q4_k.lanes". */
typedef struct qv_variant {
    const char *name; /* one word; variants of several ops that belong together have one name */
    /* What the device lacks for it, in words that may follow a colon ("subgroups are not of 8 or 16"); NULL: nothing. */
    const char *(*lacks)(const qv_physical *physical);
    /* Why it does not take this op, which the op's check has accepted, in such words; NULL: it does. At the time of a query
     * tensors may have no buffer and no place yet. */
    const char *(*refuses)(const qp_device *device, const qp_op *op);
    qp_status (*launch)(qv_plan *plan, const qp_op *op, qp_text *error);
    uint64_t (*scratch)(const qp_device *device, const qp_op *op); /* bytes that it needs for a checked op; NULL: none */
} qv_variant;

/* For the list of an op, best first, whose last one takes whatever its check accepts, on any device. All of its functions
 * but launch may be NULL. */
#define QV_VARIANTS(...)                                                                                                           \
    (const qv_variant[])                                                                                                           \
    {                                                                                                                              \
        __VA_ARGS__,                                                                                                               \
        {                                                                                                                          \
            0                                                                                                                      \
        }                                                                                                                          \
    }
#define QV_PLAIN(function)                                                                                                         \
    {                                                                                                                              \
        .name = "plain", .launch = function                                                                                        \
    }

/* The first that can and passes its test (selftest.h), of the name that the user asked for if there is one, else the last. kernel:
 * op and formats, "matmul_Q4_K". note, with room for something: the names of better ones, and why not those; "" when there is none.
 * QP_ERR_UNSUPPORTED when all that could run it fail. */
qp_status qv_variant_choose(const qp_device *device, const struct qv_op_row *row, const qp_op *op, const char *kernel,
                            const qv_variant **out, qp_text *note, qp_text *reason);

/* What the user asked for (NULL: the best) as a name that lives as long as the plugin. QP_ERR_NOT_FOUND with the names there are
 * for this device. */
qp_status qv_variant_find(const qv_physical *physical, const char *name, const char **out, qp_text *error);

#endif
