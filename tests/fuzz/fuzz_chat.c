/* SPDX-License-Identifier: MIT
 * tests/fuzz/fuzz_chat.c: any chat template and any conversation. The input is the length of a GGUF file (u32), that file
 * (vocabulary and template), a byte that chooses a family (those past the last: the template's own), a byte of flags, and messages:
 * a byte of the role, a byte of the length, the text. Tokens lie inside the vocabulary, words give no control token, and text and
 * tokens agree. */
#include "fuzz.h"

#include <quern/engine.h>

#include <string.h>

enum { MAX_MESSAGES = 16, ROOM = 1 << 16 };

static size_t read_messages(const uint8_t *data, size_t size, quern_chat_message messages[MAX_MESSAGES])
{
    size_t count = 0;
    for (size_t at = 0; count < MAX_MESSAGES && at + 2 <= size; count++) {
        size_t length = data[at + 1] < size - at - 2 ? data[at + 1] : size - at - 2;
        messages[count] =
            (quern_chat_message){.role = (quern_chat_role)(data[at] % 4), .text = (const char *)data + at + 2, .size = length};
        at += 2 + length;
    }
    return count;
}

static size_t count_controls(const quern_tokenizer *t, const quern_token_list *list)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        promise(list->ids[i] >= 0 && (uint32_t)list->ids[i] < quern_tokenizer_size(t));
        count += quern_tokenizer_kind(t, list->ids[i]) == QUERN_TOKEN_CONTROL;
    }
    return count;
}

/* With the words left out the markup is the same, so there are as many control tokens. Two families read the system's words (gpt-oss
 * writes a developer's message only if there are some, SmolLM3 obeys "/no_think" in them): there those stay. */
static void check_words(const quern_chat *chat, const quern_tokenizer *t, quern_chat_message *messages, size_t count,
                        uint32_t flags, size_t controls)
{
    quern_token_list list = {0};
    quern_error error = {0};
    const char *family = quern_chat_get_family(chat)->name;
    int reads_system = !strcmp(family, "gpt-oss") || !strcmp(family, "smollm3");
    for (size_t i = 0; i < count; i++)
        if (!reads_system || messages[i].role == QUERN_CHAT_USER)
            messages[i].size = 0;
    if (quern_chat_tokenize(chat, messages, count, flags, &list, &error) == QP_OK)
        promise(count_controls(t, &list) == controls);
    quern_token_list_free(&list);
}

static void talk(const quern_chat *chat, const quern_tokenizer *t, const uint8_t *data, size_t size)
{
    static char text[ROOM];
    quern_chat_message messages[MAX_MESSAGES];
    quern_token_list list = {0};
    quern_error error = {0};
    uint32_t flags = size ? data[0] & 3 : 0;
    size_t count = size ? read_messages(data + 1, size - 1, messages) : 0, length = 0;
    quern_status status = quern_chat_tokenize(chat, messages, count, flags, &list, &error);
    quern_status as_text = quern_chat_text(chat, messages, count, flags, text, sizeof text, &length, &error);
    promise(status == QP_OK || (list.count == 0 && error.text[0] && !strchr(error.text, '\n')));
    promise(as_text == QP_OK || status != QP_OK);
    if (status == QP_OK) {
        size_t controls = count_controls(t, &list);
        quern_chat_stream stream = quern_chat_stream_begin(chat, flags);
        for (size_t i = 0; i < list.count; i++) {
            promise(quern_chat_stream_push(chat, &stream, list.ids[i]) <= QUERN_CHAT_MARKUP);
            promise(quern_chat_is_stop(chat, list.ids[i]) >= quern_tokenizer_is_stop(t, list.ids[i]));
        }
        check_words(chat, t, messages, count, flags, controls);
    }
    quern_token_list_free(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint32_t length, families = 0;
    quern_gguf *g = NULL;
    quern_tokenizer *t = NULL;
    quern_chat *chat = NULL;
    quern_error error = {0};
    if (size < sizeof length)
        return 0;
    memcpy(&length, data, sizeof length);
    data += sizeof length;
    size -= sizeof length;
    length = length < size ? length : (uint32_t)size;
    if (quern_gguf_open_memory(data, length, "fuzz", &g, &error) != QP_OK)
        return 0;
    while (quern_chat_family_at(families))
        families++;
    if (quern_tokenizer_create(g, &t, &error) == QP_OK) {
        uint8_t wanted = length < size ? data[length] : 255;
        quern_chat_options options = {.struct_size = sizeof options,
                                      .family = wanted < families ? quern_chat_family_at(wanted)->name : NULL};
        quern_status status = quern_chat_create(g, t, &options, &chat, &error);
        promise((status == QP_OK) == (chat != NULL) && (chat || error.text[0]));
        if (chat && length + 1 < size)
            talk(chat, t, data + length + 1, size - length - 1);
    }
    quern_chat_destroy(chat);
    quern_tokenizer_destroy(t);
    quern_gguf_close(g);
    return 0;
}
