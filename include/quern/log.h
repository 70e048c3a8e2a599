/* SPDX-License-Identifier: MIT
 * quern/log.h: messages that are not results. Nothing is written anywhere unless a callback is set. */
#ifndef QUERN_LOG_H
#define QUERN_LOG_H

#include <quern/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum quern_log_level {
    QUERN_LOG_ERROR = QP_LOG_ERROR,
    QUERN_LOG_WARN = QP_LOG_WARN,
    QUERN_LOG_INFO = QP_LOG_INFO,
    QUERN_LOG_DEBUG = QP_LOG_DEBUG,
} quern_log_level;

/* Receives one line without a newline. Called from any thread, one call at a time. */
typedef void (*quern_log_callback)(void *ctx, quern_log_level level, const char *message);

/* Sets where messages of the whole process go and the least important level that is passed on. callback NULL: nowhere (the
 * default). Thread-safe. */
QUERN_API void quern_log_set(quern_log_callback callback, void *ctx, quern_log_level most);

QUERN_API void quern_log(quern_log_level level, const char *format, ...) QUERN_PRINTF(2, 3);

#ifdef __cplusplus
}
#endif
#endif
