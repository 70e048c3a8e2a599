/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/convert.h: the scalar conversions by name, for kernels that work on any format through floats, for tails,
 * and for formats that an instruction set has no conversion of. A format of blocks is added in kernels/common/dequantise.h alone;
 * QK_GENERIC_FORMATS are those that every instruction set reads in place, in a cache or in weights. */
#ifndef QUERN_KERNELS_CPU_GENERIC_CONVERT_H
#define QUERN_KERNELS_CPU_GENERIC_CONVERT_H

#include "kernels/common/dequantise.h"

#define QK_GENERIC_FLOATS(X) X(F32) X(F16) X(BF16)
#define QK_GENERIC_FORMATS(X) QK_GENERIC_FLOATS(X) X(Q8_0) X(Q4_0)

typedef void (*qk_to_f32_fn)(float *dst, const void *src, int64_t n);
#define QK_DECLARE(name) void qk_generic_to_f32_##name(float *dst, const void *src, int64_t n);
#define QK_DECLARE_BLOCKS(name, lower) QK_DECLARE(name)
QK_GENERIC_FLOATS(QK_DECLARE)
QK_BLOCK_FORMATS(QK_DECLARE_BLOCKS)
#undef QK_DECLARE_BLOCKS
#undef QK_DECLARE

#endif
