/* SPDX-License-Identifier: MIT
 * cli/scores.h: how sure the model was, token by token and of all of a text, as JSON. */
#ifndef CLI_SCORES_H
#define CLI_SCORES_H

#include "cli/args.h"

#include <quern/engine.h>

struct json_object;

typedef struct cli_score_args {
    uint32_t top;  /* alternatives of each token */
    double unsure; /* a token less likely than this counts as unsure */
} cli_score_args;

enum { CLI_MAX_ALTERNATIVES = 100 };
#define CLI_SCORE_DEFAULTS                                                                                                         \
    {                                                                                                                              \
        .unsure = 0.1                                                                                                              \
    }

/* clang-format off */
#define CLI_SCORE_OPTIONS(type, member)                                                                                            \
    {"top-logprobs", 0, CLI_COUNT, offsetof(type, member.top), "N",                                                                \
     "with --json: the N likeliest tokens at each place; default 0", 0, CLI_MAX_ALTERNATIVES, NULL},                               \
    {"unsure", 0, CLI_REAL, offsetof(type, member.unsure), "P",                                                                    \
     "with --json: count tokens less likely than this; default 0.1", 0, 1, NULL}
/* clang-format on */

typedef struct cli_scores {
    cli_score_args args;
    quern_score *scores;
    quern_alternative *alternatives; /* args.top for each */
    uint32_t *alternative_counts;
    size_t count, capacity;
    quern_score end; /* of the token that ended the text */
    int has_end;
    quern_confidence summary;
} cli_scores;

/* All three give an exit status or nothing. room: tokens that may come. */
int cli_scores_begin(cli_scores *scores, const cli_score_args *args, size_t room);
int cli_scores_add(cli_scores *scores, const float *logits, uint32_t vocabulary, int32_t token, int ends);
void cli_scores_free(cli_scores *scores);

/* Adds "scores" (one object a token) and "confidence" (the summary) to root. */
void cli_scores_json(const cli_scores *scores, const quern_tokenizer *tokenizer, struct json_object *root);

#endif
