/* SPDX-License-Identifier: MIT
 * test_selftest PLUGIN: asking a Vulkan device about ops tests kernels. That waits for nothing but itself, and may be done by
 * several threads. */
#include "tests/tap.h"

#include <dlfcn.h>
#include <pthread.h>
#include <quern/plugin.h>
#include <unistd.h>

enum { N = 256, TOO_LONG = 240, THREADS = 4 };

static const qp_backend *backend;
static qp_device *device;
static qp_device_info info = {.struct_size = sizeof info};
static char words[512];
static qp_text text = {words, sizeof words};

static qp_tensor tensor(qp_buffer *buffer, qp_format format, int64_t ne0, int64_t ne1, int64_t ne2, int64_t row)
{
    return (qp_tensor){.buffer = buffer, .format = format, .ne = {ne0, ne1, ne2, 1}, .nb = {4, row, row * ne1, row * ne1 * ne2}};
}

static qp_op scale_op(qp_buffer *buffer)
{
    qp_tensor x = tensor(buffer, QP_FORMAT_F32, N, 1, 1, 4 * N);
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_ELEMENTWISE, .version = 1, .dst = x, .src = {x}};
    op.p.elementwise = (qp_elementwise_params){.function = QP_ELEMENTWISE_SCALE, .scale = 1, .offset = 1};
    return op;
}

static qp_op norm_op(uint32_t kind)
{
    qp_tensor x = tensor(NULL, QP_FORMAT_F32, N, 1, 3, 4 * N);
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_NORM, .version = 1, .dst = x, .src = {x}};
    op.p.norm = (qp_norm_params){.kind = kind, .eps = 1e-5f};
    return op;
}

static qp_op matmul_op(int64_t rows)
{
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_MATMUL, .version = 1};
    op.src[QP_MATMUL_W] = tensor(NULL, QP_FORMAT_F32, N, N, 1, 4 * N);
    op.src[QP_MATMUL_X] = op.dst = tensor(NULL, QP_FORMAT_F32, N, 1, rows, 4 * N);
    op.p.matmul.scale = 1;
    return op;
}

/* The host may ask while a run waits for it: a test that waited for the queue would wait forever. */
static void asks_behind_a_waiting_run(void)
{
    qp_buffer *buffer = NULL;
    qp_program *program = NULL;
    qp_timeline *gate = NULL, *done = NULL;
    float x[N] = {0};
    int made = !backend->buffer_create(device, info.weight_heap, sizeof x, &buffer, &text) &&
               !backend->buffer_write(buffer, 0, x, sizeof x, &text) && !backend->timeline_create(device, 0, &gate, &text) &&
               !backend->timeline_create(device, 0, &done, &text);
    qp_op op = scale_op(buffer);
    qp_program_desc desc = {.struct_size = sizeof desc, .op_stride = sizeof op, .ops = &op, .op_count = 1};
    made = made && !backend->program_create(device, &desc, &program, &text);
    qp_signal wait = {gate, 1}, signal = {done, 1};
    qp_run run = {.struct_size = sizeof run, .wait_count = 1, .signal_count = 1, .waits = &wait, .signals = &signal};
    ok(made && !backend->program_run(program, &run, &text), "a run waits for the host%s%s", *words ? ": " : "", words);
    alarm(TOO_LONG);
    op = norm_op(QP_NORM_RMS);
    qp_op_info told = {.struct_size = sizeof told};
    qp_status status = backend->op_query(device, &op, &told, &text);
    alarm(0);
    uint64_t value = 1;
    ok(!status && !strcmp(told.kernel, "norm.plain"), "a new kernel is asked for, and told: %s%s", told.kernel, words);
    ok(!backend->timeline_value(done, &value) && value == 0, "the run still waits");
    status = backend->timeline_signal(gate, 1, &text);
    status = status ? status : backend->timeline_wait(done, 1, UINT64_MAX, &text);
    ok(!status && !backend->buffer_read(buffer, 0, x, sizeof x, &text) && x[N - 1] == 1, "then it runs");
    backend->program_destroy(program);
    backend->timeline_destroy(gate);
    backend->timeline_destroy(done);
    backend->buffer_destroy(buffer);
}

static void *ask(void *arg)
{
    intptr_t refused = 0, me = (intptr_t)arg;
    for (intptr_t i = 0; i < 5; i++) {
        qp_op op = i < 3 ? norm_op((uint32_t)((me + i) % 3)) : matmul_op((me + i) % 2 ? 1 : 9);
        qp_op_info told = {.struct_size = sizeof told};
        char why[256];
        refused += backend->op_query(device, &op, &told, &(qp_text){why, sizeof why}) != QP_OK;
        qp_buffer *buffer = NULL; /* so large that a test's device makes room for it */
        if (backend->buffer_create(device, info.weight_heap, 64 << 20, &buffer, NULL) == QP_OK)
            backend->buffer_destroy(buffer);
    }
    return (void *)refused;
}

static void asks_from_several_threads(void)
{
    pthread_t threads[THREADS];
    int64_t refused = 0;
    for (intptr_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, ask, (void *)i))
            exit(99);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        pthread_join(threads[i], &result);
        refused += (intptr_t)result;
    }
    ok(refused == 0, "%d threads ask at once, and all of it runs", THREADS);
}

int main(int argc, char **argv)
{
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    const qp_plugin *plugin = library ? dlsym(library, QP_PLUGIN_SYMBOL) : NULL;
    backend = plugin ? plugin->query(QP_ABI_MINOR, NULL, &text) : NULL;
    if (!backend)
        return tap_skip_all(*words ? words : "the plugin does not load");
    setenv("QUERN_VULKAN_SELF_TEST", "always", 1);
    if (ok(!backend->device_info(0, &info, &text) && !backend->device_open(0, NULL, &device, &text), "a device%s", words)) {
        asks_behind_a_waiting_run();
        asks_from_several_threads();
        backend->device_close(device);
    }
    return tap_done();
}
