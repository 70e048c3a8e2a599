/* SPDX-License-Identifier: MIT
 * tests/kernel/ref_test.c: the reference ops against plain mathematics written here, and rope against tests/data/rope.txt
 * (tools/make_rope_reference.py). */
#include "kernels/ref/ref.h"
#include "tests/tap.h"

#include <float.h>
#include <math.h>

static uint32_t state = 12345;

static float noise(void) /* −1 … 1 */
{
    state = state * 1664525u + 1013904223u;
    return (float)(int32_t)state * 0x1p-31f;
}

static void fill(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = noise();
}

/* A contiguous tensor. */
static qk_tensor tensor(void *data, qp_format format, int64_t n0, int64_t n1, int64_t n2)
{
    qk_tensor t = {.data = data, .format = format, .ne = {n0, n1, n2, 1}};
    t.nb[0] = qk_block_bytes(format);
    t.nb[1] = t.nb[0] * (n0 / qk_block_elements(format));
    t.nb[2] = t.nb[1] * n1;
    t.nb[3] = t.nb[2] * n2;
    return t;
}

static qk_tensor f32(float *data, int64_t n0, int64_t n1, int64_t n2)
{
    return tensor(data, QP_FORMAT_F32, n0, n1, n2);
}

static int close_to(double got, double want)
{
    return fabs(got - want) <= 1e-6 * (fabs(want) + 1e-3);
}

static int all_close(const float *got, const double *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!close_to((double)got[i], want[i])) {
            diag("element %lld is %.9g, not %.9g", (long long)i, (double)got[i], want[i]);
            return 0;
        }
    return 1;
}

/* ---- get_rows ---- */

static void test_get_rows(void)
{
    float table[5 * 64], dst[4 * 64];
    char q8[5 * 68];
    int32_t ids[4] = {4, 0, 5, -1};
    fill(table, 5 * 64);
    fill(dst, 4 * 64);
    qr_quantise(QP_FORMAT_Q8_0, table, q8, 5 * 64);
    qk_op op = {.kind = QP_OP_GET_ROWS, .live = 4, .dst = f32(dst, 64, 1, 4), .p.get_rows.scale = 3};
    op.src[0] = f32(table, 64, 5, 1);
    op.src[1] = tensor(ids, QP_FORMAT_I32, 4, 1, 1);
    qr_run(&op);
    int right = 1;
    for (int i = 0; i < 64; i++)
        right = right && dst[i] == 3 * table[4 * 64 + i] && dst[64 + i] == 3 * table[i] && dst[128 + i] == 0 && dst[192 + i] == 0;
    ok(right, "get_rows: rows times the scale, zeros for ids outside the table");
    op.src[0] = tensor(q8, QP_FORMAT_Q8_0, 64, 5, 1);
    op.live = 1;
    op.p.get_rows.scale = 1;
    dst[64] = 77;
    qr_run(&op);
    right = dst[64] == 77;
    for (int i = 0; i < 64; i++)
        right = right && fabsf(dst[i] - table[4 * 64 + i]) < 0.006f;
    ok(right, "get_rows: from Q8_0, rows after the live ones left alone");
}

/* ---- norm ---- */

static void test_norm(void)
{
    float x[2] = {3, 4}, w[2] = {2, 0.5f}, b[2] = {1, -1}, y[2];
    qk_op op = {.kind = QP_OP_NORM, .live = 1, .dst = f32(y, 2, 1, 1), .p.norm = {.kind = QP_NORM_RMS, .eps = 0.5f}};
    op.src[0] = f32(x, 2, 1, 1);
    qr_run(&op);
    ok(close_to((double)y[0], 3 / sqrt(13)) && close_to((double)y[1], 4 / sqrt(13)), "norm: RMS of (3, 4) with eps 0.5");
    op.src[1] = f32(w, 2, 1, 1);
    op.src[2] = f32(b, 2, 1, 1);
    op.p.norm.weight_offset = 1;
    qr_run(&op);
    ok(close_to((double)y[0], 9 / sqrt(13) + 1) && close_to((double)y[1], 6 / sqrt(13) - 1), "norm: weight, offset and bias");
    op.p.norm = (qp_norm_params){.kind = QP_NORM_LAYER, .eps = 0};
    qr_run(&op);
    ok(close_to((double)y[0], -2 + 1) && close_to((double)y[1], 0.5 - 1), "norm: layer");
    op.p.norm = (qp_norm_params){.kind = QP_NORM_L2, .eps = 1e-6f};
    op.src[1].data = op.src[2].data = NULL;
    qr_run(&op);
    ok(close_to((double)y[0], 0.6) && close_to((double)y[1], 0.8), "norm: L2");
    op.p.norm.eps = 10;
    qr_run(&op);
    ok(close_to((double)y[0], 0.3) && close_to((double)y[1], 0.4), "norm: L2 shorter than eps");
}

static void test_norm_strides(void)
{
    float x[3 * 2 * 10], want[3 * 2 * 4], y[3 * 2 * 4];
    fill(x, 60);
    for (int r = 0; r < 3; r++)
        for (int h = 0; h < 2; h++) {
            double squares = 0;
            for (int i = 0; i < 4; i++)
                squares += pow((double)x[r * 20 + h * 10 + 2 * i], 2);
            for (int i = 0; i < 4; i++)
                want[(r * 2 + h) * 4 + i] = (float)((double)x[r * 20 + h * 10 + 2 * i] / sqrt(squares / 4 + 1e-5));
        }
    qk_op op = {.kind = QP_OP_NORM, .live = 3, .dst = f32(y, 4, 2, 3), .p.norm = {.kind = QP_NORM_RMS, .eps = 1e-5f}};
    op.src[0] = (qk_tensor){.data = x, .format = QP_FORMAT_F32, .ne = {4, 2, 3, 1}, .nb = {8, 40, 80, 240}};
    qr_run(&op);
    int right = 1;
    for (int i = 0; i < 24; i++)
        right = right && close_to((double)y[i], (double)want[i]);
    ok(right, "norm: every head and row, any strides");
}

/* ---- matmul ---- */

enum { K = 320, M = 5, R = 3 }; /* K is more than one piece of the reference */

static double activation(double x)
{
    return x / (1 + exp(-x));
}

static void test_matmul_plain(qp_format format, double tolerance)
{
    static float w[M * K], x[R * K], y[R * M], exact[M * K];
    static char packed[M * K * 4];
    fill(w, M * K);
    fill(x, R * K);
    qr_quantise(format, w, packed, M * K);
    qr_dequantise(format, packed, exact, M * K);
    qk_op op = {.kind = QP_OP_MATMUL, .live = R, .dst = f32(y, M, 1, R), .p.matmul = {.scale = 1, .bias_scale = 1}};
    op.src[0] = tensor(packed, format, K, M, 1);
    op.src[1] = f32(x, K, 1, R);
    qr_run(&op);
    int right = 1, near = 1;
    for (int r = 0; r < R; r++)
        for (int m = 0; m < M; m++) {
            double sum = 0, original = 0;
            for (int i = 0; i < K; i++) {
                sum += (double)exact[m * K + i] * (double)x[r * K + i];
                original += (double)w[m * K + i] * (double)x[r * K + i];
            }
            right = right && close_to((double)y[r * M + m], sum);
            near = near && fabs((double)y[r * M + m] - original) <= tolerance;
        }
    ok(right && near, "matmul: format %u", format);
}

static void test_matmul_epilogue(void)
{
    float w[M * 2], w2[M * 2], x[R * 2], bias[M], bias2[M], y[R * M];
    double want[R * M];
    fill(w, M * 2);
    fill(w2, M * 2);
    fill(x, R * 2);
    fill(bias, M);
    fill(bias2, M);
    fill(y, R * M);
    qk_op op = {.kind = QP_OP_MATMUL, .live = R, .dst = f32(y, M, 1, R)};
    op.p.matmul = (qp_matmul_params){.scale = 2, .bias_scale = 3, .scale2 = 0.5f, .bias_scale2 = -1, .act = QP_ACT_SILU};
    for (int r = 0; r < R; r++)
        for (int m = 0; m < M; m++) {
            double a =
                2 * ((double)w[2 * m] * (double)x[2 * r] + (double)w[2 * m + 1] * (double)x[2 * r + 1]) + 3 * (double)bias[m];
            double b =
                0.5 * ((double)w2[2 * m] * (double)x[2 * r] + (double)w2[2 * m + 1] * (double)x[2 * r + 1]) - (double)bias2[m];
            want[r * M + m] = activation(a) * b + (double)y[r * M + m];
        }
    op.src[QP_MATMUL_W] = f32(w, 2, M, 1);
    op.src[QP_MATMUL_X] = f32(x, 2, 1, R);
    op.src[QP_MATMUL_BIAS] = f32(bias, M, 1, 1);
    op.src[QP_MATMUL_RESIDUAL] = f32(y, M, 1, R);
    op.src[QP_MATMUL_W2] = f32(w2, 2, M, 1);
    op.src[QP_MATMUL_BIAS2] = f32(bias2, M, 1, 1);
    qr_run(&op);
    ok(all_close(y, want, R * M), "matmul: gated pair with scales, biases, and the residual in place");
}

/* ---- rope ---- */

static int read_floats(FILE *file, float *x, int n)
{
    double value;
    for (int i = 0; i < n; i++) {
        if (fscanf(file, "%lf", &value) != 1)
            return 0;
        x[i] = (float)value;
    }
    return 1;
}

static int rope_case(FILE *file)
{
    char name[64];
    int mode, dims, head, position, yarn, context, with_factors;
    double base, factor, attn, fast, slow;
    float factors[128], x[256], want[256];
    if (fscanf(file, "%63s %d %d %d %d %lf %lf %d %lf %lf %lf %d %d", name, &mode, &dims, &head, &position, &base, &factor, &yarn,
               &attn, &fast, &slow, &context, &with_factors) != 13)
        return 0;
    if (!read_floats(file, factors, with_factors ? dims / 2 : 0) || !read_floats(file, x, head) || !read_floats(file, want, head))
        return ok(0, "rope: case %s can be read", name), 0;
    int32_t positions[1] = {position};
    qk_op op = {.kind = QP_OP_ROPE, .live = 1, .dst = f32(x, head, 1, 1)}; /* in place */
    op.p.rope = (qp_rope_params){.mode = (uint32_t)mode,
                                 .n_dims = (uint32_t)dims,
                                 .freq_base = (float)base,
                                 .freq_scale = (float)(1 / factor),
                                 .ext_factor = yarn ? 1 : 0,
                                 .flags = yarn == 2 ? QP_ROPE_EXACT_RAMP : 0,
                                 .attn_factor = (float)attn,
                                 .beta_fast = (float)fast,
                                 .beta_slow = (float)slow,
                                 .original_context = (uint32_t)context};
    op.src[QP_ROPE_X] = op.dst;
    op.src[QP_ROPE_POSITIONS] = tensor(positions, QP_FORMAT_I32, 1, 1, 1);
    if (with_factors)
        op.src[QP_ROPE_FACTORS] = f32(factors, dims / 2, 1, 1);
    qr_run(&op);
    double worst = 0;
    for (int i = 0; i < head; i++) {
        double difference = fabs((double)x[i] - (double)want[i]);
        if (!(difference <= worst)) /* fmax here is more than one gcc 12 can take */
            worst = difference;
    }
    return ok(worst < 5e-7, "rope: %s (largest difference %.2g)", name, worst), 1;
}

static void test_rope(void)
{
    char path[1024];
    int cases = 0;
    snprintf(path, sizeof path, "%s/tests/data/rope.txt", getenv("QUERN_SOURCE") ? getenv("QUERN_SOURCE") : ".");
    FILE *file = fopen(path, "r");
    while (file && rope_case(file))
        cases++;
    ok(cases == 13, "rope: every case of tests/data/rope.txt was tried (%d)", cases);
    if (file)
        fclose(file);
}

/* ---- kv_append ---- */

static void test_kv_append(void)
{
    static const qp_format formats[] = {QP_FORMAT_F32, QP_FORMAT_F16, QP_FORMAT_BF16, QP_FORMAT_Q8_0};
    float x[3 * 2 * 32];
    int32_t cells[3] = {2, -1, 4};
    fill(x, 192);
    for (int f = 0; f < 4; f++) {
        char cache[4 * 2 * 128], before[4 * 2 * 128];
        memset(cache, 0x55, sizeof cache);
        memcpy(before, cache, sizeof cache);
        qk_op op = {.kind = QP_OP_KV_APPEND, .live = 3, .dst = tensor(cache, formats[f], 32, 2, 4)};
        op.src[0] = f32(x, 32, 2, 3);
        op.src[1] = tensor(cells, QP_FORMAT_I32, 3, 1, 1);
        qr_run(&op);
        qr_quantise(formats[f], x, before + 2 * op.dst.nb[2], 64); /* only the first row has a cell in the cache */
        ok(memcmp(cache, before, sizeof cache) == 0, "kv_append: format %u, cells outside the cache are skipped", formats[f]);
    }
}

/* ---- attention ---- */

enum { HEADS = 4, KV_HEADS = 2, SIZE = 8, VALUES = 6, CELLS = 9, ROWS = 4 };

typedef struct attention_case {
    float q[ROWS * HEADS * SIZE], k[CELLS * KV_HEADS * SIZE], v[CELLS * KV_HEADS * VALUES], sinks[HEADS], y[ROWS * HEADS * VALUES];
    int32_t positions[ROWS];
    qp_attention_params p;
    int with_sinks;
} attention_case;

static void naive_head(const attention_case *c, int r, int h, double *out)
{
    int position = c->positions[r] < CELLS ? c->positions[r] : CELLS - 1;
    double p[CELLS] = {0}, sum = c->with_sinks ? exp((double)c->sinks[h]) : 0;
    for (int cell = 0; cell < CELLS; cell++) {
        double s = 0;
        for (int i = 0; i < SIZE; i++)
            s += (double)c->q[(r * HEADS + h) * SIZE + i] * (double)c->k[(cell * KV_HEADS + h / 2) * SIZE + i];
        s *= (double)c->p.scale;
        if (c->p.softcap > 0)
            s = (double)c->p.softcap * tanh(s / (double)c->p.softcap);
        if (cell <= position && (c->p.window == 0 || cell > position - (int)c->p.window))
            sum += p[cell] = exp(s);
    }
    for (int i = 0; i < VALUES; i++) {
        out[i] = 0;
        for (int cell = 0; position >= 0 && cell < CELLS; cell++)
            out[i] += p[cell] / sum * (double)c->v[(cell * KV_HEADS + h / 2) * VALUES + i];
    }
}

static void run_attention(attention_case *c, const char *name)
{
    double want[ROWS * HEADS * VALUES];
    qk_op op = {.kind = QP_OP_ATTENTION, .live = ROWS, .dst = f32(c->y, VALUES, HEADS, ROWS), .p.attention = c->p};
    op.src[QP_ATTENTION_Q] = f32(c->q, SIZE, HEADS, ROWS);
    op.src[QP_ATTENTION_K] = f32(c->k, SIZE, KV_HEADS, CELLS);
    op.src[QP_ATTENTION_V] = f32(c->v, VALUES, KV_HEADS, CELLS);
    op.src[QP_ATTENTION_POSITIONS] = tensor(c->positions, QP_FORMAT_I32, ROWS, 1, 1);
    if (c->with_sinks)
        op.src[QP_ATTENTION_SINKS] = f32(c->sinks, HEADS, 1, 1);
    qr_run(&op);
    for (int r = 0; r < ROWS; r++)
        for (int h = 0; h < HEADS; h++)
            naive_head(c, r, h, want + (r * HEADS + h) * VALUES);
    ok(all_close(c->y, want, ROWS * HEADS * VALUES), "attention: %s", name);
}

static void test_attention(void)
{
    static attention_case c = {.positions = {0, 3, -1, 50}};
    fill(c.q, ROWS * HEADS * SIZE);
    fill(c.k, CELLS * KV_HEADS * SIZE);
    fill(c.v, CELLS * KV_HEADS * VALUES);
    fill(c.sinks, HEADS);
    c.p = (qp_attention_params){.scale = 0.5f};
    run_attention(&c, "causal, grouped; no cells for a negative position, all for one past the cache");
    c.p.window = 3;
    run_attention(&c, "window");
    c.p.softcap = 0.7f;
    run_attention(&c, "soft cap");
    c.with_sinks = 1;
    run_attention(&c, "sinks");
    c.p.scale = 60;
    c.p.softcap = 0;
    run_attention(&c, "large scores");
}

/* The online softmax must not overflow where exp would. */
static void test_attention_range(void)
{
    float q[1] = {1}, k[3] = {-5000, 4000, 4000}, v[3] = {9, 1, 2}, y[1];
    int32_t position = 2;
    qk_op op = {.kind = QP_OP_ATTENTION, .live = 1, .dst = f32(y, 1, 1, 1), .p.attention.scale = 1};
    op.src[QP_ATTENTION_Q] = f32(q, 1, 1, 1);
    op.src[QP_ATTENTION_K] = f32(k, 1, 1, 3);
    op.src[QP_ATTENTION_V] = f32(v, 1, 1, 3);
    op.src[QP_ATTENTION_POSITIONS] = tensor(&position, QP_FORMAT_I32, 1, 1, 1);
    qr_run(&op);
    ok(close_to((double)y[0], 1.5), "attention: scores of thousands");
}

/* ---- elementwise ---- */

static void test_activations(void)
{
    /* x, then SILU, GELU, GELU_TANH, RELU, SIGMOID, GELU_QUICK, SOFTPLUS: values from their formulas in Python */
    static const double table[3][8] = {
        {1, 0.7310585786300049, 0.8413447460685429, 0.8411919906082768, 1, 0.7310585786300049, 0.8457957659328212,
         1.3132616875182228},
        {-2.5, -0.18964545005310887, -0.015524163314440398, -0.015084266089998577, 0, 0.07585818002124355, -0.03498616504857008,
         0.07888973429254963},
        {0.3, 0.1723327550434977, 0.18537342665668577, 0.18537092354275922, 0.3, 0.574442516811659, 0.1874841353815917,
         0.8543552444685272},
    };
    for (qp_activation act = QP_ACT_NONE; act <= QP_ACT_SOFTPLUS; act++) {
        int right = 1;
        for (int i = 0; i < 3; i++)
            right = right && fabs(qr_activate(act, table[i][0]) - table[i][act]) < 1e-15;
        ok(right, "activation %u", act);
    }
}

static void test_elementwise(void)
{
    float a[6] = {1, -2, 3, -4, 5, -6}, b[6] = {2, 3, 4, 5, 6, 7}, y[6];
    qk_op op = {.kind = QP_OP_ELEMENTWISE,
                .live = 3,
                .dst = f32(y, 2, 1, 3),
                .p.elementwise = {.act = QP_ACT_RELU, .scale = 2, .offset = 1}};
    static const double want[][6] = {
        {3, 1, 7, 1, 11, 1},
        {2, -6, 12, -20, 30, -42},
        {3, -3, 7, -7, 11, -11},
        {1, 0, 3, 0, 5, 0},
        {2, 0, 12, 0, 30, 0},
        {0.92423431452, -1.52318831191, 1.81029650707, -1.92805516015, 1.97322859630, -1.99010950749}}; /* 2 tanh(a / 2) */
    op.src[0] = f32(a, 2, 1, 3);
    op.src[1] = f32(b, 2, 1, 3);
    for (uint32_t f = QP_ELEMENTWISE_ADD; f <= QP_ELEMENTWISE_SOFTCAP; f++) {
        op.p.elementwise.function = f;
        qr_run(&op);
        ok(all_close(y, want[f], 6), "elementwise: function %u", f);
    }
    op.src[1] = f32(b, 2, 1, 1);
    op.p.elementwise.function = QP_ELEMENTWISE_ADD;
    op.live = 2;
    y[4] = 99;
    qr_run(&op);
    ok(y[0] == 3 && y[1] == 1 && y[2] == 5 && y[3] == -1 && y[4] == 99, "elementwise: one row of b for every row, live rows only");
}

/* ---- copy ---- */

static void test_copy(void)
{
    float x[6] = {1.5f, -1000, 300, NAN, -0.9f, 1e30f}, y[6];
    int8_t small[6];
    uint16_t half[6];
    static const int8_t want[6] = {1, -128, 127, 0, 0, 127};
    qk_op op = {.kind = QP_OP_COPY, .live = 1, .dst = tensor(small, QP_FORMAT_I8, 6, 1, 1)};
    op.src[0] = f32(x, 6, 1, 1);
    qr_run(&op);
    ok(memcmp(small, want, 6) == 0, "copy: F32 to I8 cuts toward zero and stays in range");
    op.dst = tensor(half, QP_FORMAT_F16, 6, 1, 1);
    qr_run(&op);
    ok(half[0] == 0x3e00 && half[5] == 0x7c00 && (half[3] & 0x7fff) > 0x7c00, "copy: F32 to F16");
    op.dst = (qk_tensor){.data = y, .format = QP_FORMAT_F32, .ne = {2, 3, 1, 1}, .nb = {12, 4, 24, 24}}; /* columns become rows */
    op.src[0] = f32(x, 2, 3, 1);
    qr_run(&op);
    ok(y[0] == x[0] && y[3] == x[1] && y[1] == x[2] && y[4] != y[4] && y[2] == x[4] && y[5] == x[5], "copy: transposed");
    int64_t big[2] = {INT64_MAX, INT64_MIN}, same[2];
    op.src[0] = tensor(big, QP_FORMAT_I64, 2, 1, 1);
    op.dst = tensor(same, QP_FORMAT_I64, 2, 1, 1);
    qr_run(&op);
    ok(memcmp(big, same, sizeof big) == 0, "copy: the same format keeps every bit");
    int32_t words[2];
    op.dst = tensor(words, QP_FORMAT_I32, 2, 1, 1);
    qr_run(&op);
    ok(words[0] == INT32_MAX && words[1] == INT32_MIN, "copy: I64 to I32");
}

static void test_copy_blocks(void)
{
    float x[64], back[64];
    char q8[68], q4[36], want[36];
    fill(x, 64);
    qr_quantise(QP_FORMAT_Q8_0, x, q8, 64);
    qr_dequantise(QP_FORMAT_Q8_0, q8, back, 64);
    qr_quantise(QP_FORMAT_Q4_0, back, want, 64);
    qk_op op = {.kind = QP_OP_COPY, .live = 1, .dst = tensor(q4, QP_FORMAT_Q4_0, 64, 1, 1)};
    op.src[0] = tensor(q8, QP_FORMAT_Q8_0, 64, 1, 1);
    qr_run(&op);
    ok(memcmp(q4, want, sizeof q4) == 0, "copy: Q8_0 to Q4_0");
}

/* ---- sample ---- */

static void test_sample(void)
{
    float x[5 * 4] = {1, 3,   3,         2,         NAN,       1,         2,  3,  5,         6,
                      7, NAN, -INFINITY, -INFINITY, -INFINITY, -INFINITY, -1, -2, -INFINITY, INFINITY};
    int32_t ids[5];
    qk_op op = {.kind = QP_OP_SAMPLE, .live = 5, .dst = tensor(ids, QP_FORMAT_I32, 5, 1, 1)};
    op.src[0] = f32(x, 4, 1, 5);
    qr_run(&op);
    ok(ids[0] == 1 && ids[1] == -1 && ids[2] == -1 && ids[3] == 0 && ids[4] == 3, "sample: the lowest of the largest, -1 for NaN");
    op.kind = 1000;
    ok(qr_run(&op) == -1, "an unknown op is refused");
}

/* ---- ops with a state ---- */

/* 7 rows in one go and as 3 + 0 + 4, with a sequence that begins at row 5: against the sums written out over the whole of time. */
static void test_short_conv(void)
{
    enum { C = 3, W = 4, N = 7, BEGIN = 5 };
    float x[N * C], w[C * W], bias[C], memory[(W - 1) * C], kept[(W - 1) * C], y[N * C], once[N * C];
    int32_t positions[N] = {10, 11, 12, 13, 14, 0, 1};
    double want[N * C];
    fill(x, N * C);
    fill(w, C * W);
    fill(bias, C);
    fill(memory, (W - 1) * C);
    for (int r = 0; r < N; r++)
        for (int c = 0; c < C; c++) {
            double sum = (double)bias[c];
            for (int back = 0; back < W; back++) {
                int t = r - back;
                if (r >= BEGIN && t < BEGIN)
                    continue;
                sum += (double)w[c * W + W - 1 - back] * (double)(t < 0 ? memory[(t + W - 1) * C + c] : x[t * C + c]);
            }
            want[r * C + c] = sum / (1 + exp(-sum));
        }
    memcpy(kept, memory, sizeof kept);
    qk_op op = {.kind = QP_OP_SHORT_CONV, .live = N, .dst = f32(once, C, 1, N), .p.short_conv.act = QP_ACT_SILU};
    op.src[QP_SHORT_CONV_X] = f32(x, C, 1, N);
    op.src[QP_SHORT_CONV_W] = f32(w, W, C, 1);
    op.src[QP_SHORT_CONV_BIAS] = f32(bias, C, 1, 1);
    op.src[QP_SHORT_CONV_POSITIONS] = tensor(positions, QP_FORMAT_I32, N, 1, 1);
    op.src[QP_SHORT_CONV_STATE] = f32(kept, C, W - 1, 1);
    qr_run(&op);
    ok(all_close(once, want, N * C), "short_conv: the convolution written out");
    int zeros = 1, last = 1;
    for (int c = 0; c < C; c++) {
        zeros = zeros && kept[c] == 0;
        last = last && kept[C + c] == x[5 * C + c] && kept[2 * C + c] == x[6 * C + c];
    }
    ok(zeros && last, "short_conv: the state holds the last rows, zeros before the sequence");
    for (int first = 0, n = 3, i = 0; i < 3; i++, first += n, n = i == 1 ? 0 : 4) {
        op.dst = f32(y + first * C, C, 1, N - first);
        op.src[QP_SHORT_CONV_X] = f32(x + first * C, C, 1, N - first);
        op.src[QP_SHORT_CONV_POSITIONS] = tensor(positions + first, QP_FORMAT_I32, N - first, 1, 1);
        op.src[QP_SHORT_CONV_STATE] = f32(memory, C, W - 1, 1);
        op.live = n;
        qr_run(&op);
    }
    ok(!memcmp(y, once, sizeof y) && !memcmp(memory, kept, sizeof memory), "short_conv: the same in pieces, none of them included");
}

enum { DK = 5, DV = 3, K_HEADS = 2, V_HEADS = 4, STEPS = 6 };

/* S = exp(g) S (I − beta k kᵀ) + beta v kᵀ with S {V, K}: the matrix form of the paper. */
static void delta_row(double s[DV][DK], const float *q, const float *k, const float *v, double g, double beta, double *out)
{
    double next[DV][DK];
    for (int i = 0; i < DV; i++)
        for (int j = 0; j < DK; j++) {
            double sum = 0;
            for (int l = 0; l < DK; l++)
                sum += s[i][l] * ((l == j) - beta * (double)k[l] * (double)k[j]);
            next[i][j] = exp(g) * sum + beta * (double)v[i] * (double)k[j];
        }
    memcpy(s, next, sizeof next);
    for (int i = 0; i < DV; i++) {
        out[i] = 0;
        for (int j = 0; j < DK; j++)
            out[i] += 0.5 * next[i][j] * (double)q[j];
    }
}

static void test_delta_rule(uint32_t flags)
{
    float q[STEPS * K_HEADS * DK], k[STEPS * K_HEADS * DK], v[STEPS * V_HEADS * DV], g[STEPS * V_HEADS], beta[STEPS * V_HEADS];
    float memory[V_HEADS * DV * DK], y[STEPS * V_HEADS * DV];
    int32_t positions[STEPS] = {7, 8, 9, 0, 1, 2};
    double s[V_HEADS][DV][DK], want[STEPS * V_HEADS * DV], left[V_HEADS * DV * DK];
    fill(q, STEPS * K_HEADS * DK);
    fill(k, STEPS * K_HEADS * DK);
    fill(v, STEPS * V_HEADS * DV);
    fill(g, STEPS * V_HEADS);
    fill(beta, STEPS * V_HEADS);
    fill(memory, V_HEADS * DV * DK);
    for (int i = 0; i < V_HEADS * DV * DK; i++)
        s[i / DK / DV][i % DV][i / DV % DK] = (double)memory[i];
    for (int r = 0; r < STEPS; r++)
        for (int h = 0; h < V_HEADS; h++) {
            int key = (r * K_HEADS + (flags ? h / 2 : h % 2)) * DK;
            if (r == 3)
                memset(s[h], 0, sizeof s[h]);
            delta_row(s[h], q + key, k + key, v + (r * V_HEADS + h) * DV, (double)g[r * V_HEADS + h], (double)beta[r * V_HEADS + h],
                      want + (r * V_HEADS + h) * DV);
        }
    for (int i = 0; i < V_HEADS * DV * DK; i++)
        left[i] = s[i / DK / DV][i % DV][i / DV % DK];
    qk_op op = {.kind = QP_OP_DELTA_RULE, .live = STEPS, .p.delta_rule = {.scale = 0.5f, .flags = flags}};
    op.src[QP_DELTA_RULE_STATE] = f32(memory, DV, DK, V_HEADS);
    for (int first = 0; first < STEPS; first += 2) { /* two rows at a time: the memory goes from one to the next */
        op.dst = f32(y + first * V_HEADS * DV, DV, V_HEADS, 2);
        op.src[QP_DELTA_RULE_Q] = f32(q + first * K_HEADS * DK, DK, K_HEADS, 2);
        op.src[QP_DELTA_RULE_K] = f32(k + first * K_HEADS * DK, DK, K_HEADS, 2);
        op.src[QP_DELTA_RULE_V] = f32(v + first * V_HEADS * DV, DV, V_HEADS, 2);
        op.src[QP_DELTA_RULE_GATE] = f32(g + first * V_HEADS, V_HEADS, 1, 2);
        op.src[QP_DELTA_RULE_BETA] = f32(beta + first * V_HEADS, V_HEADS, 1, 2);
        op.src[QP_DELTA_RULE_POSITIONS] = tensor(positions + first, QP_FORMAT_I32, 2, 1, 1);
        op.live = 2;
        qr_run(&op);
    }
    ok(all_close(y, want, STEPS * V_HEADS * DV), "delta_rule: the matrix form, %s",
       flags ? "key heads in groups" : "key heads in turn");
    ok(all_close(memory, left, V_HEADS * DV * DK), "delta_rule: and the state that is left");
    op.live = 0;
    float same[V_HEADS * DV * DK];
    memcpy(same, memory, sizeof same);
    qr_run(&op);
    ok(!memcmp(same, memory, sizeof same), "delta_rule: no row, no change");
}

/* ---- experts: numbers worked out by hand ---- */

/* Logits of which e^x is 1, 2, 4, …: a softmax over all of them has easy fractions. */
static void route(const float *logits, const float *bias, int experts, int k, qp_expert_route_params p, float *out)
{
    qk_op op = {.kind = QP_OP_EXPERT_ROUTE, .live = 1, .dst = f32(out, k, 2, 1), .p.expert_route = p};
    op.src[QP_EXPERT_ROUTE_LOGITS] = f32((float *)(uintptr_t)logits, experts, 1, 1);
    if (bias)
        op.src[QP_EXPERT_ROUTE_BIAS] = f32((float *)(uintptr_t)bias, experts, 1, 1);
    qr_run(&op);
}

static void test_expert_route(void)
{
    const float ln2 = 0.693147180559945f, x[4] = {0, 2 * ln2, ln2, 0}, bias[4] = {9, 0, 0, 8};
    const float bad[4] = {0, 1, NAN, 2}, grouped[6] = {5, 0, 4, 4, 2, 2}, nothing[4] = {-200, -200, -200, -200};
    float y[8];
    qp_expert_route_params p = {.gate = QP_GATE_SOFTMAX, .scale = 1};
    route(x, NULL, 4, 2, p, y);
    ok(all_close(y, (double[]){0.5, 0.25, 1, 2}, 4), "route: softmax over all, the two largest");
    p.flags = QP_EXPERT_NORMALISE;
    p.scale = 3;
    route(x, NULL, 4, 2, p, y);
    ok(all_close(y, (double[]){2, 1, 1, 2}, 4), "route: their sum becomes 1, then the scale");
    p.gate = QP_GATE_SOFTMAX_CHOSEN;
    p.flags = 0;
    route(x, NULL, 4, 3, p, y);
    ok(all_close(y, (double[]){12. / 7, 6. / 7, 3. / 7, 1, 2, 0}, 6), "route: softmax of the chosen, of equals the first");
    p = (qp_expert_route_params){.gate = QP_GATE_SIGMOID, .scale = 1};
    route(x, bias, 4, 3, p, y);
    ok(all_close(y, (double[]){0.5, 0.5, 0.8, 0, 3, 1}, 6), "route: a bias chooses but does not weigh");
    p.groups = 3;
    p.groups_used = 2;
    route(grouped, NULL, 6, 3, p, y);
    ok(y[3] == 2 && y[4] == 3 && y[5] == 4, "route: groups count by their two best, so the largest logit is left out");
    p = (qp_expert_route_params){.gate = QP_GATE_SIGMOID, .flags = QP_EXPERT_NORMALISE, .scale = 1};
    route(nothing, NULL, 4, 2, p, y);
    ok(all_close(y, (double[]){0.5, 0.5, 0, 1}, 4), "route: tiny weights are divided by their sum");
    route(bad, NULL, 4, 2, p, y);
    ok(isnan(y[0]) && isnan(y[1]) && y[2] == 0 && y[3] == 1, "route: a NaN gives NaN weights and the first experts");
}

static void test_expert_matmul(void)
{
    /* three experts of 2 x 1: rows of W are (1, 10), (2, 20), (3, 30) */
    float w[6] = {1, 10, 2, 20, 3, 30}, x[4] = {1, 2, 3, 4}, bias[6] = {.5f, .25f, 0, 0, -1, -2}, scales[3] = {1, 100, -1};
    float the_route[8] = {2, 3, 0, 2, 4, 5, 7, 1}, y[8], residual[4] = {1, 1, 1, 1}, w2[6] = {1, 1, 1, 1, 1, 1};
    qk_op op = {.kind = QP_OP_EXPERT_MATMUL, .live = 2, .dst = f32(y, 2, 2, 2)};
    op.src[QP_EXPERT_MATMUL_W] = f32(w, 1, 2, 3);
    op.src[QP_EXPERT_MATMUL_X] = f32(x, 1, 1, 2);
    op.src[QP_EXPERT_MATMUL_ROUTE] = f32(the_route, 2, 2, 2);
    qr_run(&op);
    ok(all_close(y, (double[]){1, 10, 3, 30, 0, 0, 4, 40}, 8), "experts: each row by its own, zeros for one that is not there");
    op.src[QP_EXPERT_MATMUL_X] = f32(x, 1, 2, 2);
    op.src[QP_EXPERT_MATMUL_BIAS] = f32(bias, 2, 3, 1);
    op.src[QP_EXPERT_MATMUL_SCALES] = f32(scales, 3, 1, 1);
    qr_run(&op);
    ok(all_close(y, (double[]){1.5, 10.25, -7, -62, 0, 0, 800, 8000}, 8), "experts: an x for each, scales, then biases");
    op.dst = op.src[QP_EXPERT_MATMUL_RESIDUAL] = f32(residual, 2, 1, 2);
    op.src[QP_EXPERT_MATMUL_SCALES] = (qk_tensor){0};
    op.src[QP_EXPERT_MATMUL_W2] = f32(w2, 1, 2, 3);
    op.p.expert_matmul = (qp_expert_matmul_params){
        .act = QP_ACT_SWIGLU_CLAMPED, .flags = QP_EXPERT_SUM, .alpha = 0, .limit = 3.5f}; /* alpha 0: half of g·(u + 1) */
    qr_run(&op);
    /* row 0: 2·(1.5·2/2) + 3·(3.5·3/2); 2·(3.5·2/2) + 3·(3.5·3/2); row 1: 5·(3.5·4.5/2), alike */
    ok(all_close(residual, (double[]){19.75, 23.75, 40.375, 40.375}, 4), "experts: clamped pairs, weighed, on the residual in place");
}

int main(void)
{
    test_get_rows();
    test_norm();
    test_norm_strides();
    test_matmul_plain(QP_FORMAT_F32, 1e-5);
    test_matmul_plain(QP_FORMAT_F16, 5e-2);
    test_matmul_plain(QP_FORMAT_BF16, 5e-1);
    test_matmul_plain(QP_FORMAT_Q8_0, 5e-1);
    test_matmul_plain(QP_FORMAT_Q4_0, 5);
    test_matmul_epilogue();
    test_rope();
    test_kv_append();
    test_attention();
    test_attention_range();
    test_activations();
    test_elementwise();
    test_copy();
    test_copy_blocks();
    test_sample();
    test_short_conv();
    test_delta_rule(0);
    test_delta_rule(QP_DELTA_GROUPED);
    test_expert_route();
    test_expert_matmul();
    return tap_done();
}
