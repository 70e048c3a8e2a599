/* SPDX-License-Identifier: MIT
 * A hundred times a device, a model, a session and a run: as many objects go as came, which the layer of tests/vklayer counts, and
 * the process does not grow. Under the address sanitizer also: nothing of ours is left at the end. */
#include "engine/help.h"
#include "engine/tiny_model.h"

#include <stdlib.h>
#include <unistd.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

/* GROWTH_MIB: measured on lavapipe, with one heap for all threads: 3. With a heap for each thread that compiles it is up to 49. */
enum { TIMES = 100, WARM = 20, GROWTH_MIB = 16, VOCABULARY = 40, PROMPT = 9, ANSWER = 4 };

static const tiny_spec spec = {.layers = 2,
                               .embedding = 64,
                               .heads = 4,
                               .kv_heads = 2,
                               .head_k = 16,
                               .head_v = 16,
                               .feed_forward = 96,
                               .vocabulary = VOCABULARY,
                               .context = 32,
                               .format = QP_FORMAT_Q8_0};

/* Bytes of this process that are in memory. */
static uint64_t resident(void)
{
    unsigned long long all = 0, in_memory = 0;
#ifdef __GLIBC__
    malloc_trim(0); /* what was freed goes back to the system first */
#endif
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file)
        return 0;
    int read = fscanf(file, "%llu %llu", &all, &in_memory);
    fclose(file);
    return read == 2 ? in_memory * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

static quern_status answer(quern_model *model, int32_t tokens[ANSWER], quern_error *error)
{
    static const int32_t prompt[PROMPT] = {1, 5, 9, 2, 33, 39, 0, 7, 7};
    quern_session *session = NULL;
    quern_session_options options = {.struct_size = sizeof options, .context = 32, .chunk = 8};
    quern_status status = quern_session_create(model, &options, &session, error);
    if (status == QP_OK)
        status = quern_session_prefill(session, prompt, PROMPT, NULL, NULL, error);
    for (int i = 0; status == QP_OK && i < ANSWER; i++) {
        status = quern_session_greedy(session, &tokens[i], error);
        if (status == QP_OK)
            status = quern_session_eval(session, &tokens[i], 1, NULL, error);
    }
    quern_session_destroy(session);
    return status;
}

static quern_status once(quern_context *context, const builder *file, int32_t tokens[ANSWER], quern_error *error)
{
    quern_device *device = NULL;
    test_model m = {0};
    quern_status status = quern_device_open(context, "vulkan", NULL, &device, error);
    if (status == QP_OK)
        status = quern_gguf_open_memory(file->data, file->size, "tiny.gguf", &m.gguf, error);
    if (status == QP_OK)
        status = quern_model_load(device, m.gguf, NULL, &m.model, error);
    if (status == QP_OK)
        status = answer(m.model, tokens, error);
    unload(&m);
    quern_device_close(device);
    return status;
}

/* The layer's lines: "Buffer made 12 live 0". made: of device memory. */
static int read_counts(const char *path, uint32_t *lines, long *made, char *left, size_t size)
{
    char kind[64];
    long n, live;
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    for (*lines = 0; fscanf(file, "%63s made %ld live %ld", kind, &n, &live) == 3; ++*lines) {
        if (!strcmp(kind, "Memory"))
            *made = n;
        if (live)
            snprintf(left, size, "%ld of kind %s", live, kind);
    }
    fclose(file);
    return 1;
}

static void check_counts(const char *path)
{
    char left[96] = "none";
    uint32_t lines = 0;
    long made = 0;
    if (!ok(read_counts(path, &lines, &made, left, sizeof left), "the layer has counted"))
        return;
    ok(lines >= TIMES && made >= TIMES, "each time: %u lines, memory was allocated %ld times", lines, made);
    ok(!strcmp(left, "none"), "Vulkan objects that were left: %s", left);
}

int main(void)
{
    char path[] = "/tmp/quern-counts-XXXXXX";
    quern_context *context = NULL;
    quern_context_options options = {.struct_size = sizeof options, .only = "vulkan", .probe_timeout_ms = 20000};
    quern_error error = {0};
    tiny_model tiny = tiny_make(&spec, 3);
    builder file = tiny_write(&tiny);
    int32_t first[ANSWER] = {0}, tokens[ANSWER] = {0};
    int fd = mkstemp(path), different = 0;
#ifdef __GLIBC__
    mallopt(M_ARENA_MAX, 1); /* threads come and go, and each would have its own heap */
#endif
    if (fd >= 0)
        close(fd);
    quern_status status = quern_context_create(&options, &context, &error);
    if (status == QP_OK)
        status = once(context, &file, first, &error); /* kernels are compiled here, and tested */
    int runs = status == QP_OK;
    setenv("QUERN_VK_COUNTS", path, 1);
    uint64_t warm = 0;
    for (int i = 0; status == QP_OK && i < TIMES; i++) {
        status = once(context, &file, tokens, &error);
        different += memcmp(tokens, first, sizeof tokens) != 0;
        if (i + 1 == WARM)
            warm = resident();
    }
    if (runs) {
        uint64_t end = resident();
        double grown = ((double)end - (double)warm) / (1 << 20);
        ok(status == QP_OK && !different, "%d times the same answer %s", TIMES, error.text);
        check_counts(path);
        printf("# %.1f MiB after %d times, %.1f MiB more after %d\n", (double)warm / (1 << 20), WARM, grown, TIMES);
#ifdef SANITIZED
        ok(1, "how much the process grew # SKIP sanitizers keep what was freed");
#else
        ok(grown < GROWTH_MIB, "the process grew by %.1f MiB", grown);
#endif
    }
    quern_context_destroy(context);
    builder_free(&file);
    tiny_free(&tiny);
    unlink(path);
    return runs ? tap_done() : tap_skip_all(error.text);
}
