/* SPDX-License-Identifier: MIT
 * engine/gguf.c: opening a GGUF file, and what its metadata and tensors are. The header's reader is in gguf_header.c. */
#include "engine/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "GGUF values are read in place: this needs a little-endian machine"
#endif

static const struct {
    const char *name;
    uint32_t size;
} types[GGUF_TYPES] = {
    {"UINT8", 1}, {"INT8", 1},   {"UINT16", 2}, {"INT16", 2},  {"UINT32", 4}, {"INT32", 4},   {"FLOAT32", 4},
    {"BOOL", 1},  {"STRING", 0}, {"ARRAY", 0},  {"UINT64", 8}, {"INT64", 8},  {"FLOAT64", 8},
};

uint32_t gguf_type_size(uint32_t type)
{
    return type < GGUF_TYPES ? types[type].size : 0;
}

const char *gguf_type_name(uint32_t type)
{
    return type < GGUF_TYPES ? types[type].name : "unknown";
}

/* pread, not a mapping: a file that shrinks must give an error, never SIGBUS. */
static quern_status fetch_file(const quern_gguf *g, uint64_t offset, char *dst, uint64_t size, quern_error *error)
{
    while (size) {
        size_t step = size > (uint64_t)1 << 30 ? (size_t)1 << 30 : (size_t)size;
        ssize_t got = pread(g->fd, dst, step, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return quern_fail(error, QP_ERR_IO, "cannot read %" PRIu64 " bytes at byte %" PRIu64 ": %s", size, offset,
                              strerror(errno));
        if (got == 0)
            return quern_fail(error, QP_ERR_IO,
                              "ends at byte %" PRIu64 " now, but was %" PRIu64
                              " bytes long when it was opened: something is changing it",
                              offset, g->size);
        offset += (uint64_t)got;
        dst += got;
        size -= (uint64_t)got;
    }
    return QP_OK;
}

quern_status gguf_fetch(const quern_gguf *gguf, uint64_t offset, void *dst, uint64_t size, quern_error *error)
{
    if (offset > gguf->size || size > gguf->size - offset)
        return quern_fail(error, QP_ERR_INVALID, "bytes %" PRIu64 " to %" PRIu64 " are outside its %" PRIu64, offset, offset + size,
                          gguf->size);
    if (gguf->fd >= 0)
        return fetch_file(gguf, offset, dst, size, error);
    if (size)
        memcpy(dst, gguf->memory + offset, size);
    return QP_OK;
}

static quern_status open_file(quern_gguf *g, const char *path, quern_error *error)
{
    /* not blocking: a pipe of that name must not hang us */
    g->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (g->fd < 0)
        return quern_fail(error, errno == ENOENT ? QP_ERR_NOT_FOUND : QP_ERR_IO, "cannot open it: %s", strerror(errno));
    struct stat info;
    if (fstat(g->fd, &info))
        return quern_fail(error, QP_ERR_IO, "cannot look at it: %s", strerror(errno));
    if (S_ISDIR(info.st_mode))
        return quern_fail(error, QP_ERR_IO, "is a directory, not a model file");
    if (!S_ISREG(info.st_mode))
        return quern_fail(error, QP_ERR_IO, "is not a regular file");
    g->size = (uint64_t)info.st_size;
    return QP_OK;
}

static quern_gguf *new_gguf(const char *path)
{
    quern_gguf *g = calloc(1, sizeof *g);
    if (!g)
        return NULL;
    g->fd = -1;
    g->path = strdup(path);
    if (g->path)
        return g;
    free(g);
    return NULL;
}

static quern_status finish_open(quern_gguf *g, quern_status status, quern_gguf **out, quern_error *error)
{
    if (status == QP_OK)
        status = gguf_read_header(g, error);
    if (status == QP_OK) {
        *out = g;
        return QP_OK;
    }
    quern_fail_prefix(error, status, "%.200s: ", g->path);
    quern_gguf_close(g);
    return status;
}

quern_status quern_gguf_open(const char *path, quern_gguf **out, quern_error *error)
{
    if (!path || !*path || !out)
        return quern_fail(error, QP_ERR_INVALID, "no path of a model file was given");
    quern_gguf *g = new_gguf(path);
    if (!g)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "%.200s: no memory to open it", path);
    return finish_open(g, open_file(g, path, error), out, error);
}

quern_status quern_gguf_open_memory(const void *data, uint64_t size, const char *name, quern_gguf **out, quern_error *error)
{
    if ((!data && size) || !out)
        return quern_fail(error, QP_ERR_INVALID, "no memory of a model file was given");
    quern_gguf *g = new_gguf(name ? name : "memory");
    if (!g)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to open a model in memory");
    g->memory = data;
    g->size = size;
    return finish_open(g, QP_OK, out, error);
}

void quern_gguf_close(quern_gguf *gguf)
{
    if (!gguf)
        return;
    if (gguf->fd >= 0)
        close(gguf->fd);
    for (uint64_t i = 0; i < gguf->kv_count; i++)
        free(gguf->values[i].strings);
    free(gguf->kvs);
    free(gguf->values);
    free(gguf->tensors);
    hash_index_free(&gguf->kv_index);
    hash_index_free(&gguf->tensor_index);
    free(gguf->head);
    free(gguf->path);
    free(gguf);
}

const char *quern_gguf_path(const quern_gguf *gguf)
{
    return gguf ? gguf->path : "";
}

uint32_t quern_gguf_version(const quern_gguf *gguf)
{
    return gguf ? gguf->version : 0;
}

uint64_t quern_gguf_file_size(const quern_gguf *gguf)
{
    return gguf ? gguf->size : 0;
}

uint32_t quern_gguf_alignment(const quern_gguf *gguf)
{
    return gguf ? gguf->alignment : 0;
}

uint64_t quern_gguf_kv_count(const quern_gguf *gguf)
{
    return gguf ? gguf->kv_count : 0;
}

const quern_gguf_kv *quern_gguf_kv_at(const quern_gguf *gguf, uint64_t index)
{
    return gguf && index < gguf->kv_count ? &gguf->kvs[index] : NULL;
}

const quern_gguf_kv *quern_gguf_find(const quern_gguf *gguf, const char *key)
{
    if (!gguf || !key)
        return NULL;
    uint64_t size = strlen(key), hash = hash_bytes(key, size), slot = hash;
    for (uint32_t n; (n = hash_index_next(&gguf->kv_index, hash, &slot));) {
        const quern_gguf_kv *kv = &gguf->kvs[n - 1];
        if (kv->key.size == size && !memcmp(kv->key.data, key, size))
            return kv;
    }
    return NULL;
}

const gguf_value *gguf_value_of(const quern_gguf *gguf, const quern_gguf_kv *kv)
{
    return &gguf->values[kv - gguf->kvs];
}

quern_string gguf_string_at(const quern_gguf *gguf, const gguf_value *value, uint64_t index)
{
    quern_string text;
    uint64_t at = value->strings ? value->strings[index] : value->offset;
    memcpy(&text.size, gguf->head + at, sizeof text.size);
    text.data = (const char *)gguf->head + at + sizeof text.size;
    return text;
}

/* One number of the metadata, as wide as it can be. */
typedef struct number {
    enum { NUMBER_UNSIGNED, NUMBER_SIGNED, NUMBER_FLOAT } kind;
    uint64_t u;
    int64_t i;
    double f;
} number;

static number load_number(const unsigned char *at, quern_gguf_type type)
{
    uint64_t bits = 0;
    float f32;
    number n = {NUMBER_UNSIGNED, 0, 0, 0};
    memcpy(&bits, at, gguf_type_size(type));
    switch (type) {
    case QUERN_GGUF_INT8: n.kind = NUMBER_SIGNED, n.i = (int8_t)bits; break;
    case QUERN_GGUF_INT16: n.kind = NUMBER_SIGNED, n.i = (int16_t)bits; break;
    case QUERN_GGUF_INT32: n.kind = NUMBER_SIGNED, n.i = (int32_t)bits; break;
    case QUERN_GGUF_INT64: n.kind = NUMBER_SIGNED, n.i = (int64_t)bits; break;
    case QUERN_GGUF_FLOAT32: memcpy(&f32, at, sizeof f32), n.kind = NUMBER_FLOAT, n.f = (double)f32; break;
    case QUERN_GGUF_FLOAT64: memcpy(&n.f, at, sizeof n.f), n.kind = NUMBER_FLOAT; break;
    case QUERN_GGUF_BOOL: n.u = bits != 0; break;
    default: n.u = bits; break;
    }
    return n;
}

/* Finds a value and checks the index. place: where the caller wants it. */
static quern_status find_value(const quern_gguf *g, const char *key, uint64_t index, const void *place, const quern_gguf_kv **out,
                               quern_error *error)
{
    if (!g || !key || !place)
        return quern_fail(error, QP_ERR_INVALID,
                          "reading metadata: the file, the key and the place for the value must not be NULL");
    const quern_gguf_kv *kv = quern_gguf_find(g, key);
    if (!kv)
        return quern_fail(error, QP_ERR_NOT_FOUND, "%.200s: metadata '%.80s' is not there", g->path, key);
    if (index >= kv->count)
        return quern_fail(error, QP_ERR_FORMAT, "%.200s: metadata '%.80s' has %" PRIu64 " values; number %" PRIu64 " is not there",
                          g->path, key, kv->count, index);
    *out = kv;
    return QP_OK;
}

static quern_status wrong_type(const quern_gguf *g, const quern_gguf_kv *kv, const char *wanted, quern_error *error)
{
    return quern_fail(error, QP_ERR_FORMAT, "%.200s: metadata '%.80s' is %s%s, not %s", g->path, kv->key.data,
                      kv->type == QUERN_GGUF_ARRAY ? "an array of " : "", gguf_type_name(kv->element_type), wanted);
}

static quern_status find_number(const quern_gguf *g, const char *key, uint64_t index, const void *place, const char *wanted,
                                const quern_gguf_kv **kv, number *out, quern_error *error)
{
    quern_status status = find_value(g, key, index, place, kv, error);
    if (status != QP_OK)
        return status;
    uint32_t size = gguf_type_size((*kv)->element_type);
    if (!size)
        return wrong_type(g, *kv, wanted, error);
    *out = load_number(g->head + gguf_value_of(g, *kv)->offset + index * size, (*kv)->element_type);
    return QP_OK;
}

quern_status quern_gguf_get_u64(const quern_gguf *gguf, const char *key, uint64_t index, uint64_t *out, quern_error *error)
{
    const quern_gguf_kv *kv = NULL;
    number n = {NUMBER_UNSIGNED, 0, 0, 0};
    quern_status status = find_number(gguf, key, index, out, "an integer", &kv, &n, error);
    if (status != QP_OK)
        return status;
    if (n.kind == NUMBER_FLOAT)
        return wrong_type(gguf, kv, "an integer", error);
    if (n.kind == NUMBER_SIGNED && n.i < 0)
        return quern_fail(error, QP_ERR_FORMAT, "%.200s: metadata '%.80s' is %" PRId64 "; it must not be negative", gguf->path, key,
                          n.i);
    *out = n.kind == NUMBER_SIGNED ? (uint64_t)n.i : n.u;
    return QP_OK;
}

quern_status quern_gguf_get_i64(const quern_gguf *gguf, const char *key, uint64_t index, int64_t *out, quern_error *error)
{
    const quern_gguf_kv *kv = NULL;
    number n = {NUMBER_UNSIGNED, 0, 0, 0};
    quern_status status = find_number(gguf, key, index, out, "an integer", &kv, &n, error);
    if (status != QP_OK)
        return status;
    if (n.kind == NUMBER_FLOAT)
        return wrong_type(gguf, kv, "an integer", error);
    if (n.kind == NUMBER_UNSIGNED && n.u > INT64_MAX)
        return quern_fail(error, QP_ERR_FORMAT, "%.200s: metadata '%.80s' is %" PRIu64 ", which is too large", gguf->path, key,
                          n.u);
    *out = n.kind == NUMBER_SIGNED ? n.i : (int64_t)n.u;
    return QP_OK;
}

quern_status quern_gguf_get_f64(const quern_gguf *gguf, const char *key, uint64_t index, double *out, quern_error *error)
{
    const quern_gguf_kv *kv = NULL;
    number n = {NUMBER_UNSIGNED, 0, 0, 0};
    quern_status status = find_number(gguf, key, index, out, "a number", &kv, &n, error);
    if (status != QP_OK)
        return status;
    *out = n.kind == NUMBER_FLOAT ? n.f : n.kind == NUMBER_SIGNED ? (double)n.i : (double)n.u;
    return QP_OK;
}

quern_status quern_gguf_get_string(const quern_gguf *gguf, const char *key, uint64_t index, quern_string *out, quern_error *error)
{
    const quern_gguf_kv *kv = NULL;
    quern_status status = find_value(gguf, key, index, out, &kv, error);
    if (status != QP_OK)
        return status;
    if (kv->element_type != QUERN_GGUF_STRING)
        return wrong_type(gguf, kv, "STRING", error);
    *out = gguf_string_at(gguf, gguf_value_of(gguf, kv), index);
    return QP_OK;
}

uint64_t quern_gguf_tensor_count(const quern_gguf *gguf)
{
    return gguf ? gguf->tensor_count : 0;
}

const quern_gguf_tensor *quern_gguf_tensor_at(const quern_gguf *gguf, uint64_t index)
{
    return gguf && index < gguf->tensor_count ? &gguf->tensors[index] : NULL;
}

const quern_gguf_tensor *quern_gguf_tensor_find(const quern_gguf *gguf, const char *name)
{
    if (!gguf || !name)
        return NULL;
    uint64_t size = strlen(name), hash = hash_bytes(name, size), slot = hash;
    for (uint32_t n; (n = hash_index_next(&gguf->tensor_index, hash, &slot));) {
        const quern_gguf_tensor *t = &gguf->tensors[n - 1];
        if (t->name.size == size && !memcmp(t->name.data, name, size))
            return t;
    }
    return NULL;
}

quern_status quern_gguf_read(const quern_gguf *gguf, const quern_gguf_tensor *tensor, uint64_t begin, void *dst, uint64_t size,
                             quern_error *error)
{
    if (!gguf || !tensor || (!dst && size))
        return quern_fail(error, QP_ERR_INVALID,
                          "quern_gguf_read: the file, the tensor and the place for its bytes must not be NULL");
    if (begin > tensor->bytes || size > tensor->bytes - begin)
        return quern_fail(error, QP_ERR_INVALID, "%.200s: bytes %" PRIu64 " to %" PRIu64 " are outside tensor '%s' of %" PRIu64,
                          gguf->path, begin, begin + size, tensor->name.data, tensor->bytes);
    quern_status status = gguf_fetch(gguf, tensor->offset + begin, dst, size, error);
    return status == QP_OK ? QP_OK : quern_fail_prefix(error, status, "%.200s: tensor '%s': ", gguf->path, tensor->name.data);
}
