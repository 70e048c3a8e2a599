/* SPDX-License-Identifier: MIT
 * tests/unit/tokenizer_help.h: what the tests of all tokenizer models share: reference ids, ways back, time. */
#ifndef TESTS_UNIT_TOKENIZER_HELP_H
#define TESTS_UNIT_TOKENIZER_HELP_H

#include "tap.h"
#include <quern/engine.h>

#include <time.h>

static uint64_t random_state = 20260101;

static inline uint32_t random_below(uint32_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

static inline quern_tokenizer *open_tokenizer(const char *path)
{
    quern_gguf *g = NULL;
    quern_tokenizer *t = NULL;
    quern_error error = {0};
    if (quern_gguf_open(path, &g, &error) == QP_OK)
        quern_tokenizer_create(g, &t, &error);
    quern_gguf_close(g); /* the vocabulary is copied */
    if (!t)
        diag("%s", error.text);
    return t;
}

/* ---- reference ids ------------------------------------------------------------------------------------------------ */

static inline char *read_text(const char *path)
{
    FILE *file = path ? fopen(path, "rb") : NULL;
    if (!file)
        return NULL;
    char *text = calloc(1, 1 << 16);
    size_t size = fread(text, 1, (1 << 16) - 1, file);
    fclose(file);
    text[size] = '\0';
    return text;
}

static inline int same_ids(const quern_token_list *list, const char *line)
{
    for (size_t i = 0; i < list->count; i++) {
        char *end;
        long id = strtol(line, &end, 10);
        if (end == line || id != list->ids[i])
            return 0;
        line = end;
    }
    return line[strspn(line, " ")] == '\0';
}

static inline void test_reference(const char *name)
{
    static const char separator[] = "\n__ggml_vocab_test__\n";
    char path[128], texts_path[128], ids_path[128];
    snprintf(path, sizeof path, "tokenizers/%s.gguf", name);
    snprintf(texts_path, sizeof texts_path, "tokenizers/%s.gguf.inp", name);
    snprintf(ids_path, sizeof ids_path, "tokenizers/%s.gguf.out", name);
    if (!tap_fixture(path)) {
        skip("no fixtures", "reference ids of %s", name);
        return;
    }
    quern_tokenizer *t = open_tokenizer(tap_fixture(path));
    char *texts = read_text(tap_fixture(texts_path)), *lines = read_text(tap_fixture(ids_path)), *text = texts, *line = lines;
    int number = 0, good = t && texts && lines;
    while (good && *line) {
        char *end = strstr(text, separator), *line_end = strchr(line, '\n');
        quern_token_list list = {0};
        *line_end = '\0';
        number++;
        if (!end || quern_tokenize(t, text, (size_t)(end - text), 0, &list, NULL) || !same_ids(&list, line)) {
            diag("text %d of %s differs: %.*s", number, name, end ? (int)(end - text) : 0, text);
            good = 0;
        }
        quern_token_list_free(&list);
        text = end ? end + sizeof separator - 1 : text;
        line = line_end + 1;
    }
    ok(good && number == 46, "%s: %d texts give the reference's ids", name, number);
    free(texts);
    free(lines);
    quern_tokenizer_destroy(t);
}

/* ---- ways back ---------------------------------------------------------------------------------------------------- */

static inline size_t put_character(char *dst, uint32_t c)
{
    if (c < 0x80)
        return dst[0] = (char)c, 1;
    if (c < 0x800)
        return dst[0] = (char)(0xc0 | c >> 6), dst[1] = (char)(0x80 | (c & 63)), 2;
    if (c < 0x10000)
        return dst[0] = (char)(0xe0 | c >> 12), dst[1] = (char)(0x80 | (c >> 6 & 63)), dst[2] = (char)(0x80 | (c & 63)), 3;
    return dst[0] = (char)(0xf0 | c >> 18), dst[1] = (char)(0x80 | (c >> 12 & 63)), dst[2] = (char)(0x80 | (c >> 6 & 63)),
           dst[3] = (char)(0x80 | (c & 63)), 4;
}

/* Letters, white space, other scripts, everything. U+2581 is left out: SentencePiece writes spaces with it, so it comes back as
 * one. */
static inline uint32_t random_character(void)
{
    static const uint32_t starts[] = {'a', ' ', '\n', 0xc0, 0x400, 0x4e00, 0x1f300, 1},
                          counts[] = {26, 1, 1, 64, 256, 20000, 700, 0x10fffe};
    uint32_t kind = random_below(8), c = starts[kind] + random_below(counts[kind]);
    return c == 0x2581 || (c >= 0xd800 && c < 0xe000) ? ' ' : c;
}

static inline size_t decode(const quern_tokenizer *t, const quern_token_list *list, int special, char *dst, size_t room)
{
    size_t size = 0;
    for (size_t i = 0; i < list->count; i++) {
        int first = quern_token_first(t, i ? list->ids[i - 1] : -1);
        size += quern_token_bytes(t, list->ids[i], first, special, dst + size, room - size);
    }
    return size;
}

/* As a terminal gets it: token by token through the stream. -1: a part ended inside a character. */
static inline long stream(const quern_tokenizer *t, const quern_token_list *list, char *dst, size_t room)
{
    quern_utf8_stream utf8 = {0};
    size_t size = 0;
    for (size_t i = 0; i <= list->count; i++) {
        char bytes[256], text[3 * (sizeof bytes + 4)];
        size_t count = i < list->count ? quern_token_bytes(t, list->ids[i], quern_token_first(t, i ? list->ids[i - 1] : -1), 0,
                                                           bytes, sizeof bytes)
                                       : 0;
        if (i < list->count && !count)
            continue; /* 0 would flush */
        size_t out = quern_utf8_push(&utf8, bytes, count, text);
        if (out && ((unsigned char)text[0] & 0xc0) == 0x80)
            return -1;
        for (size_t back = 1; out && back <= out && back < 5; back++) {
            unsigned char c = (unsigned char)text[out - back];
            if ((c & 0xc0) == 0x80)
                continue;
            if (c >= 0xc0 && back != (c >= 0xf0 ? 4u : c >= 0xe0 ? 3u : 2u))
                return -1;
            break;
        }
        if (size + out > room)
            return -1;
        memcpy(dst + size, text, out);
        size += out;
    }
    return (long)size;
}

/* Some vocabularies lack tokens for bytes that were not in their training text. How many; usable: 1 for each of the others. */
static inline int find_usable_bytes(const quern_tokenizer *t, char usable[256])
{
    int lacking = 0;
    for (int byte = 0; byte < 256; byte++) {
        char text = (char)byte, back[16];
        quern_token_list list = {0};
        usable[byte] =
            !quern_tokenize(t, &text, 1, 0, &list, NULL) && decode(t, &list, 0, back, sizeof back) == 1 && back[0] == text;
        lacking += !usable[byte];
        quern_token_list_free(&list);
    }
    return lacking;
}

static inline int all_usable(const char *text, size_t size, const char usable[256])
{
    for (size_t i = 0; i < size; i++)
        if (!usable[(unsigned char)text[i]])
            return 0;
    return 1;
}

static inline void test_identity(const char *fixture, int bytes, int lacking)
{
    quern_tokenizer *t = tap_fixture(fixture) ? open_tokenizer(tap_fixture(fixture)) : NULL;
    if (!t) {
        skip("no fixtures", "texts come back through %s", fixture);
        return;
    }
    char usable[256];
    int bad = find_usable_bytes(t, usable) != lacking, broken = 0;
    for (int round = 0; round < 10000; round++) {
        char text[256], back[512];
        size_t size = 0;
        for (uint32_t n = random_below(40); n; n--) {
            size_t more = bytes ? (text[size] = (char)random_below(256), 1) : put_character(text + size, random_character());
            size += all_usable(text + size, more, usable) ? more : (text[size] = 'x', 1);
        }
        for (size_t i = 0; bytes && i + 2 < size; i++)
            text[i] = memcmp(text + i, "\xe2\x96\x81", 3) ? text[i] : 'x';
        quern_token_list list = {0};
        if (quern_tokenize(t, text, size, 0, &list, NULL) || decode(t, &list, 0, back, sizeof back) != size ||
            memcmp(text, back, size))
            bad++;
        long streamed = bytes ? (long)size : stream(t, &list, back, sizeof back);
        broken += streamed != (long)size || (!bytes && memcmp(text, back, size) != 0);
        quern_token_list_free(&list);
    }
    if (!bytes)
        ok(!broken, "as a stream they do too, never cut inside a character (%d did not)", broken);
    ok(!bad, "10000 random %s come back through %s (%d did not), which lacks %d bytes", bytes ? "byte strings" : "texts", fixture,
       bad, lacking);
    quern_tokenizer_destroy(t);
}

/* ---- special tokens ----------------------------------------------------------------------------------------------- */

static inline int is_special_kind(const quern_tokenizer *t, int32_t id)
{
    quern_token_kind kind = quern_tokenizer_kind(t, id);
    return kind == QUERN_TOKEN_CONTROL || kind == QUERN_TOKEN_USER || kind == QUERN_TOKEN_UNKNOWN;
}

/* Each special token's text is that token where special tokens are looked for (of equal ones the last), and comes back. Where they
 * are not, a control token's text is text: no control token, and the same text back. User-defined (added) ones are always looked
 * for. */
static inline void test_specials(const char *fixture)
{
    quern_tokenizer *t = tap_fixture(fixture) ? open_tokenizer(tap_fixture(fixture)) : NULL;
    if (!t) {
        skip("no fixtures", "special tokens of %s", fixture);
        return;
    }
    int counts[7] = {0}, bad = 0, leaks = 0;
    char usable[256];
    find_usable_bytes(t, usable);
    for (int32_t id = 0; id < (int32_t)quern_tokenizer_size(t); id++) {
        char text[300], back[1024];
        size_t size = quern_token_bytes(t, id, 0, 1, text + 1, sizeof text - 2);
        if (!is_special_kind(t, id) || !size || size > sizeof text - 2)
            continue;
        counts[quern_tokenizer_kind(t, id)]++;
        quern_token_list list = {0};
        int fine = !quern_tokenize(t, text + 1, size, QUERN_TOKENIZE_SPECIAL, &list, NULL) && list.count == 1 &&
                   is_special_kind(t, list.ids[0]);
        fine = fine && decode(t, &list, 1, back, sizeof back) == size && !memcmp(back, text + 1, size);
        bad += !fine;
        list.count = 0;
        text[0] = text[size + 1] = 'x'; /* inside other text */
        fine = !quern_tokenize(t, text, size + 2, 0, &list, NULL);
        for (size_t i = 0; i < list.count; i++)
            leaks += quern_tokenizer_kind(t, list.ids[i]) == QUERN_TOKEN_CONTROL;
        if (all_usable(text, size + 2, usable) && quern_tokenizer_kind(t, id) != QUERN_TOKEN_UNKNOWN)
            bad += !fine || decode(t, &list, 1, back, sizeof back) != size + 2 || memcmp(back, text, size + 2) != 0;
        quern_token_list_free(&list);
    }
    ok(!bad && !leaks,
       "%s: %d control, %d user-defined, %d unknown tokens are found where they are looked for (%d are not; %d leaks)", fixture,
       counts[QUERN_TOKEN_CONTROL], counts[QUERN_TOKEN_USER], counts[QUERN_TOKEN_UNKNOWN], bad, leaks);
    quern_tokenizer_destroy(t);
}

/* ---- the rest ----------------------------------------------------------------------------------------------------- */

static inline void expect_ids(const quern_tokenizer *t, const char *text, uint32_t flags, const char *want)
{
    quern_token_list list = {0};
    quern_error error = {0};
    quern_status status = quern_tokenize(t, text, strlen(text), flags, &list, &error);
    char shown[48];
    snprintf(shown, sizeof shown, "%s", text);
    for (char *c = shown; *c; c++)
        *c = *c < ' ' ? '.' : *c;
    ok(status == QP_OK && same_ids(&list, want), "flags %u: \"%s\" is tokens %s", flags, shown, want);
    for (size_t i = 0; status == QP_OK && i < list.count && !same_ids(&list, want); i++)
        diag("got %d", list.ids[i]);
    quern_token_list_free(&list);
}

/* Not a time of this machine: ten times the text must not take a hundred times as long. */
static inline double seconds_for(const quern_tokenizer *t, size_t size)
{
    char *text = malloc(size);
    memset(text, 'a', size); /* one segment, the worst case */
    struct timespec begin, end;
    quern_token_list list = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin);
    quern_status status = quern_tokenize(t, text, size, 0, &list, NULL);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    quern_token_list_free(&list);
    free(text);
    return status == QP_OK ? (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec) : 1e9;
}

#endif
