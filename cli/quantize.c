/* SPDX-License-Identifier: MIT
 * cli/quantize.c: quern quantize: the same model in other number formats. */
#include "cli/commands.h"
#include "cli/model_arg.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/recipe_table.h"
#include "cli/signals.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct quantize_args {
    cli_device_args device;
    cli_texts tensor_types;
    int list, dry_run, tensors, json;
} quantize_args;

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
    cli_progress_step(ctx, done, total);
    return cli_stop;
}

/* ---- what is asked for --------------------------------------------------------------------------------------------- */

/* Formats with tables of points need to know which weights matter, from a text run through the model. */
static const struct {
    const char *start, *instead;
} refused[] = {{"IQ1_", "TQ2_0 or Q2_K"}, {"IQ2_", "Q2_K"}, {"IQ3_", "Q3_K_M"}};

/* NULL when quantize does not write it, the reason written. */
static const quern_recipe *find_recipe(const char *text)
{
    const quern_recipe *recipe = quern_recipe_find(text);
    char list[512] = "";
    if (recipe)
        return recipe;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        if (strncasecmp(text, refused[i].start, strlen(refused[i].start)))
            continue;
        cli_note("quantize: TYPE cannot be '%s': models in it can be run, but not written; %s comes nearest", text,
                 refused[i].instead);
        return NULL;
    }
    for (uint32_t i = 0; (recipe = quern_recipe_at(i)); i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", recipe->name);
    cli_note("quantize: TYPE cannot be '%s': it is one of %s", text, list);
    return NULL;
}

/* PATTERN=FORMAT; the pattern is a copy to free. */
static int parse_rule(const char *text, quern_tensor_rule *rule)
{
    const char *equals = strrchr(text, '=');
    const quern_format_info *info = equals ? quern_format_by_name(equals + 1) : NULL;
    rule->pattern = NULL;
    if (!equals || equals == text) {
        cli_note("quantize: --tensor-type cannot be '%s': it takes PATTERN=FORMAT, such as attn_v=Q6_K", text);
        return 0;
    }
    if (!info || !strncasecmp(info->name, "IQ1", 3) || !strncasecmp(info->name, "IQ2", 3) || !strncasecmp(info->name, "IQ3", 3) ||
        (info->block_elements == 1 && info->format != QP_FORMAT_F32 && info->format != QP_FORMAT_F16 &&
         info->format != QP_FORMAT_BF16)) {
        cli_note("quantize: --tensor-type %s: '%s' is no format that weights can be written in", text, equals + 1);
        return 0;
    }
    rule->pattern = strndup(text, (size_t)(equals - text));
    rule->format = info->format;
    return rule->pattern != NULL;
}

/* ---- what was written ---------------------------------------------------------------------------------------------- */

static double bits_per_weight(uint64_t bytes, uint64_t elements)
{
    return elements ? (double)bytes * 8 / (double)elements : 0;
}

static void print_summary(const quern_quantize_info *info)
{
    char size[32];
    for (qp_format f = 0; f < QP_FORMAT_LIMIT; f++)
        if (info->formats[f].tensors)
            cli_print("  %-7s %5llu tensors  %10s\n", quern_format_get(f)->name, (unsigned long long)info->formats[f].tensors,
                      cli_size(size, info->formats[f].bytes));
}

static void print_words(const quantize_args *args, const char *out, const quern_recipe *recipe, const quern_quantize_info *info,
                        double seconds)
{
    char a[32], b[32];
    print_summary(info);
    if (args->dry_run)
        cli_print("%s would take %s, %.2f bits a weight; the input has %s\n", recipe->name, cli_size(a, info->output_bytes),
                  bits_per_weight(info->output_bytes, info->elements), cli_size(b, info->input_bytes));
    else
        cli_print("%s: %s in %s, %.2f bits a weight, from %s in %.1f s\n", out, cli_size(a, info->output_bytes), recipe->name,
                  bits_per_weight(info->output_bytes, info->elements), cli_size(b, info->input_bytes), seconds);
}

static void print_json(char **operands, const quantize_args *args, const quern_recipe *recipe, const quern_quantize_info *info,
                       double seconds, json_object *tensors)
{
    json_object *root = json_object_new_object(), *formats = json_object_new_object();
    json_object_object_add(root, "input", cli_json_text(operands[0], strlen(operands[0])));
    if (!args->dry_run)
        json_object_object_add(root, "output", cli_json_text(operands[1], strlen(operands[1])));
    json_object_object_add(root, "type", json_object_new_string(recipe->name));
    json_object_object_add(root, "dry_run", json_object_new_boolean(args->dry_run));
    json_object_object_add(root, "weights", json_object_new_uint64(info->elements));
    json_object_object_add(root, "input_bytes", json_object_new_uint64(info->input_bytes));
    json_object_object_add(root, "output_bytes", json_object_new_uint64(info->output_bytes));
    json_object_object_add(root, "bits_per_weight", cli_json_real(bits_per_weight(info->output_bytes, info->elements)));
    json_object_object_add(root, "requantised_tensors", json_object_new_uint64(info->again));
    json_object_object_add(root, "fallback_tensors", json_object_new_uint64(info->fallback));
    for (qp_format f = 0; f < QP_FORMAT_LIMIT; f++) {
        if (!info->formats[f].tensors)
            continue;
        json_object *row = json_object_new_object();
        json_object_object_add(row, "tensors", json_object_new_uint64(info->formats[f].tensors));
        json_object_object_add(row, "weights", json_object_new_uint64(info->formats[f].elements));
        json_object_object_add(row, "bytes", json_object_new_uint64(info->formats[f].bytes));
        json_object_object_add(formats, quern_format_get(f)->name, row);
    }
    json_object_object_add(root, "formats", formats);
    if (tensors)
        json_object_object_add(root, "tensors", json_object_get(tensors));
    json_object_object_add(root, "seconds", cli_json_real(seconds));
    cli_print_json(root);
}

/* --tensors: lines as they come, or members of a JSON array. */
static void on_tensor(void *ctx, const quern_gguf_tensor *tensor, qp_format to)
{
    json_object *array = ctx;
    if (!array) {
        cli_print_text(tensor->name.data, tensor->name.size, 0);
        cli_print("  %s -> %s\n", quern_format_get(tensor->format)->name, quern_format_get(to)->name);
        return;
    }
    json_object *row = json_object_new_object();
    json_object_object_add(row, "name", cli_json_text(tensor->name.data, tensor->name.size));
    json_object_object_add(row, "from", json_object_new_string(quern_format_get(tensor->format)->name));
    json_object_object_add(row, "to", json_object_new_string(quern_format_get(to)->name));
    json_object_array_add(array, row);
}

/* ---- the command --------------------------------------------------------------------------------------------------- */

static int convert(const quantize_args *args, char **operands, quern_quantize_options *options)
{
    quern_context *context = NULL;
    quern_device *device = NULL;
    quern_gguf *in = NULL;
    quern_error error = {0};
    cli_progress progress = {.label = "quantizing", .bytes = 1};
    quern_quantize_info info = {.struct_size = sizeof info};
    cli_device_args where = args->device;
    double start = cli_seconds();
    if (quern_gguf_open(operands[0], &in, &error) != QP_OK)
        return cli_error(&error);
    where.device = where.device ? where.device : "cpu"; /* the best device to run on may have no search for scales */
    int status = cli_device_open(&where, &context, &device);
    json_object *tensors = args->tensors && args->json ? json_object_new_array() : NULL;
    if (args->tensors) {
        options->tensor = on_tensor;
        options->tensor_ctx = tensors;
    }
    options->progress = on_progress;
    options->progress_ctx = &progress;
    if (status == CLI_OK)
        status = cli_status(quern_quantize(device, in, operands[1], options, &info, &error), &error);
    cli_progress_end(&progress);
    if (status == CLI_OK && args->json)
        print_json(operands, args, options->recipe, &info, cli_seconds() - start, tensors);
    else if (status == CLI_OK)
        print_words(args, operands[1], options->recipe, &info, cli_seconds() - start);
    json_object_put(tensors);
    quern_gguf_close(in);
    quern_device_close(device);
    quern_context_destroy(context);
    return status;
}

static int check_usage(const quantize_args *args, char **operands, uint32_t count)
{
    static const char *const with_out[] = {"IN", "OUT", "TYPE"}, *const dry[] = {"IN", "TYPE"};
    uint32_t needed = args->list ? 0 : args->dry_run ? 2 : 3;
    if (count > needed)
        return cli_usage("quantize: '%s' is one argument too many: %s", operands[needed],
                         args->list ? "--list takes none" : "a dry run takes IN and TYPE");
    if (count < needed)
        return cli_usage("quantize: %s is missing (usage: quern quantize %s)", (args->dry_run ? dry : with_out)[count],
                         args->dry_run ? "--dry-run IN TYPE" : "IN OUT TYPE");
    return CLI_OK;
}

static int run(const void *raw, char **operands, uint32_t operand_count)
{
    const quantize_args *args = raw;
    quern_tensor_rule rules[CLI_MOST_TEXTS];
    int status = check_usage(args, operands, operand_count);
    if (status != CLI_OK)
        return status;
    if (args->list)
        return cli_recipes_print(args->json);
    quern_quantize_options options = {.struct_size = sizeof options,
                                      .flags = args->dry_run ? QUERN_QUANTIZE_DRY_RUN : 0u,
                                      .recipe = find_recipe(operands[operand_count - 1]),
                                      .rules = rules};
    if (!options.recipe)
        return CLI_USAGE;
    for (; status == CLI_OK && options.rule_count < args->tensor_types.count; options.rule_count++)
        if (!parse_rule(args->tensor_types.items[options.rule_count], &rules[options.rule_count]))
            status = CLI_USAGE;
    cli_signals_catch();
    if (status == CLI_OK)
        status = convert(args, operands, &options);
    for (uint32_t i = 0; i < options.rule_count; i++)
        free((void *)(uintptr_t)rules[i].pattern);
    return status;
}

static const quantize_args defaults = {0};
static const cli_option options[] = {
    {"tensor-type", 0, CLI_TEXTS, offsetof(quantize_args, tensor_types), "PATTERN=FORMAT",
     "write the matrices whose name matches in this format, whatever TYPE\nsays: attn_v=Q6_K, 'blk.?.ffn_down.*=Q5_K'; may be "
     "given again,\nand the last that matches counts",
     0, 0, NULL},
    {"dry-run", 'n', CLI_FLAG, offsetof(quantize_args, dry_run), NULL, "tell what would be written, and write nothing", 0, 0, NULL},
    {"tensors", 0, CLI_FLAG, offsetof(quantize_args, tensors), NULL, "tell the format of each tensor", 0, 0, NULL},
    {"list", 0, CLI_FLAG, offsetof(quantize_args, list), NULL, "tell which TYPEs there are, and what they are made of", 0, 0, NULL},
    {"json", 0, CLI_FLAG, offsetof(quantize_args, json), NULL, "print what was written as a JSON object", 0, 0, NULL},
    {"device", 'd', CLI_TEXT, offsetof(quantize_args, device.device), "ID", "convert there; default: cpu", 0, 0, NULL},
    {"threads", 't', CLI_COUNT, offsetof(quantize_args, device.threads), "N", "threads of a CPU device; default: one for each core",
     1, CLI_MAX_THREADS, NULL},
    {"variant", 0, CLI_TEXT, offsetof(quantize_args, device.variant), "NAME", "keep to these kernels (ref, avx2, …)", 0, 0, NULL},
};

const cli_command cli_quantize = {
    .name = "quantize",
    .summary = "write a model with its weights in other formats",
    .synopsis = "IN OUT TYPE",
    .about = "Writes the model IN to OUT with its weights as TYPE, of which these are the usual ones (--list tells all):\n"
             "  Q4_K_M   about 5 bits a weight: what to take when in doubt\n"
             "  Q3_K_M   about 4: smaller, with a loss that shows\n"
             "  Q5_K_M, Q6_K, Q8_0   5.7, 6.6 and 8.5: with less and less loss\n"
             "  BF16, F16, F32   16 or 32 bits\n"
             "Norms and other small tensors stay as they are. OUT appears only when it is complete; memory does not grow with the "
             "model.",
    .examples = "quern quantize model-f16.gguf model-q4_k_m.gguf Q4_K_M\nquern quantize --dry-run --tensors model-f16.gguf Q3_K_M\n"
                "quern quantize model-f16.gguf model.gguf Q4_K_M --tensor-type ffn_down=Q5_K",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands = "IN OUT TYPE",
    .operands_min = 0,
    .operands_max = 3,
    .defaults = &defaults,
    .args_size = sizeof(quantize_args),
    .run = run,
};
