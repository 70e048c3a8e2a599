/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/unroll.h: what the vector kernels need from the compiler: loops over register arrays must be unrolled and
 * functions with constant arguments be copied into their callers. */
#ifndef QUERN_KERNELS_CPU_SIMD_UNROLL_H
#define QUERN_KERNELS_CPU_SIMD_UNROLL_H

#if defined(__clang__)
#define QK_UNROLL _Pragma("clang loop unroll(full)")
#else
#define QK_UNROLL _Pragma("GCC unroll 32")
#endif
#define QK_INLINE static inline __attribute__((always_inline))

#endif
