/* SPDX-License-Identifier: MIT
 * What is known of the kernels of a device: asked for, found out, kept, told. */
#include "backends/vulkan/selftest.h"

#include "backends/vulkan/build_id.h"
#include "backends/vulkan/cache.h"
#include "backends/vulkan/device.h"
#include "backends/vulkan/status.h"
#include "backends/vulkan/weights.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As it lies on disk. */
typedef struct record {
    uint64_t key; /* of the kernels' code and constants */
    uint32_t verdict;
    uint32_t reserved;
    char name[64];
    char words[160];
} record;

typedef struct entry {
    struct entry *next;
    uint64_t use; /* of the kernels' names and constants */
    int is_old;   /* found by an earlier run */
    int is_told;
    int is_kept; /* to be written down */
    uint32_t round;
    record what;
} entry;

struct qv_selftest {
    qp_device *device, *bench;
    pthread_mutex_t lock;
    entry *entries;
    record *kept; /* from disk, read at the first question */
    size_t kept_count;
    int is_read, is_new; /* is_new: there is something that is not on disk */
    int is_anew;         /* what is on disk is not believed */
    int unable;          /* no more tests */
};

/* ---- life ---- */

void qv_selftest_init(qp_device *device)
{
    const char *wish = getenv("QUERN_VULKAN_SELF_TEST");
    if (wish && !strcmp(wish, "off"))
        return;
    if (wish && *wish && strcmp(wish, "always") != 0)
        qv_log(QP_LOG_WARN, "QUERN_VULKAN_SELF_TEST is '%s'; it means something as 'off' or 'always' only", wish);
    qv_selftest *s = qv_alloc_zeroed(sizeof *s);
    if (!s)
        return;
    if (pthread_mutex_init(&s->lock, NULL)) {
        qv_free(s);
        return;
    }
    s->device = device;
    s->is_anew = wish && !strcmp(wish, "always");
    device->selftest = s;
}

static void close_bench(qv_selftest *s)
{
    if (!s->unable) /* one that hangs cannot be waited for */
        qv_device_close(s->bench);
    s->bench = NULL;
}

static void save(qv_selftest *s);

void qv_selftest_rest(qp_device *device)
{
    qv_selftest *s = device->selftest;
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    close_bench(s);
    if (s->is_new)
        save(s);
    pthread_mutex_unlock(&s->lock);
}

void qv_selftest_destroy(qp_device *device)
{
    qv_selftest *s = device->selftest;
    if (!s)
        return;
    qv_selftest_rest(device);
    while (s->entries) {
        entry *e = s->entries;
        s->entries = e->next;
        qv_free(e);
    }
    pthread_mutex_destroy(&s->lock);
    qv_free(s->kept);
    qv_free(s);
    device->selftest = NULL;
}

/* ---- on disk ---- */

static void read_kept(qv_selftest *s)
{
    size_t size = 0;
    qv_free(s->kept);
    s->kept = qv_cache_load(s->device->physical, QV_CACHE_TESTS, &size);
    s->kept_count = size / sizeof *s->kept;
    s->is_read = 1;
    for (size_t i = 0; i < s->kept_count; i++) { /* whoever wrote them */
        s->kept[i].name[sizeof s->kept[i].name - 1] = '\0';
        s->kept[i].words[sizeof s->kept[i].words - 1] = '\0';
    }
}

static const record *find_kept(const qv_selftest *s, uint64_t key)
{
    for (size_t i = 0; i < s->kept_count; i++)
        if (s->kept[i].key == key && (s->kept[i].verdict == QV_RIGHT || s->kept[i].verdict == QV_WRONG))
            return &s->kept[i];
    return NULL;
}

static int is_ours(const qv_selftest *s, uint64_t key)
{
    for (const entry *e = s->entries; e; e = e->next)
        if (e->what.key == key && e->is_kept)
            return 1;
    return 0;
}

/* Ours, and what others have written meanwhile. What two write at the same moment one of them will test again. */
static void save(qv_selftest *s)
{
    enum { MOST = 4096 };
    size_t count = 0, room = 0;
    read_kept(s);
    for (const entry *e = s->entries; e; e = e->next)
        room++;
    size_t others = s->kept_count < MOST ? s->kept_count : 0; /* kernels of long ago */
    record *all = qv_alloc((room + others) * sizeof *all);
    if (!all)
        return;
    for (const entry *e = s->entries; e; e = e->next)
        if (e->is_kept)
            all[count++] = e->what;
    for (size_t i = 0; i < others; i++)
        if (!is_ours(s, s->kept[i].key))
            all[count++] = s->kept[i];
    if (count)
        qv_cache_save(s->device->physical, QV_CACHE_TESTS, all, count * sizeof *all);
    qv_free(all);
    s->is_new = 0;
}

/* ---- names and numbers ---- */

static void lower(char *name)
{
    for (char *c = name; *c; c++)
        *c = (char)tolower((unsigned char)*c);
}

void qv_selftest_name(const char *kernel, const qv_variant *variant, char out[64])
{
    snprintf(out, 64, "%s.%s", kernel, variant->name);
    lower(out);
}

void qv_selftest_packing_name(qp_format format, char out[64])
{
    snprintf(out, 64, "pack_%s", qv_format_name(format));
    lower(out);
}

static uint64_t hash_uses(const char *name, const qv_uses *uses)
{
    uint64_t sum = qv_hash(0, name, strlen(name));
    for (uint32_t i = 0; i < uses->count; i++) {
        sum = qv_hash(sum, uses->list[i].shader, strlen(uses->list[i].shader) + 1);
        sum = qv_constants_hash(sum, &uses->list[i].constants);
    }
    return sum;
}

/* With the code, so that another build of a kernel is another one; and with what the tests are like. */
static uint64_t hash_code(uint64_t use, const qv_uses *uses)
{
    enum { TESTS = 3 }; /* another number where tests have changed */
    uint64_t sum = qv_hash(use + TESTS, qv_build_id(), strlen(qv_build_id()));
    for (uint32_t i = 0; i < uses->count; i++) {
        const qv_shader *shader = qv_shader_find(uses->list[i].shader);
        if (shader)
            sum = qv_hash(sum, shader->words, shader->bytes);
    }
    return sum;
}

qp_status qv_selftest_uses(qp_device *device, const qv_variant *variant, const qp_op *op, qv_uses *uses)
{
    *uses = (qv_uses){0};
    qv_plan plan = {.device = device, .uses = uses};
    qp_status status = variant->launch(&plan, op, NULL);
    qv_plan_free(&plan);
    return status;
}

int qv_selftest_same(const qv_uses *a, const qv_uses *b)
{
    int same = a->count == b->count;
    for (uint32_t i = 0; i < a->count && same; i++)
        same = !strcmp(a->list[i].shader, b->list[i].shader) && qv_constants_same(&a->list[i].constants, &b->list[i].constants);
    return same;
}

/* ---- questions ---- */

/* What is asked about: a variant for such ops, or (row NULL) the packing of weights of this format. */
typedef struct question {
    char name[64];
    qv_uses uses;
    uint64_t use;
    const qv_op_row *row;
    const qv_variant *variant;
    const qp_op *op;
    qp_format format;
} question;

static qp_status ask_of_variant(qp_device *device, const qv_op_row *row, const qv_variant *variant, const qp_op *op,
                                const char *kernel, question *out)
{
    *out = (question){.row = row, .variant = variant, .op = op};
    qv_selftest_name(kernel, variant, out->name);
    qp_status status = qv_selftest_uses(device, variant, op, &out->uses);
    out->use = hash_uses(out->name, &out->uses);
    return status;
}

static void ask_of_packing(qp_format format, question *out)
{
    *out = (question){.format = format};
    qv_selftest_packing_name(format, out->name);
    out->uses.count = 1;
    snprintf(out->uses.list[0].shader, sizeof out->uses.list[0].shader, "pack");
    out->uses.list[0].constants = qv_packer(format);
    out->use = hash_uses(out->name, &out->uses);
}

/* Is there something to put in its place? The host packs as well. */
static int has_other(const question *q)
{
    return !q->row || q->variant[1].name != NULL;
}

static void test(qv_selftest *s, const question *q, entry *e)
{
    record *out = &e->what;
    qp_text words = {out->words, sizeof out->words};
    out->verdict = QV_UNKNOWN;
    if (s->unable)
        return;
    if (!s->bench && qv_device_open_bench(s->device, 0, &s->bench, &words)) {
        qv_log(QP_LOG_INFO, "kernels are not tested: %s", out->words);
        s->unable = 1;
        return;
    }
    qv_verdict verdict = q->row ? qv_selftest_run(s->bench, q->row, q->variant, q->op, &words)
                                : qv_selftest_run_packing(s->bench, q->format, &words);
    out->verdict = verdict >= QV_WRONG ? QV_WRONG : (uint32_t)verdict;
    /* A device may be lost for reasons of its own: only where something else takes the kernel's place is that held against it. */
    e->is_kept = verdict == QV_RIGHT || verdict == QV_WRONG || (verdict >= QV_LOST && has_other(q));
    s->unable = verdict == QV_HUNG;
    if (s->unable || atomic_load(&s->bench->lost))
        close_bench(s);
    if (verdict == QV_UNKNOWN)
        qv_log(QP_LOG_INFO, "the kernel %s is not tested: %s", out->name, out->words);
    s->is_new |= e->is_kept;
}

/* round: 0 to believe what is on disk. An entry that is there already stays, since its words may be in use, behind the new one. */
static entry *learn(qv_selftest *s, const question *q, uint32_t round)
{
    entry *e = qv_alloc_zeroed(sizeof *e);
    if (!e)
        return NULL;
    if (!s->is_read)
        read_kept(s);
    e->use = q->use;
    e->what.key = hash_code(q->use, &q->uses);
    snprintf(e->what.name, sizeof e->what.name, "%s", q->name);
    const record *kept = s->is_anew || round ? NULL : find_kept(s, e->what.key);
    e->round = round;
    e->is_old = e->is_kept = kept != NULL;
    if (kept)
        e->what = *kept;
    else
        test(s, q, e);
    e->next = s->entries;
    s->entries = e;
    return e;
}

static entry *find(const qv_selftest *s, uint64_t use)
{
    entry *e = s->entries;
    while (e && e->use != use)
        e = e->next;
    return e;
}

static const char *fault_of(qv_selftest *s, const question *q)
{
    pthread_mutex_lock(&s->lock);
    entry *e = find(s, q->use);
    if (!e)
        e = learn(s, q, 0);
    const char *fault = e && e->what.verdict == QV_WRONG ? e->what.words : NULL; /* never changes again */
    pthread_mutex_unlock(&s->lock);
    return fault;
}

static int ask_again(qv_selftest *s, const question *q, uint32_t round, qp_kernel_result *out)
{
    pthread_mutex_lock(&s->lock);
    const entry *e = find(s, q->use);
    int is_new = !e || e->round != round;
    if (is_new)
        e = learn(s, q, round);
    if (e) {
        out->result = e->what.verdict;
        snprintf(out->words, sizeof out->words, "%s", e->what.words);
    }
    pthread_mutex_unlock(&s->lock);
    return is_new;
}

const char *qv_selftest_fault(const qp_device *device, const qv_op_row *row, const qv_variant *variant, const qp_op *op,
                              const char *kernel)
{
    qv_selftest *s = device->selftest;
    question q;
    return s && !ask_of_variant(s->device, row, variant, op, kernel, &q) ? fault_of(s, &q) : NULL;
}

int qv_selftest_again(qp_device *device, const qv_op_row *row, const qv_variant *variant, const qp_op *op, const char *kernel,
                      uint32_t round, qp_kernel_result *out)
{
    question q;
    qp_status status = ask_of_variant(device, row, variant, op, kernel, &q);
    *out = (qp_kernel_result){.struct_size = sizeof *out};
    memcpy(out->kernel, q.name, sizeof q.name);
    return !status && ask_again(device->selftest, &q, round, out);
}

int qv_selftest_packing_again(qp_device *device, qp_format format, uint32_t round, qp_kernel_result *out)
{
    question q;
    ask_of_packing(format, &q);
    *out = (qp_kernel_result){.struct_size = sizeof *out};
    memcpy(out->kernel, q.name, sizeof q.name);
    return ask_again(device->selftest, &q, round, out);
}

/* ---- warnings ---- */

static void warn_once(const qp_device *device, const char *name, const char *fault, const char *instead)
{
    qv_selftest *s = device->selftest;
    int told = 0, old = 0;
    pthread_mutex_lock(&s->lock);
    for (entry *e = s->entries; e; e = e->next)
        if (!strcmp(e->what.name, name)) {
            told |= e->is_told;
            e->is_told = 1;
            old |= e->is_old && e->what.words == fault;
        }
    pthread_mutex_unlock(&s->lock);
    if (!told)
        qv_log(
            QP_LOG_WARN,
            "the kernel %s fails its test on %s, driver %s (%s%s); %s takes its place. Another version of the driver may be right; "
            "quern selftest --kernels --only %s tests anew",
            name, device->physical->properties.deviceName, device->physical->driver, fault, old ? "; found earlier" : "", instead,
            name);
}

void qv_selftest_warn(const qp_device *device, const char *kernel, const qv_variant *variant, const char *fault,
                      const qv_variant *instead)
{
    char name[64];
    if (atomic_load(&device->rate.is_measuring)) /* nobody asked for that kernel yet */
        return;
    qv_selftest_name(kernel, variant, name);
    warn_once(device, name, fault, instead->name);
}

int qv_selftest_packing_fails(qp_device *device, qp_format format)
{
    qv_selftest *s = device->selftest;
    question q;
    if (!s)
        return 0;
    ask_of_packing(format, &q);
    const char *fault = fault_of(s, &q);
    if (fault)
        warn_once(device, q.name, fault, "the host");
    return fault != NULL;
}
