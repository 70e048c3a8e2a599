/* SPDX-License-Identifier: MIT
 * tests/fuzz/fuzz_talk.c: any bytes as a saved conversation and as a history of typed lines. What is taken is a conversation: a
 * system message or none, then users and assistants in turn, and nothing of it is taken when a part is wrong. */
#include "fuzz.h"

#include "cli/chat_input.h"
#include "cli/files.h"
#include "cli/output.h"
#include "cli/talk.h"

#include <stdarg.h>
#include <string.h>

/* What the files under test call beside libraries; the words are checked for being one line. */
static int said;

QUERN_PRINTF(1, 0) static void note(const char *format, va_list args)
{
    char line[2048];
    promise(vsnprintf(line, sizeof line, format, args) > 0);
    promise(!strchr(line, '\n'));
    said++;
}

int cli_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(format, args);
    va_end(args);
    return CLI_FAILED;
}

void cli_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(format, args);
    va_end(args);
}

/* Saving is not fuzzed: these are there for the linker. */
int cli_read_all(const char *path, char **out, size_t *size)
{
    (void)path, (void)out, (void)size;
    return CLI_FAILED;
}

int cli_output_open(cli_output_file *output, const char *path)
{
    (void)output, (void)path;
    return CLI_FAILED;
}

int cli_output_commit(cli_output_file *output)
{
    (void)output;
    return CLI_FAILED;
}

struct json_object *cli_json_text(const char *data, size_t size)
{
    (void)data, (void)size;
    return NULL;
}

const quern_chat_family *quern_chat_get_family(const quern_chat *chat)
{
    (void)chat;
    return NULL;
}

static void check_talk(const talk *t)
{
    size_t turn = 0;
    for (size_t i = 0; i < t->count; i++) {
        const talk_message *m = &t->messages[i];
        promise(m->text && strlen(m->text) <= m->size && !m->text[m->size]);
        if (m->role == QUERN_CHAT_SYSTEM)
            promise(i == 0);
        else
            promise(m->role == (turn++ % 2 ? QUERN_CHAT_ASSISTANT : QUERN_CHAT_USER));
    }
    promise(turn % 2 == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    talk t = {0};
    said = 0;
    promise(talk_add(&t, QUERN_CHAT_SYSTEM, "before", 6) == CLI_OK);
    int status = talk_parse(&t, (const char *)data, size, "fuzz");
    promise(status == CLI_OK ? !said : said == 1 && t.count == 1 && !strcmp(t.messages[0].text, "before"));
    if (status == CLI_OK) {
        check_talk(&t);
        size_t turns = talk_turns(&t);
        talk_drop_oldest(&t);
        promise(talk_turns(&t) == (turns ? turns - 1 : 0));
        promise(talk_set_system(&t, "x", 1) == CLI_OK && talk_system(&t));
        promise(talk_set_system(&t, "", 0) == CLI_OK && !talk_system(&t));
        talk_reset(&t);
        promise(t.count == 0);
    }
    talk_free(&t);
    static chat_history h;
    chat_history_parse(&h, (const char *)data, size);
    promise(h.count <= CHAT_HISTORY_LINES);
    for (size_t i = 0; i < h.count; i++)
        for (const char *c = h.lines[i]; *c; c++)
            promise((unsigned char)*c >= 32 && *c != 127);
    chat_history_free(&h);
    return 0;
}
