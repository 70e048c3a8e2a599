/* SPDX-License-Identifier: MIT
 * cli/args.c: reading a command line by its tables, GNU style: --opt value, --opt=value, -o value, operands anywhere, -- ends. */
#include "cli/args.h"
#include "cli/output.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { EXAMPLE_INDENT = 2, HELP_COLUMN = 26, NEAR_LIMIT = 48 };

/* Levenshtein's distance over at most NEAR_LIMIT bytes. */
static unsigned distance(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    unsigned row[NEAR_LIMIT + 1];
    if (a_len > NEAR_LIMIT || b_len > NEAR_LIMIT)
        return NEAR_LIMIT;
    for (size_t j = 0; j <= b_len; j++)
        row[j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned change = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            unsigned best = row[j - 1] < row[j] ? row[j - 1] + 1 : row[j] + 1;
            row[j] = change < best ? change : best;
        }
    }
    return row[b_len];
}

const char *cli_nearest(const char *text, const void *names, size_t count, size_t stride)
{
    const char *best = NULL;
    unsigned best_distance = 3; /* more edits than two is another word */
    for (size_t i = 0; i < count; i++) {
        const char *name = *(const char *const *)(const void *)((const char *)names + i * stride);
        unsigned d = distance(text, name);
        if (d < best_distance && d < strlen(name)) {
            best = name;
            best_distance = d;
        }
    }
    return best;
}

static const cli_option *find_option(const cli_command *command, const char *name, size_t length)
{
    for (size_t i = 0; i < command->option_count; i++) {
        const cli_option *option = &command->options[i];
        if (strlen(option->name) == length && !memcmp(option->name, name, length))
            return option;
    }
    return NULL;
}

static const cli_option *find_letter(const cli_command *command, char letter)
{
    for (size_t i = 0; i < command->option_count; i++)
        if (command->options[i].letter == letter)
            return &command->options[i];
    return NULL;
}

/* spelled: the option as the user wrote it, perhaps with =value behind. */
static cli_parsed bad_value(const cli_command *command, const cli_option *option, const char *spelled, const char *text)
{
    char range[96] = "";
    switch (option->kind) {
    case CLI_COUNT: snprintf(range, sizeof range, "a whole number from %.0f to %.0f", option->min, option->max); break;
    case CLI_NUMBER: snprintf(range, sizeof range, "a whole number from 0 to 18446744073709551615"); break;
    case CLI_REAL:
        if (isinf(option->max))
            snprintf(range, sizeof range, "a number of at least %g", option->min);
        else
            snprintf(range, sizeof range, "a number from %g to %g", option->min, option->max);
        break;
    case CLI_CHOICE: snprintf(range, sizeof range, "one of %s", option->choices); break;
    case CLI_FLAG:
    case CLI_TEXTS:
    case CLI_TEXT: break;
    }
    int length = spelled[1] == '-' ? (int)strcspn(spelled, "=") : 2;
    cli_note("%s: %.*s cannot be '%s': it takes %s", command->name, length, spelled, text, range);
    return CLI_PARSED_ERROR;
}

/* A whole number, with K, M or G for powers of 1024. */
static int parse_whole(const char *text, uint64_t *out)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return 0;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno)
        return 0;
    unsigned shift = 0;
    switch (toupper((unsigned char)*end)) {
    case 'K': shift = 10; break;
    case 'M': shift = 20; break;
    case 'G': shift = 30; break;
    default: break;
    }
    if (shift)
        end++;
    if (*end || value > UINT64_MAX >> shift)
        return 0;
    *out = (uint64_t)value << shift;
    return 1;
}

static int parse_real(const char *text, double *out)
{
    char *end;
    if (!isdigit((unsigned char)*text) && *text != '.' && *text != '-')
        return 0;
    errno = 0;
    *out = strtod(text, &end);
    return end != text && !*end && !errno && isfinite(*out);
}

/* The word of choices that equals text, as a string that lives forever. */
static const char *parse_choice(const char *choices, const char *text)
{
    static char words[8][16];
    static unsigned next;
    size_t length = strlen(text);
    for (const char *word = choices; *word;) {
        size_t size = strcspn(word, " ");
        if (size == length && size < sizeof words[0] && !strncasecmp(word, text, size)) {
            char *slot = words[next++ % 8];
            memcpy(slot, word, size);
            slot[size] = '\0';
            return slot;
        }
        word += size + strspn(word + size, " ");
    }
    return NULL;
}

static cli_parsed add_text(const cli_command *command, const cli_option *option, cli_texts *texts, const char *text)
{
    if (texts->count == CLI_MOST_TEXTS) {
        cli_note("%s: --%s can be given %d times at most", command->name, option->name, CLI_MOST_TEXTS);
        return CLI_PARSED_ERROR;
    }
    texts->items[texts->count++] = text;
    return CLI_PARSED;
}

static cli_parsed set_value(const cli_command *command, const cli_option *option, const char *spelled, const char *text, void *args)
{
    char *slot = (char *)args + option->offset;
    uint64_t whole;
    double real;
    const char *choice;
    switch (option->kind) {
    case CLI_FLAG: *(int *)(void *)slot = 1; return CLI_PARSED;
    case CLI_TEXT: *(const char **)(void *)slot = text; return CLI_PARSED;
    case CLI_TEXTS: return add_text(command, option, (cli_texts *)(void *)slot, text);
    case CLI_COUNT:
        if (!parse_whole(text, &whole) || (double)whole < option->min || (double)whole > option->max)
            return bad_value(command, option, spelled, text);
        *(uint32_t *)(void *)slot = (uint32_t)whole;
        return CLI_PARSED;
    case CLI_NUMBER:
        if (!parse_whole(text, &whole))
            return bad_value(command, option, spelled, text);
        *(uint64_t *)(void *)slot = whole;
        return CLI_PARSED;
    case CLI_REAL:
        if (!parse_real(text, &real) || real < option->min || real > option->max)
            return bad_value(command, option, spelled, text);
        *(double *)(void *)slot = real;
        return CLI_PARSED;
    case CLI_CHOICE:
        choice = parse_choice(option->choices, text);
        if (!choice)
            return bad_value(command, option, spelled, text);
        *(const char **)(void *)slot = choice;
        return CLI_PARSED;
    }
    return CLI_PARSED_ERROR;
}

static cli_parsed unknown_option(const cli_command *command, const char *text)
{
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(text, "="), text);
    const char *near = NULL;
    if (command->option_count && !strncmp(name, "--", 2))
        near = cli_nearest(name + 2, &command->options[0].name, command->option_count, sizeof command->options[0]);
    if (near)
        cli_note("%s: there is no option %s, did you mean --%s? (quern %s --help lists them)", command->name, name, near,
                 command->name);
    else
        cli_note("%s: there is no option %s (quern %s --help lists them)", command->name, name, command->name);
    return CLI_PARSED_ERROR;
}

/* One option at argv[*at], and its value, perhaps in the next argument. */
static cli_parsed parse_option(const cli_command *command, int argc, char **argv, int *at, void *args)
{
    const char *text = argv[*at], *value = NULL;
    const cli_option *option;
    if (text[1] == '-') {
        size_t length = strcspn(text + 2, "=");
        option = find_option(command, text + 2, length);
        if (text[2 + length] == '=')
            value = text + 3 + length;
    } else {
        option = find_letter(command, text[1]);
        if (option && text[2])
            value = text + 2;
    }
    if (!option)
        return unknown_option(command, text);
    if (option->kind == CLI_FLAG) {
        if (!value)
            return set_value(command, option, text, NULL, args);
        cli_note("%s: --%s takes no value", command->name, option->name);
        return CLI_PARSED_ERROR;
    }
    if (!value && *at + 1 < argc)
        value = argv[++*at];
    if (!value) {
        cli_note("%s: %s needs a value, %s", command->name, text, option->value);
        return CLI_PARSED_ERROR;
    }
    return set_value(command, option, text, value, args);
}

static cli_parsed check_operands(const cli_command *command, char **argv, uint32_t count)
{
    if (count > command->operands_max) {
        cli_note("%s: '%s' is one argument too many (usage: quern %s %s)", command->name, argv[command->operands_max],
                 command->name, command->synopsis);
        return CLI_PARSED_ERROR;
    }
    if (count < command->operands_min) {
        const char *missing = command->operands;
        for (uint32_t i = 0; i < count; i++)
            missing += strcspn(missing, " ") + 1;
        cli_note("%s: %.*s is missing (usage: quern %s %s)", command->name, (int)strcspn(missing, " "), missing, command->name,
                 command->synopsis);
        return CLI_PARSED_ERROR;
    }
    return CLI_PARSED;
}

cli_parsed cli_parse(const cli_command *command, int argc, char **argv, void *args, uint32_t *operand_count)
{
    uint32_t operands = 0;
    int only_operands = 0;
    for (int i = 0; i < argc; i++) {
        if (only_operands || argv[i][0] != '-' || !argv[i][1]) {
            argv[operands++] = argv[i];
            continue;
        }
        if (!strcmp(argv[i], "--")) {
            only_operands = 1;
            continue;
        }
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return CLI_PARSED_HELP;
        cli_parsed parsed = parse_option(command, argc, argv, &i, args);
        if (parsed != CLI_PARSED)
            return parsed;
    }
    *operand_count = operands;
    return check_operands(command, argv, operands);
}

static void print_option(const cli_option *option)
{
    char left[96];
    int length;
    const char *dashes = strlen(option->name) > 1 ? "--" : "-";
    if (option->letter && option->letter != option->name[0])
        length =
            snprintf(left, sizeof left, "  -%c, %s%s %s", option->letter, dashes, option->name, option->value ? option->value : "");
    else if (option->letter && option->name[1])
        length =
            snprintf(left, sizeof left, "  -%c, %s%s %s", option->letter, dashes, option->name, option->value ? option->value : "");
    else
        length = snprintf(left, sizeof left, "  %s%s %s", dashes, option->name, option->value ? option->value : "");
    cli_print("%-*s", HELP_COLUMN, left);
    if (length >= HELP_COLUMN)
        cli_print("\n%*s", HELP_COLUMN, "");
    for (const char *line = option->help; *line;) {
        int size = (int)strcspn(line, "\n");
        cli_print("%.*s\n", size, line);
        line += size;
        if (*line == '\n') {
            line++;
            cli_print("%*s", HELP_COLUMN, "");
        }
    }
}

void cli_print_help(const cli_command *command)
{
    cli_print("usage: quern %s %s\n\n%s\n", command->name, command->synopsis, command->about);
    if (command->option_count)
        cli_print("\nOptions:\n");
    for (size_t i = 0; i < command->option_count; i++)
        print_option(&command->options[i]);
    cli_print("  %-*s%s\n", HELP_COLUMN - EXAMPLE_INDENT, "-h, --help", "this page");
    cli_print("\nExamples:\n");
    for (const char *line = command->examples; *line;) {
        int size = (int)strcspn(line, "\n");
        cli_print("%*s%.*s\n", EXAMPLE_INDENT, "", size, line);
        line += size + (line[size] == '\n');
    }
}
