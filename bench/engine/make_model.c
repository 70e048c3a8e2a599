/* SPDX-License-Identifier: MIT */
#include "bench/engine/make_model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 32, MAX_TENSORS = 4096 };

static const bench_shape shapes[] = {
    {"tiny", 2, 256, 768, 4, 2, 64, 4096, 512, 0, 0},
    {"1b", 16, 2048, 8192, 32, 8, 64, 128256, 8192, 0, 0},
    {"3b", 28, 3072, 8192, 24, 8, 128, 128256, 8192, 0, 0},
    {"8b", 32, 4096, 14336, 32, 8, 128, 128256, 8192, 0, 0},
    {"moe", 4, 2048, 768, 32, 4, 128, 32768, 8192, 128, 8},
};

const bench_shape *bench_shape_at(unsigned index)
{
    return index < sizeof shapes / sizeof *shapes ? &shapes[index] : NULL;
}

const bench_shape *bench_shape_find(const char *name)
{
    for (unsigned i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (!strcmp(shapes[i].name, name))
            return &shapes[i];
    return NULL;
}

double bench_shape_parameters(const bench_shape *s)
{
    double q = (double)s->heads * s->head_size, kv = (double)s->kv_heads * s->head_size, e = s->embedding;
    double inner = 3 * e * s->feed_forward * (s->experts ? s->used : 1) + e * s->experts;
    return s->layers * (e * (q + 2 * kv) + q * e + inner) + e * s->vocabulary;
}

typedef struct tensor {
    char name[64];
    qp_format format;
    uint64_t ne0, ne1, ne2, bytes, offset;
} tensor;

typedef struct writer {
    FILE *file;
    tensor tensors[MAX_TENSORS];
    unsigned count;
    uint64_t state;
} writer;

static uint64_t next(writer *w)
{
    w->state ^= w->state << 13;
    w->state ^= w->state >> 7;
    w->state ^= w->state << 17;
    return w->state;
}

static void put(writer *w, const void *data, size_t size) { fwrite(data, 1, size, w->file); }
static void put_u32(writer *w, uint32_t v) { put(w, &v, 4); }
static void put_u64(writer *w, uint64_t v) { put(w, &v, 8); }

static void put_string(writer *w, const char *s)
{
    put_u64(w, strlen(s));
    put(w, s, strlen(s));
}

static void kv_u32(writer *w, const char *key, uint32_t v)
{
    put_string(w, key);
    put_u32(w, 4);
    put_u32(w, v);
}

static void kv_f32(writer *w, const char *key, float v)
{
    put_string(w, key);
    put_u32(w, 6);
    put(w, &v, 4);
}

static void kv_string(writer *w, const char *key, const char *v)
{
    put_string(w, key);
    put_u32(w, 8);
    put_string(w, v);
}

static const struct {
    const char *name;
    unsigned elements, bytes;
} formats[QP_FORMAT_LIMIT] = {
#define FORMAT(name, number, elements, bytes, quantised) [number] = {#name, elements, bytes},
    QP_FORMAT_LIST(FORMAT)
#undef FORMAT
};

static uint64_t row_bytes(qp_format format, uint64_t n) { return n / formats[format].elements * formats[format].bytes; }

/* rows of ne1·ne2 */
static void add_stack(writer *w, qp_format format, uint64_t ne0, uint64_t ne1, uint64_t ne2, const char *name)
{
    tensor *t = &w->tensors[w->count], *last = w->count ? t - 1 : NULL;
    w->count++;
    *t = (tensor){.format = format, .ne0 = ne0, .ne1 = ne1, .ne2 = ne2, .bytes = row_bytes(format, ne0) * ne1 * ne2};
    snprintf(t->name, sizeof t->name, "%s", name);
    t->offset = last ? (last->offset + last->bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT : 0;
}

static void add(writer *w, qp_format format, uint64_t ne0, uint64_t ne1, const char *name)
{
    add_stack(w, format, ne0, ne1, 1, name);
}

static void add_layer(writer *w, const bench_shape *s, qp_format f, qp_format more, unsigned layer)
{
    uint64_t e = s->embedding, q = (uint64_t)s->heads * s->head_size, kv = (uint64_t)s->kv_heads * s->head_size;
    uint64_t n = s->experts ? s->experts : 1;
    const char *part = s->experts ? "_exps" : "";
    const struct { const char *name, *part; qp_format format; uint64_t ne0, ne1, ne2; } rows[] = {
        {"attn_norm", "", QP_FORMAT_F32, e, 1, 1}, {"attn_q", "", f, e, q, 1}, {"attn_k", "", f, e, kv, 1},
        {"attn_v", "", more, e, kv, 1}, {"attn_output", "", f, q, e, 1}, {"ffn_norm", "", QP_FORMAT_F32, e, 1, 1},
        {"ffn_gate", part, f, e, s->feed_forward, n}, {"ffn_up", part, f, e, s->feed_forward, n},
        {"ffn_down", part, more, s->feed_forward, e, n}, {"ffn_gate_inp", "", QP_FORMAT_F32, e, s->experts, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.%s%s.weight", layer, rows[i].name, rows[i].part);
        if (rows[i].ne1)
            add_stack(w, rows[i].format, rows[i].ne0, rows[i].ne1, rows[i].ne2, name);
    }
}

static uint16_t half(float f) /* cut, not rounded; not above 65504 */
{
    uint32_t bits;
    memcpy(&bits, &f, 4);
    if ((bits & 0x7fffffff) < 0x38800000)
        return (uint16_t)((bits >> 16 & 0x8000) | (uint32_t)((f < 0 ? -f : f) * 0x1p24f));
    return (uint16_t)((bits >> 16 & 0x8000) | (((bits & 0x7fffffff) - 0x38000000) >> 13));
}

/* Where a block has its binary16 scales, and what to divide by so that random bits around them are of about standard deviation 1. */
typedef struct scales {
    qp_format format;
    int d, min;
    float divisor;
} scales;
static const scales scales_of[] = {
    {QP_FORMAT_Q4_0, 0, -1, 4.6f},    {QP_FORMAT_Q4_1, 0, 2, 4.6f},     {QP_FORMAT_Q5_0, 0, -1, 9.2f},   {QP_FORMAT_Q5_1, 0, 2, 9.2f},
    {QP_FORMAT_Q8_0, 0, -1, 74},      {QP_FORMAT_Q2_K, 80, 82, 12},     {QP_FORMAT_Q3_K, 108, -1, 42},   {QP_FORMAT_Q4_K, 0, 2, 180},
    {QP_FORMAT_Q5_K, 0, 2, 360},      {QP_FORMAT_Q6_K, 208, -1, 1360},  {QP_FORMAT_IQ4_NL, 0, -1, 74},   {QP_FORMAT_IQ4_XS, 0, -1, 1360},
    {QP_FORMAT_TQ2_0, 64, -1, 1.2f},  {QP_FORMAT_MXFP4, -1, -1, 1},
};

static const scales *find_scales(qp_format format)
{
    for (size_t i = 0; i < sizeof scales_of / sizeof *scales_of; i++)
        if (scales_of[i].format == format)
            return &scales_of[i];
    return NULL;
}

static void fill_blocks(writer *w, const tensor *t, unsigned char *row, float scale)
{
    const scales *s = find_scales(t->format);
    uint64_t bytes = t->bytes / (t->ne1 * t->ne2), block = formats[t->format].bytes;
    uint16_t d = half(scale / s->divisor), least = t->format == QP_FORMAT_Q4_1 || t->format == QP_FORMAT_Q5_1 ? half(-1.7f * scale) : d;
    for (uint64_t i = 0; i < bytes; i += 8) {
        uint64_t r = next(w);
        memcpy(row + i, &r, 8); /* the buffer is longer than any row */
    }
    for (uint64_t i = 0; i < bytes; i += block) {
        if (s->d < 0)
            row[i] = 120; /* 2^-8 */
        else
            memcpy(row + i + s->d, &d, 2);
        if (s->min >= 0)
            memcpy(row + i + s->min, &least, 2);
    }
}

int bench_can_make(qp_format format)
{
    return format == QP_FORMAT_F32 || format == QP_FORMAT_F16 || format == QP_FORMAT_BF16 || find_scales(format);
}

/* Uniform numbers with standard deviation 1/√ne0, in the row's format. */
static void fill_row(writer *w, const tensor *t, unsigned char *row)
{
    float scale = 1.0f;
    for (uint64_t n = t->ne0; n > 1; n >>= 2)
        scale *= 0.5f;
    if (t->format == QP_FORMAT_F32) {
        float *x = (float *)(void *)row;
        for (uint64_t i = 0; i < t->ne0; i++)
            x[i] = t->ne1 == 1 ? 1.0f : scale * ((float)(int32_t)next(w) * 0x1p-30f);
    } else if (t->format == QP_FORMAT_F16 || t->format == QP_FORMAT_BF16) {
        uint16_t *x = (uint16_t *)(void *)row;
        for (uint64_t i = 0; i < t->ne0; i++) {
            float v = scale * (float)((int)(next(w) >> 40 & 255) * 2 - 255) / 148.0f;
            uint32_t bits;
            memcpy(&bits, &v, 4);
            x[i] = t->format == QP_FORMAT_F16 ? half(v) : (uint16_t)(bits >> 16);
        }
    } else {
        fill_blocks(w, t, row, scale);
    }
}

static void write_header(writer *w, const bench_shape *s)
{
    put(w, "GGUF", 4);
    put_u32(w, 3);
    put_u64(w, w->count);
    put_u64(w, s->experts ? 16 : 13);
    kv_string(w, "general.architecture", "llama");
    kv_string(w, "general.name", s->name);
    kv_u32(w, "llama.context_length", s->context);
    kv_u32(w, "llama.embedding_length", s->embedding);
    kv_u32(w, "llama.block_count", s->layers);
    kv_u32(w, "llama.feed_forward_length", s->feed_forward);
    kv_u32(w, "llama.attention.head_count", s->heads);
    kv_u32(w, "llama.attention.head_count_kv", s->kv_heads);
    kv_u32(w, "llama.attention.key_length", s->head_size);
    kv_u32(w, "llama.attention.value_length", s->head_size);
    kv_f32(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    kv_u32(w, "llama.vocab_size", s->vocabulary); /* other engines ask for it where there is no vocabulary */
    kv_string(w, "tokenizer.ggml.model", "no_vocab");
    if (s->experts) {
        kv_u32(w, "llama.expert_count", s->experts);
        kv_u32(w, "llama.expert_used_count", s->used);
        kv_u32(w, "llama.expert_feed_forward_length", s->feed_forward);
    }
    for (unsigned i = 0; i < w->count; i++) {
        const tensor *t = &w->tensors[i];
        put_string(w, t->name);
        put_u32(w, t->ne2 != 1 ? 3 : t->ne1 != 1 ? 2 : 1);
        put_u64(w, t->ne0);
        if (t->ne1 != 1)
            put_u64(w, t->ne1);
        if (t->ne2 != 1)
            put_u64(w, t->ne2);
        put_u32(w, t->format);
        put_u64(w, t->offset);
    }
}

static int write_data(writer *w)
{
    unsigned char *row = malloc(1 << 20);
    if (!row)
        return -1;
    long base = (ftell(w->file) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    for (unsigned i = 0; i < w->count; i++) {
        const tensor *t = &w->tensors[i];
        fseek(w->file, base + (long)t->offset, SEEK_SET);
        for (uint64_t r = 0; r < t->ne1 * t->ne2; r++) {
            fill_row(w, t, row);
            put(w, row, t->bytes / (t->ne1 * t->ne2));
        }
    }
    free(row);
    return ferror(w->file) ? -1 : 0;
}

int bench_make_model(const char *path, const bench_shape *shape, qp_format format, int mixed)
{
    writer *w = calloc(1, sizeof *w);
    if (!w)
        return -1;
    w->state = 0x2545f4914f6cdd1du;
    w->file = fopen(path, "wb");
    if (!w->file) {
        free(w);
        return -1;
    }
    unsigned n = shape->layers;
    add(w, mixed ? QP_FORMAT_Q6_K : format, shape->embedding, shape->vocabulary, "token_embd.weight");
    add(w, QP_FORMAT_F32, shape->embedding, 1, "output_norm.weight");
    for (unsigned i = 0; i < n; i++) { /* the first and last eighth of the layers, and every third of the others */
        int more = mixed && (i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2);
        add_layer(w, shape, format, more ? QP_FORMAT_Q6_K : format, i);
    }
    write_header(w, shape);
    int result = write_data(w);
    if (fclose(w->file))
        result = -1;
    if (result)
        remove(path);
    free(w);
    return result;
}
