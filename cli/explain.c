/* SPDX-License-Identifier: MIT
 * cli/explain.c: quern explain: where every op of a model runs, with which kernel, and why not with a quicker one. */
#include "cli/commands.h"
#include "cli/model_arg.h"
#include "cli/output.h"

#include <json-c/json.h>
#include <quern/engine.h>
#include <stdlib.h>
#include <string.h>

typedef struct explain_args {
    int json;
    cli_model_args model;
} explain_args;

enum { KERNEL_TEXT = 64, WORDS_TEXT = 256 };

/* Ops of one phase that are the same but for their layer. */
typedef struct group {
    uint32_t phase, count, rows;
    const char *op; /* static strings of the engine, like part */
    const char *part, *format;
    char kernel[KERNEL_TEXT], words[WORDS_TEXT];
    quern_status status;
    uint64_t bytes_moved, operations;
} group;

typedef struct report {
    group *groups;
    uint32_t count, room;
    uint32_t ops, refused;
    int failed;        /* no memory for all of it */
    json_object *list; /* NULL: not wanted */
} report;

static const char *format_name(qp_format format)
{
    const quern_format_info *info = quern_format_get(format);
    return info ? info->name : "?";
}

static int same(const group *g, const quern_explained_op *op)
{
    return g->phase == op->phase && !strcmp(g->op, op->op) && !strcmp(g->part, op->part) && g->status == op->status &&
           !strcmp(g->format, format_name(op->format)) && !strcmp(g->kernel, op->kernel) && !strcmp(g->words, op->words);
}

static group *find_group(report *r, const quern_explained_op *op)
{
    for (uint32_t i = r->count; i-- > 0;)
        if (same(&r->groups[i], op))
            return &r->groups[i];
    if (r->count == r->room) {
        uint32_t room = r->room ? 2 * r->room : 64;
        group *more = realloc(r->groups, room * sizeof *more);
        if (!more)
            return NULL;
        r->groups = more;
        r->room = room;
    }
    group *g = &r->groups[r->count++];
    *g = (group){.phase = op->phase, .rows = op->rows, .op = op->op, .part = op->part, .format = format_name(op->format)};
    g->status = op->status;
    strncpy(g->kernel, op->kernel, sizeof g->kernel - 1);
    strncpy(g->words, op->words, sizeof g->words - 1);
    return g;
}

static json_object *op_json(const quern_explained_op *op)
{
    json_object *o = json_object_new_object(), *shape = json_object_new_array();
    for (int i = 0; i < 4; i++)
        json_object_array_add(shape, json_object_new_int64(op->ne[i]));
    json_object_object_add(o, "phase", json_object_new_string(op->phase == QUERN_PHASE_DECODE ? "decode" : "prefill"));
    json_object_object_add(o, "rows", json_object_new_uint64(op->rows));
    json_object_object_add(o, "index", json_object_new_uint64(op->index));
    json_object_object_add(o, "op", json_object_new_string(op->op));
    json_object_object_add(o, "part", json_object_new_string(op->part));
    json_object_object_add(o, "layer", op->layer < 0 ? NULL : json_object_new_int(op->layer));
    json_object_object_add(o, "format", json_object_new_string(format_name(op->format)));
    json_object_object_add(o, "packed", json_object_new_boolean(op->layout != QP_LAYOUT_GGUF));
    json_object_object_add(o, "shape", shape);
    json_object_object_add(o, "runs", json_object_new_boolean(op->status == QP_OK));
    json_object_object_add(o, "kernel", op->status == QP_OK ? cli_json_text(op->kernel, strlen(op->kernel)) : NULL);
    json_object_object_add(o, op->status == QP_OK ? "note" : "reason", cli_json_text(op->words, strlen(op->words)));
    json_object_object_add(o, "bytes_moved", json_object_new_uint64(op->bytes_moved));
    json_object_object_add(o, "operations", json_object_new_uint64(op->operations));
    json_object_object_add(o, "scratch_bytes", json_object_new_uint64(op->scratch_bytes));
    return o;
}

static void on_op(void *ctx, const quern_explained_op *op)
{
    report *r = ctx;
    r->ops++;
    r->refused += op->status != QP_OK;
    if (r->list)
        json_object_array_add(r->list, op_json(op));
    group *g = find_group(r, op);
    if (!g) {
        r->failed = 1;
        return;
    }
    g->count++;
    g->bytes_moved += op->bytes_moved;
    g->operations += op->operations;
}

/* ---- for people ---- */

static void print_phase(const report *r, uint32_t phase)
{
    char size[32];
    uint64_t bytes = 0;
    int head = 0;
    for (uint32_t i = 0; i < r->count; i++) {
        const group *g = &r->groups[i];
        if (g->phase != phase)
            continue;
        if (!head++)
            cli_print("\n%s, %u %s at a time:\n  %-22s%6s  %-8s%12s  %s\n", phase == QUERN_PHASE_DECODE ? "Decode" : "Prefill",
                      g->rows, g->rows == 1 ? "token" : "tokens", "part", "count", "format", "bytes", "kernel");
        cli_print("  %-22s%6u  %-8s%12s  ", g->part, g->count, g->format,
                  g->status == QP_OK ? cli_size(size, g->bytes_moved) : "-");
        if (g->status == QP_OK)
            cli_print_text(g->kernel, strlen(g->kernel), 0);
        else
            cli_print("REFUSED");
        if (g->words[0]) {
            cli_print(g->status == QP_OK ? "\n      not quicker: " : "\n      ");
            cli_print_text(g->words, strlen(g->words), 0);
        }
        cli_print("\n");
        bytes += g->bytes_moved;
    }
    if (head)
        cli_print("  at least %s read and written\n", cli_size(size, bytes));
}

static void print_report(const report *r, quern_device *device)
{
    const qp_device_info *info = quern_device_info(device);
    cli_print("Device %s: ", quern_device_id(device));
    cli_print_text(info->name, strlen(info->name), 0);
    if (info->features[0]) {
        cli_print(" (");
        cli_print_text(info->features, strlen(info->features), 0);
        cli_print(")");
    }
    cli_print("\n");
    print_phase(r, QUERN_PHASE_DECODE);
    print_phase(r, QUERN_PHASE_PREFILL);
    if (r->refused)
        cli_print("\n%u of %u ops are refused: the model does not run on this device.\n", r->refused, r->ops);
    else
        cli_print("\nAll %u ops run on this device.\n", r->ops);
}

static void print_json(report *r, quern_device *device, const char *path)
{
    const qp_device_info *info = quern_device_info(device);
    json_object *root = json_object_new_object();
    json_object_object_add(root, "model", cli_json_text(path, strlen(path)));
    json_object_object_add(root, "device", json_object_new_string(quern_device_id(device)));
    json_object_object_add(root, "device_name", cli_json_text(info->name, strlen(info->name)));
    json_object_object_add(root, "driver", cli_json_text(info->driver, strlen(info->driver)));
    json_object_object_add(root, "features", cli_json_text(info->features, strlen(info->features)));
    json_object_object_add(root, "op_count", json_object_new_uint64(r->ops));
    json_object_object_add(root, "refused", json_object_new_uint64(r->refused));
    json_object_object_add(root, "ops", r->list);
    r->list = NULL;
    cli_print_json(root);
}

/* ---- the command ---- */

static int explain(const explain_args *args, const char *path, const quern_gguf *gguf, quern_device *device, report *r)
{
    quern_error error = {0};
    quern_session_options options = cli_session_options(&args->model, 0);
    if (args->json)
        r->list = json_object_new_array();
    if (quern_explain(device, gguf, &options, on_op, r, &error) != QP_OK)
        return cli_error(&error);
    if (r->failed)
        return cli_fail("no memory for a list of %u ops", r->ops);
    if (args->json)
        print_json(r, device, path);
    else
        print_report(r, device);
    if (r->refused && args->model.strict)
        return cli_fail("%u of %u ops do not run on device %s (--strict)", r->refused, r->ops, quern_device_id(device));
    return CLI_OK;
}

static int run(const void *raw, char **operands, uint32_t operand_count)
{
    const explain_args *args = raw;
    quern_gguf *gguf = NULL;
    quern_context *context = NULL;
    quern_device *device = NULL;
    quern_error error = {0};
    report r = {0};
    (void)operand_count;
    int status = quern_gguf_open(operands[0], &gguf, &error) == QP_OK ? CLI_OK : cli_error(&error);
    if (status == CLI_OK)
        status = cli_device_open(&args->model.device, &context, &device);
    if (status == CLI_OK)
        status = explain(args, operands[0], gguf, device, &r);
    json_object_put(r.list);
    free(r.groups);
    quern_device_close(device);
    quern_context_destroy(context);
    quern_gguf_close(gguf);
    return status;
}

static const explain_args defaults = {0};
static const cli_option options[] = {
    CLI_CONTEXT_OPTION(explain_args, model, "tokens of context; default: the model's"),
    CLI_KV_OPTIONS(explain_args, model),
    CLI_DEVICE_OPTIONS(explain_args, model.device),
    {"strict", 0, CLI_FLAG, offsetof(explain_args, model.strict), NULL, "exit status 1 if the device refuses any op", 0, 0, NULL},
    {"json", 0, CLI_FLAG, offsetof(explain_args, json), NULL, "print one JSON object, with every op", 0, 0, NULL},
};

const cli_command cli_explain = {
    .name = "explain",
    .summary = "show where each op of a model runs, with which kernel, and why",
    .synopsis = "MODEL [options]",
    .about =
        "Reads the model's header and asks the device about every op of decode and prefill: the kernel that would run it, the\n"
        "bytes it moves at least, why a quicker kernel was not taken, or why the device refuses. No weight is read. Ops that\n"
        "are alike but for their layer share a line; --json lists each.",
    .examples = "quern explain model.gguf\n"
                "quern explain model.gguf --device vulkan --strict\n"
                "quern explain model.gguf --variant avx2 --kv-type q8_0 --json",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .defaults = &defaults,
    .args_size = sizeof(explain_args),
    .run = run,
};
