/* SPDX-License-Identifier: MIT
 * cli/sampling.h: how the next token is chosen: the options that run and chat share. */
#ifndef CLI_SAMPLING_H
#define CLI_SAMPLING_H

#include "cli/args.h"

#include <quern/engine.h>

typedef struct cli_sampling_args {
    uint32_t top_k, repeat_last;
    double temperature, top_p, min_p, repeat_penalty;
    uint64_t seed; /* 0: a fresh one */
} cli_sampling_args;

#define CLI_SAMPLING_DEFAULTS                                                                                                      \
    {                                                                                                                              \
        .top_k = 40, .repeat_last = 64, .temperature = 0.8, .top_p = 0.95, .min_p = 0.05, .repeat_penalty = 1.0                    \
    }

/* clang-format off */
#define CLI_SAMPLING_OPTIONS(type, member)                                                                                         \
    {"temp", 0, CLI_REAL, offsetof(type, member.temperature), "T",                                                                 \
     "0: always the likeliest token; higher: bolder; default 0.8", 0, 100, NULL},                                                  \
    {"top-k", 0, CLI_COUNT, offsetof(type, member.top_k), "N",                                                                     \
     "choose among the N likeliest tokens, 0: all; default 40", 0, 1 << 30, NULL},                                                 \
    {"top-p", 0, CLI_REAL, offsetof(type, member.top_p), "P",                                                                      \
     "… and the fewest with this much probability together, 1: all;\ndefault 0.95", 0.000001, 1, NULL},                            \
    {"min-p", 0, CLI_REAL, offsetof(type, member.min_p), "P",                                                                      \
     "… and at least this likely next to the likeliest, 0: all;\ndefault 0.05", 0, 1, NULL},                                       \
    {"repeat-penalty", 0, CLI_REAL, offsetof(type, member.repeat_penalty), "X",                                                    \
     "above 1: tokens said lately become less likely; default 1", 0.01, 100, NULL},                                                \
    {"repeat-last", 0, CLI_COUNT, offsetof(type, member.repeat_last), "N",                                                         \
     "… those among the last N; default 64", 0, 65536, NULL},                                                                      \
    {"seed", 's', CLI_NUMBER, offsetof(type, member.seed), "N",                                                                    \
     "the same seed gives the same text; 0 or none: a fresh one, told\non stderr", 0, 0, NULL}
/* clang-format on */

/* *fresh: the seed that was made up, 0 where the user chose one or none is used. *seed: the one in use. Gives an exit status. */
int cli_sampler_make(const cli_sampling_args *args, uint32_t vocabulary, uint64_t *seed, uint64_t *fresh, quern_sampler **out);

#endif
