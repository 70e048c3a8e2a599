/* SPDX-License-Identifier: MIT
 * The small ops against the reference: rows, norms, rope, cache, elementwise, copy, sample. */
#include "tests/cts/case.h"

#include <math.h>
#include <string.h>

enum { ROUNDS = 20 };

static const qp_format all_formats[] = {
#define NUMBER(name, number, elements, bytes, quantised) number,
    QP_FORMAT_LIST(NUMBER)
#undef NUMBER
};
enum { FORMATS = sizeof all_formats / sizeof *all_formats };

static case_style any_style(cts *t)
{
    return cts_between(t, 0, 1) ? SPACED : PLAIN;
}

/* Does the reference read the format? */
static int known(qp_format format)
{
    float out[256];
    uint8_t block[256] = {0};
    return qr_dequantise(format, block, out, qk_block_elements(format)) == 0;
}

/* ---- get_rows ---- */

static cts_case *get_rows_case(cts *t, qp_format format, int packed, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t block = qk_block_elements(format), n = block * cts_between(t, 1, block > 1 ? 5 : 150),
            table_rows = cts_between(t, 1, 70);
    int64_t rows = cts_between(t, 1, 9);
    int32_t ids[9];
    for (int64_t r = 0; r < rows; r++)
        ids[r] = (int32_t)cts_between(t, -1, table_rows); /* both ends lie outside */
    if (cts_between(t, 0, 3) == 0)
        ids[0] = cts_between(t, 0, 1) ? INT32_MAX : INT32_MIN;
    int table;
    if (packed) {
        uint32_t uses = QP_WEIGHT_ROWS | (cts_between(t, 0, 1) ? QP_WEIGHT_MATMUL : 0);
        table = case_weight(c, format, n, table_rows, uses);
    } else {
        table = case_tensor(c, format, n, table_rows, 1, SPACED);
        case_fill(c, table, format == QP_FORMAT_F32 ? EXTREME : NORMAL);
    }
    int src[2] = {table, case_ints(c, ids, rows)};
    *dst = case_tensor(c, QP_FORMAT_F32, n, 1, rows, any_style(t));
    qp_op *op = case_op(c, QP_OP_GET_ROWS, *dst, src, 2);
    op->p.get_rows.scale = cts_between(t, 0, 1) ? 1 : 11.3137f;
    case_random_live(c, rows);
    return c;
}

void test_op_get_rows(cts *t)
{
    for (int f = 0; f < FORMATS; f++) {
        if (!known(all_formats[f])) {
            cts_skip("the reference has no such conversion", "rows of %s tables", format_name(all_formats[f]));
            continue;
        }
        for (int packed = 0; packed < 2; packed++) {
            tally y = {0};
            for (int i = 0; i < rounds(t, ROUNDS); i++) {
                int dst = 0;
                cts_case *c = get_rows_case(t, all_formats[f], packed, &dst);
                tally_case(&y, c, dst, 1e-13, 0);
            }
            tally_point(t, &y, required_format(all_formats[f]), "rows of %s tables, %s", format_name(all_formats[f]),
                        packed ? "laid out by the device" : "as on disk");
        }
    }
}

/* ---- norm ---- */

static cts_case *norm_case(cts *t, uint32_t kind, case_fill_kind fill, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t n = cts_between(t, 1, cts_between(t, 0, 3) ? 130 : 3000), heads = cts_between(t, 0, 1) ? 1 : cts_between(t, 2, 7),
            rows = cts_between(t, 1, 6);
    int x = case_tensor(c, QP_FORMAT_F32, n, heads, rows, any_style(t)), src[3] = {x, -1, -1};
    case_fill(c, x, fill);
    if (cts_between(t, 0, 3))
        case_fill(c, src[QP_NORM_WEIGHT] = case_tensor(c, QP_FORMAT_F32, n, 1, 1, PLAIN), NORMAL);
    if (kind == QP_NORM_LAYER && cts_between(t, 0, 3))
        case_fill(c, src[QP_NORM_BIAS] = case_tensor(c, QP_FORMAT_F32, n, 1, 1, PLAIN), NORMAL);
    *dst = cts_between(t, 0, 2) ? case_tensor(c, QP_FORMAT_F32, n, heads, rows, any_style(t)) : x;
    qp_op *op = case_op(c, QP_OP_NORM, *dst, src, 3);
    op->p.norm = (qp_norm_params){
        .kind = kind, .eps = cts_between(t, 0, 1) ? 1e-5f : 1e-6f, .weight_offset = cts_between(t, 0, 3) ? 0 : 1.0f};
    case_random_live(c, rows);
    return c;
}

void test_op_norm(cts *t)
{
    static const char *const names[] = {"RMS", "layer", "L2"};
    static const struct {
        case_fill_kind fill;
        const char *name;
        double bound;
    } fills[] = {{NORMAL, "normal", 1e-11}, {EXTREME, "extreme", 1e-11}, {ZERO, "zero", 1e-11}, {SHIFTED, "shifted by 1000", 1e-6}};
    for (uint32_t kind = QP_NORM_RMS; kind <= QP_NORM_L2; kind++)
        for (size_t f = 0; f < sizeof fills / sizeof *fills; f++) {
            tally y = {0};
            for (int i = 0; i < rounds(t, ROUNDS); i++) {
                int dst = 0;
                cts_case *c = norm_case(t, kind, fills[f].fill, &dst);
                tally_case(&y, c, dst, fills[f].bound, 0);
            }
            tally_point(t, &y, 1, "%s norm of %s values", names[kind], fills[f].name);
        }
}

/* ---- rope ---- */

enum { ROPE_PLAIN, ROPE_LINEAR, ROPE_FACTORS, ROPE_YARN, ROPE_KINDS };

static cts_case *rope_case(cts *t, uint32_t mode, int kind, int32_t farthest, int *dst)
{
    static const int64_t sizes[] = {2, 16, 64, 80, 96, 112, 128, 256, 36};
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t size = sizes[cts_between(t, 0, 8)], heads = cts_between(t, 1, 9), rows = cts_between(t, 1, 6);
    int64_t n_dims = cts_between(t, 0, 2) ? size : 2 * cts_between(t, 1, size / 2);
    int32_t positions[6];
    for (int64_t r = 0; r < rows; r++)
        positions[r] = (int32_t)cts_between(t, 0, farthest);
    int x = case_tensor(c, QP_FORMAT_F32, size, heads, rows, any_style(t)), src[3] = {x, case_ints(c, positions, rows), -1};
    case_fill(c, x, NORMAL);
    if (kind == ROPE_FACTORS) {
        src[QP_ROPE_FACTORS] = case_tensor(c, QP_FORMAT_F32, n_dims / 2, 1, 1, PLAIN);
        for (int64_t i = 0; i < n_dims / 2; i++)
            case_floats(c, src[QP_ROPE_FACTORS], 0, 0)[i] = (float)(1 + 31 * cts_uniform(t));
    }
    *dst = cts_between(t, 0, 1) ? case_tensor(c, QP_FORMAT_F32, size, heads, rows, any_style(t)) : x;
    qp_op *op = case_op(c, QP_OP_ROPE, *dst, src, 3);
    op->p.rope = (qp_rope_params){.mode = mode,
                                  .n_dims = (uint32_t)n_dims,
                                  .freq_base = cts_between(t, 0, 1) ? 10000 : 500000,
                                  .freq_scale = 1,
                                  .attn_factor = 1,
                                  .beta_fast = 32,
                                  .beta_slow = 1,
                                  .original_context = 4096};
    if (kind == ROPE_LINEAR || kind == ROPE_YARN)
        op->p.rope.freq_scale = 0.25f;
    if (kind == ROPE_YARN) {
        op->p.rope.ext_factor = 1;
        op->p.rope.attn_factor = (float)(0.8 + 0.4 * cts_uniform(t));
        op->p.rope.flags = cts_between(t, 0, 1) ? QP_ROPE_EXACT_RAMP : 0;
    }
    case_random_live(c, rows);
    return c;
}

void test_op_rope(cts *t)
{
    static const char *const modes[] = {"normal", "neox"}, *const kinds[] = {"plain", "linear scaling", "frequency factors",
                                                                             "YaRN"};
    for (uint32_t mode = QP_ROPE_NORMAL; mode <= QP_ROPE_NEOX; mode++) {
        for (int kind = 0; kind < ROPE_KINDS; kind++) {
            tally y = {0};
            for (int i = 0; i < rounds(t, ROUNDS); i++) {
                int dst = 0;
                cts_case *c = rope_case(t, mode, kind, 4095, &dst);
                tally_case(&y, c, dst, 1e-6, 0);
            }
            tally_point(t, &y, 1, "%s rope, %s, positions below 4096", modes[mode], kinds[kind]);
        }
        tally y = {0};
        for (int i = 0; i < rounds(t, ROUNDS); i++) {
            int dst = 0;
            cts_case *c = rope_case(t, mode, ROPE_PLAIN, 131071, &dst);
            tally_case(&y, c, dst, 1e-4, 0); /* an angle of 1e5 in float is good to 4e-3 */
        }
        tally_point(t, &y, 1, "%s rope, positions below 131072", modes[mode]);
    }
}

/* ---- KV append ---- */

static cts_case *kv_append_case(cts *t, qp_format format, case_fill_kind fill, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t block = qk_block_elements(format), size = block > 1 ? block * cts_between(t, 1, 4) : cts_between(t, 1, 130);
    int64_t heads = cts_between(t, 1, 5), rows = cts_between(t, 1, 8), cells = cts_between(t, 8, 40);
    int32_t at[8];
    int32_t start = (int32_t)cts_between(t, -3, cells); /* some fall outside at either end */
    for (int64_t r = 0; r < rows; r++)
        at[r] = start + (int32_t)(rows - 1 - r); /* different cells, not in order */
    int src[2] = {case_tensor(c, QP_FORMAT_F32, size, heads, rows, any_style(t)), case_ints(c, at, rows)};
    case_fill(c, src[0], fill);
    *dst = case_tensor(c, format, size, heads, cells, any_style(t));
    case_fill(c, *dst, NORMAL);
    case_op(c, QP_OP_KV_APPEND, *dst, src, 2);
    case_random_live(c, rows);
    return c;
}

/* How far a conversion may be from the reference's: one rounding of the format. */
static double conversion_bound(qp_format format)
{
    switch (format) {
    case QP_FORMAT_F32: return 0;
    case QP_FORMAT_F16: return 1e-9; /* nearest even is asked for: only subnormals may be flushed */
    case QP_FORMAT_BF16: return 1e-9;
    default: return 1e-5; /* a tie may fall either way */
    }
}

void test_op_kv_append(cts *t)
{
    static const qp_format formats[] = {QP_FORMAT_F32, QP_FORMAT_F16, QP_FORMAT_BF16, QP_FORMAT_Q8_0, QP_FORMAT_Q4_0};
    for (size_t f = 0; f < sizeof formats / sizeof *formats; f++) {
        tally y = {0};
        for (int i = 0; i < rounds(t, 2 * ROUNDS); i++) {
            int dst = 0;
            cts_case *c = kv_append_case(t, formats[f], i % 2 ? EXTREME : NORMAL, &dst);
            tally_case(&y, c, dst, conversion_bound(formats[f]), 0);
        }
        tally_point(t, &y, formats[f] != QP_FORMAT_Q4_0, "KV append to %s", format_name(formats[f]));
    }
}

/* ---- elementwise ---- */

static cts_case *elementwise_case(cts *t, uint32_t function, qp_activation act, case_fill_kind fill, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t n = cts_between(t, 1, 300), heads = cts_between(t, 0, 1) ? 1 : cts_between(t, 2, 5), rows = cts_between(t, 1, 7);
    int two = function == QP_ELEMENTWISE_ADD || function == QP_ELEMENTWISE_MUL || function == QP_ELEMENTWISE_GLU;
    int64_t b_rows = cts_between(t, 0, 2) ? rows : 1;
    int a = case_tensor(c, QP_FORMAT_F32, n, heads, rows, any_style(t)), src[2] = {a, -1};
    case_fill(c, a, fill);
    if (two)
        case_fill(c, src[1] = case_tensor(c, QP_FORMAT_F32, n, heads, b_rows, any_style(t)), fill);
    int64_t place = cts_between(t, 0, 2);
    *dst = place == 0                            ? a
           : place == 1 && two && b_rows == rows ? src[1]
                                                 : case_tensor(c, QP_FORMAT_F32, n, heads, rows, any_style(t));
    qp_op *op = case_op(c, QP_OP_ELEMENTWISE, *dst, src, 2);
    op->p.elementwise = (qp_elementwise_params){.function = function, .act = act, .scale = 30, .offset = (float)cts_normal(t)};
    if (act == QP_ACT_SWIGLU_CLAMPED) { /* alpha and limit */
        op->p.elementwise.scale = 1.702f;
        op->p.elementwise.offset = 1.5f;
    }
    case_random_live(c, rows);
    return c;
}

void test_op_elementwise(cts *t)
{
    static const char *const functions[] = {"a + b", "a times b", "scale a + offset", "activation", "gated pair", "soft cap"};
    static const char *const acts[] = {"none", "SiLU", "GELU", "GELU (tanh)", "ReLU", "sigmoid", "GELU (quick)", "softplus"};
    for (uint32_t function = QP_ELEMENTWISE_ADD; function <= QP_ELEMENTWISE_SOFTCAP; function++)
        for (qp_activation act = QP_ACT_NONE; act <= QP_ACT_SOFTPLUS; act++) {
            int with_act = function == QP_ELEMENTWISE_ACT || function == QP_ELEMENTWISE_GLU;
            if (!with_act && act)
                break;
            tally y = {0};
            for (int i = 0; i < rounds(t, ROUNDS); i++) {
                int dst = 0;
                cts_case *c = elementwise_case(t, function, act, i % 3 == 0 ? EXTREME : NORMAL, &dst);
                tally_case(&y, c, dst, with_act || function == QP_ELEMENTWISE_SOFTCAP ? 1e-10 : 1e-13, 0);
            }
            tally_point(t, &y, 1, "%s%s%s", functions[function], with_act ? " " : "", with_act ? acts[act] : "");
        }
    tally clamped = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        int dst = 0;
        cts_case *c = elementwise_case(t, QP_ELEMENTWISE_GLU, QP_ACT_SWIGLU_CLAMPED, i % 3 == 0 ? EXTREME : NORMAL, &dst);
        tally_case(&clamped, c, dst, 1e-10, 0);
    }
    tally_point(t, &clamped, 1, "gated pair, clamped SwiGLU");
}

/* ---- copy ---- */

static cts_case *copy_case(cts *t, qp_format from, qp_format to, uint32_t search, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t a = qk_block_elements(from), b = qk_block_elements(to), block = a > b ? a : b;
    int64_t n = block > 1 ? block * cts_between(t, 1, 4) : cts_between(t, 1, 200), heads = cts_between(t, 1, 4),
            rows = cts_between(t, 1, 6);
    int src = case_tensor(c, from, n, heads, rows, any_style(t));
    case_fill(c, src, NORMAL);
    *dst = case_tensor(c, to, n, heads, rows, any_style(t));
    case_op(c, QP_OP_COPY, *dst, &src, 1)->p.copy.search = search;
    case_random_live(c, rows);
    return c;
}

void test_op_copy(cts *t)
{
    static const qp_format formats[] = {QP_FORMAT_F32, QP_FORMAT_F16, QP_FORMAT_BF16, QP_FORMAT_Q8_0, QP_FORMAT_Q4_0};
    enum { N = sizeof formats / sizeof *formats };
    for (int i = 0; i < N * N; i++) {
        qp_format from = formats[i / N], to = formats[i % N];
        tally y = {0};
        for (int round = 0; round < 8; round++) {
            int dst = 0;
            cts_case *c = copy_case(t, from, to, 0, &dst);
            if (from == to)
                tally_exact(&y, c, dst);
            else
                tally_case(&y, c, dst, to == QP_FORMAT_Q4_0 ? 1e-3 : conversion_bound(to), 0);
        }
        tally_point(t, &y, qk_block_elements(from) == 1 && qk_block_elements(to) == 1, "copy of %s to %s", format_name(from),
                    format_name(to));
    }
}

/* Two quantisers of weights need not find the same scales: they may differ by twice the error that a good one makes. */
static double search_bound(qp_format format)
{
    uint32_t bits = qk_block_bytes(format) * 80 / qk_block_elements(format); /* tenths */
    return bits < 25 ? 0.7 : bits < 30 ? 0.3 : bits < 40 ? 0.09 : bits < 52 ? 0.03 : bits < 62 ? 0.008 : 0.002;
}

void test_op_copy_search(cts *t)
{
    static const qp_format formats[] = {QP_FORMAT_Q4_0, QP_FORMAT_Q4_1,   QP_FORMAT_Q5_0,   QP_FORMAT_Q5_1,  QP_FORMAT_Q8_0,
                                        QP_FORMAT_Q2_K, QP_FORMAT_Q3_K,   QP_FORMAT_Q4_K,   QP_FORMAT_Q5_K,  QP_FORMAT_Q6_K,
                                        QP_FORMAT_F16,  QP_FORMAT_IQ4_NL, QP_FORMAT_IQ4_XS, QP_FORMAT_MXFP4, QP_FORMAT_TQ2_0};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        tally y = {0};
        for (int round = 0; round < 4; round++) {
            int dst = 0;
            cts_case *c = copy_case(t, round ? QP_FORMAT_F32 : QP_FORMAT_Q6_K, formats[i], 1, &dst);
            int same = formats[i] == QP_FORMAT_Q6_K && !round;
            if (same)
                tally_exact(&y, c, dst);
            else
                tally_case(&y, c, dst, formats[i] == QP_FORMAT_F16 ? conversion_bound(formats[i]) : search_bound(formats[i]), 0);
        }
        tally_point(t, &y, 0, "copy to %s with a search for scales", format_name(formats[i]));
    }
}

/* ---- sample ---- */

static cts_case *sample_case(cts *t, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t n = cts_between(t, 1, cts_between(t, 0, 2) ? 300 : 20000), rows = cts_between(t, 1, 5);
    int src = case_tensor(c, QP_FORMAT_F32, n, 1, rows, any_style(t));
    case_fill(c, src, cts_between(t, 0, 2) ? NORMAL : EXTREME);
    for (int64_t r = 0; r < rows; r++) {
        float *row = case_floats(c, src, 0, r);
        switch (cts_between(t, 0, 4)) {
        case 0: row[cts_between(t, 0, n - 1)] = NAN; break;
        case 1: /* the largest several times */
            for (int i = 0; i < 4; i++)
                row[cts_between(t, 0, n - 1)] = 50000;
            break;
        case 2: row[cts_between(t, 0, n - 1)] = INFINITY; break;
        case 3:
            for (int64_t i = 0; i < n; i++)
                row[i] = -INFINITY;
            break;
        default: break;
        }
    }
    *dst = case_tensor(c, QP_FORMAT_I32, rows, 1, 1, PLAIN);
    case_op(c, QP_OP_SAMPLE, *dst, &src, 1)->p.sample.kind = QP_SAMPLE_GREEDY;
    case_random_live(c, rows);
    return c;
}

void test_op_sample(cts *t)
{
    tally y = {0};
    for (int i = 0; i < rounds(t, 2 * ROUNDS); i++) {
        int dst = 0;
        cts_case *c = sample_case(t, &dst);
        tally_exact(&y, c, dst);
    }
    tally_point(t, &y, 1, "greedy: the lowest of the largest, -1 where there is a NaN");
}
