/* SPDX-License-Identifier: MIT
 * tests/unit/chat_help.h: a model file without weights that has a byte-level vocabulary, the special tokens of every family of chat
 * templates, and a template. */
#ifndef TESTS_UNIT_CHAT_HELP_H
#define TESTS_UNIT_CHAT_HELP_H

#include "gguf_builder.h"
#include "tap.h"

#define BAR "\xef\xbd\x9c"

static const char *const chat_specials[] = {
    "<s>",
    "</s>",
    "<|im_start|>",
    "<|im_end|>",
    "<|im_sep|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<|start_of_role|>",
    "<|end_of_role|>",
    "<|end_of_text|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|SYSTEM_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<" BAR "User" BAR ">",
    "<" BAR "Assistant" BAR ">",
    "<|EOT|>",
    "<|end_of_turn|>",
    "[INST]",
    "[/INST]",
    "[SYSTEM_PROMPT]",
    "[/SYSTEM_PROMPT]",
    "<|start|>",
    "<|message|>",
    "<|channel|>",
    "<|return|>",
    "<|call|>",
    "<|constrain|>",
    "<" BAR "end\xe2\x96\x81of\xe2\x96\x81sentence" BAR ">",
};
enum { CHAT_LETTERS = 256, CHAT_SPECIALS = sizeof chat_specials / sizeof *chat_specials, CHAT_BOS_ID = CHAT_LETTERS, CHAT_EOS_ID };
/* after those: <think> and </think>, which are user-defined */
enum { CHAT_THINK_ID = CHAT_LETTERS + CHAT_SPECIALS, CHAT_END_THINK_ID, CHAT_VOCABULARY };

/* The character that byte-level vocabularies write a byte as. */
static inline void chat_letter(unsigned byte, char dst[4])
{
    unsigned next = 256, c = byte;
    for (unsigned b = 0; b <= byte; b++) {
        int printable = (b > ' ' && b < 0x7f) || (b > 0xa0 && b != 0xad);
        c = printable ? b : next++;
    }
    memset(dst, 0, 4);
    if (c < 0x80)
        dst[0] = (char)c;
    else
        dst[0] = (char)(0xc0 | c >> 6), dst[1] = (char)(0x80 | (c & 63));
}

/* kind: of the special tokens. template NULL: none. */
static inline builder chat_file(const char *template, quern_token_kind kind, int add_bos)
{
    builder b = {0};
    put_header(&b, 3, 0, template ? 9u : 8u);
    put_kv_string(&b, "tokenizer.ggml.model", "gpt2");
    put_kv_string(&b, "tokenizer.ggml.pre", "gpt-2");
    put_kv_array(&b, "tokenizer.ggml.tokens", QUERN_GGUF_STRING, CHAT_VOCABULARY);
    for (unsigned i = 0; i < CHAT_LETTERS; i++) {
        char letter[4];
        chat_letter(i, letter);
        put_string(&b, letter);
    }
    for (size_t i = 0; i < CHAT_SPECIALS; i++)
        put_string(&b, chat_specials[i]);
    put_string(&b, "<think>");
    put_string(&b, "</think>");
    put_kv_array(&b, "tokenizer.ggml.token_type", QUERN_GGUF_INT32, CHAT_VOCABULARY);
    for (unsigned i = 0; i < CHAT_VOCABULARY; i++)
        put_u32(&b, i < CHAT_LETTERS ? QUERN_TOKEN_NORMAL : i < CHAT_THINK_ID ? kind : QUERN_TOKEN_USER);
    put_kv_array(&b, "tokenizer.ggml.merges", QUERN_GGUF_STRING, 0);
    put_kv_u32(&b, "tokenizer.ggml.bos_token_id", CHAT_BOS_ID);
    put_kv_u32(&b, "tokenizer.ggml.eos_token_id", CHAT_EOS_ID);
    put_kv_bool(&b, "tokenizer.ggml.add_bos_token", (uint8_t)add_bos);
    if (template)
        put_kv_string(&b, "tokenizer.chat_template", template);
    return b;
}

typedef struct chat_model {
    builder file;
    quern_gguf *gguf;
    quern_tokenizer *tokenizer;
} chat_model;

static inline chat_model chat_open(const char *template, quern_token_kind kind, int add_bos)
{
    chat_model m = {.file = chat_file(template, kind, add_bos)};
    quern_error error = {0};
    if (quern_gguf_open_memory(m.file.data, m.file.size, "chat.gguf", &m.gguf, &error) != QP_OK ||
        quern_tokenizer_create(m.gguf, &m.tokenizer, &error) != QP_OK)
        diag("%s", error.text);
    return m;
}

static inline void chat_close(chat_model *m)
{
    quern_tokenizer_destroy(m->tokenizer);
    quern_gguf_close(m->gguf);
    builder_free(&m->file);
}

#endif
