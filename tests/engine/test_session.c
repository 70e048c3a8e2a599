/* SPDX-License-Identifier: MIT
 * What a session promises: order of chunks does not matter, going back works, limits are errors that change nothing. */
#include "engine/help.h"
#include "engine/tiny_model.h"

#include <pthread.h>

enum { VOCABULARY = 40, CONTEXT = 32 };

static const tiny_spec spec = {.layers = 2,
                               .embedding = 64,
                               .heads = 4,
                               .kv_heads = 2,
                               .head_k = 16,
                               .head_v = 16,
                               .feed_forward = 80,
                               .vocabulary = VOCABULARY,
                               .context = CONTEXT};

typedef struct fixture {
    test_device cpu;
    tiny_model tiny;
    builder file;
    test_model m;
} fixture;

static const int32_t text[CONTEXT + 1] = {1, 5, 9, 2, 33, 39, 0, 7, 7,  7,  21, 14, 3,  8,  30, 12, 1,
                                          2, 3, 4, 5, 6,  7,  8, 9, 10, 11, 12, 13, 14, 15, 16, 17};

static quern_session *make(fixture *f, uint32_t chunk, uint32_t flags)
{
    quern_error error = {0};
    quern_session *s = NULL;
    quern_session_options options = {.struct_size = sizeof options, .chunk = chunk, .flags = flags};
    if (quern_session_create(f->m.model, &options, &s, &error) != QP_OK) {
        printf("Bail out! no session: %s\n", error.text);
        exit(1);
    }
    return s;
}

/* Logits after the first n tokens of the text, in one eval. */
static int logits_after(quern_session *s, uint32_t n, float out[VOCABULARY])
{
    const float *logits;
    if (quern_session_eval(s, text, n, NULL, NULL) != QP_OK || quern_session_logits(s, &logits, NULL) != QP_OK)
        return 0;
    memcpy(out, logits, VOCABULARY * sizeof *out);
    return 1;
}

static double difference(const float *a, const float *b)
{
    double expected[VOCABULARY];
    for (int i = 0; i < VOCABULARY; i++)
        expected[i] = (double)b[i];
    return nmse(a, expected, VOCABULARY);
}

static void check_chunks(fixture *f)
{
    static const uint32_t chunks[] = {1, 2, 3, 5, 20, 32, 1000};
    float whole[VOCABULARY], other[VOCABULARY];
    quern_session *s = make(f, 32, 0);
    int fine = logits_after(s, 20, whole);
    quern_session_destroy(s);
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        s = make(f, chunks[i], i % 2 ? QUERN_SESSION_ALL_LOGITS : 0);
        fine = fine && logits_after(s, 20, other);
        ok(fine && difference(other, whole) < 1e-9 && quern_session_length(s) == 20,
           "20 tokens in chunks of %u give the same logits: %.1e", chunks[i], fine ? difference(other, whole) : -1);
        quern_session_destroy(s);
    }
}

static void check_truncate(fixture *f)
{
    float first[VOCABULARY], again[VOCABULARY];
    quern_error error = {0};
    const float *logits;
    int32_t token;
    quern_session *s = make(f, 8, 0);
    int fine = logits_after(s, 12, first) && quern_session_eval(s, text + 5, 9, NULL, &error) == QP_OK;
    ok(fine && quern_session_truncate(s, 22, &error) == QP_ERR_INVALID, "a session is not cut back to more than it holds: %s",
       error.text);
    ok(quern_session_truncate(s, 0, &error) == QP_OK && quern_session_length(s) == 0, "a session is emptied");
    ok(quern_session_logits(s, &logits, &error) == QP_ERR_INVALID && quern_session_greedy(s, &token, &error) == QP_ERR_INVALID,
       "no results are left then: %s", error.text);
    ok(logits_after(s, 12, again) && !memcmp(first, again, sizeof first), "the same tokens give the same bits again");
    /* back to the middle of a chunk, then the rest of the text once more */
    fine = quern_session_truncate(s, 7, &error) == QP_OK && quern_session_eval(s, text + 7, 5, NULL, &error) == QP_OK &&
           quern_session_logits(s, &logits, &error) == QP_OK;
    ok(fine && difference(logits, first) < 1e-9, "going back to 7 tokens and on again gives the same logits");
    quern_session_destroy(s);
}

static void check_limits(fixture *f)
{
    quern_error error = {0};
    const float *logits;
    size_t rows;
    int32_t token = -1;
    float before[VOCABULARY];
    quern_session *s = make(f, 8, 0);
    ok(quern_session_logits(s, &logits, &error) == QP_ERR_INVALID, "no logits before an eval: %s", error.text);
    ok(quern_session_eval(s, text, CONTEXT + 1, NULL, &error) == QP_ERR_OUT_OF_MEMORY && quern_session_length(s) == 0,
       "a text longer than the context: %s", error.text);
    ok(logits_after(s, CONTEXT - 2, before), "a text almost as long as the context");
    ok(quern_session_eval(s, text, 3, NULL, &error) == QP_ERR_OUT_OF_MEMORY && quern_session_length(s) == CONTEXT - 2,
       "three more do not fit: %s", error.text);
    ok(quern_session_logits(s, &logits, &error) == QP_OK && !memcmp(logits, before, sizeof before), "and nothing has changed");
    ok(quern_session_eval(s, text, 2, NULL, &error) == QP_OK && quern_session_greedy(s, &token, &error) == QP_OK, "two do fit");
    ok(quern_session_eval(s, text, 1, NULL, &error) == QP_ERR_OUT_OF_MEMORY && quern_session_length(s) == CONTEXT,
       "a full context: %s", error.text);
    quern_session_truncate(s, 3, &error);
    ok(quern_session_eval(s, &(int32_t){VOCABULARY}, 1, NULL, &error) == QP_ERR_INVALID && strstr(error.text, "vocabulary of 40"),
       "%s", error.text);
    ok(quern_session_eval(s, (int32_t[]){1, 2, -1}, 3, NULL, &error) == QP_ERR_INVALID && quern_session_length(s) == 3, "%s",
       error.text);
    ok(quern_session_eval(s, NULL, 0, NULL, &error) == QP_OK && quern_session_length(s) == 3, "no tokens are no error");
    ok(quern_session_eval(s, NULL, 2, NULL, &error) == QP_ERR_INVALID, "NULL tokens are one: %s", error.text);
    ok(quern_session_eval(s, text, 20, &(volatile int){1}, &error) == QP_ERR_CANCELLED && quern_session_length(s) == 3,
       "stopping: %s", error.text);
    ok(quern_session_all_logits(s, &logits, &rows, &error) == QP_ERR_INVALID, "%s", error.text);
    ok(quern_session_eval(s, text, 4, &(volatile int){0}, &error) == QP_OK && quern_session_length(s) == 7, "it still works");
    quern_session_destroy(s);
    s = make(f, 8, QUERN_SESSION_ALL_LOGITS);
    ok(quern_session_eval(s, text, 9, NULL, &error) == QP_OK &&
           quern_session_all_logits(s, &logits, &rows, &error) == QP_ERR_INVALID,
       "all logits of more than a chunk: %s", error.text);
    ok(quern_session_logits(s, &logits, &error) == QP_OK, "but the last ones are there");
    quern_session_destroy(s);
}

static void check_prefill(fixture *f)
{
    float whole[VOCABULARY], other[VOCABULARY];
    int32_t second[14];
    quern_error error = {0};
    const float *logits = NULL;
    uint32_t reused = 99;
    memcpy(second, text, sizeof second);
    second[9] = 30; /* parts from the text after nine tokens */
    quern_session *s = make(f, 4, 0), *fresh = make(f, 4, 0);
    ok(quern_session_common_prefix(s, text, 5) == 0, "an empty session shares nothing");
    ok(quern_session_prefill(s, text, 12, NULL, &reused, &error) == QP_OK && reused == 0 && quern_session_length(s) == 12,
       "the first prefill runs all tokens: %s", error.text);
    ok(!memcmp(quern_session_tokens(s), text, 12 * sizeof *text), "the session knows its tokens");
    ok(quern_session_common_prefix(s, second, 14) == 9 && quern_session_common_prefix(s, text, 5) == 5,
       "and what others share with them");
    int fine =
        quern_session_prefill(s, second, 14, NULL, &reused, &error) == QP_OK && quern_session_logits(s, &logits, &error) == QP_OK;
    if (fine)
        memcpy(other, logits, sizeof other);
    fine =
        fine && quern_session_eval(fresh, second, 14, NULL, NULL) == QP_OK && quern_session_logits(fresh, &logits, NULL) == QP_OK;
    if (fine)
        memcpy(whole, logits, sizeof whole);
    ok(fine && reused == 9 && quern_session_length(s) == 14 && difference(other, whole) < 1e-9,
       "the second keeps what both begin with and gives the logits of all of it: %s", error.text);
    ok(quern_session_prefill(s, second, 14, &(volatile int){1}, &reused, &error) == QP_OK && reused == 14,
       "asking again runs nothing: the results are there");
    fine = quern_session_prefill(s, second, 6, NULL, &reused, &error) == QP_OK && reused == 5 && quern_session_length(s) == 6 &&
           quern_session_logits(s, &logits, &error) == QP_OK;
    if (fine)
        memcpy(other, logits, sizeof other);
    quern_session_truncate(fresh, 0, NULL);
    fine = fine && quern_session_eval(fresh, second, 6, NULL, NULL) == QP_OK && quern_session_logits(fresh, &logits, NULL) == QP_OK;
    ok(fine && difference(other, logits) < 1e-9, "fewer tokens than it holds: the last one runs again");
    ok(quern_session_prefill(s, text, CONTEXT + 1, NULL, &reused, &error) == QP_ERR_OUT_OF_MEMORY && quern_session_length(s) == 6,
       "too many: %s", error.text);
    ok(quern_session_prefill(s, (int32_t[]){1, 5, VOCABULARY}, 3, NULL, &reused, &error) == QP_ERR_INVALID &&
           quern_session_length(s) == 6,
       "a token outside changes nothing: %s", error.text);
    ok(quern_session_prefill(s, text, 0, NULL, &reused, &error) == QP_ERR_INVALID, "none: %s", error.text);
    ok(quern_session_prefill(s, text, 12, &(volatile int){1}, &reused, &error) == QP_ERR_CANCELLED && quern_session_length(s) == 6,
       "stopped: %s", error.text);
    quern_session_destroy(s);
    quern_session_destroy(fresh);
}

/* NULL, or flags that nobody knows, are errors with words. */
static void check_misuse(fixture *f)
{
    quern_error error = {0};
    quern_session *s = NULL;
    quern_session_options options = {.struct_size = sizeof options, .flags = 1u << 31};
    const float *logits;
    int32_t token;
    size_t rows;
    ok(quern_session_create(f->m.model, &options, &s, &error) == QP_ERR_INVALID && !s && strstr(error.text, "0x80000000"), "%s",
       error.text);
    s = make(f, 4, 0);
    int fine = quern_session_eval(NULL, text, 1, NULL, &error) == QP_ERR_INVALID && strstr(error.text, "NULL");
    fine = fine && quern_session_logits(NULL, &logits, &error) == QP_ERR_INVALID && strstr(error.text, "NULL");
    fine = fine && quern_session_logits(s, NULL, &error) == QP_ERR_INVALID &&
           quern_session_greedy(NULL, &token, &error) == QP_ERR_INVALID;
    fine = fine && quern_session_greedy(s, NULL, &error) == QP_ERR_INVALID;
    fine = fine && quern_session_all_logits(NULL, &logits, &rows, &error) == QP_ERR_INVALID;
    fine = fine && quern_session_truncate(NULL, 0, &error) == QP_ERR_INVALID && quern_session_length(NULL) == 0;
    fine = fine && quern_session_prefill(NULL, text, 1, NULL, NULL, &error) == QP_ERR_INVALID && !quern_session_tokens(NULL);
    ok(fine && quern_session_common_prefix(NULL, text, 1) == 0, "sessions, results and places that are NULL: %s", error.text);
    quern_session_get_info(NULL, NULL);
    quern_session_destroy(s);
}

/* A step ahead of the text on another thread. */
typedef struct racer {
    fixture *f;
    float logits[VOCABULARY];
    uint32_t start;
    int fine;
} racer;

static void *race(void *arg)
{
    racer *r = arg;
    quern_session *s = make(r->f, 4, 0);
    const float *logits;
    r->fine = 1;
    for (uint32_t i = 0; r->fine && i < 12; i++)
        r->fine = quern_session_eval(s, text + (r->start + i) % 20, 1 + i % 3, NULL, NULL) == QP_OK;
    r->fine = r->fine && quern_session_logits(s, &logits, NULL) == QP_OK;
    if (r->fine)
        memcpy(r->logits, logits, sizeof r->logits);
    quern_session_destroy(s);
    return NULL;
}

static void check_threads(fixture *f)
{
    enum { RACERS = 4 };
    racer alone[RACERS], together[RACERS];
    pthread_t threads[RACERS];
    int fine = 1;
    for (uint32_t i = 0; i < RACERS; i++) {
        alone[i] = together[i] = (racer){.f = f, .start = i};
        race(&alone[i]);
    }
    for (uint32_t i = 0; i < RACERS; i++)
        pthread_create(&threads[i], NULL, race, &together[i]);
    for (uint32_t i = 0; i < RACERS; i++) {
        pthread_join(threads[i], NULL);
        fine = fine && alone[i].fine && together[i].fine && !memcmp(alone[i].logits, together[i].logits, sizeof alone[i].logits);
    }
    ok(fine, "%d sessions on %d threads give the bits that each gives alone", RACERS, RACERS);
    ok(memcmp(alone[0].logits, alone[1].logits, sizeof alone[0].logits), "which are not the same for all");
}

static void check_info(fixture *f)
{
    quern_model_info info = {.struct_size = sizeof info}, seen = {.struct_size = sizeof seen};
    quern_error error = {0};
    quern_model_get_info(f->m.model, &info);
    ok(!strcmp(info.architecture, "llama") && !strcmp(info.name, "tiny") && info.layers == 2 && info.embedding == 64 &&
           info.heads == 4 && info.kv_heads == 2 && info.head_size_k == 16 && info.head_size_v == 16 && info.feed_forward == 80 &&
           info.vocabulary == VOCABULARY && info.context == CONTEXT,
       "a model tells its shape");
    uint64_t parameters = 0, bytes = 0;
    for (size_t i = 0; i < f->tiny.count; i++) {
        parameters += f->tiny.tensors[i].ne[0] * f->tiny.tensors[i].ne[1];
        bytes += f->tiny.tensors[i].bytes;
    }
    ok(info.parameters == parameters && info.weight_bytes >= bytes, "and its size: %llu parameters, %llu bytes",
       (unsigned long long)info.parameters, (unsigned long long)info.weight_bytes);
    ok(quern_model_inspect(f->m.gguf, &seen, &error) == QP_OK && seen.weight_bytes == bytes,
       "the header alone tells the bytes of the file");
    seen.weight_bytes = info.weight_bytes;
    ok(!memcmp(&seen, &info, sizeof info), "and otherwise the same");
    quern_model_info old = {.struct_size = (uint32_t)offsetof(quern_model_info, heads), .heads = 77};
    quern_model_get_info(f->m.model, &old);
    ok(old.layers == 2 && old.heads == 77, "a caller with an older header gets what it knows");
    ok(!quern_model_tokenizer(f->m.model), "a model without a vocabulary has no tokenizer");
    quern_session *s = make(f, 8, 0);
    quern_session_info session = {.struct_size = sizeof session};
    quern_session_get_info(s, &session);
    ok(session.context == CONTEXT && session.chunk == 8 && session.kv_bytes == 2 * 2 * 2 * 16 * CONTEXT * 2 &&
           session.arena_bytes && session.logits_bytes == VOCABULARY * 4,
       "a session tells its memory: KV cache %llu, work space %llu, scratch %llu, step %llu", (unsigned long long)session.kv_bytes,
       (unsigned long long)session.arena_bytes, (unsigned long long)session.scratch_bytes, (unsigned long long)session.step_bytes);
    quern_session_destroy(s);
}

static void check_inspect_unknown(void)
{
    tiny_spec gorilla = spec;
    gorilla.architecture = "gorilla";
    tiny_model tiny = tiny_make(&gorilla, 1);
    builder file = tiny_write(&tiny);
    quern_gguf *gguf = NULL;
    quern_model_info info = {.struct_size = sizeof info};
    quern_error error = {0};
    ok(quern_gguf_open_memory(file.data, file.size, "gorilla.gguf", &gguf, &error) == QP_OK &&
           quern_model_inspect(gguf, &info, &error) == QP_OK && !strcmp(info.architecture, "gorilla") && info.layers == 2 &&
           info.heads == 4,
       "an architecture that cannot be run is described all the same: %s", error.text);
    quern_gguf_close(gguf);
    builder_free(&file);
    tiny_free(&tiny);
}

typedef struct progress_log {
    uint64_t calls, last, total, stop_at;
    int grows;
} progress_log;

static int note(void *ctx, uint64_t done, uint64_t total)
{
    progress_log *log = ctx;
    log->grows = log->grows && done >= log->last && done <= total;
    log->last = done;
    log->total = total;
    return ++log->calls == log->stop_at;
}

static void check_progress(fixture *f)
{
    for (uint32_t threads = 0; threads < 4; threads++) {
        progress_log log = {.grows = 1};
        quern_model_options options = {
            .struct_size = sizeof options, .threads = threads * threads * 8, .progress = note, .progress_ctx = &log};
        quern_model *model = NULL;
        quern_error error = {0};
        quern_status status = quern_model_load(f->cpu.device, f->m.gguf, &options, &model, &error);
        ok(status == QP_OK && log.calls && log.grows && log.last == log.total,
           "loading with %u threads tells its progress, up to all of it: %s", options.threads, error.text);
        quern_model_destroy(model);
        model = NULL;
        log = (progress_log){.stop_at = 1, .grows = 1};
        status = quern_model_load(f->cpu.device, f->m.gguf, &options, &model, &error);
        ok(status == QP_ERR_CANCELLED && !model, "and can be stopped: %s", error.text);
    }
}

int main(void)
{
    fixture f = {.cpu = open_cpu()};
    quern_error error = {0};
    if (!f.cpu.device)
        return tap_done();
    f.tiny = tiny_make(&spec, 7);
    f.file = tiny_write(&f.tiny);
    if (ok(quern_gguf_open_memory(f.file.data, f.file.size, "tiny.gguf", &f.m.gguf, &error) == QP_OK &&
               quern_model_load(f.cpu.device, f.m.gguf, NULL, &f.m.model, &error) == QP_OK,
           "a tiny model loads: %s", error.text)) {
        check_info(&f);
        check_inspect_unknown();
        check_chunks(&f);
        check_truncate(&f);
        check_limits(&f);
        check_prefill(&f);
        check_misuse(&f);
        check_threads(&f);
        check_progress(&f);
    }
    unload(&f.m);
    builder_free(&f.file);
    tiny_free(&f.tiny);
    close_cpu(&f.cpu);
    return tap_done();
}
