/* SPDX-License-Identifier: MIT
 * tests/unit/test_cpu_queue.c: threads, queue and timelines of the CPU backend, called directly. Made to be run with the thread
 * sanitizer too. */
#include "backends/cpu/backend.h"
#include "tap.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

static const qp_backend *api;
static char words[512];
static qp_text error = {words, sizeof words};

/* ---- a host that counts, and refuses ------------------------------------------------------------------------------- */

static _Atomic long allocations, live_allocations;
static int threads_left = 1000; /* that thread_start gives */

static void *count_alloc(void *ctx, size_t size, size_t align)
{
    (void)ctx;
    allocations++;
    live_allocations++;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void count_free(void *ctx, void *p)
{
    (void)ctx;
    live_allocations -= p != NULL;
    free(p);
}

typedef struct host_thread {
    pthread_t id;
    void (*main)(void *);
    void *arg;
} host_thread;

static void *host_main(void *arg)
{
    host_thread *t = arg;
    t->main(t->arg);
    return NULL;
}

static qp_thread *host_start(void *ctx, const char *name, uint32_t cpu, void (*main)(void *), void *arg)
{
    (void)ctx;
    (void)name;
    (void)cpu;
    if (threads_left-- <= 0)
        return NULL;
    host_thread *t = malloc(sizeof *t);
    *t = (host_thread){.main = main, .arg = arg};
    if (pthread_create(&t->id, NULL, host_main, t)) {
        free(t);
        return NULL;
    }
    return (qp_thread *)t;
}

static void host_join(void *ctx, qp_thread *thread)
{
    (void)ctx;
    host_thread *t = (host_thread *)thread;
    pthread_join(t->id, NULL);
    free(t);
}

static uint32_t host_cpus(void *ctx, qp_cpu *out, uint32_t cap)
{
    (void)ctx;
    for (uint32_t i = 0; i < 4 && i < cap; i++)
        out[i] = (qp_cpu){.os_index = i, .core = i % 2, .smt = i / 2};
    return 4;
}

static void host_memory(void *ctx, uint64_t *total, uint64_t *available)
{
    (void)ctx;
    *total = 8ull << 30;
    *available = 4ull << 30;
}

static const qp_host counting_host = {.struct_size = sizeof counting_host,
                                      .alloc = count_alloc,
                                      .free = count_free,
                                      .cpus = host_cpus,
                                      .thread_start = host_start,
                                      .thread_join = host_join,
                                      .memory = host_memory};

/* ---- small programs ------------------------------------------------------------------------------------------------ */

typedef struct rig {
    qp_device *device;
    qp_buffer *buffer;
    float *floats; /* the buffer */
    qp_timeline *timeline;
} rig;

enum { BUFFER = 1 << 20 };

static int rig_open(rig *r, uint32_t threads)
{
    qp_device_options options = {.struct_size = sizeof options, .threads = threads};
    *r = (rig){0};
    void *address;
    if (api->device_open(0, &options, &r->device, &error) || api->buffer_create(r->device, 0, BUFFER, &r->buffer, &error) ||
        api->buffer_map(r->buffer, &address, &error) || api->timeline_create(r->device, 0, &r->timeline, &error))
        return -1;
    r->floats = address;
    return 0;
}

static void rig_close(rig *r)
{
    api->timeline_destroy(r->timeline);
    api->buffer_destroy(r->buffer);
    api->device_close(r->device);
}

static qp_tensor tensor(const rig *r, uint64_t offset, qp_format format, int64_t n, int64_t heads, int64_t rows)
{
    return (qp_tensor){.buffer = r->buffer,
                       .offset = offset,
                       .format = format,
                       .ne = {n, heads, rows, 1},
                       .nb = {4, 4 * n, 4 * n * heads, 4 * n * heads * rows}};
}

static qp_op add(qp_tensor dst, qp_tensor a, qp_tensor b)
{
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_ELEMENTWISE, .version = 1, .dst = dst, .src = {a, b}};
    op.p.elementwise.function = QP_ELEMENTWISE_ADD;
    return op;
}

static qp_program *make(const rig *r, const qp_op *ops, uint32_t count, qp_range step)
{
    qp_program_desc desc = {.struct_size = sizeof desc, .op_stride = sizeof *ops, .ops = ops, .op_count = count, .step = step};
    qp_program_memory memory = {.struct_size = sizeof memory};
    qp_program *program = NULL;
    *words = 0;
    if (api->program_measure(r->device, &desc, &memory, &error))
        return NULL;
    desc.scratch = (qp_range){r->buffer, BUFFER / 2, BUFFER / 2};
    return api->program_create(r->device, &desc, &program, &error) ? NULL : program;
}

static qp_status run(const rig *r, qp_program *program, const void *step, uint64_t value)
{
    qp_signal signal = {r->timeline, value};
    qp_run desc = {.struct_size = sizeof desc, .signal_count = value != 0, .step = step, .signals = &signal};
    return api->program_run(program, &desc, &error);
}

static const qp_range no_step = {0};

/* x += y, with y in the step block: each run must see its own. */
static qp_program *make_counter(const rig *r)
{
    qp_tensor x = tensor(r, 0, QP_FORMAT_F32, 8, 1, 1), y = tensor(r, 4096, QP_FORMAT_F32, 8, 1, 1);
    qp_op op = add(x, x, y);
    return make(r, &op, 1, (qp_range){r->buffer, 4096, 32});
}

/* ---- tests --------------------------------------------------------------------------------------------------------- */

static void *signal_later(void *timeline)
{
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    api->timeline_signal(timeline, 7, NULL);
    return NULL;
}

static void test_timeline(void)
{
    rig r;
    uint64_t value = 0;
    ok(rig_open(&r, 1) == 0, "a device of one thread opens %s", words);
    ok(api->timeline_wait(r.timeline, 1, 0, &error) == QP_TIMEOUT, "a look at a value to come is a timeout");
    ok(api->timeline_wait(r.timeline, 1, 2000000, &error) == QP_TIMEOUT, "so is a wait of 2 ms");
    ok(api->timeline_wait(r.timeline, 0, 0, &error) == QP_OK, "the value it has is there");
    pthread_t thread;
    pthread_create(&thread, NULL, signal_later, r.timeline);
    ok(api->timeline_wait(r.timeline, 6, UINT64_MAX, &error) == QP_OK, "a wait ends when another thread signals more");
    pthread_join(thread, NULL);
    ok(api->timeline_value(r.timeline, &value) == QP_OK && value == 7, "the value is what was signalled");
    ok(api->timeline_signal(r.timeline, 7, &error) == QP_ERR_INVALID, "it only grows: %s", words);
    rig_close(&r);
}

static void test_order(void)
{
    rig r;
    enum { RUNS = 200 };
    rig_open(&r, 2);
    qp_program *program = make_counter(&r);
    ok(program != NULL, "a program of one op with a step block is made %s", words);
    for (int i = 0; i < 8; i++)
        r.floats[i] = 0;
    qp_timeline *gate;
    api->timeline_create(r.device, 0, &gate, NULL);
    qp_signal waits = {gate, 1}, signals = {r.timeline, 1};
    float step[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    qp_run first = {
        .struct_size = sizeof first, .wait_count = 1, .signal_count = 1, .step = step, .waits = &waits, .signals = &signals};
    qp_status status = api->program_run(program, &first, &error);
    for (uint64_t i = 2; i <= RUNS && !status; i++) { /* all behind the gate */
        for (int j = 0; j < 8; j++)
            step[j] = (float)i;
        status = run(&r, program, step, i);
    }
    ok(status == QP_OK, "%d runs are queued behind one that waits for the host", RUNS);
    ok(api->timeline_wait(r.timeline, 1, 1000000, NULL) == QP_TIMEOUT && r.floats[0] == 0, "none of them has begun");
    api->timeline_signal(gate, 1, NULL);
    ok(api->timeline_wait(r.timeline, RUNS, UINT64_MAX, &error) == QP_OK, "the last one ends once the host has signalled");
    float sum = RUNS * (RUNS + 1) / 2 - 1;
    ok(r.floats[0] == sum + 1 && r.floats[7] == sum + 8, "every run saw its own step block: %g, %g", (double)r.floats[0],
       (double)r.floats[7]);
    ok(run(&r, program, NULL, RUNS + 1) == QP_OK && api->timeline_wait(r.timeline, RUNS + 1, UINT64_MAX, NULL) == QP_OK &&
           r.floats[0] == sum + 1 + RUNS,
       "without step data the block stays as it is");
    api->program_destroy(program);
    api->timeline_destroy(gate);
    rig_close(&r);
}

static void test_lost_timeline(void)
{
    rig r;
    rig_open(&r, 2);
    qp_program *program = make_counter(&r);
    qp_timeline *gate;
    api->timeline_create(r.device, 3, &gate, NULL);
    qp_signal waits = {gate, 9}, signals = {r.timeline, 1};
    qp_run desc = {.struct_size = sizeof desc, .wait_count = 1, .signal_count = 1, .waits = &waits, .signals = &signals};
    r.floats[0] = 5;
    api->program_run(program, &desc, &error);
    api->timeline_destroy(gate);
    qp_status status = api->timeline_wait(r.timeline, 1, UINT64_MAX, &error);
    ok(status == QP_ERR_CANCELLED && strstr(words, "destroyed"), "a run whose timeline is gone fails where the host waits: %s",
       words);
    ok(r.floats[0] == 5, "it has not run");
    ok(run(&r, program, NULL, 2) == QP_OK && api->timeline_wait(r.timeline, 2, UINT64_MAX, &error) == QP_OK, "the next one runs");
    api->program_destroy(program);
    rig_close(&r);
}

enum { K = 64, LAYERS = 24 };

/* x, then LAYERS times: h = x·1 (norm), y = W h + x, x = y: phases that depend on each other, of several units each. */
static qp_program *make_deep(const rig *r, int64_t rows)
{
    qp_op ops[2 * LAYERS] = {0};
    qp_tensor x = tensor(r, 0, QP_FORMAT_F32, K, 1, rows), h = tensor(r, 32768, QP_FORMAT_F32, K, 1, rows),
              w = tensor(r, 65536, QP_FORMAT_F32, K, K, 1);
    for (int i = 0; i < LAYERS; i++) {
        ops[2 * i] = (qp_op){.struct_size = sizeof(qp_op), .kind = QP_OP_NORM, .version = 1, .dst = h, .src = {x}};
        ops[2 * i].p.norm.eps = 1e-5f;
        ops[2 * i + 1] = (qp_op){.struct_size = sizeof(qp_op), .kind = QP_OP_MATMUL, .version = 1, .dst = x, .src = {w, h, {0}, x}};
        ops[2 * i + 1].p.matmul.scale = 1;
    }
    return make(r, ops, 2 * LAYERS, no_step);
}

static void fill_deep(const rig *r, int64_t rows)
{
    for (int64_t i = 0; i < K * rows; i++)
        r->floats[i] = sinf((float)i);
    for (int i = 0; i < K * K; i++)
        r->floats[65536 / 4 + i] = cosf((float)(i * i % 1000)) / 8;
}

/* The bits of x after some runs, by one thread. */
static void test_threads(void)
{
    enum { ROWS = 5, RUNS = 60 };
    static float expected[K * ROWS];
    const uint32_t counts[] = {1, 2, 3, 7};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        rig r;
        int same = rig_open(&r, counts[c]) == 0;
        fill_deep(&r, ROWS);
        for (int i = 0; i < RUNS && same; i++) { /* a program of its own for each run: helpers let go of the old ones */
            qp_program *program = make_deep(&r, ROWS);
            same = program && run(&r, program, NULL, (uint64_t)i + 1) == QP_OK;
            if (i % 2)
                same = same && api->timeline_wait(r.timeline, (uint64_t)i + 1, UINT64_MAX, NULL) == QP_OK;
            api->program_destroy(program);
        }
        if (c == 0)
            memcpy(expected, r.floats, sizeof expected);
        ok(same && isfinite(expected[0]) && !memcmp(expected, r.floats, sizeof expected), "%u threads give the bits of one",
           counts[c]);
        rig_close(&r);
    }
}

static void test_allocations(void)
{
    rig r;
    ok(rig_open(&r, 3) == 0, "a device opens on the host's services %s", words);
    fill_deep(&r, 1);
    qp_program *program = make_deep(&r, 1), *counter = make_counter(&r);
    float step[8] = {0};
    long before = allocations;
    for (uint64_t i = 1; i <= 100; i++) {
        run(&r, program, NULL, 2 * i);
        run(&r, counter, step, 2 * i + 1);
        api->timeline_wait(r.timeline, 2 * i + 1, UINT64_MAX, NULL);
    }
    ok(allocations == before, "200 runs allocate %ld times", allocations - before);
    api->program_destroy(counter);
    api->program_destroy(program);
    rig_close(&r);
    ok(live_allocations == 0, "all %ld allocations are given back", (long)allocations);
}

static uint64_t budget(void)
{
    qp_device_info info = {.struct_size = sizeof info};
    return api->device_info(0, &info, &error) == QP_OK ? info.heaps[0].budget : 0;
}

/* The host says that 4 GiB are available, whatever buffers were promised: nobody has touched them. */
static void test_promises(void)
{
    const uint64_t mib = 1 << 20, all = 4096 * mib;
    static char bytes[1 << 20];
    qp_device *device = NULL, *other = NULL;
    qp_buffer *large = NULL, *small = NULL, *none = NULL;
    api->device_open(0, NULL, &device, &error);
    api->device_open(0, NULL, &other, &error);
    ok(budget() == all, "all of what the host has left may be asked for");
    ok(api->buffer_create(device, 0, 3072 * mib, &large, &error) == QP_OK && budget() == 1024 * mib,
       "what a buffer was promised is gone before it is touched");
    ok(api->buffer_create(other, 0, 1025 * mib, &none, &error) == QP_ERR_OUT_OF_MEMORY && !none && strstr(words, "1.00 GiB"),
       "another device gets only what is left: %s", words);
    ok(api->buffer_create(other, 0, 1000 * mib, &small, &error) == QP_OK && budget() == 24 * mib, "and takes that");
    for (uint64_t at = 0; at < 16 * mib; at += sizeof bytes)
        api->buffer_write(large, at, bytes, sizeof bytes, &error);
    uint64_t now = budget();
    ok(now >= 40 * mib && now <= 48 * mib, "what is touched is the host's to count: %llu MiB", (unsigned long long)(now / mib));
    api->buffer_destroy(large);
    ok(budget() == all - 1000 * mib, "what is given back is free again");
    api->buffer_destroy(small);
    api->device_close(device);
    api->device_close(other);
    ok(budget() == all && live_allocations == 0, "and so is the rest");
}

static void test_refusals(void)
{
    qp_device_options options = {.struct_size = sizeof options, .threads = 100000};
    qp_device *device = NULL;
    ok(api->device_open(0, &options, &device, &error) == QP_ERR_INVALID && strstr(words, "100000"), "absurd: %s", words);
    options.threads = 4;
    threads_left = 2;
    ok(api->device_open(0, &options, &device, &error) == QP_ERR_OUT_OF_MEMORY && !device, "threads refused: %s", words);
    threads_left = 1000;
    ok(live_allocations == 0, "nothing is left of it");
    options = (qp_device_options){.struct_size = sizeof options, .variant = "sse17"};
    ok(api->device_open(0, &options, &device, &error) == QP_ERR_NOT_FOUND && strstr(words, "generic"), "variant: %s", words);
    options.variant = NULL;
    ok(api->device_open(0, &options, &device, &error) == QP_OK, "with the defaults it opens %s", words);
    qp_buffer *buffer = NULL;
    ok(api->buffer_create(device, 0, 1ull << 40, &buffer, &error) == QP_ERR_OUT_OF_MEMORY && strstr(words, "1.00 TiB") &&
           strstr(words, "4.00 GiB"),
       "memory: %s", words);
    ok(api->buffer_create(device, 1, 64, &buffer, &error) == QP_ERR_INVALID && !buffer, "heap: %s", words);
    api->device_close(device);
    ok(live_allocations == 0, "nothing is left of that");
}

int main(void)
{
    api = qc_backend(NULL);
    test_timeline();
    test_order();
    test_lost_timeline();
    test_threads();
    api = qc_backend(&counting_host);
    test_allocations();
    test_refusals();
    test_promises();
    return tap_done();
}
