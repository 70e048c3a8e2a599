/* SPDX-License-Identifier: MIT
 * cli/logits.c: quern logits: a model's logits for given tokens, to compare with another implementation's. */
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/logits_file.h"
#include "cli/model_arg.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/signals.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

typedef struct logits_args {
    const char *tokens, *output;
    int json;
    cli_model_args model;
} logits_args;

static int check_ids(const char *path, const cli_logits_header *reference, uint32_t vocabulary)
{
    for (uint32_t i = 0; i < reference->tokens; i++)
        if (reference->ids[i] < 0 || (uint32_t)reference->ids[i] >= vocabulary)
            return cli_fail("%s: token %u is %d, outside the model's vocabulary of %u", path, i, reference->ids[i], vocabulary);
    return CLI_OK;
}

static int write_all(const cli_logits_header *reference, cli_model *model, cli_output_file *output)
{
    quern_error error = {0};
    cli_progress progress = {.label = "logits"};
    uint32_t vocabulary = model->info.vocabulary, chunk = model->session_info.chunk;
    int fine = cli_logits_write_header(output->file, reference->ids, reference->tokens, vocabulary);
    output->reason = fine ? 0 : errno;
    for (uint32_t at = 0; fine && at < reference->tokens;) {
        uint32_t count = reference->tokens - at < chunk ? reference->tokens - at : chunk;
        const float *logits = NULL;
        size_t rows = 0;
        quern_status status =
            cli_stop ? QP_ERR_CANCELLED : quern_session_eval(model->session, reference->ids + at, count, &cli_stop, &error);
        if (status == QP_OK)
            status = quern_session_all_logits(model->session, &logits, &rows, &error);
        if (status != QP_OK)
            return cli_progress_end(&progress), cli_status(status, &error);
        fine = cli_logits_write_rows(output->file, logits, rows * vocabulary);
        output->reason = fine ? 0 : errno;
        at += count;
        cli_progress_step(&progress, at, reference->tokens);
    }
    cli_progress_end(&progress);
    return cli_output_commit(output); /* sees what a write before it met */
}

static int compute(const logits_args *args, const char *path, const cli_logits_header *reference, cli_model *model)
{
    cli_output_file output;
    int status = cli_model_load(&args->model, path, model);
    if (status == CLI_OK)
        status = check_ids(args->tokens, reference, model->info.vocabulary);
    if (status == CLI_OK) {
        cli_model_args wanted = args->model;
        wanted.context = reference->tokens;
        status = cli_session_open(&wanted, QUERN_SESSION_ALL_LOGITS, model);
    }
    if (status != CLI_OK || (status = cli_output_open(&output, args->output)) != CLI_OK)
        return status;
    status = write_all(reference, model, &output);
    cli_output_abort(&output);
    return status;
}

static int run(const void *raw, char **operands, uint32_t operand_count)
{
    const logits_args *args = raw;
    cli_logits_header reference;
    cli_model model = {0};
    (void)operand_count;
    if (!args->tokens)
        return cli_usage("logits: --tokens REF.logits is missing: the file that holds the token ids");
    if (!args->output)
        return cli_usage("logits: -o OUT.logits is missing: where the result goes");
    int status = cli_logits_read(args->tokens, &reference);
    cli_signals_catch(); /* not before: opening a pipe may wait for ever, and Ctrl-C must end that */
    if (status == CLI_OK)
        status = compute(args, operands[0], &reference, &model);
    if (status == CLI_OK && args->json) {
        json_object *root = json_object_new_object();
        json_object_object_add(root, "output", cli_json_text(args->output, strlen(args->output)));
        json_object_object_add(root, "tokens", json_object_new_uint64(reference.tokens));
        json_object_object_add(root, "vocabulary", json_object_new_uint64(model.info.vocabulary));
        json_object_object_add(root, "chunk", json_object_new_uint64(model.session_info.chunk));
        json_object_object_add(root, "device", json_object_new_string(quern_device_id(model.device)));
        cli_print_json(root);
    }
    cli_model_close(&model);
    free(reference.ids);
    return status;
}

static const logits_args defaults = {0};
static const cli_option options[] = {
    {"tokens", 0, CLI_TEXT, offsetof(logits_args, tokens), "REF", "a .logits file: its token ids are run through the model", 0, 0,
     NULL},
    {"output", 'o', CLI_TEXT, offsetof(logits_args, output), "OUT", "the .logits file to write", 0, 0, NULL},
    CLI_KV_OPTIONS(logits_args, model),
    CLI_DEVICE_OPTIONS(logits_args, model.device),
    CLI_STRICT_OPTION(logits_args, model),
    {"json", 0, CLI_FLAG, offsetof(logits_args, json), NULL, "print what was written as a JSON object", 0, 0, NULL},
};

const cli_command cli_logits = {
    .name = "logits",
    .summary = "write a model's logits for given tokens, to compare implementations",
    .synopsis = "MODEL --tokens REF.logits -o OUT.logits [options]",
    .about =
        "Runs the token ids of one .logits file through a model and writes another: \"QLOG\", then little endian u32 tokens, u32\n"
        "vocabulary, i32 ids[tokens], f32 logits[tokens][vocabulary]; row i holds the logits after ids[0..i]. OUT appears only\n"
        "when it is complete.",
    .examples = "quern logits model.gguf --tokens reference.logits -o ours.logits\n"
                "quern logits model.gguf --tokens reference.logits -o ours.logits --chunk 7 --device cpu --variant ref",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .defaults = &defaults,
    .args_size = sizeof(logits_args),
    .run = run,
};
