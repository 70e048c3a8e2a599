/* SPDX-License-Identifier: MIT
 * cli/tokenize.c: quern tokenize: text to token ids and back. */
#include "cli/commands.h"
#include "cli/files.h"
#include "cli/output.h"

#include <ctype.h>
#include <json-c/json.h>
#include <quern/engine.h>
#include <stdlib.h>
#include <string.h>

typedef struct tokenize_args {
    int no_bos, special, json, decode;
} tokenize_args;

static int print_ids(const quern_token_list *list, int json)
{
    if (json) {
        json_object *root = json_object_new_object(), *ids = json_object_new_array();
        for (size_t i = 0; i < list->count; i++)
            json_object_array_add(ids, json_object_new_int(list->ids[i]));
        json_object_object_add(root, "ids", ids);
        cli_print_json(root);
        return CLI_OK;
    }
    for (size_t i = 0; i < list->count; i++)
        if (!cli_print("%s%d", i ? " " : "", list->ids[i]))
            break;
    cli_print("\n");
    return CLI_OK;
}

static int encode(const quern_tokenizer *tokenizer, const tokenize_args *args, const char *text, size_t size)
{
    quern_token_list list = {0};
    quern_error error = {0};
    uint32_t flags = (args->no_bos ? 0 : QUERN_TOKENIZE_BOS) | (args->special ? QUERN_TOKENIZE_SPECIAL : 0);
    int status =
        quern_tokenize(tokenizer, text, size, flags, &list, &error) == QP_OK ? print_ids(&list, args->json) : cli_error(&error);
    quern_token_list_free(&list);
    return status;
}

/* The next number of the text; 0 at its end, −1 when what stands there is no token id. */
static int next_id(const char **at, uint32_t vocabulary, int32_t *id)
{
    *at += strspn(*at, " \t\r\n,[]");
    if (!**at)
        return 0;
    char *end;
    unsigned long value = isdigit((unsigned char)**at) ? strtoul(*at, &end, 10) : vocabulary;
    if (value >= vocabulary)
        return -1;
    *at = end;
    *id = (int32_t)value;
    return 1;
}

/* Puts the token's bytes behind the *size bytes of *text. */
static int append_token(const quern_tokenizer *tokenizer, int32_t id, int first, int special, char **text, size_t *size)
{
    size_t length = quern_token_bytes(tokenizer, id, first, special, NULL, 0);
    char *grown = realloc(*text, *size + length + 1);
    if (!grown)
        return 0;
    *text = grown;
    *size += quern_token_bytes(tokenizer, id, first, special, grown + *size, length + 1);
    return 1;
}

static int decode(const quern_tokenizer *tokenizer, const tokenize_args *args, const char *input)
{
    uint32_t vocabulary = quern_tokenizer_size(tokenizer);
    char *text = NULL;
    size_t size = 0;
    int32_t id = 0, before = -1;
    int found, status = CLI_OK;
    const char *at = input;
    while ((found = next_id(&at, vocabulary, &id)) > 0 && status == CLI_OK) {
        if (!append_token(tokenizer, id, quern_token_first(tokenizer, before), args->special, &text, &size))
            status = cli_fail("no memory for %zu bytes of text", size);
        before = id;
    }
    if (found < 0)
        status =
            cli_fail("standard input: '%.*s' is no token id of this model: whole numbers from 0 to %u, separated by spaces, are",
                     (int)strcspn(at, " \t\r\n,[]") > 32 ? 32 : (int)strcspn(at, " \t\r\n,[]"), at, vocabulary - 1);
    if (status == CLI_OK && args->json) {
        json_object *root = json_object_new_object();
        json_object_object_add(root, "text", cli_json_text(text ? text : "", size));
        cli_print_json(root);
    } else if (status == CLI_OK) {
        cli_write(text, size);
    }
    free(text);
    return status;
}

static int run(const void *raw, char **operands, uint32_t operand_count)
{
    const tokenize_args *args = raw;
    (void)operand_count;
    quern_gguf *gguf = NULL;
    quern_tokenizer *tokenizer = NULL;
    quern_error error = {0};
    char *text = NULL;
    size_t size = 0;
    int status;
    if (quern_gguf_open(operands[0], &gguf, &error) != QP_OK || quern_tokenizer_create(gguf, &tokenizer, &error) != QP_OK)
        status = cli_error(&error);
    else
        status = cli_read_all(NULL, &text, &size);
    if (status == CLI_OK)
        status = args->decode ? decode(tokenizer, args, text) : encode(tokenizer, args, text, size);
    free(text);
    quern_tokenizer_destroy(tokenizer);
    quern_gguf_close(gguf);
    return status;
}

static const tokenize_args defaults = {0};
static const cli_option options[] = {
    {"no-bos", 0, CLI_FLAG, offsetof(tokenize_args, no_bos), NULL, "do not put the beginning-of-text token in front", 0, 0, NULL},
    {"special", 0, CLI_FLAG, offsetof(tokenize_args, special), NULL,
     "text such as </s> becomes the special token; with --decode,\nspecial tokens are shown", 0, 0, NULL},
    {"decode", 0, CLI_FLAG, offsetof(tokenize_args, decode), NULL, "the way back: reads ids, writes their text", 0, 0, NULL},
    {"json", 0, CLI_FLAG, offsetof(tokenize_args, json), NULL, "print one JSON object", 0, 0, NULL},
};

const cli_command cli_tokenize = {
    .name = "tokenize",
    .summary = "turn text into a model's token ids, or back",
    .synopsis = "MODEL [--no-bos] [--special] [--decode] [--json] < TEXT",
    .about = "Reads all of standard input, its last newline too, and prints the token ids on one line. Only the vocabulary of the\n"
             "model file is read.",
    .examples = "printf 'Once upon a time' | quern tokenize model.gguf\n"
                "printf 'Once upon a time' | quern tokenize model.gguf --no-bos | quern tokenize model.gguf --decode",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .operands = "MODEL",
    .operands_min = 1,
    .operands_max = 1,
    .defaults = &defaults,
    .args_size = sizeof(tokenize_args),
    .run = run,
};
