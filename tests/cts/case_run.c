/* SPDX-License-Identifier: MIT
 * Running a case on the device and on the reference, and comparing the two. */
#include "tests/cts/case.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { SECONDS = 120 };

static case_result fail(cts_case *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static case_result fail(cts_case *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(c->why, sizeof c->why, format, args);
    va_end(args);
    return CASE_FAILED;
}

/* The first byte from `at` on in which two images may differ, by whole pieces: bytes one by one are slow under sanitizers. */
static uint64_t skip_alike(const uint8_t *a, const uint8_t *b, uint64_t at, uint64_t end)
{
    enum { PIECE = 256 };
    while (end - at >= PIECE && !memcmp(a + at, b + at, PIECE))
        at += PIECE;
    return at;
}

/* ---- the device's side ---- */

static int pack(cts_case *c, case_tensor_info *w)
{
    cts *t = c->t;
    int64_t step = w->info.row_step > 0 ? w->info.row_step : 1, rows = w->tensor.ne[1] * w->tensor.ne[2];
    uint64_t row_bytes = (uint64_t)w->tensor.nb[1];
    qp_range range = {.buffer = c->pool, .offset = w->tensor.offset, .size = w->info.bytes};
    for (int64_t row = 0, n; row < rows; row += n) { /* slices of random length, as a loader would */
        n = cts_between(t, 1, rows / step + 1) * step;
        n = n > rows - row ? rows - row : n;
        if (t->backend->weight_pack(t->device, &w->desc, w->gguf + (uint64_t)row * row_bytes, (uint64_t)n * row_bytes, row, n,
                                    range, cts_words(t)))
            return -1;
    }
    return 0;
}

static int in_weight(const cts_case *c, uint64_t at)
{
    for (int i = 0; i < c->tensor_count; i++) {
        const case_tensor_info *w = &c->tensors[i];
        if (w->packed && at >= w->tensor.offset && at < w->tensor.offset + w->info.bytes)
            return 1;
    }
    return 0;
}

/* Fills the pool: the image (but a different step block: the run must bring its own), then the weights. */
static case_result upload(cts_case *c)
{
    cts *t = c->t;
    memcpy(c->before, c->image, c->used);
    memset(c->before + c->step_offset, 0x7f, CASE_STEP);
    if (t->backend->buffer_write(c->pool, 0, c->before, c->used, cts_words(t)) != QP_OK)
        return fail(c, "buffer_write: %s", t->words);
    for (int i = 0; i < c->tensor_count; i++)
        if (c->tensors[i].packed && pack(c, &c->tensors[i]))
            return fail(c, "weight_pack: %s", t->words);
    memcpy(c->expected, c->before, c->used);
    if (t->backend->buffer_read(c->pool, 0, c->before, c->used, cts_words(t)) != QP_OK)
        return fail(c, "buffer_read: %s", t->words);
    for (uint64_t i = 0; (i = skip_alike(c->before, c->expected, i, c->used)) < c->used; i++)
        if (c->before[i] != c->expected[i] && !in_weight(c, i))
            return fail(c, "packing wrote outside its range, at byte %llu", (unsigned long long)i);
    return CASE_RAN;
}

static case_result run_program(cts_case *c, qp_program *program, qp_timeline *line)
{
    cts *t = c->t;
    for (int i = 1; i <= c->runs; i++) {
        qp_signal signal = {.timeline = line, .value = (uint64_t)i};
        qp_run run = {.struct_size = sizeof run, .signal_count = 1, .signals = &signal, .step = c->image + c->step_offset};
        if (t->backend->program_run(program, &run, cts_words(t)) != QP_OK)
            return fail(c, "program_run: %s", t->words);
    }
    qp_status status = t->backend->timeline_wait(line, (uint64_t)c->runs, SECONDS * 1000000000ull, cts_words(t));
    if (status == QP_TIMEOUT)
        return fail(c, "the run did not end in %d s", SECONDS);
    return status == QP_OK ? CASE_RAN : fail(c, "timeline_wait: status %d: %s", status, t->words);
}

static case_result create_and_run(cts_case *c, const qp_program_desc *desc)
{
    cts *t = c->t;
    qp_program *program = NULL;
    qp_timeline *line = NULL;
    case_result result;
    if (t->backend->program_create(t->device, desc, &program, cts_words(t)) != QP_OK)
        result = fail(c, "program_create refuses what op_query took: %s", t->words);
    else if (t->backend->timeline_create(t->device, 0, &line, cts_words(t)) != QP_OK)
        result = fail(c, "timeline_create: %s", t->words);
    else
        result = run_program(c, program, line);
    t->backend->program_destroy(program);
    t->backend->timeline_destroy(line);
    return result;
}

/* Scratch lies between two guards in a buffer of its own. */
static case_result run_with_scratch(cts_case *c)
{
    cts *t = c->t;
    qp_program_desc desc = {.struct_size = sizeof desc,
                            .op_stride = sizeof(qp_op),
                            .ops = c->ops,
                            .op_count = (uint32_t)c->op_count,
                            .step = {c->pool, c->step_offset, CASE_STEP},
                            .transient = c->transient};
    qp_program_memory memory = {.struct_size = sizeof memory};
    if (t->backend->program_measure(t->device, &desc, &memory, cts_words(t)) != QP_OK)
        return fail(c, "program_measure refuses what op_query took: %s", t->words);
    if (!memory.scratch_bytes)
        return create_and_run(c, &desc);
    uint64_t guard = memory.scratch_alignment > 4096 ? memory.scratch_alignment : 4096, whole = memory.scratch_bytes + 2 * guard;
    uint8_t *bytes = malloc(whole);
    qp_buffer *scratch = NULL;
    case_result result = CASE_FAILED;
    if (!bytes || t->backend->buffer_create(t->device, t->info.weight_heap, whole, &scratch, cts_words(t)) != QP_OK) {
        result = fail(c, "no buffer for %llu bytes of scratch: %s", (unsigned long long)memory.scratch_bytes, t->words);
    } else {
        memset(bytes, 0xfd, whole);
        t->backend->buffer_write(scratch, 0, bytes, whole, NULL);
        desc.scratch = (qp_range){scratch, guard, memory.scratch_bytes};
        result = create_and_run(c, &desc);
        if (result == CASE_RAN && t->backend->buffer_read(scratch, 0, bytes, whole, cts_words(t)) != QP_OK)
            result = fail(c, "buffer_read of scratch: %s", t->words);
        for (uint64_t i = 0; result == CASE_RAN && i < whole; i++)
            if ((i < guard || i >= guard + memory.scratch_bytes) && bytes[i] != 0xfd)
                result = fail(c, "a byte outside scratch is written, %lld from its start", (long long)i - (long long)guard);
    }
    t->backend->buffer_destroy(scratch);
    free(bytes);
    return result;
}

/* ---- the reference's side ---- */

static qk_tensor here(const cts_case *c, uint8_t *image, int tensor)
{
    qk_tensor k = {0};
    if (tensor < 0)
        return k;
    const case_tensor_info *i = &c->tensors[tensor];
    k = (qk_tensor){.data = i->packed ? i->gguf : image + i->tensor.offset, .format = i->tensor.format};
    memcpy(k.ne, i->tensor.ne, sizeof k.ne);
    memcpy(k.nb, i->tensor.nb, sizeof k.nb);
    return k;
}

static int64_t live_rows(const cts_case *c, const uint8_t *image, int n)
{
    qp_op_kind kind = c->ops[n].kind;
    int by_source = kind == QP_OP_KV_APPEND || kind == QP_OP_SAMPLE;
    int64_t rows = c->tensors[by_source ? c->src[n][0] : c->dst[n]].tensor.ne[2];
    if (c->live[n] < 0)
        return rows;
    int32_t live;
    memcpy(&live, image + c->tensors[c->live[n]].tensor.offset, 4);
    return live < 0 ? 0 : live > rows ? rows : live;
}

/* Activations as int8 blocks of 32 would have them. A copy, since x itself must not change. */
static float *int8_rows(const qk_tensor *x)
{
    float *copy = malloc((size_t)(x->ne[0] * x->ne[1] * x->ne[2]) * sizeof *copy);
    for (int64_t r = 0; copy && r < x->ne[1] * x->ne[2]; r++)
        for (int64_t begin = 0; begin < x->ne[0]; begin += QK_BLOCK) {
            float *to = copy + r * x->ne[0] + begin, most = 0;
            memcpy(to, (const char *)x->data + r / x->ne[1] * x->nb[2] + r % x->ne[1] * x->nb[1] + begin * 4, QK_BLOCK * sizeof *to);
            for (int i = 0; i < QK_BLOCK; i++)
                most = fmaxf(most, fabsf(to[i]));
            float d = most / 127;
            for (int i = 0; i < QK_BLOCK && d > 0; i++)
                to[i] = d * rintf(to[i] / d);
        }
    return copy;
}

static int is_quantised(qp_format format)
{
    return qk_block_elements(format) > 1;
}

_Static_assert((int)QP_EXPERT_MATMUL_W == QP_MATMUL_W && (int)QP_EXPERT_MATMUL_X == QP_MATMUL_X, "both kinds read alike below");

static int may_be_coarse(const qk_op *op)
{
    uint32_t flags = op->kind == QP_OP_MATMUL ? op->p.matmul.flags : op->p.expert_matmul.flags;
    return (op->kind == QP_OP_MATMUL || op->kind == QP_OP_EXPERT_MATMUL) && is_quantised(op->src[QP_MATMUL_W].format) &&
           !(flags & QP_MATMUL_FLOAT);
}

static void mark_rows(cts_case *c, const qp_tensor *t, int64_t first, int64_t count)
{
    uint64_t row = (uint64_t)t->ne[0] / qk_block_elements(t->format) * qk_block_bytes(t->format);
    for (int64_t i2 = first; i2 < first + count; i2++)
        for (int64_t i1 = 0; i1 < t->ne[1]; i1++)
            memset(c->written + t->offset + (uint64_t)(i1 * t->nb[1] + i2 * t->nb[2]), 1, row);
}

/* What an op writes, by the live count in the image when its turn comes. */
static void mark_written(cts_case *c, const uint8_t *image, int n)
{
    const qp_tensor *dst = &c->tensors[c->dst[n]].tensor;
    int64_t live = live_rows(c, image, n);
    for (int s = 0; s < QP_OP_SOURCES && live > 0; s++) /* a state is left as it is where no row is live */
        if (c->src[n][s] >= 0 && qk_op_written(c->ops[n].kind) >> s & 1)
            mark_rows(c, &c->tensors[c->src[n][s]].tensor, 0, c->tensors[c->src[n][s]].tensor.ne[2]);
    if (c->ops[n].kind == QP_OP_SAMPLE) {
        memset(c->written + dst->offset, 1, (size_t)live * 4);
    } else if (c->ops[n].kind == QP_OP_KV_APPEND) {
        const int32_t *cells = (const int32_t *)(const void *)(image + c->tensors[c->src[n][1]].tensor.offset);
        for (int64_t r = 0; r < live; r++)
            if (cells[r] >= 0 && cells[r] < dst->ne[2])
                mark_rows(c, dst, cells[r], 1);
    } else {
        mark_rows(c, dst, 0, live);
    }
}

static void run_reference(cts_case *c, uint8_t *image, int coarse)
{
    for (int n = 0; n < c->op_count; n++) {
        qk_op op = {.kind = c->ops[n].kind, .live = live_rows(c, image, n), .dst = here(c, image, c->dst[n])};
        memcpy(op.p.bytes, c->ops[n].p.bytes, sizeof op.p.bytes);
        for (int s = 0; s < QP_OP_SOURCES; s++)
            op.src[s] = here(c, image, c->src[n][s]);
        float *rows = NULL;
        if (coarse && may_be_coarse(&op)) {
            qk_tensor *x = &op.src[QP_MATMUL_X];
            rows = int8_rows(x);
            x->data = rows;
            x->nb[1] = x->ne[0] * 4;
            x->nb[2] = x->nb[1] * x->ne[1];
        }
        if (!coarse)
            mark_written(c, image, n);
        qr_run(&op);
        free(rows);
    }
}

/* ---- comparing ---- */

static case_result check_others(cts_case *c)
{
    memcpy(c->before + c->step_offset, c->image + c->step_offset, CASE_STEP);
    for (uint64_t i = 0; (i = skip_alike(c->after, c->before, i, c->used)) < c->used; i++)
        if (!c->written[i] && c->after[i] != c->before[i] && !(c->transient.buffer && i - c->transient.offset < c->transient.size))
            return fail(c, "byte %llu, which no op writes, is changed from %02x to %02x", (unsigned long long)i, c->before[i],
                        c->after[i]);
    return CASE_RAN;
}

static case_result query_ops(cts_case *c)
{
    if (c->why[0])
        return CASE_REFUSED; /* weight_layout did */
    for (int n = 0; n < c->op_count; n++) {
        qp_op_info info = {.struct_size = sizeof info};
        qp_status status = c->t->backend->op_query(c->t->device, &c->ops[n], &info, cts_words(c->t));
        if (status == QP_OK)
            continue;
        snprintf(c->why, sizeof c->why, "%s", c->t->words);
        return status == QP_ERR_UNSUPPORTED && c->why[0] ? CASE_REFUSED
                                                         : fail(c, "op_query of op %d: status %d: %s", n, status, c->t->words);
    }
    return CASE_RAN;
}

static void describe(cts_case *c)
{
    size_t used = strlen(c->what);
    for (int i = 0; i < c->tensor_count && i < 8; i++) {
        const qp_tensor *t = &c->tensors[i].tensor;
        int n = snprintf(c->what + used, sizeof c->what - used, " %d:%s{%lld,%lld,%lld}/%lld,%lld+%llu", i, format_name(t->format),
                         (long long)t->ne[0], (long long)t->ne[1], (long long)t->ne[2], (long long)t->nb[1], (long long)t->nb[2],
                         (unsigned long long)t->offset);
        used = n > 0 && used + (size_t)n < sizeof c->what ? used + (size_t)n : sizeof c->what - 1;
    }
    if (c->op_count && c->live[0] >= 0)
        snprintf(c->what + used, sizeof c->what - used, " live %d",
                 *(const int32_t *)(const void *)(c->image + c->ops[0].live.offset));
}

case_result case_run(cts_case *c)
{
    describe(c);
    case_result result = query_ops(c);
    if (result == CASE_RAN)
        result = upload(c);
    if (result == CASE_RAN)
        result = run_with_scratch(c);
    if (result != CASE_RAN)
        return result;
    if (c->t->backend->buffer_read(c->pool, 0, c->after, c->used, cts_words(c->t)) != QP_OK)
        return fail(c, "buffer_read: %s", c->t->words);
    if (!c->t->computes)
        return CASE_RAN;
    memcpy(c->expected, c->image, c->used);
    memcpy(c->coarse, c->image, c->used);
    for (int i = 0; i < c->runs; i++) {
        run_reference(c, c->expected, 0);
        run_reference(c, c->coarse, 1);
    }
    return check_others(c);
}

static void load_row(const qp_tensor *t, const uint8_t *image, int64_t i1, int64_t i2, int64_t begin, int64_t n, float *dst)
{
    const uint8_t *row = image + t->offset + (uint64_t)(i1 * t->nb[1] + i2 * t->nb[2]);
    row += (uint64_t)begin / qk_block_elements(t->format) * qk_block_bytes(t->format);
    if (t->format == QP_FORMAT_I32)
        for (int64_t i = 0; i < n; i++)
            dst[i] = (float)((const int32_t *)(const void *)row)[i];
    else
        qr_dequantise(t->format, row, dst, n);
}

typedef struct sums {
    double error, energy, coarse, most_error, most;
} sums;

static void compare_piece(cts_case *c, const qp_tensor *t, int64_t i1, int64_t i2, int64_t begin, int64_t n, case_error *e, sums *s)
{
    float got[256], expected[256], coarse[256];
    load_row(t, c->after, i1, i2, begin, n, got);
    load_row(t, c->expected, i1, i2, begin, n, expected);
    load_row(t, c->coarse, i1, i2, begin, n, coarse);
    uint64_t first = t->offset + (uint64_t)(i1 * t->nb[1] + i2 * t->nb[2]) +
                     (uint64_t)begin / qk_block_elements(t->format) * qk_block_bytes(t->format);
    for (int64_t i = 0; i < n; i++) {
        if (!c->written[first + (uint64_t)i / qk_block_elements(t->format) * qk_block_bytes(t->format)])
            continue;
        double x = (double)expected[i], d = (double)got[i] - x, q = (double)coarse[i] - x;
        e->count++;
        if (!isfinite(x) || !isfinite(got[i])) {
            e->not_finite += isnan(x) ? !isnan(got[i]) : got[i] != expected[i];
            continue;
        }
        s->error += d * d;
        s->energy += x * x;
        s->coarse += isfinite(q) ? q * q : 0;
        s->most_error = fmax(s->most_error, fabs(d));
        s->most = fmax(s->most, fabs(x));
    }
}

case_error case_compare(cts_case *c, int tensor)
{
    case_error e = {0};
    sums s = {0};
    const qp_tensor *t = &c->tensors[tensor].tensor;
    for (int64_t i2 = 0; i2 < t->ne[2]; i2++)
        for (int64_t i1 = 0; i1 < t->ne[1]; i1++)
            for (int64_t begin = 0; begin < t->ne[0]; begin += 256)
                compare_piece(c, t, i1, i2, begin, t->ne[0] - begin < 256 ? t->ne[0] - begin : 256, &e, &s);
    e.nmse = s.error > 0 ? s.error / (s.energy > 0 ? s.energy : 1e-60) : 0;
    e.coarse = s.energy > 0 ? s.coarse / s.energy : 0;
    e.error = s.error;
    e.energy = s.energy;
    e.largest = s.most > 0 ? s.most_error / s.most : s.most_error;
    return e;
}

int64_t case_differences(cts_case *c, int tensor)
{
    const qp_tensor *t = &c->tensors[tensor].tensor;
    uint64_t row = (uint64_t)t->ne[0] / qk_block_elements(t->format) * qk_block_bytes(t->format);
    int64_t differences = 0;
    for (int64_t i2 = 0; i2 < t->ne[2]; i2++)
        for (int64_t i1 = 0; i1 < t->ne[1]; i1++) {
            uint64_t at = t->offset + (uint64_t)(i1 * t->nb[1] + i2 * t->nb[2]);
            for (uint64_t i = 0; i < row; i++)
                differences += c->after[at + i] != c->expected[at + i];
        }
    return differences;
}

/* ---- tallies ---- */

static void tally_failure(tally *y, const cts_case *c, const char *words)
{
    if (!y->failed++)
        snprintf(y->first, sizeof y->first, "%s;%s", words, c->what);
}

static case_result tally_run(tally *y, cts_case *c)
{
    case_result result = case_run(c);
    y->ran += result == CASE_RAN;
    if (result == CASE_REFUSED && !y->refused++)
        snprintf(y->refusal, sizeof y->refusal, "%s", c->why);
    if (result == CASE_FAILED)
        tally_failure(y, c, c->why);
    return result;
}

static void judge_close(tally *y, cts_case *c, int dst, double bound, double slack)
{
    enum { FEW = 16 }; /* of a few values all may happen to be small, because what they are sums of cancels out */
    case_error e = case_compare(c, dst);
    double few = e.count > 0 && e.count < FEW ? (double)FEW / (double)e.count : 1, allowed = few * few * bound + slack * e.coarse;
    y->worst = fmax(y->worst, e.nmse);
    y->error += e.error;
    y->energy += e.energy;
    if (e.nmse <= allowed && !e.not_finite)
        return;
    char words[200];
    snprintf(words, sizeof words, "NMSE %.3g, allowed %.3g, %lld of %lld not finite where they should be or the other way round",
             e.nmse, allowed, (long long)e.not_finite, (long long)e.count);
    tally_failure(y, c, words);
}

static void judge_exact(tally *y, cts_case *c, int dst)
{
    int64_t differences = case_differences(c, dst);
    char words[100];
    snprintf(words, sizeof words, "%lld bytes differ where the result is exact", (long long)differences);
    if (differences)
        tally_failure(y, c, words);
}

void tally_case(tally *y, cts_case *c, int dst, double bound, double slack)
{
    if (!c) {
        y->failed++;
        return;
    }
    int ran = tally_run(y, c) == CASE_RAN && c->t->computes;
    for (int i = 0; ran && i < (c->also < 0 ? 1 : 2); i++)
        judge_close(y, c, i ? c->also : dst, bound, slack);
    for (int n = 0; ran && c->every && n < c->op_count; n++)
        if (c->dst[n] != dst && c->dst[n] != c->also)
            judge_close(y, c, c->dst[n], bound, slack);
    case_free(c);
}

void tally_exact(tally *y, cts_case *c, int dst)
{
    if (!c) {
        y->failed++;
        return;
    }
    if (tally_run(y, c) == CASE_RAN && c->t->computes)
        judge_exact(y, c, dst);
    case_free(c);
}

void tally_split(tally *y, cts_case *c, int close, double bound, int exact)
{
    if (!c) {
        y->failed++;
        return;
    }
    if (tally_run(y, c) == CASE_RAN && c->t->computes) {
        judge_close(y, c, close, bound, 0);
        judge_exact(y, c, exact);
    }
    case_free(c);
}

void tally_point(cts *t, const tally *y, int required, const char *format, ...)
{
    char words[400];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    double pooled = y->energy > 0 ? y->error / y->energy : 0;
    int pool = t->brief < 2; /* three cases are too few: their error is that of one in which much cancels out */
    if (pool && !y->failed && y->pool_bound > 0 && pooled > y->pool_bound)
        ok(0, "%s: NMSE %.3g over all %d cases, allowed %.3g", words, pooled, y->ran, y->pool_bound);
    else if (y->failed)
        ok(0, "%s: %d of %d cases fail: %s", words, y->failed, y->ran + y->failed, y->first);
    else if (y->refused && required && t->strict)
        ok(0, "%s: required, but %d of %d cases are refused: %s", words, y->refused, y->ran + y->refused, y->refusal);
    else if (!y->ran)
        cts_skip(y->refused ? y->refusal : "no case", "%s", words);
    else if (!t->computes)
        cts_skip("a null device computes nothing; the programs ran", "%s (%d cases)", words, y->ran);
    else
        ok(1, "%s: %d cases%s, NMSE %.2g, worst case %.2g", words, y->ran, y->refused ? ", others refused" : "", pooled, y->worst);
}
