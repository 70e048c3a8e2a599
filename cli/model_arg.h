/* SPDX-License-Identifier: MIT
 * cli/model_arg.h: the options that every command with a model shares, and opening all that they name. */
#ifndef CLI_MODEL_ARG_H
#define CLI_MODEL_ARG_H

#include "cli/args.h"
#include "cli/progress.h"

#include <quern/engine.h>

typedef struct cli_device_args {
    const char *device;     /* NULL: the best */
    const char *variant;    /* NULL: the best */
    uint32_t threads;       /* 0: the device's choice */
    uint32_t max_submit_ms; /* 0: the device's choice */
} cli_device_args;

typedef struct cli_model_args {
    cli_device_args device;
    uint32_t context; /* 0: the model's */
    uint32_t chunk;   /* 0: the engine's choice */
    const char *kv_type;
    int strict;
    const char *on_loss; /* "cpu": go on there when the device is lost; else fail */
    int text; /* the command reads or writes text: a model without words is refused before its weights are read */
} cli_model_args;

enum { CLI_MAX_THREADS = 64 * QUERN_CPUSET_WORDS, CLI_MAX_CONTEXT = 1 << 24, CLI_MAX_CHUNK = 1 << 16, CLI_MAX_SUBMIT_MS = 600000 };

#define CLI_DEVICE_OPTIONS(type, member)                                                                                           \
    {"device",                                                                                                                     \
     'd',                                                                                                                          \
     CLI_TEXT,                                                                                                                     \
     offsetof(type, member.device),                                                                                                \
     "ID",                                                                                                                         \
     "run there: cpu, vulkan, cuda:1, … (quern devices lists them);\n"                                                           \
     "default: the best there is",                                                                                                 \
     0,                                                                                                                            \
     0,                                                                                                                            \
     NULL},                                                                                                                        \
        {"threads", 't',                                                                                                           \
         CLI_COUNT, offsetof(type, member.threads),                                                                                \
         "N",       "threads of a CPU device; default: one for each core",                                                         \
         1,         CLI_MAX_THREADS,                                                                                               \
         NULL},                                                                                                                    \
        {"max-submit-ms",                                                                                                          \
         0,                                                                                                                        \
         CLI_COUNT,                                                                                                                \
         offsetof(type, member.max_submit_ms),                                                                                     \
         "MS",                                                                                                                     \
         "milliseconds that one piece of work for a GPU may take,\nabout; default 500, safe under a watchdog of 2 s",              \
         1,                                                                                                                        \
         CLI_MAX_SUBMIT_MS,                                                                                                        \
         NULL},                                                                                                                    \
    {                                                                                                                              \
        "variant", 0, CLI_TEXT, offsetof(type, member.variant), "NAME",                                                            \
            "keep to these kernels (ref, avx2, …), to compare results", 0, 0, NULL                                                 \
    }

#define CLI_KV_OPTIONS(type, member)                                                                                               \
    {"kv-type",                                                                                                                    \
     0,                                                                                                                            \
     CLI_CHOICE,                                                                                                                   \
     offsetof(type, member.kv_type),                                                                                               \
     "T",                                                                                                                          \
     "format of the KV cache: f32, f16 (default), bf16 or q8_0",                                                                   \
     0,                                                                                                                            \
     0,                                                                                                                            \
     "f32 f16 bf16 q8_0"},                                                                                                         \
    {                                                                                                                              \
        "chunk", 0, CLI_COUNT, offsetof(type, member.chunk), "N", "prompt tokens computed at a time; default 256", 1,              \
            CLI_MAX_CHUNK, NULL                                                                                                    \
    }

#define CLI_CONTEXT_OPTION(type, member, text)                                                                                     \
    {                                                                                                                              \
        "ctx", 'c', CLI_COUNT, offsetof(type, member.context), "N", text, 1, CLI_MAX_CONTEXT, NULL                                 \
    }

#define CLI_STRICT_OPTION(type, member)                                                                                            \
    {                                                                                                                              \
        "strict", 0, CLI_FLAG, offsetof(type, member.strict), NULL, "fail rather than compute anything on another device", 0, 0,   \
            NULL                                                                                                                   \
    }

#define CLI_LOSS_OPTION(type, member)                                                                                              \
    {                                                                                                                              \
        "on-device-loss", 0, CLI_CHOICE, offsetof(type, member.on_loss), "WHAT",                                                   \
            "when the device is lost on the way: fail (default), or go on\non the cpu", 0, 0, "fail cpu"                           \
    }

/* A device that was lost, and left for the CPU. */
typedef struct cli_loss {
    char device[80];  /* its id; "": none was */
    char reason[512]; /* a sentence */
    uint32_t after;   /* tokens of the text that had come out then */
    double seconds;   /* that it took until the CPU was as far */
} cli_loss;

/* What is open. Close with cli_model_close, in any state. */
typedef struct cli_model {
    quern_context *context;
    quern_device *device;
    quern_gguf *gguf;
    quern_model *model;
    quern_session *session;
    quern_model_info info;
    quern_session_info session_info;
    double load_seconds;
    cli_model_args args; /* it was loaded with */
    cli_loss lost;
} cli_model;

/* Each gives an exit status, CLI_OK or another with the reason written. */
int cli_device_open(const cli_device_args *args, quern_context **context, quern_device **device);
int cli_model_load(const cli_model_args *args, const char *path, cli_model *out);
/* args->context and args->chunk are those wanted. flags: QUERN_SESSION_*. */
quern_session_options cli_session_options(const cli_model_args *args, uint32_t flags);
int cli_session_open(const cli_model_args *args, uint32_t flags, cli_model *model);
void cli_model_close(cli_model *model);
/* Loads the weights of model->gguf onto model->device. */
quern_status cli_weights_load(cli_model *model, quern_error *error);
/* Of the device that the session is on; of the lost one, where the CPU could not take over. */
const char *cli_model_device_id(const cli_model *model);

/* ---- when the device is lost (device_loss.c) ---- */

/* Whether to leave the device for the CPU: it was lost, the user wants it, and it is the first time. */
int cli_loss_is_survivable(const cli_model *model, const quern_error *why);
/* Says so, closes all that is on the device, and loads the model onto the CPU. `after`: tokens of the text that are out. A session
 * is the caller's to make. Gives an exit status; unless that is CLI_OK there is no model any more. */
int cli_loss_to_cpu(cli_model *model, const quern_error *why, uint32_t after);
/* The same in the middle of a text: with a session on the CPU that has all tokens which the one before had, or was given when the
 * device was lost, and their results. After CLI_INTERRUPTED there may be one that has some of them, or none. */
int cli_loss_move(cli_model *model, const quern_error *why, uint32_t after);
struct json_object;
/* {"device", "reason", "after_tokens", "seconds"}, or NULL: none was lost. */
struct json_object *cli_loss_json(const cli_model *model);

/* The status of a call that may have been stopped by Ctrl-C. */
int cli_status(quern_status status, const quern_error *error);

/* Most memory this process had resident, bytes. */
uint64_t cli_peak_memory(void);

#endif
