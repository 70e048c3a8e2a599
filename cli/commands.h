/* SPDX-License-Identifier: MIT
 * cli/commands.h: the subcommands. A new one is a file with its table and a line here. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/args.h"

#define CLI_COMMANDS(X)                                                                                                            \
    X(run)                                                                                                                         \
    X(chat)                                                                                                                        \
    X(devices)                                                                                                                     \
    X(inspect)                                                                                                                     \
    X(tokenize)                                                                                                                    \
    X(logits)                                                                                                                      \
    X(perplexity)                                                                                                                  \
    X(explain)                                                                                                                     \
    X(quantize)                                                                                                                    \
    X(selftest)

#define CLI_DECLARE(name) extern const cli_command cli_##name;
CLI_COMMANDS(CLI_DECLARE)
#undef CLI_DECLARE

#endif
