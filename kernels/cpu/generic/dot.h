/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/dot.h: sums of products in sixteen parts, which compilers keep in vector registers and which are added in a
 * fixed order. */
#ifndef QUERN_KERNELS_CPU_GENERIC_DOT_H
#define QUERN_KERNELS_CPU_GENERIC_DOT_H

#include <stdint.h>

static inline float qk_sum16(const float *part)
{
    float sum[8];
    for (int i = 0; i < 8; i++)
        sum[i] = part[i] + part[i + 8];
    return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

static inline float qk_dot(const float *a, const float *b, int64_t n)
{
    float part[16] = {0};
    int64_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++)
            part[j] += a[i + j] * b[i + j];
    for (int j = 0; i < n; i++, j++)
        part[j] += a[i] * b[i];
    return qk_sum16(part);
}

#endif
