/* SPDX-License-Identifier: MIT
 * NULL for anything that a function of engine.h takes is an error with words, or a neutral answer where there is no place for one;
 * destroying NULL does nothing. (Sessions: tests/engine/test_session.c.) */
#include "tap.h"
#include <quern/engine.h>

/* Errors must carry words. */
static int says(quern_status status, quern_error *error)
{
    int fine = status == QP_ERR_INVALID && error->text[0] && !strchr(error->text, '\n');
    *error = (quern_error){0};
    return fine;
}

static void test_gguf(void)
{
    quern_error e = {0};
    quern_gguf *g = NULL;
    uint64_t u;
    int64_t i;
    double f;
    quern_string text;
    int fine = says(quern_gguf_open(NULL, &g, &e), &e) && says(quern_gguf_open("x", NULL, &e), &e);
    fine = fine && says(quern_gguf_open_memory(NULL, 4, "x", &g, &e), &e) && says(quern_gguf_open_memory("", 0, "x", NULL, &e), &e);
    fine = fine && says(quern_gguf_get_u64(NULL, "k", 0, &u, &e), &e) && says(quern_gguf_get_i64(NULL, "k", 0, &i, &e), &e);
    fine = fine && says(quern_gguf_get_f64(NULL, "k", 0, &f, &e), &e) && says(quern_gguf_get_string(NULL, "k", 0, &text, &e), &e);
    fine = fine && says(quern_gguf_read(NULL, NULL, 0, NULL, 0, &e), &e);
    ok(fine, "files: open, read and every typed getter");
    fine =
        !quern_gguf_find(NULL, "k") && !quern_gguf_kv_at(NULL, 0) && !quern_gguf_kv_count(NULL) && !quern_gguf_tensor_count(NULL);
    fine = fine && !quern_gguf_tensor_at(NULL, 0) && !quern_gguf_tensor_find(NULL, "t") && !quern_gguf_version(NULL);
    fine = fine && !quern_gguf_file_size(NULL) && !quern_gguf_alignment(NULL) && quern_gguf_path(NULL);
    ok(fine, "files: counts are 0 and nothing is found");
    quern_gguf_close(NULL);
}

static void test_open_file(void)
{
    static const unsigned char empty[24] = {'G', 'G', 'U', 'F', 3};
    quern_gguf *g = NULL;
    quern_error e = {0};
    int fine = quern_gguf_open_memory(empty, sizeof empty, NULL, &g, &e) == QP_OK;
    fine =
        fine && !quern_gguf_find(g, NULL) && !quern_gguf_tensor_find(g, NULL) && says(quern_gguf_get_u64(g, NULL, 0, NULL, &e), &e);
    fine = fine && says(quern_gguf_get_string(g, "k", 0, NULL, &e), &e) && says(quern_model_inspect(g, NULL, &e), &e);
    fine = fine && says(quern_tokenizer_create(g, NULL, &e), &e) && says(quern_model_load(NULL, g, NULL, NULL, &e), &e);
    ok(fine, "an open file with no key, name or place %s", e.text);
    quern_gguf_close(g);
}

static void test_tokenizer(void)
{
    quern_error e = {0};
    quern_tokenizer *t = NULL;
    quern_token_list list = {0};
    char bytes[4];
    quern_utf8_stream stream = {0};
    int fine = says(quern_tokenizer_create(NULL, &t, &e), &e) && says(quern_tokenize(NULL, "x", 1, 0, &list, &e), &e);
    ok(fine, "tokenizers: making one, and tokenizing without one");
    fine = !quern_tokenizer_size(NULL) && quern_tokenizer_bos(NULL) == -1 && quern_tokenizer_eos(NULL) == -1;
    fine = fine && !quern_tokenizer_is_stop(NULL, 1) && quern_tokenizer_kind(NULL, 1) == QUERN_TOKEN_UNKNOWN &&
           quern_tokenizer_model(NULL);
    fine = fine && quern_token_first(NULL, 5) && !quern_token_bytes(NULL, 1, 0, 1, bytes, sizeof bytes);
    fine = fine && !quern_utf8_push(NULL, "a", 1, bytes) && !quern_utf8_push(&stream, NULL, 1, bytes) &&
           !quern_utf8_push(&stream, "a", 1, NULL);
    ok(fine, "tokenizers: neutral answers");
    quern_tokenizer_destroy(NULL);
    quern_token_list_free(NULL);
}

static void test_models(void)
{
    quern_error e = {0};
    quern_model *model = NULL;
    quern_session *session = NULL;
    quern_model_info info = {.struct_size = sizeof info};
    int fine = says(quern_model_load(NULL, NULL, NULL, &model, &e), &e) && says(quern_model_inspect(NULL, &info, &e), &e) &&
               says(quern_model_check(NULL, &e), &e);
    fine = fine && says(quern_session_create(NULL, NULL, &session, &e), &e) &&
           says(quern_quantize(NULL, NULL, NULL, NULL, NULL, &e), &e);
    ok(fine && !quern_model_tokenizer(NULL), "models and sessions");
    quern_model_get_info(NULL, &info);
    quern_model_destroy(NULL);
    quern_session_destroy(NULL);
    uint32_t count = 0;
    while (quern_architecture_at(count))
        count++;
    ok(count >= 10 && !quern_architecture_at(UINT32_MAX), "%u architectures, and none past the last", count);
}

static void test_sampler(void)
{
    quern_error e = {0};
    quern_sampler *sampler = NULL;
    int32_t token;
    float logits[2] = {0, 1};
    int fine = says(quern_sampler_create(NULL, 2, NULL, &e), &e) && says(quern_sampler_create(NULL, 0, &sampler, &e), &e);
    fine = fine && says(quern_sampler_sample(NULL, logits, &token, &e), &e) && quern_sampler_create(NULL, 2, &sampler, &e) == QP_OK;
    fine = fine && says(quern_sampler_sample(sampler, NULL, &token, &e), &e) &&
           says(quern_sampler_sample(sampler, logits, NULL, &e), &e);
    fine = fine && !quern_sampler_is_greedy(NULL);
    quern_sampler_accept(NULL, 1);
    quern_sampler_destroy(sampler);
    quern_sampler_destroy(NULL);
    ok(fine, "samplers");
}

int main(void)
{
    test_gguf();
    test_open_file();
    test_tokenizer();
    test_models();
    test_sampler();
    return tap_done();
}
