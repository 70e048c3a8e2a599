/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/matmul_float.c: F32, F16 and BF16 weights in place times float activations. A tile is a few rows times a few
 * tokens with one vector sum each; the sums of an element are made in the same order whatever the tile, so that results depend
 * neither on the number of tokens nor on how rows were cut into calls. */
#include "kernels/cpu/neon/vec.h"
#include "kernels/cpu/rows.h"

enum {
    TOKENS = 4, /* with two rows: 16 registers of sums, 8 of activations, 2 of weights */
    ROWS = 4,   /* for one token */
    STRIP = 16, /* rows that stay in the second-level cache while all tokens pass */
};

typedef struct element {
    int bytes;
    vf (*load)(const void *p);
    vf (*load_n)(const void *p, int64_t n);
} element;

QK_INLINE vf load_f32(const void *p) { return v_load(p); }
QK_INLINE vf load_f32_n(const void *p, int64_t n) { return v_load_n(p, n); }

static const element f32 = {4, load_f32, load_f32_n}, f16 = {2, v_load_f16, v_load_f16_n}, bf16 = {2, v_load_bf16, v_load_bf16_n};

/* One vector's elements of R rows times T tokens. n is constant, V_LANES, but at the end of a row. */
QK_INLINE void step(const element e, const int R, const int T, const qk_matmul_args *a, const char *w, const char *x, int64_t n,
                    vf sum[ROWS][TOKENS])
{
    vf activations[TOKENS];
    QK_UNROLL
    for (int t = 0; t < T; t++) {
        const float *from = (const float *)(const void *)(x + t * a->x_stride);
        activations[t] = n == V_LANES ? v_load(from) : v_load_n(from, n);
    }
    QK_UNROLL
    for (int r = 0; r < R; r++) {
        const char *from = w + r * a->w_stride;
        vf weights = n == V_LANES ? e.load(from) : e.load_n(from, n);
        QK_UNROLL
        for (int t = 0; t < T; t++)
            sum[r][t] = v_fma(weights, activations[t], sum[r][t]);
    }
}

/* R, T and e are constants wherever this is used. */
QK_INLINE void tile(const element e, const int R, const int T, const qk_matmul_args *a, int64_t row, int64_t token)
{
    const char *w = (const char *)a->w + row * a->w_stride, *x = (const char *)a->x + token * a->x_stride;
    int64_t k = a->k;
    vf sum[ROWS][TOKENS];
    QK_UNROLL
    for (int r = 0; r < R; r++) {
        QK_UNROLL
        for (int t = 0; t < T; t++)
            sum[r][t] = v_zero();
    }
    for (; k >= V_LANES; k -= V_LANES, w += V_LANES * e.bytes, x += V_LANES * 4)
        step(e, R, T, a, w, x, V_LANES, sum);
    if (k)
        step(e, R, T, a, w, x, k, sum);
    QK_UNROLL
    for (int r = 0; r < R; r++) {
        QK_UNROLL
        for (int t = 0; t < T; t++)
            a->y[(token + t) * a->y_stride + row + r] = v_sum(sum[r][t]);
    }
}

/* Every row of a strip times T tokens, R rows at a time. */
QK_INLINE void strip(const element e, const int R, const int T, const qk_matmul_args *a, int64_t row, int64_t end, int64_t token)
{
    for (; row + R <= end; row += R)
        tile(e, R, T, a, row, token);
    for (; row < end; row++)
        tile(e, 1, T, a, row, token);
}

QK_INLINE void matmul(const element e, const qk_matmul_args *a)
{
    for (int64_t row = 0; row < a->rows; row += STRIP) {
        int64_t end = row + STRIP < a->rows ? row + STRIP : a->rows, token = 0;
        for (; token + TOKENS <= a->tokens; token += TOKENS)
            strip(e, 2, TOKENS, a, row, end, token);
        for (; token < a->tokens; token++)
            strip(e, ROWS, 1, a, row, end, token);
    }
}

static void matmul_f32(const qk_matmul_args *a)
{
    matmul(f32, a);
}

static void matmul_f16(const qk_matmul_args *a)
{
    matmul(f16, a);
}

static void matmul_bf16(const qk_matmul_args *a)
{
    matmul(bf16, a);
}

void qk_neon_matmul_float(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->matmul_float[QP_FORMAT_F32] = matmul_f32;
    table->matmul_float[QP_FORMAT_F16] = matmul_f16;
    table->matmul_float[QP_FORMAT_BF16] = matmul_bf16;
    table->matmul_float_isa = "neon";
}
