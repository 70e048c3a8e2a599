/* SPDX-License-Identifier: MIT
 * One test: a few small ops in one program, on the device and on the reference, compared. Whatever lies beside their results must
 * be untouched. */
#include "backends/vulkan/buffer.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/program.h"
#include "backends/vulkan/selftest.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/timeline.h"
#include "backends/vulkan/weights.h"
#include "kernels/ref/ref.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST_OPS = 6, MOST_BYTES = 8 << 20, GAP = 512 };

/* A watchdog ends what hangs sooner, where there is one. A processor that poses as a GPU compiles what it runs for the first time
 * then, which may take long where others compile, too. */
enum { PATIENCE_S = 60, PATIENCE_OF_PROCESSORS_S = 600 };

typedef struct bench {
    qp_device *device;
    const qv_op_row *row;
    qp_op ops[MOST_OPS];
    uint8_t *blocks[MOST_OPS][QP_OP_SOURCES]; /* of weights that are packed: as on disk */
    uint32_t count;
    uint64_t used;
    uint8_t *before, *after, *expected, *written; /* images of the pool; written: 1 for what a result or a state takes */
    qp_buffer *pool, *scratch;
    qp_program *program;
    qp_timeline *line;
    qv_random random;
} bench;

/* ---- shapes ---- */

static int is_weight(const qv_op_row *row, int source)
{
    return (int)(row->weights >> source & 1);
}

void qv_test_lay_out(qp_tensor *t, int apart)
{
    int64_t block = qk_block_bytes(t->format), gap = apart && t->ne[2] > 1 && t->format != QP_FORMAT_I32 ? 16 * block : 0;
    t->nb[0] = block;
    t->nb[1] = t->ne[0] / qk_block_elements(t->format) * block;
    t->nb[2] = t->nb[1] * t->ne[1] + gap;
    t->nb[3] = t->nb[2] * t->ne[2];
}

static void place(bench *b, qp_tensor *t)
{
    b->used = (b->used + GAP + QV_ALIGNMENT - 1) / QV_ALIGNMENT * QV_ALIGNMENT;
    t->offset = b->used;
    b->used += qv_tensor_bytes(t);
}

static void each_tensor_laid_out(const bench *b, qp_op *op, int apart)
{
    for (int s = 0; s < QP_OP_SOURCES; s++)
        if (qv_present(&op->src[s]))
            qv_test_lay_out(&op->src[s], apart && !is_weight(b->row, s) && !(qk_op_written(op->kind) >> s & 1));
    qv_test_lay_out(&op->dst, apart);
    if (qv_present(&op->live))
        qv_test_lay_out(&op->live, 0);
}

static void place_all(bench *b, qp_op *op, int in_place)
{
    uint32_t same = in_place ? qk_op_in_place(op->kind) : 0;
    place(b, &op->dst);
    for (int s = 0; s < QP_OP_SOURCES; s++) {
        int fits = qv_present(&op->src[s]) && !memcmp(op->src[s].ne, op->dst.ne, sizeof op->dst.ne);
        if (same >> s & 1 && fits && op->src[s].format == op->dst.format) {
            op->src[s] = op->dst;
            same = 0; /* one of them */
        } else if (qv_present(&op->src[s])) {
            place(b, &op->src[s]);
        }
    }
    if (qv_present(&op->live))
        place(b, &op->live);
}

/* Does the variant take it, with the kernels that are to be tested? */
static int fits(const bench *b, const qp_op *op, const qv_uses *wanted)
{
    qp_op_info info = {.struct_size = sizeof info};
    const qv_variant *v = b->device->only;
    const qv_variant *taken;
    qv_uses uses;
    return !qv_op_check(b->device, op, 0, &info, &taken, NULL) && taken == v && (!v->refuses || !v->refuses(b->device, op)) &&
           !qv_selftest_uses(b->device, v, op, &uses) && qv_selftest_same(&uses, wanted);
}

static void choose_shapes(bench *b, const qp_op *like, const qv_uses *wanted)
{
    int spare = 0;
    qp_op op;
    for (uint32_t i = 0; b->count < MOST_OPS && qv_test_shape(like, i, &op, &spare); i++) {
        if (spare && b->count)
            break;
        uint64_t used = b->used;
        int apart = i % 2 == 1, fit;
        each_tensor_laid_out(b, &op, apart);
        fit = fits(b, &op, wanted);
        if (!fit && apart) {
            each_tensor_laid_out(b, &op, 0);
            fit = fits(b, &op, wanted);
        }
        if (!fit)
            continue;
        place_all(b, &op, i % 3 == 1);
        if (b->used > MOST_BYTES)
            b->used = used;
        else
            b->ops[b->count++] = op;
    }
    b->used += GAP;
}

/* ---- the device's side ---- */

static int is_packed(const bench *b, uint32_t n, int source)
{
    return is_weight(b->row, source) && b->ops[n].src[source].layout == QV_LAYOUT_PLANES;
}

static uint64_t disk_row(const qp_tensor *t)
{
    return (uint64_t)t->ne[0] / qk_block_elements(t->format) * qk_block_bytes(t->format);
}

/* Planes are packed here, not by the device: the kernel that does that has a test of its own. */
static int fill_source(bench *b, uint32_t n, int s)
{
    const qp_tensor *t = &b->ops[n].src[s];
    uint8_t *place = b->before + t->offset, *to = place;
    uint64_t row = disk_row(t);
    int packed = is_packed(b, n, s);
    if (packed)
        to = b->blocks[n][s] = qv_alloc(row * (uint64_t)(t->ne[1] * t->ne[2]));
    if (!to)
        return -1;
    for (int64_t i2 = 0; i2 < t->ne[2]; i2++)
        for (int64_t i1 = 0; i1 < t->ne[1]; i1++) {
            uint64_t at = packed ? row * (uint64_t)(i2 * t->ne[1] + i1) : (uint64_t)(i1 * t->nb[1] + i2 * t->nb[2]);
            qv_test_fill(&b->ops[n], s, i1, i2, &b->random, to + at);
        }
    if (packed)
        qv_weight_pack_rows(t->format, t->ne[0], to, place, t->ne[1] * t->ne[2]);
    return 0;
}

/* Images with NaN wherever nothing else is (in F32, F16 and BF16), so that reading it shows. */
static int make_images(bench *b)
{
    uint8_t *all = qv_alloc(4 * b->used + 256);
    if (!all)
        return -1;
    uint64_t step = (b->used + 63) / 64 * 64;
    b->before = all;
    b->after = all + step;
    b->expected = all + 2 * step;
    b->written = all + 3 * step;
    memset(b->written, 0, b->used);
    for (uint64_t i = 0; i + 4 <= b->used; i += 4)
        memcpy(b->before + i, &(uint32_t){0x7fc07e00}, 4);
    for (uint32_t n = 0; n < b->count; n++) {
        for (int s = 0; s < QP_OP_SOURCES; s++)
            if (qv_present(&b->ops[n].src[s]) && fill_source(b, n, s))
                return -1;
        if (qv_present(&b->ops[n].live))
            memcpy(b->before + b->ops[n].live.offset, &(int32_t){(int32_t)qv_rows(&b->ops[n]) - 1}, 4);
    }
    return 0;
}

static qp_status upload(bench *b, qp_text *words)
{
    qp_status status = qv_buffer_create(b->device, b->device->physical->weight_heap, b->used, &b->pool, words);
    for (uint32_t n = 0; n < b->count && !status; n++) {
        qp_op *op = &b->ops[n];
        op->dst.buffer = b->pool;
        op->live.buffer = qv_present(&op->live) ? b->pool : NULL;
        for (int s = 0; s < QP_OP_SOURCES; s++)
            op->src[s].buffer = qv_present(&op->src[s]) ? b->pool : NULL;
    }
    if (!status)
        status = qv_buffer_write(b->pool, 0, b->before, b->used, words);
    return status ? status : qv_buffer_read(b->pool, 0, b->before, b->used, words);
}

/* compiled: what fails is not the driver's opinion of the kernel. */
static qp_status make_program(bench *b, int *compiled, qp_text *words)
{
    qp_program_desc desc = {.struct_size = sizeof desc, .op_stride = sizeof *b->ops, .ops = b->ops, .op_count = b->count};
    qp_program_memory memory = {.struct_size = sizeof memory};
    qp_status status = qv_program_measure(b->device, &desc, &memory, words);
    if (!status && memory.scratch_bytes)
        status = qv_buffer_create(b->device, b->device->physical->weight_heap, memory.scratch_bytes, &b->scratch, words);
    if (b->scratch)
        desc.scratch = (qp_range){b->scratch, 0, memory.scratch_bytes};
    *compiled = status != QP_OK;
    return status ? status : qv_program_create(b->device, &desc, &b->program, words);
}

uint32_t qv_test_patience(const qv_physical *physical)
{
    return physical->properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU ? PATIENCE_OF_PROCESSORS_S : PATIENCE_S;
}

static qp_status run_program(bench *b, qp_text *words)
{
    qp_status status = qv_timeline_create(b->device, 0, &b->line, words);
    qp_signal signal = {.timeline = b->line, .value = 1};
    qp_run run = {.struct_size = sizeof run, .signal_count = 1, .signals = &signal};
    if (!status)
        status = qv_program_run(b->program, &run, words);
    if (!status)
        status = qv_timeline_wait(b->line, 1, qv_test_patience(b->device->physical) * UINT64_C(1000000000), words);
    return status ? status : qv_buffer_read(b->pool, 0, b->after, b->used, words);
}

/* ---- the reference's side ---- */

static qk_tensor here(const bench *b, const qp_tensor *t, uint8_t *blocks)
{
    qk_tensor k = {0};
    if (!qv_present(t))
        return k;
    k = (qk_tensor){.data = blocks ? blocks : b->expected + t->offset, .format = t->format};
    memcpy(k.ne, t->ne, sizeof k.ne);
    memcpy(k.nb, t->nb, sizeof k.nb);
    return k;
}

static void run_reference(bench *b, uint32_t n)
{
    const qp_op *from = &b->ops[n];
    qk_op op = {.kind = from->kind, .live = qv_rows(from) - qv_present(&from->live), .dst = here(b, &from->dst, NULL)};
    memcpy(op.p.bytes, from->p.bytes, sizeof op.p.bytes);
    for (int s = 0; s < QP_OP_SOURCES; s++)
        op.src[s] = here(b, &from->src[s], b->blocks[n][s]);
    qr_run(&op);
}

/* ---- comparing ---- */

typedef struct sums {
    double error, energy, worst; /* worst: the largest difference, as a share of what may be expected there */
    int64_t count;
    int other; /* numbers where there should be none, none where there should be, or other whole numbers */
} sums;

static void compare_element(double got, double want, double typical, sums *s)
{
    if (!isfinite(want) || !isfinite(got)) {
        s->other |= isnan(want) ? !isnan(got) : got != want;
        return;
    }
    double difference = fabs(got - want), share = difference / (fabs(want) + typical);
    s->error += difference * difference;
    s->worst = share > s->worst ? share : s->worst;
}

/* got: NULL to add up the energy alone. */
static void compare_row(const qp_tensor *t, const uint8_t *got, const uint8_t *want, sums *s)
{
    float a[256], b[256];
    uint32_t block = qk_block_elements(t->format), piece = block > 1 ? block : 1;
    double typical = s->count ? sqrt(s->energy / (double)s->count) : 0;
    for (int64_t i = 0; i < t->ne[0]; i += piece) {
        uint64_t at = (uint64_t)i / block * qk_block_bytes(t->format);
        if (got && !memcmp(got + at, want + at, qk_block_bytes(t->format)))
            continue;
        if (t->format == QP_FORMAT_I32) {
            s->other |= got != NULL;
            continue;
        }
        qr_dequantise(t->format, want + at, b, piece);
        if (got)
            qr_dequantise(t->format, got + at, a, piece);
        for (uint32_t j = 0; j < piece; j++) {
            if (got)
                compare_element((double)a[j], (double)b[j], typical, s);
            else if (isfinite(b[j])) {
                s->energy += (double)b[j] * (double)b[j];
                s->count++;
            }
        }
    }
}

/* floor: the energy that the result has as a rule. */
static void compare_tensor(bench *b, const qp_tensor *t, double floor, sums *s)
{
    for (int pass = 0; pass < 2; s->energy = fmax(s->energy, floor), pass++)
        for (int64_t i2 = 0; i2 < t->ne[2]; i2++)
            for (int64_t i1 = 0; i1 < t->ne[1]; i1++) {
                uint64_t at = t->offset + (uint64_t)(i1 * t->nb[1] + i2 * t->nb[2]);
                compare_row(t, pass ? b->after + at : NULL, b->expected + at, s);
                memset(b->written + at, 1, disk_row(t));
            }
}

static double energy_of(const bench *b, uint32_t n, int source)
{
    const qp_tensor *t = &b->ops[n].src[source];
    const uint8_t *blocks = b->blocks[n][source];
    uint32_t block = qk_block_elements(t->format), piece = block > 1 ? block : 1;
    double sum = 0;
    float x[256];
    for (int64_t i2 = 0; i2 < t->ne[2]; i2++)
        for (int64_t i1 = 0; i1 < t->ne[1]; i1++) {
            uint64_t row = (uint64_t)(i2 * t->ne[1] + i1) * disk_row(t), apart = (uint64_t)(i1 * t->nb[1] + i2 * t->nb[2]);
            const uint8_t *from = blocks ? blocks + row : b->before + t->offset + apart;
            for (int64_t i = 0; i < t->ne[0]; i += piece) {
                qr_dequantise(t->format, from + (uint64_t)i / block * qk_block_bytes(t->format), x, piece);
                for (uint32_t j = 0; j < piece; j++)
                    sum += (double)x[j] * (double)x[j];
            }
        }
    return sum;
}

/* Of a matmul, also of a mixture: that of its products, and with W2 of two such times each other, half of it taken away by the activation on each side.
 * Where a few results are nearly nothing because their products cancel out, what it costs to round activations does not. */
static double typical_energy(const bench *b, uint32_t n)
{
    const qp_op *op = &b->ops[n];
    int mixture = op->kind == QP_OP_EXPERT_MATMUL;
    if (op->kind != QP_OP_MATMUL && (!mixture || op->p.expert_matmul.flags & QP_EXPERT_SUM))
        return 0;
    int w = mixture ? QP_EXPERT_MATMUL_W : QP_MATMUL_W, w2 = mixture ? QP_EXPERT_MATMUL_W2 : QP_MATMUL_W2;
    double scale = mixture ? 1 : (double)op->p.matmul.scale, scale2 = mixture ? 1 : (double)op->p.matmul.scale2;
    double k = (double)op->src[w].ne[0], count = (double)(op->dst.ne[0] * op->dst.ne[1] * op->dst.ne[2]);
    double x = energy_of(b, n, mixture ? QP_EXPERT_MATMUL_X : QP_MATMUL_X);
    if (mixture) /* each of a token's experts, of which there are so many, has the same x or one of its own */
        x *= (double)op->dst.ne[1] / (double)op->src[QP_EXPERT_MATMUL_X].ne[1] / (double)op->src[w].ne[2];
    double first = scale * scale * x * energy_of(b, n, w) / k;
    if (!qv_present(&op->src[w2]))
        return first;
    return first * scale2 * scale2 * x * energy_of(b, n, w2) / k / count / 4;
}

static int is_wrong(bench *b, uint32_t n, const qp_tensor *t, qp_text *words)
{
    enum { OF_ONE = 10 }; /* one number may be so many times further off than the whole */
    const qp_op *op = &b->ops[n];
    sums s = {0};
    double bound = qv_test_bound(op);
    compare_tensor(b, t, t == &op->dst ? typical_energy(b, n) : 0, &s);
    double nmse = s.energy > 0 ? s.error / s.energy : s.error;
    int wrong = s.other || !(nmse <= bound) || !(s.worst <= OF_ONE * sqrt(bound));
    const qp_tensor *x = &op->src[0];
    if (wrong)
        qv_fail(words, 0, "wrong %s: NMSE %.1e, of at most %.0e, %sin {%lld, %lld, %lld} from {%lld, %lld, %lld}",
                t == &op->dst ? "result" : "state", nmse, bound, s.other ? "and not all of it numbers as it should be, " : "",
                (long long)t->ne[0], (long long)t->ne[1], (long long)t->ne[2], (long long)x->ne[0], (long long)x->ne[1],
                (long long)x->ne[2]);
    return wrong;
}

static qv_verdict compare(bench *b, qp_text *words)
{
    memcpy(b->expected, b->before, b->used);
    for (uint32_t n = 0; n < b->count; n++) {
        const qp_op *op = &b->ops[n];
        run_reference(b, n);
        if (is_wrong(b, n, &op->dst, words))
            return QV_WRONG;
        for (int s = 0; s < QP_OP_SOURCES; s++)
            if (qk_op_written(op->kind) >> s & 1 && is_wrong(b, n, &op->src[s], words))
                return QV_WRONG;
    }
    for (uint64_t i = 0; i < b->used; i++)
        if (!b->written[i] && b->after[i] != b->before[i]) {
            qv_fail(words, 0, "it writes beside its result");
            return QV_WRONG;
        }
    return QV_RIGHT;
}

/* ---- all of it ---- */

static qv_verdict judge(const bench *b, qp_status status, int compiled, qp_text *words)
{
    char was[160];
    switch (status) {
    case QP_TIMEOUT: qv_fail(words, 0, "it does not end within %u s", qv_test_patience(b->device->physical)); return QV_HUNG;
    case QP_ERR_DEVICE_LOST: qv_fail(words, 0, "the device is lost while it runs"); return QV_LOST;
    case QP_ERR_OUT_OF_MEMORY: return QV_UNKNOWN;
    default: break;
    }
    if (compiled)
        return QV_UNKNOWN;
    snprintf(was, sizeof was, "%s", words->data);
    qv_fail(words, 0, "the driver does not take it: %s", was);
    return QV_WRONG;
}

static qv_verdict run(bench *b, qp_text *words)
{
    if (make_images(b)) {
        qv_fail(words, 0, "no host memory");
        return QV_UNKNOWN;
    }
    qp_status status = upload(b, words);
    if (status) /* the kernel has not run yet */
        return QV_UNKNOWN;
    int compiled = 0;
    status = make_program(b, &compiled, words);
    if (status) /* nor now */
        return status == QP_ERR_DEVICE_LOST ? QV_UNKNOWN : judge(b, status, compiled, words);
    status = run_program(b, words);
    return status ? judge(b, status, 1, words) : compare(b, words);
}

qv_verdict qv_selftest_run(qp_device *device, const qv_op_row *row, const qv_variant *variant, const qp_op *like, qp_text *words)
{
    bench *b = qv_alloc_zeroed(sizeof *b);
    qv_uses uses;
    if (!b)
        return QV_UNKNOWN;
    *b = (bench){.device = device, .row = row, .random = {0x9e3779b97f4a7c15u}};
    device->only = variant;
    qv_verdict verdict = QV_UNKNOWN;
    if (!qv_selftest_uses(device, variant, like, &uses))
        choose_shapes(b, like, &uses);
    if (b->count)
        verdict = run(b, words);
    else
        qv_fail(words, 0, "there is no test of its shape");
    if (verdict != QV_HUNG) { /* nothing of one that hangs may be freed */
        qv_program_destroy(b->program);
        qv_timeline_destroy(b->line);
        qv_buffer_destroy(b->scratch);
        qv_buffer_destroy(b->pool);
    }
    for (uint32_t n = 0; n < b->count; n++)
        for (int s = 0; s < QP_OP_SOURCES; s++)
            qv_free(b->blocks[n][s]);
    qv_free(b->before);
    qv_free(b);
    device->only = NULL;
    return verdict;
}
