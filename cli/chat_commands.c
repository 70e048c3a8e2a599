/* SPDX-License-Identifier: MIT */
#include "cli/chat_commands.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

typedef struct command {
    const char *name, *value, *help; /* value: what it takes; NULL: nothing */
    int required;                    /* … and not without */
    chat_next (*run)(const char *value, talk_model *m, talk *t);
} command;

static chat_next run_reset(const char *value, talk_model *m, talk *t)
{
    (void)value, (void)m;
    talk_reset(t);
    cli_note("the conversation begins anew%s", talk_system(t) ? ", with the same system message" : "");
    return CHAT_GO_ON;
}

static chat_next run_save(const char *value, talk_model *m, talk *t)
{
    if (talk_save(t, m, value) != CLI_OK)
        return CHAT_FAILED;
    cli_note("%zu messages saved to %s", t->count, value);
    return CHAT_GO_ON;
}

static chat_next run_load(const char *value, talk_model *m, talk *t)
{
    (void)m;
    if (talk_load(t, value) != CLI_OK)
        return CHAT_FAILED;
    cli_note("%zu messages loaded from %s", t->count, value);
    return CHAT_GO_ON;
}

static chat_next run_stats(const char *value, talk_model *m, talk *t)
{
    const quern_session_info *s = &m->model.session_info;
    const cli_generation *last = &m->last;
    char weights[32], kv[32], work[32];
    (void)value;
    cli_note("device: %s", cli_model_device_id(&m->model));
    if (m->model.lost.device[0])
        cli_note("device %s was lost; the CPU was as far after %.1f s: %s", m->model.lost.device, m->model.lost.seconds,
                 m->model.lost.reason);
    cli_note("context: %u of %u tokens in use; %zu turn%s; %llu dropped", quern_session_length(m->model.session), s->context,
             talk_turns(t), talk_turns(t) == 1 ? "" : "s", (unsigned long long)m->dropped);
    if (m->answers) {
        cli_note("last answer: prompt %u tokens, %u of them kept from before, %.1f tok/s; answer %u tokens, %.1f tok/s",
                 last->prompt_tokens, last->reused, cli_rate(last->prompt_tokens - last->reused, last->prefill_seconds),
                 last->count, cli_rate(last->decode_steps, last->decode_seconds));
        cli_note("in all: %llu answers, prompts %llu tokens, %llu of them kept, answers %llu tokens, %.1f s of reading and %.1f s "
                 "of writing",
                 (unsigned long long)m->answers, (unsigned long long)m->prompt_tokens, (unsigned long long)m->reused_tokens,
                 (unsigned long long)m->answer_tokens, m->prefill_seconds, m->decode_seconds);
    }
    cli_note("memory: weights %s, KV cache and recurrent states %s, work space %s", cli_size(weights, m->model.info.weight_bytes),
             cli_size(kv, s->kv_bytes + s->state_bytes),
             cli_size(work, s->arena_bytes + s->scratch_bytes + s->step_bytes + s->logits_bytes));
    return CHAT_GO_ON;
}

static chat_next run_system(const char *value, talk_model *m, talk *t)
{
    (void)m;
    const talk_message *system = talk_system(t);
    if (!value[0]) {
        cli_note("system message: %s", system ? system->text : "none");
        return CHAT_GO_ON;
    }
    if (talk_set_system(t, value, strcmp(value, "-") ? strlen(value) : 0) != CLI_OK)
        return CHAT_FAILED;
    cli_note("system message %s; it holds for all of the conversation from the next answer on",
             strcmp(value, "-") ? "set" : "removed");
    return CHAT_GO_ON;
}

static int last_is(const talk *t, quern_chat_role role)
{
    return t->count && t->messages[t->count - 1].role == role;
}

static chat_next run_retry(const char *value, talk_model *m, talk *t)
{
    (void)value, (void)m;
    if (!last_is(t, QUERN_CHAT_ASSISTANT)) {
        cli_note("/retry: there is no answer yet");
        return CHAT_FAILED;
    }
    talk_set_aside(t);
    return CHAT_ANSWER;
}

static chat_next run_undo(const char *value, talk_model *m, talk *t)
{
    (void)value, (void)m;
    if (!last_is(t, QUERN_CHAT_ASSISTANT)) {
        cli_note("/undo: there is nothing to take back");
        return CHAT_FAILED;
    }
    talk_drop_last(t);
    talk_drop_last(t);
    cli_note("your last message and its answer are taken back; %zu turn%s left", talk_turns(t),
             talk_turns(t) == 1 ? " is" : "s are");
    return CHAT_GO_ON;
}

static chat_next run_exit(const char *value, talk_model *m, talk *t)
{
    (void)value, (void)m, (void)t;
    return CHAT_LEAVE;
}

static chat_next run_help(const char *value, talk_model *m, talk *t);

static const command commands[] = {
    {"/help", NULL, "this list", 0, run_help},
    {"/reset", NULL, "begin anew; the system message stays", 0, run_reset},
    {"/undo", NULL, "take back the last message and its answer", 0, run_undo},
    {"/retry", NULL, "answer the last message again", 0, run_retry},
    {"/system", "[TEXT]", "show the system message, or set it; - removes it", 0, run_system},
    {"/save", "FILE", "write the conversation to a file, as JSON", 1, run_save},
    {"/load", "FILE", "go on with a conversation from a file", 1, run_load},
    {"/stats", NULL, "tokens, speed and memory", 0, run_stats},
    {"/exit", NULL, "leave, as Ctrl-D does", 0, run_exit},
    {"/quit", NULL, "the same", 0, run_exit},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static chat_next run_help(const char *value, talk_model *m, talk *t)
{
    (void)value, (void)m, (void)t;
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(stderr, "  %-7s %-7s %s\n", commands[i].name, commands[i].value ? commands[i].value : "", commands[i].help);
    fputs("  A line that ends in a backslash goes on; a text of several lines stands between two \"\"\".\n"
          "  A message that begins with a slash begins with two here. Ctrl-C stops an answer; a second one, or Ctrl-D, leaves.\n",
          stderr);
    return CHAT_GO_ON;
}

static chat_next unknown(const char *name, size_t size)
{
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)(size < 60 ? size : 60), name);
    const char *near = cli_nearest(text, &commands[0].name, COMMANDS, sizeof *commands);
    if (near)
        cli_note("there is no command %s, did you mean %s? (/help lists them; begin a message with // to send it)", text, near);
    else
        cli_note("there is no command %s (/help lists them; begin a message with // to send it)", text);
    return CHAT_FAILED;
}

chat_next chat_command(const char *line, talk_model *m, talk *t)
{
    size_t size = strcspn(line, " \t\n");
    const char *value = line + size + strspn(line + size, " \t\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        const command *c = &commands[i];
        if (strlen(c->name) != size || memcmp(c->name, line, size))
            continue;
        if (value[0] && !c->value) {
            cli_note("%s takes nothing, and '%s' follows it", c->name, value);
            return CHAT_FAILED;
        }
        if (!value[0] && c->required) {
            cli_note("%s needs the name of a file", c->name);
            return CHAT_FAILED;
        }
        return c->run(value, m, t);
    }
    return unknown(line, size);
}
