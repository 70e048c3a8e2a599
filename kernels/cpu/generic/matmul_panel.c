/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/matmul_panel.c: packed panels times int8 activations. A block is taken apart once for all tokens, then each
 * row's 16 or 32 products are summed in a plain loop that compilers turn into vector code. */
#include "kernels/cpu/rows.h"

typedef struct token {
    const int8_t *x;
    const float *d;
    const int32_t *sum;
} token;

static token token_at(const qk_matmul_args *a, int64_t t)
{
    const char *x = (const char *)a->x + t * a->x_stride;
    return (token){(const int8_t *)x, (const float *)(const void *)(x + qk_act_d(a->k)),
                   (const int32_t *)(const void *)(x + qk_act_sum(a->k))};
}

/* 255·127 fits in 16 bits, so that one 16-bit product is enough. */
static inline int32_t dot(const uint8_t *w, const int8_t *x, int n)
{
    int32_t sum = 0;
    for (int i = 0; i < n; i++)
        sum += (int16_t)(w[i] * x[i]);
    return sum;
}

static inline void add_block(const qk_format *f, float *y, const qk_panel_block *w, const token *x, int64_t b)
{
    const int n = QK_BLOCK / f->parts;
    for (int part = 0; part < f->parts; part++) {
        int32_t sum = f->parts == 1 ? x->sum[2 * b] + x->sum[2 * b + 1] : x->sum[2 * b + part];
        float d = x->d[b], all = d * (float)sum;
        for (int r = 0; r < QK_PANEL_ROWS; r++) {
            int32_t products = dot(w->quants[r] + part * n, x->x + b * QK_BLOCK + part * n, n);
            y[r] += (float)(products - f->bias * sum) * w->scale[part][r] * d;
            if (f->mins)
                y[r] -= w->min[part][r] * all;
        }
    }
}

static inline void panel(const qk_format *f, const qk_matmul_args *a, const uint8_t *w, float *y)
{
    qk_panel_block block;
    for (int64_t t = 0; t < a->tokens; t++)
        memset(y + t * a->y_stride, 0, QK_PANEL_ROWS * sizeof *y);
    for (int64_t b = 0; b < a->k / QK_BLOCK; b++) {
        qk_panel_block_at(f->format, w, a->k, b, &block);
        for (int64_t t = 0; t < a->tokens; t++) {
            token x = token_at(a, t);
            add_block(f, y + t * a->y_stride, &block, &x, b);
        }
    }
}

#define DEFINE(name, ...)                                                                                                          \
    static void matmul_##name(const qk_matmul_args *a)                                                                             \
    {                                                                                                                              \
        static const qk_format f = QK_PANEL_FORMAT_INIT(name, __VA_ARGS__);                                                        \
        const uint8_t *w = a->w;                                                                                                   \
        for (int64_t r = 0; r < a->rows; r += QK_PANEL_ROWS, w += qk_panel_bytes(f.format, a->k))                                  \
            panel(&f, a, w, a->y + r);                                                                                             \
    }
QK_PANEL_FORMATS(DEFINE)

void qk_generic_matmul_panel(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
#define ROW(name, FORMAT, ...) table->matmul_panel[QP_FORMAT_##FORMAT] = matmul_##name;
    QK_PANEL_FORMATS(ROW)
#undef ROW
}
