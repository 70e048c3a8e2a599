/* SPDX-License-Identifier: MIT
 * Buffers and transfers. */
#include "tests/cts/cts.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static void random_bytes(cts *t, uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)cts_random(t);
}

void test_buffer_create(cts *t)
{
    const qp_backend *b = t->backend;
    for (uint32_t heap = 0; heap < t->info.heap_count; heap++) {
        const uint64_t sizes[] = {1, 63, 4097, 1 << 20};
        int failed = 0;
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            qp_buffer *buffer = NULL;
            failed += b->buffer_create(t->device, heap, sizes[i], &buffer, cts_words(t)) != QP_OK;
            b->buffer_destroy(buffer);
        }
        ok(!failed, "heap %u gives buffers of 1 byte to 1 MiB%s%s", heap, failed ? ": " : "", t->words);
        qp_buffer *buffer = (qp_buffer *)t;
        cts_refused(t, b->buffer_create(t->device, heap, 0, &buffer, cts_words(t)), QP_OK, "a buffer of 0 bytes");
        cts_refused(t, b->buffer_create(t->device, heap, UINT64_MAX, &buffer, cts_words(t)), QP_OK, "a buffer of 2^64 - 1 bytes");
        cts_refused(t, b->buffer_create(t->device, heap, UINT64_MAX - 4096, &buffer, cts_words(t)), QP_OK,
                    "a buffer that overflows when rounded up");
        if (t->info.heaps[heap].max_allocation < UINT64_MAX)
            cts_refused(t, b->buffer_create(t->device, heap, t->info.heaps[heap].max_allocation + 1, &buffer, cts_words(t)), QP_OK,
                        "a buffer of one byte more than max_allocation");
        ok(buffer == (qp_buffer *)t, "on failure the output is left as it was");
    }
    qp_buffer *buffer = NULL;
    cts_refused(t, b->buffer_create(t->device, t->info.heap_count, 64, &buffer, cts_words(t)), QP_OK, "a heap past the last");
    cts_refused(t, b->buffer_create(t->device, UINT32_MAX, 64, &buffer, cts_words(t)), QP_OK, "heap 2^32 - 1");
}

static void transfers(cts *t, uint32_t heap)
{
    enum { SIZE = 100003 };
    const qp_backend *b = t->backend;
    qp_buffer *buffer = NULL;
    uint8_t *mirror = malloc(SIZE), *got = malloc(SIZE);
    if (b->buffer_create(t->device, heap, SIZE, &buffer, cts_words(t)) != QP_OK || !mirror || !got) {
        ok(0, "heap %u: no buffer: %s", heap, t->words);
    } else {
        random_bytes(t, mirror, SIZE);
        int failed = b->buffer_write(buffer, 0, mirror, SIZE, cts_words(t)) != QP_OK, wrong = 0;
        for (int i = 0; i < 60; i++) {
            uint64_t at = (uint64_t)cts_between(t, 0, SIZE - 1), size = (uint64_t)cts_between(t, 0, i % 3 ? 70 : SIZE);
            size = size > SIZE - at ? SIZE - at : size;
            random_bytes(t, mirror + at, size);
            failed += b->buffer_write(buffer, at, mirror + at, size, cts_words(t)) != QP_OK;
            at = (uint64_t)cts_between(t, 0, SIZE - 1);
            size = (uint64_t)cts_between(t, 0, (int64_t)(SIZE - at));
            memset(got, 0, SIZE);
            failed += b->buffer_read(buffer, at, got, size, cts_words(t)) != QP_OK;
            wrong += memcmp(got, mirror + at, size) != 0 || (size < SIZE && got[size] != 0);
        }
        ok(!failed && !wrong, "heap %u: 60 writes and reads at odd offsets%s%s", heap, failed ? ": " : "", failed ? t->words : "");
        static const struct {
            uint64_t offset, size;
        } outside[] = {{0, SIZE + 1}, {SIZE, 1}, {SIZE - 1, 2}, {UINT64_MAX, 2}, {UINT64_MAX - 15, 64}, {1, UINT64_MAX}};
        int refused = 0;
        for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
            refused +=
                b->buffer_write(buffer, outside[i].offset, mirror, outside[i].size, cts_words(t)) == QP_ERR_INVALID && t->words[0];
            refused +=
                b->buffer_read(buffer, outside[i].offset, got, outside[i].size, cts_words(t)) == QP_ERR_INVALID && t->words[0];
        }
        ok(refused == 12, "heap %u: transfers past the end are refused in words (%d of 12)", heap, refused);
        ok(b->buffer_write(buffer, SIZE, mirror, 0, cts_words(t)) == QP_OK &&
               b->buffer_read(buffer, 7, NULL, 0, cts_words(t)) == QP_OK,
           "heap %u: nothing at all can be transferred", heap);
        failed = b->buffer_read(buffer, 0, got, SIZE, cts_words(t)) != QP_OK;
        ok(!failed && !memcmp(got, mirror, SIZE), "heap %u: refused writes wrote nothing", heap);
    }
    free(mirror);
    free(got);
    b->buffer_destroy(buffer);
}

void test_buffer_transfer(cts *t)
{
    for (uint32_t heap = 0; heap < t->info.heap_count; heap++)
        transfers(t, heap);
}

static void mapping(cts *t, uint32_t heap)
{
    const qp_backend *b = t->backend;
    qp_buffer *buffer = NULL;
    if (!cts_worked(t, b->buffer_create(t->device, heap, 5000, &buffer, cts_words(t)), "a buffer to map"))
        return;
    void *address = t, *again = NULL;
    qp_status status = b->buffer_map(buffer, &address, cts_words(t));
    if (!(t->info.heaps[heap].flags & QP_HEAP_HOST_VISIBLE)) {
        cts_refused(t, status, QP_OK, "mapping a heap that the host cannot see");
    } else if (cts_worked(t, status, "mapping")) {
        uint8_t bytes[5000], got[5000];
        random_bytes(t, bytes, sizeof bytes);
        memcpy(address, bytes, sizeof bytes);
        status = b->buffer_read(buffer, 0, got, sizeof got, cts_words(t));
        ok(status == QP_OK && !memcmp(got, bytes, sizeof got), "heap %u: what is written through a mapping is read back", heap);
        random_bytes(t, bytes, 333);
        status = b->buffer_write(buffer, 1001, bytes, 333, cts_words(t));
        ok(status == QP_OK && !memcmp((char *)address + 1001, bytes, 333), "heap %u: what is transferred shows in the mapping",
           heap);
        status = b->buffer_map(buffer, &again, cts_words(t));
        ok(status == QP_OK && again == address, "heap %u: the address stays", heap);
        ok(((uintptr_t)address & (t->info.heaps[heap].alignment - 1)) == 0, "heap %u: the address has the heap's alignment", heap);
    }
    b->buffer_destroy(buffer);
}

void test_buffer_map(cts *t)
{
    for (uint32_t heap = 0; heap < t->info.heap_count; heap++)
        mapping(t, heap);
}

void test_buffer_import(cts *t)
{
    const qp_backend *b = t->backend;
    enum { SIZE = 65536 };
    qp_buffer *buffer = NULL;
    uint8_t *memory = aligned_alloc(4096, SIZE), got[777];
    random_bytes(t, memory, SIZE);
    qp_status status = b->buffer_import(t->device, memory, SIZE, &buffer, cts_words(t));
    if (!(t->info.flags & QP_DEVICE_CAN_IMPORT)) {
        cts_refused(t, status, QP_ERR_UNSUPPORTED, "importing where the device does not offer it");
    } else if (cts_worked(t, status, "importing host memory")) {
        status = b->buffer_read(buffer, 101, got, sizeof got, cts_words(t));
        ok(status == QP_OK && !memcmp(got, memory + 101, sizeof got), "an imported buffer reads as the memory");
        b->buffer_destroy(buffer);
        buffer = NULL;
        ok(memory[0] == memory[0], "the memory stays the caller's");
        cts_refused(t, b->buffer_import(t->device, memory, 0, &buffer, cts_words(t)), QP_OK, "importing 0 bytes");
        cts_refused(t, b->buffer_import(t->device, NULL, SIZE, &buffer, cts_words(t)), QP_OK, "importing no memory");
    }
    free(memory);
}

enum { WORKERS = 4, REGION = 8192 };

typedef struct worker {
    const qp_backend *backend;
    qp_buffer *buffer;
    unsigned number;
    int failed;
} worker;

static void *work(void *arg)
{
    worker *w = arg;
    uint8_t bytes[REGION], got[REGION];
    for (int round = 0; round < 40; round++) {
        memset(bytes, (int)(w->number * 50 + (unsigned)round), sizeof bytes);
        w->failed += w->backend->buffer_write(w->buffer, w->number * REGION, bytes, REGION, NULL) != QP_OK;
        w->failed +=
            w->backend->buffer_read(w->buffer, w->number * REGION, got, REGION, NULL) != QP_OK || memcmp(bytes, got, REGION) != 0;
    }
    return NULL;
}

void test_buffer_threads(cts *t)
{
    qp_buffer *buffer = NULL;
    if (!cts_worked(t, t->backend->buffer_create(t->device, t->info.weight_heap, WORKERS * REGION, &buffer, cts_words(t)),
                    "a buffer for four threads"))
        return;
    pthread_t threads[WORKERS];
    worker workers[WORKERS];
    int failed = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (worker){.backend = t->backend, .buffer = buffer, .number = i};
        pthread_create(&threads[i], NULL, work, &workers[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
        failed += workers[i].failed;
    }
    ok(!failed, "four threads write and read their parts of one buffer at a time");
    t->backend->buffer_destroy(buffer);
}
