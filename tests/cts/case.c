/* SPDX-License-Identifier: MIT
 * Building cases: tensors, values, ops. case_run.c runs and compares them. */
#include "tests/cts/case.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *format_name(qp_format format)
{
    switch (format) {
#define CASE(name, number, elements, bytes, quantised)                                                                             \
    case number: return #name;
        QP_FORMAT_LIST(CASE)
#undef CASE
    default: return "?";
    }
}

int required_format(qp_format format)
{
    return format == QP_FORMAT_F32 || format == QP_FORMAT_F16 || format == QP_FORMAT_BF16 || format == QP_FORMAT_Q8_0 ||
           format == QP_FORMAT_Q4_0;
}

/* Makes the image longer. What is new holds NaN in F32, F16 and BF16, with random low bits, so that reading it shows. */
static void extend(cts_case *c, uint64_t used)
{
    static uint8_t once[CASE_IMAGE];   /* making it takes longer than most cases */
    cts source = {.random = 0x6e616e}; /* not the case's: the first case would have other numbers than the same one later */
    if (!once[3])
        for (size_t i = 0; i < CASE_IMAGE; i += 4) {
            uint32_t word = 0x7fc07e00u | (uint32_t)(cts_random(&source) & 0xff00ff);
            memcpy(once + i, &word, 4);
        }
    if (used > CASE_IMAGE - 65536)
        abort(); /* a case too large: a mistake in this suite */
    memcpy(c->image + c->used, once + c->used, used - c->used);
    memset(c->written + c->used, 0, used - c->used);
    c->used = used;
}

/* The images of the case before: the C library fills what it gives and takes with a pattern where it is asked to, as meson does. */
static uint8_t *spare;

cts_case *case_new(cts *t)
{
    cts_case *c = calloc(1, sizeof *c);
    uint8_t *bytes = c && spare ? spare : c ? malloc(6 * (size_t)CASE_IMAGE) : NULL;
    spare = bytes == spare ? NULL : spare;
    if (!bytes) {
        free(c);
        ok(0, "no memory for a case");
        return NULL;
    }
    c->t = t;
    c->runs = 1;
    c->also = -1;
    uint8_t **images[] = {&c->image, &c->before, &c->after, &c->expected, &c->coarse, &c->written};
    for (size_t i = 0; i < sizeof images / sizeof *images; i++)
        *images[i] = bytes + i * CASE_IMAGE;
    if (t->backend->buffer_create(t->device, t->info.weight_heap, CASE_IMAGE, &c->pool, cts_words(t)) != QP_OK) {
        ok(0, "no buffer for a case: %s", t->words);
        free(bytes);
        free(c);
        return NULL;
    }
    uint64_t alignment = t->info.heaps[t->info.weight_heap].alignment;
    c->step_offset = (CASE_SIDE + alignment - 1) / alignment * alignment;
    extend(c, c->step_offset + CASE_STEP + CASE_SIDE);
    return c;
}

void case_free(cts_case *c)
{
    if (!c)
        return;
    for (int i = 0; i < c->tensor_count; i++)
        free(c->tensors[i].gguf);
    c->t->backend->buffer_destroy(c->pool);
    if (spare)
        free(c->image);
    else
        spare = c->image;
    free(c);
}

static int add_tensor(cts_case *c, const qp_tensor *tensor)
{
    if (c->tensor_count == CASE_TENSORS)
        abort(); /* a mistake in this suite */
    c->tensors[c->tensor_count].tensor = *tensor;
    return c->tensor_count++;
}

static uint64_t reserve(cts_case *c, uint64_t size, uint64_t alignment)
{
    uint64_t heap = c->t->info.heaps[c->t->info.weight_heap].alignment;
    alignment = alignment > heap ? alignment : heap;
    uint64_t offset = (c->used + alignment - 1) / alignment * alignment;
    extend(c, offset + size + CASE_SIDE + (uint64_t)cts_between(c->t, 0, 3) * alignment);
    return offset;
}

int case_tensor(cts_case *c, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2, case_style style)
{
    qp_tensor t = {.buffer = c->pool, .format = format, .ne = {ne0, ne1, ne2, 1}};
    int64_t block = qk_block_bytes(format), row = ne0 / qk_block_elements(format) * block, gap = 0, start = 0;
    if (style == SPACED) {
        /* Whole numbers of 4 bytes for plain numbers, whole blocks else. */
        int64_t unit = qk_block_elements(format) > 1 ? block : 4;
        gap = cts_between(c->t, 0, 5) * unit;
        start = cts_between(c->t, 0, 3) * unit;
        row = (row + unit - 1) / unit * unit;
    }
    t.nb[0] = block;
    t.nb[1] = row + (ne1 > 1 ? gap : 0);
    t.nb[2] = t.nb[1] * ne1 + gap;
    t.nb[3] = t.nb[2] * ne2;
    t.offset = reserve(c, (uint64_t)(t.nb[3] + start), 1) + (uint64_t)start;
    return add_tensor(c, &t);
}

int case_part(cts_case *c, int whole, uint64_t offset, int64_t ne0, int64_t ne1, int64_t ne2, int64_t nb1, int64_t nb2)
{
    qp_tensor t = c->tensors[whole].tensor;
    t.offset += offset;
    t.ne[0] = ne0;
    t.ne[1] = ne1;
    t.ne[2] = ne2;
    t.nb[1] = nb1;
    t.nb[2] = nb2;
    t.nb[3] = nb2 * ne2;
    return add_tensor(c, &t);
}

int case_ints(cts_case *c, const int32_t *values, int64_t n)
{
    qp_tensor t = {.buffer = c->pool, .format = QP_FORMAT_I32, .ne = {n, 1, 1, 1}, .nb = {4, 4 * n, 4 * n, 4 * n}};
    t.offset = c->step_offset + c->step_used;
    c->step_used += (uint64_t)n * 4 + (uint64_t)cts_between(c->t, 0, 3) * 4;
    if (c->step_used > CASE_STEP)
        abort();
    memcpy(c->image + t.offset, values, (size_t)n * 4);
    int i = add_tensor(c, &t);
    c->tensors[i].step = 1;
    return i;
}

float *case_floats(cts_case *c, int tensor, int64_t i1, int64_t i2)
{
    const qp_tensor *t = &c->tensors[tensor].tensor;
    return (float *)(void *)(c->image + t->offset + (uint64_t)(i1 * t->nb[1] + i2 * t->nb[2])); /* offsets are multiples of 4 */
}

/* ---- values ---- */

static float random_float(cts *t, case_fill_kind kind)
{
    switch (kind) {
    case ZERO: return 0;
    case SMALL: return (float)(0.1 * cts_normal(t));
    case SHIFTED: return (float)(1000 + cts_normal(t));
    case LOUD: return (float)(1e5 * cts_normal(t));
    case FAINT: return (float)(1e-6 * cts_normal(t));
    case EXTREME:
        switch (cts_between(t, 0, 9)) {
        case 0: return 0;
        case 1: return -0.0f;
        case 2: return (float)(1e-40 * cts_normal(t)); /* subnormal */
        case 3: return (float)(1e-12 * cts_normal(t));
        case 4: return (float)(100 * cts_normal(t));
        case 5: return cts_between(t, 0, 40) ? 1 : (float)(3000 * cts_normal(t));
        default: return (float)cts_normal(t);
        }
    default: return (float)cts_normal(t);
    }
}

/* Random bytes until they mean numbers of a sensible size: for formats that the reference reads but does not write. */
static int random_raw_block(cts *t, qp_format format, uint8_t *block)
{
    float values[256];
    for (int tries = 0; tries < 2000; tries++) {
        for (uint32_t i = 0, n = qk_block_bytes(format); i < n; i += 8) {
            uint64_t word = cts_random(t);
            memcpy(block + i, &word, n - i < 8 ? n - i : 8);
        }
        if (qr_dequantise(format, block, values, qk_block_elements(format)))
            return -1;
        double most = 0;
        for (uint32_t i = 0; i < qk_block_elements(format); i++)
            most = fabs((double)values[i]) <= 20 ? fmax(most, fabs((double)values[i])) : HUGE_VAL;
        if (most > 0.05 && most <= 20)
            return 0;
    }
    return -1;
}

int case_random_blocks(cts *t, qp_format format, case_fill_kind kind, void *dst, int64_t n)
{
    uint32_t elements = qk_block_elements(format), bytes = qk_block_bytes(format);
    float values[256] = {0};
    uint8_t any[256];
    int raw = format != QP_FORMAT_F32 && qr_quantise(format, values, any, elements);
    if (!t->computes) { /* what the values are is nothing to a null device */
        memset(dst, 0x3c, (size_t)(n / elements * bytes));
        return 0;
    }
    for (int64_t i = 0; i < n / elements; i++) {
        uint8_t *block = (uint8_t *)dst + (uint64_t)i * bytes;
        for (uint32_t j = 0; j < elements && !raw; j++)
            values[j] = random_float(t, kind);
        if (format == QP_FORMAT_F32)
            memcpy(block, values, bytes);
        else if (raw ? random_raw_block(t, format, block) : qr_quantise(format, values, block, elements))
            return -1;
    }
    return 0;
}

void case_fill(cts_case *c, int tensor, case_fill_kind kind)
{
    const qp_tensor *t = &c->tensors[tensor].tensor;
    for (int64_t i2 = 0; i2 < t->ne[2]; i2++)
        for (int64_t i1 = 0; i1 < t->ne[1]; i1++)
            case_random_blocks(c->t, t->format, kind, c->image + t->offset + (uint64_t)(i1 * t->nb[1] + i2 * t->nb[2]), t->ne[0]);
}

int case_experts(cts_case *c, qp_format format, int64_t k, int64_t m, int64_t experts, uint32_t uses)
{
    cts *t = c->t;
    case_tensor_info w = {.packed = 1};
    w.tensor = (qp_tensor){.buffer = c->pool, .format = format, .ne = {k, m, experts, 1}};
    int64_t row = k / qk_block_elements(format) * qk_block_bytes(format);
    w.tensor.nb[0] = qk_block_bytes(format);
    w.tensor.nb[1] = row;
    w.tensor.nb[2] = row * m;
    w.tensor.nb[3] = row * m * experts;
    w.desc = (qp_weight_desc){.struct_size = sizeof w.desc, .format = format, .uses = uses, .ne = {k, m, experts, 1}};
    w.info.struct_size = sizeof w.info;
    w.gguf_bytes = (uint64_t)(row * m * experts);
    w.gguf = malloc(w.gguf_bytes);
    if (!w.gguf)
        abort();
    case_random_blocks(t, format, SMALL, w.gguf, k * m * experts);
    if (t->backend->weight_layout(t->device, &w.desc, &w.info, cts_words(t)) != QP_OK) {
        snprintf(c->why, sizeof c->why, "weight_layout: %s", t->words);
        w.info.bytes = w.gguf_bytes;
    }
    w.tensor.layout = w.info.layout;
    if (w.info.bytes < CASE_IMAGE / 2 && w.info.alignment <= 65536)
        w.tensor.offset = reserve(c, w.info.bytes, w.info.alignment ? w.info.alignment : 1);
    else
        snprintf(c->why, sizeof c->why, "weight_layout asks for %llu bytes at a multiple of %llu", (unsigned long long)w.info.bytes,
                 (unsigned long long)w.info.alignment);
    int i = add_tensor(c, &w.tensor);
    c->tensors[i] = w;
    return i;
}

int case_weight(cts_case *c, qp_format format, int64_t k, int64_t m, uint32_t uses)
{
    return case_experts(c, format, k, m, 1, uses);
}

/* ---- ops ---- */

qp_op *case_op(cts_case *c, qp_op_kind kind, int dst, const int *src, int src_count)
{
    if (c->op_count == CASE_OPS)
        abort();
    int n = c->op_count++;
    qp_op *op = &c->ops[n];
    *op = (qp_op){.struct_size = sizeof *op, .kind = kind, .version = 1, .tag = 1000 + (uint32_t)n, .dst = c->tensors[dst].tensor};
    c->dst[n] = dst;
    c->live[n] = -1;
    for (int i = 0; i < QP_OP_SOURCES; i++) {
        c->src[n][i] = i < src_count ? src[i] : -1;
        if (c->src[n][i] >= 0)
            op->src[i] = c->tensors[src[i]].tensor;
    }
    return op;
}

void case_live(cts_case *c, int32_t live)
{
    int n = c->op_count - 1;
    c->live[n] = case_ints(c, &live, 1);
    c->ops[n].live = c->tensors[c->live[n]].tensor;
}

void case_random_live(cts_case *c, int64_t rows)
{
    switch (cts_between(c->t, 0, 9)) {
    case 0: case_live(c, 0); break;
    case 1: case_live(c, 1); break;
    case 2: case_live(c, (int32_t)rows); break;
    case 3: case_live(c, -3); break;
    case 4: case_live(c, (int32_t)rows + 5); break;
    case 5:
    case 6: case_live(c, (int32_t)cts_between(c->t, 0, rows)); break;
    default: break;
    }
}
