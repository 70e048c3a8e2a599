/* SPDX-License-Identifier: MIT
 * Times attention on a device of any plugin, alone in a program, and says how far it is from the reference.
 *
 *   quern-bench-attention PLUGIN.so [name=number | format=NAME | variant=NAME]…
 *
 * Names: rows, cells, heads, kv_heads, size, v_size, window, repeat (at least so often), check (0: not against the reference, which
 * takes long). Rows are the last ones that the cache has room for. One line: shape, kernel, seconds to make the program and run
 * it once, milliseconds (least and median), multiply-adds a second, error. */
#include "kernels/ref/ref.h"
#include "kernels/common/formats.h"

#include <quern/plugin.h>

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static char reason[512];
static qp_text text = {reason, sizeof reason};

static struct {
    const char *format, *variant;
    int64_t rows, cells, heads, kv_heads, size, v_size, window, repeat, check;
} o = {.format = "F16", .rows = 1, .cells = 1024, .heads = 32, .kv_heads = 8, .size = 64, .repeat = 5, .check = 1};

static void must(qp_status status)
{
    if (status == QP_OK)
        return;
    fprintf(stderr, "%s\n", reason);
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int option(const char *word)
{
    static const struct {
        const char *name;
        int64_t *to;
    } numbers[] = {{"rows", &o.rows},         {"cells", &o.cells},   {"heads", &o.heads},
                   {"kv_heads", &o.kv_heads}, {"size", &o.size},     {"v_size", &o.v_size},
                   {"window", &o.window},     {"repeat", &o.repeat}, {"check", &o.check}};
    const char *value = strchr(word, '=');
    if (!value)
        return 0;
    size_t length = (size_t)(value++ - word);
    if (!strncmp(word, "format", length))
        o.format = value;
    else if (!strncmp(word, "variant", length))
        o.variant = value;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strlen(numbers[i].name) == length && !strncmp(word, numbers[i].name, length)) {
            *numbers[i].to = strtoll(value, NULL, 10);
            return 1;
        }
    return value == o.format || value == o.variant;
}

static qp_format format_of(const char *name)
{
#define NAME(format, number, elements, bytes, quantised)                                                                           \
    if (!strcmp(name, #format))                                                                                                    \
        return number;
    QP_FORMAT_LIST(NAME)
#undef NAME
    fprintf(stderr, "there is no format %s\n", name);
    exit(2);
}

/* The image of the device's buffer: tensors one after the other. */
static char *image;
static uint64_t used;

static qp_tensor add(qp_format format, int64_t ne0, int64_t ne1, int64_t ne2)
{
    int64_t block = (int64_t)qk_block_bytes(format), row = ne0 / (int64_t)qk_block_elements(format) * block;
    qp_tensor t = {.offset = used, .format = format, .ne = {ne0, ne1, ne2, 1}, .nb = {block, row, row * ne1, row * ne1 * ne2}};
    used = (used + (uint64_t)t.nb[3] + 255) / 256 * 256;
    return t;
}

static float noise(void)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (float)((double)(state >> 40) / (1 << 24) * 2 - 1);
}

static void fill(const qp_tensor *t)
{
    float values[32];
    for (int64_t at = 0; at < t->ne[0] * t->ne[1] * t->ne[2]; at += 32) { /* rows lie one after the other */
        int64_t left = t->ne[0] * t->ne[1] * t->ne[2] - at, count = left < 32 ? left : 32;
        for (int64_t e = 0; e < count; e++)
            values[e] = noise();
        qr_quantise(t->format, values, image + t->offset + at / (int64_t)qk_block_elements(t->format) * t->nb[0], count);
    }
}

static qk_tensor here(const qp_tensor *t, char *base)
{
    qk_tensor to = {.data = base + t->offset, .format = t->format};
    memcpy(to.ne, t->ne, sizeof to.ne);
    memcpy(to.nb, t->nb, sizeof to.nb);
    return to;
}

/* The result in `got` against the reference: squared error over squared reference. */
static double error_of(const qp_op *op, char *got)
{
    qk_op ref = {.kind = QP_OP_ATTENTION, .live = o.rows, .dst = here(&op->dst, image)};
    for (int i = 0; i <= QP_ATTENTION_POSITIONS; i++)
        ref.src[i] = here(&op->src[i], image);
    ref.p.attention = op->p.attention;
    qr_attention(&ref);
    const float *a = (const float *)(void *)(got + op->dst.offset), *b = (const float *)(void *)(image + op->dst.offset);
    double error = 0, energy = 0;
    for (int64_t i = 0; i < o.v_size * o.heads * o.rows; i++) {
        error += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        energy += (double)b[i] * (double)b[i];
    }
    return error / energy;
}

static const qp_backend *load(const char *path)
{
    static const qp_host host = {.struct_size = sizeof host, .abi_minor = QP_ABI_MINOR};
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    const qp_plugin *plugin = library ? (const qp_plugin *)dlsym(library, QP_PLUGIN_SYMBOL) : NULL;
    const qp_backend *backend = plugin && plugin->magic == QP_MAGIC ? plugin->query(QP_ABI_MINOR, &host, &text) : NULL;
    if (backend)
        return backend;
    fprintf(stderr, "%s: %s\n", path, library && plugin ? reason : "not a plugin");
    exit(1);
}

static qp_op make_op(void)
{
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_ATTENTION, .version = 1};
    qp_format format = format_of(o.format);
    op.src[QP_ATTENTION_Q] = add(QP_FORMAT_F32, o.size, o.heads, o.rows);
    op.src[QP_ATTENTION_K] = add(format, o.size, o.kv_heads, o.cells);
    op.src[QP_ATTENTION_V] = add(format, o.v_size, o.kv_heads, o.cells);
    op.src[QP_ATTENTION_POSITIONS] = add(QP_FORMAT_I32, o.rows, 1, 1);
    op.dst = add(QP_FORMAT_F32, o.v_size, o.heads, o.rows);
    op.p.attention.scale = (float)(2 / sqrt((double)o.size));
    op.p.attention.window = (uint32_t)o.window;
    image = calloc(used, 1);
    if (!image)
        exit(1);
    for (int i = 0; i < QP_ATTENTION_POSITIONS; i++)
        fill(&op.src[i]);
    for (int64_t r = 0; r < o.rows; r++)
        ((int32_t *)(void *)(image + op.src[QP_ATTENTION_POSITIONS].offset))[r] = (int32_t)(o.cells - o.rows + r);
    return op;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void run_and_tell(const qp_backend *b, qp_device *device, qp_program *program, const qp_op *op, const char *kernel,
                         double made)
{
    double seconds[64], work = (double)((o.size + o.v_size) * o.heads * o.rows) * (double)o.cells;
    char *got = malloc(used);
    qp_timeline *timeline;
    must(b->timeline_create(device, 0, &timeline, &text));
    int count = o.repeat < 64 ? (int)o.repeat : 64;
    for (int i = -1; i < count; i++) { /* once to warm up */
        qp_signal done = {timeline, (uint64_t)(i + 2)};
        qp_run run = {.struct_size = sizeof run, .signal_count = 1, .signals = &done};
        double start = now();
        must(b->program_run(program, &run, &text));
        must(b->timeline_wait(timeline, done.value, UINT64_MAX, &text));
        if (i >= 0)
            seconds[i] = now() - start;
        else
            made += now() - start; /* some drivers compile when a kernel first runs */
    }
    if (!got)
        exit(1);
    must(b->buffer_read(op->dst.buffer, 0, got, used, &text));
    qsort(seconds, (size_t)count, sizeof *seconds, by_size);
    printf("%lld rows, %lld cells, %lld/%lld heads of %lld/%lld, %s: made in %.2f s, %.3f ms (median %.3f), %.3f G/s",
           (long long)o.rows, (long long)o.cells, (long long)o.heads, (long long)o.kv_heads, (long long)o.size, (long long)o.v_size,
           kernel, made, 1e3 * seconds[0], 1e3 * seconds[count / 2], 1e-9 * work / seconds[0]);
    if (o.check)
        printf(", error %.1e", error_of(op, got));
    printf("\n");
    free(got);
    b->timeline_destroy(timeline);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: quern-bench-attention PLUGIN.so [name=number | format=NAME | variant=NAME]...\n");
        return 2;
    }
    for (int i = 2; i < argc; i++)
        if (!option(argv[i])) {
            fprintf(stderr, "%s is no option\n", argv[i]);
            return 2;
        }
    o.v_size = o.v_size ? o.v_size : o.size;
    const qp_backend *b = load(argv[1]);
    qp_device_options options = {.struct_size = sizeof options, .variant = o.variant};
    qp_device_info info = {.struct_size = sizeof info};
    qp_device *device;
    must(b->device_info(0, &info, &text));
    must(b->device_open(0, &options, &device, &text));
    qp_op op = make_op();
    qp_program_desc desc = {.struct_size = sizeof desc, .op_stride = sizeof op, .ops = &op, .op_count = 1};
    qp_program_memory memory = {.struct_size = sizeof memory};
    qp_op_info how = {.struct_size = sizeof how};
    must(b->op_query(device, &op, &how, &text));
    must(b->program_measure(device, &desc, &memory, &text));
    qp_buffer *buffer;
    must(b->buffer_create(device, info.weight_heap, used + memory.scratch_bytes, &buffer, &text));
    must(b->buffer_write(buffer, 0, image, used, &text));
    desc.scratch = (qp_range){buffer, used, memory.scratch_bytes};
    op.dst.buffer = buffer;
    for (int i = 0; i <= QP_ATTENTION_POSITIONS; i++)
        op.src[i].buffer = buffer;
    qp_program *program;
    double start = now();
    must(b->program_create(device, &desc, &program, &text));
    run_and_tell(b, device, program, &op, how.kernel, now() - start);
    b->program_destroy(program);
    b->buffer_destroy(buffer);
    b->device_close(device);
    free(image);
    return 0;
}
