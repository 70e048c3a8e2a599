/* SPDX-License-Identifier: MIT
 * cli/selftest_ops.c: one check an op: random inputs, what should come out by the words of quern/plugin.h, the comparison. */
#include "cli/selftest_ops.h"
#include "cli/selftest_math.h"

#include <math.h>
#include <string.h>

static qp_op new_op(qp_op_kind kind)
{
    return (qp_op){.struct_size = sizeof(qp_op), .kind = kind, .version = 1};
}

static void check_get_rows(st_bench *b, int format)
{
    static const int32_t ids[] = {3, 0, 15, 3, 99}; /* the last one is outside: a row of zeros */
    enum { N = 64, TABLE = 16, ROWS = 5 };
    st_value table = st_make_weight(b, (qp_format)format, QP_WEIGHT_ROWS, N, TABLE), rows = st_make_ints(b, ids, ROWS);
    st_value y = st_make_result(b, QP_FORMAT_F32, N, 1, ROWS);
    qp_op op = new_op(QP_OP_GET_ROWS);
    op.src[QP_GET_ROWS_TABLE] = table.tensor;
    op.src[QP_GET_ROWS_IDS] = rows.tensor;
    op.p.get_rows.scale = 1.5f;
    if (b->status != QP_OK)
        return;
    for (int r = 0; r < ROWS; r++)
        for (int i = 0; i < N && ids[r] < TABLE; i++)
            y.x[r * N + i] = 1.5 * table.x[ids[r] * N + i];
    st_run(b, &op, &y);
}

static void check_norm(st_bench *b, int kind)
{
    enum { N = 96, HEADS = 2, ROWS = 3 };
    st_value x = st_make(b, QP_FORMAT_F32, N, HEADS, ROWS, -3, 4), w = st_make(b, QP_FORMAT_F32, N, 1, 1, 0.5, 2);
    st_value bias = st_make(b, QP_FORMAT_F32, N, 1, 1, -1, 1), y = st_make_result(b, QP_FORMAT_F32, N, HEADS, ROWS);
    qp_op op = new_op(QP_OP_NORM);
    op.src[QP_NORM_X] = x.tensor;
    op.src[QP_NORM_WEIGHT] = w.tensor;
    if (kind == QP_NORM_LAYER)
        op.src[QP_NORM_BIAS] = bias.tensor;
    op.p.norm = (qp_norm_params){.kind = (uint32_t)kind, .eps = 1e-5f};
    if (b->status != QP_OK)
        return;
    for (int i = 0; i < HEADS * ROWS; i++)
        st_norm(&op.p.norm, x.x + i * N, w.x, kind == QP_NORM_LAYER ? bias.x : NULL, N, y.x + i * N);
    st_run(b, &op, &y);
}

enum { MATMUL_K = 256, MATMUL_M = 48, MATMUL_ROWS = 5 };

static double dot(const double *w, const double *x)
{
    double sum = 0;
    for (int k = 0; k < MATMUL_K; k++)
        sum += w[k] * x[k];
    return sum;
}

/* The plain product, as the models use it most. */
static void check_matmul(st_bench *b, int format)
{
    st_value w = st_make_weight(b, (qp_format)format, QP_WEIGHT_MATMUL, MATMUL_K, MATMUL_M);
    st_value x = st_make(b, QP_FORMAT_F32, MATMUL_K, 1, MATMUL_ROWS, -1, 1),
             y = st_make_result(b, QP_FORMAT_F32, MATMUL_M, 1, MATMUL_ROWS);
    qp_op op = new_op(QP_OP_MATMUL);
    op.src[QP_MATMUL_W] = w.tensor;
    op.src[QP_MATMUL_X] = x.tensor;
    op.p.matmul = (qp_matmul_params){.scale = 1, .bias_scale = 1, .scale2 = 1, .bias_scale2 = 1};
    if (b->status != QP_OK)
        return;
    for (int r = 0; r < MATMUL_ROWS; r++)
        for (int m = 0; m < MATMUL_M; m++)
            y.x[r * MATMUL_M + m] = dot(w.x + m * MATMUL_K, x.x + r * MATMUL_K);
    st_run(b, &op, &y);
}

/* Everything the epilogue can do at once: two weights, biases, scales, activation, residual. */
static void check_matmul_epilogue(st_bench *b, int format)
{
    st_value w = st_make_weight(b, (qp_format)format, QP_WEIGHT_MATMUL, MATMUL_K, MATMUL_M);
    st_value w2 = st_make_weight(b, (qp_format)format, QP_WEIGHT_MATMUL, MATMUL_K, MATMUL_M);
    st_value x = st_make(b, QP_FORMAT_F32, MATMUL_K, 1, MATMUL_ROWS, -1, 1),
             bias = st_make(b, QP_FORMAT_F32, MATMUL_M, 1, 1, -2, 2);
    st_value bias2 = st_make(b, QP_FORMAT_F32, MATMUL_M, 1, 1, -2, 2);
    st_value residual = st_make(b, QP_FORMAT_F32, MATMUL_M, 1, MATMUL_ROWS, -2, 2);
    st_value y = st_make_result(b, QP_FORMAT_F32, MATMUL_M, 1, MATMUL_ROWS);
    qp_op op = new_op(QP_OP_MATMUL);
    op.src[QP_MATMUL_W] = w.tensor;
    op.src[QP_MATMUL_X] = x.tensor;
    op.src[QP_MATMUL_BIAS] = bias.tensor;
    op.src[QP_MATMUL_RESIDUAL] = residual.tensor;
    op.src[QP_MATMUL_W2] = w2.tensor;
    op.src[QP_MATMUL_BIAS2] = bias2.tensor;
    op.p.matmul = (qp_matmul_params){.scale = 0.75f, .bias_scale = 0.5f, .scale2 = 1.25f, .bias_scale2 = 2, .act = QP_ACT_SILU};
    if (b->status != QP_OK)
        return;
    for (int r = 0; r < MATMUL_ROWS; r++) {
        for (int m = 0; m < MATMUL_M; m++) {
            double gate = 0.75 * dot(w.x + m * MATMUL_K, x.x + r * MATMUL_K) + 0.5 * bias.x[m];
            double up = 1.25 * dot(w2.x + m * MATMUL_K, x.x + r * MATMUL_K) + 2 * bias2.x[m];
            y.x[r * MATMUL_M + m] = st_activation(QP_ACT_SILU, gate) * up + residual.x[r * MATMUL_M + m];
        }
    }
    st_run(b, &op, &y);
}

/* mode: QP_ROPE_NORMAL or QP_ROPE_NEOX, + 16 for YaRN with frequency factors. */
static void check_rope(st_bench *b, int mode)
{
    static const int32_t positions[] = {0, 1, 77, 5000};
    enum { HEAD = 64, HEADS = 3, ROWS = 4, DIMS = 48 };
    st_value x = st_make(b, QP_FORMAT_F32, HEAD, HEADS, ROWS, -1, 1), pos = st_make_ints(b, positions, ROWS);
    st_value factors = st_make(b, QP_FORMAT_F32, DIMS / 2, 1, 1, 1, 8), y = st_make_result(b, QP_FORMAT_F32, HEAD, HEADS, ROWS);
    qp_op op = new_op(QP_OP_ROPE);
    op.src[QP_ROPE_X] = x.tensor;
    op.src[QP_ROPE_POSITIONS] = pos.tensor;
    op.p.rope =
        (qp_rope_params){.mode = (uint32_t)mode % 16, .n_dims = DIMS, .freq_base = 10000, .freq_scale = 1, .attn_factor = 1};
    if (mode >= 16) {
        op.src[QP_ROPE_FACTORS] = factors.tensor;
        op.p.rope.freq_scale = 0.25f;
        op.p.rope.ext_factor = 1;
        op.p.rope.beta_fast = 32;
        op.p.rope.beta_slow = 1;
        op.p.rope.original_context = 2048;
    }
    if (b->status != QP_OK)
        return;
    for (int i = 0; i < HEADS * ROWS; i++)
        st_rope(&op.p.rope, x.x + i * HEAD, HEAD, positions[i / HEADS], mode >= 16 ? factors.x : NULL, y.x + i * HEAD);
    st_run(b, &op, &y);
}

static void check_kv_append(st_bench *b, int format)
{
    static const int32_t targets[] = {4, 0, 2, 99}; /* the last one is outside and skipped */
    enum { HEAD = 64, HEADS = 2, ROWS = 4, CELLS = 6, ROW = HEAD * HEADS };
    st_value x = st_make(b, QP_FORMAT_F32, HEAD, HEADS, ROWS, -2, 2), cells = st_make_ints(b, targets, ROWS);
    st_value cache = st_make(b, (qp_format)format, HEAD, HEADS, CELLS, -2, 2);
    qp_op op = new_op(QP_OP_KV_APPEND);
    op.src[QP_KV_APPEND_X] = x.tensor;
    op.src[QP_KV_APPEND_CELLS] = cells.tensor;
    if (b->status != QP_OK)
        return;
    for (int r = 0; r < ROWS; r++) {
        unsigned char bytes[4 * ROW]; /* F32 is the largest */
        double rounded[ROW];
        memcpy(rounded, x.x + r * ROW, sizeof rounded);
        st_encode((qp_format)format, rounded, ROW, bytes);
        if (targets[r] < CELLS)
            memcpy(cache.x + targets[r] * ROW, rounded, sizeof rounded);
    }
    st_run(b, &op, &cache);
}

enum { ATT_HEAD = 64, ATT_HEADS = 4, ATT_KV = 2, ATT_ROWS = 3, ATT_CELLS = 24 };

/* One query head over the cells it may see. */
static void attend(const qp_attention_params *p, const double *q, const double *k, const double *v, int32_t pos, const double *sink,
                   double *out)
{
    double weights[ATT_CELLS], sum = sink ? exp(*sink) : 0;
    int first = p->window && pos - (int)p->window + 1 > 0 ? pos - (int)p->window + 1 : 0;
    for (int c = first; c <= pos; c++) {
        double s = 0;
        for (int i = 0; i < ATT_HEAD; i++)
            s += q[i] * k[c * ATT_HEAD * ATT_KV + i];
        s *= (double)p->scale;
        if (p->softcap > 0)
            s = (double)p->softcap * tanh(s / (double)p->softcap);
        weights[c] = exp(s);
        sum += weights[c];
    }
    for (int c = first; c <= pos; c++)
        for (int i = 0; i < ATT_HEAD; i++)
            out[i] += weights[c] / sum * v[c * ATT_HEAD * ATT_KV + i];
}

/* format of the cache, + 64 for window, soft cap and sinks. */
static void check_attention(st_bench *b, int format)
{
    static const int32_t positions[] = {0, 9, 23};
    int extras = format >= 64;
    qp_format kv = (qp_format)(format % 64);
    st_value q = st_make(b, QP_FORMAT_F32, ATT_HEAD, ATT_HEADS, ATT_ROWS, -1, 1), pos = st_make_ints(b, positions, ATT_ROWS);
    st_value k = st_make(b, kv, ATT_HEAD, ATT_KV, ATT_CELLS, -1, 1), v = st_make(b, kv, ATT_HEAD, ATT_KV, ATT_CELLS, -1, 1);
    st_value sinks = st_make(b, QP_FORMAT_F32, ATT_HEADS, 1, 1, -1, 1),
             y = st_make_result(b, QP_FORMAT_F32, ATT_HEAD, ATT_HEADS, ATT_ROWS);
    qp_op op = new_op(QP_OP_ATTENTION);
    op.src[QP_ATTENTION_Q] = q.tensor;
    op.src[QP_ATTENTION_K] = k.tensor;
    op.src[QP_ATTENTION_V] = v.tensor;
    op.src[QP_ATTENTION_POSITIONS] = pos.tensor;
    op.p.attention = (qp_attention_params){.scale = 0.25f};
    if (extras) {
        op.src[QP_ATTENTION_SINKS] = sinks.tensor;
        op.p.attention.softcap = 2;
        op.p.attention.window = 8;
    }
    if (b->status != QP_OK)
        return;
    for (int r = 0; r < ATT_ROWS; r++) {
        for (int h = 0; h < ATT_HEADS; h++) {
            int at = (r * ATT_HEADS + h) * ATT_HEAD, group = h / (ATT_HEADS / ATT_KV) * ATT_HEAD;
            attend(&op.p.attention, q.x + at, k.x + group, v.x + group, positions[r], extras ? &sinks.x[h] : NULL, y.x + at);
        }
    }
    st_run(b, &op, &y);
}

static double elementwise(const qp_elementwise_params *p, double a, double b)
{
    double scale = (double)p->scale, offset = (double)p->offset;
    switch (p->function) {
    case QP_ELEMENTWISE_ADD: return a + b;
    case QP_ELEMENTWISE_MUL: return a * b;
    case QP_ELEMENTWISE_SCALE: return scale * a + offset;
    case QP_ELEMENTWISE_ACT: return st_activation(p->act, a);
    case QP_ELEMENTWISE_GLU: return st_activation(p->act, a) * b;
    default: return scale * tanh(a / scale);
    }
}

/* function + 16 · activation */
static void check_elementwise(st_bench *b, int what)
{
    enum { N = 80, ROWS = 4 };
    int function = what % 16;
    int pair = function == QP_ELEMENTWISE_ADD || function == QP_ELEMENTWISE_MUL || function == QP_ELEMENTWISE_GLU;
    st_value x = st_make(b, QP_FORMAT_F32, N, 1, ROWS, -4, 4), z = st_make(b, QP_FORMAT_F32, N, 1, ROWS, -4, 4);
    st_value y = st_make_result(b, QP_FORMAT_F32, N, 1, ROWS);
    qp_op op = new_op(QP_OP_ELEMENTWISE);
    op.src[QP_ELEMENTWISE_A] = x.tensor;
    if (pair)
        op.src[QP_ELEMENTWISE_B] = z.tensor;
    op.p.elementwise =
        (qp_elementwise_params){.function = (uint32_t)function, .act = (qp_activation)(what / 16), .scale = 3, .offset = 0.5f};
    if (b->status != QP_OK)
        return;
    for (int i = 0; i < N * ROWS; i++)
        y.x[i] = elementwise(&op.p.elementwise, x.x[i], z.x[i]);
    st_run(b, &op, &y);
}

/* source format + 64 · destination format */
static void check_copy(st_bench *b, int what)
{
    enum { N = 64, ROWS = 3 };
    qp_format from = (qp_format)(what % 64), to = (qp_format)(what / 64);
    st_value x = st_make(b, from, N, 1, ROWS, -2, 2), y = st_make_result(b, to, N, 1, ROWS);
    qp_op op = new_op(QP_OP_COPY);
    op.src[0] = x.tensor;
    if (b->status != QP_OK)
        return;
    unsigned char bytes[4 * N * ROWS];
    memcpy(y.x, x.x, N * ROWS * sizeof *y.x);
    st_encode(to, y.x, N * ROWS, bytes);
    st_run(b, &op, &y);
}

static void check_sample(st_bench *b, int unused)
{
    enum { VOCABULARY = 1000, ROWS = 3 };
    (void)unused;
    st_value x = st_make(b, QP_FORMAT_F32, VOCABULARY, 1, ROWS, -5, 5), y = st_make_result(b, QP_FORMAT_I32, ROWS, 1, 1);
    qp_op op = new_op(QP_OP_SAMPLE);
    op.src[0] = x.tensor;
    op.p.sample.kind = QP_SAMPLE_GREEDY;
    if (b->status != QP_OK)
        return;
    for (int r = 0; r < ROWS; r++)
        for (int i = 1; i < VOCABULARY; i++)
            if (x.x[r * VOCABULARY + i] > x.x[r * VOCABULARY + (int)y.x[r]])
                y.x[r] = i;
    st_run(b, &op, &y);
}

/* Float arithmetic; int8 activations (the limit of the fixtures' logits); values that are rounded to 16 or 8 bits and may round
 * the other way where the device computes in float. */
#define EXACT 0
#define IN_FLOAT 1e-10
#define ROUNDED 1e-6
#define IN_Q8_0 1e-4
#define IN_INT8 2e-4

const st_check *st_check_at(uint32_t index)
{
    static const st_check checks[] = {
        {"get_rows F32", IN_FLOAT, check_get_rows, QP_FORMAT_F32},
        {"get_rows F16", IN_FLOAT, check_get_rows, QP_FORMAT_F16},
        {"get_rows BF16", IN_FLOAT, check_get_rows, QP_FORMAT_BF16},
        {"get_rows Q8_0", IN_FLOAT, check_get_rows, QP_FORMAT_Q8_0},
        {"get_rows Q4_0", IN_FLOAT, check_get_rows, QP_FORMAT_Q4_0},
        {"norm RMS", IN_FLOAT, check_norm, QP_NORM_RMS},
        {"norm layer", IN_FLOAT, check_norm, QP_NORM_LAYER},
        {"norm L2", IN_FLOAT, check_norm, QP_NORM_L2},
        {"matmul F32", IN_FLOAT, check_matmul, QP_FORMAT_F32},
        {"matmul F16", ROUNDED, check_matmul, QP_FORMAT_F16},
        {"matmul BF16", IN_Q8_0, check_matmul, QP_FORMAT_BF16},
        {"matmul Q8_0", IN_INT8, check_matmul, QP_FORMAT_Q8_0},
        {"matmul Q4_0", IN_INT8, check_matmul, QP_FORMAT_Q4_0},
        {"matmul epilogue F32", IN_FLOAT, check_matmul_epilogue, QP_FORMAT_F32},
        {"matmul epilogue Q8_0", IN_INT8, check_matmul_epilogue, QP_FORMAT_Q8_0},
        {"matmul epilogue Q4_0", IN_INT8, check_matmul_epilogue, QP_FORMAT_Q4_0},
        {"rope normal", ROUNDED, check_rope, QP_ROPE_NORMAL},
        {"rope neox", ROUNDED, check_rope, QP_ROPE_NEOX},
        {"rope neox, YaRN", ROUNDED, check_rope, QP_ROPE_NEOX + 16},
        {"kv_append F32", EXACT, check_kv_append, QP_FORMAT_F32},
        {"kv_append F16", ROUNDED, check_kv_append, QP_FORMAT_F16},
        {"kv_append BF16", ROUNDED, check_kv_append, QP_FORMAT_BF16},
        {"kv_append Q8_0", IN_Q8_0, check_kv_append, QP_FORMAT_Q8_0},
        {"attention F32", ROUNDED, check_attention, QP_FORMAT_F32},
        {"attention F16", ROUNDED, check_attention, QP_FORMAT_F16},
        {"attention BF16", IN_Q8_0, check_attention, QP_FORMAT_BF16},
        {"attention Q8_0", IN_Q8_0, check_attention, QP_FORMAT_Q8_0},
        {"attention F16, window, cap, sinks", ROUNDED, check_attention, QP_FORMAT_F16 + 64},
        {"elementwise add", IN_FLOAT, check_elementwise, QP_ELEMENTWISE_ADD},
        {"elementwise mul", IN_FLOAT, check_elementwise, QP_ELEMENTWISE_MUL},
        {"elementwise scale", IN_FLOAT, check_elementwise, QP_ELEMENTWISE_SCALE},
        {"elementwise SiLU", ROUNDED, check_elementwise, QP_ELEMENTWISE_ACT + 16 * QP_ACT_SILU},
        {"elementwise GELU", ROUNDED, check_elementwise, QP_ELEMENTWISE_ACT + 16 * QP_ACT_GELU},
        {"elementwise softplus", ROUNDED, check_elementwise, QP_ELEMENTWISE_ACT + 16 * QP_ACT_SOFTPLUS},
        {"elementwise GELU tanh", ROUNDED, check_elementwise, QP_ELEMENTWISE_ACT + 16 * QP_ACT_GELU_TANH},
        {"elementwise SiLU · b", ROUNDED, check_elementwise, QP_ELEMENTWISE_GLU + 16 * QP_ACT_SILU},
        {"elementwise soft cap", ROUNDED, check_elementwise, QP_ELEMENTWISE_SOFTCAP},
        {"copy F32 to F16", ROUNDED, check_copy, QP_FORMAT_F32 + 64 * QP_FORMAT_F16},
        {"copy F32 to Q8_0", IN_Q8_0, check_copy, QP_FORMAT_F32 + 64 * QP_FORMAT_Q8_0},
        {"copy F16 to F32", EXACT, check_copy, QP_FORMAT_F16 + 64 * QP_FORMAT_F32},
        {"sample greedy", EXACT, check_sample, 0},
    };
    return index < sizeof checks / sizeof *checks ? &checks[index] : NULL;
}
