/* SPDX-License-Identifier: MIT
 * Real models, from text to text: greedy continuations that the fixtures' README gives. */
#include "engine/help.h"

static int generate(const test_model *m, const char *prompt, uint32_t chunk, uint32_t most, char *text, size_t size,
                    quern_error *error)
{
    const quern_tokenizer *tokenizer = quern_model_tokenizer(m->model);
    quern_session_options options = {.struct_size = sizeof options, .chunk = chunk};
    quern_session *s = NULL;
    quern_token_list list = {0};
    size_t used = 0;
    int32_t token = -1, before;
    int fine = quern_session_create(m->model, &options, &s, error) == QP_OK &&
               quern_tokenize(tokenizer, prompt, strlen(prompt), QUERN_TOKENIZE_BOS, &list, error) == QP_OK &&
               quern_session_eval(s, list.ids, list.count, NULL, error) == QP_OK;
    before = list.count ? list.ids[list.count - 1] : -1;
    for (uint32_t i = 0; fine && i < most; i++) {
        fine = quern_session_greedy(s, &token, error) == QP_OK;
        if (!fine || quern_tokenizer_is_stop(tokenizer, token))
            break;
        size_t n = quern_token_bytes(tokenizer, token, quern_token_first(tokenizer, before), 0, text + used, size - used - 1);
        used += n < size - used - 1 ? n : size - used - 1;
        before = token;
        fine = i + 1 == most || quern_session_eval(s, &token, 1, NULL, error) == QP_OK;
    }
    text[used] = '\0';
    quern_token_list_free(&list);
    quern_session_destroy(s);
    return fine;
}

static void check(quern_device *device, const char *file, const char *prompt, const char *expected, uint32_t chunk)
{
    test_model m;
    char text[2048] = "";
    quern_error error = {0};
    const char *path = tap_fixture(file);
    if (!path) {
        skip("the fixtures are not here", "%s", file);
        return;
    }
    if (!load_file(device, path, &m))
        return;
    int fine = generate(&m, prompt, chunk, 80, text, sizeof text, &error);
    ok(fine && !strncmp(text, expected, strlen(expected)), "%s, chunk %u: \"%s\" goes on as the README says%s%s", file, chunk,
       prompt, fine ? "" : ": ", fine ? "" : error.text);
    if (strncmp(text, expected, strlen(expected))) {
        for (char *c = text; *c; c++)
            *c = *c == '\n' ? '|' : *c; /* one line of TAP */
        diag("got: %s", text);
    }
    unload(&m);
}

int main(void)
{
    static const char story[] =
        ", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red ball.";
    static const char book[] = " the sun was still in the sunlight.\n\"I'm not going to be a-going,\" said the old man, \"but I'm "
                               "going to be a-going to-morrow.\"";
    test_device d = open_cpu();
    if (!d.device)
        return tap_done();
    static const uint32_t chunks[] = {1, 3, 0};
    for (size_t i = 0; i < 3; i++) {
        check(d.device, "models/stories260K.gguf", "Once upon a time", story, chunks[i]);
        check(d.device, "models/tiny-books-q8_0.gguf", "It was a dark night, and", book, chunks[i]);
    }
    check(d.device, "models/tiny-books-f16.gguf", "It was a dark night, and", book, 0);
    close_cpu(&d);
    return tap_done();
}
