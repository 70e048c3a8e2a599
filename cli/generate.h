/* SPDX-License-Identifier: MIT
 * cli/generate.h: the loop of quern run: prompt in, tokens out one by one. */
#ifndef CLI_GENERATE_H
#define CLI_GENERATE_H

#include "cli/model_arg.h"

typedef enum cli_stop_reason {
    CLI_STOP_COUNT,       /* as many tokens as asked for */
    CLI_STOP_EOS,         /* the model ended the text */
    CLI_STOP_CONTEXT,     /* no room for another token */
    CLI_STOP_INTERRUPTED, /* Ctrl-C */
    CLI_STOP_OUTPUT,      /* stdout takes no more */
} cli_stop_reason;

const char *cli_stop_name(cli_stop_reason reason);

typedef struct cli_generation {
    uint32_t count_limit;     /* set before: tokens to write at most */
    int ignore_eos;           /* go on after a stop token */
    int keep;                 /* text goes to `text`, not to stdout */
    void (*begin)(void *ctx); /* called when the first token is known to be good, before it is written */
    void *begin_ctx;
    int32_t *tokens; /* from here on results: those written */
    uint32_t count;
    char *text;
    size_t text_size;
    cli_stop_reason stop;
    uint32_t prompt_tokens, decode_steps; /* steps: tokens run through the model after the prompt */
    double prefill_seconds, decode_seconds;
} cli_generation;

/* Gives an exit status; what is in *generation is true whatever it is. */
int cli_generate(cli_model *model, quern_sampler *sampler, const quern_token_list *prompt, cli_generation *generation);
void cli_generation_free(cli_generation *generation);

#endif
