/* SPDX-License-Identifier: MIT */
#include <quern/status.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* An error is one line, whatever a file, a driver or a user calls things. */
static void keep_to_one_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

quern_status quern_fail(quern_error *error, quern_status status, const char *format, ...)
{
    if (error) {
        va_list args;
        va_start(args, format);
        vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
        keep_to_one_line(error->text);
        error->status = status;
    }
    return status;
}

quern_status quern_fail_prefix(quern_error *error, quern_status status, const char *format, ...)
{
    if (!error)
        return status;
    char words[sizeof error->text], old[sizeof error->text];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    keep_to_one_line(words);
    memcpy(old, error->text, sizeof old);
    size_t used = strlen(words);
    memcpy(error->text, words, used);
    snprintf(error->text + used, sizeof error->text - used, "%s", old);
    return error->status;
}

const char *quern_status_name(quern_status status)
{
    switch (status) {
    case QP_OK: return "ok";
    case QP_TIMEOUT: return "timeout";
    case QP_ERR_INVALID: return "invalid argument";
    case QP_ERR_UNSUPPORTED: return "not supported";
    case QP_ERR_OUT_OF_MEMORY: return "out of memory";
    case QP_ERR_DEVICE_LOST: return "device lost";
    case QP_ERR_DRIVER: return "driver error";
    case QP_ERR_IO: return "input/output error";
    case QP_ERR_FORMAT: return "malformed data";
    case QP_ERR_NOT_FOUND: return "not found";
    case QP_ERR_CANCELLED: return "cancelled";
    case QP_ERR_INTERNAL: return "internal error";
    default: return "unknown status";
    }
}
