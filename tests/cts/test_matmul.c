/* SPDX-License-Identifier: MIT
 * Matmul against the reference: every format, ragged shapes, the whole epilogue, hard values. */
#include "tests/cts/case.h"

#include <math.h>
#include <string.h>

static const qp_format formats[] = {
#define NUMBER(name, number, elements, bytes, quantised) number,
    QP_FORMAT_LIST(NUMBER)
#undef NUMBER
};
enum { FORMATS = sizeof formats / sizeof *formats, ROUNDS = 24 };

static int is_float(qp_format format)
{
    return format == QP_FORMAT_F32 || format == QP_FORMAT_F16 || format == QP_FORMAT_BF16;
}

static int known(qp_format format)
{
    float out[256];
    uint8_t block[256] = {0};
    return (is_float(format) || qk_block_elements(format) > 1) && qr_dequantise(format, block, out, qk_block_elements(format)) == 0;
}

/* Against exactly dequantised weights. A device may round activations to the weights' own 16-bit type; what int8 activations
 * cost is measured (case_error.coarse) and allowed for separately. */
static double bound(qp_format format)
{
    if (format == QP_FORMAT_F32)
        return 1e-10;
    if (format == QP_FORMAT_BF16)
        return 4e-6;
    return 1e-6;
}

typedef struct shape {
    int64_t k, m, rows;
} shape;

static shape random_shape(cts *t, qp_format format)
{
    static const int64_t odd[] = {1, 2, 15, 16, 17, 31, 33, 48, 63, 64, 65, 100, 129, 200};
    int64_t block = qk_block_elements(format);
    shape s = {.k = block > 1 ? block * cts_between(t, 1, block > 32 ? 4 : 20) : odd[cts_between(t, 0, 13)] * cts_between(t, 1, 4)};
    s.m = odd[cts_between(t, 0, 13)];
    s.rows = cts_between(t, 0, 1) ? 1 : odd[cts_between(t, 0, cts_between(t, 0, 3) ? 5 : 10)];
    return s;
}

static int weight(cts_case *c, qp_format format, shape s, int packed)
{
    if (packed)
        return case_weight(c, format, s.k, s.m, QP_WEIGHT_MATMUL | (cts_between(c->t, 0, 3) ? 0 : QP_WEIGHT_ROWS));
    int w = case_tensor(c, format, s.k, s.m, 1, PLAIN);
    case_fill(c, w, SMALL);
    return w;
}

static int vector(cts_case *c, int64_t n, int64_t rows, case_style style)
{
    int v = case_tensor(c, QP_FORMAT_F32, n, 1, rows, style);
    case_fill(c, v, NORMAL);
    return v;
}

static cts_case *plain_case(cts *t, qp_format format, int packed, uint32_t flags, case_fill_kind fill, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    shape s = random_shape(t, format);
    int src[2] = {weight(c, format, s, packed),
                  case_tensor(c, QP_FORMAT_F32, s.k, 1, s.rows, cts_between(t, 0, 1) ? SPACED : PLAIN)};
    case_fill(c, src[1], fill);
    *dst = case_tensor(c, QP_FORMAT_F32, s.m, 1, s.rows, cts_between(t, 0, 1) ? SPACED : PLAIN);
    qp_op *op = case_op(c, QP_OP_MATMUL, *dst, src, 2);
    op->p.matmul = (qp_matmul_params){.scale = 1, .bias_scale = 1, .scale2 = 1, .bias_scale2 = 1, .flags = flags};
    case_random_live(c, s.rows);
    return c;
}

void test_op_matmul(cts *t)
{
    for (int f = 0; f < FORMATS; f++) {
        if (!known(formats[f])) {
            if (qk_block_elements(formats[f]) > 1)
                cts_skip("the reference has no such conversion", "%s weights", format_name(formats[f]));
            continue;
        }
        for (int packed = 0; packed < 2; packed++)
            for (uint32_t flags = 0; flags <= (is_float(formats[f]) ? 0 : QP_MATMUL_FLOAT); flags++) {
                tally y = {.pool_bound = 1e-4}; /* a case of few values may be worse where they cancel out */
                for (int i = 0; i < rounds(t, ROUNDS); i++) {
                    int dst = 0;
                    cts_case *c = plain_case(t, formats[f], packed, flags, NORMAL, &dst);
                    tally_case(&y, c, dst, bound(formats[f]), flags ? 0 : 4);
                }
                tally_point(t, &y, required_format(formats[f]) && packed, "%s weights, %s%s", format_name(formats[f]),
                            packed ? "laid out by the device" : "as on disk", flags ? ", float activations" : "");
            }
    }
}

static cts_case *epilogue_case(cts *t, qp_format format, qp_activation act, int gated, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    shape s = random_shape(t, format);
    int src[6] = {weight(c, format, s, 1), vector(c, s.k, s.rows, SPACED), -1, -1, -1, -1};
    if (cts_between(t, 0, 1))
        src[QP_MATMUL_BIAS] = vector(c, s.m, 1, PLAIN);
    if (cts_between(t, 0, 1))
        src[QP_MATMUL_RESIDUAL] = vector(c, s.m, s.rows, cts_between(t, 0, 1) ? SPACED : PLAIN);
    if (gated) {
        src[QP_MATMUL_W2] = weight(c, format, s, 1);
        if (cts_between(t, 0, 1))
            src[QP_MATMUL_BIAS2] = vector(c, s.m, 1, PLAIN);
    }
    *dst = src[QP_MATMUL_RESIDUAL] >= 0 && cts_between(t, 0, 1) ? src[QP_MATMUL_RESIDUAL]
                                                                : case_tensor(c, QP_FORMAT_F32, s.m, 1, s.rows, SPACED);
    qp_op *op = case_op(c, QP_OP_MATMUL, *dst, src, 6);
    op->p.matmul = (qp_matmul_params){.scale = 0.5f, .bias_scale = 2, .scale2 = -1.5f, .bias_scale2 = 0.25f, .act = act};
    if (cts_between(t, 0, 2) == 0)
        op->p.matmul.scale = op->p.matmul.bias_scale = op->p.matmul.scale2 = op->p.matmul.bias_scale2 = 1;
    case_random_live(c, s.rows);
    return c;
}

void test_op_matmul_epilogue(cts *t)
{
    static const char *const acts[] = {"no activation", "SiLU",    "GELU",         "GELU (tanh)",
                                       "ReLU",          "sigmoid", "GELU (quick)", "softplus"};
    static const qp_format some[] = {QP_FORMAT_F32, QP_FORMAT_F16, QP_FORMAT_BF16, QP_FORMAT_Q8_0, QP_FORMAT_Q4_0};
    for (size_t f = 0; f < sizeof some / sizeof *some; f++)
        for (int gated = 0; gated < 2; gated++)
            for (qp_activation act = QP_ACT_NONE; act <= QP_ACT_SOFTPLUS; act++) {
                tally y = {0};
                for (int i = 0; i < 6; i++) {
                    int dst = 0;
                    cts_case *c = epilogue_case(t, some[f], act, gated, &dst);
                    tally_case(&y, c, dst, 4 * bound(some[f]), 4);
                }
                tally_point(t, &y, 1, "%s, %s%s, with and without bias and residual", format_name(some[f]), acts[act],
                            gated ? ", gated pair" : "");
            }
}

/* A NaN or an infinity in one row must show in that row and in no other. */
static void spoilt_row(cts *t, qp_format format, float value)
{
    cts_case *c = case_new(t);
    if (!c)
        return;
    shape s = {.k = 64 * cts_between(t, 1, 3), .m = cts_between(t, 1, 40), .rows = 5};
    int src[2] = {weight(c, format, s, 1), vector(c, s.k, s.rows, PLAIN)},
        dst = case_tensor(c, QP_FORMAT_F32, s.m, 1, s.rows, PLAIN);
    case_floats(c, src[1], 0, 2)[cts_between(t, 0, s.k - 1)] = value;
    case_op(c, QP_OP_MATMUL, dst, src, 2)->p.matmul = (qp_matmul_params){.scale = 1};
    case_result result = case_run(c);
    if (result == CASE_REFUSED || !t->computes) {
        cts_skip(result == CASE_REFUSED ? c->why : "a null device computes nothing", "%s, a row with %f", format_name(format),
                 (double)value);
    } else {
        int finite = 0, spoilt = 0;
        for (int64_t r = 0; r < s.rows && result == CASE_RAN; r++)
            for (int64_t i = 0; i < s.m; i++) {
                float got;
                memcpy(&got, c->after + c->tensors[dst].tensor.offset + (uint64_t)(r * s.m + i) * 4, 4);
                finite += r == 2 && isfinite(got);
                spoilt += r != 2 && !isfinite(got);
            }
        ok(result == CASE_RAN && !finite && !spoilt,
           "%s: a row with %f shows it (%d values hide it), and no other row does (%d) %s", format_name(format), (double)value,
           finite, spoilt, c->why);
    }
    case_free(c);
}

/* One row of W has no stride: that it is 0 says nothing of where the row ends. */
static cts_case *single_row(cts *t, qp_format format, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    int64_t k = 32 * cts_between(t, 1, 9), rows = cts_between(t, 1, 5);
    int w = case_tensor(c, format, k, 1, 1, PLAIN);
    case_fill(c, w, SMALL);
    *dst = case_tensor(c, QP_FORMAT_F32, 1, 1, rows, PLAIN);
    int src[2] = {case_part(c, w, 0, k, 1, 1, 0, 0), vector(c, k, rows, PLAIN)};
    case_op(c, QP_OP_MATMUL, *dst, src, 2)->p.matmul =
        (qp_matmul_params){.scale = 1, .bias_scale = 1, .scale2 = 1, .bias_scale2 = 1};
    return c;
}

/* Weights beyond what a kernel may hold them in: in 16-bit floats, where their own format has larger numbers, or smaller ones. */
static void far_weights(cts *t, qp_format format, case_fill_kind fill, const char *what)
{
    tally y = {0};
    for (int i = 0; i < rounds(t, ROUNDS); i++) {
        int dst = 0;
        cts_case *c = plain_case(t, format, 0, 0, NORMAL, &dst);
        if (c)
            case_fill(c, c->src[0][0], fill);
        tally_case(&y, c, dst, bound(format), 4);
    }
    tally_point(t, &y, 1, "%s, weights of %s", format_name(format), what);
}

/* Blocks of the largest magnitude, all of one sign, so that nothing cancels out; every third row of 16-bit floats has one such
 * number among the smallest there are. */
static void fill_largest(qp_format format, int64_t row, int64_t n, uint8_t *to)
{
    for (int64_t i = 0; i < n; i += qk_block_elements(format), to += qk_block_bytes(format)) {
        uint16_t most = format == QP_FORMAT_BF16 ? 0x7149 : 0x7bff; /* 1e30, 65504 */
        uint16_t small = row % 3 == 2 && i % 48 ? 1 : most;
        memset(to, format == QP_FORMAT_Q8_0 ? 0x80 : 0, qk_block_bytes(format)); /* −128; −8 in Q4_0 */
        memcpy(to, is_float(format) ? &small : &most, 2);
    }
}

static cts_case *largest_case(cts *t, qp_format format, int *dst)
{
    cts_case *c = case_new(t);
    if (!c)
        return NULL;
    shape s = {.k = 64 * cts_between(t, 1, 3), .m = cts_between(t, 20, 70), .rows = cts_between(t, 9, 20)};
    int src[2] = {case_tensor(c, format, s.k, s.m, 1, PLAIN), case_tensor(c, QP_FORMAT_F32, s.k, 1, s.rows, PLAIN)};
    const qp_tensor *w = &c->tensors[src[0]].tensor;
    for (int64_t i = 0; i < s.m; i++)
        fill_largest(format, i, s.k, c->image + w->offset + (uint64_t)(i * w->nb[1]));
    for (int64_t r = 0; r < s.rows; r++)
        for (int64_t i = 0; i < s.k; i++) /* just below a power of two, the most that is brought to the same magnitude */
            case_floats(c, src[1], 0, r)[i] = ldexpf(r % 4 == 3 && i % 2 ? -1.5f : 1.99999f, (int)(r % 3) * 20 - 20);
    *dst = case_tensor(c, QP_FORMAT_F32, s.m, 1, s.rows, PLAIN);
    case_op(c, QP_OP_MATMUL, *dst, src, 2)->p.matmul = (qp_matmul_params){.scale = 1};
    return c;
}

void test_op_matmul_extreme(cts *t)
{
    static const qp_format some[] = {QP_FORMAT_F32, QP_FORMAT_F16, QP_FORMAT_BF16, QP_FORMAT_Q8_0, QP_FORMAT_Q4_0};
    for (size_t f = 0; f < sizeof some / sizeof *some; f++) {
        tally extreme = {0}, zero = {0}, largest = {0};
        for (int i = 0; i < rounds(t, ROUNDS); i++) {
            int dst = 0;
            cts_case *c = plain_case(t, some[f], 1, 0, EXTREME, &dst);
            tally_case(&extreme, c, dst, bound(some[f]), 4);
            c = plain_case(t, some[f], 1, 0, ZERO, &dst);
            tally_case(&zero, c, dst, 0, 0);
            c = some[f] == QP_FORMAT_F32 ? NULL : largest_case(t, some[f], &dst);
            if (c)
                tally_case(&largest, c, dst, bound(some[f]), 4);
        }
        tally_point(t, &extreme, 1, "%s, activations of many magnitudes", format_name(some[f]));
        tally_point(t, &zero, 1, "%s, activations all zero", format_name(some[f]));
        if (some[f] != QP_FORMAT_F32)
            tally_point(t, &largest, 1, "%s, numbers of the largest magnitude", format_name(some[f]));
        tally single = {0};
        for (int i = 0; i < 4 && is_float(some[f]); i++) {
            int dst = 0;
            cts_case *c = single_row(t, some[f], &dst);
            tally_case(&single, c, dst, 1e-4, 4); /* of few numbers, which may be near 0; a wrong end of the row is far off */
        }
        if (is_float(some[f]))
            tally_point(t, &single, 0, "%s, one row of W with a stride of 0", format_name(some[f]));
        spoilt_row(t, some[f], NAN);
        spoilt_row(t, some[f], INFINITY);
        if (some[f] != QP_FORMAT_F16)
            far_weights(t, some[f], LOUD, "a hundred thousand");
        if (some[f] == QP_FORMAT_F32 || some[f] == QP_FORMAT_BF16)
            far_weights(t, some[f], FAINT, "a millionth");
    }
}
