/* SPDX-License-Identifier: MIT
 * cli/run.c: quern run: continues a text. */
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/generate.h"
#include "cli/model_facts.h"
#include "cli/output.h"
#include "cli/sampling.h"
#include "cli/signals.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char default_model[] = "tiny-books-q8_0.gguf";

typedef struct run_args {
    const char *prompt, *file;
    uint32_t count;
    cli_sampling_args sampling;
    cli_score_args score;
    cli_model_args model;
    int json, no_bos, ignore_eos;
} run_args;

/* The prompt's bytes, malloc'd. Of a file or stdin one newline at the end is dropped: editors and echo put it there. */
static int read_prompt(const run_args *args, char **text, size_t *size)
{
    if (args->prompt) {
        *text = strdup(args->prompt);
        *size = strlen(args->prompt);
        return *text ? CLI_OK : cli_fail("no memory for the prompt");
    }
    if (!args->file && isatty(STDIN_FILENO))
        cli_note("type the beginning of a text, end it with Ctrl-D (or use -p TEXT):");
    int status = cli_read_all(args->file, text, size);
    if (status == CLI_OK && *size && (*text)[*size - 1] == '\n')
        --*size;
    return status;
}

static int tokenize_prompt(const run_args *args, const cli_model *model, const char *text, size_t size, quern_token_list *tokens)
{
    quern_error error = {0};
    const quern_tokenizer *tokenizer = quern_model_tokenizer(model->model);
    if (!tokenizer)
        return cli_fail("%s: has no vocabulary, so it can neither read nor write text", quern_gguf_path(model->gguf));
    if (quern_tokenize(tokenizer, text, size, args->no_bos ? 0 : QUERN_TOKENIZE_BOS, tokens, &error) != QP_OK)
        return cli_error(&error);
    uint32_t context = args->model.context ? args->model.context : model->info.context;
    if (!tokens->count)
        return cli_fail("the prompt is empty, and %s, so there is nothing to start from",
                        args->no_bos ? "--no-bos leaves out the beginning-of-text token"
                                     : "the model has no beginning-of-text token");
    if (context && tokens->count > context)
        return cli_fail("the prompt is %zu tokens long and the context holds %u: shorten it%s", tokens->count, context,
                        args->model.context ? " or raise --ctx"
                                            : " (--ctx can raise the limit, beyond what the model was trained for)");
    return CLI_OK;
}

/* A KV cache for the prompt and what may follow, and no more, unless --ctx says how much. */
static int open_session(const run_args *args, size_t prompt_tokens, cli_model *model)
{
    cli_model_args wanted = args->model;
    uint64_t most = model->info.context ? model->info.context : CLI_MAX_CONTEXT, needed = prompt_tokens + (uint64_t)args->count;
    if (!wanted.context)
        wanted.context = (uint32_t)(needed < most ? needed : most);
    return cli_session_open(&wanted, 0, model);
}

typedef struct opening {
    const cli_model *model;
    uint64_t fresh_seed; /* 0: the user chose it, or none is used */
} opening;

/* Said when the first token is there, so that an error before it stands alone. */
static void describe(void *ctx)
{
    const opening *o = ctx;
    const cli_model *model = o->model;
    char parameters[96];
    cli_note("%s (%s, %s parameters) on %s, %s", model->info.name[0] ? model->info.name : quern_gguf_path(model->gguf),
             model->info.architecture, cli_model_size(&model->info, parameters, sizeof parameters), quern_device_id(model->device),
             quern_device_info(model->device)->name);
    if (o->fresh_seed)
        cli_note("seed %llu (the same text again: --seed %llu)", (unsigned long long)o->fresh_seed,
                 (unsigned long long)o->fresh_seed);
}

static uint64_t device_memory(const cli_model *model)
{
    const quern_session_info *s = &model->session_info;
    return model->info.weight_bytes + s->kv_bytes + s->state_bytes + s->arena_bytes + s->scratch_bytes + s->step_bytes +
           s->logits_bytes;
}

static void print_timings(const cli_model *model, const cli_generation *text)
{
    char all[32], weights[32], kv[32], peak[32], state[32], rate[48] = "", states[64] = "";
    const quern_session_info *session = &model->session_info;
    if (session->state_bytes)
        snprintf(states, sizeof states, ", recurrent states %s", cli_size(state, session->state_bytes));
    if (text->decode_steps) /* the first token comes with the prompt: one alone has no rate */
        snprintf(rate, sizeof rate, ", %.1f tok/s", cli_rate(text->decode_steps, text->decode_seconds));
    cli_note("loaded in %.2f s; prompt %u tokens, %.1f tok/s; text %u tokens%s; memory %s (weights %s, KV cache %s%s), peak %s",
             model->load_seconds, text->prompt_tokens, cli_rate(text->prompt_tokens, text->prefill_seconds), text->count, rate,
             cli_size(all, device_memory(model)), cli_size(weights, model->info.weight_bytes), cli_size(kv, session->kv_bytes),
             states, cli_size(peak, cli_peak_memory()));
}

static void print_json(const cli_model *model, const cli_generation *text, uint64_t seed)
{
    json_object *root = json_object_new_object(), *tokens = json_object_new_array();
    for (uint32_t i = 0; i < text->count; i++)
        json_object_array_add(tokens, json_object_new_int(text->tokens[i]));
    json_object_object_add(root, "text", cli_json_text(text->text.data ? text->text.data : "", text->text.size));
    json_object_object_add(root, "tokens", tokens);
    json_object_object_add(root, "stop", json_object_new_string(cli_stop_name(text->stop)));
    json_object_object_add(root, "seed", seed ? json_object_new_uint64(seed) : NULL);
    json_object_object_add(root, "model", cli_json_text(model->info.name, strlen(model->info.name)));
    json_object_object_add(root, "device", json_object_new_string(cli_model_device_id(model)));
    json_object_object_add(root, "device_lost", cli_loss_json(model));
    json_object_object_add(root, "context", json_object_new_uint64(model->session_info.context));
    json_object_object_add(root, "prompt_tokens", json_object_new_uint64(text->prompt_tokens));
    json_object *times = json_object_new_object();
    json_object_object_add(times, "load_seconds", cli_json_real(model->load_seconds));
    json_object_object_add(times, "prefill_seconds", cli_json_real(text->prefill_seconds));
    json_object_object_add(times, "prefill_tokens_per_second", cli_json_real(cli_rate(text->prompt_tokens, text->prefill_seconds)));
    json_object_object_add(times, "decode_seconds", cli_json_real(text->decode_seconds));
    json_object_object_add(times, "decode_tokens_per_second",
                           text->decode_steps ? cli_json_real(cli_rate(text->decode_steps, text->decode_seconds)) : NULL);
    json_object_object_add(root, "timings", times);
    const quern_session_info *session = &model->session_info;
    json_object *memory = json_object_new_object();
    json_object_object_add(memory, "weights", json_object_new_uint64(model->info.weight_bytes));
    json_object_object_add(memory, "kv_cache", json_object_new_uint64(session->kv_bytes));
    json_object_object_add(memory, "recurrent_states", json_object_new_uint64(session->state_bytes));
    json_object_object_add(memory, "arena", json_object_new_uint64(session->arena_bytes));
    json_object_object_add(memory, "scratch", json_object_new_uint64(session->scratch_bytes));
    json_object_object_add(memory, "device_total", json_object_new_uint64(device_memory(model)));
    json_object_object_add(memory, "peak_resident", json_object_new_uint64(cli_peak_memory()));
    json_object_object_add(root, "memory", memory);
    quern_tokenizer *own = NULL; /* where no model was left */
    if (!model->model)
        quern_tokenizer_create(model->gguf, &own, NULL);
    cli_scores_json(text->scores, own ? own : quern_model_tokenizer(model->model), root);
    quern_tokenizer_destroy(own);
    cli_print_json(root);
}

static int finish(const run_args *args, const cli_model *model, const cli_generation *text, uint64_t seed, int status)
{
    if ((status == CLI_OK || text->stop == CLI_STOP_LOST) && args->json)
        print_json(model, text, seed);
    if (text->stop == CLI_STOP_CONTEXT)
        cli_note("the context of %u tokens is full: the text stops here%s", model->session_info.context,
                 args->model.context ? " (--ctx makes room for more)" : "");
    else if (text->stop == CLI_STOP_INTERRUPTED)
        cli_note("stopped");
    if (status == CLI_OK)
        print_timings(model, text);
    return status == CLI_OK && text->stop == CLI_STOP_INTERRUPTED ? CLI_INTERRUPTED : status;
}

static int run_model(const run_args *args, const char *path, const char *prompt, size_t size, cli_model *model,
                     quern_token_list *tokens)
{
    quern_sampler *sampler = NULL;
    cli_scores scores = {0};
    cli_generation text = {.count_limit = args->count, .ignore_eos = args->ignore_eos, .keep = args->json, .stream = !args->json};
    uint64_t seed = 0;
    opening start = {.model = model};
    int status = cli_model_load(&args->model, path, model);
    if (status == CLI_OK)
        status = tokenize_prompt(args, model, prompt, size, tokens);
    if (status == CLI_OK)
        status = open_session(args, tokens->count, model);
    if (status != CLI_OK)
        return status;
    status = cli_sampler_make(&args->sampling, model->info.vocabulary, &seed, &start.fresh_seed, &sampler);
    if (status == CLI_OK && args->json) {
        text.scores = &scores;
        status = cli_scores_begin(&scores, &args->score, cli_generation_room(&text, model));
    }
    text.begin = describe;
    text.begin_ctx = &start;
    if (status == CLI_OK) {
        status = cli_generate(model, sampler, tokens, &text);
        status = finish(args, model, &text, seed, status);
    }
    cli_scores_free(&scores);
    quern_sampler_destroy(sampler);
    cli_generation_free(&text);
    return status;
}

static int run(const void *raw, char **operands, uint32_t operand_count)
{
    const run_args *args = raw;
    char *prompt = NULL, *found = NULL;
    size_t size = 0;
    cli_model model = {0};
    quern_token_list tokens = {0};
    if (args->prompt && args->file)
        return cli_usage("run: -p and -f cannot both be given: the prompt is one of them");
    const char *path = operand_count ? operands[0] : (found = cli_data_file(default_model));
    if (!path)
        return CLI_FAILED;
    int status = read_prompt(args, &prompt, &size);
    cli_signals_catch();
    if (status == CLI_OK)
        status = run_model(args, path, prompt, size, &model, &tokens);
    quern_token_list_free(&tokens);
    cli_model_close(&model);
    free(prompt);
    free(found);
    return status;
}

static const run_args defaults = {
    .model = {.text = 1}, .count = 256, .sampling = CLI_SAMPLING_DEFAULTS, .score = CLI_SCORE_DEFAULTS};
static const cli_option options[] = {
    {"prompt", 'p', CLI_TEXT, offsetof(run_args, prompt), "TEXT", "the beginning of the text; without -p and -f: standard input", 0,
     0, NULL},
    {"file", 'f', CLI_TEXT, offsetof(run_args, file), "FILE", "read the beginning from a file (one newline at its end is\ndropped)",
     0, 0, NULL},
    {"tokens", 'n', CLI_COUNT, offsetof(run_args, count), "N", "write at most N tokens; default 256", 0, CLI_MAX_CONTEXT, NULL},
    CLI_SAMPLING_OPTIONS(run_args, sampling),
    CLI_CONTEXT_OPTION(
        run_args, model,
        "tokens that prompt and text may have together, 16K means\n16384; default: what prompt and -n need, at most what the\n"
        "model was trained for"),
    CLI_KV_OPTIONS(run_args, model),
    CLI_DEVICE_OPTIONS(run_args, model.device),
    CLI_STRICT_OPTION(run_args, model),
    CLI_LOSS_OPTION(run_args, model),
    {"no-bos", 0, CLI_FLAG, offsetof(run_args, no_bos), NULL, "do not put the beginning-of-text token in front", 0, 0, NULL},
    {"ignore-eos", 0, CLI_FLAG, offsetof(run_args, ignore_eos), NULL, "go on after the end-of-text token", 0, 0, NULL},
    {"json", 0, CLI_FLAG, offsetof(run_args, json), NULL,
     "print one JSON object at the end: text, tokens, how sure the model\nwas of each, timings, memory", 0, 0, NULL},
    CLI_SCORE_OPTIONS(run_args, score),
};

const cli_command cli_run = {
    .name = "run",
    .summary = "continue a text with a model",
    .synopsis = "[MODEL] [-p TEXT | -f FILE] [-n N] [options]",
    .about =
        "Reads the beginning of a text and lets the model go on, writing to stdout as it goes. MODEL is a GGUF file; without one\n"
        "the small model that comes with quern speaks (7 million parameters, trained on old English novels: good for a try,\n"
        "not for answers). Ctrl-C ends the text cleanly (exit status 130); a second Ctrl-C ends the program at once.\n\n"
        "With --json each token comes with its log-probability, its rank and the entropy (in nats) of the distribution that the\n"
        "model gave, before penalty, temperature and cuts; \"confidence\" sums them up, so that a caller can decide to ask a\n"
        "larger model instead: perplexity of the answer, its least likely token, mean entropy, tokens below --unsure.",
    .examples = "quern run -p \"It was a dark night, and\" -n 100\n"
                "quern run model.gguf -p \"Once upon a time\" -n 60 --temp 0\n"
                "quern run model.gguf -f chapter1.txt --ctx 16K --kv-type q8_0 --seed 7\n"
                "echo \"The sea was\" | quern run --json --top-logprobs 3",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands = "MODEL",
    .operands_max = 1,
    .defaults = &defaults,
    .args_size = sizeof(run_args),
    .run = run,
};
