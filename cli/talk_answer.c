/* SPDX-License-Identifier: MIT
 * cli/talk_answer.c: getting an answer to a conversation from the model. */
#include "cli/talk.h"
#include "cli/output.h"
#include "cli/signals.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

static int tokenize(const talk_model *m, const talk *t, quern_token_list *tokens)
{
    quern_error error = {0};
    quern_chat_message *messages = malloc((t->count ? t->count : 1) * sizeof *messages);
    if (!messages)
        return cli_fail("no memory for %zu messages", t->count);
    for (size_t i = 0; i < t->count; i++) {
        const talk_message *from = &t->messages[i];
        messages[i] = (quern_chat_message){
            .role = from->role, .text = from->text, .size = from->size, .tokens = from->tokens, .token_count = from->token_count};
    }
    tokens->count = 0;
    quern_status status = quern_chat_tokenize(m->chat, messages, t->count, m->flags, tokens, &error);
    free(messages);
    return status == QP_OK ? CLI_OK : cli_error(&error);
}

/* The conversation's tokens, with room for an answer behind them: by --context-shift, or not at all. */
static int fit(talk_model *m, talk *t, quern_token_list *tokens)
{
    uint32_t context = m->model.session_info.context, spare = m->count < context / 4 ? m->count : context / 4;
    uint64_t dropped = 0;
    int status = tokenize(m, t, tokens);
    while (status == CLI_OK && !cli_stop && m->shift && tokens->count + spare > context && talk_turns(t) > 1) {
        talk_drop_oldest(t);
        dropped++;
        status = tokenize(m, t, tokens);
    }
    m->dropped += dropped;
    if (status == CLI_OK && dropped)
        cli_note("the context of %u tokens is full: the %llu oldest turn%s of this conversation %s dropped", context,
                 (unsigned long long)dropped, dropped == 1 ? "" : "s", dropped == 1 ? "was" : "were");
    if (status != CLI_OK || tokens->count <= context)
        return status;
    return cli_fail("the conversation would take %zu tokens and the context holds %u, so the message was not sent: %s",
                    tokens->count, context,
                    talk_turns(t) > 1 ? "/undo or /reset makes room, --ctx gives more, --context-shift drops the oldest turns"
                                      : "a shorter message, or a larger --ctx");
}

static const char *skip_newlines(const char *text, size_t *size)
{
    while (*size && *text == '\n') {
        text++;
        --*size;
    }
    return text;
}

/* What is between <think> and </think>, without the white space around it. */
static const char *inside_tags(const char *text, size_t *size)
{
    static const char begin[] = "<think>", end[] = "</think>";
    text = skip_newlines(text, size);
    if (*size >= sizeof begin - 1 && !memcmp(text, begin, sizeof begin - 1)) {
        text += sizeof begin - 1;
        *size -= sizeof begin - 1;
    }
    while (*size && text[*size - 1] == '\n')
        --*size;
    if (*size >= sizeof end - 1 && !memcmp(text + *size - (sizeof end - 1), end, sizeof end - 1))
        *size -= sizeof end - 1;
    text = skip_newlines(text, size);
    while (*size && text[*size - 1] == '\n')
        --*size;
    return text;
}

/* Adds the answer to the conversation. Its tokens are kept where the next turn shows them to the model as they are. */
static int keep_answer(const talk_model *m, talk *t, const cli_generation *g)
{
    size_t size = g->text.size, thought = g->thinking.size;
    int drops = (quern_chat_traits(m->chat) & QUERN_CHAT_DROPS_THINKING) != 0;
    const char *text = g->text.data ? g->text.data : "", *thinking = g->thinking.data;
    char *all = NULL;
    if (thought && drops) {
        text = skip_newlines(text, &size);
    } else if (thought) { /* part of what was said, and shown to the model again */
        all = malloc(thought + size + 1);
        if (!all)
            return cli_fail("no memory for an answer of %zu bytes", thought + size);
        memcpy(all, thinking, thought);
        memcpy(all + thought, text, size);
        text = all;
        size += thought;
    }
    int status = talk_add(t, QUERN_CHAT_ASSISTANT, text, size);
    free(all);
    if (status != CLI_OK)
        return status;
    talk_message *kept = &t->messages[t->count - 1];
    if (thought && drops) {
        thinking = inside_tags(thinking, &thought);
        kept->thinking = strndup(thinking, thought); /* a NUL in it would end it: nothing but a reader sees it */
        kept->thinking_size = kept->thinking ? strlen(kept->thinking) : 0;
    } else if (g->count && !g->marked) {
        kept->tokens = malloc(g->count * sizeof *kept->tokens);
        kept->token_count = kept->tokens ? g->count : 0;
        if (kept->tokens)
            memcpy(kept->tokens, g->tokens, g->count * sizeof *g->tokens);
    }
    return CLI_OK;
}

static void print_json(const talk_model *m, const talk_message *answer, const cli_generation *g)
{
    json_object *root = json_object_new_object(), *tokens = json_object_new_array(), *times = json_object_new_object();
    for (uint32_t i = 0; i < g->count; i++)
        json_object_array_add(tokens, json_object_new_int(g->tokens[i]));
    json_object_object_add(root, "role", json_object_new_string("assistant"));
    json_object_object_add(root, "content", cli_json_text(answer->text, answer->size));
    json_object_object_add(root, "thinking", answer->thinking ? cli_json_text(answer->thinking, answer->thinking_size) : NULL);
    json_object_object_add(root, "tokens", tokens);
    json_object_object_add(root, "stop", json_object_new_string(cli_stop_name(g->stop)));
    json_object_object_add(root, "prompt_tokens", json_object_new_uint64(g->prompt_tokens));
    json_object_object_add(root, "reused_tokens", json_object_new_uint64(g->reused));
    json_object_object_add(root, "device", json_object_new_string(cli_model_device_id(&m->model)));
    json_object_object_add(root, "device_lost", cli_loss_json(&m->model));
    json_object_object_add(root, "context", json_object_new_uint64(m->model.session_info.context));
    json_object_object_add(root, "dropped_turns", json_object_new_uint64(m->dropped));
    json_object_object_add(times, "prefill_seconds", cli_json_real(g->prefill_seconds));
    json_object_object_add(times, "decode_seconds", cli_json_real(g->decode_seconds));
    json_object_object_add(root, "timings", times);
    cli_scores_json(g->scores, m->tokenizer, root);
    const char *line = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    if (line && cli_write(line, strlen(line)))
        cli_write("\n", 1);
    cli_flush();
    json_object_put(root);
}

static void count_up(talk_model *m, const cli_generation *g)
{
    m->answers++;
    m->prompt_tokens += g->prompt_tokens;
    m->reused_tokens += g->reused;
    m->answer_tokens += g->count;
    m->prefill_seconds += g->prefill_seconds;
    m->decode_seconds += g->decode_seconds;
    m->last = *g;
    m->last.tokens = NULL;
    m->last.text = m->last.thinking = (cli_text){0};
    m->last.scores = NULL;
}

static void say_how_it_ended(const talk_model *m, const cli_generation *g)
{
    if (g->stop == CLI_STOP_CONTEXT)
        cli_note("the context of %u tokens is full: the answer stops here (/undo or /reset makes room, --ctx gives more)",
                 m->model.session_info.context);
    else if (g->stop == CLI_STOP_COUNT)
        cli_note("the answer stops here at its %u tokens (-n)", m->count);
    else if (g->stop == CLI_STOP_INTERRUPTED)
        cli_note("stopped");
}

int talk_answer(talk_model *m, talk *t)
{
    quern_token_list tokens = {0};
    cli_scores scores = {0};
    cli_generation g = {.count_limit = m->count,
                        .keep = 1,
                        .stream = !m->json,
                        .chat = m->chat,
                        .chat_flags = m->flags,
                        .scores = m->json ? &scores : NULL,
                        .begin = m->begin,
                        .begin_ctx = m->begin_ctx};
    int status = fit(m, t, &tokens);
    if (status == CLI_OK && m->json)
        status = cli_scores_begin(&scores, &m->score, cli_generation_room(&g, &m->model));
    if (status == CLI_OK)
        status = cli_generate(&m->model, m->sampler, &tokens, &g);
    int cut = g.stop == CLI_STOP_LOST && g.count; /* by a loss that nothing made good: as good as stopped */
    int answered = cut || (status == CLI_OK && (g.count || g.stop == CLI_STOP_EOS || (g.stop == CLI_STOP_COUNT && !m->count)));
    talk_settle(t, answered);
    int kept = answered ? keep_answer(m, t, &g) : CLI_OK;
    if (answered && kept == CLI_OK && m->json)
        print_json(m, &t->messages[t->count - 1], &g);
    status = status == CLI_OK ? kept : status;
    if (status == CLI_OK) {
        count_up(m, &g);
        say_how_it_ended(m, &g);
    }
    cli_scores_free(&scores);
    cli_generation_free(&g);
    quern_token_list_free(&tokens);
    return status;
}
