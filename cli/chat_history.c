/* SPDX-License-Identifier: MIT
 * cli/chat_history.c: the lines typed in earlier chats, one a line of a file that only its owner may read. */
#include "cli/chat_input.h"
#include "cli/output.h"

#include <quern/engine.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILE = 8 << 20 };

char *chat_history_path(void)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    const char *folder = state && state[0] == '/' ? state : home && home[0] == '/' ? home : NULL; /* relative ones do not count */
    const char *below = folder == state && state ? "" : "/.local/state";
    if (!folder)
        return NULL;
    size_t size = strlen(folder) + strlen(below) + sizeof "/quern/chat-history";
    char *path = malloc(size);
    if (path)
        snprintf(path, size, "%s%s/quern/chat-history", folder, below);
    return path;
}

/* UTF-8 without control bytes. */
static int harmless(const char *line, size_t size)
{
    quern_utf8_stream stream = {0};
    char text[3 * (1 + 4)];
    for (size_t i = 0; i < size; i++) {
        size_t n = (unsigned char)line[i] < 32 || line[i] == 127 ? 0 : quern_utf8_push(&stream, line + i, 1, text);
        if ((unsigned char)line[i] < 32 || line[i] == 127 || (n >= 3 && !memcmp(text, "\xef\xbf\xbd", 3)) ||
            (n == 2 && (unsigned char)text[0] == 0xc2 && (unsigned char)text[1] < 0xa0))
            return 0;
    }
    return stream.count == 0;
}

void chat_history_add(chat_history *h, const char *line, size_t size)
{
    if (!size || size > CHAT_HISTORY_LINE || !harmless(line, size))
        return;
    const char *last = h->count ? h->lines[h->count - 1] : NULL;
    if (last && strlen(last) == size && !memcmp(last, line, size))
        return;
    char *copy = malloc(size + 1);
    if (!copy)
        return;
    memcpy(copy, line, size);
    copy[size] = '\0';
    if (h->count == CHAT_HISTORY_LINES) {
        free(h->lines[0]);
        memmove(h->lines, h->lines + 1, --h->count * sizeof *h->lines);
    }
    h->lines[h->count++] = copy;
}

void chat_history_parse(chat_history *h, const char *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        const char *end = memchr(data + at, '\n', size - at);
        size_t length = end ? (size_t)(end - data) - at : size - at;
        chat_history_add(h, data + at, length);
        at += length + 1;
    }
}

void chat_history_load(chat_history *h, const char *path)
{
    struct stat status;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* a pipe in its place would wait for ever */
    if (fd < 0)
        return;
    char *data = NULL;
    ssize_t size = 0;
    if (!fstat(fd, &status) && S_ISREG(status.st_mode) && status.st_size > 0 && status.st_size <= MAX_FILE &&
        (data = malloc((size_t)status.st_size)))
        size = read(fd, data, (size_t)status.st_size);
    close(fd);
    if (size > 0)
        chat_history_parse(h, data, (size_t)size);
    free(data);
}

/* Makes the folders that the file lies in, those that are missing. */
static void make_folders(char *path)
{
    for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
}

static int write_lines(const chat_history *h, int fd)
{
    FILE *file = fdopen(fd, "w");
    if (!file) {
        close(fd);
        return 0;
    }
    for (size_t i = 0; i < h->count; i++)
        fprintf(file, "%s\n", h->lines[i]);
    int fine = !ferror(file);
    return !fclose(file) && fine;
}

void chat_history_save(const chat_history *h, const char *path)
{
    size_t size = strlen(path) + sizeof ".part-XXXXXX";
    char *temporary = malloc(size);
    if (!temporary)
        return;
    snprintf(temporary, size, "%s", path);
    make_folders(temporary);
    snprintf(temporary, size, "%s.part-XXXXXX", path);
    int fd = mkstemp(temporary); /* with mode 0600 */
    int fine = fd >= 0 && write_lines(h, fd) && !rename(temporary, path);
    if (!fine) {
        int reason = errno;
        if (fd >= 0)
            unlink(temporary);
        cli_note("%s: the history of this chat cannot be kept: %s (--no-history does without)", path, strerror(reason));
    }
    free(temporary);
}

void chat_history_free(chat_history *h)
{
    for (size_t i = 0; i < h->count; i++)
        free(h->lines[i]);
    h->count = 0;
}
