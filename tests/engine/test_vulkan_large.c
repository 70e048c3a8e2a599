/* SPDX-License-Identifier: MIT
 * What is larger than the 128 MiB that many Vulkan drivers take in one binding: a table of embeddings that is the output matrix,
 * too, and the keys and values of one layer. The device's logits are held against the CPU's, for the same tokens and with float
 * activations on both. Weights are random, so that logits are not flat and every cell of the cache counts; the tokens are given (a
 * random model's own choices would soon repeat themselves). Where the two most likely tokens are too close for float sums to tell,
 * the choice is not compared. Argument: the plugin, "vulkan" unless it is given. */
#include "bench/engine/make_model.h"
#include "engine/help.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum { LIMIT = 128 << 20, MOST_TOKENS = 640, SEEN = 12 };

static const bench_shape wide_vocabulary = {"wide vocabulary", 2, 512, 1024, 8, 4, 64, 300000, 256, 0, 0};
static const bench_shape wide_cache = {"wide cache", 1, 64, 64, 256, 256, 256, 512, 1024, 0, 0};

typedef struct run {
    uint32_t vocabulary, seen;
    float *logits; /* of the last `seen` tokens */
    int32_t greedy[SEEN];
    uint64_t kv_bytes;
    quern_status status;
    quern_error error;
} run;

static quern_status look(run *r, quern_session *session, uint32_t at)
{
    const float *logits;
    quern_status status = quern_session_logits(session, &logits, &r->error);
    if (status == QP_OK)
        status = quern_session_greedy(session, &r->greedy[at], &r->error);
    if (status == QP_OK)
        memcpy(r->logits + (size_t)at * r->vocabulary, logits, r->vocabulary * sizeof *logits);
    return status;
}

/* The prompt in chunks, then the last tokens one by one. */
static quern_status follow(run *r, quern_model *model, const int32_t *tokens, uint32_t count)
{
    quern_session *session = NULL;
    quern_session_options options = {
        .struct_size = sizeof options, .context = count, .chunk = 64, .kv_set = 1, .flags = QUERN_SESSION_FLOAT};
    quern_session_info info = {.struct_size = sizeof info};
    options.kv_k = options.kv_v = QP_FORMAT_F32;
    quern_status status = quern_session_create(model, &options, &session, &r->error);
    quern_session_get_info(session, &info);
    r->kv_bytes = info.kv_bytes;
    uint32_t prompt = count - r->seen + 1;
    if (status == QP_OK)
        status = quern_session_prefill(session, tokens, prompt, NULL, NULL, &r->error);
    for (uint32_t i = 0; i < r->seen && status == QP_OK; i++) {
        if (i)
            status = quern_session_eval(session, &tokens[prompt + i - 1], 1, NULL, &r->error);
        if (status == QP_OK)
            status = look(r, session, i);
    }
    quern_session_destroy(session);
    return status;
}

static run compute(const char *plugin, const char *path, const int32_t *tokens, uint32_t count)
{
    run r = {.seen = SEEN};
    test_device d = open_device(plugin, &r.error);
    test_model m = {0};
    quern_model_info info = {.struct_size = sizeof info};
    r.status = d.device ? quern_gguf_open(path, &m.gguf, &r.error) : r.error.status;
    if (r.status == QP_OK)
        r.status = quern_model_load(d.device, m.gguf, NULL, &m.model, &r.error);
    if (r.status == QP_OK) {
        quern_model_get_info(m.model, &info);
        r.vocabulary = info.vocabulary;
        r.logits = malloc((size_t)SEEN * r.vocabulary * sizeof *r.logits);
        r.status = r.logits ? follow(&r, m.model, tokens, count) : quern_fail(&r.error, QP_ERR_OUT_OF_MEMORY, "no memory");
    }
    unload(&m);
    close_cpu(&d);
    return r;
}

/* Of the logits from row `from` of the output matrix on. */
static double difference(const run *a, const run *b, uint32_t from)
{
    double error = 0, power = 0;
    for (uint32_t i = 0; i < SEEN; i++)
        for (uint32_t j = from; j < a->vocabulary; j++) {
            double x = (double)a->logits[(size_t)i * a->vocabulary + j], y = (double)b->logits[(size_t)i * a->vocabulary + j];
            error += (x - y) * (x - y);
            power += y * y;
        }
    return power > 0 && error >= 0 ? error / power : 1e300;
}

/* Whether float sums can tell the likeliest token of this row from the next one. */
static int decided(const float *logits, uint32_t n)
{
    float best = -INFINITY, second = -INFINITY, power = 0;
    for (uint32_t i = 0; i < n; i++) {
        power += logits[i] * logits[i] / (float)n;
        if (logits[i] > best) {
            second = best;
            best = logits[i];
        } else if (logits[i] > second) {
            second = logits[i];
        }
    }
    return best - second > 1e-3f * sqrtf(power);
}

static void compare_choices(const char *name, const run *device, const run *cpu)
{
    uint32_t close = 0, other = 0;
    for (uint32_t i = 0; i < SEEN; i++) {
        close += !decided(cpu->logits + (size_t)i * cpu->vocabulary, cpu->vocabulary);
        other += decided(cpu->logits + (size_t)i * cpu->vocabulary, cpu->vocabulary) && device->greedy[i] != cpu->greedy[i];
    }
    ok(!other && close <= SEEN / 4, "%s: the CPU's %d tokens (%u of them too close to tell, %u others)", name, SEEN, close, other);
}

static void check(const char *plugin, const char *path, const bench_shape *shape, qp_format format, uint32_t count, uint32_t beyond)
{
    int32_t tokens[MOST_TOKENS];
    uint64_t random = 88172645463325252u;
    for (uint32_t i = 0; i < count; i++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        tokens[i] = (int32_t)(random % shape->vocabulary);
    }
    tokens[1] = (int32_t)shape->vocabulary - 1; /* the last row of the table, early enough to be attended to */
    if (!ok(!bench_make_model(path, shape, format, 0), "%s: a model is written", shape->name))
        return;
    run cpu = compute("cpu", path, tokens, count), device = compute(plugin, path, tokens, count);
    if (ok(cpu.status == QP_OK && device.status == QP_OK, "%s: both run it %s%s", shape->name, cpu.error.text, device.error.text)) {
        printf("# %s: KV cache of %.0f MiB\n", shape->name, (double)cpu.kv_bytes / (1 << 20));
        double all = difference(&device, &cpu, 0), end = difference(&device, &cpu, beyond);
        ok(all < 1e-8 && end < 1e-8, "%s: logits within NMSE %.1e, those beyond row %u within %.1e", shape->name, all, beyond, end);
        compare_choices(shape->name, &device, &cpu);
        /* would it be seen? With another token where the layer's keys are past the limit the CPU's own logits are others. */
        tokens[count - SEEN - 4] ^= 1;
        run changed = compute("cpu", path, tokens, count);
        double far = changed.status == QP_OK ? difference(&changed, &cpu, 0) : 0;
        ok(far > 1e-5, "%s: another token near the end is seen: NMSE %.1e", shape->name, far);
        free(changed.logits);
    }
    free(cpu.logits);
    free(device.logits);
}

int main(int argc, char **argv)
{
    const char *plugin = argc > 1 ? argv[1] : "vulkan", *folder = getenv("TMPDIR");
    quern_error error = {0};
    test_device d = open_device(plugin, &error);
    int there = d.device != NULL;
    close_cpu(&d);
    if (!there)
        return tap_skip_all(error.text);
    char path[256];
    snprintf(path, sizeof path, "%s/quern-large-XXXXXX", folder ? folder : "/tmp");
    int fd = mkstemp(path);
    if (!ok(fd >= 0, "a file for models: %s", path))
        return tap_done();
    close(fd);
    /* 300000 rows of 16 blocks of 34 bytes; 576 cells of 256 heads of 256 floats */
    uint32_t beyond = LIMIT / (512 / 32 * 34);
    ok(wide_vocabulary.vocabulary > beyond + 1000, "the table of embeddings is larger than 128 MiB: row %u of %u lies beyond",
       beyond, wide_vocabulary.vocabulary);
    check(plugin, path, &wide_vocabulary, QP_FORMAT_Q8_0, 24, beyond);
    uint32_t cells = LIMIT / (256 * 256 * 4);
    ok(576 - SEEN - 4 > cells, "the keys of the layer are: cell %u of 576", cells);
    check(plugin, path, &wide_cache, QP_FORMAT_F16, 576, 0);
    unlink(path);
    return tap_done();
}
