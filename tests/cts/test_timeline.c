/* SPDX-License-Identifier: MIT
 * Timeline semaphores, from the host's side; test_program.c has the device's. */
#include "tests/cts/cts.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

void test_timeline_host(cts *t)
{
    const qp_backend *b = t->backend;
    qp_timeline *line = NULL;
    uint64_t value = 0;
    if (!cts_worked(t, b->timeline_create(t->device, 5, &line, cts_words(t)), "a timeline that starts at 5"))
        return;
    ok(b->timeline_value(line, &value) == QP_OK && value == 5, "its value is 5 (%llu)", (unsigned long long)value);
    ok(b->timeline_wait(line, 0, 0, cts_words(t)) == QP_OK && b->timeline_wait(line, 5, UINT64_MAX, cts_words(t)) == QP_OK,
       "waiting for what is reached returns at once");
    ok(b->timeline_wait(line, 6, 0, cts_words(t)) == QP_TIMEOUT, "looking for what is not reached is a timeout");
    uint64_t start = cts_clock();
    qp_status status = b->timeline_wait(line, 6, 30000000, cts_words(t));
    uint64_t took = cts_clock() - start;
    ok(status == QP_TIMEOUT && took >= 25000000 && took < 5000000000u, "a timeout of 30 ms takes about that (%.1f ms)",
       (double)took / 1e6);
    cts_worked(t, b->timeline_signal(line, 6, cts_words(t)), "signal 6");
    ok(b->timeline_wait(line, 6, 0, cts_words(t)) == QP_OK, "6 is reached");
    cts_refused(t, b->timeline_signal(line, 6, cts_words(t)), QP_ERR_INVALID, "signalling the same value again");
    cts_refused(t, b->timeline_signal(line, 2, cts_words(t)), QP_ERR_INVALID, "signalling backwards");
    ok(b->timeline_value(line, &value) == QP_OK && value == 6, "a refused signal changes nothing (%llu)",
       (unsigned long long)value);
    cts_worked(t, b->timeline_signal(line, 1000000, cts_words(t)), "a long step forward");
    ok(b->timeline_wait(line, 999999, 1000000, cts_words(t)) == QP_OK, "values between are reached with it");
    b->timeline_destroy(line);
    int failed = 0;
    for (int i = 0; i < 200; i++) {
        line = NULL;
        failed += b->timeline_create(t->device, (uint64_t)i, &line, cts_words(t)) != QP_OK;
        b->timeline_destroy(line);
    }
    ok(!failed, "200 timelines come and go");
}

enum { WAITERS = 6 };

typedef struct waiter {
    const qp_backend *backend;
    qp_timeline *line;
    uint64_t value;
    atomic_int done;
    qp_status status;
} waiter;

static void *wait_for(void *arg)
{
    waiter *w = arg;
    w->status = w->backend->timeline_wait(w->line, w->value, w->value % 2 ? UINT64_MAX : 60000000000u, NULL);
    atomic_store(&w->done, 1);
    return NULL;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
}

void test_timeline_threads(cts *t)
{
    const qp_backend *b = t->backend;
    qp_timeline *line = NULL;
    if (!cts_worked(t, b->timeline_create(t->device, 0, &line, cts_words(t)), "a timeline for six threads"))
        return;
    static waiter waiters[WAITERS];
    pthread_t threads[WAITERS];
    for (int i = 0; i < WAITERS; i++) {
        waiters[i] = (waiter){.backend = b, .line = line, .value = (uint64_t)i + 1};
        pthread_create(&threads[i], NULL, wait_for, &waiters[i]);
    }
    nap();
    int early = 0, failed = 0;
    for (int i = 0; i < WAITERS; i++) {
        for (int later = i; later < WAITERS; later++)
            early += atomic_load(&waiters[later].done);
        failed += b->timeline_signal(line, (uint64_t)i + 1, cts_words(t)) != QP_OK;
        nap();
    }
    for (int i = 0; i < WAITERS; i++) {
        pthread_join(threads[i], NULL);
        failed += waiters[i].status != QP_OK;
    }
    ok(!early, "no thread wakes before its value is signalled");
    ok(!failed, "every thread wakes after it");
    b->timeline_destroy(line);
}
