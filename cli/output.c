/* SPDX-License-Identifier: MIT */
#include "cli/output.h"

#include <errno.h>
#include <quern/engine.h>
#include <json-c/json.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int stdout_errno; /* of the first failure, 0: none */

static int remember(int succeeded)
{
    if (!succeeded && !stdout_errno)
        stdout_errno = errno ? errno : EIO;
    return !stdout_errno;
}

int cli_print(const char *format, ...)
{
    if (stdout_errno)
        return 0;
    va_list args;
    va_start(args, format);
    int written = vprintf(format, args);
    va_end(args);
    return remember(written >= 0);
}

int cli_write(const void *data, size_t size)
{
    return !stdout_errno && remember(fwrite(data, 1, size, stdout) == size);
}

int cli_flush(void)
{
    return !stdout_errno && remember(!fflush(stdout));
}

int cli_finish(int status)
{
    cli_flush();
    if (!stdout_errno)
        return status;
    cli_note("cannot write the result to standard output: %s", strerror(stdout_errno));
    return status == CLI_OK ? CLI_FAILED : status;
}

/* Valid UTF-8 of any bytes, malloc'd and terminated; NULL when there is no memory. */
static char *valid_utf8(const char *data, size_t size, size_t *out_size)
{
    char *text = size < (SIZE_MAX - 16) / 3 ? malloc(3 * (size + 4) + 16) : NULL;
    if (!text)
        return NULL;
    quern_utf8_stream stream = {0};
    size_t length = quern_utf8_push(&stream, data, size, text);
    length += quern_utf8_push(&stream, NULL, 0, text + length);
    text[length] = '\0';
    *out_size = length;
    return text;
}

/* The same with what a terminal would obey written out: \n, \t, \x1b. Newlines stay when lines is nonzero. */
static char *harmless(const char *data, size_t size, int lines)
{
    char *text = valid_utf8(data, size, &size), *escaped = NULL;
    size_t escaped_size;
    FILE *to = text ? open_memstream(&escaped, &escaped_size) : NULL;
    for (size_t i = 0; to && i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        int c1 = c == 0xc2 && (unsigned char)text[i + 1] < 0xa0; /* U+0080…9F */
        if (c == '\n')
            fputs(lines ? "\n" : "\\n", to);
        else if (c == '\t')
            fputs("\\t", to);
        else if (c < 32 || c == 127)
            fprintf(to, "\\x%02x", c);
        else if (c1)
            fprintf(to, "\\x%02x", (unsigned char)text[++i]);
        else
            fputc(c, to);
    }
    if (to && fclose(to)) {
        free(escaped);
        escaped = NULL;
    }
    free(text);
    return escaped;
}

/* Files' and drivers' words may be in it, so it is made harmless. */
QUERN_PRINTF(1, 0) static void note(const char *format, va_list args)
{
    char line[2048];
    if (vsnprintf(line, sizeof line, format, args) < 0)
        return;
    char *text = harmless(line, strlen(line), 0);
    fprintf(stderr, "quern: %s\n", text ? text : line);
    free(text);
}

void cli_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(format, args);
    va_end(args);
}

int cli_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(format, args);
    va_end(args);
    return CLI_FAILED;
}

int cli_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    note(format, args);
    va_end(args);
    return CLI_USAGE;
}

int cli_error(const quern_error *error)
{
    cli_note("%s", error->text[0] ? error->text : quern_status_name(error->status));
    return CLI_FAILED;
}

int cli_print_text(const char *data, size_t size, int lines)
{
    char *text = harmless(data, size, lines);
    int fine = text && cli_write(text, strlen(text));
    free(text);
    return fine;
}

struct json_object *cli_json_text(const char *data, size_t size)
{
    char *text = valid_utf8(data, size, &size);
    struct json_object *object = text ? json_object_new_string_len(text, (int)size) : NULL;
    free(text);
    return object;
}

struct json_object *cli_json_real(double value)
{
    return isfinite(value) ? json_object_new_double(value) : NULL;
}

int cli_print_json(struct json_object *object)
{
    int flags = JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED | JSON_C_TO_STRING_NOSLASHESCAPE;
    const char *text = json_object_to_json_string_ext(object, flags);
    int fine = text && cli_write(text, strlen(text)) && cli_print("\n");
    json_object_put(object);
    return fine;
}

const char *cli_size(char buffer[32], uint64_t bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)bytes;
    unsigned unit = 0;
    while (value >= 1023.95 && unit < 6) {
        value /= 1024;
        unit++;
    }
    snprintf(buffer, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
    return buffer;
}

const char *cli_count(char buffer[32], uint64_t count)
{
    if (count >= 1000000000)
        snprintf(buffer, 32, "%.2f B", (double)count / 1e9);
    else if (count >= 1000000)
        snprintf(buffer, 32, "%.1f M", (double)count / 1e6);
    else if (count >= 1000)
        snprintf(buffer, 32, "%.1f K", (double)count / 1e3);
    else
        snprintf(buffer, 32, "%u", (unsigned)count);
    return buffer;
}

double cli_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}
