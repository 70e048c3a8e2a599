/* SPDX-License-Identifier: MIT */
#include "cli/generate.h"
#include "cli/output.h"
#include "cli/signals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A longer token (none is known) is cut. */
enum { TOKEN_BYTES = 1024 };

typedef struct writer {
    quern_utf8_stream stream;
    quern_chat_stream parts;
    quern_chat_part part; /* of what was written last */
    cli_generation *generation;
    int terminal; /* bytes that a terminal would obey are left out, and thinking is dim */
    char last;    /* byte written, for the newline at the end */
} writer;

const char *cli_stop_name(cli_stop_reason reason)
{
    static const char *const names[] = {"count", "end of text", "context full", "interrupted", "output failed", "device lost"};
    return names[reason];
}

double cli_rate(uint64_t count, double seconds)
{
    return seconds > 0 ? (double)count / seconds : 0;
}

static int keep_text(cli_text *to, const char *text, size_t size)
{
    if (to->size + size + 1 > to->capacity) {
        size_t larger = 2 * to->capacity + size + 4096;
        char *grown = realloc(to->data, larger);
        if (!grown)
            return cli_fail("no memory for %zu bytes of text", larger);
        to->data = grown;
        to->capacity = larger;
    }
    memcpy(to->data + to->size, text, size);
    to->size += size;
    to->data[to->size] = '\0';
    return CLI_OK;
}

/* What a model says may not move a terminal's cursor or change its title: control bytes go, but for line breaks and tabs. text is
 * valid UTF-8. */
static size_t without_controls(char *text, size_t size)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        int c1 = c == 0xc2 && i + 1 < size && (unsigned char)text[i + 1] < 0xa0;
        if (c1)
            i++;
        else if ((c >= 32 && c != 127) || c == '\n' || c == '\t')
            text[n++] = text[i];
    }
    return n;
}

static void show(writer *to, char *text, size_t size)
{
    if (to->terminal)
        size = without_controls(text, size);
    if (size)
        to->last = text[size - 1];
    if (!cli_write(text, size) || !cli_flush())
        to->generation->stop = CLI_STOP_OUTPUT;
}

/* size 0 flushes what waits in the stream. */
static int put_bytes(writer *to, const char *bytes, size_t size)
{
    cli_generation *g = to->generation;
    char text[3 * (TOKEN_BYTES + 4)];
    size_t length = quern_utf8_push(&to->stream, bytes, size, text);
    if (!length)
        return CLI_OK;
    int status = g->keep ? keep_text(to->part == QUERN_CHAT_THINKING ? &g->thinking : &g->text, text, length) : CLI_OK;
    if (g->stream)
        show(to, text, length);
    return status;
}

/* From thinking to the answer and back, what is thought stays apart. */
static int change_part(writer *to, quern_chat_part part)
{
    static const char dim[] = "\033[2m", bright[] = "\033[0m";
    int status = put_bytes(to, NULL, 0);
    if (to->generation->stream && part == QUERN_CHAT_ANSWER && to->last != '\n')
        show(to, (char[]){'\n'}, 1);
    to->part = part;
    if (to->generation->stream && to->terminal)
        cli_write(part == QUERN_CHAT_THINKING ? dim : bright, 4);
    return status;
}

static int put_token(writer *to, const quern_tokenizer *tokenizer, int32_t token, int first)
{
    cli_generation *g = to->generation;
    char bytes[TOKEN_BYTES];
    quern_chat_part part = g->chat ? quern_chat_stream_push(g->chat, &to->parts, token) : QUERN_CHAT_ANSWER;
    if (part == QUERN_CHAT_MARKUP) {
        g->marked = 1;
        return CLI_OK;
    }
    int status = part == to->part ? CLI_OK : change_part(to, part);
    size_t size = quern_token_bytes(tokenizer, token, first, 0, bytes, sizeof bytes);
    return status == CLI_OK && size ? put_bytes(to, bytes, size < sizeof bytes ? size : sizeof bytes) : status;
}

/* A call on the session failed: on to the CPU, where that was asked for and helps. CLI_OK: the session has done what it was to. */
static int failed(writer *to, cli_model *model, const quern_error *error)
{
    cli_generation *g = to->generation;
    if (!cli_loss_is_survivable(model, error))
        return cli_error(error);
    if (g->stream && to->terminal && to->last != '\n' && isatty(STDERR_FILENO))
        fputc('\n', stderr); /* what is said next would hit the text */
    int status = cli_loss_move(model, error, g->count);
    g->stop = status == CLI_OK ? g->stop : status == CLI_INTERRUPTED ? CLI_STOP_INTERRUPTED : CLI_STOP_LOST;
    return status;
}

static quern_status read_results(const cli_model *model, int greedy, int scored, const float **logits, int32_t *token,
                                 quern_error *error)
{
    quern_status status = greedy ? quern_session_greedy(model->session, token, error) : QP_OK;
    return status == QP_OK && (!greedy || scored) ? quern_session_logits(model->session, logits, error) : status;
}

static int next_token(cli_model *model, quern_sampler *sampler, writer *to, int32_t *token)
{
    cli_generation *g = to->generation;
    quern_error error = {0};
    const float *logits = NULL;
    int greedy = quern_sampler_is_greedy(sampler), scored = g->scores != NULL;
    quern_status status = read_results(model, greedy, scored, &logits, token, &error);
    if (status != QP_OK) {
        int moved = failed(to, model, &error);
        if (moved != CLI_OK)
            return moved;
        status = read_results(model, greedy, scored, &logits, token, &error);
    }
    if (status == QP_OK && !greedy)
        status = quern_sampler_sample(sampler, logits, token, &error);
    if (status != QP_OK)
        return cli_error(&error);
    int ends = !g->ignore_eos && (g->chat ? quern_chat_is_stop(g->chat, *token)
                                          : quern_tokenizer_is_stop(quern_model_tokenizer(model->model), *token));
    if (ends)
        g->stop = CLI_STOP_EOS;
    return g->scores ? cli_scores_add(g->scores, logits, model->info.vocabulary, *token, ends) : CLI_OK;
}

static int step(cli_model *model, int32_t token, writer *to)
{
    cli_generation *g = to->generation;
    quern_error error = {0};
    double start = cli_seconds();
    quern_status status = quern_session_eval(model->session, &token, 1, NULL, &error);
    g->decode_seconds += cli_seconds() - start;
    int moved = status == QP_OK ? CLI_OK : failed(to, model, &error);
    if (moved != CLI_OK)
        return moved;
    g->decode_steps++;
    return CLI_OK;
}

/* before: the last token of the prompt. */
static int decode(cli_model *model, quern_sampler *sampler, writer *to, int32_t before)
{
    cli_generation *g = to->generation;
    g->stop = CLI_STOP_COUNT;
    while (g->count < g->count_limit) {
        int32_t token;
        double start = cli_seconds();
        int status = next_token(model, sampler, to, &token);
        g->decode_seconds += cli_seconds() - start;
        if (status != CLI_OK)
            return status;
        if (!g->count && g->begin)
            g->begin(g->begin_ctx);
        if (g->stop == CLI_STOP_EOS)
            break;
        const quern_tokenizer *tokenizer = quern_model_tokenizer(model->model); /* another one where the model has moved */
        g->tokens[g->count++] = token;
        status = put_token(to, tokenizer, token, quern_token_first(tokenizer, before));
        before = token;
        if (status != CLI_OK || g->stop == CLI_STOP_OUTPUT || g->count == g->count_limit)
            return status;
        if (cli_stop)
            g->stop = CLI_STOP_INTERRUPTED;
        else if (quern_session_length(model->session) >= model->session_info.context)
            g->stop = CLI_STOP_CONTEXT;
        else if ((status = step(model, token, to)) != CLI_OK)
            return status;
        if (g->stop != CLI_STOP_COUNT)
            break;
    }
    return CLI_OK;
}

size_t cli_generation_room(const cli_generation *g, const cli_model *model)
{
    /* no more than the context holds can come out, whatever -n says; one of them without a place in it */
    size_t room = (size_t)model->session_info.context + 1;
    return g->count_limit < room ? g->count_limit : room;
}

static int prefill(cli_model *model, const quern_token_list *prompt, writer *to)
{
    cli_generation *g = to->generation;
    quern_error error = {0};
    double start = cli_seconds();
    quern_status status = quern_session_prefill(model->session, prompt->ids, prompt->count, &cli_stop, &g->reused, &error);
    g->prefill_seconds = cli_seconds() - start;
    if (status == QP_ERR_CANCELLED && cli_stop) {
        g->stop = CLI_STOP_INTERRUPTED;
        return CLI_INTERRUPTED;
    }
    if (status == QP_OK)
        return CLI_OK;
    int moved = failed(to, model, &error);
    g->prefill_seconds = cli_seconds() - start;
    return moved;
}

int cli_generate(cli_model *model, quern_sampler *sampler, const quern_token_list *prompt, cli_generation *g)
{
    writer to = {.generation = g, .last = '\n', .terminal = isatty(STDOUT_FILENO)};
    if (!model->session)
        return cli_fail("device %s was lost, and the CPU did not take over: there is nothing to answer with", model->lost.device);
    g->tokens = malloc((cli_generation_room(g, model) + 1) * sizeof *g->tokens);
    if (!g->tokens)
        return cli_fail("no memory for %u tokens", g->count_limit);
    if (g->chat)
        to.parts = quern_chat_stream_begin(g->chat, g->chat_flags);
    for (size_t i = 0; i < prompt->count; i++)
        quern_sampler_accept(sampler, prompt->ids[i]);
    int status = prefill(model, prompt, &to);
    if (status != CLI_OK)
        return status == CLI_INTERRUPTED ? CLI_OK : status;
    g->prompt_tokens = (uint32_t)prompt->count;
    status = decode(model, sampler, &to, prompt->ids[prompt->count - 1]);
    if (status == CLI_INTERRUPTED) /* by Ctrl-C on the way to the CPU, which has been said */
        status = CLI_OK;
    if (status == CLI_OK && g->stop != CLI_STOP_OUTPUT)
        status = put_bytes(&to, NULL, 0);
    else if (g->stop == CLI_STOP_LOST) /* what there is is the caller's to keep */
        put_bytes(&to, NULL, 0);
    if (g->stream && to.part == QUERN_CHAT_THINKING && to.terminal)
        cli_write("\033[0m", 4);
    if (g->stream && to.last != '\n' && g->stop != CLI_STOP_OUTPUT)
        cli_write("\n", 1); /* so that what follows begins on a line of its own */
    cli_flush();
    return status;
}

void cli_generation_free(cli_generation *g)
{
    free(g->tokens);
    free(g->text.data);
    free(g->thinking.data);
}
