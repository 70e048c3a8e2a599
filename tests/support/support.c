/* SPDX-License-Identifier: MIT
 * support DEVICE REFERENCES [VARIANT]: what a device says it can do, as a section of docs/support.md: for each format of weights
 * the ops that take it, and for each architecture whether every op of it runs, asked by quern_explain about the tiny models in the
 * folder REFERENCES. Nothing here is a list kept by hand: rows come from QP_FORMAT_LIST, the engine's table of architectures and
 * the files. support --name DEVICE: what its maker calls it. support --kernels: the CPU's instruction sets and the kernels that
 * each one has of its own (kernels/cpu/rows.h). */
#include "kernels/cpu/rows.h"

#include <quern/engine.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { K = 512, M = 64, EXPERTS = 4, USED = 2, ROWS = 4, MAX_FILES = 256, NAME = 128 };

/* ---- formats ---- */

static qp_tensor tensor(qp_format format, int64_t n0, int64_t n1, int64_t n2)
{
    qp_tensor t = {0};
    quern_buffer_tensor(NULL, 0, format, n0, n1, n2, 1, &t, NULL);
    return t;
}

/* A weight as the device wants it; 0: it does not want it. */
static int make_weight(quern_device *device, qp_format format, uint32_t uses, int64_t matrices, qp_tensor *out)
{
    qp_weight_desc desc = {.struct_size = sizeof desc, .format = format, .uses = uses, .ne = {K, M, matrices, 1}};
    qp_weight_info info = {.struct_size = sizeof info};
    *out = tensor(format, K, M, matrices);
    if (!out->ne[0] || quern_weight_layout(device, &desc, &info, NULL) != QP_OK)
        return 0;
    out->layout = info.layout;
    return 1;
}

static const char *answer(quern_device *device, const qp_op *op, const qp_tensor *w)
{
    if (quern_op_query(device, op, NULL, NULL) != QP_OK)
        return "-";
    return w && w->layout != QP_LAYOUT_GGUF ? "packed" : "yes";
}

static const char *ask_matmul(quern_device *device, qp_format format)
{
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_MATMUL, .version = 1, .dst = tensor(QP_FORMAT_F32, M, 1, ROWS)};
    if (!make_weight(device, format, QP_WEIGHT_MATMUL, 1, &op.src[QP_MATMUL_W]))
        return "-";
    op.src[QP_MATMUL_X] = tensor(QP_FORMAT_F32, K, 1, ROWS);
    op.p.matmul = (qp_matmul_params){.scale = 1, .bias_scale = 1, .scale2 = 1, .bias_scale2 = 1};
    return answer(device, &op, &op.src[QP_MATMUL_W]);
}

static const char *ask_experts(quern_device *device, qp_format format)
{
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_EXPERT_MATMUL, .version = 1, .dst = tensor(QP_FORMAT_F32, M, USED, ROWS)};
    if (!make_weight(device, format, QP_WEIGHT_MATMUL, EXPERTS, &op.src[QP_EXPERT_MATMUL_W]))
        return "-";
    op.src[QP_EXPERT_MATMUL_X] = tensor(QP_FORMAT_F32, K, 1, ROWS);
    op.src[QP_EXPERT_MATMUL_ROUTE] = tensor(QP_FORMAT_F32, USED, 2, ROWS);
    return answer(device, &op, &op.src[QP_EXPERT_MATMUL_W]);
}

static const char *ask_rows(quern_device *device, qp_format format)
{
    qp_op op = {.struct_size = sizeof op, .kind = QP_OP_GET_ROWS, .version = 1, .dst = tensor(QP_FORMAT_F32, K, 1, ROWS)};
    if (!make_weight(device, format, QP_WEIGHT_ROWS, 1, &op.src[QP_GET_ROWS_TABLE]))
        return "-";
    op.src[QP_GET_ROWS_IDS] = tensor(QP_FORMAT_I32, ROWS, 1, 1);
    op.p.get_rows.scale = 1;
    return answer(device, &op, &op.src[QP_GET_ROWS_TABLE]);
}

static const char *ask_cache(quern_device *device, qp_format format)
{
    enum { HEAD = 64, HEADS = 2, CELLS = 32 };
    qp_op append = {.struct_size = sizeof append, .kind = QP_OP_KV_APPEND, .version = 1, .dst = tensor(format, HEAD, HEADS, CELLS)};
    qp_op read = {
        .struct_size = sizeof read, .kind = QP_OP_ATTENTION, .version = 1, .dst = tensor(QP_FORMAT_F32, HEAD, HEADS, ROWS)};
    if (!append.dst.ne[0])
        return "-";
    append.src[QP_KV_APPEND_X] = read.src[QP_ATTENTION_Q] = read.dst;
    append.src[QP_KV_APPEND_CELLS] = read.src[QP_ATTENTION_POSITIONS] = tensor(QP_FORMAT_I32, ROWS, 1, 1);
    read.src[QP_ATTENTION_K] = read.src[QP_ATTENTION_V] = append.dst;
    read.p.attention.scale = 0.125f;
    const char *writes = answer(device, &append, NULL);
    return strcmp(writes, "yes") ? writes : answer(device, &read, NULL);
}

static void print_formats(quern_device *device)
{
    printf("| format | matmul | experts | embedding | KV cache |\n|---|---|---|---|---|\n");
    for (uint32_t i = 0; quern_format_at(i); i++) {
        const quern_format_info *f = quern_format_at(i);
        const char *cells[] = {ask_matmul(device, f->format), ask_experts(device, f->format), ask_rows(device, f->format),
                               ask_cache(device, f->format)};
        int any = 0;
        for (int c = 0; c < 4; c++)
            any |= strcmp(cells[c], "-") != 0;
        if (any)
            printf("| %s | %s | %s | %s | %s |\n", f->name, cells[0], cells[1], cells[2], cells[3]);
    }
}

/* ---- architectures ---- */

typedef struct row {
    int models, refused;
    int ops[QP_OP_LIMIT];
    char why[160];
} row;

static int op_number(const char *name)
{
#define NUMBER(NAME, text, number, in_place, written)                                                                              \
    if (!strcmp(name, #text))                                                                                                      \
        return number;
    QP_OP_LIST(NUMBER)
#undef NUMBER
    return 0;
}

static void note_op(void *ctx, const quern_explained_op *op)
{
    row *r = ctx;
    r->ops[op_number(op->op)] = 1;
    if (op->status != QP_OK && !r->refused++)
        snprintf(r->why, sizeof r->why, "no: %s of the %s", op->op, op->part);
}

static void ask_model(quern_device *device, const char *path, const char *architecture, row *r)
{
    quern_gguf *gguf = NULL;
    quern_string name = {"", 0};
    quern_error error = {0};
    quern_session_options options = {.struct_size = sizeof options, .context = 64, .chunk = 16};
    if (quern_gguf_open(path, &gguf, NULL) != QP_OK)
        return;
    quern_gguf_get_string(gguf, "general.architecture", 0, &name, NULL);
    if (name.size == strlen(architecture) && !memcmp(name.data, architecture, name.size)) {
        r->models++;
        if (quern_explain(device, gguf, &options, note_op, r, &error) != QP_OK && !r->refused++)
            snprintf(r->why, sizeof r->why, "no: %.100s", error.text);
    }
    quern_gguf_close(gguf);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Sorted names of the .gguf files in a folder. */
static int list_files(const char *folder, char names[MAX_FILES][NAME])
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    int count = 0;
    while (dir && count < MAX_FILES && (entry = readdir(dir))) {
        const char *dot = strrchr(entry->d_name, '.');
        if (dot && !strcmp(dot, ".gguf"))
            snprintf(names[count++], NAME, "%.*s", NAME - 1, entry->d_name);
    }
    if (dir)
        closedir(dir);
    qsort(names, (size_t)count, NAME, by_name);
    return count;
}

/* Ops that not every model takes. */
static void print_more_ops(const row *r)
{
    static const int more[] = {QP_OP_EXPERT_ROUTE, QP_OP_EXPERT_MATMUL, QP_OP_SHORT_CONV, QP_OP_DELTA_RULE};
    static const char *const words[] = {"expert_route", "expert_matmul", "short_conv", "delta_rule"};
    int printed = 0;
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        if (r->ops[more[i]])
            printf("%s%s", printed++ ? ", " : "", words[i]);
    printf(printed ? " |" : "- |");
}

static void print_architectures(quern_device *device, const char *folder)
{
    static char files[MAX_FILES][NAME];
    int count = list_files(folder, files);
    printf("\n| architecture | ops beside a dense model's | runs |\n|---|---|---|\n");
    for (uint32_t a = 0; quern_architecture_at(a); a++) {
        row r = {0};
        for (int i = 0; i < count; i++) {
            char path[1024];
            snprintf(path, sizeof path, "%.800s/%.*s", folder, NAME - 1, files[i]);
            ask_model(device, path, quern_architecture_at(a), &r);
        }
        printf("| %s | ", quern_architecture_at(a));
        print_more_ops(&r);
        printf(" %s |\n", r.refused ? r.why : r.models ? "yes" : "not asked: no tiny model of it is here");
    }
}

/* ---- the CPU's kernels ---- */

static const struct {
    const char *isa, *kernel;
} kernels[] = {
#define KERNEL(isa, op) {#isa, #op},
    QK_GENERIC_ROWS(KERNEL) QK_AVX2_ROWS(KERNEL) QK_AVX512_ROWS(KERNEL) QK_NEON_ROWS(KERNEL)
#undef KERNEL
};
enum { KERNELS = sizeof kernels / sizeof *kernels };

static int has_kernel(const char *isa, const char *kernel)
{
    for (int i = 0; i < KERNELS; i++)
        if (!strcmp(kernels[i].isa, isa) && !strcmp(kernels[i].kernel, kernel))
            return 1;
    return 0;
}

static void print_kernels(void)
{
    static const char *const sets[] = {"generic", "avx2", "avx512", "neon"};
    printf("| kernels | generic | avx2 | avx512 | neon |\n|---|---|---|---|---|\n");
    for (int i = 0; i < KERNELS; i++) {
        int first = 1;
        for (int k = 0; k < i; k++)
            first &= strcmp(kernels[k].kernel, kernels[i].kernel) != 0;
        if (!first)
            continue;
        printf("| %s |", kernels[i].kernel);
        for (int s = 0; s < 4; s++)
            printf(" %s |", has_kernel(sets[s], kernels[i].kernel) ? "yes" : "-");
        printf("\n");
    }
}

int main(int argc, char **argv)
{
    quern_context *context = NULL;
    quern_device *device = NULL;
    quern_error error = {0};
    if (argc == 2 && !strcmp(argv[1], "--kernels")) {
        print_kernels();
        return 0;
    }
    int names = argc == 3 && !strcmp(argv[1], "--name");
    if (argc < 3) {
        fprintf(stderr, "usage: support DEVICE REFERENCES [VARIANT] | support --name DEVICE | support --kernels\n");
        return 2;
    }
    quern_context_options options = {.struct_size = sizeof options, .only = argv[names ? 2 : 1], .probe_timeout_ms = 20000};
    quern_device_options device_options = {.struct_size = sizeof device_options, .variant = argc > 3 ? argv[3] : NULL};
    if (quern_context_create(&options, &context, &error) != QP_OK ||
        quern_device_open(context, argv[names ? 2 : 1], &device_options, &device, &error) != QP_OK) {
        fprintf(stderr, "support: %s\n", error.text);
        quern_context_destroy(context);
        return 1;
    }
    if (names)
        printf("%s\n", quern_device_info(device)->name);
    else
        print_formats(device);
    if (!names)
        print_architectures(device, argv[2]);
    quern_device_close(device);
    quern_context_destroy(context);
    return 0;
}
