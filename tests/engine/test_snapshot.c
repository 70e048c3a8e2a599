/* SPDX-License-Identifier: MIT
 * Snapshots of sessions: a text goes on elsewhere as if nothing had happened, wherever the device was lost. The device is the CPU
 * in disguise (tests/plugins/flaky). */
#include "engine/help.h"
#include "engine/tiny_model.h"

#include <math.h>
#include <stdlib.h>

enum { VOCABULARY = 40, CONTEXT = 64, PROMPT = 11, ANSWER = 20, CHUNK = 4 };

static const tiny_spec dense = {.layers = 2,
                                .embedding = 64,
                                .heads = 4,
                                .kv_heads = 2,
                                .head_k = 32,
                                .head_v = 32,
                                .feed_forward = 96,
                                .vocabulary = VOCABULARY,
                                .context = CONTEXT};
static const int32_t prompt[PROMPT] = {1, 5, 9, 2, 33, 39, 0, 7, 7, 21, 14};

typedef struct place {
    test_device device;
    test_model m;
    quern_session *session;
} place;

static void leave(place *p)
{
    quern_session_destroy(p->session);
    unload(&p->m);
    close_cpu(&p->device);
    *p = (place){0};
}

static quern_status enter(place *p, const char *device, const builder *file, quern_error *error)
{
    *p = (place){.device = open_device(device, error)};
    if (!p->device.device)
        return error->status;
    quern_status status = quern_gguf_open_memory(file->data, file->size, "tiny.gguf", &p->m.gguf, error);
    return status == QP_OK ? quern_model_load(p->device.device, p->m.gguf, NULL, &p->m.model, error) : status;
}

static quern_status begin(place *p, const builder *file, qp_format kv, uint32_t flags, quern_error *error)
{
    quern_status status = enter(p, "flaky", file, error);
    quern_session_options options = {
        .struct_size = sizeof options, .context = 48, .chunk = CHUNK, .kv_k = kv, .kv_v = kv, .kv_set = 1, .flags = flags};
    return status == QP_OK ? quern_session_create(p->m.model, &options, &p->session, error) : status;
}

/* From the lost device to the CPU; what the session there is like, and what it holds. */
static quern_status move(place *p, const builder *file, uint32_t expected, quern_error *error)
{
    quern_snapshot *snapshot = NULL;
    quern_session_info before = {.struct_size = sizeof before}, after = before;
    uint32_t count = 0;
    quern_session_get_info(p->session, &before);
    quern_status status = quern_session_snapshot(p->session, &snapshot, error);
    const int32_t *tokens = quern_snapshot_tokens(snapshot, &count);
    leave(p);
    if (status == QP_OK && (count != expected || memcmp(tokens, prompt, count < PROMPT ? count * sizeof *tokens : sizeof prompt)))
        status = quern_fail(error, QP_ERR_INTERNAL, "the snapshot has %u tokens, not %u, or others", count, expected);
    if (status == QP_OK)
        status = enter(p, "cpu", file, error);
    if (status == QP_OK)
        status = quern_snapshot_restore(snapshot, p->m.model, NULL, &p->session, error);
    quern_snapshot_destroy(snapshot);
    if (status != QP_OK)
        return status;
    quern_session_get_info(p->session, &after);
    if (before.context != after.context || before.chunk != after.chunk || before.kv_bytes != after.kv_bytes)
        return quern_fail(error, QP_ERR_INTERNAL, "the session on the CPU is another one");
    return quern_session_length(p->session) == expected ? QP_OK : quern_fail(error, QP_ERR_INTERNAL, "it has not read all tokens");
}

typedef struct result {
    int32_t answer[ANSWER];
    uint32_t moves;
    quern_status status;
    quern_error error;
} result;

static void step(result *r, place *p, const builder *file, uint32_t at)
{
    for (int again = 0; again < 2; again++) {
        r->status = quern_session_greedy(p->session, &r->answer[at], &r->error);
        if (r->status != QP_ERR_DEVICE_LOST)
            break;
        r->moves++;
        r->status = move(p, file, PROMPT + at, &r->error);
        if (r->status != QP_OK)
            return;
    }
    if (r->status != QP_OK || at + 1 == ANSWER)
        return;
    r->status = quern_session_eval(p->session, &r->answer[at], 1, NULL, &r->error);
    if (r->status == QP_ERR_DEVICE_LOST) {
        r->moves++;
        r->status = move(p, file, PROMPT + at + 1, &r->error);
    }
}

static result answer(const builder *file, qp_format kv, uint32_t flags, const char *fault)
{
    result r = {0};
    place p;
    setenv("QUERN_FLAKY_flaky", fault, 1);
    r.status = begin(&p, file, kv, flags, &r.error);
    if (r.status == QP_OK) {
        r.status = quern_session_prefill(p.session, prompt, PROMPT, NULL, NULL, &r.error);
        if (r.status == QP_ERR_DEVICE_LOST) {
            r.moves++;
            r.status = move(&p, file, PROMPT, &r.error);
        }
    }
    for (uint32_t i = 0; i < ANSWER && r.status == QP_OK; i++)
        step(&r, &p, file, i);
    leave(&p);
    return r;
}

static void check_losses(const char *name, const tiny_spec *spec, qp_format kv, uint32_t flags)
{
    /* a prompt of three runs, each run with a wait; then every token is a run, a wait and reads */
    static const char *const faults[] = {"run:1",  "wait:1", "run:2",  "wait:2", "run:3",  "wait:3",  "read:1", "read:2",
                                         "read:3", "run:4",  "wait:5", "read:8", "run:15", "wait:22", "run:22", "read:50"};
    tiny_model tiny = tiny_make(spec, 7);
    builder file = tiny_write(&tiny);
    result whole = answer(&file, kv, flags, "");
    ok(whole.status == QP_OK && !whole.moves, "%s: a device that is not lost %s", name, whole.error.text);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        char fault[32];
        snprintf(fault, sizeof fault, "%s:lost", faults[i]);
        result r = answer(&file, kv, flags, fault);
        ok(r.status == QP_OK && r.moves == 1 && !memcmp(r.answer, whole.answer, sizeof r.answer),
           "%s: lost at %s, and the same tokens %s", name, faults[i], r.status == QP_OK ? "" : r.error.text);
    }
    builder_free(&file);
    tiny_free(&tiny);
}

/* ---- what else is promised ---- */

typedef struct seen {
    uint64_t calls, last, total, stop_at;
} seen;

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
    seen *s = ctx;
    s->calls += done >= s->last;
    s->last = done;
    s->total = total;
    return s->stop_at && done >= s->stop_at;
}

static void check_progress(const builder *file)
{
    place p;
    quern_error error = {0};
    quern_snapshot *snapshot = NULL;
    quern_session *other = NULL;
    setenv("QUERN_FLAKY_flaky", "", 1);
    int fine = begin(&p, file, QP_FORMAT_F16, 0, &error) == QP_OK &&
               quern_session_prefill(p.session, prompt, PROMPT, NULL, NULL, &error) == QP_OK &&
               quern_session_snapshot(p.session, &snapshot, &error) == QP_OK;
    ok(fine, "a snapshot of a session that goes on %s", error.text);
    seen all = {0}, some = {.stop_at = 8};
    quern_restore_options options = {.struct_size = sizeof options, .progress = on_progress, .progress_ctx = &all};
    fine = quern_snapshot_restore(snapshot, p.m.model, &options, &other, &error) == QP_OK;
    ok(fine && all.calls == 4 && all.last == PROMPT && all.total == PROMPT, "progress is told: 0, 4, 8, 11 of 11");
    const float *a = NULL, *b = NULL;
    fine = quern_session_logits(p.session, &a, &error) == QP_OK && quern_session_logits(other, &b, &error) == QP_OK;
    ok(fine && !memcmp(a, b, VOCABULARY * sizeof *a), "two sessions of one model with the same logits");
    quern_session_destroy(other);
    other = NULL;
    options.progress_ctx = &some;
    fine = quern_snapshot_restore(snapshot, p.m.model, &options, &other, &error) == QP_ERR_CANCELLED;
    ok(fine && other && quern_session_length(other) == 8, "stopped: a session with 8 tokens; %s", error.text);
    uint32_t reused = 0;
    fine = other && quern_session_prefill(other, prompt, PROMPT, NULL, &reused, &error) == QP_OK;
    ok(fine && reused == 8, "which can go on");
    quern_session_destroy(other);
    quern_snapshot_destroy(snapshot);
    leave(&p);
}

static void check_wrong_model(const builder *file)
{
    tiny_spec spec = dense;
    spec.vocabulary = VOCABULARY + 1;
    tiny_model tiny = tiny_make(&spec, 7);
    builder larger = tiny_write(&tiny);
    place p, q;
    quern_error error = {0};
    quern_snapshot *snapshot = NULL;
    quern_session *other = NULL;
    int fine = begin(&p, file, QP_FORMAT_F16, 0, &error) == QP_OK &&
               quern_session_snapshot(p.session, &snapshot, &error) == QP_OK && enter(&q, "cpu", &larger, &error) == QP_OK;
    uint32_t count = 99;
    ok(fine && quern_snapshot_tokens(snapshot, &count) && !count, "an empty snapshot");
    ok(quern_snapshot_restore(snapshot, q.m.model, NULL, &other, &error) == QP_ERR_INVALID && strstr(error.text, "another model"),
       "another model is refused: %s", error.text);
    ok(quern_snapshot_restore(snapshot, p.m.model, NULL, &other, &error) == QP_OK && !quern_session_length(other),
       "an empty session from an empty snapshot");
    quern_session_destroy(other);
    quern_snapshot_destroy(snapshot);
    snapshot = NULL;
    ok(quern_session_snapshot(NULL, &snapshot, &error) == QP_ERR_INVALID &&
           quern_session_snapshot(p.session, NULL, &error) == QP_ERR_INVALID &&
           quern_snapshot_restore(NULL, p.m.model, NULL, &other, &error) == QP_ERR_INVALID &&
           !quern_snapshot_tokens(NULL, &count) && !count,
       "NULL is an error with words");
    quern_snapshot_destroy(NULL);
    leave(&p);
    leave(&q);
    builder_free(&larger);
    tiny_free(&tiny);
}

/* QUERN_SESSION_FLOAT: quantised weights on the CPU, against the sums in double; without it activations have 8 bits. */
static void check_floats(void)
{
    static double want[PROMPT * VOCABULARY];
    tiny_spec spec = dense;
    spec.format = QP_FORMAT_Q8_0;
    tiny_model tiny = tiny_make(&spec, 9);
    builder file = tiny_write(&tiny);
    double e[2] = {1e300, 1e300};
    tiny_reference(&tiny, prompt, PROMPT, want);
    for (int floats = 0; floats < 2; floats++) {
        place p;
        quern_error error = {0};
        const float *logits = NULL;
        setenv("QUERN_FLAKY_flaky", "", 1);
        if (begin(&p, &file, QP_FORMAT_F32, floats ? QUERN_SESSION_FLOAT : 0, &error) == QP_OK &&
            quern_session_prefill(p.session, prompt, PROMPT, NULL, NULL, &error) == QP_OK &&
            quern_session_logits(p.session, &logits, &error) == QP_OK)
            e[floats] = nmse(logits, want + (PROMPT - 1) * VOCABULARY, VOCABULARY);
        leave(&p);
    }
    ok(e[1] < 1e-10, "QUERN_SESSION_FLOAT: NMSE %.1e", e[1]);
    ok(e[0] > 10 * e[1] && e[0] < 1e-2, "which is not what the CPU does by itself: %.1e", e[0]);
    builder_free(&file);
    tiny_free(&tiny);
}

/* The reference kernels take floats whether they are told or not, the CPU's best do not: a snapshot knows. */
static void check_flags(void)
{
    static const char *const variants[] = {"ref", NULL};
    tiny_spec spec = dense;
    spec.format = QP_FORMAT_Q8_0;
    tiny_model tiny = tiny_make(&spec, 9);
    builder file = tiny_write(&tiny);
    for (int i = 0; i < 2; i++) {
        quern_error error = {0};
        quern_snapshot *snapshot = NULL;
        quern_session *moved[2] = {NULL, NULL};
        quern_device_options options = {.struct_size = sizeof options, .threads = 2, .variant = variants[i]};
        quern_restore_options without = {.struct_size = sizeof without, .without = QUERN_SESSION_FLOAT};
        place p, q;
        setenv("QUERN_FLAKY_flaky", "", 1);
        p = (place){.device = open_device("flaky", &error)};
        quern_device_close(p.device.device);
        p.device.device = NULL;
        const float *first = NULL, *second = NULL;
        static float kept[VOCABULARY];
        int fine = quern_device_open(p.device.context, "flaky", &options, &p.device.device, &error) == QP_OK &&
                   quern_gguf_open_memory(file.data, file.size, "tiny.gguf", &p.m.gguf, &error) == QP_OK &&
                   quern_model_load(p.device.device, p.m.gguf, NULL, &p.m.model, &error) == QP_OK &&
                   quern_session_create(p.m.model, NULL, &p.session, &error) == QP_OK &&
                   quern_session_prefill(p.session, prompt, PROMPT, NULL, NULL, &error) == QP_OK &&
                   quern_session_snapshot(p.session, &snapshot, &error) == QP_OK;
        fine = fine && enter(&q, "cpu", &file, &error) == QP_OK &&
               quern_snapshot_restore(snapshot, q.m.model, NULL, &moved[0], &error) == QP_OK &&
               quern_session_logits(moved[0], &first, &error) == QP_OK;
        if (fine)
            memcpy(kept, first, sizeof kept);
        fine = fine && quern_snapshot_restore(snapshot, q.m.model, &without, &moved[1], &error) == QP_OK &&
               quern_session_logits(moved[1], &second, &error) == QP_OK;
        int differ = fine && memcmp(kept, second, sizeof kept) != 0;
        ok(fine && differ == (i == 0), "%s: a session elsewhere %s %s", variants[i] ? variants[i] : "the best kernels",
           i ? "quantises activations, too" : "takes floats unless it is told not to", error.text);
        quern_session_destroy(moved[0]);
        quern_session_destroy(moved[1]);
        quern_snapshot_destroy(snapshot);
        leave(&p);
        leave(&q);
    }
    builder_free(&file);
    tiny_free(&tiny);
}

int main(void)
{
    tiny_spec quantised = dense;
    quantised.format = QP_FORMAT_Q8_0;
    tiny_model tiny = tiny_make(&dense, 7);
    builder file = tiny_write(&tiny);
    check_losses("dense", &dense, QP_FORMAT_F16, 0);
    check_losses("recurrent layers", &tiny_recurrent, QP_FORMAT_F32, 0);
    check_losses("Q8_0, floats", &quantised, QP_FORMAT_Q8_0, QUERN_SESSION_FLOAT);
    check_losses("Q8_0, as the device likes", &quantised, QP_FORMAT_F16, 0);
    check_flags();
    check_progress(&file);
    check_wrong_model(&file);
    check_floats();
    builder_free(&file);
    tiny_free(&tiny);
    return tap_done();
}
