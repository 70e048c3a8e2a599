/* SPDX-License-Identifier: MIT */
#include <quern/log.h>

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static quern_log_callback callback;
static void *callback_ctx;
static quern_log_level most = QUERN_LOG_INFO;

void quern_log_set(quern_log_callback new_callback, void *ctx, quern_log_level new_most)
{
    pthread_mutex_lock(&lock);
    callback = new_callback;
    callback_ctx = ctx;
    most = new_most;
    pthread_mutex_unlock(&lock);
}

void quern_log(quern_log_level level, const char *format, ...)
{
    pthread_mutex_lock(&lock);
    if (callback && level <= most) {
        char line[1024];
        va_list args;
        va_start(args, format);
        vsnprintf(line, sizeof line, format, args);
        va_end(args);
        callback(callback_ctx, level, line);
    }
    pthread_mutex_unlock(&lock);
}
