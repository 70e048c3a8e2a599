/* SPDX-License-Identifier: MIT
 * test_host PLUGIN CASE: the host side of the Vulkan plugin where the driver misbehaves or the order of things is awkward. Each
 * case is a process of its own, because the layer that makes the driver fail reads the environment once. */
#include "kernels/vulkan/fields.h"
#include "tests/tap.h"

#include <dlfcn.h>
#include <pthread.h>
#include <quern/plugin.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000ull
enum { N = 1 << 20, TOO_LONG = 60 };

static const char *plugin_path;

/* An open device, x {N} that a program of four ops adds four to, and two timelines. */
typedef struct world {
    const qp_backend *b;
    qp_device_info info;
    qp_device *device;
    qp_buffer *buffer, *scratch;
    qp_program *program;
    qp_timeline *gate, *done;
    char words[512];
    qp_text text;
} world;

static int open_device(world *w, uint32_t max_submit_ms)
{
    *w = (world){.info = {.struct_size = sizeof w->info}};
    w->text = (qp_text){w->words, sizeof w->words};
    void *library = dlopen(plugin_path, RTLD_NOW | RTLD_LOCAL);
    const qp_plugin *plugin = library ? dlsym(library, QP_PLUGIN_SYMBOL) : NULL;
    w->b = plugin ? plugin->query(QP_ABI_MINOR, NULL, &w->text) : NULL;
    if (!w->b)
        exit(tap_skip_all(w->words[0] ? w->words : "the plugin does not load"));
    qp_device_options options = {.struct_size = sizeof options, .max_submit_ms = max_submit_ms};
    return ok(!w->b->device_info(0, &w->info, &w->text) && !w->b->device_open(0, &options, &w->device, &w->text) &&
                  !w->b->timeline_create(w->device, 0, &w->gate, &w->text) &&
                  !w->b->timeline_create(w->device, 0, &w->done, &w->text),
              "a device and two timelines%s%s", w->words[0] ? ": " : "", w->words);
}

static qp_status make_program(world *w, qp_program **out)
{
    qp_tensor x = {.buffer = w->buffer, .ne = {N, 1, 1, 1}, .nb = {4, 4 * N, 4 * N, 4 * N}};
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_ELEMENTWISE, .version = 1, .dst = x, .src = {x}};
    op.p.elementwise = (qp_elementwise_params){.function = QP_ELEMENTWISE_SCALE, .scale = 1, .offset = 1};
    qp_op ops[4] = {op, op, op, op};
    qp_program_desc desc = {.struct_size = sizeof desc, .op_stride = sizeof op, .ops = ops, .op_count = 4};
    qp_program_memory memory = {.struct_size = sizeof memory};
    qp_status status = w->b->program_measure(w->device, &desc, &memory, &w->text);
    if (!status && memory.scratch_bytes && !w->scratch)
        status = w->b->buffer_create(w->device, w->info.weight_heap, memory.scratch_bytes, &w->scratch, &w->text);
    if (w->scratch)
        desc.scratch = (qp_range){w->scratch, 0, memory.scratch_bytes};
    return status ? status : w->b->program_create(w->device, &desc, out, &w->text);
}

static int open_world(world *w, uint32_t max_submit_ms)
{
    if (!open_device(w, max_submit_ms))
        return 0;
    float *zeros = calloc(N, sizeof *zeros);
    int made = !w->b->buffer_create(w->device, w->info.weight_heap, N * sizeof *zeros, &w->buffer, &w->text) &&
               !w->b->buffer_write(w->buffer, 0, zeros, N * sizeof *zeros, &w->text) && !make_program(w, &w->program);
    free(zeros);
    return ok(made, "a program%s%s", w->words[0] ? ": " : "", w->words);
}

static void close_world(world *w)
{
    w->b->program_destroy(w->program);
    w->b->buffer_destroy(w->buffer);
    w->b->buffer_destroy(w->scratch);
    w->b->timeline_destroy(w->gate);
    w->b->timeline_destroy(w->done);
    w->b->device_close(w->device);
}

/* wait 0: for nothing */
static qp_status start(world *w, qp_program *program, uint64_t wait, uint64_t signal)
{
    qp_signal waits = {w->gate, wait}, signals = {w->done, signal};
    qp_run run = {.struct_size = sizeof run, .wait_count = wait != 0, .signal_count = 1, .waits = &waits, .signals = &signals};
    return w->b->program_run(program, &run, &w->text);
}

static qp_status wait_done(world *w, uint64_t value)
{
    return w->b->timeline_wait(w->done, value, 30 * SECOND, &w->text);
}

static float first_of(world *w)
{
    float x = -1;
    w->b->buffer_read(w->buffer, 0, &x, sizeof x, NULL);
    return x;
}

static void nap(unsigned ms)
{
    nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000l}, NULL);
}

/* ---- cases ---- */

/* What a queued run uses must stay; what only stands behind it in the queue can be destroyed all the same. */
static void destroy_behind_a_waiting_run(void)
{
    world w;
    if (!open_world(&w, 0))
        return;
    static char bytes[4096];
    qp_buffer *other = NULL;
    qp_program *unused = NULL;
    int fine = !start(&w, w.program, 1, 1) && !w.b->buffer_create(w.device, w.info.weight_heap, sizeof bytes, &other, &w.text) &&
               !w.b->buffer_write(other, 0, bytes, sizeof bytes, &w.text) && !make_program(&w, &unused);
    ok(fine, "a run waits; a buffer is written to and a program made behind it%s%s", fine ? "" : ": ", fine ? "" : w.words);
    alarm(TOO_LONG);
    w.b->buffer_destroy(other);
    w.b->program_destroy(unused);
    alarm(0);
    uint64_t value = 9;
    ok(!w.b->timeline_value(w.done, &value) && value == 0, "both are destroyed while it waits");
    ok(!w.b->timeline_signal(w.gate, 1, &w.text) && !wait_done(&w, 1) && first_of(&w) == 4, "then it runs");
    close_world(&w);
}

/* A program of four submissions, of which the driver takes all or none. */
static void refused_run_is_not_run_in_part(void)
{
    world w;
    if (!open_world(&w, 1))
        return;
    ok(!start(&w, w.program, 0, 1) && !wait_done(&w, 1) && first_of(&w) == 4, "it runs");
    qp_status status = start(&w, w.program, 0, 2);
    ok(status == QP_ERR_OUT_OF_MEMORY && strstr(w.words, "memory"), "a run that the driver refuses: %d, %s", status, w.words);
    nap(200);
    ok(first_of(&w) == 4, "has not run in part");
    ok(!start(&w, w.program, 0, 2) && !wait_done(&w, 2) && first_of(&w) == 8, "the same run again");
    ok(w.b->timeline_signal(w.done, 3, &w.text) == QP_OK, "and the timeline is as it should be");
    close_world(&w);
}

static void signals_past_a_promise(void)
{
    world w;
    if (!open_world(&w, 0))
        return;
    ok(!start(&w, w.program, 1, 10), "a run that is to signal 10 waits");
    ok(!w.b->timeline_signal(w.done, 5, &w.text), "the host may signal 5");
    w.words[0] = '\0';
    ok(w.b->timeline_signal(w.done, 10, &w.text) == QP_ERR_INVALID && strstr(w.words, "10"), "not 10: %s", w.words);
    ok(w.b->timeline_signal(w.done, 11, &w.text) == QP_ERR_INVALID, "nor 11");
    ok(start(&w, w.program, 0, 7) == QP_ERR_INVALID && start(&w, w.program, 0, 12) == QP_OK, "and a run not 7, but 12");
    ok(!w.b->timeline_signal(w.gate, 1, &w.text) && !wait_done(&w, 12), "they run");
    ok(!w.b->timeline_signal(w.done, 13, &w.text) && w.b->timeline_signal(w.done, 13, &w.text) == QP_ERR_INVALID,
       "then the host may signal 13, once");
    close_world(&w);
}

static void *open_gate(void *arg)
{
    world *w = arg;
    nap(300);
    w->b->timeline_signal(w->gate, 1, NULL);
    return NULL;
}

/* What the host writes into a mapping while a run waits, the run sees. */
static void writes_while_a_run_waits(void)
{
    world w;
    void *mapped = NULL;
    if (!open_world(&w, 0))
        return;
    if (w.b->buffer_map(w.buffer, &mapped, &w.text) != QP_OK) {
        skip(w.words, "writing into a mapping");
    } else {
        float *x = mapped;
        ok(!start(&w, w.program, 1, 1), "a run waits");
        x[0] = 100;
        x[N - 1] = 200;
        ok(!w.b->timeline_signal(w.gate, 1, &w.text) && !wait_done(&w, 1) && x[0] == 104 && x[N - 1] == 204 && x[1] == 4,
           "and sees what was written meanwhile");
    }
    close_world(&w);
}

/* What op_query takes program_create takes, too: rows of W that are further apart than kernels count. */
static void rows_too_far_apart(void)
{
    world w;
    if (!open_device(&w, 0))
        return;
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_MATMUL, .version = 1};
    op.src[QP_MATMUL_W] = (qp_tensor){.format = QP_FORMAT_F32, .ne = {32, 2, 1, 1}, .nb = {4, 1ll << 33, 1ll << 34, 1ll << 34}};
    op.src[QP_MATMUL_X] = (qp_tensor){.format = QP_FORMAT_F32, .ne = {32, 1, 1, 1}, .nb = {4, 128, 128, 128}};
    op.dst = (qp_tensor){.format = QP_FORMAT_F32, .ne = {2, 1, 1, 1}, .nb = {4, 8, 8, 8}};
    op.p.matmul.scale = 1;
    qp_status status = w.b->op_query(w.device, &op, NULL, &w.text);
    ok(status == QP_ERR_UNSUPPORTED && strstr(w.words, "8589934592"), "rows 8 GiB apart are refused when asked about: %s", w.words);
    close_world(&w);
}

/* The layer makes the first waits fail with VK_ERROR_OUT_OF_HOST_MEMORY. */
static void destroy_waits_through_want_of_memory(void)
{
    world w;
    if (!open_world(&w, 0))
        return;
    pthread_t thread = 0;
    ok(!start(&w, w.program, 1, 1) && !pthread_create(&thread, NULL, open_gate, &w), "a run waits for another thread");
    w.b->program_destroy(w.program);
    w.program = NULL;
    uint64_t value = 0;
    ok(!w.b->timeline_value(w.done, &value) && value == 1, "destroy came back when the run had ended: %d", (int)value);
    pthread_join(thread, NULL);
    close_world(&w);
}

/* The layer loses the device at a submission and lets every wait succeed. */
static void a_lost_device_lies(void)
{
    world w;
    if (!open_world(&w, 0))
        return;
    ok(!start(&w, w.program, 0, 1), "a run");
    qp_status status = wait_done(&w, 1);
    ok(status == QP_ERR_DEVICE_LOST, "a wait of which the driver says that all went well: %d, %s", status, w.words);
    uint64_t value = 5;
    ok(w.b->timeline_value(w.done, &value) == QP_ERR_DEVICE_LOST && value == 5, "and the loss stays");
    close_world(&w);
}

/* The layer makes waits slow: programs that are made after a run that took too long are cut smaller. */
static void slow_runs_are_cut(void)
{
    char path[] = "/tmp/quern-counts-XXXXXX", line[128];
    int file = mkstemp(path);
    setenv("QUERN_VK_COUNTS", path, 1);
    world w;
    if (file < 0 || !open_world(&w, 500))
        return;
    ok(!start(&w, w.program, 0, 1) && !wait_done(&w, 1) && !start(&w, w.program, 0, 2) && !wait_done(&w, 2),
       "two runs that take more than twice the time they may");
    qp_program *second = NULL;
    ok(!make_program(&w, &second) && !start(&w, second, 0, 3) && !wait_done(&w, 3) && first_of(&w) == 12, "another program runs");
    w.b->program_destroy(second);
    close_world(&w);
    int submissions = 0;
    FILE *counts = fdopen(file, "r");
    while (counts && fgets(line, sizeof line, counts))
        sscanf(line, "Submission made %d", &submissions);
    if (counts)
        fclose(counts);
    unlink(path);
    ok(submissions > 3, "in more than one submission: %d for all three", submissions);
}

/* ---- packing ---- */

typedef struct format_parts {
    const char *name;
    qp_format format;
    uint32_t elements, bytes, offsets[4], sizes[4];
} format_parts;

#define PARTS(name)                                                                                                                \
    {                                                                                                                              \
#name, QP_FORMAT_##name, QV_##name##_ELEMENTS, QV_##name##_BYTES, {QV_##name##_OFFSETS },                                  \
        {                                                                                                                          \
            QV_##name##_SIZES                                                                                                      \
        }                                                                                                                          \
    }
static const format_parts formats[] = {
    PARTS(Q4_0),  PARTS(Q4_1),    PARTS(Q5_0),   PARTS(Q5_1),   PARTS(Q8_0),    PARTS(Q2_K),  PARTS(Q3_K),  PARTS(Q4_K),
    PARTS(Q5_K),  PARTS(Q6_K),    PARTS(IQ4_NL), PARTS(IQ4_XS), PARTS(MXFP4),   PARTS(TQ1_0), PARTS(TQ2_0), PARTS(IQ1_S),
    PARTS(IQ1_M), PARTS(IQ2_XXS), PARTS(IQ2_XS), PARTS(IQ2_S),  PARTS(IQ3_XXS), PARTS(IQ3_S),
};

/* One row in planes, each filled up to a multiple of 16 bytes with zeros; gives its bytes. */
static size_t planes_of(const format_parts *f, const unsigned char *row, size_t blocks, unsigned char *to)
{
    size_t at = 0;
    for (int i = 0; i < 4; i++) {
        for (size_t b = 0; b < blocks; b++)
            memcpy(to + at + b * f->sizes[i], row + b * f->bytes + f->offsets[i], f->sizes[i]);
        size_t size = (blocks * f->sizes[i] + 15) / 16 * 16;
        memset(to + at + blocks * f->sizes[i], 0, size - blocks * f->sizes[i]);
        at += size;
    }
    return at;
}

/* Rows in two stretches, more than a staging slot holds. */
static qp_status pack(world *w, const format_parts *f, const unsigned char *blocks, int64_t k, int64_t m, unsigned char *packed,
                      uint64_t size)
{
    qp_weight_desc desc = {.struct_size = sizeof desc, .format = f->format, .uses = QP_WEIGHT_MATMUL, .ne = {k, m, 1, 1}};
    qp_weight_info info = {.struct_size = sizeof info};
    uint64_t row = (uint64_t)k / f->elements * f->bytes;
    int64_t half = m / 2 + 3;
    qp_buffer *buffer = NULL;
    qp_status status = w->b->weight_layout(w->device, &desc, &info, &w->text);
    if (!status && info.bytes != size)
        status = QP_ERR_INTERNAL;
    if (!status)
        status = w->b->buffer_create(w->device, w->info.weight_heap, size, &buffer, &w->text);
    qp_range range = {buffer, 0, size};
    if (!status)
        status = w->b->weight_pack(w->device, &desc, blocks, row * (uint64_t)half, 0, half, range, &w->text);
    if (!status)
        status = w->b->weight_pack(w->device, &desc, blocks + row * (uint64_t)half, row * (uint64_t)(m - half), half, m - half,
                                   range, &w->text);
    if (!status)
        status = w->b->buffer_read(buffer, 0, packed, size, &w->text);
    w->b->buffer_destroy(buffer);
    return status;
}

static void packing_on_the_device(void)
{
    enum { BLOCKS = 37, BYTES = 9 << 20 };
    world w;
    if (!open_device(&w, 0))
        return;
    ok(!(w.info.heaps[w.info.weight_heap].flags & QP_HEAP_HOST_VISIBLE), "the host does not see the weights' heap");
    unsigned char *blocks = malloc(BYTES), *packed = malloc(2 * BYTES), *right = malloc(2 * BYTES);
    uint64_t state = 1;
    for (size_t i = 0; i < BYTES; i++)
        blocks[i] = (unsigned char)((state = state * 6364136223846793005u + 1442695040888963407u) >> 56);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        const format_parts *f = &formats[i];
        size_t row = BLOCKS * f->bytes, size = 0;
        int64_t m = (int64_t)(BYTES / row);
        for (int64_t r = 0; r < m; r++)
            size += planes_of(f, blocks + (size_t)r * row, BLOCKS, right + size);
        w.words[0] = '\0';
        qp_status status = pack(&w, f, blocks, BLOCKS * f->elements, m, packed, size);
        ok(!status && !memcmp(packed, right, size), "%s: %d rows: %s", f->name, (int)m, w.words);
    }
    free(blocks);
    free(packed);
    free(right);
    close_world(&w);
}

/* ---- */

static const struct {
    const char *name;
    void (*run)(void);
    const char *fault, *staged; /* for the layer; for the plugin: as if the host could not see the weights' heap */
} cases[] = {
    {"destroy-behind-a-waiting-run", destroy_behind_a_waiting_run, NULL, "1"},
    {"refused-run", refused_run_is_not_run_in_part, "QueueSubmit:2:oom", NULL},
    {"signal-past-a-promise", signals_past_a_promise, NULL, NULL},
    {"destroy-without-memory", destroy_waits_through_want_of_memory,
     "WaitSemaphores:1:oom-host,WaitSemaphores:2:oom-host,WaitSemaphores:3:oom", NULL},
    {"writes-while-a-run-waits", writes_while_a_run_waits, NULL, NULL},
    {"rows-too-far-apart", rows_too_far_apart, NULL, NULL},
    {"lying-driver", a_lost_device_lies, "QueueSubmit:1:lie", NULL},
    {"packing", packing_on_the_device, NULL, "1"},
    {"slow-runs", slow_runs_are_cut, "WaitSemaphores:0:slow=1100", NULL},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc == 3 && i < sizeof cases / sizeof *cases; i++) {
        if (strcmp(argv[2], cases[i].name) != 0)
            continue;
        plugin_path = argv[1];
        if (cases[i].fault)
            setenv("QUERN_VK_FAULT", cases[i].fault, 1);
        if (cases[i].staged)
            setenv("QUERN_VULKAN_STAGED", cases[i].staged, 1);
        cases[i].run();
        return tap_done();
    }
    fprintf(stderr, "usage: test_host PLUGIN CASE\n");
    return 2;
}
