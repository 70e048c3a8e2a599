/* SPDX-License-Identifier: MIT
 * The session's logits against those of the `transformers` package, for the tiny random models in references/
 * (tools/make_model_references.py): neither side has seen the other's code or numbers. On the CPU, or on the device of the plugin
 * that is named: skipped where there is none. */
#include "engine/help.h"
#include "engine/logits_file.h"

#define LIMIT 1e-8 /* seen: at most 3e-12; float32 against float64 of the package itself differ by as much */

typedef struct pair {
    const char *logits, *model; /* model NULL: the same name */
} pair;

static const pair pairs[] = {
    {"llama3"},  {"llama-linear"}, {"llama-yarn"}, {"llama-yarn-log"},    {"mistral"},    {"qwen2"},
    {"qwen3"},   {"smollm3"},      {"granite"},    {"granitemoe"},        {"starcoder2"}, {"gemma"},
    {"gemma2"},  {"gemma3"},       {"phi3"},       {"phi3-long", "phi3"}, /* longer than the context that the model was made for:
                                                                             the other set of rope factors */
    {"mixtral"}, {"qwen2moe"},     {"qwen3moe"},   {"gpt-oss"},           {"qwen35"},     {"qwen35moe"},
};

static const char *reference_path(const char *name, const char *ending)
{
    static char paths[2][1024];
    static unsigned next;
    char *path = paths[next++ % 2];
    const char *root = getenv("QUERN_SOURCE");
    snprintf(path, sizeof paths[0], "%s/tests/engine/references/%s.%s", root ? root : ".", name, ending);
    return path;
}

static double run(quern_model *model, const reference *r, uint32_t chunk, float *logits, quern_error *error)
{
    quern_session *s = NULL;
    quern_session_options options = {.struct_size = sizeof options,
                                     .context = r->tokens,
                                     .chunk = chunk,
                                     .kv_k = QP_FORMAT_F32,
                                     .kv_v = QP_FORMAT_F32,
                                     .kv_set = 1,
                                     .flags = QUERN_SESSION_ALL_LOGITS};
    size_t n = (size_t)r->tokens * r->vocabulary;
    int fine = quern_session_create(model, &options, &s, error) == QP_OK && collect(s, r, chunk ? chunk : 256, logits, error);
    quern_session_destroy(s);
    return fine ? nmse(logits, r->logits, n) : 1e300;
}

static void check_chunks(quern_model *model, const reference *r, const char *name)
{
    static const uint32_t chunks[] = {1, 7, 0};
    float *logits = calloc((size_t)r->tokens * r->vocabulary, sizeof *logits);
    for (size_t i = 0; i < 3; i++) {
        quern_error error = {0};
        double e = run(model, r, chunks[i], logits, &error);
        ok(e <= LIMIT, "%s, chunk %u: NMSE %.2e <= %.0e%s%s", name, chunks[i], e, LIMIT, error.text[0] ? ": " : "", error.text);
    }
    free(logits);
}

static void check(quern_device *device, const pair *p)
{
    test_model m = {0};
    reference r;
    quern_error error = {0};
    const char *path = reference_path(p->model ? p->model : p->logits, "gguf");
    if (!ok(read_reference(reference_path(p->logits, "logits"), &r), "%s.logits is read", p->logits))
        return;
    quern_status status = quern_gguf_open(path, &m.gguf, &error);
    if (status == QP_OK)
        status = quern_model_load(device, m.gguf, NULL, &m.model, &error);
    if (status == QP_OK)
        check_chunks(m.model, &r, p->logits);
    else
        ok(0, "%s loads: %s", p->logits, error.text);
    unload(&m);
    free_reference(&r);
}

int main(int argc, char **argv)
{
    quern_error error = {0};
    const char *plugin = argc > 1 ? argv[1] : "cpu";
    test_device d = open_device(plugin, &error);
    if (!d.device && argc > 1) {
        close_cpu(&d);
        return tap_skip_all(error.text);
    }
    ok(d.device != NULL, "the device of the %s plugin opens %s", plugin, error.text);
    for (size_t i = 0; d.device && i < sizeof pairs / sizeof *pairs; i++)
        check(d.device, &pairs[i]);
    close_cpu(&d);
    return tap_done();
}
