/* SPDX-License-Identifier: MIT
 * libquern-engine: continues a text with a model, always taking the likeliest token.
 *
 *   cc generate.c $(pkg-config --cflags --libs quern-engine) -o generate && ./generate model.gguf "Once upon a time" */
#include <quern/engine.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static quern_error error;

static void must(quern_status status)
{
    if (status == QP_OK)
        return;
    fprintf(stderr, "%s\n", error.text);
    exit(1);
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: generate MODEL.gguf PROMPT [TOKENS]\n");
        return 2;
    }
    int wanted = argc > 3 ? atoi(argv[3]) : 40;

    /* File, device, model, session: each lives longer than the next. */
    quern_gguf *gguf;
    quern_context *context;
    quern_device *device;
    quern_model *model;
    quern_session *session;
    must(quern_gguf_open(argv[1], &gguf, &error));
    must(quern_context_create(NULL, &context, &error));
    must(quern_device_open(context, "auto", NULL, &device, &error));
    must(quern_model_load(device, gguf, NULL, &model, &error));
    quern_session_options options = {.struct_size = sizeof options, .context = 512};
    must(quern_session_create(model, &options, &session, &error));

    const quern_tokenizer *tokenizer = quern_model_tokenizer(model);
    if (!tokenizer) {
        fprintf(stderr, "%s has no vocabulary\n", argv[1]);
        return 1;
    }
    quern_token_list tokens = {0};
    must(quern_tokenize(tokenizer, argv[2], strlen(argv[2]), QUERN_TOKENIZE_BOS, &tokens, &error));
    if (!tokens.count) {
        fprintf(stderr, "the prompt is empty\n");
        return 1;
    }
    must(quern_session_eval(session, tokens.ids, tokens.count, NULL, &error));

    quern_utf8_stream stream = {0};
    int32_t before = tokens.ids[tokens.count - 1], token;
    char bytes[256], text[3 * (sizeof bytes + 4)];
    printf("%s", argv[2]);
    for (int i = 0; i < wanted; i++) {
        must(quern_session_greedy(session, &token, &error));
        if (quern_tokenizer_is_stop(tokenizer, token))
            break;
        size_t size = quern_token_bytes(tokenizer, token, quern_token_first(tokenizer, before), 0, bytes, sizeof bytes);
        fwrite(text, 1, quern_utf8_push(&stream, bytes, size < sizeof bytes ? size : sizeof bytes, text), stdout);
        fflush(stdout);
        if (quern_session_length(session) == options.context)
            break;
        must(quern_session_eval(session, &token, 1, NULL, &error));
        before = token;
    }
    fwrite(text, 1, quern_utf8_push(&stream, NULL, 0, text), stdout);
    printf("\n");

    quern_token_list_free(&tokens);
    quern_session_destroy(session);
    quern_model_destroy(model);
    quern_device_close(device);
    quern_context_destroy(context);
    quern_gguf_close(gguf);
    return 0;
}
