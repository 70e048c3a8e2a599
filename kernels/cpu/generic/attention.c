/* SPDX-License-Identifier: MIT
 * kernels/cpu/generic/attention.c: online softmax (Milakov & Gimelshein 2018, arXiv:1805.02867) in stretches of cells. Each piece
 * of a cell is converted to floats once for all heads of the group. */
#include "kernels/cpu/generic/convert.h"
#include "kernels/cpu/generic/dot.h"
#include "kernels/cpu/generic/math.h"
#include "kernels/cpu/rows.h"

#include <math.h>

enum { CELLS = 64, HEADS = 8, PIECE = 256 };

typedef struct part { /* some heads, some cells */
    const qk_attention_args *a;
    int64_t head, heads, cell, cells;
    qk_to_f32_fn convert;
    uint32_t block_elements, block_bytes;
    float p[HEADS][CELLS]; /* scores, then weights */
} part;

static const char *piece_at(const part *s, const char *cell, int64_t element)
{
    return cell + element / s->block_elements * s->block_bytes;
}

static void scores(part *s)
{
    const qk_attention_args *a = s->a;
    float buffer[PIECE];
    memset(s->p, 0, sizeof s->p);
    for (int64_t c = 0; c < s->cells; c++) {
        for (int64_t i = 0; i < a->k_size; i += PIECE) {
            int64_t n = a->k_size - i < PIECE ? a->k_size - i : PIECE;
            s->convert(buffer, piece_at(s, a->k + (s->cell + c) * a->k_stride, i), n);
            for (int64_t h = 0; h < s->heads; h++)
                s->p[h][c] += qk_dot(a->q + (s->head + h) * a->q_stride + i, buffer, n);
        }
    }
}

/* Scores to weights exp(score − maximum); what was gathered before is scaled to the new maximum. */
static void soften(part *s, int64_t h)
{
    const qk_attention_args *a = s->a;
    float *p = s->p[h], *m = a->m + s->head + h, *l = a->l + s->head + h, *acc = a->acc + (s->head + h) * a->v_size;
    float max = *m, sum = 0;
    for (int64_t c = 0; c < s->cells; c++) {
        p[c] *= a->scale;
        if (a->softcap > 0)
            p[c] = a->softcap * qk_tanhf(p[c] / a->softcap);
        max = p[c] > max ? p[c] : max;
    }
    float base = max == -INFINITY ? 0 : max; /* nothing but −inf: weights 0, not NaN */
    for (int64_t c = 0; c < s->cells; c++)
        p[c] = qk_expf(p[c] - base);
    for (int64_t c = 0; c < s->cells; c++)
        sum += p[c];
    float factor = qk_expf(*m - base);
    *m = max;
    *l = *l * factor + sum;
    for (int64_t i = 0; i < a->v_size; i++)
        acc[i] *= factor;
}

static void gather(part *s)
{
    const qk_attention_args *a = s->a;
    float buffer[PIECE];
    for (int64_t c = 0; c < s->cells; c++) {
        for (int64_t i = 0; i < a->v_size; i += PIECE) {
            int64_t n = a->v_size - i < PIECE ? a->v_size - i : PIECE;
            s->convert(buffer, piece_at(s, a->v + (s->cell + c) * a->v_stride, i), n);
            for (int64_t h = 0; h < s->heads; h++) {
                float p = s->p[h][c], *acc = a->acc + (s->head + h) * a->v_size + i;
                for (int64_t j = 0; j < n; j++)
                    acc[j] += p * buffer[j];
            }
        }
    }
}

static void attend_row(const qk_attention_args *a, qp_format format, qk_to_f32_fn convert)
{
    part s = {.a = a, .convert = convert, .block_elements = qk_block_elements(format), .block_bytes = qk_block_bytes(format)};
    for (s.head = 0; s.head < a->heads; s.head += HEADS) {
        s.heads = a->heads - s.head < HEADS ? a->heads - s.head : HEADS;
        for (s.cell = a->begin; s.cell < a->end; s.cell += CELLS) {
            s.cells = a->end - s.cell < CELLS ? a->end - s.cell : CELLS;
            scores(&s);
            for (int64_t h = 0; h < s.heads; h++)
                soften(&s, h);
            gather(&s);
        }
    }
}

static void attention(const qk_attention_args *a, qp_format format, qk_to_f32_fn convert)
{
    for (int64_t r = 0; r < (a->rows > 1 ? a->rows : 1); r++) {
        qk_attention_args row = qk_attention_row(a, r);
        attend_row(&row, format, convert);
    }
}

#define FORMAT(name)                                                                                                               \
    static void attention_##name(const qk_attention_args *a)                                                                       \
    {                                                                                                                              \
        attention(a, QP_FORMAT_##name, qk_generic_to_f32_##name);                                                                  \
    }
QK_GENERIC_FORMATS(FORMAT)

void qk_generic_attention(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
#define ROW(name) table->attention[QP_FORMAT_##name] = attention_##name;
    QK_GENERIC_FORMATS(ROW)
#undef ROW
}
