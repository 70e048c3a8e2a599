/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/matmul_float.c: weights in place times float activations. Rows are converted to floats in stretches that
 * stay in the first-level cache, and each stretch is used for many tokens, because to read blocks takes
 * longer than to multiply by them. */
#include "kernels/cpu/generic/convert.h"
#include "kernels/cpu/generic/dot.h"
#include "kernels/cpu/rows.h"

enum { STRETCH = 256, TOKENS = 64 }; /* a stretch is a whole number of blocks of every format */

static void row(float *y, const char *w, const qk_matmul_args *a, int64_t token, int64_t tokens, uint64_t stretch_bytes,
                qk_to_f32_fn convert)
{
    float buffer[STRETCH], sum[TOKENS] = {0};
    for (int64_t i = 0; i < a->k; i += STRETCH, w += stretch_bytes) {
        int64_t n = a->k - i < STRETCH ? a->k - i : STRETCH;
        convert(buffer, w, n);
        for (int64_t t = 0; t < tokens; t++) {
            const float *x = (const float *)((const char *)a->x + (token + t) * a->x_stride);
            sum[t] += qk_dot(buffer, x + i, n);
        }
    }
    for (int64_t t = 0; t < tokens; t++)
        y[t * a->y_stride] = sum[t];
}

static void matmul(const qk_matmul_args *a, qp_format format, qk_to_f32_fn convert)
{
    uint64_t stretch_bytes = (uint64_t)STRETCH / qk_block_elements(format) * qk_block_bytes(format);
    for (int64_t r = 0; r < a->rows; r++) {
        const char *w = (const char *)a->w + r * a->w_stride;
        for (int64_t t = 0; t < a->tokens; t += TOKENS)
            row(a->y + t * a->y_stride + r, w, a, t, a->tokens - t < TOKENS ? a->tokens - t : TOKENS, stretch_bytes, convert);
    }
}

/* The table's functions are not told their format: one thin function each. */
#define FORMAT(name)                                                                                                               \
    static void matmul_##name(const qk_matmul_args *a)                                                                             \
    {                                                                                                                              \
        matmul(a, QP_FORMAT_##name, qk_generic_to_f32_##name);                                                                     \
    }
#define BLOCK_FORMAT(name, lower) FORMAT(name)
QK_GENERIC_FLOATS(FORMAT)
QK_BLOCK_FORMATS(BLOCK_FORMAT)

void qk_generic_matmul_float(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
#define ROW(name) table->matmul_float[QP_FORMAT_##name] = matmul_##name;
#define BLOCK_ROW(name, lower) ROW(name)
    QK_GENERIC_FLOATS(ROW)
    QK_BLOCK_FORMATS(BLOCK_ROW)
#undef BLOCK_ROW
#undef ROW
}
