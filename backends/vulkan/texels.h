/* SPDX-License-Identifier: MIT
 * backends/vulkan/texels.h: what the variants `texels` of matmuls and of experts share: the kernel, and weights seen as texels. */
#ifndef QUERN_BACKENDS_VULKAN_TEXELS_H
#define QUERN_BACKENDS_VULKAN_TEXELS_H

#include "backends/vulkan/ops.h"

enum { QV_TEXEL = 16, QV_TEXEL_ROWS = 8, QV_TEXEL_TOKENS = 4 }; /* bytes; what a subgroup takes of W and, of several tokens, of x */

/* What a row of W takes, and how far apart rows are: a single one has no stride. */
uint64_t qv_texels_row_bytes(const qp_tensor *w);
uint64_t qv_texels_row_step(const qp_tensor *w);

/* Rows of plain numbers must begin with a texel; planes always do. */
int qv_texels_begin_rows(const qp_tensor *w);

/* Bytes of W that one dispatch may see: all its views have room for them, and kernels count them in 32 bits. */
uint64_t qv_texels_most_bytes(const qv_physical *physical, const qp_tensor *w);

/* Has a view room for x? */
int qv_texels_hold(const qv_physical *physical, const qp_tensor *x);

/* How far into its view a place is: views begin where the device lets them. */
uint32_t qv_texels_into_view(const qv_plan *plan, uint64_t offset);

/* The dispatch added last sees so many bytes of W from `offset` of its buffer on, and x. */
void qv_texels_see(qv_plan *plan, const qp_tensor *w, uint64_t offset, uint64_t bytes, const qp_tensor *x);

const char *qv_texels_lack(const qv_physical *physical);

#endif
