/* SPDX-License-Identifier: MIT
 * cli/args.h: what a subcommand takes, written down once as tables: they parse the command line and make the --help page. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include <stddef.h>
#include <stdint.h>

typedef enum cli_kind {
    CLI_FLAG,   /* int, 1 when given; takes no value */
    CLI_TEXT,   /* const char * */
    CLI_TEXTS,  /* cli_texts: the option may be given several times */
    CLI_COUNT,  /* uint32_t within [min, max]; 16K means 16384, 1M 1048576 */
    CLI_NUMBER, /* uint64_t, any */
    CLI_REAL,   /* double within [min, max] */
    CLI_CHOICE, /* const char *, one of the words of `choices`, letter case ignored */
} cli_kind;

enum { CLI_MOST_TEXTS = 64 };

typedef struct cli_texts {
    const char *items[CLI_MOST_TEXTS];
    uint32_t count;
} cli_texts;

typedef struct cli_option {
    const char *name; /* without the dashes */
    char letter;      /* of the short form, 0: none */
    cli_kind kind;
    size_t offset;     /* of the value in the command's argument struct */
    const char *value; /* what --help calls it: "N" */
    const char *help;  /* one line, or several with '\n' between */
    double min, max;
    const char *choices; /* "f16 f32 q8_0" */
} cli_option;

typedef struct cli_command {
    const char *name;
    const char *summary;  /* a line of `quern --help` */
    const char *synopsis; /* what follows the name */
    const char *about;    /* paragraphs of `quern NAME --help` */
    const char *examples; /* one a line */
    const cli_option *options;
    size_t option_count;
    const char *operands; /* their names, required ones first: "IN OUT TYPE" */
    uint32_t operands_min, operands_max;
    const void *defaults; /* an argument struct */
    size_t args_size;
    int (*run)(const void *args, char **operands, uint32_t operand_count); /* gives the exit status */
} cli_command;

typedef enum cli_parsed { CLI_PARSED, CLI_PARSED_HELP, CLI_PARSED_ERROR } cli_parsed;

/* Fills args (args_size bytes, defaults already there) and moves the operands to the front of argv. CLI_PARSED_ERROR: the reason
 * has been written to stderr. Strings point into argv. */
cli_parsed cli_parse(const cli_command *command, int argc, char **argv, void *args, uint32_t *operand_count);

void cli_print_help(const cli_command *command);

/* The one of count names (stride bytes apart) that looks most like text, NULL when none does. */
const char *cli_nearest(const char *text, const void *names, size_t count, size_t stride);

#endif
