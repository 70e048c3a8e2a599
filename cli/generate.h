/* SPDX-License-Identifier: MIT
 * cli/generate.h: the loop of run and chat: prompt in, tokens out one by one. */
#ifndef CLI_GENERATE_H
#define CLI_GENERATE_H

#include "cli/model_arg.h"
#include "cli/scores.h"

typedef enum cli_stop_reason {
    CLI_STOP_COUNT,       /* as many tokens as asked for */
    CLI_STOP_EOS,         /* the model ended the text */
    CLI_STOP_CONTEXT,     /* no room for another token */
    CLI_STOP_INTERRUPTED, /* Ctrl-C */
    CLI_STOP_OUTPUT,      /* stdout takes no more */
    CLI_STOP_LOST,        /* the device was lost, and the CPU could not take over: said, and the exit status is not CLI_OK */
} cli_stop_reason;

const char *cli_stop_name(cli_stop_reason reason);

typedef struct cli_text {
    char *data;
    size_t size, capacity;
} cli_text;

typedef struct cli_generation {
    uint32_t count_limit;     /* set before: tokens to write at most */
    int ignore_eos;           /* go on after a stop token */
    int keep;                 /* text goes to `text` (and `thinking`) */
    int stream;               /* text goes to stdout as it comes */
    const quern_chat *chat;   /* an answer in a conversation: it knows how answers end and what is thinking. NULL: plain text */
    uint32_t chat_flags;      /* QUERN_CHAT_*, of its prompt */
    cli_scores *scores;       /* begun by the caller; NULL: none are wanted */
    void (*begin)(void *ctx); /* called when the first token is known to be good, before it is written; NULL: nothing */
    void *begin_ctx;
    int32_t *tokens; /* from here on results: those written */
    uint32_t count;
    cli_text text, thinking;
    int marked; /* some tokens were markup: the texts are not all of what was said */
    cli_stop_reason stop;
    uint32_t prompt_tokens, reused, decode_steps; /* reused: of the prompt, that the session held already; steps: tokens run through
                                                   * the model after the prompt */
    double prefill_seconds, decode_seconds;
} cli_generation;

/* Tokens that can come out at most. */
size_t cli_generation_room(const cli_generation *generation, const cli_model *model);
/* Makes the session hold the prompt, and goes on from there. Gives an exit status; what is in *generation is true whatever it is.
 */
int cli_generate(cli_model *model, quern_sampler *sampler, const quern_token_list *prompt, cli_generation *generation);
void cli_generation_free(cli_generation *generation);

/* count per second; 0 where there was nothing to time. */
double cli_rate(uint64_t count, double seconds);

#endif
