/* SPDX-License-Identifier: MIT
 * core/check.h: what every backend may take for granted about the descriptions it is handed. Internal. What an op means, and
 * whether its shapes fit each other, is the backend's to check. */
#ifndef QUERN_CORE_CHECK_H
#define QUERN_CORE_CHECK_H

#include "core/device.h"

/* Bytes of a struct that ends with `member`: what every caller of ABI 1.0 knows. Later members are looked for with QP_HAS. */
#define QI_KNOWN(object, member) ((size_t)((const char *)(&(object).member + 1) - (const char *)&(object)))
quern_status qi_check_size(const quern_device *device, const char *what, uint32_t struct_size, size_t known, quern_error *error);
/* Fills in a struct of the caller's as far as its struct_size, which stays, says that the caller knows it. */
void qi_hand_out(void *to, const void *fresh, size_t size);

/* placed: tensors must lie in buffers of the device; else those that have one are checked all the same. `at` names the op in
 * messages ("op 7 (matmul)"). */
quern_status qi_check_op(quern_device *device, const qp_op *op, int placed, const char *at, quern_error *error);

/* Every member of the description; for a new program `keep` gets the buffers it names, each with one more owner. keep may be
 * NULL: then tensors need no place yet (program_measure). */
quern_status qi_check_program(quern_device *device, const qp_program_desc *desc, quern_program *keep, quern_error *error);

quern_status qi_check_weight(quern_device *device, const qp_weight_desc *desc, uint64_t *row_bytes, int64_t *rows,
                             quern_error *error);

#endif
