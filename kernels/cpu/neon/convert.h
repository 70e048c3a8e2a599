/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/convert.h: conversions to floats by name, for the kernels that work on any cache format. */
#ifndef QUERN_KERNELS_CPU_NEON_CONVERT_H
#define QUERN_KERNELS_CPU_NEON_CONVERT_H

#include "kernels/cpu/kernels.h"

#define QK_NEON_FORMATS(X) X(F16) X(BF16) X(Q8_0) X(Q4_0)

typedef void (*qk_to_f32_fn)(float *dst, const void *src, int64_t n);
#define QK_DECLARE(name) void qk_neon_to_f32_##name(float *dst, const void *src, int64_t n);
QK_NEON_FORMATS(QK_DECLARE)
#undef QK_DECLARE

#endif
