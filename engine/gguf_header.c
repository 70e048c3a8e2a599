/* SPDX-License-Identifier: MIT
 * engine/gguf_header.c: reading a GGUF header that may be hostile. Nothing in it is believed before it is checked against the
 * bytes that are left in the file; memory grows only with bytes that were really read.
 *
 * Layout (GGUF specification, versions 2 and 3): magic, u32 version, u64 tensors, u64 entries; entries {string key, u32 type,
 * value}; tensors {string name, u32 dims, u64 ne[dims], u32 format, u64 offset}; padding to the alignment; data. A string is a
 * u64 length and bytes. An array is a u32 type, a u64 count and values. */
#include "engine/gguf.h"

#include <inttypes.h>
#include <stdio.h>

/* Enough for any vocabulary that there is, and little enough that a corrupt length cannot fill the memory. Offsets fit 32 bits. */
#define HEAD_MAX ((uint64_t)512 << 20)
#define HEAD_STEP ((uint64_t)64 << 10)

typedef struct reader {
    quern_gguf *gguf;
    uint64_t at;     /* next byte */
    char where[112]; /* what is being read, for errors */
    quern_error *error;
} reader;

static uint64_t left(const reader *r)
{
    return r->gguf->size - r->at;
}

/* Makes sure that the next `size` bytes are in the head. */
static quern_status need(reader *r, uint64_t size)
{
    quern_gguf *g = r->gguf;
    if (size > left(r))
        return quern_fail(r->error, QP_ERR_FORMAT,
                          "%s at byte %" PRIu64 " needs %" PRIu64 " bytes but the file has %" PRIu64
                          " left: it is truncated or corrupt",
                          r->where, r->at, size, left(r));
    uint64_t end = r->at + size;
    if (end <= g->head_size)
        return QP_OK;
    if (end > HEAD_MAX)
        return quern_fail(r->error, QP_ERR_UNSUPPORTED,
                          "%s at byte %" PRIu64 " makes the header longer than %" PRIu64 " MiB, which no model needs", r->where,
                          r->at, HEAD_MAX >> 20);
    uint64_t want = g->head_size + g->head_size / 2;
    want = want < HEAD_STEP ? HEAD_STEP : want;
    want = want < end ? end : want;
    want = want > HEAD_MAX ? HEAD_MAX : want;
    want = want > g->size ? g->size : want;
    unsigned char *head = realloc(g->head, want);
    if (!head)
        return quern_fail(r->error, QP_ERR_OUT_OF_MEMORY, "no memory for %" PRIu64 " bytes of header", want);
    g->head = head;
    quern_status status = gguf_fetch(g, g->head_size, head + g->head_size, want - g->head_size, r->error);
    if (status == QP_OK)
        g->head_size = want;
    return status;
}

static quern_status take_u32(reader *r, uint32_t *out)
{
    quern_status status = need(r, 4);
    if (status == QP_OK) {
        memcpy(out, r->gguf->head + r->at, 4);
        r->at += 4;
    }
    return status;
}

static quern_status take_u64(reader *r, uint64_t *out)
{
    quern_status status = need(r, 8);
    if (status == QP_OK) {
        memcpy(out, r->gguf->head + r->at, 8);
        r->at += 8;
    }
    return status;
}

/* A string: *at is where its bytes begin, r->at its end. */
static quern_status take_string(reader *r, uint64_t *at, uint64_t *size)
{
    quern_status status = take_u64(r, size);
    if (status == QP_OK)
        status = need(r, *size);
    if (status == QP_OK) {
        *at = r->at;
        r->at += *size;
    }
    return status;
}

/* A key or a tensor's name: of a sane length and printable. The pointer in *out is an offset until finish(). */
static quern_status take_name(reader *r, uint64_t most, quern_string *out)
{
    uint64_t at = 0;
    quern_status status = take_string(r, &at, &out->size);
    if (status != QP_OK)
        return status;
    if (out->size == 0 || out->size > most)
        return quern_fail(r->error, QP_ERR_FORMAT, "the name of %s is %" PRIu64 " bytes long; 1 to %" PRIu64 " are allowed",
                          r->where, out->size, most);
    for (uint64_t i = 0; i < out->size; i++)
        if (r->gguf->head[at + i] < 0x20 || r->gguf->head[at + i] == 0x7f)
            return quern_fail(r->error, QP_ERR_FORMAT, "the name of %s holds the control byte 0x%02x", r->where,
                              r->gguf->head[at + i]);
    out->data = (const char *)(uintptr_t)at;
    return QP_OK;
}

static void name_where(reader *r, const char *kind, const quern_string *name)
{
    const char *bytes = (const char *)r->gguf->head + (uintptr_t)name->data;
    snprintf(r->where, sizeof r->where, "%s '%.*s%s'", kind, name->size > 80 ? 80 : (int)name->size, bytes,
             name->size > 80 ? "…" : "");
}

/* Doubles *array when count has reached a power of two. */
static int grow(void *array, uint64_t count, size_t size)
{
    if (count & (count - 1))
        return 1;
    void *old;
    memcpy(&old, array, sizeof old);
    void *larger = realloc(old, (count ? count * 2 : 1) * size);
    if (larger)
        memcpy(array, &larger, sizeof larger);
    return larger != NULL;
}

static quern_status no_memory(reader *r)
{
    return quern_fail(r->error, QP_ERR_OUT_OF_MEMORY, "no memory for %s", r->where);
}

static quern_status read_strings(reader *r, uint64_t count, gguf_value *value)
{
    if (count > left(r) / 8 || count > HEAD_MAX / 8)
        return quern_fail(r->error, QP_ERR_FORMAT, "%s claims %" PRIu64 " strings but the file has %" PRIu64 " bytes left",
                          r->where, count, left(r));
    value->strings = malloc((count ? count : 1) * sizeof *value->strings);
    if (!value->strings)
        return no_memory(r);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t at, size;
        value->strings[i] = (uint32_t)r->at;
        quern_status status = take_string(r, &at, &size);
        if (status != QP_OK)
            return status;
    }
    return QP_OK;
}

static quern_status read_numbers(reader *r, uint64_t count, uint32_t size)
{
    if (count > left(r) / size)
        return quern_fail(r->error, QP_ERR_FORMAT,
                          "%s claims %" PRIu64 " values of %u bytes but the file has %" PRIu64 " bytes left", r->where, count, size,
                          left(r));
    quern_status status = need(r, count * size);
    if (status == QP_OK)
        r->at += count * size;
    return status;
}

static quern_status read_array(reader *r, quern_gguf_kv *kv, gguf_value *value)
{
    uint32_t type = 0;
    quern_status status = take_u32(r, &type);
    if (status == QP_OK)
        status = take_u64(r, &kv->count);
    if (status != QP_OK)
        return status;
    if (type == QUERN_GGUF_ARRAY)
        return quern_fail(r->error, QP_ERR_UNSUPPORTED, "%s is an array of arrays, which is not supported", r->where);
    if (type >= GGUF_TYPES)
        return quern_fail(r->error, QP_ERR_FORMAT, "%s is an array of type %u, which is not known", r->where, type);
    kv->element_type = (quern_gguf_type)type;
    value->offset = r->at;
    return type == QUERN_GGUF_STRING ? read_strings(r, kv->count, value) : read_numbers(r, kv->count, gguf_type_size(type));
}

static quern_status read_value(reader *r, quern_gguf_kv *kv, gguf_value *value)
{
    uint64_t at, size;
    value->offset = r->at;
    kv->count = 1;
    kv->element_type = kv->type;
    quern_status status;
    if (kv->type == QUERN_GGUF_ARRAY)
        status = read_array(r, kv, value);
    else if (kv->type == QUERN_GGUF_STRING)
        status = take_string(r, &at, &size);
    else
        status = read_numbers(r, 1, gguf_type_size(kv->type));
    value->size = r->at - value->offset;
    return status;
}

static quern_status read_entry(reader *r, uint64_t number)
{
    quern_gguf *g = r->gguf;
    snprintf(r->where, sizeof r->where, "metadata entry %" PRIu64, number);
    if (!grow(&g->kvs, number, sizeof *g->kvs) || !grow(&g->values, number, sizeof *g->values))
        return no_memory(r);
    quern_gguf_kv *kv = &g->kvs[number];
    gguf_value *value = &g->values[number];
    memset(kv, 0, sizeof *kv);
    memset(value, 0, sizeof *value);
    g->kv_count = number + 1; /* close() frees value->strings even when this entry fails */
    quern_status status = take_name(r, GGUF_MAX_KEY, &kv->key);
    if (status != QP_OK)
        return status;
    name_where(r, "metadata", &kv->key);
    uint32_t type = 0;
    status = take_u32(r, &type);
    if (status != QP_OK)
        return status;
    if (type >= GGUF_TYPES)
        return quern_fail(r->error, QP_ERR_FORMAT, "%s has type %u, which is not known", r->where, type);
    kv->type = (quern_gguf_type)type;
    return read_value(r, kv, value);
}

/* Formats that once had numbers in GGUF files, so that their owners learn what happened. */
static const char *retired(uint32_t format)
{
    switch (format) {
    case 4:
    case 5: return " (Q4_2 and Q4_3, withdrawn in 2023)";
    case 31:
    case 32:
    case 33:
    case 36:
    case 37:
    case 38: return " (repacked 4-bit blocks, withdrawn: convert the model again)";
    default: return "";
    }
}

static quern_status check_shape(reader *r, quern_gguf_tensor *t)
{
    const quern_format_info *info = quern_format_get(t->format);
    if (!info)
        return quern_fail(r->error, QP_ERR_UNSUPPORTED, "%s has format number %u, which is not known%s", r->where, t->format,
                          retired(t->format));
    int64_t elements = 1;
    for (uint32_t i = 0; i < 4; i++) {
        if (t->ne[i] <= 0)
            return quern_fail(r->error, QP_ERR_FORMAT, "%s has %" PRIu64 " elements in dimension %u", r->where, (uint64_t)t->ne[i],
                              i);
        if (__builtin_mul_overflow(elements, t->ne[i], &elements))
            return quern_fail(r->error, QP_ERR_FORMAT, "%s has more than 2^63 elements (dimension %u is %" PRId64 ")", r->where, i,
                              t->ne[i]);
    }
    if (t->ne[0] % info->block_elements)
        return quern_fail(r->error, QP_ERR_FORMAT,
                          "%s has rows of %" PRId64 " elements, which is not a whole number of %s blocks of %u", r->where, t->ne[0],
                          info->name, info->block_elements);
    if (!quern_format_bytes(t->format, elements, &t->bytes))
        return quern_fail(r->error, QP_ERR_FORMAT, "%s is larger than 2^64 bytes", r->where);
    return QP_OK;
}

static quern_status read_tensor(reader *r, uint64_t number)
{
    quern_gguf *g = r->gguf;
    snprintf(r->where, sizeof r->where, "tensor %" PRIu64, number);
    if (!grow(&g->tensors, number, sizeof *g->tensors))
        return no_memory(r);
    quern_gguf_tensor *t = &g->tensors[number];
    *t = (quern_gguf_tensor){.ne = {1, 1, 1, 1}};
    quern_status status = take_name(r, GGUF_MAX_NAME, &t->name);
    if (status != QP_OK)
        return status;
    name_where(r, "tensor", &t->name);
    status = take_u32(r, &t->dims);
    if (status == QP_OK && (t->dims == 0 || t->dims > 4))
        return quern_fail(r->error, QP_ERR_FORMAT, "%s has %u dimensions; 1 to 4 are allowed", r->where, t->dims);
    for (uint32_t i = 0; status == QP_OK && i < t->dims; i++) {
        uint64_t ne = 0;
        status = take_u64(r, &ne);
        t->ne[i] = (int64_t)ne;
    }
    if (status == QP_OK)
        status = take_u32(r, &t->format);
    if (status == QP_OK)
        status = take_u64(r, &t->offset);
    if (status == QP_OK)
        status = check_shape(r, t);
    g->tensor_count = number + 1;
    return status;
}

/* Turns a name's offset into a pointer into the finished head, and terminates it there. */
static void settle_name(quern_gguf *g, quern_string *name)
{
    char *bytes = (char *)g->head + (uintptr_t)name->data;
    bytes[name->size] = '\0';
    name->data = bytes;
}

/* Puts a name's number into an index; false when the name is there already. */
static int index_name(hash_index *index, const quern_string *name, uint64_t number, const void *items, size_t stride)
{
    uint64_t hash = hash_bytes(name->data, name->size), slot = hash;
    for (uint32_t n; (n = hash_index_next(index, hash, &slot));) {
        quern_string other;
        memcpy(&other, (const char *)items + (n - 1) * stride, sizeof other);
        if (other.size == name->size && !memcmp(other.data, name->data, name->size))
            return 0;
    }
    hash_index_put(index, hash, slot, (uint32_t)number);
    return 1;
}

static quern_status index_names(quern_gguf *g, quern_error *error)
{
    if (!hash_index_create(&g->kv_index, g->kv_count) || !hash_index_create(&g->tensor_index, g->tensor_count))
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY,
                          "no memory for the index of %" PRIu64 " metadata entries and %" PRIu64 " tensors", g->kv_count,
                          g->tensor_count);
    for (uint64_t i = 0; i < g->kv_count; i++) {
        settle_name(g, &g->kvs[i].key);
        if (!index_name(&g->kv_index, &g->kvs[i].key, i, g->kvs, sizeof *g->kvs))
            return quern_fail(error, QP_ERR_FORMAT, "metadata key '%.80s' is there twice", g->kvs[i].key.data);
    }
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        settle_name(g, &g->tensors[i].name);
        if (!index_name(&g->tensor_index, &g->tensors[i].name, i, g->tensors, sizeof *g->tensors))
            return quern_fail(error, QP_ERR_FORMAT, "tensor '%s' is there twice", g->tensors[i].name.data);
    }
    return QP_OK;
}

static quern_status read_alignment(quern_gguf *g, quern_error *error)
{
    g->alignment = GGUF_DEFAULT_ALIGNMENT;
    const quern_gguf_kv *kv = quern_gguf_find(g, "general.alignment");
    if (!kv)
        return QP_OK;
    if (kv->type != QUERN_GGUF_UINT32)
        return quern_fail(error, QP_ERR_FORMAT, "general.alignment is of type %s; it must be UINT32", gguf_type_name(kv->type));
    memcpy(&g->alignment, g->head + gguf_value_of(g, kv)->offset, sizeof g->alignment);
    if (g->alignment < GGUF_MIN_ALIGNMENT || g->alignment > GGUF_MAX_ALIGNMENT || (g->alignment & (g->alignment - 1)))
        return quern_fail(error, QP_ERR_FORMAT, "general.alignment is %u; it must be a power of two from %u to %u", g->alignment,
                          (uint32_t)GGUF_MIN_ALIGNMENT, (uint32_t)GGUF_MAX_ALIGNMENT);
    return QP_OK;
}

static quern_status refuse_parts(quern_gguf *g, quern_error *error)
{
    uint64_t parts = 0, part = 0;
    if (!quern_gguf_find(g, "split.count") || quern_gguf_get_u64(g, "split.count", 0, &parts, NULL) != QP_OK || parts < 2)
        return QP_OK;
    (void)quern_gguf_get_u64(g, "split.no", 0, &part, NULL);
    return quern_fail(error, QP_ERR_UNSUPPORTED,
                      "is part %" PRIu64 " of a model split into %" PRIu64
                      " files (split.count), which is not supported: join the parts into one file",
                      part + 1, parts);
}

static int by_offset(const void *a, const void *b)
{
    const quern_gguf_tensor *const *x = a, *const *y = b;
    return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

static quern_status refuse_overlap(quern_gguf *g, quern_error *error)
{
    const quern_gguf_tensor **order = malloc((g->tensor_count ? g->tensor_count : 1) * sizeof *order);
    if (!order)
        return quern_fail(error, QP_ERR_OUT_OF_MEMORY, "no memory to sort %" PRIu64 " tensors", g->tensor_count);
    for (uint64_t i = 0; i < g->tensor_count; i++)
        order[i] = &g->tensors[i];
    qsort(order, g->tensor_count, sizeof *order, by_offset);
    quern_status status = QP_OK;
    for (uint64_t i = 1; status == QP_OK && i < g->tensor_count; i++)
        if (order[i]->offset - order[i - 1]->offset < order[i - 1]->bytes)
            status = quern_fail(error, QP_ERR_FORMAT, "tensors '%s' and '%s' overlap at byte %" PRIu64, order[i - 1]->name.data,
                                order[i]->name.data, order[i]->offset);
    free(order);
    return status;
}

/* Offsets in the file count from the start of the data; from here on they count from the start of the file. */
static quern_status place_tensors(quern_gguf *g, uint64_t header_end, quern_error *error)
{
    uint64_t mask = g->alignment - 1;
    g->data_start = (header_end + mask) & ~mask;
    uint64_t room = g->size > g->data_start ? g->size - g->data_start : 0;
    for (uint64_t i = 0; i < g->tensor_count; i++) {
        quern_gguf_tensor *t = &g->tensors[i];
        if (t->offset & mask)
            return quern_fail(error, QP_ERR_FORMAT,
                              "tensor '%s' has offset %" PRIu64 ", which is not a multiple of the alignment %u", t->name.data,
                              t->offset, g->alignment);
        if (t->offset > room || t->bytes > room - t->offset)
            return quern_fail(error, QP_ERR_FORMAT,
                              "tensor '%s' needs %" PRIu64 " bytes at offset %" PRIu64 " of the data, but the file has %" PRIu64
                              " bytes of data: it is truncated or corrupt",
                              t->name.data, t->bytes, t->offset, room);
        t->offset += g->data_start;
    }
    return refuse_overlap(g, error);
}

/* The first bytes of the file, so that a wrong one is recognised. */
static quern_status read_start(reader *r, uint64_t *tensors, uint64_t *entries)
{
    quern_gguf *g = r->gguf;
    snprintf(r->where, sizeof r->where, "the header");
    if (g->size == 0)
        return quern_fail(r->error, QP_ERR_FORMAT, "is empty");
    uint32_t magic = 0;
    quern_status status = take_u32(r, &magic);
    if (status != QP_OK)
        return status;
    if (memcmp(g->head, "GGUF", 4))
        return quern_fail(r->error, QP_ERR_FORMAT,
                          "is not a GGUF file: it begins with bytes %02x %02x %02x %02x, not with \"GGUF\"", g->head[0], g->head[1],
                          g->head[2], g->head[3]);
    status = take_u32(r, &g->version);
    if (status != QP_OK)
        return status;
    if (g->version == 1)
        return quern_fail(r->error, QP_ERR_UNSUPPORTED,
                          "is GGUF version 1, which is not supported: convert the model again (2 and 3 are)");
    if (g->version && !(g->version & 0xffff))
        return quern_fail(r->error, QP_ERR_UNSUPPORTED, "is a big-endian GGUF file, which is not supported");
    if (g->version != 2 && g->version != 3)
        return quern_fail(r->error, QP_ERR_UNSUPPORTED, "is GGUF version %u, which is not supported (2 and 3 are)", g->version);
    status = take_u64(r, tensors);
    return status == QP_OK ? take_u64(r, entries) : status;
}

/* The least that an entry and a tensor can take: name of one byte included. */
enum { ENTRY_MIN = 8 + 1 + 4 + 1, TENSOR_MIN = 8 + 1 + 4 + 8 + 4 + 8 };

quern_status gguf_read_header(quern_gguf *gguf, quern_error *error)
{
    reader r = {.gguf = gguf, .error = error};
    uint64_t tensors = 0, entries = 0;
    quern_status status = read_start(&r, &tensors, &entries);
    if (status != QP_OK)
        return status;
    if (entries > left(&r) / ENTRY_MIN)
        return quern_fail(error, QP_ERR_FORMAT, "claims %" PRIu64 " metadata entries but has only %" PRIu64 " bytes after that",
                          entries, left(&r));
    if (tensors > left(&r) / TENSOR_MIN)
        return quern_fail(error, QP_ERR_FORMAT, "claims %" PRIu64 " tensors but has only %" PRIu64 " bytes after that", tensors,
                          left(&r));
    for (uint64_t i = 0; status == QP_OK && i < entries; i++)
        status = read_entry(&r, i);
    for (uint64_t i = 0; status == QP_OK && i < tensors; i++)
        status = read_tensor(&r, i);
    if (status != QP_OK)
        return status;
    unsigned char *head = realloc(gguf->head, r.at + 1); /* what was read ahead of need goes; one byte to terminate a last name */
    if (head)
        gguf->head = head;
    gguf->head_size = r.at;
    status = index_names(gguf, error);
    if (status == QP_OK)
        status = refuse_parts(gguf, error);
    if (status == QP_OK)
        status = read_alignment(gguf, error);
    return status == QP_OK ? place_tensors(gguf, r.at, error) : status;
}
