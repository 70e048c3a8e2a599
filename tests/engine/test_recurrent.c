/* SPDX-License-Identifier: MIT
 * Sessions of a model with recurrent layers: their state goes on or begins anew, never back, and nothing that is not a token of the
 * text gets into it. */
#include "engine/help.h"
#include "engine/tiny_model.h"

#include <math.h>

enum { VOCABULARY = 40, CONTEXT = 64, TEXT = 40, BAD_TOKEN = 39, LAYERS = 3 }; /* the first two and the last: of tiny_recurrent */

static int32_t text[TEXT];

typedef struct fixture {
    test_device cpu;
    tiny_model tiny;
    builder file;
    test_model m;
} fixture;

static quern_session *make(fixture *f, uint32_t chunk)
{
    quern_error error = {0};
    quern_session *s = NULL;
    quern_session_options options = {
        .struct_size = sizeof options, .chunk = chunk, .kv_k = QP_FORMAT_F32, .kv_v = QP_FORMAT_F32, .kv_set = 1};
    if (quern_session_create(f->m.model, &options, &s, &error) != QP_OK) {
        printf("Bail out! no session: %s\n", error.text);
        exit(1);
    }
    return s;
}

static int eval(quern_session *s, uint32_t from, uint32_t to)
{
    return quern_session_eval(s, text + from, to - from, NULL, NULL) == QP_OK;
}

static int read_logits(quern_session *s, float out[VOCABULARY])
{
    const float *logits;
    if (quern_session_logits(s, &logits, NULL) != QP_OK)
        return 0;
    memcpy(out, logits, VOCABULARY * sizeof *out);
    return 1;
}

/* Against the forward pass in double, after all of the text. */
static double error_of(fixture *f, quern_session *s)
{
    float got[VOCABULARY];
    static double want[TEXT * VOCABULARY];
    static int known;
    if (!known++)
        tiny_reference(&f->tiny, text, TEXT, want);
    return read_logits(s, got) ? nmse(got, want + (TEXT - 1) * VOCABULARY, VOCABULARY) : 1e300;
}

static void check_info(fixture *f)
{
    quern_session *s = make(f, 8);
    quern_session_info info = {.struct_size = sizeof info};
    quern_model_info model = {.struct_size = sizeof model};
    quern_session_get_info(s, &info);
    quern_model_get_info(f->m.model, &model);
    uint64_t channels = 2 * 2 * 8 + 4 * 12, each = (channels * 3 + 4 * 8 * 12) * sizeof(float);
    ok(info.state_bytes == (LAYERS - 1) * each, "the session tells the bytes of its state: %llu",
       (unsigned long long)info.state_bytes);
    ok(info.kv_bytes == 2 * 2 * 32 * CONTEXT * sizeof(float), "and only its layer of attention has a KV cache: %llu",
       (unsigned long long)info.kv_bytes);
    ok(model.heads == 4 && model.kv_heads == 2, "the model tells the heads of its attention");
    quern_session_destroy(s);
    quern_session_info old = {.struct_size = (uint32_t)offsetof(quern_session_info, state_bytes), .state_bytes = 77};
    s = make(f, 8);
    quern_session_get_info(s, &old);
    ok(old.kv_bytes && old.state_bytes == 77, "a caller with an older header gets what it knows");
    quern_session_destroy(s);
}

/* Chunks of every size, most of them with rows in the last program that are no tokens. */
static void check_chunks(fixture *f)
{
    static const uint32_t chunks[] = {1, 2, 3, 7, 8, 16, 33, 39, 40, 64};
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        quern_session *s = make(f, chunks[i]);
        int fine = eval(s, 0, TEXT);
        double e = error_of(f, s);
        ok(fine && e < 1e-9, "a text in chunks of %u: NMSE %.1e", chunks[i], e);
        quern_session_destroy(s);
    }
    quern_session *s = make(f, 32); /* 5 tokens of 32 rows, one by one, then the rest */
    int fine = eval(s, 0, 5) && eval(s, 5, 6) && eval(s, 6, 9) && eval(s, 9, 10) && eval(s, 10, TEXT);
    double e = fine ? error_of(f, s) : 1e300;
    ok(e < 1e-9, "and in evals of any size: NMSE %.1e", e);
    quern_session_destroy(s);
}

static void check_going_back(fixture *f)
{
    float first[VOCABULARY], again[VOCABULARY];
    quern_error error = {0};
    quern_session *s = make(f, 8);
    int fine = eval(s, 0, 20);
    ok(fine && quern_session_truncate(s, 12, &error) == QP_ERR_UNSUPPORTED && strstr(error.text, "cannot go back to 12"),
       "going back is refused: %s", error.text);
    ok(quern_session_length(s) == 20 && quern_session_truncate(s, 20, &error) == QP_OK, "and nothing is done; staying is no error");
    fine = eval(s, 20, TEXT) && read_logits(s, first);
    double e = fine ? error_of(f, s) : 1e300;
    ok(e < 1e-9, "the text goes on as if nobody had asked: NMSE %.1e", e);
    ok(quern_session_truncate(s, 0, &error) == QP_OK && !quern_session_length(s), "going back to nothing");
    fine = eval(s, 0, 20) && eval(s, 20, TEXT) && read_logits(s, again);
    ok(fine && !memcmp(first, again, sizeof first), "begins anew, with the same bits");
    uint32_t reused = 99;
    int32_t other[TEXT];
    memcpy(other, text, sizeof other);
    other[30] = (text[30] + 1) % BAD_TOKEN;
    fine = quern_session_prefill(s, other, TEXT, NULL, &reused, &error) == QP_OK;
    ok(fine && reused == 0, "another text reuses %u tokens", reused);
    fine = quern_session_prefill(s, text, 25, NULL, &reused, &error) == QP_OK && reused == 0 &&
           quern_session_prefill(s, text, TEXT, NULL, &reused, &error) == QP_OK;
    e = fine ? error_of(f, s) : 1e300;
    ok(reused == 25 && e < 1e-9, "a text that goes on reuses all %u: NMSE %.1e", reused, e);
    quern_session_destroy(s);
}

/* A NaN gets into the state, where it would stay. */
static void check_not_finite(fixture *f)
{
    quern_error error = {0};
    int32_t bad = BAD_TOKEN;
    quern_session *s = make(f, 8);
    int fine = eval(s, 0, 10);
    ok(fine && quern_session_eval(s, &bad, 1, NULL, &error) == QP_ERR_FORMAT && quern_session_length(s) == 10,
       "a token whose logits are NaN: %s", error.text);
    ok(quern_session_eval(s, text + 10, 1, NULL, &error) == QP_ERR_INVALID && strstr(error.text, "cut the session to 0"),
       "the state is ahead of the text now: %s", error.text);
    ok(quern_session_truncate(s, 10, &error) == QP_ERR_UNSUPPORTED, "and cannot go back: %s", error.text);
    double e = quern_session_truncate(s, 0, &error) == QP_OK && eval(s, 0, TEXT) ? error_of(f, s) : 1e300;
    ok(e < 1e-9, "a new beginning finds no trace of it: NMSE %.1e", e);
    fine = quern_session_truncate(s, 0, &error) == QP_OK && quern_session_eval(s, &bad, 1, NULL, &error) == QP_ERR_FORMAT;
    e = fine && eval(s, 0, TEXT) ? error_of(f, s) : 1e300;
    ok(e < 1e-9, "nor where it was the first token: NMSE %.1e", e);
    quern_session_destroy(s);
}

static void check_stop(fixture *f)
{
    quern_error error = {0};
    const volatile int stop = 1;
    quern_session *s = make(f, 8);
    int fine = eval(s, 0, 16) && quern_session_eval(s, text + 16, 20, &stop, &error) == QP_ERR_CANCELLED;
    uint32_t at = quern_session_length(s);
    double e = fine && eval(s, at, TEXT) ? error_of(f, s) : 1e300;
    ok(e < 1e-9, "stopped at %u and gone on: NMSE %.1e", at, e);
    quern_session_destroy(s);
}

/* More than any device takes is told when a session is made, by the name of the op. */
static void check_too_wide(const fixture *f)
{
    tiny_spec wide = tiny_recurrent;
    wide.delta_k = QP_DELTA_MAX_K + 1;
    tiny_model tiny = tiny_make(&wide, 1);
    builder file = tiny_write(&tiny);
    test_model m = {0};
    quern_error error = {0};
    quern_session *s = NULL;
    int loaded = quern_gguf_open_memory(file.data, file.size, "tiny.gguf", &m.gguf, &error) == QP_OK &&
                 quern_model_load(f->cpu.device, m.gguf, NULL, &m.model, &error) == QP_OK;
    quern_status status = loaded ? quern_session_create(m.model, NULL, &s, &error) : QP_OK;
    ok(status == QP_ERR_UNSUPPORTED && strstr(error.text, "delta_rule") && strstr(error.text, "513"), "keys of 513 features: %s",
       error.text);
    quern_session_destroy(s);
    unload(&m);
    builder_free(&file);
    tiny_free(&tiny);
}

static void check_sessions(fixture *f)
{
    quern_session *a = make(f, 8), *b = make(f, 4);
    int fine = eval(a, 0, 15) && eval(b, 20, 30) && eval(a, 15, 16) && eval(b, 30, 31) && eval(a, 16, TEXT);
    double e = fine ? error_of(f, a) : 1e300;
    ok(e < 1e-9, "two sessions of a model have a state each: NMSE %.1e", e);
    quern_session_destroy(a);
    quern_session_destroy(b);
}

int main(void)
{
    fixture f = {.cpu = open_cpu()};
    quern_error error = {0};
    if (!f.cpu.device)
        return tap_done();
    f.tiny = tiny_make(&tiny_recurrent, 11);
    for (int i = 0; i < TEXT; i++)
        text[i] = (int32_t)(tiny_random(&f.tiny.random) % BAD_TOKEN);
    tiny_set(tiny_find(&f.tiny, "token_embd.weight"), (size_t)BAD_TOKEN * 32, (double)NAN);
    f.file = tiny_write(&f.tiny);
    if (ok(quern_gguf_open_memory(f.file.data, f.file.size, "tiny.gguf", &f.m.gguf, &error) == QP_OK &&
               quern_model_load(f.cpu.device, f.m.gguf, NULL, &f.m.model, &error) == QP_OK,
           "a tiny model with recurrent layers loads: %s", error.text)) {
        check_info(&f);
        check_chunks(&f);
        check_going_back(&f);
        check_not_finite(&f);
        check_stop(&f);
        check_sessions(&f);
        check_too_wide(&f);
    }
    unload(&f.m);
    builder_free(&f.file);
    tiny_free(&f.tiny);
    close_cpu(&f.cpu);
    return tap_done();
}
