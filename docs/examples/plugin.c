/* SPDX-License-Identifier: MIT
 * A compute plugin without libquern: opens quern_NAME.so by plugin.h alone, lists its devices, runs one op on the first.
 *
 *   cc plugin.c $(pkg-config --cflags quern) -ldl -o plugin && ./plugin /usr/local/lib/quern/quern_cpu.so */
#include <quern/plugin.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 32 };

static char reason[256];
static qp_text text = {reason, sizeof reason};

static void must(qp_status status)
{
    if (status == QP_OK)
        return;
    fprintf(stderr, "status %d: %s\n", (int)status, reason);
    exit(1);
}

/* Reads the numbers of the one exported object before anything in it is called. */
static const qp_plugin *load(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const qp_plugin *plugin = library ? (const qp_plugin *)dlsym(library, QP_PLUGIN_SYMBOL) : NULL;
    if (!plugin) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    if (plugin->magic != QP_MAGIC || !QP_HAS(plugin, query) || plugin->abi_major != QP_ABI_MAJOR) {
        fprintf(stderr, "%s: not a plugin of ABI %u\n", path, QP_ABI_MAJOR);
        exit(1);
    }
    printf("plugin %s %s, ABI %u.%u\n", plugin->name, plugin->version, plugin->abi_major, plugin->abi_minor);
    return plugin;
}

static qp_tensor tensor(qp_buffer *buffer, uint64_t offset)
{
    return (qp_tensor){.buffer = buffer, .offset = offset, .format = QP_FORMAT_F32, .ne = {N, 1, 1, 1}, .nb = {4, 4 * N, 4 * N, 4 * N}};
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: plugin quern_NAME.so\n");
        return 2;
    }
    const qp_plugin *plugin = load(argv[1]);
    static const qp_host host = {.struct_size = sizeof host, .abi_minor = QP_ABI_MINOR}; /* no services: the plugin does without */
    const qp_backend *backend = plugin->query(QP_ABI_MINOR, &host, &text);
    if (!backend) {
        fprintf(stderr, "%s\n", reason);
        return 1;
    }
    qp_device_info info = {.struct_size = sizeof info};
    for (uint32_t i = 0; i < backend->device_count(); i++) {
        must(backend->device_info(i, &info, &text));
        printf("device %u: %s\n", i, info.name);
    }
    must(backend->device_info(0, &info, &text));

    qp_device *device;
    qp_buffer *buffer;
    must(backend->device_open(0, NULL, &device, &text));
    uint64_t step = info.heaps[info.weight_heap].alignment > 256 ? info.heaps[info.weight_heap].alignment : 256;

    /* y = a + b */
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_ELEMENTWISE, .version = 1};
    op.src[QP_ELEMENTWISE_A] = tensor(NULL, 0);
    op.src[QP_ELEMENTWISE_B] = tensor(NULL, 0);
    op.dst = tensor(NULL, 0);
    op.p.elementwise.function = QP_ELEMENTWISE_ADD;
    qp_op_info how = {.struct_size = sizeof how};
    must(backend->op_query(device, &op, &how, &text));
    printf("add runs as %s\n", how.kernel);
    qp_program_desc desc = {.struct_size = sizeof desc, .op_stride = sizeof op, .ops = &op, .op_count = 1};
    qp_program_memory memory = {.struct_size = sizeof memory};
    must(backend->program_measure(device, &desc, &memory, &text));

    must(backend->buffer_create(device, info.weight_heap, 4 * step + memory.scratch_bytes, &buffer, &text));
    op.src[QP_ELEMENTWISE_A] = tensor(buffer, 0);
    op.src[QP_ELEMENTWISE_B] = tensor(buffer, step);
    op.dst = tensor(buffer, 2 * step);
    desc.scratch = (qp_range){buffer, 3 * step, memory.scratch_bytes};
    float a[N], b[N], y[N];
    for (int i = 0; i < N; i++) {
        a[i] = (float)i;
        b[i] = 0.25f * (float)i;
    }
    must(backend->buffer_write(buffer, 0, a, sizeof a, &text));
    must(backend->buffer_write(buffer, step, b, sizeof b, &text));

    qp_program *program;
    qp_timeline *timeline;
    must(backend->program_create(device, &desc, &program, &text));
    must(backend->timeline_create(device, 0, &timeline, &text));
    qp_signal done = {timeline, 1};
    qp_run run = {.struct_size = sizeof run, .signal_count = 1, .signals = &done};
    must(backend->program_run(program, &run, &text));
    must(backend->timeline_wait(timeline, 1, UINT64_MAX, &text));
    must(backend->buffer_read(buffer, 2 * step, y, sizeof y, &text));
    int wrong = 0;
    for (int i = 0; i < N; i++)
        wrong += y[i] != a[i] + b[i];
    printf("a + b: %d of %d wrong\n", wrong, N);

    backend->timeline_destroy(timeline);
    backend->program_destroy(program);
    backend->buffer_destroy(buffer);
    backend->device_close(device);
    return wrong != 0;
}
