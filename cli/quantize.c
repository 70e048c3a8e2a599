/* SPDX-License-Identifier: MIT
 * cli/quantize.c: quern quantize: the same model in another number format. */
#include "cli/commands.h"
#include "cli/model_arg.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/signals.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

typedef struct quantize_args {
    cli_device_args device;
    int json;
} quantize_args;

static const char *const types[] = {"F32", "F16", "BF16", "Q8_0", "Q4_0"};
enum { TYPES = sizeof types / sizeof *types };

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
    cli_progress_step(ctx, done, total);
    return cli_stop;
}

/* NULL when quantize does not write it, the reason written. */
static const quern_format_info *find_type(const char *text)
{
    for (unsigned i = 0; i < TYPES; i++)
        if (!strcasecmp(types[i], text))
            return quern_format_by_name(text);
    cli_note("quantize: TYPE cannot be '%s': it is one of F32, F16, BF16, Q8_0, Q4_0", text);
    return NULL;
}

/* Bytes of a file's tensors, 0 if it cannot be read. */
static uint64_t file_size(const char *path)
{
    quern_gguf *gguf;
    if (quern_gguf_open(path, &gguf, NULL) != QP_OK)
        return 0;
    uint64_t size = quern_gguf_file_size(gguf);
    quern_gguf_close(gguf);
    return size;
}

static void report(const char *in, const char *out, const quern_format_info *type, double seconds, int json)
{
    char a[32], b[32];
    uint64_t before = file_size(in), after = file_size(out);
    if (!json) {
        cli_note("%s: %s in %s, from %s in %s, %.1f s", out, cli_size(a, after), type->name, cli_size(b, before), in, seconds);
        return;
    }
    json_object *root = json_object_new_object();
    json_object_object_add(root, "input", cli_json_text(in, strlen(in)));
    json_object_object_add(root, "output", cli_json_text(out, strlen(out)));
    json_object_object_add(root, "type", json_object_new_string(type->name));
    json_object_object_add(root, "input_bytes", json_object_new_uint64(before));
    json_object_object_add(root, "output_bytes", json_object_new_uint64(after));
    json_object_object_add(root, "seconds", cli_json_real(seconds));
    cli_print_json(root);
}

static int run(const void *raw, char **operands, uint32_t operand_count)
{
    const quantize_args *args = raw;
    const quern_format_info *type = find_type(operands[2]);
    quern_context *context = NULL;
    quern_device *device = NULL;
    quern_gguf *in = NULL;
    quern_error error = {0};
    cli_progress progress = {.label = "quantizing", .bytes = 1};
    double start = cli_seconds();
    (void)operand_count;
    if (!type)
        return CLI_USAGE;
    cli_signals_catch();
    if (quern_gguf_open(operands[0], &in, &error) != QP_OK)
        return cli_error(&error);
    int status = cli_device_open(&args->device, &context, &device);
    if (status == CLI_OK)
        status = cli_status(quern_quantize(device, in, operands[1], type->format, on_progress, &progress, &error), &error);
    cli_progress_end(&progress);
    if (status == CLI_OK)
        report(operands[0], operands[1], type, cli_seconds() - start, args->json);
    quern_gguf_close(in);
    quern_device_close(device);
    quern_context_destroy(context);
    return status;
}

static const quantize_args defaults = {0};
static const cli_option options[] = {
    CLI_DEVICE_OPTIONS(quantize_args, device),
    {"json", 0, CLI_FLAG, offsetof(quantize_args, json), NULL, "print what was written as a JSON object", 0, 0, NULL},
};

const cli_command cli_quantize = {
    .name = "quantize",
    .summary = "write a model with its weights in another format",
    .synopsis = "IN OUT TYPE",
    .about = "Writes the model IN to OUT with its weights as TYPE:\n"
             "  Q4_0   4.5 bits a weight: smallest, with a loss that shows (the output matrix stays Q8_0)\n"
             "  Q8_0   8.5 bits a weight: next to no loss\n"
             "  BF16, F16, F32   16 or 32 bits\n"
             "Norms and other vectors stay as they are. OUT appears only when it is complete; memory does not grow with the model.",
    .examples = "quern quantize model-f16.gguf model-q8_0.gguf Q8_0\nquern quantize model-f16.gguf model-q4_0.gguf q4_0",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands = "IN OUT TYPE",
    .operands_min = 3,
    .operands_max = 3,
    .defaults = &defaults,
    .args_size = sizeof(quantize_args),
    .run = run,
};
