/* SPDX-License-Identifier: MIT
 * tests/gguf_builder.h: writes GGUF bytes, right or wrong ones, into memory. Nothing here checks anything. */
#ifndef TESTS_GGUF_BUILDER_H
#define TESTS_GGUF_BUILDER_H

#include <quern/engine.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct builder {
    unsigned char *data;
    size_t size, capacity;
} builder;

static inline void put(builder *b, const void *bytes, size_t size)
{
    if (b->size + size > b->capacity) {
        b->capacity = (b->size + size) * 2;
        b->data = realloc(b->data, b->capacity);
        if (!b->data) {
            fprintf(stderr, "no memory\n");
            exit(1);
        }
    }
    if (size)
        memcpy(b->data + b->size, bytes, size);
    b->size += size;
}

static inline void put_zeros(builder *b, size_t size)
{
    for (size_t i = 0; i < size; i++)
        put(b, "", 1);
}

/* clang-format off */
static inline void put_u8(builder *b, uint8_t x) { put(b, &x, sizeof x); }
static inline void put_u32(builder *b, uint32_t x) { put(b, &x, sizeof x); }
static inline void put_u64(builder *b, uint64_t x) { put(b, &x, sizeof x); }
static inline void put_f32(builder *b, float x) { put(b, &x, sizeof x); }
/* clang-format on */

static inline void put_string(builder *b, const char *text)
{
    put_u64(b, strlen(text));
    put(b, text, strlen(text));
}

static inline void put_header(builder *b, uint32_t version, uint64_t tensors, uint64_t entries)
{
    put(b, "GGUF", 4);
    put_u32(b, version);
    put_u64(b, tensors);
    put_u64(b, entries);
}

static inline void put_key(builder *b, const char *key, uint32_t type)
{
    put_string(b, key);
    put_u32(b, type);
}

static inline void put_kv_u32(builder *b, const char *key, uint32_t value)
{
    put_key(b, key, QUERN_GGUF_UINT32);
    put_u32(b, value);
}

static inline void put_kv_bool(builder *b, const char *key, uint8_t value)
{
    put_key(b, key, QUERN_GGUF_BOOL);
    put_u8(b, value);
}

static inline void put_kv_string(builder *b, const char *key, const char *value)
{
    put_key(b, key, QUERN_GGUF_STRING);
    put_string(b, value);
}

static inline void put_kv_array(builder *b, const char *key, uint32_t type, uint64_t count)
{
    put_key(b, key, QUERN_GGUF_ARRAY);
    put_u32(b, type);
    put_u64(b, count);
}

static inline void put_kv_strings(builder *b, const char *key, const char *const *values, size_t count)
{
    put_kv_array(b, key, QUERN_GGUF_STRING, count);
    for (size_t i = 0; i < count; i++)
        put_string(b, values[i]);
}

static inline void put_kv_floats(builder *b, const char *key, const float *values, size_t count)
{
    put_kv_array(b, key, QUERN_GGUF_FLOAT32, count);
    put(b, values, count * sizeof *values);
}

static inline void put_kv_ints(builder *b, const char *key, const int32_t *values, size_t count)
{
    put_kv_array(b, key, QUERN_GGUF_INT32, count);
    put(b, values, count * sizeof *values);
}

static inline void put_tensor(builder *b, const char *name, uint32_t dims, const uint64_t *ne, uint32_t format, uint64_t offset)
{
    put_string(b, name);
    put_u32(b, dims);
    for (uint32_t i = 0; i < dims; i++)
        put_u64(b, ne[i]);
    put_u32(b, format);
    put_u64(b, offset);
}

static inline void put_padding(builder *b, size_t alignment)
{
    while (b->size % alignment)
        put_u8(b, 0);
}

static inline void builder_free(builder *b)
{
    free(b->data);
    *b = (builder){0};
}

#endif
