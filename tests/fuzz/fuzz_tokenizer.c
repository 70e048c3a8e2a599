/* SPDX-License-Identifier: MIT
 * tests/fuzz/fuzz_tokenizer.c: any vocabulary and any text. The input is the length of a GGUF file (u32), that file, a byte of
 * flags and the text. Ids lie inside the vocabulary, and what is streamed is UTF-8. */
#include "fuzz.h"

#include "engine/utf8.h"
#include <quern/engine.h>

#include <string.h>

static void check_utf8(const char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        int length = utf8_sequence((const unsigned char *)text + at, size - at);
        promise(length > 0);
        at += (size_t)length;
    }
}

static void stream(const quern_tokenizer *t, const quern_token_list *list)
{
    quern_utf8_stream utf8 = {0};
    char bytes[300], text[3 * (sizeof bytes + 4)];
    for (size_t i = 0; i < list->count; i++) {
        promise(list->ids[i] >= 0 && (uint32_t)list->ids[i] < quern_tokenizer_size(t));
        size_t size =
            quern_token_bytes(t, list->ids[i], quern_token_first(t, i ? list->ids[i - 1] : -1), (int)(i & 1), bytes, sizeof bytes);
        promise(quern_token_bytes(t, list->ids[i], 1, 1, NULL, 0) <= 65535);
        size = size < sizeof bytes ? size : sizeof bytes;
        size = size ? quern_utf8_push(&utf8, bytes, size, text) : 0; /* 0 would flush */
        promise(size <= sizeof text);
        check_utf8(text, size);
    }
    check_utf8(text, quern_utf8_push(&utf8, NULL, 0, text));
}

static void tokenize(const quern_tokenizer *t, const uint8_t *data, size_t size)
{
    quern_token_list list = {0};
    quern_error error = {0};
    uint32_t flags = size ? data[0] & 3 : 0;
    quern_status status = quern_tokenize(t, size ? (const char *)data + 1 : "", size ? size - 1 : 0, flags, &list, &error);
    promise(status == QP_OK || (list.count == 0 && error.text[0]));
    /* a byte is at most one token; a space that is not in the vocabulary is three; a space is put in front of each stretch */
    promise(list.count <= 7 * size + 4);
    stream(t, &list);
    quern_token_list_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t length;
    if (size < sizeof length)
        return 0;
    memcpy(&length, data, sizeof length);
    data += sizeof length;
    size -= sizeof length;
    length = length < size ? length : (uint32_t)size;
    quern_gguf *g = NULL;
    quern_tokenizer *t = NULL;
    quern_error error = {0};
    if (quern_gguf_open_memory(data, length, "fuzz", &g, &error) != QP_OK)
        return 0;
    quern_status status = quern_tokenizer_create(g, &t, &error);
    quern_gguf_close(g);
    promise((status == QP_OK) == (t != NULL));
    promise(t || !strncmp(error.text, "fuzz: ", 6));
    if (t)
        tokenize(t, data + length, size - length);
    quern_tokenizer_destroy(t);
    return 0;
}
