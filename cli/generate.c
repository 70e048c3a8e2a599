/* SPDX-License-Identifier: MIT */
#include "cli/generate.h"
#include "cli/output.h"
#include "cli/signals.h"

#include <stdlib.h>
#include <string.h>

/* A longer token (none is known) is cut. */
enum { TOKEN_BYTES = 1024 };

typedef struct writer {
    quern_utf8_stream stream;
    cli_generation *generation;
    size_t capacity;
    char last; /* byte written, for the newline at the end */
} writer;

const char *cli_stop_name(cli_stop_reason reason)
{
    static const char *const names[] = {"count", "end of text", "context full", "interrupted", "output failed"};
    return names[reason];
}

static int keep_text(writer *to, const char *text, size_t size)
{
    cli_generation *g = to->generation;
    if (g->text_size + size > to->capacity) {
        size_t larger = 2 * to->capacity + size + 4096;
        char *grown = realloc(g->text, larger);
        if (!grown)
            return cli_fail("no memory for %zu bytes of text", larger);
        g->text = grown;
        to->capacity = larger;
    }
    memcpy(g->text + g->text_size, text, size);
    g->text_size += size;
    return CLI_OK;
}

/* size 0 flushes what waits in the stream. */
static int put_bytes(writer *to, const char *bytes, size_t size)
{
    char text[3 * (TOKEN_BYTES + 4)];
    size_t length = quern_utf8_push(&to->stream, bytes, size, text);
    if (!length)
        return CLI_OK;
    to->last = text[length - 1];
    if (to->generation->keep)
        return keep_text(to, text, length);
    if (!cli_write(text, length) || !cli_flush())
        to->generation->stop = CLI_STOP_OUTPUT;
    return CLI_OK;
}

static int put_token(writer *to, const quern_tokenizer *tokenizer, int32_t token, int first)
{
    char bytes[TOKEN_BYTES];
    size_t size = quern_token_bytes(tokenizer, token, first, 0, bytes, sizeof bytes);
    return size ? put_bytes(to, bytes, size < sizeof bytes ? size : sizeof bytes) : CLI_OK;
}

static int next_token(cli_model *model, quern_sampler *sampler, int32_t *token)
{
    quern_error error = {0};
    const float *logits;
    quern_status status;
    if (quern_sampler_is_greedy(sampler))
        status = quern_session_greedy(model->session, token, &error);
    else if ((status = quern_session_logits(model->session, &logits, &error)) == QP_OK)
        status = quern_sampler_sample(sampler, logits, token, &error);
    return status == QP_OK ? CLI_OK : cli_error(&error);
}

static int step(cli_model *model, int32_t token, cli_generation *g)
{
    quern_error error = {0};
    double start = cli_seconds();
    quern_status status = quern_session_eval(model->session, &token, 1, NULL, &error);
    g->decode_seconds += cli_seconds() - start;
    if (status != QP_OK)
        return cli_error(&error);
    g->decode_steps++;
    return CLI_OK;
}

/* before: the last token of the prompt. */
static int decode(cli_model *model, quern_sampler *sampler, writer *to, int32_t before)
{
    const quern_tokenizer *tokenizer = quern_model_tokenizer(model->model);
    cli_generation *g = to->generation;
    g->stop = CLI_STOP_COUNT;
    while (g->count < g->count_limit) {
        int32_t token;
        double start = cli_seconds();
        int status = next_token(model, sampler, &token);
        g->decode_seconds += cli_seconds() - start;
        if (status != CLI_OK)
            return status;
        if (!g->count)
            g->begin(g->begin_ctx);
        if (!g->ignore_eos && quern_tokenizer_is_stop(tokenizer, token)) {
            g->stop = CLI_STOP_EOS;
            break;
        }
        g->tokens[g->count++] = token;
        status = put_token(to, tokenizer, token, quern_token_first(tokenizer, before));
        before = token;
        if (status != CLI_OK || g->stop == CLI_STOP_OUTPUT || g->count == g->count_limit)
            return status;
        if (cli_stop)
            g->stop = CLI_STOP_INTERRUPTED;
        else if (quern_session_length(model->session) >= model->session_info.context)
            g->stop = CLI_STOP_CONTEXT;
        else if ((status = step(model, token, g)) != CLI_OK)
            return status;
        if (g->stop != CLI_STOP_COUNT)
            break;
    }
    return CLI_OK;
}

int cli_generate(cli_model *model, quern_sampler *sampler, const quern_token_list *prompt, cli_generation *g)
{
    quern_error error = {0};
    writer to = {.generation = g, .last = '\n'};
    /* no more than the context holds can come out, whatever -n says; one of them without a place in it */
    uint64_t room = (uint64_t)model->session_info.context + 1;
    g->tokens = malloc((g->count_limit < room ? g->count_limit + 1 : room) * sizeof *g->tokens);
    if (!g->tokens)
        return cli_fail("no memory for %u tokens", g->count_limit);
    for (size_t i = 0; i < prompt->count; i++)
        quern_sampler_accept(sampler, prompt->ids[i]);
    double start = cli_seconds();
    quern_status evaluated = quern_session_eval(model->session, prompt->ids, prompt->count, &cli_stop, &error);
    g->prefill_seconds = cli_seconds() - start;
    if (evaluated == QP_ERR_CANCELLED && cli_stop) {
        g->stop = CLI_STOP_INTERRUPTED;
        return CLI_OK;
    }
    if (evaluated != QP_OK)
        return cli_error(&error);
    g->prompt_tokens = (uint32_t)prompt->count;
    int status = decode(model, sampler, &to, prompt->ids[prompt->count - 1]);
    if (status == CLI_OK && g->stop != CLI_STOP_OUTPUT)
        status = put_bytes(&to, NULL, 0);
    if (!g->keep && to.last != '\n' && g->stop != CLI_STOP_OUTPUT)
        cli_write("\n", 1); /* so that what follows begins on a line of its own */
    cli_flush();
    return status;
}

void cli_generation_free(cli_generation *g)
{
    free(g->tokens);
    free(g->text);
}
