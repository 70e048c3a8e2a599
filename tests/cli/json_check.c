/* SPDX-License-Identifier: MIT
 * json_check FILE [PATH[=VALUE]]…: nonzero unless FILE is one JSON value and each path (a.0.b) is there, with that value if one
 * is given. PATH alone with a '-' in front prints it. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_file(const char *path, size_t *size)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    char *data = malloc(64 << 20);
    *size = data ? fread(data, 1, 64 << 20, file) : 0;
    fclose(file);
    return data;
}

/* Follows a.0.b; NULL with *found 0 when there is no such place. */
static json_object *follow(json_object *at, char *path, int *found)
{
    *found = 1;
    for (char *word = strtok(path, "."); word; word = strtok(NULL, ".")) {
        if (json_object_is_type(at, json_type_array)) {
            size_t index = strtoul(word, NULL, 10);
            *found = index < json_object_array_length(at);
            at = *found ? json_object_array_get_idx(at, index) : NULL;
        } else {
            *found = json_object_is_type(at, json_type_object) && json_object_object_get_ex(at, word, &at);
        }
        if (!*found)
            return NULL;
    }
    return at;
}

static int check(json_object *root, const char *argument)
{
    char path[1024];
    int found, print = argument[0] == '-';
    const char *equals = strchr(argument, '=');
    size_t length = equals ? (size_t)(equals - argument) : strlen(argument);
    if (length >= sizeof path)
        return 0;
    memcpy(path, argument + print, length - (size_t)print);
    path[length - (size_t)print] = '\0';
    json_object *value = follow(root, path, &found);
    const char *text = found ? (value ? json_object_get_string(value) : "null") : "";
    if (print)
        puts(text);
    if (found && (!equals || !strcmp(text, equals + 1)))
        return 1;
    fprintf(stderr, "json_check: %s: %s\n", argument, found ? text : "not there");
    return 0;
}

int main(int argc, char **argv)
{
    size_t size = 0;
    char *data = argc > 1 ? read_file(argv[1], &size) : NULL;
    struct json_tokener *tokener = json_tokener_new();
    if (!data || !tokener)
        return 2;
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    json_object *root = json_tokener_parse_ex(tokener, data, (int)size);
    size_t end = json_tokener_get_parse_end(tokener);
    int fine = root && json_tokener_get_error(tokener) == json_tokener_success;
    while (fine && end < size)
        fine = strchr(" \t\r\n", data[end++]) != NULL;
    if (!fine)
        fprintf(stderr, "json_check: %s is not one JSON value: %s\n", argv[1],
                json_tokener_error_desc(json_tokener_get_error(tokener)));
    for (int i = 2; fine && i < argc; i++)
        fine = check(root, argv[i]);
    json_object_put(root);
    json_tokener_free(tokener);
    free(data);
    return !fine;
}
