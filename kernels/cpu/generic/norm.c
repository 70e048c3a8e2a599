/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/norm.c: sums in double: the rows are short next to the matrices, and squares of large values stay finite. */
#include "kernels/cpu/rows.h"

#include <math.h>

typedef struct moments {
    double sum, squares; /* Σ x and Σ (x − shift)² */
} moments;

static moments measure(const float *x, int64_t n, double shift)
{
    double sum[8] = {0}, squares[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int j = 0; j < 8; j++) {
            double v = (double)x[i + j] - shift;
            sum[j] += v;
            squares[j] += v * v;
        }
    }
    for (int j = 0; i < n; i++, j++) {
        double v = (double)x[i] - shift;
        sum[j] += v;
        squares[j] += v * v;
    }
    moments m = {0, 0};
    for (int j = 0; j < 8; j++) {
        m.sum += sum[j];
        m.squares += squares[j];
    }
    return m;
}

static void norm(float *y, const float *x, const float *w, const float *b, int64_t n, const qp_norm_params *p)
{
    double mean = 0, scale;
    if (p->kind == QP_NORM_LAYER)
        mean = measure(x, n, 0).sum / (double)n;
    double squares = measure(x, n, mean).squares;
    if (p->kind == QP_NORM_L2)
        scale = 1 / (sqrt(squares) < (double)p->eps ? (double)p->eps : sqrt(squares)); /* in this order a NaN stays one */
    else
        scale = 1 / sqrt(squares / (double)n + (double)p->eps);
    for (int64_t i = 0; i < n; i++) {
        float v = (float)(((double)x[i] - mean) * scale);
        v = w ? v * (w[i] + p->weight_offset) : v;
        y[i] = b ? v + b[i] : v;
    }
}

void qk_generic_norm(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->norm = norm;
}
