/* SPDX-License-Identifier: MIT
 * cli/chat.c: quern chat: a conversation with a model. */
#include "cli/chat_commands.h"
#include "cli/chat_input.h"
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/model_facts.h"
#include "cli/output.h"
#include "cli/sampling.h"
#include "cli/signals.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEFAULT_CONTEXT = 8192 };

typedef struct chat_args {
    const char *system, *system_file, *template, *prompt, *file, *input, *date;
    uint32_t count;
    cli_sampling_args sampling;
    cli_score_args score;
    cli_model_args model;
    int list, think, no_think, no_history, shift, json;
} chat_args;

static int list_templates(void)
{
    for (uint32_t i = 0; quern_chat_family_at(i); i++)
        cli_print("%-18s %s\n", quern_chat_family_at(i)->name, quern_chat_family_at(i)->about);
    return CLI_OK;
}

/* ---- before the first word ---- */

/* Seconds since 1970 of a day; 0: it is none. */
static int64_t parse_date(const char *text)
{
    struct tm day = {0};
    const char *end = strptime(text, "%Y-%m-%d", &day);
    time_t seconds = end && !*end ? timegm(&day) : 0;
    return seconds > 0 ? (int64_t)seconds : 0;
}

static int check_args(const chat_args *args, uint32_t operand_count)
{
    if (!operand_count)
        return cli_usage("chat: MODEL is missing (usage: quern chat MODEL [options])");
    if (args->system && args->system_file)
        return cli_usage("chat: --system and --system-file cannot both be given");
    if (args->think && args->no_think)
        return cli_usage("chat: --think and --no-think cannot both be given");
    if (args->prompt && args->file)
        return cli_usage("chat: -p and -f cannot both be given: the message is one of them");
    if (args->date && !parse_date(args->date))
        return cli_usage("chat: --date cannot be '%s': it takes a day as 2026-05-31", args->date);
    return CLI_OK;
}

static int set_system(const chat_args *args, talk *t)
{
    char *text = NULL;
    size_t size = 0;
    if (args->system)
        return talk_set_system(t, args->system, strlen(args->system));
    if (!args->system_file)
        return CLI_OK;
    int status = cli_read_all(args->system_file, &text, &size);
    if (status == CLI_OK)
        status = talk_set_system(t, text, size && text[size - 1] == '\n' ? size - 1 : size);
    free(text);
    return status;
}

/* Before the weights are read, which may take minutes: would the template do? So the vocabulary is there twice; it is small. Files
 * with other faults are for the loading to refuse. */
static int open_chat(const chat_args *args, const char *path, talk_model *m)
{
    quern_error error = {0};
    quern_chat_options options = {
        .struct_size = sizeof options, .family = args->template, .now = args->date ? parse_date(args->date) : (int64_t)time(NULL)};
    if (quern_gguf_open(path, &m->gguf, NULL) != QP_OK || quern_tokenizer_create(m->gguf, &m->tokenizer, NULL) != QP_OK)
        return CLI_OK;
    if (quern_chat_create(m->gguf, m->tokenizer, &options, &m->chat, &error) != QP_OK)
        return cli_error(&error);
    m->flags = args->think ? QUERN_CHAT_THINK : args->no_think ? QUERN_CHAT_NO_THINK : 0;
    if (m->flags && !(quern_chat_traits(m->chat) & QUERN_CHAT_CAN_SWITCH))
        return cli_fail("--%s: this model's chat template (%s) has no switch for thinking", args->think ? "think" : "no-think",
                        quern_chat_get_family(m->chat)->name);
    return CLI_OK;
}

static int open_session(const chat_args *args, talk_model *m)
{
    cli_model_args wanted = args->model;
    uint32_t most = m->model.info.default_context;
    if (!wanted.context)
        wanted.context = most && most < DEFAULT_CONTEXT ? most : DEFAULT_CONTEXT;
    return cli_session_open(&wanted, 0, &m->model);
}

static void greet(const talk_model *m, uint64_t fresh_seed, int terminal)
{
    const cli_model *model = &m->model;
    char parameters[96];
    cli_note("%s (%s, %s parameters) on %s, template %s, context %u tokens",
             model->info.name[0] ? model->info.name : quern_gguf_path(model->gguf), model->info.architecture,
             cli_model_size(&model->info, parameters, sizeof parameters), quern_device_id(model->device),
             quern_chat_get_family(m->chat)->name, model->session_info.context);
    if (fresh_seed)
        cli_note("seed %llu (the same answers again: --seed %llu)", (unsigned long long)fresh_seed, (unsigned long long)fresh_seed);
    if (terminal)
        cli_note("/help lists the commands; Ctrl-C stops an answer, Ctrl-D leaves");
}

/* ---- talking ---- */

/* Adds a message and has it answered. */
static int say(talk_model *m, talk *t, const char *text, size_t size)
{
    int status = talk_add(t, QUERN_CHAT_USER, text, size);
    return status == CLI_OK ? talk_answer(m, t) : status;
}

/* One message of the user, or a command. *leave: the chat is over. */
static int take(talk_model *m, talk *t, const char *text, size_t size, int *leave)
{
    if (text[0] != '/' || text[1] == '/') {
        int doubled = text[0] == '/';
        return say(m, t, text + doubled, size - (size_t)doubled);
    }
    switch (chat_command(text, m, t)) {
    case CHAT_GO_ON: return CLI_OK;
    case CHAT_FAILED: return CLI_FAILED;
    case CHAT_ANSWER: return talk_answer(m, t);
    case CHAT_LEAVE: *leave = 1; break;
    }
    return CLI_OK;
}

/* Whether the signal that stopped an answer leaves the chat open. */
static int stopped_one_answer(const chat_input *in)
{
    return cli_stop && cli_stop_signal == SIGINT && chat_input_is_terminal(in);
}

/* On a terminal a failure has been said and the chat goes on; from a pipe it is the chat's, too. */
static int converse(talk_model *m, talk *t, chat_input *in)
{
    int worst = CLI_OK, leave = 0, stops = 0;
    while (!leave && cli_flush()) {
        char *text = NULL;
        size_t size = 0;
        chat_heard heard = chat_input_next(in, &text, &size);
        if (heard == CHAT_HEARD_END)
            break;
        if (heard == CHAT_HEARD_STOP) {
            cli_signals_again();
            leave = ++stops > 1;
            if (!leave)
                cli_note("Ctrl-C once more leaves the chat, and so does Ctrl-D");
            continue;
        }
        stops = 0;
        int status = size ? take(m, t, text, size, &leave) : CLI_OK;
        free(text);
        if (stopped_one_answer(in)) {
            stops = 1;
            cli_signals_again();
        } else if (cli_stop) {
            break;
        }
        if (status != CLI_OK && !chat_input_is_terminal(in))
            worst = CLI_FAILED;
    }
    return cli_stop ? CLI_INTERRUPTED : worst;
}

typedef struct opening {
    const talk_model *m;
    uint64_t fresh_seed;
} opening;

/* Said when the first token is there, so that an error before it stands alone. */
static void greet_late(void *ctx)
{
    const opening *o = ctx;
    greet(o->m, o->fresh_seed, 0);
}

/* One message that is there as a whole: -p, -f, or all of stdin. */
static int answer_once(const chat_args *args, talk_model *m, talk *t, uint64_t fresh_seed)
{
    char *text = NULL;
    size_t size = args->prompt ? strlen(args->prompt) : 0;
    opening start = {m, fresh_seed};
    m->begin = greet_late;
    m->begin_ctx = &start;
    int status = args->prompt ? CLI_OK : cli_read_all(args->file, &text, &size);
    if (text && size && text[size - 1] == '\n')
        size--;
    if (status == CLI_OK)
        status = say(m, t, text ? text : args->prompt, size);
    free(text);
    return status == CLI_OK && cli_stop ? CLI_INTERRUPTED : status;
}

static int talk_to_model(const chat_args *args, talk_model *m, talk *t)
{
    uint64_t seed, fresh;
    int once = args->prompt || args->file || !strcmp(args->input, "all");
    int status = cli_sampler_make(&args->sampling, m->model.info.vocabulary, &seed, &fresh, &m->sampler);
    if (status != CLI_OK)
        return status;
    if (once)
        return answer_once(args, m, t, fresh);
    chat_input *in = chat_input_open(!args->no_history);
    if (!in)
        return cli_fail("no memory for a chat");
    greet(m, fresh, chat_input_is_terminal(in));
    if (chat_input_is_terminal(in))
        cli_signals_again(); /* from here on one Ctrl-C is about an answer */
    status = converse(m, t, in);
    chat_input_close(in);
    return status;
}

static int run(const void *raw, char **operands, uint32_t operand_count)
{
    const chat_args *args = raw;
    talk t = {0};
    talk_model m = {.count = args->count, .shift = args->shift, .json = args->json, .score = args->score};
    if (args->list)
        return list_templates();
    int status = check_args(args, operand_count);
    if (status == CLI_OK)
        status = set_system(args, &t);
    cli_signals_catch();
    if (status == CLI_OK)
        status = open_chat(args, operands[0], &m);
    if (status == CLI_OK)
        status = cli_model_load(&args->model, operands[0], &m.model);
    if (status == CLI_OK && !m.chat)
        status = cli_fail("%s: changed while it was opened", operands[0]);
    if (status == CLI_OK)
        status = open_session(args, &m);
    if (status == CLI_OK)
        status = talk_to_model(args, &m, &t);
    quern_sampler_destroy(m.sampler);
    quern_chat_destroy(m.chat);
    quern_tokenizer_destroy(m.tokenizer);
    quern_gguf_close(m.gguf);
    cli_model_close(&m.model);
    talk_free(&t);
    return status;
}

static const chat_args defaults = {
    .model = {.text = 1}, .count = 2048, .input = "lines", .sampling = CLI_SAMPLING_DEFAULTS, .score = CLI_SCORE_DEFAULTS};
static const cli_option options[] = {
    {"system", 0, CLI_TEXT, offsetof(chat_args, system), "TEXT", "what the model is told before the conversation", 0, 0, NULL},
    {"system-file", 0, CLI_TEXT, offsetof(chat_args, system_file), "FILE", "… from a file", 0, 0, NULL},
    {"prompt", 'p', CLI_TEXT, offsetof(chat_args, prompt), "TEXT", "answer this one message, then end", 0, 0, NULL},
    {"file", 'f', CLI_TEXT, offsetof(chat_args, file), "FILE", "… from a file", 0, 0, NULL},
    {"input", 0, CLI_CHOICE, offsetof(chat_args, input), "HOW",
     "standard input that is no terminal: lines (one message a line;\nthe default) or all (it is one message)", 0, 0, "lines all"},
    {"tokens", 'n', CLI_COUNT, offsetof(chat_args, count), "N", "tokens of an answer at most; default 2048", 0, CLI_MAX_CONTEXT,
     NULL},
    {"template", 0, CLI_TEXT, offsetof(chat_args, template), "NAME",
     "how the conversation is written down for the model; default: as\nits own template says", 0, 0, NULL},
    {"list-templates", 0, CLI_FLAG, offsetof(chat_args, list), NULL, "the names that --template takes", 0, 0, NULL},
    {"think", 0, CLI_FLAG, offsetof(chat_args, think), NULL, "have the model think before it answers, where it can be told", 0, 0,
     NULL},
    {"no-think", 0, CLI_FLAG, offsetof(chat_args, no_think), NULL, "… or have it answer at once", 0, 0, NULL},
    {"date", 0, CLI_TEXT, offsetof(chat_args, date), "DAY",
     "2026-05-31: the day that some templates tell the model;\ndefault: today (UTC)", 0, 0, NULL},
    {"context-shift", 0, CLI_FLAG, offsetof(chat_args, shift), NULL,
     "when the context is full, drop the oldest turns (and say so)\ninstead of refusing the message", 0, 0, NULL},
    {"no-history", 0, CLI_FLAG, offsetof(chat_args, no_history), NULL, "do not remember the lines typed for the next chat", 0, 0,
     NULL},
    CLI_SAMPLING_OPTIONS(chat_args, sampling),
    CLI_CONTEXT_OPTION(
        chat_args, model,
        "tokens that the conversation may have, 16K means 16384; default:\nwhat the model was trained for, at most 8192"),
    CLI_KV_OPTIONS(chat_args, model),
    CLI_DEVICE_OPTIONS(chat_args, model.device),
    CLI_STRICT_OPTION(chat_args, model),
    CLI_LOSS_OPTION(chat_args, model),
    {"json", 0, CLI_FLAG, offsetof(chat_args, json), NULL, "print one JSON object a line for each answer", 0, 0, NULL},
    CLI_SCORE_OPTIONS(chat_args, score),
};

const cli_command cli_chat = {
    .name = "chat",
    .summary = "talk with a model",
    .synopsis = "MODEL [-p TEXT | -f FILE] [options]",
    .about =
        "A conversation: type a message, read the answer. Only what is new is computed at each turn. A line that ends in a\n"
        "backslash goes on; a text of several lines stands between two \"\"\". Commands begin with a slash:\n"
        "/help /reset /undo /retry /system [TEXT] /save FILE /load FILE /stats /exit. Ctrl-C stops an answer; at the prompt a\n"
        "second one, or Ctrl-D, leaves. Lines typed are kept in $XDG_STATE_HOME/quern/chat-history (or ~/.local/state),\n"
        "readable by you alone.\n\n"
        "How a conversation is written down for a model is said by a template in its file; the families of templates that quern\n"
        "knows are listed by --list-templates, and a model with another one is refused. What you type is never taken for the\n"
        "template's markup. Where standard input is no terminal each line is a message, and answers are all that goes to stdout.",
    .examples = "quern chat model.gguf\n"
                "quern chat model.gguf --system \"You answer in one sentence.\" --ctx 16K\n"
                "quern chat model.gguf -p \"What is a quern?\" --temp 0\n"
                "quern chat model.gguf --json --top-logprobs 3 < questions.txt\n"
                "quern chat --list-templates",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands = "MODEL",
    .operands_max = 1,
    .defaults = &defaults,
    .args_size = sizeof(chat_args),
    .run = run,
};
