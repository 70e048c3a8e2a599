/* SPDX-License-Identifier: MIT
 * kernels/cpu/simd/reader.h: rows of any format seen as vectors of floats, over the operations of a vec.h. A new format that
 * matmul_float and attention read in place is a reader here and a name in QK_GENERIC_FORMATS. */
#ifndef QUERN_KERNELS_CPU_SIMD_READER_H
#define QUERN_KERNELS_CPU_SIMD_READER_H

#include "kernels/common/formats.h"

/* How a row is read: V_LANES elements from element i on (a multiple of V_LANES), or the n < V_LANES last ones. */
typedef struct qk_reader {
    vf (*load)(const char *row, int64_t i);
    vf (*load_n)(const char *row, int64_t i, int64_t n);
    int bytes; /* of 32 elements */
} qk_reader;

#define QK_READ_PLAIN(name, v_name, bytes)                                                                                         \
    QK_INLINE vf read_##name(const char *row, int64_t i)                                                                           \
    {                                                                                                                              \
        return v_name((const void *)(row + i * bytes));                                                                            \
    }                                                                                                                              \
    QK_INLINE vf read_##name##_n(const char *row, int64_t i, int64_t n)                                                            \
    {                                                                                                                              \
        return v_name##_n((const void *)(row + i * bytes), n);                                                                     \
    }                                                                                                                              \
    static const qk_reader reader_##name = {read_##name, read_##name##_n, 32 * bytes};
QK_READ_PLAIN(F32, v_load, 4)
QK_READ_PLAIN(F16, v_load_f16, 2)
QK_READ_PLAIN(BF16, v_load_bf16, 2)

QK_INLINE vf read_Q8_0(const char *row, int64_t i)
{
    const qk_block_q8_0 *b = (const qk_block_q8_0 *)(const void *)row + i / QK_BLOCK;
    return v_mul(v_set1(v_f16(b->d)), v_load_i8(b->qs + i % QK_BLOCK));
}
static const qk_reader reader_Q8_0 = {read_Q8_0, NULL, 34};

QK_INLINE vf read_Q4_0(const char *row, int64_t i)
{
    const qk_block_q4_0 *b = (const qk_block_q4_0 *)(const void *)row + i / QK_BLOCK;
    vf d = v_set1(v_f16(b->d));
    return v_mul(d, i % QK_BLOCK < QK_BLOCK / 2 ? v_load_low(b->qs + i % 16) : v_load_high(b->qs + i % 16));
}
static const qk_reader reader_Q4_0 = {read_Q4_0, NULL, 18};

#endif
