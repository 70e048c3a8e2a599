/* SPDX-License-Identifier: MIT
 * cli/device_loss.c: going on on the CPU when the device is lost. */
#include "cli/model_arg.h"
#include "cli/output.h"
#include "cli/signals.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

int cli_loss_is_survivable(const cli_model *model, const quern_error *why)
{
    return why->status == QP_ERR_DEVICE_LOST && model->args.on_loss && !strcmp(model->args.on_loss, "cpu") &&
           !model->lost.device[0] && quern_device_info(model->device)->kind != QP_DEVICE_CPU;
}

static void note_loss(cli_model *model, const quern_error *why, uint32_t after)
{
    char place[64] = "before the first token";
    model->lost.after = after;
    snprintf(model->lost.device, sizeof model->lost.device, "%s", quern_device_id(model->device));
    snprintf(model->lost.reason, sizeof model->lost.reason, "%s", why->text);
    if (after)
        snprintf(place, sizeof place, "after %u token%s", after, after == 1 ? "" : "s");
    cli_note("%s", why->text);
    cli_note("device %s is lost %s; going on on the CPU (--on-device-loss cpu)", model->lost.device, place);
}

/* First, so that memory which the CPU shares with the device is free for the model. */
static void close_device(cli_model *model)
{
    quern_session_destroy(model->session);
    quern_model_destroy(model->model);
    quern_device_close(model->device);
    quern_context_destroy(model->context);
    model->session = NULL;
    model->model = NULL;
    model->device = NULL;
    model->context = NULL;
}

static int open_cpu(cli_model *model)
{
    quern_error error = {0};
    cli_device_args args = {.device = "cpu", .threads = model->args.device.threads}; /* a variant is the lost device's */
    int status = cli_device_open(&args, &model->context, &model->device);
    return status == CLI_OK ? cli_status(cli_weights_load(model, &error), &error) : status;
}

/* After the reason. */
static int said(int status)
{
    if (status == CLI_FAILED)
        cli_note("the CPU cannot take over: the text ends here");
    return status;
}

int cli_loss_to_cpu(cli_model *model, const quern_error *why, uint32_t after)
{
    double start = cli_seconds();
    note_loss(model, why, after);
    close_device(model);
    int status = open_cpu(model);
    model->lost.seconds = cli_seconds() - start;
    return said(status);
}

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
    cli_progress_step(ctx, done, total);
    return cli_stop;
}

static int restore(cli_model *model, const quern_snapshot *snapshot)
{
    quern_error error = {0};
    cli_progress progress = {.label = "reading again"};
    quern_restore_options options = {.struct_size = sizeof options, .progress = on_progress, .progress_ctx = &progress};
    quern_status status = quern_snapshot_restore(snapshot, model->model, &options, &model->session, &error);
    cli_progress_end(&progress);
    if (model->session)
        quern_session_get_info(model->session, &model->session_info);
    return said(cli_status(status, &error));
}

int cli_loss_move(cli_model *model, const quern_error *why, uint32_t after)
{
    quern_error error = {0};
    quern_snapshot *snapshot = NULL;
    double start = cli_seconds();
    if (quern_session_snapshot(model->session, &snapshot, &error) != QP_OK)
        return cli_error(&error);
    int status = cli_loss_to_cpu(model, why, after);
    if (status == CLI_OK)
        status = restore(model, snapshot);
    quern_snapshot_destroy(snapshot);
    model->lost.seconds = cli_seconds() - start;
    return status;
}

json_object *cli_loss_json(const cli_model *model)
{
    if (!model->lost.device[0])
        return NULL;
    json_object *object = json_object_new_object();
    json_object_object_add(object, "device", json_object_new_string(model->lost.device));
    json_object_object_add(object, "reason", cli_json_text(model->lost.reason, strlen(model->lost.reason)));
    json_object_object_add(object, "after_tokens", json_object_new_uint64(model->lost.after));
    json_object_object_add(object, "seconds", cli_json_real(model->lost.seconds));
    return object;
}
