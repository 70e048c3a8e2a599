/* SPDX-License-Identifier: MIT
 * Once a session is made, nothing in the process asks for memory any more: not the engine, not libquern, not the plugin. The
 * C library's allocators are replaced by ones that count; a plugin's calls end here too, since symbols of the program come first.
 */
#include "engine/help.h"
#include "engine/tiny_model.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

#if defined(SANITIZED) || !defined(__GLIBC__)

int main(void)
{
    return tap_skip_all("allocators can only be counted with the GNU C library and without sanitizers");
}

#else

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define VISIBLE __attribute__((visibility("default")))

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);

static atomic_ulong allocations;

VISIBLE void *malloc(size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(size);
}

VISIBLE void *calloc(size_t n, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(n, size);
}

VISIBLE void *realloc(void *p, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(p, size);
}

VISIBLE void *aligned_alloc(size_t align, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_memalign(align, size);
}

VISIBLE int posix_memalign(void **out, size_t align, size_t size)
{
    atomic_fetch_add(&allocations, 1);
    void *p = __libc_memalign(align, size);
    if (!p)
        return ENOMEM;
    *out = p;
    return 0;
}

VISIBLE void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
    atomic_fetch_add(&allocations, 1);
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset); /* NOLINT: a syscall gives a long */
}

static unsigned long count(void)
{
    return atomic_load(&allocations);
}

static void check(quern_model *model, uint32_t flags, qp_format kv)
{
    static const int32_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    quern_error error = {0};
    quern_session *s = NULL;
    quern_session_options options = {
        .struct_size = sizeof options, .chunk = 4, .flags = flags, .kv_set = 1, .kv_k = kv, .kv_v = kv};
    unsigned long before = count();
    int fine = quern_session_create(model, &options, &s, &error) == QP_OK;
    ok(fine && count() > before, "making a session allocates, and that is counted: %lu times", count() - before);
    before = count();
    fine = fine && quern_session_eval(s, tokens, 11, NULL, &error) == QP_OK;
    ok(fine && count() == before, "a prefill in chunks allocates nothing (%lu)", count() - before);
    for (int i = 0; fine && i < 20; i++) {
        const float *logits;
        int32_t token;
        fine = quern_session_greedy(s, &token, &error) == QP_OK && quern_session_logits(s, &logits, &error) == QP_OK &&
               quern_session_eval(s, &token, 1, NULL, &error) == QP_OK;
    }
    quern_confidence confidence = {.struct_size = sizeof confidence, .unsure = 0.5f};
    for (int i = 0; fine && i < 20; i++) {
        const float *logits;
        quern_score score;
        quern_alternative top[5];
        uint32_t top_count = 5;
        fine = quern_session_logits(s, &logits, &error) == QP_OK &&
               quern_score_token(logits, 64, i, &score, top, &top_count, &error) == QP_OK;
        quern_confidence_add(&confidence, &score);
    }
    ok(fine && count() == before, "20 tokens and their scores allocate nothing (%lu)%s%s", count() - before, fine ? "" : ": ",
       fine ? "" : error.text);
    fine = fine && quern_session_truncate(s, 5, &error) == QP_OK && quern_session_eval(s, tokens, 3, NULL, &error) == QP_OK;
    uint32_t reused = 0;
    fine = fine && quern_session_prefill(s, tokens, 11, NULL, &reused, &error) == QP_OK;
    ok(fine && count() == before, "going back and on allocates nothing (%lu)", count() - before);
    quern_session_destroy(s);
}

int main(void)
{
    static const tiny_spec spec = {.layers = 2,
                                   .embedding = 64,
                                   .heads = 2,
                                   .kv_heads = 1,
                                   .head_k = 32,
                                   .head_v = 32,
                                   .feed_forward = 96,
                                   .vocabulary = 64,
                                   .context = 64,
                                   .format = QP_FORMAT_Q8_0};
    test_device d = open_cpu();
    test_model m = {0};
    quern_error error = {0};
    if (!d.device)
        return tap_done();
    tiny_model tiny = tiny_make(&spec, 1);
    builder file = tiny_write(&tiny);
    if (ok(quern_gguf_open_memory(file.data, file.size, "tiny.gguf", &m.gguf, &error) == QP_OK &&
               quern_model_load(d.device, m.gguf, NULL, &m.model, &error) == QP_OK,
           "a tiny model loads: %s", error.text)) {
        check(m.model, 0, QP_FORMAT_F16);
        check(m.model, QUERN_SESSION_ALL_LOGITS, QP_FORMAT_Q8_0);
    }
    unload(&m);
    builder_free(&file);
    tiny_free(&tiny);
    close_cpu(&d);
    return tap_done();
}

#endif
