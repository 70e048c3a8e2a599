/* SPDX-License-Identifier: MIT
 * kernels/cpu/neon/attention.c: online softmax (Milakov & Gimelshein 2018, arXiv:1805.02867) in stretches of cells. Each piece of a
 * cell is converted to floats once for all heads of the group; values of four cells are gathered in one pass over the sums. */
#include "kernels/cpu/neon/convert.h"
#include "kernels/cpu/neon/math.h"
#include "kernels/cpu/rows.h"

enum { CELLS = 64, HEADS = 8, PIECE = 256, TOGETHER = 4 };

typedef struct part { /* some heads, some cells */
    const qk_attention_args *a;
    int64_t head, heads, cell, cells;
    qk_to_f32_fn convert;
    uint32_t block_elements, block_bytes;
    float p[HEADS][CELLS]; /* scores, then weights */
} part;

static void to_f32(float *dst, const void *src, int64_t n)
{
    memcpy(dst, src, (size_t)n * sizeof *dst);
}

/* n elements of a cell from element i on, and zeros up to a whole vector. */
static void load_piece(const part *s, float *dst, const char *cell, int64_t i, int64_t n)
{
    s->convert(dst, cell + i / s->block_elements * s->block_bytes, n);
    for (; n % V_LANES; n++)
        dst[n] = 0;
}

/* Two sums, for there is nothing else to do while an addition is under way. */
static float dot(const float *q, const float *k, int64_t n)
{
    vf even = v_zero(), odd = v_zero();
    int64_t i = 0;
    for (; i + 2 * V_LANES <= n; i += 2 * V_LANES) {
        even = v_fma(v_load(q + i), v_load(k + i), even);
        odd = v_fma(v_load(q + i + V_LANES), v_load(k + i + V_LANES), odd);
    }
    for (; i < n; i += V_LANES)
        even = v_fma(n - i >= V_LANES ? v_load(q + i) : v_load_n(q + i, n - i), v_load(k + i), even);
    return v_sum(v_add(even, odd));
}

static void scores(part *s)
{
    const qk_attention_args *a = s->a;
    float k[PIECE];
    memset(s->p, 0, sizeof s->p);
    for (int64_t c = 0; c < s->cells; c++) {
        for (int64_t i = 0; i < a->k_size; i += PIECE) {
            int64_t n = a->k_size - i < PIECE ? a->k_size - i : PIECE;
            load_piece(s, k, a->k + (s->cell + c) * a->k_stride, i, n);
            for (int64_t h = 0; h < s->heads; h++)
                s->p[h][c] += dot(a->q + (s->head + h) * a->q_stride + i, k, n);
        }
    }
}

/* Scale and soft cap. Lanes past the last cell become −inf, whose weight is 0. Returns the maximum of these and max; NaN does not count. */
static float finish_scores(const part *s, float *p, float max)
{
    const qk_attention_args *a = s->a;
    vf most = v_set1(max);
    for (int64_t c = 0; c < s->cells; c += V_LANES) {
        vf v = v_mul(v_load(p + c), v_set1(a->scale));
        if (a->softcap > 0)
            v = v_mul(v_set1(a->softcap), v_tanh(v_div(v, v_set1(a->softcap))));
        if (s->cells - c < V_LANES)
            v = v_select(v_first(s->cells - c), v, v_set1(-__builtin_inff()));
        v_store(p + c, v);
        most = v_max(v, most);
    }
    return v_largest(most);
}

/* Scores to weights exp(score − maximum); what was gathered before is scaled to the new maximum. */
static void soften(part *s, int64_t h)
{
    const qk_attention_args *a = s->a;
    float *p = s->p[h], *m = a->m + s->head + h, *l = a->l + s->head + h, *acc = a->acc + (s->head + h) * a->v_size;
    float max = finish_scores(s, p, *m), base = max == -__builtin_inff() ? 0 : max; /* nothing but −inf: weights 0, not NaN */
    vf sum = v_zero();
    for (int64_t c = 0; c < s->cells; c += V_LANES) {
        vf weight = v_exp(v_sub(v_load(p + c), v_set1(base)));
        v_store(p + c, weight);
        sum = v_add(sum, weight);
    }
    float factor = vgetq_lane_f32(v_exp(v_set1(*m - base)).l, 0);
    *m = max;
    *l = *l * factor + v_sum(sum);
    if (factor == 1)
        return;
    for (int64_t i = 0; i < a->v_size; i++)
        acc[i] *= factor;
}

/* acc[0 … n) += Σ p[c]·v[c], the cells in order. */
static void gather_piece(float *acc, const float *p, float (*v)[PIECE], int64_t cells, int64_t n)
{
    for (int64_t i = 0; i < n; i += V_LANES) {
        vf sum = n - i >= V_LANES ? v_load(acc + i) : v_load_n(acc + i, n - i);
        for (int64_t c = 0; c < cells; c++)
            sum = v_fma(v_set1(p[c]), v_load(v[c] + i), sum);
        if (n - i >= V_LANES)
            v_store(acc + i, sum);
        else
            v_store_n(acc + i, sum, n - i);
    }
}

static void gather(const part *s)
{
    const qk_attention_args *a = s->a;
    float v[TOGETHER][PIECE];
    for (int64_t c = 0; c < s->cells; c += TOGETHER) {
        int64_t cells = s->cells - c < TOGETHER ? s->cells - c : TOGETHER;
        for (int64_t i = 0; i < a->v_size; i += PIECE) {
            int64_t n = a->v_size - i < PIECE ? a->v_size - i : PIECE;
            for (int64_t j = 0; j < cells; j++)
                load_piece(s, v[j], a->v + (s->cell + c + j) * a->v_stride, i, n);
            for (int64_t h = 0; h < s->heads; h++)
                gather_piece(a->acc + (s->head + h) * a->v_size + i, s->p[h] + c, v, cells, n);
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

static void attention_F32(const qk_attention_args *a)
{
    attention(a, QP_FORMAT_F32, to_f32);
}

#define FORMAT(name)                                                 \
    static void attention_##name(const qk_attention_args *a)         \
    {                                                                \
        attention(a, QP_FORMAT_##name, qk_neon_to_f32_##name);       \
    }
QK_NEON_FORMATS(FORMAT)

void qk_neon_attention(qk_kernels *table, const qk_cpu_features *features)
{
    (void)features;
    table->attention[QP_FORMAT_F32] = attention_F32;
#define ROW(name) table->attention[QP_FORMAT_##name] = attention_##name;
    QK_NEON_FORMATS(ROW)
#undef ROW
}
