/* SPDX-License-Identifier: MIT
 * tests/unit/test_gguf.c: the GGUF reader on a good file, on hostile ones, and on files that change under it. */
#include "gguf_builder.h"
#include "tap.h"

#include <unistd.h>

/* ---- a good file -------------------------------------------------------------------------------------------------- */

static const char *const words[] = {"one", "", "three"};

/* 12 entries, 2 tensors: F32 {3, 2} and Q8_0 {64}. */
static void build_good(builder *b)
{
    put_header(b, 3, 2, 12);
    put_kv_string(b, "general.architecture", "llama");
    put_kv_u32(b, "a.u32", 4000000000u);
    put_key(b, "a.i8", QUERN_GGUF_INT8), put_u8(b, 0x80);
    put_key(b, "a.u16", QUERN_GGUF_UINT16), put(b, "\x34\x12", 2);
    put_key(b, "a.i64", QUERN_GGUF_INT64), put_u64(b, (uint64_t)-5);
    put_key(b, "a.u64", QUERN_GGUF_UINT64), put_u64(b, UINT64_MAX);
    put_key(b, "a.f32", QUERN_GGUF_FLOAT32), put_f32(b, 0.5f);
    put_key(b, "a.f64", QUERN_GGUF_FLOAT64), put(b, &(double){1e300}, 8);
    put_kv_bool(b, "a.bool", 1);
    put_kv_strings(b, "a.words", words, 3);
    put_kv_ints(b, "a.ints", (const int32_t[]){7, -8, 9}, 3);
    put_kv_array(b, "a.none", QUERN_GGUF_FLOAT32, 0);
    put_tensor(b, "first", 2, (const uint64_t[]){3, 2}, QP_FORMAT_F32, 0);
    put_tensor(b, "second", 1, (const uint64_t[]){64}, QP_FORMAT_Q8_0, 32);
    put_padding(b, 32);
    for (unsigned i = 0; i < 32 + 68; i++)
        put_u8(b, (uint8_t)i);
}

static void test_numbers(const quern_gguf *g)
{
    uint64_t u = 0;
    int64_t i = 0;
    double f = 0;
    ok(!quern_gguf_get_u64(g, "a.u32", 0, &u, NULL) && u == 4000000000u, "UINT32 as unsigned");
    ok(!quern_gguf_get_i64(g, "a.i8", 0, &i, NULL) && i == -128, "INT8 as signed");
    ok(!quern_gguf_get_u64(g, "a.u16", 0, &u, NULL) && u == 0x1234, "UINT16 as unsigned");
    ok(!quern_gguf_get_f64(g, "a.i64", 0, &f, NULL) && f == -5.0, "INT64 as a float");
    ok(!quern_gguf_get_f64(g, "a.f32", 0, &f, NULL) && f == 0.5, "FLOAT32 as a float");
    ok(!quern_gguf_get_f64(g, "a.f64", 0, &f, NULL) && f == 1e300, "FLOAT64 as a float");
    ok(!quern_gguf_get_u64(g, "a.bool", 0, &u, NULL) && u == 1, "BOOL as unsigned");
    ok(!quern_gguf_get_i64(g, "a.ints", 1, &i, NULL) && i == -8, "an element of an array");
}

static void test_refusals(const quern_gguf *g)
{
    uint64_t u = 1;
    int64_t i;
    double f;
    quern_string s;
    quern_error error = {0};
    ok(quern_gguf_get_u64(g, "a.i64", 0, &u, &error) == QP_ERR_FORMAT && strstr(error.text, "negative"),
       "a negative is not unsigned: %s", error.text);
    ok(quern_gguf_get_i64(g, "a.u64", 0, &i, &error) == QP_ERR_FORMAT && strstr(error.text, "too large"),
       "2^64 - 1 is not signed: %s", error.text);
    ok(quern_gguf_get_u64(g, "a.f32", 0, &u, &error) == QP_ERR_FORMAT && strstr(error.text, "FLOAT32"), "a float is no integer: %s",
       error.text);
    ok(quern_gguf_get_f64(g, "a.words", 0, &f, &error) == QP_ERR_FORMAT && strstr(error.text, "array of STRING"),
       "a string is no number: %s", error.text);
    ok(quern_gguf_get_string(g, "a.u32", 0, &s, &error) == QP_ERR_FORMAT, "a number is no string: %s", error.text);
    ok(quern_gguf_get_i64(g, "a.ints", 3, &i, &error) == QP_ERR_FORMAT && strstr(error.text, "3 values"), "past the end: %s",
       error.text);
    ok(quern_gguf_get_f64(g, "a.none", 0, &f, &error) == QP_ERR_FORMAT, "an empty array: %s", error.text);
    ok(quern_gguf_get_u64(g, "b.none", 0, &u, &error) == QP_ERR_NOT_FOUND && strstr(error.text, "good.gguf"),
       "a key that is not there: %s", error.text);
    ok(u == 1, "a failing getter leaves its output alone");
}

static void test_good_file(void)
{
    builder b = {0};
    build_good(&b);
    quern_gguf *g = NULL;
    quern_error error = {0};
    if (!ok(quern_gguf_open_memory(b.data, b.size, "good.gguf", &g, &error) == QP_OK, "a good file opens %s", error.text))
        return;
    ok(quern_gguf_version(g) == 3 && quern_gguf_alignment(g) == 32 && quern_gguf_file_size(g) == b.size,
       "version, alignment, size");
    ok(quern_gguf_kv_count(g) == 12 && quern_gguf_tensor_count(g) == 2, "counts");
    ok(!quern_gguf_kv_at(g, 12) && !quern_gguf_tensor_at(g, 2), "nothing past the last");
    const quern_gguf_kv *kv = quern_gguf_find(g, "a.words");
    ok(kv && kv->type == QUERN_GGUF_ARRAY && kv->element_type == QUERN_GGUF_STRING && kv->count == 3, "an array's description");
    ok(kv && !strcmp(kv->key.data, "a.words"), "keys are terminated");
    quern_string s;
    ok(!quern_gguf_get_string(g, "a.words", 2, &s, NULL) && s.size == 5 && !memcmp(s.data, "three", 5), "a string in an array");
    ok(!quern_gguf_get_string(g, "a.words", 1, &s, NULL) && s.size == 0, "an empty string");
    test_numbers(g);
    test_refusals(g);
    const quern_gguf_tensor *t = quern_gguf_tensor_find(g, "second");
    ok(t && t == quern_gguf_tensor_at(g, 1) && t->format == QP_FORMAT_Q8_0 && t->ne[0] == 64 && t->ne[1] == 1 && t->ne[3] == 1 &&
           t->bytes == 68,
       "a tensor's description");
    ok(!quern_gguf_tensor_find(g, "third"), "a tensor that is not there");
    unsigned char bytes[4] = {0};
    ok(t && !quern_gguf_read(g, t, 64, bytes, 4, &error) && bytes[0] == 96 && bytes[3] == 99, "a tensor's last bytes");
    ok(t && quern_gguf_read(g, t, 65, bytes, 4, &error) == QP_ERR_INVALID, "past a tensor's end: %s", error.text);
    ok(t && quern_gguf_read(g, t, UINT64_MAX, bytes, 4, &error) == QP_ERR_INVALID, "far past a tensor's end");
    quern_gguf_close(g);

    size_t opened = 0;
    for (size_t size = 0; size < b.size; size++) {
        char *copy = malloc(size ? size : 1); /* of exactly this size, so that a sanitizer sees a byte too much */
        memcpy(copy, b.data, size);
        if (quern_gguf_open_memory(copy, size, "cut", &g, &error) == QP_OK) {
            opened++;
            quern_gguf_close(g);
        }
        free(copy);
    }
    ok(opened == 0, "none of the %zu beginnings of a good file opens (%zu did)", b.size, opened);
    builder_free(&b);
}

/* ---- hostile headers ---------------------------------------------------------------------------------------------- */

static const uint64_t row[4] = {32, 1, 1, 1};

static void one_tensor(builder *b, const char *name, uint32_t dims, const uint64_t *ne, uint32_t format, uint64_t offset)
{
    put_header(b, 3, 1, 0);
    put_tensor(b, name, dims, ne, format, offset);
    put_padding(b, 32);
    put_zeros(b, 128);
}

static void two_tensors(builder *b, const char *second, uint64_t offset)
{
    put_header(b, 3, 2, 0);
    put_tensor(b, "t", 1, row, QP_FORMAT_F32, 0);
    put_tensor(b, second, 1, row, QP_FORMAT_F32, offset);
    put_padding(b, 32);
    put_zeros(b, 512);
}

static void alignment(builder *b, uint32_t value)
{
    put_header(b, 3, 0, 1);
    put_kv_u32(b, "general.alignment", value);
}

/* clang-format off: one line a file */
static void empty(builder *b)
{
    (void)b;
}
static void short_magic(builder *b)
{
    put(b, "GG", 2);
}
static void wrong_magic(builder *b)
{
    put(b, "PK\3\4 is a zip archive, no model", 31);
}
static void only_magic(builder *b)
{
    put(b, "GGUF", 4);
}
static void version_0(builder *b)
{
    put_header(b, 0, 0, 0);
}
static void version_1(builder *b)
{
    put_header(b, 1, 0, 0);
}
static void version_4(builder *b)
{
    put_header(b, 4, 0, 0);
}
static void big_endian(builder *b)
{
    put_header(b, 0x03000000, 0, 0);
}
static void many_entries(builder *b)
{
    put_header(b, 3, 0, (uint64_t)1 << 60), put_zeros(b, 64);
}
static void all_entries(builder *b)
{
    put_header(b, 3, 0, UINT64_MAX), put_zeros(b, 64);
}
static void many_tensors(builder *b)
{
    put_header(b, 3, (uint64_t)1 << 60, 0), put_zeros(b, 64);
}
static void key_past_end(builder *b)
{
    put_header(b, 3, 0, 1), put_u64(b, 1000), put_zeros(b, 20);
}
static void key_huge(builder *b)
{
    put_header(b, 3, 0, 1), put_u64(b, UINT64_MAX - 7), put_zeros(b, 20);
}
static void key_empty(builder *b)
{
    put_header(b, 3, 0, 1), put_kv_u32(b, "", 1);
}
static void key_long(builder *b)
{
    put_header(b, 3, 0, 1), put_u64(b, 65536), put_zeros(b, 70000);
}
static void key_control(builder *b)
{
    put_header(b, 3, 0, 1), put_kv_u32(b, "a\nb", 1);
}
static void key_twice(builder *b)
{
    put_header(b, 3, 0, 2), put_kv_u32(b, "same", 1), put_kv_u32(b, "same", 2);
}
static void type_unknown(builder *b)
{
    put_header(b, 3, 0, 1), put_key(b, "key", 13), put_u64(b, 0);
}
static void string_past_end(builder *b)
{
    put_header(b, 3, 0, 1), put_key(b, "key", QUERN_GGUF_STRING), put_u64(b, 9), put(b, "12345678", 8);
}
static void string_huge(builder *b)
{
    put_header(b, 3, 0, 1), put_key(b, "key", QUERN_GGUF_STRING), put_u64(b, UINT64_MAX);
}
static void nested(builder *b)
{
    put_header(b, 3, 0, 1), put_kv_array(b, "key", QUERN_GGUF_ARRAY, 1), put_zeros(b, 64);
}
static void element_unknown(builder *b)
{
    put_header(b, 3, 0, 1), put_kv_array(b, "key", 99, 1), put_zeros(b, 64);
}
static void array_past_end(builder *b)
{
    put_header(b, 3, 0, 1), put_kv_array(b, "key", QUERN_GGUF_UINT32, 3), put_u64(b, 0);
}
static void array_huge(builder *b)
{
    put_header(b, 3, 0, 1), put_kv_array(b, "key", QUERN_GGUF_UINT64, (uint64_t)1 << 61), put_u64(b, 0);
}
static void array_overflow(builder *b)
{
    put_header(b, 3, 0, 1), put_kv_array(b, "key", QUERN_GGUF_UINT64, ((uint64_t)1 << 61) + 1), put_u64(b, 0);
}
static void strings_huge(builder *b)
{
    put_header(b, 3, 0, 1), put_kv_array(b, "key", QUERN_GGUF_STRING, (uint64_t)1 << 60), put_u64(b, 0);
}
static void strings_past_end(builder *b)
{
    put_header(b, 3, 0, 1), put_kv_array(b, "key", QUERN_GGUF_STRING, 2), put_string(b, "a"), put_u64(b, 5), put(b, "bbb", 3);
}
static void alignment_int32(builder *b)
{
    put_header(b, 3, 0, 1), put_key(b, "general.alignment", QUERN_GGUF_INT32), put_u32(b, 32);
}
static void alignment_string(builder *b)
{
    put_header(b, 3, 0, 1), put_kv_string(b, "general.alignment", "32");
}
static void alignment_array(builder *b)
{
    put_header(b, 3, 0, 1), put_kv_array(b, "general.alignment", QUERN_GGUF_UINT32, 1), put_u32(b, 32);
}
static void alignment_0(builder *b)
{
    alignment(b, 0);
}
static void alignment_48(builder *b)
{
    alignment(b, 48);
}
static void alignment_huge(builder *b)
{
    alignment(b, 1u << 31);
}
static void split(builder *b)
{
    put_header(b, 3, 0, 2), put_kv_u32(b, "split.no", 1), put_kv_u32(b, "split.count", 3);
}
static void name_empty(builder *b)
{
    one_tensor(b, "", 1, row, QP_FORMAT_F32, 0);
}
static void name_control(builder *b)
{
    one_tensor(b, "t\x1b[2J", 1, row, QP_FORMAT_F32, 0);
}
static void dims_0(builder *b)
{
    one_tensor(b, "t", 0, row, QP_FORMAT_F32, 0);
}
static void dims_5(builder *b)
{
    one_tensor(b, "t", 5, (const uint64_t[]){32, 1, 1, 1, 1}, QP_FORMAT_F32, 0);
}
static void dims_huge(builder *b)
{
    put_header(b, 3, 1, 0), put_string(b, "t"), put_u32(b, UINT32_MAX), put_zeros(b, 64);
}
static void ne_zero(builder *b)
{
    one_tensor(b, "t", 2, (const uint64_t[]){32, 0}, QP_FORMAT_F32, 0);
}
static void ne_negative(builder *b)
{
    one_tensor(b, "t", 1, (const uint64_t[]){UINT64_MAX}, QP_FORMAT_F32, 0);
}
static void ne_overflow(builder *b)
{
    one_tensor(b, "t", 2, (const uint64_t[]){(uint64_t)1 << 40, (uint64_t)1 << 40}, QP_FORMAT_F32, 0);
}
static void bytes_overflow(builder *b)
{
    one_tensor(b, "t", 1, (const uint64_t[]){((uint64_t)1 << 62) + 32}, QP_FORMAT_F32, 0);
}
static void row_part(builder *b)
{
    one_tensor(b, "t", 2, (const uint64_t[]){33, 32}, QP_FORMAT_Q8_0, 0);
}
static void format_unknown(builder *b)
{
    one_tensor(b, "t", 1, row, 63, 0);
}
static void format_retired(builder *b)
{
    one_tensor(b, "t", 1, row, 31, 0);
}
static void format_huge(builder *b)
{
    one_tensor(b, "t", 1, row, UINT32_MAX, 0);
}
static void offset_odd(builder *b)
{
    one_tensor(b, "t", 1, (const uint64_t[]){4}, QP_FORMAT_F32, 8);
}
static void offset_past_end(builder *b)
{
    one_tensor(b, "t", 1, row, QP_FORMAT_F32, 32);
}
static void offset_huge(builder *b)
{
    one_tensor(b, "t", 1, row, QP_FORMAT_F32, UINT64_MAX - 31);
}
static void no_data(builder *b)
{
    put_header(b, 3, 1, 0), put_tensor(b, "t", 1, row, QP_FORMAT_F32, 0);
}
static void name_twice(builder *b)
{
    two_tensors(b, "t", 128);
}
static void overlap(builder *b)
{
    two_tensors(b, "u", 96);
}
static void same_place(builder *b)
{
    two_tensors(b, "u", 0);
}
/* clang-format on */
static void name_long(builder *b)
{
    char name[129];
    memset(name, 'n', 128);
    name[128] = '\0';
    one_tensor(b, name, 1, row, QP_FORMAT_F32, 0);
}

static const struct hostile {
    const char *name;
    void (*build)(builder *);
    quern_status status;
    const char *word;
} hostiles[] = {
    {"an empty file", empty, QP_ERR_FORMAT, "is empty"},
    {"two bytes", short_magic, QP_ERR_FORMAT, "truncated"},
    {"another kind of file", wrong_magic, QP_ERR_FORMAT, "not a GGUF file"},
    {"the magic alone", only_magic, QP_ERR_FORMAT, "truncated"},
    {"version 0", version_0, QP_ERR_UNSUPPORTED, "version 0"},
    {"version 1", version_1, QP_ERR_UNSUPPORTED, "version 1"},
    {"version 4", version_4, QP_ERR_UNSUPPORTED, "version 4"},
    {"a big-endian file", big_endian, QP_ERR_UNSUPPORTED, "big-endian"},
    {"2^60 metadata entries", many_entries, QP_ERR_FORMAT, "claims 1152921504606846976 metadata entries"},
    {"2^64 - 1 metadata entries", all_entries, QP_ERR_FORMAT, "claims"},
    {"2^60 tensors", many_tensors, QP_ERR_FORMAT, "claims 1152921504606846976 tensors"},
    {"a key past the end", key_past_end, QP_ERR_FORMAT, "truncated"},
    {"a key of 2^64 - 8 bytes", key_huge, QP_ERR_FORMAT, "truncated"},
    {"an empty key", key_empty, QP_ERR_FORMAT, "0 bytes long"},
    {"a key of 65536 bytes", key_long, QP_ERR_FORMAT, "65536 bytes long"},
    {"a key with a newline", key_control, QP_ERR_FORMAT, "control byte 0x0a"},
    {"a key that is there twice", key_twice, QP_ERR_FORMAT, "'same' is there twice"},
    {"an unknown value type", type_unknown, QP_ERR_FORMAT, "type 13"},
    {"a string past the end", string_past_end, QP_ERR_FORMAT, "'key'"},
    {"a string of 2^64 - 1 bytes", string_huge, QP_ERR_FORMAT, "'key'"},
    {"an array of arrays", nested, QP_ERR_UNSUPPORTED, "array of arrays"},
    {"an array of an unknown type", element_unknown, QP_ERR_FORMAT, "type 99"},
    {"an array past the end", array_past_end, QP_ERR_FORMAT, "claims 3 values"},
    {"an array of 2^61 numbers", array_huge, QP_ERR_FORMAT, "claims"},
    {"an array whose size overflows", array_overflow, QP_ERR_FORMAT, "claims"},
    {"an array of 2^60 strings", strings_huge, QP_ERR_FORMAT, "claims"},
    {"strings past the end", strings_past_end, QP_ERR_FORMAT, "truncated"},
    {"an alignment of type INT32", alignment_int32, QP_ERR_FORMAT, "INT32"},
    {"an alignment of type STRING", alignment_string, QP_ERR_FORMAT, "STRING"},
    {"an alignment of type ARRAY", alignment_array, QP_ERR_FORMAT, "ARRAY"},
    {"alignment 0", alignment_0, QP_ERR_FORMAT, "power of two"},
    {"alignment 48", alignment_48, QP_ERR_FORMAT, "power of two"},
    {"alignment 2^31", alignment_huge, QP_ERR_FORMAT, "power of two"},
    {"a file in parts", split, QP_ERR_UNSUPPORTED, "part 2 of a model split into 3"},
    {"a tensor without a name", name_empty, QP_ERR_FORMAT, "0 bytes long"},
    {"a tensor's name of 128 bytes", name_long, QP_ERR_FORMAT, "128 bytes long"},
    {"an escape sequence in a tensor's name", name_control, QP_ERR_FORMAT, "control byte 0x1b"},
    {"no dimensions", dims_0, QP_ERR_FORMAT, "0 dimensions"},
    {"five dimensions", dims_5, QP_ERR_FORMAT, "5 dimensions"},
    {"2^32 - 1 dimensions", dims_huge, QP_ERR_FORMAT, "4294967295 dimensions"},
    {"a dimension of 0", ne_zero, QP_ERR_FORMAT, "0 elements in dimension 1"},
    {"a dimension of 2^64 - 1", ne_negative, QP_ERR_FORMAT, "18446744073709551615 elements"},
    {"2^80 elements", ne_overflow, QP_ERR_FORMAT, "more than 2^63"},
    {"more than 2^64 bytes", bytes_overflow, QP_ERR_FORMAT, "larger than 2^64"},
    {"rows that are not whole blocks", row_part, QP_ERR_FORMAT, "Q8_0 blocks of 32"},
    {"an unknown format", format_unknown, QP_ERR_UNSUPPORTED, "'t' has format number 63"},
    {"a withdrawn format", format_retired, QP_ERR_UNSUPPORTED, "withdrawn"},
    {"format 2^32 - 1", format_huge, QP_ERR_UNSUPPORTED, "4294967295"},
    {"an offset that is not aligned", offset_odd, QP_ERR_FORMAT, "multiple of the alignment"},
    {"a tensor past the end", offset_past_end, QP_ERR_FORMAT, "truncated"},
    {"an offset of 2^64 - 32", offset_huge, QP_ERR_FORMAT, "truncated"},
    {"a tensor without data", no_data, QP_ERR_FORMAT, "0 bytes of data"},
    {"a tensor that is there twice", name_twice, QP_ERR_FORMAT, "'t' is there twice"},
    {"overlapping tensors", overlap, QP_ERR_FORMAT, "overlap"},
    {"tensors in one place", same_place, QP_ERR_FORMAT, "overlap"},
};

static void test_hostile(const struct hostile *h)
{
    builder b = {0};
    h->build(&b);
    unsigned char *copy = malloc(b.size ? b.size : 1);
    if (b.size)
        memcpy(copy, b.data, b.size);
    quern_gguf *g = NULL;
    quern_error error = {0};
    quern_status status = quern_gguf_open_memory(copy, b.size, "bad.gguf", &g, &error);
    ok(status == h->status && !g && strstr(error.text, h->word) && !strncmp(error.text, "bad.gguf: ", 10), "%s: %s", h->name,
       error.text);
    if (status == QP_OK)
        quern_gguf_close(g);
    free(copy);
    builder_free(&b);
}

static void test_tolerance(void)
{
    builder b = {0};
    quern_gguf *g = NULL;
    quern_error error = {0};
    put_header(&b, 2, 1, 1);
    put_kv_u32(&b, "general.alignment", 64);
    put_tensor(&b, "t", 4, (const uint64_t[]){32, 2, 1, 1}, QP_FORMAT_F16, 0);
    put_padding(&b, 64);
    put_zeros(&b, 128);
    ok(!quern_gguf_open_memory(b.data, b.size, NULL, &g, &error) && quern_gguf_version(g) == 2 && quern_gguf_alignment(g) == 64 &&
           quern_gguf_tensor_at(g, 0)->offset % 64 == 0,
       "version 2 with alignment 64 %s", error.text);
    quern_gguf_close(g);
    builder_free(&b);
    put_header(&b, 3, 0, 0);
    g = NULL;
    ok(!quern_gguf_open_memory(b.data, b.size, NULL, &g, &error) && !quern_gguf_find(g, "x") && !quern_gguf_tensor_find(g, "x"),
       "a file with nothing in it");
    quern_gguf_close(g);
    quern_gguf_close(NULL);
    builder_free(&b);
}

/* ---- files on disk ------------------------------------------------------------------------------------------------ */

static void test_shrinking(void)
{
    char path[] = "/tmp/quern-test-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0) {
        skip("cannot write to /tmp", "a file that shrinks");
        return;
    }
    builder b = {0};
    build_good(&b);
    quern_gguf *g = NULL;
    quern_error error = {0};
    unsigned char bytes[68];
    int written = write(fd, b.data, b.size) == (ssize_t)b.size;
    ok(written && !quern_gguf_open(path, &g, &error), "a good file on disk opens %s", error.text);
    const quern_gguf_tensor *t = g ? quern_gguf_tensor_find(g, "second") : NULL;
    ok(t && !quern_gguf_read(g, t, 0, bytes, 68, &error) && bytes[0] == 32 && bytes[67] == 99, "its data can be read");
    ok(!ftruncate(fd, (off_t)b.size - 30) && t && quern_gguf_read(g, t, 0, bytes, 68, &error) == QP_ERR_IO &&
           strstr(error.text, "'second'"),
       "the file has shrunk: %s", error.text);
    quern_string s;
    ok(!ftruncate(fd, 0) && g && !quern_gguf_get_string(g, "a.words", 2, &s, NULL) && s.size == 5,
       "metadata does not depend on the file any more");
    quern_gguf_close(g);
    close(fd);
    unlink(path);
    builder_free(&b);
}

static void test_paths(void)
{
    quern_gguf *g = NULL;
    quern_error error = {0};
    ok(quern_gguf_open("/no/such.gguf", &g, &error) == QP_ERR_NOT_FOUND && !strncmp(error.text, "/no/such.gguf: ", 15),
       "no such file: %s", error.text);
    ok(quern_gguf_open("/tmp", &g, &error) == QP_ERR_IO && strstr(error.text, "directory"), "a directory: %s", error.text);
    ok(quern_gguf_open("/dev/null", &g, &error) == QP_ERR_IO, "a device: %s", error.text);
    ok(quern_gguf_open(NULL, &g, &error) == QP_ERR_INVALID, "no path: %s", error.text);
    ok(quern_gguf_open("/no/such.gguf", &g, NULL) == QP_ERR_NOT_FOUND, "no words wanted");
    const char *path = tap_fixture("models/tiny-books-q8_0.gguf");
    if (!path) {
        skip("no fixtures", "a real model");
        return;
    }
    uint64_t layers = 0;
    ok(!quern_gguf_open(path, &g, &error) && quern_gguf_tensor_count(g) == 74 &&
           !quern_gguf_get_u64(g, "llama.block_count", 0, &layers, NULL) && layers == 8 &&
           quern_gguf_find(g, "tokenizer.ggml.tokens")->count == 4096,
       "a real model %s", error.text);
    quern_gguf_close(g);
}

int main(void)
{
    test_good_file();
    for (size_t i = 0; i < sizeof hostiles / sizeof *hostiles; i++)
        test_hostile(&hostiles[i]);
    test_tolerance();
    test_shrinking();
    test_paths();
    return tap_done();
}
