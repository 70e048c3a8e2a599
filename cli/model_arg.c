/* SPDX-License-Identifier: MIT */
#include "cli/model_arg.h"
#include "cli/output.h"
#include "cli/signals.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

int cli_status(quern_status status, const quern_error *error)
{
    if (status == QP_OK)
        return CLI_OK;
    if (status == QP_ERR_CANCELLED && cli_stop) {
        cli_note("stopped");
        return CLI_INTERRUPTED;
    }
    return cli_error(error);
}

uint64_t cli_peak_memory(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) ? 0 : (uint64_t)usage.ru_maxrss * 1024;
}

/* Probes only the plugin that id names; all of them when there is none of that name, so that the error lists what there is. Where
 * the first look took its whole time, a machine too busy to start a plugin that fast may be why: then once more, with patience. */
static int find_context(const char *id, quern_context **out)
{
    enum { FIRST_MS = 2000, PATIENT_MS = 8000 };
    char plugin[64] = "";
    quern_error error = {0};
    if (id && strcmp(id, "auto"))
        snprintf(plugin, sizeof plugin, "%.*s", (int)strcspn(id, ":"), id);
    double start = cli_seconds();
    for (int again = 0;; again = 1) {
        const quern_device_entry *entry;
        quern_context_options options = {.struct_size = sizeof options,
                                         .only = again || !plugin[0] ? NULL : plugin,
                                         .probe_timeout_ms = again ? PATIENT_MS : FIRST_MS};
        if (quern_context_create(&options, out, &error) != QP_OK)
            return cli_error(&error);
        if (quern_context_find(*out, id, &entry, &error) == QP_OK)
            return CLI_OK;
        int was_late = cli_seconds() - start >= FIRST_MS / 1000.0;
        if (again || (!plugin[0] && !was_late))
            break;
        quern_context_destroy(*out);
        *out = NULL;
    }
    int status = cli_error(&error);
    quern_context_destroy(*out);
    *out = NULL;
    return status;
}

int cli_device_open(const cli_device_args *args, quern_context **context, quern_device **device)
{
    quern_error error = {0};
    int status = find_context(args->device, context);
    if (status != CLI_OK)
        return status;
    quern_device_options options = {
        .struct_size = sizeof options, .threads = args->threads, .variant = args->variant, .max_submit_ms = args->max_submit_ms};
    return cli_status(quern_device_open(*context, args->device, &options, device, &error), &error);
}

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
    cli_progress_step(ctx, done, total);
    return cli_stop;
}

static int has_vocabulary(const quern_gguf *gguf)
{
    static const char none[] = "no_vocab";
    quern_string name;
    if (quern_gguf_get_string(gguf, "tokenizer.ggml.model", 0, &name, NULL) != QP_OK)
        return quern_gguf_find(gguf, "tokenizer.ggml.model") != NULL; /* of a wrong type: the tokenizer's reader says so */
    return name.size != sizeof none - 1 || memcmp(name.data, none, name.size);
}

int cli_model_load(const cli_model_args *args, const char *path, cli_model *out)
{
    quern_error error = {0};
    *out = (cli_model){
        .info.struct_size = sizeof out->info, .session_info.struct_size = sizeof out->session_info, .args = *args};
    double start = cli_seconds();
    /* the file first: a wrong path should not wait for devices */
    if (quern_gguf_open(path, &out->gguf, &error) != QP_OK)
        return cli_error(&error);
    if (args->text && !has_vocabulary(out->gguf))
        return cli_fail("%s: has no vocabulary, so it can neither read nor write text", path);
    int status = cli_device_open(&args->device, &out->context, &out->device);
    if (status != CLI_OK)
        return status;
    quern_status loaded = cli_weights_load(out, &error);
    status = cli_loss_is_survivable(out, &error) ? cli_loss_to_cpu(out, &error, 0) : cli_status(loaded, &error);
    out->load_seconds = cli_seconds() - start;
    return status;
}

quern_status cli_weights_load(cli_model *model, quern_error *error)
{
    cli_progress progress = {.label = "loading", .bytes = 1};
    quern_model_options options = {.struct_size = sizeof options, .progress = on_progress, .progress_ctx = &progress};
    quern_status status = quern_model_load(model->device, model->gguf, &options, &model->model, error);
    cli_progress_end(&progress);
    if (status == QP_OK)
        quern_model_get_info(model->model, &model->info);
    return status;
}

quern_session_options cli_session_options(const cli_model_args *args, uint32_t flags)
{
    quern_session_options options = {.struct_size = sizeof options, .context = args->context, .chunk = args->chunk, .flags = flags};
    if (args->kv_type) {
        options.kv_k = options.kv_v = quern_format_by_name(args->kv_type)->format;
        options.kv_set = 1;
    }
    return options;
}

int cli_session_open(const cli_model_args *args, uint32_t flags, cli_model *model)
{
    quern_error error = {0};
    double start = cli_seconds();
    /* as it would have been on the lost device, which computed in floats as far as anybody knows */
    quern_session_options options = cli_session_options(args, flags | (model->lost.device[0] ? QUERN_SESSION_FLOAT : 0));
    quern_status status = quern_session_create(model->model, &options, &model->session, &error);
    if (cli_loss_is_survivable(model, &error)) {
        int moved = cli_loss_to_cpu(model, &error, 0);
        if (moved != CLI_OK)
            return moved;
        options.flags |= QUERN_SESSION_FLOAT;
        status = quern_session_create(model->model, &options, &model->session, &error);
    }
    if (status != QP_OK)
        return cli_error(&error);
    quern_session_get_info(model->session, &model->session_info);
    model->load_seconds += cli_seconds() - start;
    return CLI_OK;
}

const char *cli_model_device_id(const cli_model *model)
{
    return model->session || !model->lost.device[0] ? quern_device_id(model->device) : model->lost.device;
}

void cli_model_close(cli_model *model)
{
    quern_session_destroy(model->session);
    quern_model_destroy(model->model);
    quern_gguf_close(model->gguf);
    quern_device_close(model->device);
    quern_context_destroy(model->context);
    *model = (cli_model){0};
}
