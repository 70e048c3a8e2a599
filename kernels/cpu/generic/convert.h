/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/convert.h: the scalar conversions by name, for kernels that work on any format through floats, for tails,
 * and for formats that an instruction set has no conversion of. FORMATS lists every format that a CPU kernel reads: a new one is
 * added here and in convert.c. */
#ifndef QUERN_KERNELS_CPU_GENERIC_CONVERT_H
#define QUERN_KERNELS_CPU_GENERIC_CONVERT_H

#include "kernels/common/formats.h"

#define QK_GENERIC_FORMATS(X) X(F32) X(F16) X(BF16) X(Q8_0) X(Q4_0)

typedef void (*qk_to_f32_fn)(float *dst, const void *src, int64_t n);
#define QK_DECLARE(name) void qk_generic_to_f32_##name(float *dst, const void *src, int64_t n);
QK_GENERIC_FORMATS(QK_DECLARE)
#undef QK_DECLARE

#endif
