/* SPDX-License-Identifier: MIT
 * cli/perplexity.c: quern perplexity: how well a model foresees a text (Jelinek et al. 1977): exp of the mean negative
 * log-likelihood. */
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/model_arg.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/signals.h"

#include <json-c/json.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct perplexity_args {
    const char *file;
    uint32_t context, chunks;
    int json;
    cli_model_args model;
} perplexity_args;

/* Sums over the scored tokens. */
typedef struct score {
    double nll, nll_squared;
    uint64_t count;
    uint32_t chunks;
    double seconds;
} score;

/* −log softmax(logits)[token], in double precision. */
static double negative_log_likelihood(const float *logits, uint32_t vocabulary, int32_t token)
{
    double largest = (double)logits[0], sum = 0;
    for (uint32_t i = 1; i < vocabulary; i++)
        if ((double)logits[i] > largest)
            largest = (double)logits[i];
    for (uint32_t i = 0; i < vocabulary; i++)
        sum += exp((double)logits[i] - largest);
    return log(sum) + largest - (double)logits[token];
}

/* Runs one chunk of context tokens and scores its second half: token i by the logits after token i − 1. */
static quern_status score_chunk(cli_model *model, const int32_t *tokens, uint32_t context, score *sums, quern_error *error)
{
    uint32_t most = model->session_info.chunk, vocabulary = model->info.vocabulary;
    quern_status status = quern_session_truncate(model->session, 0, error);
    for (uint32_t at = 0; at < context && status == QP_OK;) {
        uint32_t count = context - at < most ? context - at : most;
        const float *logits;
        size_t rows;
        status = quern_session_eval(model->session, tokens + at, count, &cli_stop, error);
        if (status == QP_OK)
            status = quern_session_all_logits(model->session, &logits, &rows, error);
        for (uint32_t i = 0; status == QP_OK && i < count; i++) {
            uint32_t position = at + i;
            if (position < context / 2 || position + 1 >= context)
                continue;
            double nll = negative_log_likelihood(logits + (size_t)i * vocabulary, vocabulary, tokens[position + 1]);
            if (!isfinite(nll))
                return quern_fail(error, QP_ERR_FORMAT, "the logits of token %u are not finite: the model's weights are damaged",
                                  position);
            sums->nll += nll;
            sums->nll_squared += nll * nll;
            sums->count++;
        }
        at += count;
    }
    return status;
}

/* The error of the mean, carried through exp. */
static double standard_error(const score *sums)
{
    double n = (double)sums->count, mean = sums->nll / n, variance = sums->nll_squared / n - mean * mean;
    return sums->count > 1 && variance > 0 ? exp(mean) * sqrt(variance / (n - 1)) : 0;
}

static int score_all(const perplexity_args *args, cli_model *model, int32_t *tokens, uint32_t chunks, score *sums)
{
    quern_error error = {0};
    cli_progress progress = {.label = "perplexity, chunk"};
    int32_t bos = quern_tokenizer_bos(quern_model_tokenizer(model->model));
    double start = cli_seconds();
    quern_status status = QP_OK;
    for (uint32_t i = 0; i < chunks && status == QP_OK; i++) {
        int32_t *chunk = tokens + (size_t)i * args->context;
        if (bos >= 0)
            chunk[0] = bos;
        status = cli_stop ? QP_ERR_CANCELLED : score_chunk(model, chunk, args->context, sums, &error);
        sums->chunks += status == QP_OK;
        cli_progress_step(&progress, i + 1, chunks);
    }
    sums->seconds = cli_seconds() - start;
    cli_progress_end(&progress);
    return cli_status(status, &error);
}

static void print_result(const perplexity_args *args, const cli_model *model, const score *sums)
{
    double perplexity = exp(sums->nll / (double)sums->count), error = standard_error(sums);
    double rate = sums->seconds > 0 ? (double)sums->chunks * args->context / sums->seconds : 0;
    cli_note("%u chunks of %u tokens on %s, %.1f tok/s", sums->chunks, args->context, quern_device_id(model->device), rate);
    if (!args->json) {
        cli_print("perplexity %.4f +/- %.4f (%llu tokens scored)\n", perplexity, error, (unsigned long long)sums->count);
        return;
    }
    json_object *root = json_object_new_object();
    json_object_object_add(root, "perplexity", cli_json_real(perplexity));
    json_object_object_add(root, "standard_error", cli_json_real(error));
    json_object_object_add(root, "context", json_object_new_uint64(args->context));
    json_object_object_add(root, "chunks", json_object_new_uint64(sums->chunks));
    json_object_object_add(root, "tokens_scored", json_object_new_uint64(sums->count));
    json_object_object_add(root, "tokens_per_second", cli_json_real(rate));
    json_object_object_add(root, "device", json_object_new_string(quern_device_id(model->device)));
    cli_print_json(root);
}

/* All logits of a chunk are kept: fewer rows at a time where the vocabulary is large. */
static uint32_t default_chunk(uint32_t context, uint32_t vocabulary)
{
    const uint64_t most_bytes = 64u << 20;
    uint64_t rows = most_bytes / (4 * (uint64_t)(vocabulary ? vocabulary : 1));
    rows = rows < 16 ? 16 : rows > 256 ? 256 : rows;
    return (uint32_t)(rows < context ? rows : context);
}

static int measure(const perplexity_args *args, const char *path, const char *text, size_t size, cli_model *model,
                   quern_token_list *tokens)
{
    quern_error error = {0};
    int status = cli_model_load(&args->model, path, model);
    if (status != CLI_OK)
        return status;
    const quern_tokenizer *tokenizer = quern_model_tokenizer(model->model);
    if (!tokenizer)
        return cli_fail("%s: has no vocabulary, so it cannot read the text", path);
    if (quern_tokenize(tokenizer, text, size, QUERN_TOKENIZE_BOS, tokens, &error) != QP_OK)
        return cli_error(&error);
    uint32_t chunks = (uint32_t)(tokens->count / args->context);
    if (!chunks)
        return cli_fail("%s: has %zu tokens, fewer than one chunk of %u (a smaller --ctx, or a longer text, will do)", args->file,
                        tokens->count, args->context);
    if (args->chunks && args->chunks < chunks)
        chunks = args->chunks;
    cli_model_args wanted = args->model;
    wanted.context = args->context;
    if (!wanted.chunk)
        wanted.chunk = default_chunk(args->context, model->info.vocabulary);
    status = cli_session_open(&wanted, QUERN_SESSION_ALL_LOGITS, model);
    score sums = {0};
    if (status == CLI_OK)
        status = score_all(args, model, tokens->ids, chunks, &sums);
    if (status == CLI_OK)
        print_result(args, model, &sums);
    return status;
}

static int run(const void *raw, char **operands, uint32_t operand_count)
{
    const perplexity_args *args = raw;
    cli_model model = {0};
    quern_token_list tokens = {0};
    char *text = NULL;
    size_t size = 0;
    (void)operand_count;
    if (!args->file)
        return cli_usage("perplexity: -f FILE is missing: the text to measure on (- is standard input)");
    int status = cli_read_all(args->file, &text, &size);
    cli_signals_catch(); /* not before: Ctrl-C must end a wait for standard input */
    if (status == CLI_OK)
        status = measure(args, operands[0], text, size, &model, &tokens);
    quern_token_list_free(&tokens);
    cli_model_close(&model);
    free(text);
    return status;
}

static const perplexity_args defaults = {.context = 256, .model = {.text = 1}};
static const cli_option options[] = {
    {"file", 'f', CLI_TEXT, offsetof(perplexity_args, file), "FILE", "the text, - for standard input", 0, 0, NULL},
    {"ctx", 'c', CLI_COUNT, offsetof(perplexity_args, context), "N", "tokens of a chunk; default 256", 4, CLI_MAX_CONTEXT, NULL},
    {"chunks", 0, CLI_COUNT, offsetof(perplexity_args, chunks), "N", "stop after N chunks; default: the whole text", 1, 1u << 31,
     NULL},
    CLI_KV_OPTIONS(perplexity_args, model),
    CLI_DEVICE_OPTIONS(perplexity_args, model.device),
    CLI_STRICT_OPTION(perplexity_args, model),
    {"json", 0, CLI_FLAG, offsetof(perplexity_args, json), NULL, "print one JSON object", 0, 0, NULL},
};

const cli_command cli_perplexity = {
    .name = "perplexity",
    .summary = "measure how well a model foresees a text",
    .synopsis = "MODEL -f FILE [--ctx N] [options]",
    .about =
        "Tokenises the whole text once, splits it in chunks of --ctx tokens (what is left over is not used), puts the\n"
        "beginning-of-text token in the first place of each, and scores the second half of each chunk: perplexity is exp of the\n"
        "mean negative log-likelihood, lower is better. Figures are comparable only with the same text, --ctx and vocabulary.",
    .examples =
        "quern perplexity model.gguf -f alice.txt\nquern perplexity model.gguf -f alice.txt --ctx 512 --json --kv-type q8_0",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .defaults = &defaults,
    .args_size = sizeof(perplexity_args),
    .run = run,
};
