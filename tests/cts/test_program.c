/* SPDX-License-Identifier: MIT
 * Programs as objects: making, refusing, queueing runs, the step block, live rows. */
#include "tests/cts/case.h"

#include <stdlib.h>
#include <string.h>

enum { N = 64, SLOTS = 64, WAIT = 60 };
#define SECOND 1000000000ull

/* A small world: x {N} in place x·1 + 1 (counter), and a program that appends x to the cell that the step block names. */
typedef struct world {
    cts *t;
    qp_buffer *buffer, *scratch;
    qp_timeline *done, *gate;
    qp_program *program;
    qp_tensor x, step, cells, cache;
    qp_op ops[8];
    uint32_t count;
    qp_range step_range;
    qp_range scratch_range;
} world;

enum { X_AT = 0, STEP_AT = 65536, CACHE_AT = 131072, WORLD = 1 << 18 };

static qp_tensor f32(qp_buffer *buffer, uint64_t offset, int64_t n, int64_t rows)
{
    return (qp_tensor){.buffer = buffer, .offset = offset, .ne = {n, 1, rows, 1}, .nb = {4, 4 * n, 4 * n, 4 * n * rows}};
}

static qp_tensor i32(qp_buffer *buffer, uint64_t offset, int64_t n)
{
    return (qp_tensor){
        .buffer = buffer, .offset = offset, .format = QP_FORMAT_I32, .ne = {n, 1, 1, 1}, .nb = {4, 4 * n, 4 * n, 4 * n}};
}

static qp_op increment(const world *w)
{
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_ELEMENTWISE, .version = 1, .dst = w->x, .src = {w->x}};
    op.p.elementwise = (qp_elementwise_params){.function = QP_ELEMENTWISE_SCALE, .scale = 1, .offset = 1};
    return op;
}

static qp_op append(const world *w)
{
    return (qp_op){.struct_size = sizeof(qp_op), .kind = QP_OP_KV_APPEND, .version = 1, .dst = w->cache, .src = {w->x, w->cells}};
}

static int open_world(world *w, cts *t)
{
    const qp_backend *b = t->backend;
    static const uint8_t zeros[WORLD];
    *w = (world){.t = t};
    if (!cts_worked(t, b->buffer_create(t->device, t->info.weight_heap, WORLD, &w->buffer, cts_words(t)), "a buffer") ||
        !cts_worked(t, b->timeline_create(t->device, 0, &w->done, cts_words(t)), "a timeline") ||
        !cts_worked(t, b->timeline_create(t->device, 0, &w->gate, cts_words(t)), "another"))
        return 0;
    b->buffer_write(w->buffer, 0, zeros, WORLD, NULL);
    w->x = f32(w->buffer, X_AT, N, 1);
    w->cells = i32(w->buffer, STEP_AT, 1);
    w->cache = f32(w->buffer, CACHE_AT, N, SLOTS);
    w->step_range = (qp_range){w->buffer, STEP_AT, 4};
    return 1;
}

static void close_world(world *w)
{
    const qp_backend *b = w->t->backend;
    b->program_destroy(w->program);
    b->timeline_destroy(w->done);
    b->timeline_destroy(w->gate);
    b->buffer_destroy(w->scratch);
    b->buffer_destroy(w->buffer);
}

static qp_program_desc describe(const world *w)
{
    return (qp_program_desc){.struct_size = sizeof(qp_program_desc),
                             .op_stride = sizeof(qp_op),
                             .ops = w->ops,
                             .op_count = w->count,
                             .step = w->step_range,
                             .scratch = w->scratch_range};
}

/* Makes the program of w->ops. A refusal of the ops is a skip, which the caller passes on. */
static int make_program(world *w)
{
    cts *t = w->t;
    const qp_backend *b = t->backend;
    for (uint32_t i = 0; i < w->count; i++)
        if (b->op_query(t->device, &w->ops[i], NULL, cts_words(t)) != QP_OK) {
            cts_skip(t->words, "the device refuses one of the ops");
            return 0;
        }
    qp_program_desc desc = describe(w);
    qp_program_memory memory = {.struct_size = sizeof memory};
    if (!cts_worked(t, b->program_measure(t->device, &desc, &memory, cts_words(t)), "measure"))
        return 0;
    if (memory.scratch_bytes && !w->scratch) {
        if (!cts_worked(t, b->buffer_create(t->device, t->info.weight_heap, memory.scratch_bytes, &w->scratch, cts_words(t)),
                        "scratch"))
            return 0;
        desc.scratch = w->scratch_range = (qp_range){w->scratch, 0, memory.scratch_bytes};
    }
    return cts_worked(t, b->program_create(t->device, &desc, &w->program, cts_words(t)), "create");
}

static qp_status start(world *w, const void *step, uint64_t wait, uint64_t signal)
{
    qp_signal waits = {w->gate, wait}, signals = {w->done, signal};
    qp_run run = {.struct_size = sizeof run,
                  .wait_count = wait != 0,
                  .signal_count = signal != 0,
                  .step = step,
                  .waits = &waits,
                  .signals = &signals};
    return w->t->backend->program_run(w->program, &run, cts_words(w->t));
}

static qp_status wait_done(world *w, uint64_t value)
{
    return w->t->backend->timeline_wait(w->done, value, WAIT * SECOND, cts_words(w->t));
}

static float first_of(world *w, uint64_t offset)
{
    float value = -1;
    w->t->backend->buffer_read(w->buffer, offset, &value, sizeof value, NULL);
    return value;
}

/* ---- lifecycle ---- */

void test_program_lifecycle(cts *t)
{
    const qp_backend *b = t->backend;
    world w;
    if (open_world(&w, t)) {
        w.ops[0] = w.ops[1] = w.ops[2] = increment(&w);
        w.count = 3;
        if (make_program(&w)) {
            ok(start(&w, NULL, 0, 1) == QP_OK && wait_done(&w, 1) == QP_OK, "runs: %s", t->words);
            if (t->computes)
                ok(first_of(&w, X_AT) == 3, "three increments of 0 are 3 (%g)", (double)first_of(&w, X_AT));
            int failed = 0;
            cts_host_counts before = {0}, after;
            qp_program_desc desc = describe(&w);
            for (int i = 0; i < 20; i++) {
                if (i == 1)
                    before = cts_host_now();
                qp_program *program = NULL;
                failed += b->program_create(t->device, &desc, &program, cts_words(t)) != QP_OK;
                b->program_destroy(program);
            }
            after = cts_host_now();
            ok(!failed && after.bytes == before.bytes, "20 programs come and go, and give their memory back (%lld bytes)",
               (long long)(after.bytes - before.bytes));
            before = cts_host_now();
            for (uint64_t i = 2; i < 100; i++)
                failed += start(&w, NULL, 0, i) != QP_OK || wait_done(&w, i) != QP_OK;
            after = cts_host_now();
            ok(!failed && after.calls == before.calls, "98 runs ask the host for no memory (%lld times)",
               (long long)(after.calls - before.calls));
            uint8_t wide[3][sizeof(qp_op) + 32];
            memset(wide, 0x77, sizeof wide);
            for (int i = 0; i < 3; i++) {
                memcpy(wide[i], &w.ops[i], sizeof(qp_op));
                ((qp_op *)(void *)wide[i])->struct_size = sizeof wide[i];
            }
            qp_program *program = NULL;
            desc.ops = (const qp_op *)(const void *)wide;
            desc.op_stride = sizeof wide[0];
            cts_worked(t, b->program_create(t->device, &desc, &program, cts_words(t)), "ops of a later minor, wider apart");
            b->program_destroy(program);
            memset(w.ops, 0xee, sizeof w.ops); /* program_create copied them */
            ok(start(&w, NULL, 0, 100) == QP_OK && wait_done(&w, 100) == QP_OK, "the ops' memory is the caller's again");
            start(&w, NULL, 0, 101);
            b->program_destroy(w.program); /* waits */
            w.program = NULL;
            ok(b->timeline_wait(w.done, 101, 0, cts_words(t)) == QP_OK, "destroy waits for the run");
        }
    }
    close_world(&w);
}

/* ---- refusals ---- */

static void refuse_desc(world *w, const qp_program_desc *desc, qp_status wanted, const char *what)
{
    cts *t = w->t;
    qp_program *program = (qp_program *)w;
    qp_status status = t->backend->program_create(t->device, desc, &program, cts_words(t));
    cts_refused(t, status, wanted, what);
    if (status == QP_OK)
        t->backend->program_destroy(program);
    else if (program != (qp_program *)w)
        ok(0, "%s: the output is changed", what);
}

static void refuse_op(world *w, qp_op bad, const char *what)
{
    qp_op kept = w->ops[5];
    w->ops[5] = bad;
    qp_program_desc desc = describe(w);
    refuse_desc(w, &desc, QP_OK, what);
    int named = strchr(w->t->words, '5') != NULL;
    ok(named, "the words name op 5: %s", w->t->words);
    w->ops[5] = kept;
}

void test_program_refusals(cts *t)
{
    world w;
    if (open_world(&w, t)) {
        for (int i = 0; i < 8; i++)
            w.ops[i] = increment(&w);
        w.count = 8;
        if (make_program(&w)) {
            qp_op op = increment(&w);
            op.dst.offset = op.src[0].offset = WORLD - 4;
            refuse_op(&w, op, "a tensor past the end of its buffer");
            op = increment(&w);
            op.dst.offset = UINT64_MAX - 3;
            refuse_op(&w, op, "a tensor whose end overflows");
            op = increment(&w);
            op.dst.nb[2] = INT64_MAX / 2;
            op.dst.ne[2] = op.src[0].ne[2] = 9;
            refuse_op(&w, op, "a tensor whose strides overflow");
            op = increment(&w);
            op.kind = 31;
            refuse_op(&w, op, "an op of no kind known");
            op = increment(&w);
            op.version = 9;
            refuse_op(&w, op, "an op of a version not known");
            op = increment(&w);
            op.dst.buffer = NULL;
            refuse_op(&w, op, "an op without a result");
            op = increment(&w);
            op.live = f32(w.buffer, STEP_AT, 1, 1);
            refuse_op(&w, op, "a live row count of floats");

            qp_program_desc desc = describe(&w);
            desc.op_stride = 8;
            refuse_desc(&w, &desc, QP_ERR_INVALID, "ops closer together than they are long");
            desc = describe(&w);
            desc.ops = NULL;
            refuse_desc(&w, &desc, QP_ERR_INVALID, "no ops where eight are announced");
            desc = describe(&w);
            desc.step = (qp_range){w.buffer, WORLD - 16, 64};
            refuse_desc(&w, &desc, QP_ERR_INVALID, "a step block past the end of its buffer");
            desc = describe(&w);
            desc.step = (qp_range){w.buffer, UINT64_MAX - 15, 64};
            refuse_desc(&w, &desc, QP_ERR_INVALID, "a step block whose end overflows");
            qp_signal none = {NULL, 1};
            qp_run run = {.struct_size = sizeof run, .signal_count = 1, .signals = &none};
            cts_refused(t, t->backend->program_run(w.program, &run, cts_words(t)), QP_ERR_INVALID, "a signal to no timeline");
            run = (qp_run){.struct_size = sizeof run, .wait_count = 2};
            cts_refused(t, t->backend->program_run(w.program, &run, cts_words(t)), QP_ERR_INVALID, "two waits that are not there");
            ok(start(&w, NULL, 0, 1) == QP_OK && wait_done(&w, 1) == QP_OK, "the program runs all the same");
        }
    }
    close_world(&w);
}

/* ---- queue ---- */

void test_program_queue(cts *t)
{
    const qp_backend *b = t->backend;
    world w;
    if (open_world(&w, t)) {
        w.ops[0] = increment(&w);
        w.count = 1;
        if (make_program(&w)) {
            int failed = 0;
            for (uint64_t i = 1; i <= QP_RUNS_QUEUED; i++)
                failed += start(&w, NULL, i == 1 ? 7 : 0, i) != QP_OK;
            uint64_t value = 99;
            ok(!failed, "%d runs are queued behind a timeline that nobody has signalled%s%s", QP_RUNS_QUEUED, failed ? ": " : "",
               t->words);
            ok(b->timeline_wait(w.done, 1, 30000000, NULL) == QP_TIMEOUT && b->timeline_value(w.done, &value) == QP_OK &&
                   value == 0,
               "none has run");
            b->timeline_signal(w.gate, 6, NULL);
            ok(b->timeline_wait(w.done, 1, 30000000, NULL) == QP_TIMEOUT, "nor after a smaller value");
            b->timeline_signal(w.gate, 7, NULL);
            for (uint64_t i = 1; i <= QP_RUNS_QUEUED; i++)
                failed += wait_done(&w, i) != QP_OK;
            ok(!failed, "all run once it is%s%s", failed ? ": " : "", t->words);
            for (uint64_t i = 1; i <= 300; i++)
                failed += start(&w, NULL, 0, QP_RUNS_QUEUED + i) != QP_OK;
            failed += wait_done(&w, QP_RUNS_QUEUED + 300) != QP_OK;
            ok(!failed, "300 runs are submitted without waiting%s%s", failed ? ": " : "", t->words);
            if (t->computes)
                ok(first_of(&w, X_AT) == QP_RUNS_QUEUED + 300, "each saw what the one before it wrote: %g",
                   (double)first_of(&w, X_AT));
            /* Two timelines in and out. */
            qp_signal waits[2] = {{w.gate, 7}, {w.done, 2}}, signals[2] = {{w.gate, 20}, {w.done, 1000}};
            qp_run run = {.struct_size = sizeof run, .wait_count = 2, .signal_count = 2, .waits = waits, .signals = signals};
            failed = b->program_run(w.program, &run, cts_words(t)) != QP_OK || wait_done(&w, 1000) != QP_OK;
            ok(!failed && b->timeline_wait(w.gate, 20, SECOND, NULL) == QP_OK, "a run waits for two timelines and signals two");
            run = (qp_run){.struct_size = sizeof run};
            failed = b->program_run(w.program, &run, cts_words(t)) != QP_OK || start(&w, NULL, 0, 1001) != QP_OK ||
                     wait_done(&w, 1001) != QP_OK;
            ok(!failed, "a run that waits for nothing and signals nothing");
        }
    }
    close_world(&w);
}

/* ---- step block ---- */

void test_program_step(cts *t)
{
    world w;
    if (open_world(&w, t)) {
        w.ops[0] = increment(&w);
        w.ops[1] = append(&w);
        w.count = 2;
        if (make_program(&w)) {
            int failed = 0, wrong = 0;
            int32_t cell;
            for (int32_t i = 0; i < QP_RUNS_QUEUED; i++) {
                cell = SLOTS - 1 - 3 * i;
                failed += start(&w, &cell, i == 0 ? 1 : 0, (uint64_t)i + 1) != QP_OK;
                cell = 1; /* it was copied */
            }
            w.t->backend->timeline_signal(w.gate, 1, NULL);
            failed += wait_done(&w, QP_RUNS_QUEUED) != QP_OK;
            ok(!failed, "runs with a step block of their own each are queued%s%s", failed ? ": " : "", t->words);
            for (int i = 0; i < QP_RUNS_QUEUED; i++)
                wrong += first_of(&w, CACHE_AT + (uint64_t)(SLOTS - 1 - 3 * i) * N * 4) != (float)(i + 1);
            wrong += first_of(&w, CACHE_AT + N * 4) != 0;
            if (t->computes)
                ok(!wrong, "each run saw its own step block");
            cell = 20;
            failed = start(&w, &cell, 0, 100) != QP_OK || start(&w, NULL, 0, 101) != QP_OK || wait_done(&w, 101) != QP_OK;
            if (t->computes)
                ok(!failed && first_of(&w, CACHE_AT + 20 * N * 4) == QP_RUNS_QUEUED + 2,
                   "a run without one leaves the block as it was");
            cell = -1;
            failed = start(&w, &cell, 0, 102) != QP_OK || wait_done(&w, 102) != QP_OK;
            cell = SLOTS;
            failed += start(&w, &cell, 0, 103) != QP_OK || wait_done(&w, 103) != QP_OK;
            ok(!failed, "cells outside the cache are skipped");
        }
    }
    close_world(&w);
}

/* ---- live rows ---- */

void test_program_live(cts *t)
{
    enum { ROWS = 9 };
    static const int32_t counts[] = {0, 1, 4, ROWS, -1, INT32_MIN, ROWS + 1, INT32_MAX, 5};
    world w;
    if (open_world(&w, t)) {
        w.x = f32(w.buffer, X_AT, N, ROWS);
        w.ops[0] = increment(&w);
        w.ops[0].live = w.cells;
        w.count = 1;
        if (make_program(&w)) {
            float expected[ROWS * N] = {0}, got[ROWS * N];
            for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
                int failed = start(&w, &counts[i], 0, i + 1) != QP_OK || wait_done(&w, i + 1) != QP_OK;
                failed += t->backend->buffer_read(w.buffer, X_AT, got, sizeof got, cts_words(t)) != QP_OK;
                int live = counts[i] < 0 ? 0 : counts[i] > ROWS ? ROWS : counts[i];
                for (int j = 0; j < live * N; j++)
                    expected[j] += 1;
                if (t->computes)
                    ok(!failed && !memcmp(expected, got, sizeof got), "a live count of %d changes %d of %d rows", counts[i], live,
                       ROWS);
                else
                    ok(!failed, "a live count of %d runs", counts[i]);
            }
        }
    }
    close_world(&w);
}
