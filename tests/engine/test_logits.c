/* SPDX-License-Identifier: MIT
 * The session's logits against another implementation's, from the fixtures: every program shape, every KV format. */
#include "engine/help.h"
#include "engine/logits_file.h"

static void check(quern_model *model, const reference *r, const char *name, uint32_t chunk, qp_format kv, const char *kv_name,
                  double limit)
{
    quern_error error = {0};
    quern_session *s = NULL;
    quern_session_options options = {.struct_size = sizeof options,
                                     .context = r->tokens,
                                     .chunk = chunk,
                                     .kv_k = kv,
                                     .kv_v = kv,
                                     .kv_set = 1,
                                     .flags = QUERN_SESSION_ALL_LOGITS};
    float *logits = calloc((size_t)r->tokens * r->vocabulary, sizeof *logits);
    int fine = quern_session_create(model, &options, &s, &error) == QP_OK && collect(s, r, chunk ? chunk : 256, logits, &error);
    double e = fine ? nmse(logits, r->logits, (size_t)r->tokens * r->vocabulary) : 1e300;
    ok(fine && e <= limit, "%s, chunk %u, KV %s: NMSE %.2e <= %.0e%s%s", name, chunk, kv_name, e, limit, fine ? "" : ": ",
       fine ? "" : error.text);
    /* without the flag only the last row is computed, through other programs */
    quern_session_destroy(s);
    s = NULL;
    options.flags = 0;
    const float *last = NULL;
    int32_t best = -1;
    fine = quern_session_create(model, &options, &s, &error) == QP_OK &&
           quern_session_eval(s, r->ids, r->tokens, NULL, &error) == QP_OK && quern_session_logits(s, &last, &error) == QP_OK &&
           quern_session_greedy(s, &best, &error) == QP_OK;
    e = fine ? nmse(last, r->logits + (size_t)(r->tokens - 1) * r->vocabulary, r->vocabulary) : 1e300;
    uint32_t top = 0;
    for (uint32_t i = 1; fine && i < r->vocabulary; i++)
        top = last[i] > last[top] ? i : top;
    ok(fine && e <= 3 * limit && best == (int32_t)top, "%s, chunk %u, KV %s: last row alone: NMSE %.2e, greedy %d%s%s", name, chunk,
       kv_name, e, best, fine ? "" : ": ", fine ? "" : error.text);
    quern_session_destroy(s);
    free(logits);
}

static void check_fixture(quern_device *device, const char *name, double limit)
{
    char path[128];
    reference r = {0};
    test_model m;
    snprintf(path, sizeof path, "%s.gguf", name);
    const char *model_path = tap_fixture(path);
    snprintf(path, sizeof path, "%s.logits", name);
    const char *logits_path = tap_fixture(path);
    if (!model_path || !logits_path) {
        skip("the fixtures are not here", "%s", name);
        return;
    }
    if (!ok(read_reference(logits_path, &r), "%s.logits is read", name) || !load_file(device, model_path, &m))
        return;
    static const uint32_t chunks[] = {1, 7, 0};
    for (size_t i = 0; i < 3; i++)
        check(m.model, &r, name, chunks[i], QP_FORMAT_F16, "f16", limit);
    check(m.model, &r, name, 16, QP_FORMAT_F32, "f32", limit);
    check(m.model, &r, name, 5, QP_FORMAT_BF16, "bf16", limit + 2e-4);
    check(m.model, &r, name, 9, QP_FORMAT_Q8_0, "q8_0", limit + 2e-4);
    unload(&m);
    free_reference(&r);
}

int main(void)
{
    test_device d = open_cpu();
    if (!d.device)
        return tap_done();
    static const char *const architectures[] = {"llama",  "qwen2",  "qwen3", "granite",    "smollm3", "gemma",
                                                "gemma2", "gemma3", "phi3",  "starcoder2", "qwen35",
                                                "llama-moe", "qwen2moe-moe", "qwen3moe-moe", "gpt-oss-moe"};
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        char name[64];
        snprintf(name, sizeof name, "logits/%s", architectures[i]);
        check_fixture(d.device, name, 1e-5);
    }
    check_fixture(d.device, "quants/F16", 1e-5);
    check_fixture(d.device, "quants/BF16", 1e-5);
    static const char *const formats[] = {"Q8_0", "Q4_0", "Q4_1", "Q5_0",   "Q5_1",   "Q2_K", "Q3_K",
                                          "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        char name[64];
        snprintf(name, sizeof name, "quants/%s", formats[i]);
        check_fixture(d.device, name, 1e-4);
    }
    close_cpu(&d);
    return tap_done();
}
