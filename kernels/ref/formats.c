/* SPDX-License-Identifier: MIT
 * kernels/ref/formats.c: one row for each format that the reference can convert. A new one is a row and its pair of functions. */
#include "kernels/common/dequantise.h"
#include "kernels/ref/access.h"

#include <math.h>

/* ---- formats of single elements: through double, which holds them all but the last bits of a 64-bit integer ---- */

static double f32_load(const void *src)
{
    float value;
    memcpy(&value, src, sizeof value);
    return (double)value;
}

static void f32_store(void *dst, double value)
{
    float rounded = (float)value;
    memcpy(dst, &rounded, sizeof rounded);
}

static double f64_load(const void *src)
{
    double value;
    memcpy(&value, src, sizeof value);
    return value;
}

static void f64_store(void *dst, double value)
{
    memcpy(dst, &value, sizeof value);
}

/* The 16-bit floats are rounded from float: from F64 that is two roundings, as in every device that we know. */
static double f16_load(const void *src)
{
    uint16_t bits;
    memcpy(&bits, src, sizeof bits);
    return (double)qk_f32_from_f16(bits);
}

static void f16_store(void *dst, double value)
{
    uint16_t bits = qk_f16_from_f32((float)value);
    memcpy(dst, &bits, sizeof bits);
}

static double bf16_load(const void *src)
{
    uint16_t bits;
    memcpy(&bits, src, sizeof bits);
    return (double)qk_f32_from_bf16(bits);
}

static void bf16_store(void *dst, double value)
{
    uint16_t bits = qk_bf16_from_f32((float)value);
    memcpy(dst, &bits, sizeof bits);
}

/* Integers: toward zero as C converts, but what does not fit becomes the nearest that does, and NaN becomes 0. */
#define QR_INTEGER(name, type, low, high)            \
    static double name##_load(const void *src)       \
    {                                                \
        type value;                                  \
        memcpy(&value, src, sizeof value);           \
        return (double)value;                        \
    }                                                \
    static void name##_store(void *dst, double from) \
    {                                                \
        type value;                                  \
        if (from != from)                            \
            value = 0;                               \
        else if (from <= (double)(low))              \
            value = (low);                           \
        else if (from >= (double)(high))             \
            value = (high);                          \
        else                                         \
            value = (type)from;                      \
        memcpy(dst, &value, sizeof value);           \
    }
QR_INTEGER(i8, int8_t, INT8_MIN, INT8_MAX)
QR_INTEGER(i16, int16_t, INT16_MIN, INT16_MAX)
QR_INTEGER(i32, int32_t, INT32_MIN, INT32_MAX)
QR_INTEGER(i64, int64_t, INT64_MIN, INT64_MAX)

/* ---- formats of blocks: they are read by kernels/common/dequantise.c, and some are written here ---- */

/* 1/d for the quantisers; 0 where the block is all zeros or so small that 1/d overflows (d is then 0 in binary16 anyway). */
static float inverse(float d)
{
    float id = 1.0f / d;
    return d == 0 || isinf(id) ? 0.0f : id;
}

/* The element that is furthest from zero, the first of equals; NaN when one of them is not finite. */
static float extreme(const float *x, int n)
{
    float best = 0;
    for (int i = 0; i < n; i++) {
        if (!isfinite(x[i]))
            return NAN;
        if (fabsf(x[i]) > fabsf(best))
            best = x[i];
    }
    return best;
}

/* x/d + 8.5 with one rounding, cut to 0…15. */
static unsigned q4_0_quant(float x, float id)
{
    float shifted = (float)((double)x * (double)id + 8.5);
    return shifted >= 15 ? 15u : shifted <= 0 ? 0u : (unsigned)shifted;
}

/* The extreme element maps to −8, so that all sixteen steps are in use. A block that is not finite gets d = NaN and quants of 0,
 * whose value (−8·NaN) shows it. */
static void q4_0_encode(const float *src, void *dst)
{
    qk_block_q4_0 block = {0};
    float d = extreme(src, 32) / -8.0f;
    block.d = qk_f16_from_f32(d);
    if (d == d) {
        float id = inverse(d);
        for (int i = 0; i < 16; i++)
            block.qs[i] = (uint8_t)(q4_0_quant(src[i], id) | q4_0_quant(src[i + 16], id) << 4);
    }
    memcpy(dst, &block, sizeof block);
}

/* d = max|x|/127, quants rounded half away from zero. A block that is not finite gets d = NaN. */
static void q8_0_encode(const float *src, void *dst)
{
    qk_block_q8_0 block = {0};
    float d = fabsf(extreme(src, 32)) / 127.0f;
    block.d = qk_f16_from_f32(d);
    if (d == d) {
        float id = inverse(d);
        for (int i = 0; i < 32; i++)
            block.qs[i] = (int8_t)roundf(src[i] * id);
    }
    memcpy(dst, &block, sizeof block);
}

/* ---- the table ---- */

static const qr_format formats[QP_FORMAT_LIMIT] = {
    [QP_FORMAT_F32] = {.load = f32_load, .store = f32_store},
    [QP_FORMAT_F16] = {.load = f16_load, .store = f16_store},
    [QP_FORMAT_BF16] = {.load = bf16_load, .store = bf16_store},
    [QP_FORMAT_F64] = {.load = f64_load, .store = f64_store},
    [QP_FORMAT_I8] = {.load = i8_load, .store = i8_store},
    [QP_FORMAT_I16] = {.load = i16_load, .store = i16_store},
    [QP_FORMAT_I32] = {.load = i32_load, .store = i32_store},
    [QP_FORMAT_I64] = {.load = i64_load, .store = i64_store},
#define BLOCKS(name, lower) [QP_FORMAT_##name] = {.decode = qk_decode_##lower},
    QK_BLOCK_FORMATS(BLOCKS)
#undef BLOCKS
    [QP_FORMAT_Q4_0].encode = q4_0_encode,
    [QP_FORMAT_Q8_0].encode = q8_0_encode,
};

const qr_format *qr_format_of(qp_format format)
{
    const qr_format *f = format < QP_FORMAT_LIMIT ? &formats[format] : NULL;
    return f && (f->load || f->decode) ? f : NULL;
}

int qr_dequantise(qp_format format, const void *src, float *dst, int64_t n)
{
    const qr_format *f = qr_format_of(format);
    if (!f || (!f->load && !f->decode))
        return -1;
    const char *from = src;
    int64_t elements = qk_block_elements(format), bytes = qk_block_bytes(format);
    for (int64_t i = 0; i < n; i += elements, from += bytes) {
        if (f->decode)
            f->decode(from, dst + i);
        else
            dst[i] = (float)f->load(from);
    }
    return 0;
}

int qr_quantise(qp_format format, const float *src, void *dst, int64_t n)
{
    const qr_format *f = qr_format_of(format);
    if (!f || (!f->store && !f->encode))
        return -1;
    char *to = dst;
    int64_t elements = qk_block_elements(format), bytes = qk_block_bytes(format);
    for (int64_t i = 0; i < n; i += elements, to += bytes) {
        if (f->encode)
            f->encode(src + i, to);
        else
            f->store(to, (double)src[i]);
    }
    return 0;
}

/* ---- strided rows ---- */

void qr_load(const qk_tensor *t, const char *row, int64_t begin, int64_t n, double *dst)
{
    const qr_format *f = qr_format_of(t->format);
    int64_t elements = qk_block_elements(t->format);
    const char *block = row + begin / elements * t->nb[0];
    float values[QR_MAX_BLOCK];
    for (int64_t i = 0; i < n; i += elements, block += t->nb[0]) {
        if (f->load) {
            dst[i] = f->load(block);
            continue;
        }
        f->decode(block, values);
        for (int64_t j = 0; j < elements; j++)
            dst[i + j] = (double)values[j];
    }
}

void qr_store(const qk_tensor *t, char *row, int64_t begin, int64_t n, const double *src)
{
    const qr_format *f = qr_format_of(t->format);
    int64_t elements = qk_block_elements(t->format);
    char *block = row + begin / elements * t->nb[0];
    float values[QR_MAX_BLOCK];
    for (int64_t i = 0; i < n; i += elements, block += t->nb[0]) {
        if (f->store) {
            f->store(block, src[i]);
            continue;
        }
        for (int64_t j = 0; j < elements; j++)
            values[j] = (float)src[i + j];
        f->encode(values, block);
    }
}

double qr_dot(const qk_tensor *w, const char *w_row, const qk_tensor *x, const char *x_row, int64_t n)
{
    double sum = 0, values[QR_MAX_BLOCK];
    for (int64_t begin = 0; begin < n; begin += QR_MAX_BLOCK) {
        int64_t count = n - begin < QR_MAX_BLOCK ? n - begin : QR_MAX_BLOCK;
        qr_load(w, w_row, begin, count, values);
        for (int64_t i = 0; i < count; i++)
            sum += values[i] * (double)qr_f32(x, x_row, begin + i);
    }
    return sum;
}
