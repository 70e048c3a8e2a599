/* SPDX-License-Identifier: MIT
 * engine/gguf.h: what a GGUF file's header looks like in memory; for the reader, the writer and the tokenizers. */
#ifndef QUERN_ENGINE_GGUF_H
#define QUERN_ENGINE_GGUF_H

#include "engine/hash.h"
#include <quern/engine.h>

enum {
    GGUF_TYPES = 13,
    GGUF_MAX_NAME = 127,
    GGUF_MAX_KEY = 65535,
    GGUF_MIN_ALIGNMENT = 8,
    GGUF_MAX_ALIGNMENT = 1 << 20,
    GGUF_DEFAULT_ALIGNMENT = 32
};

/* Where a metadata value lies in quern_gguf.head. */
typedef struct gguf_value {
    uint64_t offset;   /* of a number or an array's first element; of a string's length */
    uint64_t size;     /* bytes, lengths of strings included */
    uint32_t *strings; /* of an array of strings: where each one's length lies */
} gguf_value;

struct quern_gguf {
    char *path;
    int fd; /* -1: memory */
    const unsigned char *memory;
    uint64_t size; /* of the file */
    uint32_t version;
    uint32_t alignment;
    uint64_t data_start; /* tensor data */

    /* A private copy of the header, so that nothing depends on what the file becomes while it is open. Keys and names are
     * terminated in place: the byte after each belongs to a field that has been read. */
    unsigned char *head;
    uint64_t head_size;

    quern_gguf_kv *kvs;
    gguf_value *values; /* one for each of kvs */
    uint64_t kv_count;
    hash_index kv_index;

    quern_gguf_tensor *tensors;
    uint64_t tensor_count;
    hash_index tensor_index;
};

/* Bytes of a number; 0 for strings, arrays and numbers that no type has. */
uint32_t gguf_type_size(uint32_t type);
const char *gguf_type_name(uint32_t type);

/* Bytes [offset, offset + size) of the file. A file that ends sooner is an error. */
quern_status gguf_fetch(const quern_gguf *gguf, uint64_t offset, void *dst, uint64_t size, quern_error *error);

/* engine/gguf_header.c: reads and checks everything before the tensor data. Texts of errors do not name the file. */
quern_status gguf_read_header(quern_gguf *gguf, quern_error *error);

/* The value of a key; an element of a string or of an array of strings, index inside count. */
const gguf_value *gguf_value_of(const quern_gguf *gguf, const quern_gguf_kv *kv);
quern_string gguf_string_at(const quern_gguf *gguf, const gguf_value *value, uint64_t index);

#endif
