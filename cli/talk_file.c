/* SPDX-License-Identifier: MIT
 * cli/talk_file.c: conversations as JSON. A file may come from anywhere: it is checked before any of it is taken. */
#include "cli/files.h"
#include "cli/output.h"
#include "cli/talk.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_FILE = 64 << 20, MAX_MESSAGES = 100000, MAX_DEPTH = 8, FORMAT_VERSION = 1 };

static const char *const role_names[] = {"system", "user", "assistant"};

int talk_save(const talk *t, const talk_model *m, const char *path)
{
    json_object *root = json_object_new_object(), *list = json_object_new_array();
    const char *model = m->model.info.name[0] ? m->model.info.name : quern_gguf_path(m->model.gguf);
    json_object_object_add(root, "quern_chat", json_object_new_int(FORMAT_VERSION));
    json_object_object_add(root, "model", cli_json_text(model, strlen(model)));
    json_object_object_add(root, "template", json_object_new_string(quern_chat_get_family(m->chat)->name));
    for (size_t i = 0; i < t->count; i++) {
        const talk_message *from = &t->messages[i];
        json_object *one = json_object_new_object();
        json_object_object_add(one, "role", json_object_new_string(role_names[from->role]));
        json_object_object_add(one, "content", cli_json_text(from->text, from->size));
        if (from->thinking)
            json_object_object_add(one, "thinking", cli_json_text(from->thinking, from->thinking_size));
        json_object_array_add(list, one);
    }
    json_object_object_add(root, "messages", list);
    const char *text = json_object_to_json_string_ext(root, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE);
    cli_output_file output;
    int status = text ? cli_output_open(&output, path) : cli_fail("no memory to write %s", path);
    if (status == CLI_OK) {
        if (fputs(text, output.file) < 0 || fputc('\n', output.file) < 0)
            output.reason = errno;
        status = cli_output_commit(&output);
    }
    json_object_put(root);
    return status;
}

/* ---- reading ---- */

static int read_role(json_object *message, quern_chat_role *role)
{
    json_object *value = NULL;
    if (!json_object_object_get_ex(message, "role", &value) || !json_object_is_type(value, json_type_string))
        return 0;
    for (int i = 0; i < 3; i++)
        if (!strcmp(json_object_get_string(value), role_names[i])) {
            *role = (quern_chat_role)i;
            return 1;
        }
    return 0;
}

static int add_message(talk *t, json_object *message, size_t at, const char *name)
{
    json_object *content = NULL;
    quern_chat_role role;
    size_t turn = at - (talk_system(t) != NULL);
    if (!json_object_is_type(message, json_type_object) || !read_role(message, &role))
        return cli_fail("%s: message %zu has no role of system, user or assistant", name, at);
    if (!json_object_object_get_ex(message, "content", &content) || !json_object_is_type(content, json_type_string))
        return cli_fail("%s: message %zu has no content that is a text", name, at);
    if (role != QUERN_CHAT_SYSTEM && role != (turn % 2 ? QUERN_CHAT_ASSISTANT : QUERN_CHAT_USER))
        return cli_fail("%s: message %zu is the %s's where the %s's belongs: they take turns", name, at, role_names[role],
                        role_names[turn % 2 ? QUERN_CHAT_ASSISTANT : QUERN_CHAT_USER]);
    if (role == QUERN_CHAT_SYSTEM && at)
        return cli_fail("%s: message %zu is a system message: only the first one may be", name, at);
    return talk_add(t, role, json_object_get_string(content), (size_t)json_object_get_string_len(content));
}

static int read_messages(talk *t, json_object *root, const char *name)
{
    json_object *list = NULL;
    if (!json_object_is_type(root, json_type_object) || !json_object_object_get_ex(root, "messages", &list) ||
        !json_object_is_type(list, json_type_array))
        return cli_fail("%s: is no conversation: it has no list of messages", name);
    size_t count = json_object_array_length(list);
    if (count > MAX_MESSAGES)
        return cli_fail("%s: has %zu messages; at most %d are read", name, count, MAX_MESSAGES);
    int status = CLI_OK;
    for (size_t i = 0; status == CLI_OK && i < count; i++)
        status = add_message(t, json_object_array_get_idx(list, i), i, name);
    if (status == CLI_OK && t->count && t->messages[t->count - 1].role == QUERN_CHAT_USER)
        return cli_fail("%s: ends with a message of the user that has no answer", name);
    return status;
}

int talk_parse(talk *t, const char *data, size_t size, const char *name)
{
    talk loaded = {0};
    struct json_tokener *tokener = size <= MAX_FILE ? json_tokener_new_ex(MAX_DEPTH) : NULL;
    if (!tokener)
        return cli_fail("%s: has %zu bytes; a conversation of at most %d is read", name, size, MAX_FILE);
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8 | JSON_TOKENER_ALLOW_TRAILING_CHARS);
    json_object *root = json_tokener_parse_ex(tokener, data, (int)size);
    size_t end = json_tokener_get_parse_end(tokener);
    int whole = json_tokener_get_error(tokener) == json_tokener_success && root;
    for (; whole && end < size; end++)
        whole = strchr(" \t\r\n", data[end]) && data[end];
    int status = whole ? read_messages(&loaded, root, name)
                       : cli_fail("%s: is not valid JSON (at byte %zu): %s", name, end,
                                  json_tokener_get_error(tokener) == json_tokener_success
                                      ? "something follows the conversation, or there is nothing"
                                      : json_tokener_error_desc(json_tokener_get_error(tokener)));
    json_object_put(root);
    json_tokener_free(tokener);
    if (status == CLI_OK) {
        talk_free(t);
        *t = loaded;
    } else {
        talk_free(&loaded);
    }
    return status;
}

int talk_load(talk *t, const char *path)
{
    struct stat file;
    char *data = NULL;
    size_t size = 0;
    if (!stat(path, &file) && !S_ISREG(file.st_mode)) /* a pipe would wait for ever, and "-" is the conversation itself */
        return cli_fail("%s: is no file", path);
    if (!stat(path, &file) && file.st_size > MAX_FILE)
        return cli_fail("%s: has %lld bytes; a conversation of at most %d is read", path, (long long)file.st_size, MAX_FILE);
    if (!strcmp(path, "-"))
        return cli_fail("-: a conversation is read from a file");
    int status = cli_read_all(path, &data, &size);
    if (status == CLI_OK)
        status = talk_parse(t, data, size, path);
    free(data);
    return status;
}
